//! Convolutions of bf16 maps on matrix tiles.
//!
//! In a channels-last map the pixels below one row of the kernel lie next to each other, so that
//! sixteen neighbouring pixels of the output are the rows of one tile, read where the map lies.
//! Minimal filtering, as in [`super::winograd`], would save three quarters of the multiplications,
//! but these are so quick that its transforms, and weights that no longer fit beside the map into
//! the second-level cache, cost more than they save.

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use half::bf16;
use tch::{Kind, Tensor};

use super::element::{elements, elements_mut};
use super::kernels::Sums;
use super::memory::{Constants, Pool};
use super::parallel;
use super::tiles::{self, COLUMNS, DEPTH, ROWS, Rows, Tiles};
use crate::Result;

/// A convolution of bf16 maps. A clone has the same weights in the same memory.
#[derive(Clone)]
pub(super) struct TileConvolution {
    /// For each panel of columns and row of the kernel: what [`Tiles::multiply`] takes.
    weights: Arc<Constants<bf16>>,
    /// Continued with zeros to whole panels.
    bias: Arc<Vec<f32>>,
    inputs: usize,
    outputs: usize,
    kernel_height: usize,
    kernel_width: usize,
    stride: usize,
}

/// Sums of a few rows of the output: a map's are added up in an order that does not depend on the
/// number of threads.
type BandSums = Vec<[f32; 2]>;

impl TileConvolution {
    /// `weight`: `[O, I, kernel height, kernel width]` in single precision. `None` where there are
    /// no tiles.
    pub(super) fn new(
        weight: &Tensor,
        bias: Option<&Tensor>,
        stride: usize,
    ) -> Result<Option<Self>> {
        if !tiles::usable() {
            return Ok(None);
        }
        let (outputs, inputs, kernel_height, kernel_width) = weight.size4()?;
        let [outputs, inputs, kernel_height, kernel_width] =
            [outputs, inputs, kernel_height, kernel_width].map(|length| length as usize);
        let values = weight
            .f_to_kind(Kind::Float)?
            .f_permute([2, 3, 1, 0])?
            .f_reshape([-1])?;
        let values = Vec::<f32>::try_from(values)?;
        let mut bias = match bias {
            Some(bias) => Vec::try_from(bias)?,
            None => vec![0.0; outputs],
        };
        let columns = panel_columns(outputs);
        bias.resize(outputs.next_multiple_of(columns), 0.0);
        let deep = kernel_width * inputs;
        let whole = deep.next_multiple_of(DEPTH);
        let mut weights: Vec<bf16> = Vec::with_capacity(kernel_height * whole * bias.len());
        for first in (0..outputs).step_by(columns) {
            let weight = |depth: usize, column: usize| {
                let (row, along) = (depth / whole, depth % whole);
                match along < deep && first + column < outputs {
                    true => values[(row * deep + along) * outputs + first + column],
                    false => 0.0,
                }
            };
            weights.extend(tiles::pack(kernel_height * whole, columns, weight));
        }
        Ok(Some(Self {
            weights: Arc::new(Constants::new(&weights)),
            bias: Arc::new(bias),
            inputs,
            outputs,
            kernel_height,
            kernel_width,
            stride,
        }))
    }

    /// `padded`: a channels-last map `[1, I, H, W]`, its border included; the result is
    /// `[1, O, (H − kernel height)/stride + 1, (W − kernel width)/stride + 1]`, and the sums over
    /// its pixels.
    pub(super) fn forward(&self, padded: &Tensor, pool: &Pool) -> Result<(Tensor, Sums)> {
        let size = padded.size();
        let (tall, wide) = (size[2] as usize, size[3] as usize);
        let height = (tall - self.kernel_height) / self.stride + 1;
        let width = (wide - self.kernel_width) / self.stride + 1;
        let mut output = pool.take(self.outputs, height, width, Kind::BFloat16)?;
        let map = (elements::<bf16>(padded)?, wide);
        let lines = lines_in_band(height, width);
        let mut bands: Vec<(&mut [bf16], BandSums)> = elements_mut::<bf16>(&mut output)?
            .chunks_mut(lines * width * self.outputs)
            .map(|band| (band, vec![]))
            .collect();
        parallel::for_each_item(bands.iter_mut().collect(), &|number, (band, sums)| {
            let first = number * lines;
            let own = first..first + band.len() / (width * self.outputs);
            *sums = self.lines(map, own, width, band);
        });
        let mut total = Sums::zero(self.outputs);
        for (_, sums) in &bands {
            total.add(sums);
        }
        drop(bands);
        Ok((output, total))
    }

