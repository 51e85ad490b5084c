//! What happens to a convolution's output on the CPU, in two passes over memory: one gathers
//! the moments of every channel, unless the convolution has, the other normalises, activates, adds
//! the residual, sorts the phases of an enlargement into place and writes the border that the next
//! convolution needs.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use half::bf16;
use tch::Tensor;

use super::border::{Border, continued};
use super::element::{Element, as_channels_last, elements, elements_mut};
use super::layers::{EPSILON, Map, Nonlinearity, Normalisation};
use super::memory::Pool;
use super::parallel;
use super::simd::vectorised;
#[cfg(target_arch = "x86_64")]
use super::{products::Arithmetic, vector::Vector};
use crate::Result;
use crate::moments::{SUM_LENGTH, gather};

/// Everything between one convolution and the next.
pub(super) struct Finish<'a> {
    pub(super) norm: &'a Normalisation,
    pub(super) nonlinearity: Nonlinearity,
    /// Added after the activation.
    pub(super) residual: Option<&'a Map>,
    /// Side of the squares whose pixels are groups of the output's channels; 1 if there are none.
    pub(super) phases: usize,
    /// What the result is surrounded by.
    pub(super) border: Border,
}

/// Numbers of a row that are computed together where they lie next to each other.
const LONG_VECTOR: usize = 512;

/// Sum and squared sum of the values of each channel of a map.
pub(super) struct Sums(Vec<[f64; 2]>);

impl Sums {
    /// Of no pixels.
    pub(super) fn zero(channels: usize) -> Self {
        Self(vec![[0.0; 2]; channels])
    }

    /// Adds those of other pixels.
    pub(super) fn add(&mut self, others: &[[f32; 2]]) {
        for (total, others) in self.0.iter_mut().zip(others) {
            for (total, &other) in total.iter_mut().zip(others) {
                *total += f64::from(other);
            }
        }
    }

    /// A value of `channel` has become another.
    pub(super) fn replace(&mut self, channel: usize, before: f32, after: f32) {
        let [before, after] = [before, after].map(f64::from);
        let [sum, squares] = &mut self.0[channel];
        *sum += after - before;
        *squares += after * after - before * before;
    }

    /// Sum and squared sum, channel by channel.
    #[cfg(test)]
    pub(super) fn of_channels(&self) -> &[[f64; 2]] {
        &self.0
    }

    /// `count`: values of each channel.
    fn moments(&self, count: usize) -> Vec<Moments> {
        let moments = |&[sum, squares]: &[f64; 2]| {
            let mean = sum / count as f64;
            Moments {
                mean,
                variance: (squares / count as f64 - mean * mean).max(0.0),
            }
        };
        self.0.iter().map(moments).collect()
    }
}

/// Finishes a channels-last output `[1, C, H, W]` on the CPU; `sums`: its own, if they are known.
pub(super) fn finish<T: Element>(
    output: &Tensor,
    sums: Option<&Sums>,
    finish: &Finish,
    pool: &Pool,
) -> Result<Map> {
    let size = output.size();
    let (height, width) = (size[2] as usize, size[3] as usize);
    let source_channels = size[1] as usize;
    let output = as_channels_last(output)?;
    let values = elements::<T>(&output)?;
    // A row of the result takes `block` neighbouring channels of each pixel of a source row:
    // all of them, or the phases of one of its rows.
    let enlargement = finish.phases;
    let block = source_channels / enlargement;
    let channels = block / enlargement;
    let moments = || match sums {
        Some(sums) => sums.moments(height * width),
        None => moments(values, source_channels),
    };
    let (scale, shift) = affine(moments, values.len(), channels, finish.norm)?;
    // Blocks narrower than a vector register are gathered into whole rows first.
    let has_phases = enlargement > 1;
    let gathered = has_phases && block < 16;
    // The longer the vectors, the less a row's pixels are counted one by one.
    let repetition = match (gathered, has_phases) {
        (true, _) => enlargement * width,
        (false, true) => enlargement,
        (false, false) => LONG_VECTOR.div_ceil(channels).min(width),
    };
    let (scale, shift) = (scale.repeat(repetition), shift.repeat(repetition));

    let (tall, wide) = (enlargement * height, enlargement * width);
    let &Finish {
        nonlinearity,
        border,
        ..
    } = finish;
    let edge = border.width;
    let residual = finish
        .residual
        .map(|residual| Ok::<_, crate::Error>((elements::<T>(&residual.tensor)?, residual.border)))
        .transpose()?;
    let mut result = pool.take(channels, tall + 2 * edge, wide + 2 * edge, T::KIND)?;
    let row_length = (wide + 2 * edge) * channels;
    let finish_rows = |first: usize, band: &mut [T]| {
        let mut gathered_row = vec![T::from_f32(0.0); if gathered { wide * channels } else { 0 }];
        for (number, row) in band.chunks_exact_mut(row_length).enumerate() {
            let index = (first + number) as isize - edge as isize;
            let Some(y) = continued(index, tall, border.padding) else {
                row.fill(T::from_f32(0.0));
                continue;
            };
            let start = y / enlargement * width * source_channels + y % enlargement * block;
            let end = (y / enlargement + 1) * width * source_channels;
            let step = if has_phases {
                source_channels
            } else {
                repetition * channels
            };
            let mut source = (&values[start..end], step);
            if gathered {
                gather_blocks(source, block, &mut gathered_row);
                source = (&gathered_row, gathered_row.len());
            }
            let residual = residual.map(|(values, edge)| {
                let edge = edge as usize;
                let start = ((y + edge) * (wide + 2 * edge) + edge) * channels;
                &values[start..start + wide * channels]
            });
            let interior = &mut row[edge * channels..(edge + wide) * channels];
            scale_and_activate(source, (&scale, &shift), nonlinearity, residual, interior);
            continue_row(row, channels, border);
        }
    };
    parallel::for_each_band(elements_mut::<T>(&mut result)?, row_length, &finish_rows);
    Ok(Map {
        tensor: result,
        border: edge as i64,
    })
}

