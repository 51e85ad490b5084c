//! The vector instructions that are used: all that the processor has, unless an environment variable
//! says otherwise.

use std::sync::OnceLock;

use crate::runtime::warn;

/// Names the last set of [`InstructionSet::ALL`] to be used, so that a fast processor shows what a
/// slower one computes, and how fast.
const MAXIMUM: &str = "MUNIT_MAX_CPU_ISA";

/// Sets of x86-64 instructions, each of which comes with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// Vectors of eight single-precision numbers (AVX2 and FMA).
    Avx2,
    /// Vectors of sixteen single-precision numbers (AVX-512 F, BW, DQ and VL).
    Avx512,
    /// Dot products of two bf16 numbers (AVX512-BF16).
    Avx512Bf16,
    /// Products of tiles of bf16 numbers (AMX-BF16).
    Amx,
}

impl InstructionSet {
    /// From the slowest to the fastest.
    pub const ALL: [Self; 4] = [Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// As in the environment variable `MUNIT_MAX_CPU_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Amx => "amx",
        }
    }

    /// Whether the processor has it, the system has switched it on, and it may be used.
    pub fn is_usable(self) -> bool {
        Some(self) <= maximum() && self.is_there()
    }

    #[cfg(target_arch = "x86_64")]
    fn is_there(self) -> bool {
        match self {
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            Self::Avx512Bf16 => Self::Avx512.is_there() && is_x86_feature_detected!("avx512bf16"),
            Self::Amx => Self::Avx512Bf16.is_there() && has_tiles(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_there(self) -> bool {
        false
    }
}

/// Whether the processor has tiles for bf16, and the system has switched them on. The processor has
/// AVX-512.
#[cfg(target_arch = "x86_64")]
fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const TILE_STATE: u64 = 0b11 << 17;

    #[target_feature(enable = "xsave")]
    fn enabled_states() -> u64 {
        // SAFETY: register 0 is there wherever this instruction is.
        unsafe { _xgetbv(0) }
    }

    if __cpuid(0).eax < 7 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    // SAFETY: AVX-512 is only reported where the system has switched XSAVE on.
    let states = unsafe { enabled_states() };
    features & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE && states & TILE_STATE == TILE_STATE
}

/// The last set that may be used; none: only what every processor has.
fn maximum() -> Option<InstructionSet> {
    static READ: OnceLock<Option<InstructionSet>> = OnceLock::new();
    *READ.get_or_init(|| {
        let text = std::env::var(MAXIMUM).unwrap_or_default();
        parsed(&text).unwrap_or_else(|sentence| {
            warn(&sentence);
            Some(InstructionSet::Amx)
        })
    })
}

/// An empty text allows all.
fn parsed(text: &str) -> Result<Option<InstructionSet>, String> {
    match text {
        "" => Ok(Some(InstructionSet::Amx)),
        "none" => Ok(None),
        _ => {
            let named = InstructionSet::ALL
                .into_iter()
                .find(|set| set.name() == text);
            named.map(Some).ok_or_else(|| {
                let names = InstructionSet::ALL.map(InstructionSet::name).join(", ");
                format!("{MAXIMUM}={text} is not known and not heeded; it is none, {names}")
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_named_and_ordered() {
        for set in InstructionSet::ALL {
            assert_eq!(parsed(set.name()), Ok(Some(set)));
        }
        assert_eq!(parsed(""), Ok(Some(InstructionSet::Amx)));
        assert_eq!(parsed("none"), Ok(None));
        let sentence = parsed("avx3").unwrap_err();
        assert!(sentence.contains("avx3") && sentence.contains("avx2, avx512, avx512-bf16, amx"));
        assert!(InstructionSet::ALL.is_sorted());
        assert!(None < Some(InstructionSet::Avx2));
    }
}
