//! The outermost ring of an enlarged map whose border is reflected.
//!
//! A convolution that enlarges by phases sees the small map's border, enlarged. Replicated, that
//! differs from the reflected border of the enlarged map only in the second pixel beyond each edge,
//! so that one row or column of taps, of only the outermost pixels, puts it right.

#[cfg(target_arch = "x86_64")]
use std::{ops::Range, sync::Arc};

#[cfg(target_arch = "x86_64")]
use half::bf16;
use tch::Tensor;
#[cfg(target_arch = "x86_64")]
use tch::{Device, Kind};

use super::border::continued;
use super::cuda::{self, Kernels};
#[cfg(target_arch = "x86_64")]
use super::element::{elements, elements_mut};
use super::kernels::Sums;
use super::layers::{Map, Placement};
#[cfg(target_arch = "x86_64")]
use super::{direct::Direct, parallel, tile_convolution::TileConvolution, vector::Vectors};
use crate::Result;
use crate::config::Padding;

/// The four outer rows and columns of a 5×5 kernel: top, bottom, left, right.
pub(super) enum Ring {
    Libtorch([Tensor; 4]),
    /// Rows and columns, as [`cuda::correct_ring`] takes them.
    Kernels(&'static Kernels, [Tensor; 2]),
    #[cfg(target_arch = "x86_64")]
    Single(Arc<[Direct<f32>; 4]>),
    #[cfg(target_arch = "x86_64")]
    Half(Arc<[Direct<bf16>; 4]>),
    #[cfg(target_arch = "x86_64")]
    Tiles(Arc<[TileConvolution; 4]>),
}

impl Ring {
    /// `weight`: `[O, I, 5, 5]` in single precision.
    pub(super) fn new(weight: &Tensor, placement: Placement) -> Result<Self> {
        let edge = |dimension, tap| weight.f_narrow(dimension, tap, 1);
        let edges = [edge(2, 0)?, edge(2, 4)?, edge(3, 0)?, edge(3, 4)?];
        if let Some(kernels) = placement.kernels {
            // [O, I, 1, 5] or [O, I, 5, 1] → [5, I, O].
            let taps = |edge: &Tensor| edge.f_flatten(2, 3)?.f_permute([2, 1, 0]);
            let pair = |near: &Tensor, far: &Tensor| {
                Tensor::f_stack(&[taps(near)?, taps(far)?], 0)?
                    .f_to_device(placement.device)?
                    .f_to_kind(placement.kind)?
                    .f_contiguous()
            };
            let [top, bottom, left, right] = &edges;
            return Ok(Self::Kernels(
                kernels,
                [pair(top, bottom)?, pair(left, right)?],
            ));
        }
        #[cfg(target_arch = "x86_64")]
        {
            let kernels = match (placement.device, placement.kind) {
                (Device::Cpu, Kind::Float) => {
                    strips(&edges, |edge| Direct::new(edge, None, 1))?.map(Self::Single)
                }
                (Device::Cpu, Kind::BFloat16) => {
                    match strips(&edges, |edge| TileConvolution::new(edge, None, 1))? {
                        Some(tiles) => Some(Self::Tiles(tiles)),
                        None => strips(&edges, |edge| Direct::new(edge, None, 1))?.map(Self::Half),
                    }
                }
                _ => None,
            };
            if let Some(kernels) = kernels {
                return Ok(kernels);
            }
        }
        let [top, bottom, left, right] = &edges;
        let pack = |edge| placement.pack(edge);
        Ok(Self::Libtorch([
            pack(top)?,
            pack(bottom)?,
            pack(left)?,
            pack(right)?,
        ]))
    }

    /// The same weights in the same memory.
    pub(super) fn share(&self) -> Self {
        match self {
            Self::Libtorch(edges) => Self::Libtorch(edges.each_ref().map(Tensor::shallow_clone)),
            Self::Kernels(kernels, weights) => {
                Self::Kernels(kernels, weights.each_ref().map(Tensor::shallow_clone))
            }
            #[cfg(target_arch = "x86_64")]
            Self::Single(strips) => Self::Single(Arc::clone(strips)),
            #[cfg(target_arch = "x86_64")]
            Self::Half(strips) => Self::Half(Arc::clone(strips)),
            #[cfg(target_arch = "x86_64")]
            Self::Tiles(strips) => Self::Tiles(Arc::clone(strips)),
        }
    }

