//! Matrix products of tiles (AMX-BF16).

use std::arch::asm;
use std::sync::OnceLock;

use half::bf16;

use super::products::{Arithmetic, Block, LANES, Packed, Rows};

/// Rows that are computed together: two tiles.
pub(super) const ROWS: usize = 32;
/// Numbers along the depth of a tile.
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

/// Multiplies 32 rows with a panel of `N` vectors, two or four.
///
/// # Safety
/// [`usable`]; that of [`Packed::multiply`] for one group of rows.
pub(super) unsafe fn multiply<const N: usize>(block: &Block) {
    // Rows of weights and of products alike.
    let panel_stride = N * LANES * size_of::<u32>();
    for vector in (0..N).step_by(2) {
        // Sums in tiles 0 to 3, inputs in 4 and 5, weights in 6 and 7.
        // SAFETY: the caller's promise. The last instruction gives the tiles back, so that no
        // other code of this thread finds them configured.
        unsafe {
            asm!(
                "ldtilecfg [{configuration}]",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "mov {upper}, {rows}",
                "mov {lower}, {row_stride}",
                "shl {lower}, 4",
                "add {lower}, {rows}",
                "mov {steps}, {depth}",
                "3:",
                "tileloadd tmm6, [{weights} + {panel_stride}]",
                "tileloadd tmm4, [{upper} + {row_stride}]",
                "tileloadd tmm7, [{weights} + {panel_stride} + 64]",
                "tileloadd tmm5, [{lower} + {row_stride}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {upper}, 64",
                "add {lower}, 64",
                "add {weights}, {weights_step}",
                "dec {steps}",
                "jnz 3b",
                "add {rows}, {matrix_stride}",
                "dec {matrices}",
                "jnz 2b",
                "tilestored [{products} + {panel_stride}], tmm0",
                "tilestored [{products} + {panel_stride} + 64], tmm1",
                "add {products}, {weights_step}",
                "tilestored [{products} + {panel_stride}], tmm2",
                "tilestored [{products} + {panel_stride} + 64], tmm3",
                "tilerelease",
                // Read before the first write of another operand.
                configuration = in(reg) &raw const CONFIGURATION,
                upper = out(reg) _,
                lower = out(reg) _,
                steps = out(reg) _,
                rows = inout(reg) block.rows.start => _,
                weights = inout(reg) block.weights.add(vector * LANES) => _,
                products = inout(reg) block.products.add(vector * LANES) => _,
                matrices = inout(reg) block.matrices => _,
                row_stride = in(reg) block.rows.stride,
                matrix_stride = in(reg) block.rows.matrix_stride,
                panel_stride = in(reg) panel_stride,
                depth = in(reg) block.depth / (DEPTH / 2),
                weights_step = const 16 * N * LANES * size_of::<u32>(),
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                out("tmm3") _,
                out("tmm4") _,
                out("tmm5") _,
                out("tmm6") _,
                out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// Whether the processor has AMX-BF16, the system lets this process use it, and it computes.
pub(super) fn usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| is_there() && is_permitted() && computes())
}

/// Whether the processor has tiles for bf16 and the system has switched them on.
fn is_there() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const TILE_STATE: u64 = 0b11 << 17;

    #[target_feature(enable = "xsave")]
    fn enabled_states() -> u64 {
        // SAFETY: register 0 is there wherever this instruction is.
        unsafe { _xgetbv(0) }
    }

    if !is_x86_feature_detected!("avx512f") || __cpuid(0).eax < 7 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    // SAFETY: AVX-512 is only reported where the system has switched XSAVE on.
    let states = unsafe { enabled_states() };
    features & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE && states & TILE_STATE == TILE_STATE
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

/// Whether a small product comes out right, lest a half-emulated processor spoil pictures.
fn computes() -> bool {
    const DEEP: usize = 2 * DEPTH;
    let number = |index: usize| ((index * 37) % 17) as f32 - 8.0;
    let weights: Vec<f32> = (0..2 * DEEP * 2 * LANES).map(number).collect();
    let packed = Packed::new(Arithmetic::AmxBf16, &weights, [2, DEEP, 2 * LANES]);
    let inputs: Vec<f32> = (0..ROWS * 2 * DEEP)
        .map(|index| number(index + 5))
        .collect();
    let halves: Vec<bf16> = inputs.iter().copied().map(bf16::from_f32).collect();
    let rows = Rows {
        start: halves.as_ptr().cast(),
        stride: 2 * DEEP * size_of::<bf16>(),
        matrix_stride: DEEP * size_of::<bf16>(),
    };
    let mut products = vec![f32::NAN; ROWS * packed.columns()];
    // SAFETY: the processor has tiles and the system permits them; rows and products are as long
    // as promised.
    unsafe { packed.multiply(0, (0, 2), rows, ROWS, products.as_mut_ptr()) };
    products.iter().enumerate().all(|(index, &product)| {
        let (row, column) = (index / packed.columns(), index % packed.columns());
        // Small whole numbers, whose sums are exact.
        let expected: f32 = (0..2 * DEEP)
            .map(|k| inputs[row * 2 * DEEP + k] * weights[k * 2 * LANES + column])
            .sum();
        product == expected
    })
}
