//! Convolutions with kernels and strides of any size, as sums of matrix products.
//!
//! In a channels-last map the pixels below one row of the kernel lie next to each other, so that
//! each row of the kernel is one product over kernel width × channels, read where the map lies.

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::element::{elements, elements_mut};
use super::memory::Pool;
use super::parallel;
use super::products::{Arithmetic, Packed, Rows};
use super::vector::{Vector, Vectors};
use crate::Result;

/// A convolution of maps of `T`. A clone has the same weights in the same memory.
#[derive(Clone)]
pub(super) struct Direct<T> {
    /// A matrix for each row of the kernel: (kernel width · input channels) × output channels.
    weights: Packed,
    bias: Arc<Vec<f32>>,
    inputs: usize,
    outputs: usize,
    kernel_height: usize,
    kernel_width: usize,
    stride: usize,
    maps: PhantomData<fn(T) -> T>,
}

impl<T: Vectors> Direct<T> {
    /// `weight`: `[O, I, kernel height, kernel width]` in single precision. `None` where the
    /// processor does not suit.
    pub(super) fn new(
        weight: &Tensor,
        bias: Option<&Tensor>,
        stride: usize,
    ) -> Result<Option<Self>> {
        match Arithmetic::of(T::KIND) {
            Some(arithmetic) => Ok(Some(Self::with(arithmetic, weight, bias, stride)?)),
            None => Ok(None),
        }
    }

    /// With an arithmetic for `T` that the processor has.
    fn with(
        arithmetic: Arithmetic,
        weight: &Tensor,
        bias: Option<&Tensor>,
        stride: usize,
    ) -> Result<Self> {
        let (outputs, inputs, kernel_height, kernel_width) = weight.size4()?;
        let [outputs, inputs, kernel_height, kernel_width] =
            [outputs, inputs, kernel_height, kernel_width].map(|length| length as usize);
        let values = weight
            .f_to_kind(Kind::Float)?
            .f_permute([2, 3, 1, 0])?
            .f_reshape([-1])?;
        let values = Vec::<f32>::try_from(values)?;
        let shape = [kernel_height, kernel_width * inputs, outputs];
        Ok(Self {
            weights: Packed::new(arithmetic, &values, shape),
            bias: Arc::new(match bias {
                Some(bias) => Vec::try_from(bias)?,
                None => vec![0.0; outputs],
            }),
            inputs,
            outputs,
            kernel_height,
            kernel_width,
            stride,
            maps: PhantomData,
        })
    }

    /// `padded`: a channels-last map `[1, I, H, W]`, its border included; the result is
    /// `[1, O, (H − kernel height)/stride + 1, (W − kernel width)/stride + 1]`.
    pub(super) fn forward(&self, padded: &Tensor, pool: &Pool) -> Result<Tensor> {
        let size = padded.size();
        let (tall, wide) = (size[2] as usize, size[3] as usize);
        let height = (tall - self.kernel_height) / self.stride + 1;
        let width = (wide - self.kernel_width) / self.stride + 1;
        let mut output = pool.take(self.outputs, height, width, T::KIND)?;
        let values = elements::<T>(padded)?;
        let rows = elements_mut::<T>(&mut output)?;
        parallel::for_each_band(rows, width * self.outputs, &|first, band| {
            let height = band.len() / (width * self.outputs);
            self.lines((values, wide), first..first + height, width, band);
        });
        Ok(output)
    }

    /// Computes some lines of the output, `width` pixels long, on this thread, from a map of rows
    /// of `wide` pixels.
    ///
    /// # Panics
    /// If the map ends before a line's pixels do.
    pub(super) fn lines(
        &self,
        map: (&[T], usize),
        lines: Range<usize>,
        width: usize,
        band: &mut [T],
    ) {
        SCRATCH.with_borrow_mut(|scratch| {
            // SAFETY: the processor has the arithmetic, and with it these registers.
            unsafe {
                match self.weights.arithmetic() {
                    Arithmetic::Avx2 => self.compute_avx2(map, lines, width, band, scratch),
                    _ => self.compute_avx512(map, lines, width, band, scratch),
                }
            }
        });
    }

