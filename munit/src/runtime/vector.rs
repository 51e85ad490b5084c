//! Maps' numbers in vector registers.

use std::arch::x86_64::*;

use half::bf16;

use super::element::Element;

/// A register of single-precision numbers.
///
/// # Safety
/// Of all functions: the processor has the register's instructions, and the pointers' memory
/// holds [`Self::LANES`] numbers.
pub(super) trait Vector: Copy {
    const LANES: usize;

    unsafe fn splat(value: f32) -> Self;

    unsafe fn load(source: *const f32) -> Self;

    unsafe fn store(self, target: *mut f32);

    unsafe fn load_half(source: *const bf16) -> Self;

    /// Rounds as [`Element::from_f32`], but for numbers below 2⁻¹²⁶, which may become zero.
    unsafe fn store_half(self, target: *mut bf16);

    unsafe fn add(self, other: Self) -> Self;

    unsafe fn sub(self, other: Self) -> Self;

    unsafe fn mul(self, other: Self) -> Self;

    /// self + x · y
    unsafe fn add_product(self, x: Self, y: Self) -> Self;

    /// self − x · y
    unsafe fn sub_product(self, x: Self, y: Self) -> Self;
}

macro_rules! vector {
    (
        $(#[$attribute:meta])*
        $register:ident of $lanes:literal:
        $splat:ident, $load:ident, $store:ident, $load_half:ident, $store_half:ident,
        $add:ident, $sub:ident, $mul:ident, $add_product:ident, $sub_product:ident
    ) => {
        $(#[$attribute])*
        impl Vector for $register {
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                // SAFETY: the caller's promise.
                unsafe { $splat(value) }
            }

            #[inline(always)]
            unsafe fn load(source: *const f32) -> Self {
                // SAFETY: the caller's promise.
                unsafe { $load(source) }
            }

            #[inline(always)]
            unsafe fn store(self, target: *mut f32) {
                // SAFETY: the caller's promise.
                unsafe { $store(target, self) }
            }

            #[inline(always)]
            unsafe fn load_half(source: *const bf16) -> Self {
                // SAFETY: the caller's promise.
                unsafe { $load_half(source) }
            }

            #[inline(always)]
            unsafe fn store_half(self, target: *mut bf16) {
                // SAFETY: the caller's promise.
                unsafe { $store_half(target, self) }
            }

            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: the caller's promise.
                unsafe { $add(self, other) }
            }

            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                // SAFETY: the caller's promise.
                unsafe { $sub(self, other) }
            }

            #[inline(always)]
            unsafe fn mul(self, other: Self) -> Self {
                // SAFETY: the caller's promise.
                unsafe { $mul(self, other) }
            }

            #[inline(always)]
            unsafe fn add_product(self, x: Self, y: Self) -> Self {
                // SAFETY: the caller's promise.
                unsafe { $add_product(x, y, self) }
            }

            #[inline(always)]
            unsafe fn sub_product(self, x: Self, y: Self) -> Self {
                // SAFETY: the caller's promise.
                unsafe { $sub_product(x, y, self) }
            }
        }
    };
}

vector! {
    /// AVX-512; halves are stored with AVX512-BF16.
    __m512 of 16:
    _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, load_sixteen_halves, store_sixteen_halves,
    _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps
}

vector! {
    /// AVX2 with FMA.
    __m256 of 8:
    _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, load_eight_halves, store_eight_halves,
    _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps
}

/// # Safety
/// The processor has AVX-512; sixteen numbers lie at `source`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_sixteen_halves(source: *const bf16) -> __m512 {
    // SAFETY: the caller's promise.
    let bits = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(source.cast()) });
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
}

/// # Safety
/// The processor has AVX512-BF16; sixteen numbers fit at `target`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_sixteen_halves(target: *mut bf16, values: __m512) {
    let rounded: __m256i;
    // SAFETY: the caller's promise. Were this an intrinsic, functions for both formats, of which
    // single precision does without AVX512-BF16, could not have it inlined.
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

/// # Safety
/// The processor has AVX2; eight numbers lie at `source`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_eight_halves(source: *const bf16) -> __m256 {
    // SAFETY: the caller's promise.
    let bits = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(source.cast()) });
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
}

/// # Safety
/// The processor has AVX2; eight numbers fit at `target`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_eight_halves(target: *mut bf16, values: __m256) {
    let mut numbers = [0.0; 8];
    // SAFETY: the caller's promise; the array has as many numbers as the register.
    unsafe {
        _mm256_storeu_ps(numbers.as_mut_ptr(), values);
        for (lane, number) in numbers.into_iter().enumerate() {
            target.add(lane).write(<bf16 as Element>::from_f32(number));
        }
    }
}

/// An element of which a register's worth at a time is read and written as single-precision
/// numbers.
pub(super) trait Vectors: Element {
    /// # Safety
    /// That of [`Vector`].
    unsafe fn load<V: Vector>(source: *const Self) -> V;

    /// # Safety
    /// That of [`Vector`].
    unsafe fn store<V: Vector>(target: *mut Self, values: V);
}

impl Vectors for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(source: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(source) }
    }

    #[inline(always)]
    unsafe fn store<V: Vector>(target: *mut Self, values: V) {
        // SAFETY: the caller's promise.
        unsafe { values.store(target) }
    }
}

impl Vectors for bf16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(source: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_half(source) }
    }

    #[inline(always)]
    unsafe fn store<V: Vector>(target: *mut Self, values: V) {
        // SAFETY: the caller's promise.
        unsafe { values.store_half(target) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::products::Arithmetic;

    fn roundtrip<T: Vectors, V: Vector>(available: bool) {
        if !available {
            return;
        }
        let values: [f32; 16] = std::array::from_fn(|index| (index as f32 - 7.3) * 1.001);
        let expected = values.map(|value| T::from_f32(value).to_f32());
        let mut stored = values.map(|_| T::from_f32(0.0));
        let mut loaded = [0.0; 16];
        for start in (0..16).step_by(V::LANES) {
            // SAFETY: the processor has the register, and the arrays go on for so long.
            unsafe {
                let target = stored.as_mut_ptr().add(start);
                T::store(target, V::load(values.as_ptr().add(start)));
                T::load::<V>(target).store(loaded.as_mut_ptr().add(start));
            }
        }
        assert_eq!(stored.map(T::to_f32), expected);
        assert_eq!(loaded, expected);
    }

    #[test]
    fn elements_come_back_rounded_once() {
        let avx2 = Arithmetic::Avx2.is_there();
        roundtrip::<f32, __m256>(avx2);
        roundtrip::<bf16, __m256>(avx2);
        roundtrip::<f32, __m512>(Arithmetic::Avx512.is_there());
        roundtrip::<bf16, __m512>(Arithmetic::Avx512Bf16.is_there());
    }
}