    /// Corrects the phases `[1, 4·O, H, W]` that were computed from `small`, which has a replicated
    /// border of one pixel around its `[1, I, H, W]`, and their sums, where these are known.
    pub(super) fn correct(
        &self,
        output: &mut Tensor,
        sums: Option<&mut Sums>,
        small: &Map,
    ) -> Result<()> {
        match self {
            // No convolution of libtorch's has given sums.
            Self::Libtorch(edges) => correct_with_libtorch(edges, output, &small.interior()?),
            Self::Kernels(kernels, weights) => {
                cuda::correct_ring(kernels, weights, output, &small.tensor)
            }
            #[cfg(target_arch = "x86_64")]
            Self::Single(strips) => correct::<f32, _>(strips, output, sums, small),
            #[cfg(target_arch = "x86_64")]
            Self::Half(strips) => correct::<bf16, _>(strips, output, sums, small),
            #[cfg(target_arch = "x86_64")]
            Self::Tiles(strips) => correct::<bf16, _>(strips, output, sums, small),
        }
    }
}

/// The edges as kernels of one row, along whichever edge; `None` where the processor does not suit.
#[cfg(target_arch = "x86_64")]
fn strips<K>(
    edges: &[Tensor; 4],
    make: impl Fn(&Tensor) -> Result<Option<K>>,
) -> Result<Option<Arc<[K; 4]>>> {
    let strip = |edge: &Tensor| {
        let size = edge.size();
        make(&edge.f_reshape([size[0], size[1], 1, 5])?)
    };
    let [top, bottom, left, right] = edges;
    Ok(
        match (strip(top)?, strip(bottom)?, strip(left)?, strip(right)?) {
            (Some(top), Some(bottom), Some(left), Some(right)) => {
                Some(Arc::new([top, bottom, left, right]))
            }
            _ => None,
        },
    )
}

/// A convolution of one line.
#[cfg(target_arch = "x86_64")]
trait Strip<T>: Sync {
    /// Computes some lines of the output, `width` pixels long, from a map of rows of so many pixels.
    fn compute(&self, map: (&[T], usize), lines: Range<usize>, width: usize, band: &mut [T]);
}

#[cfg(target_arch = "x86_64")]
impl<T: Vectors> Strip<T> for Direct<T> {
    fn compute(&self, map: (&[T], usize), lines: Range<usize>, width: usize, band: &mut [T]) {
        self.lines(map, lines, width, band);
    }
}

#[cfg(target_arch = "x86_64")]
impl Strip<bf16> for TileConvolution {
    fn compute(&self, map: (&[bf16], usize), lines: Range<usize>, width: usize, band: &mut [bf16]) {
        self.lines(map, lines, width, band);
    }
}

/// One edge's correction: for each pixel of the enlarged map along it, the output channels.
#[cfg(target_arch = "x86_64")]
struct Correction<'a, T, K> {
    strip: &'a K,
    /// Rows, whose edges lie above one another, or columns.
    across: bool,
    /// Of the edge's pixels in the small map, and of those next to them.
    outer: usize,
    inner: usize,
    length: usize,
    values: Vec<T>,
}