/// Copies the first `block` elements of every `step`.
fn gather_blocks<T: Element>((source, step): (&[T], usize), block: usize, row: &mut [T]) {
    for (source, block) in source.chunks(step).zip(row.chunks_exact_mut(block)) {
        block.copy_from_slice(&source[..block.len()]);
    }
}

/// Fills both ends of a row whose interior is there.
fn continue_row<T: Element>(row: &mut [T], channels: usize, border: Border) {
    let edge = border.width;
    let wide = row.len() / channels - 2 * edge;
    for x in (0..edge).chain(edge + wide..2 * edge + wide) {
        let pixel = x * channels..(x + 1) * channels;
        match continued(x as isize - edge as isize, wide, border.padding) {
            Some(source) => {
                let source = (edge + source) * channels;
                row.copy_within(source..source + channels, pixel.start);
            }
            None => row[pixel].fill(T::from_f32(0.0)),
        }
    }
}

/// The norm as one multiplication and addition for each of `channels` channels of a map with `count`
/// values.
fn affine(
    moments: impl FnOnce() -> Vec<Moments>,
    count: usize,
    channels: usize,
    norm: &Normalisation,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let vector = |tensor: &Tensor| Ok::<Vec<f32>, crate::Error>(Vec::try_from(tensor)?);
    Ok(match norm {
        Normalisation::None => (vec![1.0; channels], vec![0.0; channels]),
        Normalisation::Instance => standardise(moments()).unzip(),
        Normalisation::Adaptive { scale, shift } => standardise(moments())
            .zip(vector(scale)?)
            .zip(vector(shift)?)
            .map(|(((inner_scale, inner_shift), scale), shift)| {
                (inner_scale * scale, inner_shift * scale + shift)
            })
            .unzip(),
        Normalisation::Layer { scale, shift } => {
            let moments = moments();
            let count = count as f64;
            let mean =
                moments.iter().map(|moments| moments.mean).sum::<f64>() / moments.len() as f64;
            // The variance between channels adds to that within them.
            let square = |moments: &Moments| moments.variance + (moments.mean - mean).powi(2);
            let variance = moments.iter().map(square).sum::<f64>() / moments.len() as f64;
            let deviation = (variance * count / (count - 1.0)).sqrt() + EPSILON;
            let vectors = vector(scale)?.into_iter().zip(vector(shift)?);
            vectors
                .map(|(scale, shift)| {
                    let scale = f64::from(scale) / deviation;
                    (scale as f32, (f64::from(shift) - scale * mean) as f32)
                })
                .unzip()
        }
    })
}

/// Instance norm's scale and shift of each channel.
fn standardise(moments: Vec<Moments>) -> impl Iterator<Item = (f32, f32)> {
    moments.into_iter().map(|moments| {
        let scale = 1.0 / (moments.variance + EPSILON).sqrt();
        (scale as f32, (-scale * moments.mean) as f32)
    })
}

/// Mean and biased variance of one channel.
#[derive(Clone, Copy)]
struct Moments {
    mean: f64,
    variance: f64,
}

/// Parts of a map whose sums are gathered beside each other. Not one for each thread: sums are rounded
/// by where they end, and a picture is not to depend on the number of threads.
const SUM_PARTS: usize = 64;

