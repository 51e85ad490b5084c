//! Matrix products of tiles (AMX-BF16): sixteen rows of 64 bytes in each of eight registers.

use std::arch::asm;
use std::marker::PhantomData;
use std::sync::OnceLock;

use half::bf16;

use crate::instruction_set::InstructionSet;

/// Rows of a tile.
pub(super) const ROWS: usize = 16;
/// Columns of a tile of single-precision sums.
pub(super) const COLUMNS: usize = 16;
/// Numbers of the depth in a tile of bf16 numbers.
pub(super) const DEPTH: usize = 32;

/// What `ldtilecfg` reads: all eight tiles have sixteen rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Tile registers that this thread has configured. Dropping it gives them back, so that no other
/// code of this thread finds them configured and the system need not save them.
pub(super) struct Tiles {
    /// Registers belong to a thread.
    here: PhantomData<*const ()>,
}

impl Tiles {
    /// # Safety
    /// The processor has tiles, the system permits them, and no other `Tiles` is alive in this
    /// thread.
    pub(super) unsafe fn configure() -> Self {
        // SAFETY: the caller's promise; no code but this module's touches the tiles meanwhile.
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) &raw const CONFIGURATION,
                options(nostack, readonly, preserves_flags),
            );
        }
        Self { here: PhantomData }
    }

    /// Multiplies rows with weights and writes the sums of all steps.
    ///
    /// Two tiles of rows are multiplied with 32 columns, four with 16: weights hold for each step
    /// one tile of every sixteen columns, whose row k has the numbers 2·k and 2·k + 1 of the depth
    /// for each column. Products are rows of 32, or of 16, numbers.
    ///
    /// # Safety
    /// At every row, `lines` lines from there on, are `steps` times 32 numbers; as many tiles of
    /// weights as said above; room for 1,024 products.
    #[inline(always)]
    pub(super) unsafe fn multiply<const TILES: usize>(
        &self,
        rows: &Rows<TILES>,
        weights: *const bf16,
        products: *mut f32,
    ) {
        const {
            assert!(TILES == 2 || TILES == 4);
        }
        // SAFETY: the caller's promise.
        unsafe {
            if TILES == 2 {
                multiply_two(rows, [rows.starts[0], rows.starts[1]], weights, products);
            } else {
                let starts = [0, 1, 2, TILES - 1].map(|tile| rows.starts[tile]);
                multiply_four(rows, starts, weights, products);
            }
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the processor has tiles.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// Left-hand sides of products: tiles of sixteen rows, continued on further lines. Strides are in
/// bytes.
pub(super) struct Rows<const TILES: usize> {
    /// Each tile's first row.
    pub(super) starts: [*const bf16; TILES],
    /// From one row of a tile to the next.
    pub(super) stride: usize,
    pub(super) lines: usize,
    /// From one line to the next.
    pub(super) line_stride: usize,
    /// Tiles' depths along each line.
    pub(super) steps: usize,
}

impl<const TILES: usize> Rows<TILES> {
    /// From the end of one line to the start of the next.
    fn skip(&self) -> usize {
        self.line_stride
            .wrapping_sub(self.steps * DEPTH * size_of::<bf16>())
    }
}

/// # Safety
/// That of [`Tiles::multiply`].
#[inline(always)]
unsafe fn multiply_two<const TILES: usize>(
    rows: &Rows<TILES>,
    [upper, lower]: [*const bf16; 2],
    weights: *const bf16,
    products: *mut f32,
) {
    // Sums in tiles 0 to 3, inputs in 4 and 5, weights in 6 and 7.
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "mov {step}, {steps}",
            "3:",
            "tileloadd tmm6, [{weights} + {stride}]",
            "tileloadd tmm4, [{upper} + {row}]",
            "tileloadd tmm7, [{weights} + {stride} + 1024]",
            "tileloadd tmm5, [{lower} + {row}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {upper}, 64",
            "add {lower}, 64",
            "add {weights}, 2048",
            "dec {step}",
            "jnz 3b",
            "add {upper}, {skip}",
            "add {lower}, {skip}",
            "dec {lines}",
            "jnz 2b",
            "add {stride}, {stride}",
            "tilestored [{products} + {stride}], tmm0",
            "tilestored [{products} + {stride} + 64], tmm1",
            "tilestored [{products} + {stride} + 2048], tmm2",
            "tilestored [{products} + {stride} + 2112], tmm3",
            upper = inout(reg) upper => _,
            lower = inout(reg) lower => _,
            weights = inout(reg) weights => _,
            products = in(reg) products,
            row = in(reg) rows.stride,
            skip = in(reg) rows.skip(),
            lines = inout(reg) rows.lines => _,
            steps = in(reg) rows.steps,
            step = out(reg) _,
            stride = inout(reg) 64_usize => _,
            options(nostack),
        );
    }
}

