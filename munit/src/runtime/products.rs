//! Matrix products with packed weights: what every convolution on the CPU comes down to.
//!
//! Operands are read as words of four bytes, each one single-precision number or two neighbouring
//! bf16 numbers, so that one memory layout serves all kinds of arithmetic.

use std::arch::x86_64::*;
use std::sync::Arc;

use half::bf16;
use tch::Kind;

use super::element::Element;
use super::memory::prefer_huge_pages;
use super::vector::Vector;
use crate::instruction_set::InstructionSet;

/// Columns of the narrowest panel, and what numbers of channels are multiples of.
pub(super) const LANES: usize = 16;

/// How products are computed, by the instructions that do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    /// Vectors of eight single-precision numbers (AVX2 and FMA).
    Avx2,
    /// Vectors of sixteen single-precision numbers (AVX-512).
    Avx512,
    /// Dot products of two bf16 numbers, summed in single precision (AVX512-BF16).
    Avx512Bf16,
}

impl Arithmetic {
    /// From the slowest to the fastest.
    pub(super) const ALL: [Self; 3] = [Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// The best that this processor has for operands of `kind`.
    pub(super) fn of(kind: Kind) -> Option<Self> {
        Self::ALL
            .into_iter()
            .rfind(|arithmetic| arithmetic.kind() == kind && arithmetic.is_there())
    }

    /// Of the operands.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Avx2 | Self::Avx512 => Kind::Float,
            Self::Avx512Bf16 => Kind::BFloat16,
        }
    }

    /// Whether this processor has it, and it may be used.
    pub(super) fn is_there(self) -> bool {
        let instructions = match self {
            Self::Avx2 => InstructionSet::Avx2,
            Self::Avx512 => InstructionSet::Avx512,
            Self::Avx512Bf16 => InstructionSet::Avx512Bf16,
        };
        instructions.is_usable()
    }

    /// Numbers along the depth that are computed together.
    pub(super) fn step(self) -> usize {
        match self {
            Self::Avx2 | Self::Avx512 => 1,
            Self::Avx512Bf16 => 2,
        }
    }
}

/// Right-hand sides of products, `[matrices, depth, columns]`, packed. A clone has the same
/// numbers in the same memory.
#[derive(Clone)]
pub(super) struct Packed {
    /// For each panel of columns, matrix and word of the depth: the panel's columns.
    words: Arc<Vec<u32>>,
    arithmetic: Arithmetic,
    matrices: usize,
    /// Words, a whole number of steps.
    depth: usize,
    panels: usize,
    /// Vectors in a panel: 1, 2 or 4.
    vectors: usize,
}

/// Left-hand sides: rows of packed operands. Strides are in bytes.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) start: *const u8,
    /// From one row to the next.
    pub(super) stride: usize,
    /// From what meets one matrix to what meets the next.
    pub(super) matrix_stride: usize,
}

impl Packed {
    /// `values`: `[matrices, depth, columns]`, row by row. The depth is continued with zeros to a
    /// whole number of the arithmetic's steps, and the columns to whole panels.
    pub(super) fn new(
        arithmetic: Arithmetic,
        values: &[f32],
        [matrices, depth, columns]: [usize; 3],
    ) -> Self {
        let vectors = columns.div_ceil(LANES);
        let vectors = match arithmetic {
            // As many as its registers hold beside six rows.
            Arithmetic::Avx2 => 1,
            _ if vectors % 4 == 0 => 4,
            _ if vectors % 2 == 0 => 2,
            _ => 1,
        };
        let width = vectors * LANES;
        let panels = columns.div_ceil(width);
        // As many numbers as a word has.
        let pair = arithmetic.step();
        let words_deep = depth.next_multiple_of(arithmetic.step()) / pair;
        let length = panels * matrices * words_deep * width;
        // Read in the same order for every block of rows, faster than the caches can guess.
        let mut words: Vec<u32> = Vec::with_capacity(length);
        prefer_huge_pages(words.as_mut_ptr().cast(), length * size_of::<u32>());
        for panel in 0..panels {
            for matrix in 0..matrices {
                for word in 0..words_deep {
                    for column in panel * width..(panel + 1) * width {
                        let value = |row: usize| match (row < depth) && (column < columns) {
                            true => values[(matrix * depth + row) * columns + column],
                            false => 0.0,
                        };
                        words.push(match pair {
                            1 => value(word).to_bits(),
                            _ => {
                                let half = |row| <bf16 as Element>::from_f32(value(row)).to_bits();
                                u32::from(half(2 * word)) | u32::from(half(2 * word + 1)) << 16
                            }
                        });
                    }
                }
            }
        }
        Self {
            words: Arc::new(words),
            arithmetic,
            matrices,
            depth: words_deep,
            panels,
            vectors,
        }
    }