    /// Computes some lines of the output, `width` pixels long, on this thread, from a map of rows
    /// of `wide` pixels; the result has the sums of each output channel.
    ///
    /// # Panics
    /// If the map ends before a line's pixels do.
    pub(super) fn lines(
        &self,
        map: (&[bf16], usize),
        lines: Range<usize>,
        width: usize,
        band: &mut [bf16],
    ) -> BandSums {
        let mut sums = vec![[0.0; 2]; self.bias.len()];
        SCRATCH.with_borrow_mut(|scratch| {
            // SAFETY: `new` has found tiles, and with them these vectors; scratch is borrowed, so
            // that no other configuration is alive.
            unsafe {
                match panel_columns(self.outputs) {
                    COLUMNS => self.compute::<4, 1>(map, lines, width, band, &mut sums, scratch),
                    _ => self.compute::<2, 2>(map, lines, width, band, &mut sums, scratch),
                }
            }
        });
        sums.truncate(self.outputs);
        sums
    }

    /// # Safety
    /// Tiles are usable, and not in use by this thread. A panel has `VECTORS` times sixteen columns
    /// and is multiplied with `TILES` tiles of pixels.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn compute<const TILES: usize, const VECTORS: usize>(
        &self,
        (values, wide): (&[bf16], usize),
        lines: Range<usize>,
        width: usize,
        band: &mut [bf16],
        sums: &mut [[f32; 2]],
        scratch: &mut Scratch,
    ) {
        assert_eq!(band.len(), lines.len() * width * self.outputs);
        let steps = (self.kernel_width * self.inputs).div_ceil(DEPTH);
        let columns = VECTORS * COLUMNS;
        let panel_length = self.kernel_height * steps * DEPTH * columns;
        let step = self.stride * self.inputs;
        let row_length = wide * self.inputs;
        // What a tile of neighbouring pixels reads of each of the kernel's rows.
        let reach = (ROWS - 1) * step + steps * DEPTH;

        let Scratch {
            tiles: own_tiles,
            products,
            tails,
        } = scratch;
        own_tiles.clear();
        for (number, line) in lines.enumerate() {
            own_tiles.extend(tiles_of_line(width).map(|(x, pixels)| Tile {
                start: line * self.stride * row_length + x * step,
                target: number * width + x,
                pixels,
            }));
        }
        while own_tiles.len() % TILES != 0 {
            // Computed once more, and written nowhere.
            let Tile { start, target, .. } = own_tiles[own_tiles.len() - 1];
            let pixels = 0..0;
            own_tiles.push(Tile {
                start,
                target,
                pixels,
            });
        }

        // SAFETY: the caller's promise.
        let registers = unsafe { Tiles::configure() };
        let panels = self.weights.chunks_exact(panel_length);
        for (panel, weights) in panels.enumerate() {
            let first = panel * columns;
            // SAFETY: bias goes on to the end of the last panel.
            let mut store = unsafe {
                Store::<VECTORS> {
                    band: band.as_mut_ptr(),
                    outputs: self.outputs,
                    first,
                    channels: columns.min(self.outputs - first),
                    bias: std::array::from_fn(|vector| {
                        _mm512_loadu_ps(self.bias[first + vector * COLUMNS..].as_ptr())
                    }),
                    sums: [[_mm512_setzero_ps(); 2]; VECTORS],
                }
            };
            // Products are stored while those of the next tiles are computed.
            let mut before: Option<&[Tile]> = None;
            for (number, group) in own_tiles.chunks_exact(TILES).enumerate() {
                let last = |tile: &Tile| tile.start + (self.kernel_height - 1) * row_length + reach;
                let mut line_length = row_length;
                let starts = if group.iter().all(|tile| last(tile) <= values.len()) {
                    std::array::from_fn(|tile| values[group[tile].start..].as_ptr())
                } else {
                    // The map ends before the last pixels' whole steps do.
                    line_length = reach;
                    tails.clear();
                    for tile in group {
                        for row in 0..self.kernel_height {
                            let start = tile.start + row * row_length;
                            let end = values.len().min(start + reach);
                            let length = tails.len() + reach;
                            tails.extend_from_slice(&values[start..end]);
                            tails.resize(length, bf16::ZERO);
                        }
                    }
                    std::array::from_fn(|tile| tails[tile * self.kernel_height * reach..].as_ptr())
                };
                let rows = Rows::<TILES> {
                    starts,
                    stride: step * size_of::<bf16>(),
                    lines: self.kernel_height,
                    line_stride: line_length * size_of::<bf16>(),
                    steps,
                };
                let [own, other] = [0, 1].map(|turn| (number + turn) % 2);
                // SAFETY: every row ends before `reach`, within the map or the copy; tiles lie in
                // the band.
                unsafe {
                    registers.multiply(&rows, weights.as_ptr(), products[own].0.as_mut_ptr());
                    if let Some(before) = before.replace(group) {
                        store.group(before, &products[other]);
                    }
                }
            }
            if let Some(before) = before {
                let own = (own_tiles.len() / TILES + 1) % 2;
                // SAFETY: as above.
                unsafe { store.group(before, &products[own]) };
            }
            store.finish(&mut sums[first..first + columns]);
        }
    }
}

