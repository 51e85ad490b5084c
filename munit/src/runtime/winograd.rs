//! 3×3 convolutions with a quarter of the multiplications.
//!
//! Winograd's minimal filtering F(4×4, 3×3), after Lavin and Gray, "Fast Algorithms for
//! Convolutional Neural Networks" (arXiv 1509.09308): 6×6 squares of the input and the kernels
//! are transformed, multiplied element by element, which over all channels is one matrix product
//! for each of the 36 elements, and transformed back into 4×4 squares of the output.
//!
//! The transforms evaluate polynomials at 0, ±3/4, ±3/2 and infinity. All constants are exact in
//! binary, and the error is half of what the usual points 0, ±1, ±2 give: small enough for
//! products of bf16 numbers, which cost trained networks 1 to 3 dB beside convolutions of bf16
//! numbers without any transform.

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::element::{elements, elements_mut};
use super::memory::{Pool, prefer_huge_pages};
use super::parallel;
use super::products::{Arithmetic, LANES, Packed, Rows};
use super::vector::{Vector, Vectors};
use crate::Result;

/// Side of an output square.
const SQUARE: usize = 4;
/// Side of the input square that it needs.
const PATCH: usize = SQUARE + 2;
/// Elements of a transformed square.
const POINTS: usize = PATCH * PATCH;
/// Squares that a thread works on at a time, so that all of their elements stay in its cache.
const BLOCK: usize = 48;

const A: f32 = 0.75;
const B: f32 = 1.5;

/// A 3×3 convolution of stride 1 of maps of `T`, transformed. A clone has the same weights in the
/// same memory.
#[derive(Clone)]
pub(super) struct Winograd<T> {
    /// A matrix for each element of a square: input channels × output channels.
    weights: Packed,
    bias: Arc<Vec<f32>>,
    inputs: usize,
    outputs: usize,
    maps: PhantomData<fn(T) -> T>,
}

impl<T: Vectors> Winograd<T> {
    /// `weight`: `[O, I, 3, 3]` in single precision. `None` where the processor or the numbers
    /// of channels do not suit.
    pub(super) fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Self>> {
        match Arithmetic::of(T::KIND) {
            Some(arithmetic) => Self::with(arithmetic, weight, bias),
            None => Ok(None),
        }
    }