    /// # Safety
    /// The processor has the arithmetic, AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn compute_avx2(
        &self,
        map: (&[T], usize),
        lines: Range<usize>,
        width: usize,
        band: &mut [T],
        scratch: &mut Scratch,
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.compute::<__m256>(map, lines, width, band, scratch) }
    }

    /// # Safety
    /// The processor has the arithmetic and AVX-512.
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn compute_avx512(
        &self,
        map: (&[T], usize),
        lines: Range<usize>,
        width: usize,
        band: &mut [T],
        scratch: &mut Scratch,
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.compute::<__m512>(map, lines, width, band, scratch) }
    }

    /// # Safety
    /// The processor has the arithmetic and `V`.
    #[inline(always)]
    unsafe fn compute<V: Vector>(
        &self,
        (values, wide): (&[T], usize),
        lines: Range<usize>,
        width: usize,
        band: &mut [T],
        scratch: &mut Scratch,
    ) {
        let group = self.weights.group();
        let columns = self.weights.columns();
        scratch.products.resize(group * columns, 0.0);
        let deep = self.kernel_width * self.inputs;
        let whole = deep.next_multiple_of(self.weights.arithmetic().step());
        let step = self.stride * self.inputs;
        // What one group of neighbouring pixels reads of each of the kernel's rows.
        let reach = (group - 1) * step + whole;
        for panel in 0..self.weights.panels() {
            let channels = panel * columns..self.outputs.min((panel + 1) * columns);
            for (line, result) in lines
                .clone()
                .zip(band.chunks_exact_mut(width * self.outputs))
            {
                for (x, result) in (0..width)
                    .step_by(group)
                    .zip(result.chunks_mut(group * self.outputs))
                {
                    let start = line * self.stride * wide * self.inputs + x * step;
                    let last = start + (self.kernel_height - 1) * wide * self.inputs;
                    let mut rows = Rows {
                        start: values[start..].as_ptr().cast(),
                        stride: step * size_of::<T>(),
                        matrix_stride: wide * self.inputs * size_of::<T>(),
                    };
                    if last + reach > values.len() {
                        // The map ends before the last pixel's whole steps do.
                        scratch.tail.clear();
                        let words = self.kernel_height * reach;
                        scratch.tail.resize(words, 0);
                        let tail = scratch.tail.as_mut_ptr().cast::<T>();
                        for row in 0..self.kernel_height {
                            let start = start + row * wide * self.inputs;
                            let source = &values[start..values.len().min(start + reach)];
                            // SAFETY: a word is at least as long as an element, and there is
                            // one for each that is copied.
                            unsafe {
                                let target = tail.add(row * reach);
                                target.copy_from_nonoverlapping(source.as_ptr(), source.len());
                            }
                        }
                        rows.start = tail.cast();
                        rows.matrix_stride = reach * size_of::<T>();
                    }
                    // SAFETY: every row of the group ends before `reach`, within the map or the
                    // copy, and the scratch memory has room for the group.
                    unsafe {
                        let products = scratch.products.as_mut_ptr();
                        let matrices = (0, self.kernel_height);
                        self.weights
                            .multiply(panel, matrices, rows, group, products);
                        self.store::<V>(&scratch.products, channels.clone(), result);
                    }
                }
            }
        }
    }

    /// Adds the bias and writes one panel's channels of neighbouring pixels.
    ///
    /// # Safety
    /// The processor has `V`.
    #[inline(always)]
    unsafe fn store<V: Vector>(&self, products: &[f32], channels: Range<usize>, result: &mut [T]) {
        let bias = &self.bias[channels.clone()];
        let pixels = result.chunks_exact_mut(self.outputs);
        for (products, pixel) in products.chunks_exact(self.weights.columns()).zip(pixels) {
            let pixel = &mut pixel[channels.clone()];
            let mut vectors = pixel.chunks_exact_mut(V::LANES);
            let mut column = 0;
            for target in &mut vectors {
                // SAFETY: all three have so many numbers here.
                unsafe {
                    let product = V::load(products[column..].as_ptr());
                    let bias = V::load(bias[column..].as_ptr());
                    T::store(target.as_mut_ptr(), product.add(bias));
                }
                column += V::LANES;
            }
            for target in vectors.into_remainder() {
                *target = T::from_f32(products[column] + bias[column]);
                column += 1;
            }
        }
    }
}

/// A thread's memory, kept from layer to layer.
#[derive(Default)]
struct Scratch {
    products: Vec<f32>,
    /// The end of a map, continued with zeros.
    tail: Vec<u32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use tch::Device;

    use super::*;
    use crate::element::as_channels_last;

    /// Largest difference from libtorch's convolution of the same rounded numbers, beside their
    /// deviation.
    fn error<T: Vectors>(
        arithmetic: Arithmetic,
        shape: [i64; 4],
        [height, width]: [i64; 2],
        stride: i64,
    ) -> f64 {
        let options = (Kind::Float, Device::Cpu);
        let [outputs, inputs, tall, wide] = shape;
        let round = |tensor: Tensor| tensor.to_kind(T::KIND);
        let map = round(Tensor::randn(
            [
                1,
                inputs,
                stride * (height - 1) + tall,
                stride * (width - 1) + wide,
            ],
            options,
        ));
        let weight = round(Tensor::randn(shape, options)).to_kind(Kind::Float);
        let bias = Tensor::randn([outputs], options);
        let direct = Direct::<T>::with(arithmetic, &weight, Some(&bias), stride as usize).unwrap();
        let computed = direct
            .forward(&as_channels_last(&map).unwrap(), &Pool::default())
            .unwrap();
        let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let expected = double(&map).conv2d(&double(&weight), Some(double(&bias)), stride, 0, 1, 1);
        assert_eq!(computed.size(), expected.size());
        let difference = (double(&computed) - &expected).abs().max();
        difference.double_value(&[]) / expected.std(true).double_value(&[])
    }

    #[test]
    fn it_is_the_convolution() {
        for arithmetic in Arithmetic::ALL {
            if !arithmetic.is_there() {
                continue;
            }
            for (shape, size, stride) in [
                ([64, 3, 7, 7], [9, 31], 1),
                ([16, 1, 7, 7], [3, 5], 1),
                ([32, 16, 4, 4], [8, 13], 2),
                ([128, 64, 4, 4], [5, 40], 2),
                ([12, 64, 8, 8], [4, 11], 2),
                ([20, 5, 3, 2], [1, 1], 3),
            ] {
                // Rounding errors of a sum walk randomly; the result of bf16 is rounded to eight bits.
                let depth = shape[1..].iter().product::<i64>() as f64;
                let single = f64::max(1e-5, 4e-7 * depth.sqrt());
                let (error, allowed) = match arithmetic.kind() {
                    Kind::Float => (error::<f32>(arithmetic, shape, size, stride), single),
                    _ => (error::<bf16>(arithmetic, shape, size, stride), 0.02),
                };
                assert!(error < allowed, "{arithmetic:?} {shape:?}: {error}");
            }
        }
    }
}
