//! Norms with the activation after them, and their gradients, on channels-last maps in memory:
//! [sample, pixel, channel]. Each is two passes over the map: one gathers sums, the other writes.

use std::ops::Range;

use crate::element::Element;
use crate::moments::{SUM_LENGTH, gather};
use crate::openmp;
use crate::simd::vectorised;

/// Guard beside or inside the root of the variance.
pub(super) const EPSILON: f64 = 1e-5;

/// The shape of a map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) samples: usize,
    /// Of each sample.
    pub(super) pixels: usize,
    pub(super) channels: usize,
}

impl Size {
    fn elements(self) -> usize {
        self.samples * self.pixels * self.channels
    }
}

/// What one mean and one deviation are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// No norm at all.
    Nothing,
    /// Each channel of each sample; biased variance, guard inside the root.
    Channel,
    /// Each sample; unbiased variance, guard beside the root.
    Sample,
}

/// `y = activation(normalised(x) · scale + shift)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norm<'a> {
    pub(super) extent: Extent,
    /// [channels], [samples, channels], or empty for ones.
    pub(super) scale: &'a [f32],
    /// As `scale`, or empty for zeros.
    pub(super) shift: &'a [f32],
    /// The activation's factor for negative numbers: 0 is relu, 1 none.
    pub(super) slope: f32,
}

/// Mean and inverse deviation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(super) struct Statistics {
    pub(super) mean: f64,
    pub(super) inverse: f64,
}

/// The statistics, [samples, channels], for [`backward`]; `y` gets the result. After the activation
/// `residual` is added.
pub(super) fn forward<T: Element>(
    x: &[T],
    size: Size,
    norm: &Norm,
    residual: Option<&[T]>,
    y: &mut [T],
) -> Vec<Statistics> {
    let statistics = match norm.extent {
        Extent::Nothing => vec![Statistics::default(); size.samples * size.channels],
        Extent::Channel | Extent::Sample => statistics(x, size, norm.extent),
    };
    let affine: Vec<Affine> = (0..size.samples)
        .map(|sample| Affine::new(size, norm, &statistics, sample))
        .collect();
    let parts = split(size, y);
    openmp::for_each_item(parts, &|_, part: Part<T>| {
        let own = part.elements(size.channels);
        let Affine { scale, shift } = &affine[part.sample].repeated(size.channels);
        let residual = residual.map(|residual| &residual[own.clone()]);
        apply(&x[own], scale, shift, norm.slope, residual, part.values);
    });
    statistics
}

/// The gradient of a loss with respect to `x` into `dx`, and with respect to scale and shift into
/// `dscale` and `dshift`, which have their lengths; `dy` is its gradient with respect to the result.
pub(super) fn backward<T: Element>(
    x: &[T],
    dy: &[T],
    size: Size,
    norm: &Norm,
    statistics: &[Statistics],
    dx: &mut [T],
    [dscale, dshift]: [&mut [f32]; 2],
) {
    let affine: Vec<Affine> = (0..size.samples)
        .map(|sample| Affine::new(size, norm, statistics, sample))
        .collect();
    let slopes = match norm.extent {
        Extent::Nothing => vec![Slope::identity(size.channels); size.samples],
        Extent::Channel | Extent::Sample => {
            let sums = gradient_sums(x, dy, size, norm.slope, statistics, &affine);
            parameter_gradients(statistics, &sums, dscale, dshift);
            (0..size.samples)
                .map(|sample| Slope::new(size, norm, statistics, &sums, sample))
                .collect()
        }
    };
    let parts = split(size, dx);
    openmp::for_each_item(parts, &|_, part: Part<T>| {
        let own = part.elements(size.channels);
        let affine = affine[part.sample].repeated(size.channels);
        let slope = slopes[part.sample].repeated(size.channels);
        apply_gradient(
            (&x[own.clone()], &dy[own]),
            &affine,
            norm.slope,
            &slope,
            part.values,
        );
    });
}