    /// With an arithmetic for `T` that the processor has.
    fn with(
        arithmetic: Arithmetic,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<Option<Self>> {
        let &[outputs, inputs, 3, 3] = weight.size().as_slice() else {
            return Ok(None);
        };
        let (outputs, inputs) = (outputs as usize, inputs as usize);
        if inputs % LANES != 0 || outputs % LANES != 0 {
            return Ok(None);
        }
        let transform = kernel_transform()?;
        let weight = weight.f_to_kind(Kind::Double)?;
        let transformed = Tensor::f_einsum(
            "pu,qv,oiuv->pqio",
            &[&transform, &transform, &weight],
            None::<&[i64]>,
        )?;
        let transformed = transformed.f_to_kind(Kind::Float)?.f_reshape([-1])?;
        let transformed = Vec::<f32>::try_from(transformed)?;
        Ok(Some(Self {
            weights: Packed::new(arithmetic, &transformed, [POINTS, inputs, outputs]),
            bias: Arc::new(match bias {
                Some(bias) => Vec::try_from(bias)?,
                None => vec![0.0; outputs],
            }),
            inputs,
            outputs,
            maps: PhantomData,
        }))
    }

    /// `padded`: channels-last `[1, I, H + 2, W + 2]`; the result is `[1, O, H, W]`.
    pub(super) fn forward(&self, padded: &Tensor, pool: &Pool) -> Result<Tensor> {
        let size = padded.size();
        let (height, width) = (size[2] as usize - 2, size[3] as usize - 2);
        let mut output = pool.take(self.outputs, height, width, T::KIND)?;
        let map = PaddedMap {
            values: elements::<T>(padded)?,
            height: size[2] as usize,
            width: size[3] as usize,
            channels: self.inputs,
        };
        let result = OutputMap {
            values: elements_mut::<T>(&mut output)?.as_mut_ptr(),
            height,
            width,
            channels: self.outputs,
        };
        let across = width.div_ceil(SQUARE);
        let squares = height.div_ceil(SQUARE) * across;
        let block = BLOCK.next_multiple_of(self.weights.group());
        let threads = parallel::threads();
        let blocks = squares.div_ceil(block).next_multiple_of(threads);
        parallel::for_each_range(squares, blocks.min(squares), &|range| {
            let own: Vec<Square> = range
                .map(|square| Square {
                    top: square / across * SQUARE,
                    left: square % across * SQUARE,
                })
                .collect();
            SCRATCH.with_borrow_mut(|scratch| {
                // SAFETY: the processor has the arithmetic, and with it these registers; squares
                // of one map do not overlap, so no other thread writes what this one does.
                unsafe {
                    match self.weights.arithmetic() {
                        Arithmetic::Avx2 => self.compute_avx2(&map, &result, &own, scratch),
                        _ => self.compute_avx512(&map, &result, &own, scratch),
                    }
                }
            });
        });
        Ok(output)
    }

    /// # Safety
    /// That of [`Self::compute`] with AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn compute_avx2(
        &self,
        map: &PaddedMap<T>,
        result: &OutputMap<T>,
        squares: &[Square],
        scratch: &mut Scratch,
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.compute::<__m256>(map, result, squares, scratch) }
    }

    /// # Safety
    /// That of [`Self::compute`] with AVX-512.
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn compute_avx512(
        &self,
        map: &PaddedMap<T>,
        result: &OutputMap<T>,
        squares: &[Square],
        scratch: &mut Scratch,
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.compute::<__m512>(map, result, squares, scratch) }
    }

    /// # Safety
    /// The processor has the arithmetic and `V`; no one else reads or writes these squares of
    /// `result`.
    #[inline(always)]
    unsafe fn compute<V: Vector>(
        &self,
        map: &PaddedMap<T>,
        result: &OutputMap<T>,
        squares: &[Square],
        scratch: &mut Scratch,
    ) {
        // Products are computed for whole groups of rows; what lies beyond the squares is scrap.
        let padded_rows = squares.len().next_multiple_of(self.weights.group());
        let columns = self.weights.columns();
        // One line more than needed keeps the elements out of each other's cache sets.
        let input_stride = padded_rows * self.inputs + CACHE_LINE / size_of::<T>();
        let product_stride = padded_rows * columns + CACHE_LINE / size_of::<f32>();
        enlarge(
            &mut scratch.inputs,
            (POINTS * input_stride * size_of::<T>()).div_ceil(size_of::<u32>()),
        );
        enlarge(&mut scratch.products, POINTS * product_stride);
        let inputs = scratch.inputs.as_mut_ptr().cast::<T>();
        for (row, square) in squares.iter().enumerate() {
            // SAFETY: the scratch memory holds `padded_rows` rows for each element.
            unsafe {
                let target = inputs.add(row * self.inputs);
                map.transform::<V>(square, &mut scratch.patch, target, input_stride);
            }
        }
        for panel in 0..self.weights.panels() {
            for point in 0..POINTS {
                let rows = Rows {
                    start: inputs.wrapping_add(point * input_stride).cast(),
                    stride: self.inputs * size_of::<T>(),
                    matrix_stride: 0,
                };
                // SAFETY: both scratch areas hold `padded_rows` rows for each element, and `new`
                // has made sure that the inputs are a whole number of steps.
                unsafe {
                    let products = scratch.products.as_mut_ptr().add(point * product_stride);
                    self.weights
                        .multiply(panel, (point, 1), rows, padded_rows, products);
                }
            }
            let bias = &self.bias[panel * columns..self.outputs.min((panel + 1) * columns)];
            for (row, square) in squares.iter().enumerate() {
                // SAFETY: as above; the caller owns the squares.
                unsafe {
                    let products = scratch.products.as_ptr().add(row * columns);
                    result.store::<V>(square, products, product_stride, bias, panel * columns);
                }
            }
        }
    }
}

const CACHE_LINE: usize = 64;

/// A thread's memory for one block, kept from layer to layer.
#[derive(Default)]
struct Scratch {
    /// Transformed squares, of whichever format.
    inputs: Vec<u32>,
    products: Vec<f32>,
    /// A square that reaches beyond the map, continued with zeros.
    patch: Vec<u32>,
}