#[cfg(target_arch = "x86_64")]
fn correct<T: Vectors, K: Strip<T>>(
    strips: &[K; 4],
    output: &mut Tensor,
    mut sums: Option<&mut Sums>,
    small: &Map,
) -> Result<()> {
    let size = output.size();
    let (height, width) = (size[2] as usize, size[3] as usize);
    let (group, inputs) = (size[1] as usize, small.tensor.size()[1] as usize);
    let outputs = group / 4;
    let padded = elements::<T>(&small.tensor)?;
    let pixel = |y: usize, x: usize| &padded[((y + 1) * (width + 2) + x + 1) * inputs..][..inputs];

    let [top, bottom, left, right] = strips;
    let mut corrections = [
        (top, true, 0, 1),
        (bottom, true, height - 1, height - 2),
        (left, false, 0, 1),
        (right, false, width - 1, width - 2),
    ]
    .map(|(strip, across, outer, inner)| Correction {
        strip,
        across,
        outer,
        inner,
        length: if across { width } else { height },
        values: vec![],
    });
    parallel::for_each_item(corrections.iter_mut().collect(), &|_, correction| {
        let Correction {
            across,
            outer,
            inner,
            length,
            ..
        } = *correction;
        // The second pixel beyond the edge, reflected, less what it is replicated.
        let large = 2 * length as isize;
        let mut difference = Vec::with_capacity((2 * length + 4) * inputs);
        for index in -2..large + 2 {
            let along =
                |padding| continued(index, 2 * length, padding).map_or(0, |index| index / 2);
            let replicated = along(Padding::Replicate);
            let (reflected, replicated) = if across {
                let reflected = along(Padding::Reflect);
                (pixel(inner, reflected), pixel(outer, replicated))
            } else {
                (pixel(replicated, inner), pixel(replicated, outer))
            };
            // The corners, where both directions are reflected, belong to the rows.
            let corner = !across && (index == -2 || index == large + 1);
            difference.extend(reflected.iter().zip(replicated).map(|(inner, outer)| {
                let difference = inner.to_f32() - outer.to_f32();
                T::from_f32(if corner { 0.0 } else { difference })
            }));
        }
        correction.values = vec![T::from_f32(0.0); 2 * length * outputs];
        let map = (&difference[..], 2 * length + 4);
        correction
            .strip
            .compute(map, 0..1, 2 * length, &mut correction.values);
    });

    let values = elements_mut::<T>(output)?;
    for (number, correction) in corrections.iter().enumerate() {
        let last = number % 2;
        let pixels = correction.values.chunks_exact(outputs);
        for (position, correction_of_pixel) in pixels.enumerate() {
            let (along, phase) = (position / 2, position % 2);
            let (y, x, group_number) = if correction.across {
                (correction.outer, along, 2 * last + phase)
            } else {
                (along, correction.outer, 2 * phase + last)
            };
            let first = group_number * outputs;
            let start = (y * width + x) * group + first;
            let channels = &mut values[start..start + outputs];
            for (channel, (value, correction)) in
                channels.iter_mut().zip(correction_of_pixel).enumerate()
            {
                let before = value.to_f32();
                *value = T::from_f32(before + correction.to_f32());
                if let Some(sums) = &mut sums {
                    sums.replace(first + channel, before, value.to_f32());
                }
            }
        }
    }
    Ok(())
}

fn correct_with_libtorch(edges: &[Tensor; 4], output: &Tensor, small: &Tensor) -> Result<()> {
    let channels = output.size()[1] / 4;
    for (dimension, [near, far]) in [(2, [&edges[0], &edges[1]]), (3, [&edges[2], &edges[3]])] {
        let length = small.size()[dimension as usize];
        let along = 5 - dimension;
        let along_length = small.size()[along as usize];
        for (last, weight) in [(false, near), (true, far)] {
            let (outer, inner) = if last {
                (length - 1, length - 2)
            } else {
                (0, 1)
            };
            let reflected = small.f_narrow(dimension, inner, 1)?;
            let replicated = small.f_narrow(dimension, outer, 1)?;
            // The corners, where both directions are reflected, belong to the rows.
            let difference = if dimension == 2 {
                let reflected = enlarge(&reflected, along, along_length, Padding::Reflect)?;
                reflected.f_sub(&enlarge(
                    &replicated,
                    along,
                    along_length,
                    Padding::Replicate,
                )?)?
            } else {
                let difference = reflected.f_sub(&replicated)?;
                let difference = enlarge(&difference, along, along_length, Padding::Replicate)?;
                for corner in [0, 2 * along_length + 3] {
                    let _ = difference.f_narrow(along, corner, 1)?.f_zero_()?;
                }
                difference
            };
            let correction = difference.f_conv2d(weight, None::<&Tensor>, 1, 0, 1, 1)?;
            for phase in 0..2 {
                let group = if dimension == 2 {
                    2 * i64::from(last) + phase
                } else {
                    2 * phase + i64::from(last)
                };
                let _ = output
                    .f_narrow(1, group * channels, channels)?
                    .f_narrow(dimension, outer, 1)?
                    .f_add_(&correction.f_slice(along, phase, None, 2)?)?;
            }
        }
    }
    Ok(())
}

/// Enlarges a strip ×2 along one dimension and continues it by two pixels at both ends.
fn enlarge(strip: &Tensor, dimension: i64, length: i64, padding: Padding) -> Result<Tensor> {
    let large = 2 * length as usize;
    let indices: Vec<i64> = (-2..large as isize + 2)
        .filter_map(|index| continued(index, large, padding))
        .map(|index| index as i64 / 2)
        .collect();
    let indices = Tensor::f_from_slice(&indices)?.f_to_device(strip.device())?;
    Ok(strip.f_index_select(dimension, &indices)?)
}
