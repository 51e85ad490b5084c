//! Functions compiled once for each level of vector instructions.

/// Defines functions whose bodies are compiled for AVX-512, for AVX2 and for the baseline, of
/// which the best one that this processor has is called.
macro_rules! vectorised {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident$(<$($generic:ident: $bound:path),*>)?(
            $($argument:ident: $type:ty),* $(,)?
        ) $body:block
    )*) => {$(
        $(#[$attribute])*
        $visibility fn $name$(<$($generic: $bound),*>)?($($argument: $type),*) {
            #[inline(always)]
            fn portable$(<$($generic: $bound),*>)?($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512$(<$($generic: $bound),*>)?($($argument: $type),*) {
                    portable($($argument),*);
                }

                #[target_feature(enable = "avx2,fma")]
                fn avx2$(<$($generic: $bound),*>)?($($argument: $type),*) {
                    portable($($argument),*);
                }

                if $crate::instruction_set::InstructionSet::Avx512.is_usable() {
                    // SAFETY: the processor has these instructions.
                    return unsafe { avx512($($argument),*) };
                }
                if $crate::instruction_set::InstructionSet::Avx2.is_usable() {
                    // SAFETY: the processor has these instructions.
                    return unsafe { avx2($($argument),*) };
                }
            }
            portable($($argument),*);
        }
    )*};
}

pub(crate) use vectorised;