fn enlarge<N: Copy + Default>(memory: &mut Vec<N>, length: usize) {
    if memory.len() < length {
        *memory = Vec::with_capacity(length);
        prefer_huge_pages(memory.as_mut_ptr().cast(), length * size_of::<N>());
        memory.resize(length, N::default());
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Upper left corner of an output square, which is also that of its input patch in the padded
/// map.
struct Square {
    top: usize,
    left: usize,
}

struct PaddedMap<'a, T> {
    values: &'a [T],
    height: usize,
    width: usize,
    channels: usize,
}

impl<T: Vectors> PaddedMap<'_, T> {
    /// Writes the transform of a square's patch: element p of the channels to
    /// `target + p · stride`.
    ///
    /// # Safety
    /// The processor has `V`; `target` has room for the channels at every element.
    #[inline(always)]
    unsafe fn transform<V: Vector>(
        &self,
        square: &Square,
        patch: &mut Vec<u32>,
        target: *mut T,
        stride: usize,
    ) {
        let whole = square.top + PATCH <= self.height && square.left + PATCH <= self.width;
        let row_stride = self.width * self.channels;
        let start = square.top * row_stride + square.left * self.channels;
        let (source, row_stride) = if whole {
            (&self.values[start..], row_stride)
        } else {
            let columns = PATCH.min(self.width - square.left) * self.channels;
            patch.clear();
            patch.resize(POINTS * self.channels, 0);
            // SAFETY: a word is at least as long, and as strictly aligned, as an element, and
            // zeros are elements.
            let patch: &mut [T] = unsafe {
                std::slice::from_raw_parts_mut(patch.as_mut_ptr().cast(), POINTS * self.channels)
            };
            let rows = patch.chunks_exact_mut(PATCH * self.channels);
            for (row, y) in rows.zip(square.top..self.height) {
                let start = y * row_stride + square.left * self.channels;
                row[..columns].copy_from_slice(&self.values[start..start + columns]);
            }
            (&*patch, PATCH * self.channels)
        };
        assert!(source.len() >= (PATCH - 1) * row_stride + PATCH * self.channels);
        for channel in (0..self.channels).step_by(V::LANES) {
            // SAFETY: the assertion above covers every row and column of the patch; the rest is
            // the caller's promise.
            unsafe {
                let mut columns = [[V::splat(0.0); PATCH]; PATCH];
                for (y, row) in columns.iter_mut().enumerate() {
                    let mut values = [V::splat(0.0); PATCH];
                    for (x, value) in values.iter_mut().enumerate() {
                        let offset = y * row_stride + x * self.channels + channel;
                        *value = T::load(source.as_ptr().add(offset));
                    }
                    *row = transform_input(values);
                }
                for x in 0..PATCH {
                    let column = transform_input(columns.map(|row| row[x]));
                    for (y, value) in column.into_iter().enumerate() {
                        T::store(target.add((y * PATCH + x) * stride + channel), value);
                    }
                }
            }
        }
    }
}

struct OutputMap<T> {
    values: *mut T,
    height: usize,
    width: usize,
    channels: usize,
}

// SAFETY: threads write disjoint squares.
unsafe impl<T> Sync for OutputMap<T> {}

impl<T: Vectors> OutputMap<T> {
    /// Transforms products back and writes `bias.len()` channels of a square, from `first` on.
    ///
    /// # Safety
    /// The processor has `V`; `products` holds these channels at every element's stride; no one
    /// else reads or writes this square.
    #[inline(always)]
    unsafe fn store<V: Vector>(
        &self,
        square: &Square,
        products: *const f32,
        stride: usize,
        bias: &[f32],
        first: usize,
    ) {
        let rows = SQUARE.min(self.height - square.top);
        let columns = SQUARE.min(self.width - square.left);
        for (number, bias) in bias.chunks_exact(V::LANES).enumerate() {
            let channel = number * V::LANES;
            // SAFETY: the caller's promise; the chunk has as many numbers as a register, and the
            // pixels lie within the map, whose memory is this long.
            unsafe {
                let mut half = [[V::splat(0.0); SQUARE]; PATCH];
                for (y, half) in half.iter_mut().enumerate() {
                    let mut values = [V::splat(0.0); PATCH];
                    for (x, value) in values.iter_mut().enumerate() {
                        *value = V::load(products.add((y * PATCH + x) * stride + channel));
                    }
                    *half = transform_output(values);
                }
                let bias = V::load(bias.as_ptr());
                for x in 0..columns {
                    let column = transform_output(half.map(|row| row[x]));
                    for (y, value) in column.into_iter().enumerate().take(rows) {
                        let pixel = (square.top + y) * self.width + square.left + x;
                        let offset = pixel * self.channels + first + channel;
                        T::store(self.values.add(offset), value.add(bias));
                    }
                }
            }
        }
    }
}

/// The transform of a row or column of an input patch.
///
/// # Safety
/// The processor has `V`.
#[inline(always)]
unsafe fn transform_input<V: Vector>(d: [V; PATCH]) -> [V; PATCH] {
    const A2: f32 = A * A;
    const B2: f32 = B * B;
    // SAFETY: the caller's promise.
    unsafe {
        let [a, a2] = [A, A2].map(|value| V::splat(value));
        let [b, b2] = [B, B2].map(|value| V::splat(value));
        let (product, sum) = (V::splat(A2 * B2), V::splat(A2 + B2));
        let (even_a, odd_a) = (d[4].sub_product(b2, d[2]), d[3].sub_product(b2, d[1]));
        let (even_b, odd_b) = (d[4].sub_product(a2, d[2]), d[3].sub_product(a2, d[1]));
        [
            d[4].add_product(product, d[0]).sub_product(sum, d[2]),
            even_a.add_product(a, odd_a),
            even_a.sub_product(a, odd_a),
            even_b.add_product(b, odd_b),
            even_b.sub_product(b, odd_b),
            d[5].add_product(product, d[1]).sub_product(sum, d[3]),
        ]
    }
}

