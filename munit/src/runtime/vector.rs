//! Maps' numbers in AVX-512 registers.

use std::arch::x86_64::*;

use half::bf16;

use super::element::Element;

/// An element that sixteen at a time are read and written as single-precision numbers.
pub(super) trait Vectors: Element {
    /// # Safety
    /// The processor has AVX-512, for bf16 AVX512-BF16, too; sixteen elements lie at `source`.
    unsafe fn load(source: *const Self) -> __m512;

    /// # Safety
    /// As [`Self::load`]; sixteen elements fit at `target`.
    unsafe fn store(target: *mut Self, values: __m512);
}

impl Vectors for f32 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(source: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(source) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store(target: *mut Self, values: __m512) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(target, values) }
    }
}

impl Vectors for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(source: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        let bits = unsafe { _mm256_loadu_si256(source.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
    }

    /// Rounds as [`Element::from_f32`], but for numbers below 2⁻¹²⁶, which become zero.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store(target: *mut Self, values: __m512) {
        let rounded: __m256i;
        // SAFETY: the caller's promises. Were this an intrinsic, functions for both formats, of
        // which single precision does without AVX512-BF16, could not have it inlined.
        unsafe {
            std::arch::asm!(
                "vcvtneps2bf16 {rounded}, {values}",
                rounded = lateout(ymm_reg) rounded,
                values = in(zmm_reg) values,
                options(pure, nomem, nostack, preserves_flags),
            );
            _mm256_storeu_si256(target.cast(), rounded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::products::Arithmetic;

    fn roundtrip<T: Vectors>() {
        if Arithmetic::of(T::KIND).is_none() {
            return;
        }
        let values: [f32; 16] = std::array::from_fn(|index| (index as f32 - 7.3) * 1.001);
        let expected = values.map(|value| T::from_f32(value).to_f32());
        let mut stored = values.map(|_| T::from_f32(0.0));
        let mut loaded = [0.0; 16];
        // SAFETY: the processor has AVX-512, and the arrays have sixteen elements.
        unsafe {
            T::store(stored.as_mut_ptr(), f32::load(values.as_ptr()));
            f32::store(loaded.as_mut_ptr(), T::load(stored.as_ptr()));
        }
        assert_eq!(stored.map(T::to_f32), expected);
        assert_eq!(loaded, expected);
    }

    #[test]
    fn elements_come_back_rounded_once() {
        roundtrip::<f32>();
        roundtrip::<bf16>();
    }
}