    pub(super) fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    pub(super) fn panels(&self) -> usize {
        self.panels
    }

    /// Columns of a panel, also of the products.
    pub(super) fn columns(&self) -> usize {
        self.vectors * LANES
    }

    /// Rows are computed in groups of so many.
    pub(super) fn group(&self) -> usize {
        match (self.arithmetic, self.vectors) {
            (Arithmetic::Avx2, _) | (_, 4) => 6,
            _ => 12,
        }
    }

    /// Sums the products of `rows` with `matrices`, one after the other from `first` on, for one
    /// panel: `count` rows of [`Self::columns`] numbers at `products`.
    ///
    /// # Safety
    /// The processor has the arithmetic. `count` is a multiple of [`Self::group`]; every row has
    /// the whole depth, continued to whole steps with numbers that are not infinite, and
    /// `products` has room.
    pub(super) unsafe fn multiply(
        &self,
        panel: usize,
        (first, matrices): (usize, usize),
        rows: Rows,
        count: usize,
        products: *mut f32,
    ) {
        let length = self.depth * self.columns();
        let start = (panel * self.matrices + first) * length;
        let weights = &self.words[start..start + matrices * length];
        let group = self.group();
        // The next matrix comes into the cache while this one is multiplied.
        let steps = (count / group * self.depth * matrices).max(1);
        let pace = (weights.len() / steps).max(1);
        let mut ahead = weights.as_ptr_range().end;
        for row in (0..count).step_by(group) {
            let block = Block {
                rows: Rows {
                    start: rows.start.wrapping_add(row * rows.stride),
                    ..rows
                },
                weights: weights.as_ptr(),
                matrices,
                depth: self.depth,
                products: products.wrapping_add(row * self.columns()),
                ahead,
                pace,
            };
            ahead = ahead.wrapping_add(pace * self.depth * matrices);
            // SAFETY: the caller's promise; `new` has packed `vectors` vectors for each word.
            unsafe {
                match (self.arithmetic, self.vectors) {
                    (Arithmetic::Avx2, _) => narrow::<6, 2>(&block),
                    (Arithmetic::Avx512, 4) => single::<6, 4>(&block),
                    (Arithmetic::Avx512, 2) => single::<12, 2>(&block),
                    (Arithmetic::Avx512, _) => single::<12, 1>(&block),
                    (Arithmetic::Avx512Bf16, 4) => pairs::<6, 4>(&block),
                    (Arithmetic::Avx512Bf16, 2) => pairs::<12, 2>(&block),
                    (Arithmetic::Avx512Bf16, _) => pairs::<12, 1>(&block),
                }
            }
        }
    }
}

/// One group of rows and what it is multiplied with.
struct Block {
    rows: Rows,
    weights: *const u32,
    matrices: usize,
    /// In words.
    depth: usize,
    products: *mut f32,
    /// Memory that is needed soon, of which so many words are asked for at each step.
    ahead: *const u32,
    pace: usize,
}

/// A kernel whose sums, `M` rows of `N` registers, fill the processor's registers.
macro_rules! in_registers {
    ($name:ident, $features:literal, $register:ty, $add_product:expr) => {
        /// # Safety
        /// That of [`Packed::multiply`] for one group of `M` rows and a panel of `N` registers.
        #[target_feature(enable = $features)]
        unsafe fn $name<const M: usize, const N: usize>(block: &Block) {
            const LANES: usize = <$register as Vector>::LANES;
            // SAFETY: the caller's promise.
            unsafe {
                let mut sums = [[<$register as Vector>::splat(0.0); N]; M];
                let mut weights = block.weights.cast::<f32>();
                let mut ahead = block.ahead;
                let mut rows = block.rows.start;
                for _ in 0..block.matrices {
                    for word in 0..block.depth {
                        let mut vectors = [<$register as Vector>::splat(0.0); N];
                        for (n, vector) in vectors.iter_mut().enumerate() {
                            *vector = Vector::load(weights.add(n * LANES));
                        }
                        weights = weights.add(N * LANES);
                        _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                        ahead = ahead.wrapping_add(block.pace);
                        for (m, sums) in sums.iter_mut().enumerate() {
                            let input = rows.add(m * block.rows.stride + word * size_of::<u32>());
                            let input = Vector::splat(input.cast::<f32>().read_unaligned());
                            for (sum, vector) in sums.iter_mut().zip(vectors) {
                                *sum = $add_product(*sum, input, vector);
                            }
                        }
                    }
                    rows = rows.wrapping_add(block.rows.matrix_stride);
                }
                for (m, sums) in sums.into_iter().enumerate() {
                    for (n, sum) in sums.into_iter().enumerate() {
                        sum.store(block.products.add((m * N + n) * LANES));
                    }
                }
            }
        }
    };
}