/// The transform of a row or column of products back into four outputs.
///
/// # Safety
/// The processor has `V`.
#[inline(always)]
unsafe fn transform_output<V: Vector>(m: [V; PATCH]) -> [V; SQUARE] {
    // SAFETY: the caller's promise.
    unsafe {
        let [a, a2, a3] = [A, A * A, A * A * A].map(|value| V::splat(value));
        let [b, b2, b3] = [B, B * B, B * B * B].map(|value| V::splat(value));
        let (even_a, odd_a) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (even_b, odd_b) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(even_a.add(even_b)),
            odd_b.mul(b).add_product(a, odd_a),
            even_b.mul(b2).add_product(a2, even_a),
            odd_b.mul(b3).add_product(a3, odd_a).add(m[5]),
        ]
    }
}

/// The kernels' transform `[6, 3]`: 1, p, p² at each point over the product of its differences
/// from the other points.
fn kernel_transform() -> Result<Tensor> {
    let (a, b) = (f64::from(A), f64::from(B));
    let (a2, b2) = (a * a, b * b);
    let row = |point: f64, denominator: f64| [1.0, point, point * point].map(|v| v / denominator);
    let rows = [
        row(0.0, a2 * b2),
        row(a, 2.0 * a2 * (a2 - b2)),
        row(-a, 2.0 * a2 * (a2 - b2)),
        row(b, 2.0 * b2 * (b2 - a2)),
        row(-b, 2.0 * b2 * (b2 - a2)),
        [0.0, 0.0, 1.0],
    ];
    Ok(Tensor::f_from_slice(rows.as_flattened())?.f_reshape([PATCH as i64, 3])?)
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use tch::Device;

    use super::*;
    use crate::element::as_channels_last;

    /// Largest difference from the convolution of the same rounded numbers, beside their deviation.
    fn error<T: Vectors>(
        arithmetic: Arithmetic,
        [inputs, outputs, height, width]: [i64; 4],
    ) -> f64 {
        let options = (Kind::Float, Device::Cpu);
        let map = Tensor::randn([1, inputs, height + 2, width + 2], options).to_kind(T::KIND);
        let weight = Tensor::randn([outputs, inputs, 3, 3], options) * 0.1;
        let bias = Tensor::randn([outputs], options);
        let winograd = Winograd::<T>::with(arithmetic, &weight, Some(&bias))
            .unwrap()
            .unwrap();
        let computed = winograd
            .forward(&as_channels_last(&map).unwrap(), &Pool::default())
            .unwrap();
        let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let expected = double(&map).conv2d(&double(&weight), Some(double(&bias)), 1, 0, 1, 1);
        let difference = (double(&computed) - &expected).abs().max();
        difference.double_value(&[]) / expected.std(true).double_value(&[])
    }

    #[test]
    fn it_is_the_convolution() {
        for arithmetic in Arithmetic::ALL {
            if !arithmetic.is_there() {
                continue;
            }
            for (inputs, outputs, height, width) in [
                (16, 16, 4, 4),
                (32, 64, 7, 9),
                (64, 96, 18, 30),
                (16, 32, 2, 3),
                (128, 256, 33, 20),
            ] {
                let shape = [inputs, outputs, height, width];
                // Transformed numbers are rounded to eight bits and added up, which deviates by a few
                // hundredths: the largest of many may be five times that.
                let (error, allowed) = match arithmetic.kind() {
                    Kind::Float => (error::<f32>(arithmetic, shape), 4e-5),
                    _ => (error::<bf16>(arithmetic, shape), 0.15),
                };
                assert!(error < allowed, "{arithmetic:?} {shape:?}: {error}");
            }
        }
    }

    #[test]
    fn other_kernels_are_left_to_libtorch() {
        let options = (Kind::Float, Device::Cpu);
        for shape in [[16, 16, 5, 5], [3, 16, 3, 3], [16, 3, 3, 3], [16, 24, 3, 3]] {
            let weight = Tensor::zeros(shape, options);
            assert!(Winograd::<f32>::new(&weight, None).unwrap().is_none());
        }
    }
}