/// Columns that are computed together.
fn panel_columns(outputs: usize) -> usize {
    match outputs {
        ..=COLUMNS => COLUMNS,
        _ => 2 * COLUMNS,
    }
}

/// Lines that a thread computes at a time. Not fewer on more threads: sums are rounded by where they
/// end, and a picture is not to depend on the number of threads.
fn lines_in_band(height: usize, width: usize) -> usize {
    const PIXELS: usize = 256;
    const BANDS: usize = 16;

    PIXELS.min(height * width / BANDS).div_ceil(width).max(1)
}

/// Where along a line tiles begin, and which of their pixels they add to those before.
fn tiles_of_line(width: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    (0..width).step_by(ROWS).map(move |x| {
        // The last one ends with the line, if that is long enough.
        let begin = x.min(width.saturating_sub(ROWS));
        (begin, x - begin..ROWS.min(width - begin))
    })
}

/// Sixteen neighbouring pixels of the output.
struct Tile {
    /// Of the first one's input in the map.
    start: usize,
    /// The first one in the band.
    target: usize,
    /// Those that are written.
    pixels: Range<usize>,
}

/// Writes products of one panel.
struct Store<const VECTORS: usize> {
    band: *mut bf16,
    /// Channels of a pixel.
    outputs: usize,
    /// The panel's first channel.
    first: usize,
    /// Of the panel.
    channels: usize,
    bias: [__m512; VECTORS],
    /// Sums and squared sums.
    sums: [[__m512; 2]; VECTORS],
}

impl<const VECTORS: usize> Store<VECTORS> {
    /// # Safety
    /// The group's pixels lie in the band, which no one else reads or writes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn group(&mut self, group: &[Tile], products: &Products) {
        // In registers, not in the memory behind `self`.
        let mut sums = self.sums;
        for (tile, products) in group
            .iter()
            .zip(products.0.chunks_exact(ROWS * VECTORS * COLUMNS))
        {
            assert!(tile.pixels.end <= ROWS);
            for pixel in tile.pixels.clone() {
                let mut values = [_mm512_setzero_ps(); VECTORS];
                for (vector, value) in values.iter_mut().enumerate() {
                    let column = (pixel * VECTORS + vector) * COLUMNS;
                    // SAFETY: as asserted, a tile has so many products.
                    let product = unsafe { _mm512_loadu_ps(products.as_ptr().add(column)) };
                    *value = _mm512_add_ps(product, self.bias[vector]);
                    let [sum, squares] = &mut sums[vector];
                    *sum = _mm512_add_ps(*sum, *value);
                    *squares = _mm512_fmadd_ps(*value, *value, *squares);
                }
                // SAFETY: the caller's promise.
                unsafe {
                    let target = (tile.target + pixel) * self.outputs + self.first;
                    self.pixel(values, self.band.add(target));
                }
            }
        }
        self.sums = sums;
    }

    /// # Safety
    /// There is room for the panel's channels.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn pixel(&self, values: [__m512; VECTORS], target: *mut bf16) {
        // SAFETY: the caller's promise; vectors of bf16 numbers are bits.
        unsafe {
            if VECTORS == 2 && self.channels == 2 * COLUMNS {
                let halves = _mm512_cvtne2ps_pbh(values[1], values[0]);
                let halves = std::mem::transmute::<__m512bh, __m512i>(halves);
                _mm512_storeu_si512(target.cast(), halves);
                return;
            }
            for (vector, value) in values.into_iter().enumerate() {
                let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value));
                let first = vector * COLUMNS;
                let present = self.channels.saturating_sub(first).min(COLUMNS);
                let mask = ((1_u32 << present) - 1) as u16;
                _mm256_mask_storeu_epi16(target.wrapping_add(first).cast(), mask, halves);
            }
        }
    }

    /// Writes the sums of the panel's columns.
    #[target_feature(enable = "avx512f")]
    fn finish(&self, sums: &mut [[f32; 2]]) {
        for (vector, sums) in sums.chunks_exact_mut(COLUMNS).enumerate() {
            let mut numbers = [[0.0; COLUMNS]; 2];
            for (numbers, sum) in numbers.iter_mut().zip(self.sums[vector]) {
                // SAFETY: a vector has so many numbers.
                unsafe { _mm512_storeu_ps(numbers.as_mut_ptr(), sum) };
            }
            for (lane, sums) in sums.iter_mut().enumerate() {
                *sums = numbers.map(|numbers| numbers[lane]);
            }
        }
    }
}

