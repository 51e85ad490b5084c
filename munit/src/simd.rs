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

                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the processor has these instructions.
                    return unsafe { avx512($($argument),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has these instructions.
                    return unsafe { avx2($($argument),*) };
                }
            }
            portable($($argument),*);
        }
    )*};
}

pub(crate) use vectorised;