fn moments<T: Element>(values: &[T], channels: usize) -> Vec<Moments> {
    let pixels = values.len() / channels;
    // Sums of differences from one pixel do not cancel when the mean is far from zero.
    let pivot: Vec<f32> = values[..channels]
        .iter()
        .map(|value| value.to_f32())
        .collect();
    let parts = pixels.div_ceil(SUM_LENGTH).min(SUM_PARTS);
    let range = |part| pixels * part / parts..pixels * (part + 1) / parts;
    let mut sums: Vec<(Range<usize>, Vec<[f64; 2]>)> = (0..parts)
        .map(|part| (range(part), vec![[0.0; 2]; channels]))
        .collect();
    parallel::for_each_item(sums.iter_mut().collect(), &|_, (range, sums)| {
        let mut sum = vec![0.0; channels];
        let mut squares = vec![0.0; channels];
        let own = &values[range.start * channels..range.end * channels];
        for pixels in own.chunks(SUM_LENGTH * channels) {
            sum.fill(0.0);
            squares.fill(0.0);
            gather(pixels, &pivot, &mut sum, &mut squares);
            for (total, (sum, square)) in sums.iter_mut().zip(sum.iter().zip(&squares)) {
                total[0] += f64::from(*sum);
                total[1] += f64::from(*square);
            }
        }
    });
    let count = pixels as f64;
    (0..channels)
        .map(|channel| {
            let total = |which: usize| {
                sums.iter()
                    .map(|(_, sums)| sums[channel][which])
                    .sum::<f64>()
            };
            let mean = total(0) / count;
            Moments {
                mean: f64::from(pivot[channel]) + mean,
                variance: (total(1) / count - mean * mean).max(0.0),
            }
        })
        .collect()
}

/// Scales, shifts and activates the first channels of every step of the source, and adds the residual.
fn scale_and_activate<T: Element>(
    source: (&[T], usize),
    affine: (&[f32], &[f32]),
    nonlinearity: Nonlinearity,
    residual: Option<&[T]>,
    result: &mut [T],
) {
    #[cfg(target_arch = "x86_64")]
    if T::KIND == bf16::KIND
        && Arithmetic::Avx512Bf16.is_there()
        && let Some(slope) = nonlinearity.slope()
    {
        // SAFETY: `T` is bf16, the only element of its kind; the processor has the vectors.
        unsafe {
            let halves = |values: &[T]| {
                std::slice::from_raw_parts(values.as_ptr().cast::<bf16>(), values.len())
            };
            let source = (halves(source.0), source.1);
            let residual = residual.map(halves);
            let length = result.len();
            let result = std::slice::from_raw_parts_mut(result.as_mut_ptr().cast(), length);
            apply_to_halves(source, affine, slope, residual, result);
        }
        return;
    }
    apply(source, affine, nonlinearity, residual, result);
}

/// As [`apply`], with the processor's own rounding to bf16, which takes a fifth of the instructions.
///
/// # Safety
/// The processor has AVX-512 and AVX512-BF16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn apply_to_halves(
    (source, step): (&[bf16], usize),
    (scale, shift): (&[f32], &[f32]),
    slope: f32,
    residual: Option<&[bf16]>,
    result: &mut [bf16],
) {
    const LANES: usize = <__m512 as Vector>::LANES;
    let block = scale.len();
    let pixels = source.chunks(step).zip(result.chunks_mut(block));
    for (number, (source, result)) in pixels.enumerate() {
        let length = result.len();
        let (source, scale, shift) = (&source[..length], &scale[..length], &shift[..length]);
        let residual = residual.map(|residual| &residual[number * block..][..length]);
        let whole = length / LANES * LANES;
        for start in (0..whole).step_by(LANES) {
            // SAFETY: all of these slices go on for another vector.
            unsafe {
                let value = __m512::load_half(source.as_ptr().add(start));
                let scale = __m512::load(scale.as_ptr().add(start));
                let value = __m512::load(shift.as_ptr().add(start)).add_product(value, scale);
                let zero = __m512::splat(0.0);
                let negative = _mm512_min_ps(value, zero);
                let mut value =
                    _mm512_max_ps(value, zero).add_product(negative, __m512::splat(slope));
                if let Some(residual) = residual {
                    value = value.add(__m512::load_half(residual.as_ptr().add(start)));
                }
                value.store_half(result.as_mut_ptr().add(start));
            }
        }
        for channel in whole..length {
            let value = source[channel].to_f32() * scale[channel] + shift[channel];
            let mut value = value.max(0.0) + slope * value.min(0.0);
            if let Some(residual) = residual {
                value += residual[channel].to_f32();
            }
            result[channel] = bf16::from_f32(value);
        }
    }
}