/// A norm as one multiplication and addition for each channel of a sample.
struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Affine {
    fn new(size: Size, norm: &Norm, statistics: &[Statistics], sample: usize) -> Self {
        let channels = size.channels;
        let own = &statistics[sample * channels..(sample + 1) * channels];
        let (scale, shift) = (row(norm.scale, size, sample), row(norm.shift, size, sample));
        let (scale, shift) = (0..channels)
            .map(|channel| {
                let outer = scale.get(channel).map_or(1.0, |&scale| f64::from(scale));
                let shift = shift.get(channel).map_or(0.0, |&shift| f64::from(shift));
                let Statistics { mean, inverse } = own[channel];
                let scale = match norm.extent {
                    Extent::Nothing => outer,
                    Extent::Channel | Extent::Sample => outer * inverse,
                };
                (scale as f32, (shift - scale * mean) as f32)
            })
            .unzip();
        Self { scale, shift }
    }

    fn repeated(&self, channels: usize) -> Self {
        let times = repetitions(channels);
        Self {
            scale: self.scale.repeat(times),
            shift: self.shift.repeat(times),
        }
    }
}

/// The gradient with respect to a sample's `x`: `of_y · g + of_x · x + constant`, where g is the
/// gradient before the activation.
#[derive(Clone)]
struct Slope {
    of_y: Vec<f32>,
    of_x: Vec<f32>,
    constant: Vec<f32>,
}

impl Slope {
    fn identity(channels: usize) -> Self {
        Self {
            of_y: vec![1.0; channels],
            of_x: vec![0.0; channels],
            constant: vec![0.0; channels],
        }
    }

    fn new(
        size: Size,
        norm: &Norm,
        statistics: &[Statistics],
        sums: &[GradientSums],
        sample: usize,
    ) -> Self {
        let channels = size.channels;
        let own = sample * channels..(sample + 1) * channels;
        let (statistics, sums) = (&statistics[own.clone()], &sums[own]);
        let scale = row(norm.scale, size, sample);
        let scale = |channel: usize| scale.get(channel).map_or(1.0, |&scale| f64::from(scale));
        let mut slope = Self::identity(channels);
        let mut set = |channel: usize, of_y: f64, of_x: f64, mean_gradient: f64| {
            slope.of_y[channel] = of_y as f32;
            slope.of_x[channel] = of_x as f32;
            slope.constant[channel] = (-mean_gradient - of_x * statistics[channel].mean) as f32;
        };
        match norm.extent {
            Extent::Nothing => {}
            Extent::Channel => {
                let count = size.pixels as f64;
                for channel in 0..channels {
                    let Statistics { inverse, .. } = statistics[channel];
                    let GradientSums { plain, by_distance } = sums[channel];
                    let of_y = scale(channel) * inverse;
                    let of_x = -of_y * inverse * inverse * by_distance / count;
                    set(channel, of_y, of_x, of_y * plain / count);
                }
            }
            Extent::Sample => {
                let count = (size.pixels * channels) as f64;
                let inverse = statistics[0].inverse;
                // Published, this gradient is infinite where a map is all one value.
                let deviation = (1.0 / inverse - EPSILON).max(EPSILON);
                let (mut plain, mut by_distance) = (0.0, 0.0);
                for (channel, sums) in sums.iter().enumerate() {
                    plain += scale(channel) * sums.plain;
                    by_distance += scale(channel) * sums.by_distance;
                }
                let of_x = -inverse * inverse * by_distance / ((count - 1.0) * deviation);
                for channel in 0..channels {
                    set(
                        channel,
                        scale(channel) * inverse,
                        of_x,
                        inverse * plain / count,
                    );
                }
            }
        }
        slope
    }

    fn repeated(&self, channels: usize) -> Self {
        let times = repetitions(channels);
        Self {
            of_y: self.of_y.repeat(times),
            of_x: self.of_x.repeat(times),
            constant: self.constant.repeat(times),
        }
    }
}

/// A sample's row of a parameter that may be shared by all samples, or be missing.
fn row(values: &[f32], size: Size, sample: usize) -> &[f32] {
    let Size {
        samples, channels, ..
    } = size;
    if values.len() == samples * channels {
        &values[sample * channels..(sample + 1) * channels]
    } else {
        values
    }
}