in_registers!(narrow, "avx2,fma", __m256, Vector::add_product);

in_registers!(single, "avx512f", __m512, Vector::add_product);

in_registers!(
    pairs,
    "avx512f,avx512bf16",
    __m512,
    |sum, input: __m512, weights: __m512| _mm512_dpbf16_ps(
        sum,
        std::mem::transmute::<__m512, __m512bh>(input),
        std::mem::transmute::<__m512, __m512bh>(weights),
    )
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that bf16 holds exactly, so that all arithmetics agree to rounding of sums.
    fn number(index: usize) -> f32 {
        ((index * 7919) % 61) as f32 / 16.0 - 1.875
    }

    fn packed_rows(arithmetic: Arithmetic, values: &[f32]) -> Vec<u8> {
        match arithmetic.kind() {
            Kind::Float => values.iter().flat_map(|v| v.to_ne_bytes()).collect(),
            _ => values
                .iter()
                .flat_map(|&v| bf16::from_f32(v).to_bits().to_ne_bytes())
                .collect(),
        }
    }

    #[test]
    fn every_arithmetic_multiplies() {
        for arithmetic in Arithmetic::ALL {
            if !arithmetic.is_there() {
                continue;
            }
            for (matrices, depth, columns) in [(1, 32, 16), (3, 64, 64), (2, 5, 12), (4, 96, 160)] {
                let weights: Vec<f32> = (0..matrices * depth * columns).map(number).collect();
                let packed = Packed::new(arithmetic, &weights, [matrices, depth, columns]);
                let count = 2 * packed.group();
                let wide = depth.next_multiple_of(arithmetic.step());
                // Two matrices' rows lie one after the other; beyond the depth is something.
                let inputs: Vec<f32> = (0..count * matrices * wide)
                    .map(|i| number(i + 3))
                    .collect();
                let bytes = packed_rows(arithmetic, &inputs);
                let size = bytes.len() / inputs.len();
                let rows = Rows {
                    start: bytes.as_ptr(),
                    stride: matrices * wide * size,
                    matrix_stride: wide * size,
                };
                for panel in 0..packed.panels() {
                    let mut products = vec![f32::NAN; count * packed.columns()];
                    // SAFETY: `of` has found the arithmetic; rows and products are as long as
                    // promised.
                    unsafe {
                        packed.multiply(panel, (0, matrices), rows, count, products.as_mut_ptr());
                    }
                    for row in 0..count {
                        for lane in 0..packed.columns() {
                            let column = panel * packed.columns() + lane;
                            let expected: f32 = (0..matrices * depth)
                                .filter(|_| column < columns)
                                .map(|index| {
                                    let (matrix, k) = (index / depth, index % depth);
                                    inputs[(row * matrices + matrix) * wide + k]
                                        * weights[index * columns + column]
                                })
                                .sum();
                            let product = products[row * packed.columns() + lane];
                            assert!(
                                (product - expected).abs() < 1e-3,
                                "{arithmetic:?} {row} {column}: {product} {expected}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn one_matrix_of_several_is_chosen() {
        let Some(arithmetic) = Arithmetic::of(Kind::Float) else {
            return;
        };
        let weights: Vec<f32> = (0..3 * 4 * 16).map(number).collect();
        let packed = Packed::new(arithmetic, &weights, [3, 4, 16]);
        let inputs: Vec<f32> = (0..packed.group() * 4).map(|i| number(i + 3)).collect();
        let rows = Rows {
            start: inputs.as_ptr().cast(),
            stride: 16,
            matrix_stride: 0,
        };
        let mut products = vec![f32::NAN; packed.group() * 16];
        // SAFETY: as above.
        unsafe { packed.multiply(0, (2, 1), rows, packed.group(), products.as_mut_ptr()) };
        let expected: f32 = (0..4)
            .map(|k| inputs[4 + k] * weights[(8 + k) * 16 + 5])
            .sum();
        assert!((products[16 + 5] - expected).abs() < 1e-4);
    }
}