vectorised! {
    /// Scales, shifts and activates the first channels of every step of the source, and adds
    /// the residual.
    fn apply<T: Element>(
        source: (&[T], usize),
        affine: (&[f32], &[f32]),
        nonlinearity: Nonlinearity,
        residual: Option<&[T]>,
        result: &mut [T],
    ) {
        match nonlinearity {
            Nonlinearity::None => apply_with(source, affine, |value| value, residual, result),
            Nonlinearity::Relu => {
                apply_with(source, affine, |value| value.max(0.0), residual, result);
            }
            Nonlinearity::Leaky(slope) => {
                let leaky = |value| if value < 0.0 { value * slope } else { value };
                apply_with(source, affine, leaky, residual, result);
            }
            Nonlinearity::Selu => apply_with(source, affine, selu, residual, result),
            Nonlinearity::Tanh => apply_with(source, affine, tanh, residual, result),
        }
    }
}

#[inline(always)]
fn apply_with<T: Element>(
    (source, step): (&[T], usize),
    (scale, shift): (&[f32], &[f32]),
    activate: impl Fn(f32) -> f32,
    residual: Option<&[T]>,
    result: &mut [T],
) {
    let block = scale.len();
    let pixels = source.chunks(step).zip(result.chunks_mut(block));
    match residual {
        None => {
            for (source, result) in pixels {
                let length = result.len();
                let (source, scale, shift) =
                    (&source[..length], &scale[..length], &shift[..length]);
                for channel in 0..length {
                    let value = source[channel].to_f32() * scale[channel] + shift[channel];
                    result[channel] = T::from_f32(activate(value));
                }
            }
        }
        Some(residual) => {
            for ((source, result), residual) in pixels.zip(residual.chunks(block)) {
                let length = result.len();
                let (source, residual) = (&source[..length], &residual[..length]);
                let (scale, shift) = (&scale[..length], &shift[..length]);
                for channel in 0..length {
                    let value = source[channel].to_f32() * scale[channel] + shift[channel];
                    let sum = activate(value) + residual[channel].to_f32();
                    result[channel] = T::from_f32(sum);
                }
            }
        }
    }
}

/// e^x for x ≤ 0 to a few units in the last place, in arithmetic that vectorises:
/// x = n·ln 2 + r with |r| ≤ ½ ln 2, and e^r by its Taylor series.
#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.max(-87.0);
    // Adding and taking away 1.5·2²³ rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    let n = x * std::f32::consts::LOG2_E + ROUND - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let series = 1.0 / 5040.0;
    let series = series * r + 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = series * r + 1.0;
    let series = series * r + 1.0;
    // SAFETY: n lies between −126 and 0.
    let exponent = unsafe { n.to_int_unchecked::<i32>() };
    series * f32::from_bits(((exponent + 127) as u32) << 23)
}

/// tanh x = ±(1 − e^(−2|x|)) / (1 + e^(−2|x|)).
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let power = exp_of_negative(-2.0 * x.abs());
    ((1.0 - power) / (1.0 + power)).copysign(x)
}

#[inline(always)]
fn selu(x: f32) -> f32 {
    const ALPHA: f32 = 1.673_263_2;
    const SCALE: f32 = 1.050_701;
    let negative = ALPHA * (exp_of_negative(x.min(0.0)) - 1.0);
    SCALE * (x.max(0.0) + negative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_as_good_as_single_precision() {
        for step in -40_000..=40_000 {
            let x = step as f32 / 1000.0;
            let exact = f64::from(x);
            assert!((f64::from(tanh(x)) - exact.tanh()).abs() < 2e-7, "tanh {x}");
            let expected = 1.050_700_987_355_480_5
                * if x > 0.0 {
                    exact
                } else {
                    1.673_263_242_354_377_2 * exact.exp_m1()
                };
            assert!(
                (f64::from(selu(x)) - expected).abs() < 4e-7 * (1.0 + expected.abs()),
                "selu {x}"
            );
        }
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::MIN), -1.0);
        assert_eq!(exp_of_negative(-1e30), exp_of_negative(-87.0));
    }

    #[test]
    fn moments_survive_a_mean_far_from_zero() {
        for channels in [1, 3, 16, 83] {
            let values: Vec<f32> = (0..500 * channels)
                .map(|index| 1000.0 + ((index * 37) % 101) as f32 / 100.0)
                .collect();
            for (channel, moments) in moments(&values, channels).into_iter().enumerate() {
                let own = || {
                    values
                        .iter()
                        .skip(channel)
                        .step_by(channels)
                        .map(|&v| f64::from(v))
                };
                let mean = own().sum::<f64>() / 500.0;
                let variance = own().map(|value| (value - mean).powi(2)).sum::<f64>() / 500.0;
                assert!(
                    (moments.mean - mean).abs() < 1e-5,
                    "{} {mean}",
                    moments.mean
                );
                assert!((moments.variance - variance).abs() < 1e-5 * variance);
            }
        }
    }
}