/// The products of one group of tiles.
#[repr(align(64))]
struct Products([f32; 4 * ROWS * COLUMNS]);

/// A thread's memory, kept from layer to layer.
struct Scratch {
    tiles: Vec<Tile>,
    products: [Products; 2],
    /// The end of a map, continued with zeros.
    tails: Vec<bf16>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch {
            tiles: vec![],
            products: [const { Products([0.0; 4 * ROWS * COLUMNS]) }; 2],
            tails: vec![],
        })
    };
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::element::as_channels_last;

    fn double(tensor: &Tensor) -> Tensor {
        tensor.to_kind(Kind::Double)
    }

    #[test]
    fn it_is_the_convolution() {
        if !tiles::usable() {
            return;
        }
        let options = (Kind::Float, Device::Cpu);
        for (shape, [height, width], stride) in [
            ([64, 3, 7, 7], [9, 31], 1),
            ([16, 1, 7, 7], [3, 5], 1),
            ([32, 16, 4, 4], [8, 13], 2),
            ([128, 64, 4, 4], [5, 40], 2),
            ([12, 64, 8, 8], [4, 11], 2),
            ([20, 5, 3, 2], [1, 1], 3),
            ([64, 32, 3, 3], [40, 48], 1),
            ([40, 32, 3, 3], [33, 17], 1),
            ([96, 64, 1, 5], [1, 70], 1),
        ] {
            let [outputs, inputs, tall, wide] = shape;
            let round = |tensor: Tensor| tensor.to_kind(Kind::BFloat16);
            let (tall, wide) = (stride * (height - 1) + tall, stride * (width - 1) + wide);
            let map = round(Tensor::randn([1, inputs, tall, wide], options));
            let weight = round(Tensor::randn(shape, options)).to_kind(Kind::Float);
            let bias = Tensor::randn([outputs], options);
            let convolution = TileConvolution::new(&weight, Some(&bias), stride as usize)
                .unwrap()
                .unwrap();
            let (computed, sums) = convolution
                .forward(&as_channels_last(&map).unwrap(), &Pool::default())
                .unwrap();
            let expected =
                double(&map).conv2d(&double(&weight), Some(double(&bias)), stride, 0, 1, 1);
            assert_eq!(computed.size(), expected.size());
            let deviation = expected.square().mean(Kind::Double).sqrt();
            let difference =
                ((double(&computed) - &expected).abs().max() / &deviation).double_value(&[]);
            // The result is rounded to eight bits.
            assert!(difference < 0.02, "{shape:?}: {difference}");

            let pixels = [0, 2, 3].as_slice();
            let squares = expected.square();
            for (which, exact) in [&expected, &squares].into_iter().enumerate() {
                let exact = exact.sum_dim_intlist(pixels, false, Kind::Double);
                let found: Vec<f64> = sums.of_channels().iter().map(|sums| sums[which]).collect();
                let scale = squares.sum_dim_intlist(pixels, false, Kind::Double).max();
                let difference =
                    ((Tensor::from_slice(&found) - exact).abs().max() / scale).double_value(&[]);
                assert!(difference < 1e-5, "{shape:?}, sums {which}: {difference}");
            }
        }
    }
}