/// Numbers of a row that are computed together where they lie next to each other.
const LONG_VECTOR: usize = 512;

/// How often the parameters of a few channels are repeated, so that pixels need not be counted one
/// by one.
fn repetitions(channels: usize) -> usize {
    LONG_VECTOR.div_ceil(channels)
}

/// Neighbouring pixels of one sample, and their values in the map that is written.
struct Part<'a, T> {
    sample: usize,
    pixels: Range<usize>,
    values: &'a mut [T],
}

impl<T> Part<'_, T> {
    fn elements(&self, channels: usize) -> Range<usize> {
        let start = self.pixels.start * channels;
        start..start + self.values.len()
    }
}

/// Maps smaller than this are not worth another thread.
const SMALLEST_PART: usize = 1 << 14;

/// Numbers of pixels, counted through all samples, that make up `size`: a few for each thread, none
/// in more than one sample.
fn ranges(size: Size) -> Vec<(usize, Range<usize>)> {
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
    let parts = threads.min(size.elements() / SMALLEST_PART).max(1);
    let of_sample = |sample: usize| {
        (0..parts).map(move |part| {
            let start = sample * size.pixels;
            let cut = |part: usize| start + size.pixels * part / parts;
            (sample, cut(part)..cut(part + 1))
        })
    };
    (0..size.samples).flat_map(of_sample).collect()
}

fn split<T>(size: Size, mut values: &mut [T]) -> Vec<Part<'_, T>> {
    ranges(size)
        .into_iter()
        .map(|(sample, pixels)| {
            let length = pixels.len() * size.channels;
            let (own, rest) = std::mem::take(&mut values).split_at_mut(length);
            values = rest;
            Part {
                sample,
                pixels,
                values: own,
            }
        })
        .collect()
}

/// Adds up two single precision sums for each channel over a run of a sample's elements.
type Gather<'a> = dyn Fn(usize, Range<usize>, [&mut [f32]; 2]) + Sync + 'a;

/// Sums over the pixels of each channel, [samples, channels].
fn sums(size: Size, gather: &Gather) -> Vec<[f64; 2]> {
    let channels = size.channels;
    let mut parts: Vec<_> = ranges(size)
        .into_iter()
        .map(|(sample, pixels)| (sample, pixels, vec![[0.0; 2]; channels]))
        .collect();
    openmp::for_each_item(parts.iter_mut().collect(), &|_, (sample, pixels, sums)| {
        let mut sum = [vec![0.0; channels], vec![0.0; channels]];
        let mut start = pixels.start;
        while start < pixels.end {
            let end = (start + SUM_LENGTH).min(pixels.end);
            let [first, second] = &mut sum;
            gather(*sample, start * channels..end * channels, [first, second]);
            for (channel, total) in sums.iter_mut().enumerate() {
                total[0] += f64::from(sum[0][channel]);
                total[1] += f64::from(sum[1][channel]);
            }
            start = end;
        }
    });
    let mut totals = vec![[0.0; 2]; size.samples * channels];
    for (sample, _, sums) in parts {
        for (total, sum) in totals[sample * channels..].iter_mut().zip(sums) {
            total[0] += sum[0];
            total[1] += sum[1];
        }
    }
    totals
}