/// # Safety
/// That of [`Tiles::multiply`].
#[inline(always)]
unsafe fn multiply_four<const TILES: usize>(
    rows: &Rows<TILES>,
    [first, second, third, fourth]: [*const bf16; 4],
    weights: *const bf16,
    products: *mut f32,
) {
    // Sums in tiles 0 to 3, weights in 4, inputs in 5 to 7.
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "mov {step}, {steps}",
            "3:",
            "tileloadd tmm4, [{weights} + {stride}]",
            "tileloadd tmm5, [{first} + {row}]",
            "tileloadd tmm6, [{second} + {row}]",
            "tileloadd tmm7, [{third} + {row}]",
            "tdpbf16ps tmm0, tmm5, tmm4",
            "tileloadd tmm5, [{fourth} + {row}]",
            "tdpbf16ps tmm1, tmm6, tmm4",
            "tdpbf16ps tmm2, tmm7, tmm4",
            "tdpbf16ps tmm3, tmm5, tmm4",
            "add {first}, 64",
            "add {second}, 64",
            "add {third}, 64",
            "add {fourth}, 64",
            "add {weights}, 1024",
            "dec {step}",
            "jnz 3b",
            "add {first}, {skip}",
            "add {second}, {skip}",
            "add {third}, {skip}",
            "add {fourth}, {skip}",
            "dec {lines}",
            "jnz 2b",
            "tilestored [{products} + {stride}], tmm0",
            "tilestored [{products} + {stride} + 1024], tmm1",
            "tilestored [{products} + {stride} + 2048], tmm2",
            "tilestored [{products} + {stride} + 3072], tmm3",
            first = inout(reg) first => _,
            second = inout(reg) second => _,
            third = inout(reg) third => _,
            fourth = inout(reg) fourth => _,
            weights = inout(reg) weights => _,
            products = in(reg) products,
            row = in(reg) rows.stride,
            skip = in(reg) rows.skip(),
            lines = inout(reg) rows.lines => _,
            steps = in(reg) rows.steps,
            step = out(reg) _,
            stride = in(reg) 64_usize,
            options(nostack),
        );
    }
}

/// Whether the processor has AMX-BF16, the system lets this process use tiles, and they compute.
pub(super) fn usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| InstructionSet::Amx.is_usable() && is_permitted() && computes())
}

/// Asks Linux for the tiles, whose eight kilobytes of state it saves only for processes that have
/// asked; the permission holds for all threads.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: i64 = 0x1023;
    const TILE_DATA: i64 = 18;

    unsafe extern "C" {
        fn syscall(number: i64, ...) -> i64;
    }
    // SAFETY: this call reads and writes no memory of ours.
    unsafe { syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// Whether small products come out right, lest a half-emulated processor spoil pictures.
fn computes() -> bool {
    // SAFETY: the processor has tiles and the system permits them.
    unsafe { multiplies::<2>() && multiplies::<4>() }
}

/// # Safety
/// The processor has tiles and the system permits them.
unsafe fn multiplies<const TILES: usize>() -> bool {
    const LINES: usize = 2;
    const STEPS: usize = 3;
    const DEEP: usize = STEPS * DEPTH;

    let number = |index: usize| ((index * 37) % 17) as f32 - 8.0;
    let columns = 4 / TILES * COLUMNS;
    let inputs: Vec<bf16> = (0..TILES * ROWS * LINES * DEEP)
        .map(|index| bf16::from_f32(number(index + 5)))
        .collect();
    let weight = |depth: usize, column: usize| number(depth * columns + column);
    let packed: Vec<bf16> = pack(LINES * DEEP, columns, weight);
    let line_length = TILES * ROWS * DEEP;
    let rows = Rows::<TILES> {
        starts: std::array::from_fn(|tile| inputs[tile * ROWS * DEEP..].as_ptr()),
        stride: DEEP * size_of::<bf16>(),
        lines: LINES,
        line_stride: line_length * size_of::<bf16>(),
        steps: STEPS,
    };
    let mut products = vec![f32::NAN; TILES * ROWS * columns];
    // SAFETY: the caller's promise; inputs, weights and products are as long as promised.
    unsafe {
        let tiles = Tiles::configure();
        tiles.multiply(&rows, packed.as_ptr(), products.as_mut_ptr());
    }
    products.iter().enumerate().all(|(index, &product)| {
        let (row, column) = (index / columns, index % columns);
        // Small whole numbers, whose sums are exact.
        let expected: f32 = (0..LINES * DEEP)
            .map(|depth| {
                let (line, along) = (depth / DEEP, depth % DEEP);
                inputs[line * line_length + row * DEEP + along].to_f32() * weight(depth, column)
            })
            .sum();
        product == expected
    })
}

/// Weights as [`Tiles::multiply`] takes them: for each tile's depth, tiles of sixteen columns.
pub(super) fn pack(
    depth: usize,
    columns: usize,
    weight: impl Fn(usize, usize) -> f32,
) -> Vec<bf16> {
    let mut packed = Vec::with_capacity(depth * columns);
    for step in (0..depth).step_by(DEPTH) {
        for first in (0..columns).step_by(COLUMNS) {
            for pair in (step..step + DEPTH).step_by(2) {
                for column in first..first + COLUMNS {
                    packed
                        .extend([pair, pair + 1].map(|deep| bf16::from_f32(weight(deep, column))));
                }
            }
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_multiplies() {
        if !usable() {
            return;
        }
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(computes)).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    }
}
