//! Sums over the pixels of channels-last maps, from which means and variances follow.

use crate::element::Element;
use crate::simd::vectorised;

/// Pixels whose sums are gathered in single precision before they go into double.
pub(crate) const SUM_LENGTH: usize = 64;

/// Adds a block of `N` channels of every pixel to the sums, which stay in registers.
#[inline(always)]
fn gather_block<T: Element, const N: usize>(
    values: &[T],
    pivot: &[f32],
    sum: &mut [f32],
    squares: &mut [f32],
    start: usize,
) {
    let channels = pivot.len();
    let mut block_pivot = [0.0; N];
    block_pivot.copy_from_slice(&pivot[start..start + N]);
    let (mut block_sum, mut block_squares) = ([0.0; N], [0.0; N]);
    for pixel in values.chunks_exact(channels) {
        let pixel = &pixel[start..start + N];
        for lane in 0..N {
            let difference = pixel[lane].to_f32() - block_pivot[lane];
            block_sum[lane] += difference;
            block_squares[lane] += difference * difference;
        }
    }
    sum[start..start + N].copy_from_slice(&block_sum);
    squares[start..start + N].copy_from_slice(&block_squares);
}

vectorised! {
    /// Sums and squared sums over pixels of each channel's difference from a pivot.
    pub(crate) fn gather<T: Element>(values: &[T], pivot: &[f32], sum: &mut [f32], squares: &mut [f32]) {
        let channels = pivot.len();
        let mut start = 0;
        while channels - start >= 64 {
            gather_block::<T, 64>(values, pivot, sum, squares, start);
            start += 64;
        }
        while channels - start >= 16 {
            gather_block::<T, 16>(values, pivot, sum, squares, start);
            start += 16;
        }
        while start < channels {
            gather_block::<T, 1>(values, pivot, sum, squares, start);
            start += 1;
        }
    }
}