fn statistics<T: Element>(x: &[T], size: Size, extent: Extent) -> Vec<Statistics> {
    let Size {
        samples,
        pixels,
        channels,
    } = size;
    // Sums of differences from one pixel do not cancel when the mean is far from zero.
    let pivots: Vec<f32> = (0..samples)
        .flat_map(|sample| &x[sample * pixels * channels..][..channels])
        .map(|value| value.to_f32())
        .collect();
    let sums = sums(size, &|sample, run, [sum, squares]| {
        let pivot = &pivots[sample * channels..(sample + 1) * channels];
        gather(&x[run], pivot, sum, squares);
    });
    let count = pixels as f64;
    let moments = sums.iter().zip(&pivots).map(|([sum, squares], &pivot)| {
        let mean = sum / count;
        let variance = (squares / count - mean * mean).max(0.0);
        (f64::from(pivot) + mean, variance)
    });
    match extent {
        Extent::Nothing | Extent::Channel => moments
            .map(|(mean, variance)| Statistics {
                mean,
                inverse: 1.0 / (variance + EPSILON).sqrt(),
            })
            .collect(),
        Extent::Sample => {
            let moments: Vec<_> = moments.collect();
            moments
                .chunks(channels)
                .flat_map(|moments| {
                    let mean = moments.iter().map(|(mean, _)| mean).sum::<f64>() / channels as f64;
                    // The variance between channels adds to that within them.
                    let squares: f64 = moments
                        .iter()
                        .map(|(own, variance)| variance + (own - mean).powi(2))
                        .sum();
                    let count = (pixels * channels) as f64;
                    let variance = squares / channels as f64 * count / (count - 1.0);
                    let inverse = 1.0 / (variance.sqrt() + EPSILON);
                    std::iter::repeat_n(Statistics { mean, inverse }, channels)
                })
                .collect()
        }
    }
}

/// Sums over a channel of the gradient before the activation.
struct GradientSums {
    plain: f64,
    /// Times the distance of `x` from its mean.
    by_distance: f64,
}

fn gradient_sums<T: Element>(
    x: &[T],
    dy: &[T],
    size: Size,
    slope: f32,
    statistics: &[Statistics],
    affine: &[Affine],
) -> Vec<GradientSums> {
    let channels = size.channels;
    let means: Vec<f32> = statistics.iter().map(|own| own.mean as f32).collect();
    let sums = sums(size, &|sample, run, sums| {
        let means = &means[sample * channels..(sample + 1) * channels];
        gather_gradient(
            (&x[run.clone()], &dy[run]),
            means,
            &affine[sample],
            slope,
            sums,
        );
    });
    sums.into_iter()
        .zip(statistics)
        .zip(means)
        .map(|(([plain, by_distance], statistics), mean)| GradientSums {
            plain,
            // What rounding the mean to single precision has left.
            by_distance: by_distance - plain * (statistics.mean - f64::from(mean)),
        })
        .collect()
}

/// Where scale and shift are shared, the gradients of all samples add up.
fn parameter_gradients(
    statistics: &[Statistics],
    sums: &[GradientSums],
    dscale: &mut [f32],
    dshift: &mut [f32],
) {
    let length = dscale.len();
    let mut totals = vec![[0.0; 2]; length];
    if length > 0 {
        for (index, (sums, statistics)) in sums.iter().zip(statistics).enumerate() {
            let [scale, shift] = &mut totals[index % length];
            *scale += sums.by_distance * statistics.inverse;
            *shift += sums.plain;
        }
    }
    for ((dscale, dshift), [scale, shift]) in dscale.iter_mut().zip(dshift).zip(totals) {
        *dscale = scale as f32;
        *dshift = shift as f32;
    }
}

/// Adds a block of `N` channels of every pixel to the sums, which stay in registers.
#[inline(always)]
fn gather_gradient_block<T: Element, const N: usize>(
    (x, dy): (&[T], &[T]),
    means: &[f32],
    affine: &Affine,
    slope: f32,
    [plain, by_distance]: &mut [&mut [f32]; 2],
    start: usize,
) {
    let channels = means.len();
    let block = start..start + N;
    let fixed = |values: &[f32]| {
        let mut own = [0.0; N];
        own.copy_from_slice(&values[block.clone()]);
        own
    };
    let (mean, scale, shift) = (fixed(means), fixed(&affine.scale), fixed(&affine.shift));
    let (mut sum, mut dot) = ([0.0; N], [0.0; N]);
    for (x, dy) in x.chunks_exact(channels).zip(dy.chunks_exact(channels)) {
        let (x, dy) = (&x[block.clone()], &dy[block.clone()]);
        for lane in 0..N {
            let value = x[lane].to_f32();
            let active = value * scale[lane] + shift[lane] > 0.0;
            let gradient = dy[lane].to_f32() * if active { 1.0 } else { slope };
            sum[lane] += gradient;
            dot[lane] += gradient * (value - mean[lane]);
        }
    }
    plain[block.clone()].copy_from_slice(&sum);
    by_distance[block].copy_from_slice(&dot);
}

vectorised! {
    /// `activation(x · scale + shift) + residual`; scale and shift are repeated.
    fn apply<T: Element>(
        x: &[T],
        scale: &[f32],
        shift: &[f32],
        slope: f32,
        residual: Option<&[T]>,
        y: &mut [T],
    ) {
        let length = scale.len();
        let runs = x.chunks(length).zip(y.chunks_mut(length)).enumerate();
        for (number, (x, y)) in runs {
            let residual = residual.map(|residual| &residual[number * length..][..y.len()]);
            apply_run(x, &scale[..y.len()], &shift[..y.len()], slope, residual, y);
        }
    }

    /// Sums over pixels of the gradient before the activation, by itself and times the distance from
    /// the mean.
    fn gather_gradient<T: Element>(
        maps: (&[T], &[T]),
        means: &[f32],
        affine: &Affine,
        slope: f32,
        sums: [&mut [f32]; 2],
    ) {
        let mut sums = sums;
        let channels = means.len();
        let mut start = 0;
        while channels - start >= 32 {
            gather_gradient_block::<T, 32>(maps, means, affine, slope, &mut sums, start);
            start += 32;
        }
        while channels - start >= 16 {
            gather_gradient_block::<T, 16>(maps, means, affine, slope, &mut sums, start);
            start += 16;
        }
        while start < channels {
            gather_gradient_block::<T, 1>(maps, means, affine, slope, &mut sums, start);
            start += 1;
        }
    }

    /// The gradient with respect to x; the parameters are repeated.
    fn apply_gradient<T: Element>(
        maps: (&[T], &[T]),
        affine: &Affine,
        slope: f32,
        gradient: &Slope,
        dx: &mut [T],
    ) {
        let length = affine.scale.len();
        let (x, dy) = maps;
        let runs = x.chunks(length).zip(dy.chunks(length)).zip(dx.chunks_mut(length));
        for ((x, dy), dx) in runs {
            apply_gradient_run((x, dy), affine, slope, gradient, dx);
        }
    }
}

#[inline(always)]
fn apply_run<T: Element>(
    x: &[T],
    scale: &[f32],
    shift: &[f32],
    slope: f32,
    residual: Option<&[T]>,
    y: &mut [T],
) {
    let length = y.len();
    let (x, scale, shift) = (&x[..length], &scale[..length], &shift[..length]);
    let value = |index: usize| {
        let value = x[index].to_f32() * scale[index] + shift[index];
        value * if value > 0.0 { 1.0 } else { slope }
    };
    match residual {
        None => {
            for (index, y) in y.iter_mut().enumerate() {
                *y = T::from_f32(value(index));
            }
        }
        Some(residual) => {
            let residual = &residual[..length];
            for (index, y) in y.iter_mut().enumerate() {
                *y = T::from_f32(value(index) + residual[index].to_f32());
            }
        }
    }
}

#[inline(always)]
fn apply_gradient_run<T: Element>(
    (x, dy): (&[T], &[T]),
    affine: &Affine,
    slope: f32,
    gradient: &Slope,
    dx: &mut [T],
) {
    let length = dx.len();
    let (x, dy) = (&x[..length], &dy[..length]);
    let (scale, shift) = (&affine.scale[..length], &affine.shift[..length]);
    let (of_y, of_x) = (&gradient.of_y[..length], &gradient.of_x[..length]);
    let constant = &gradient.constant[..length];
    for (index, dx) in dx.iter_mut().enumerate() {
        let value = x[index].to_f32();
        let active = value * scale[index] + shift[index] > 0.0;
        let before = dy[index].to_f32() * if active { 1.0 } else { slope };
        *dx = T::from_f32(of_y[index] * before + of_x[index] * value + constant[index]);
    }
}
