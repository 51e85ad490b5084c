//! What follows a convolution.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use super::{Argument, Kernel, Kernels, THREADS, failure};
use crate::Result;
use crate::config::Padding;
use crate::runtime::border::Border;
use crate::runtime::kernels::Finish;
use crate::runtime::layers::{Map, Nonlinearity, Normalisation};

/// Rows of a result that a thread of the finishing kernel computes.
const ROWS: usize = 4;

/// Pixels of the large map along an edge that a block of the ring's kernel corrects.
const POSITIONS: usize = 8;

/// Channels whose moments a block gathers, at most.
const SLAB: usize = 64;

/// Slabs, at most, and one.
const COUNTERS: usize = 1 << 14;

/// Memory in which the moments of a map are gathered, for one stream at a time.
#[derive(Default)]
pub(in crate::runtime) struct Scratch(RefCell<Option<Tensor>>);

impl Scratch {
    /// What is in use now: later, larger frames replace it.
    pub(super) fn memory(&self) -> Option<Tensor> {
        self.0.borrow().as_ref().map(Tensor::shallow_clone)
    }

    /// So many 32-bit numbers behind counters that are 0 whenever no kernel is running.
    fn take(&self, length: usize, device: Device) -> Result<Tensor> {
        let mut memory = self.0.borrow_mut();
        let needed = COUNTERS + length;
        match &*memory {
            Some(memory) if memory.numel() >= needed => Ok(memory.shallow_clone()),
            _ => {
                let new = Tensor::f_zeros([needed as i64], (Kind::Float, device))?;
                Ok(memory.insert(new).shallow_clone())
            }
        }
    }
}

/// The number that kernels.cu has for it, and a slope.
pub(super) fn activation(nonlinearity: Nonlinearity) -> (i32, f32) {
    match nonlinearity {
        Nonlinearity::None => (0, 0.0),
        Nonlinearity::Relu => (1, 0.0),
        Nonlinearity::Leaky(slope) => (2, slope),
        Nonlinearity::Selu => (3, 0.0),
        Nonlinearity::Tanh => (4, 0.0),
    }
}

/// The number that kernels.cu has for it.
pub(super) fn padding(border: Border) -> i32 {
    match border.padding {
        Padding::Reflect => 0,
        Padding::Replicate => 1,
        Padding::Zero => 2,
    }
}

/// Finishes a convolution's channels-last output, of which only as many channels count as make
/// `outputs` in each of its phases; `bias` is what the convolution has not added.
pub(in crate::runtime) fn finish(
    kernels: &Kernels,
    output: &Tensor,
    outputs: usize,
    bias: Option<&Tensor>,
    finish: &Finish,
    scratch: &Scratch,
) -> Result<Map> {
    let size = output.size();
    let (height, width) = (size[2] as usize, size[3] as usize);
    let source_channels = size[1] as usize;
    let affine = match finish.norm {
        Normalisation::None => None,
        norm => Some(moments(
            kernels,
            output,
            (outputs, finish.phases),
            bias,
            norm,
            scratch,
        )?),
    };
    let scale = affine.as_ref().map(|[scale, _]| scale);
    let shift = affine.as_ref().map(|[_, shift]| shift).or(bias);

    let (tall, wide) = (finish.phases * height, finish.phases * width);
    let edge = finish.border.width;
    let across = wide + 2 * edge;
    let down = tall + 2 * edge;
    let result = kernels.map(outputs, down, across)?;
    let vector = kernels.wide();
    let (kernel, vector) =
        if outputs.is_multiple_of(vector) && source_channels.is_multiple_of(vector) {
            (Kernel::FinishWide, vector)
        } else {
            (Kernel::FinishSingle, 1)
        };
    let (activation, slope) = activation(finish.nonlinearity);
    let arguments = [
        Argument::from(output),
        source_channels.into(),
        finish.phases.into(),
        outputs.into(),
        tall.into(),
        wide.into(),
        scale.into(),
        shift.into(),
        activation.into(),
        slope.into(),
        finish.residual.map(|residual| &residual.tensor).into(),
        (finish.residual.map_or(0, |residual| residual.border) as usize).into(),
        edge.into(),
        padding(finish.border).into(),
        Argument::from(&result),
    ];
    let grid = [
        (across * (outputs / vector)).div_ceil(THREADS),
        down.div_ceil(ROWS),
        1,
    ];
    // SAFETY: the map has the channels that are read, the residual the size of the result without
    // its border, and scale and shift as many numbers as the result has channels.
    unsafe { kernels.launch(kernel, grid, &arguments)? };
    Ok(Map {
        tensor: result,
        border: edge as i64,
    })
}

/// Scale and shift of each of `outputs` channels.
fn moments(
    kernels: &Kernels,
    output: &Tensor,
    (outputs, phases): (usize, usize),
    bias: Option<&Tensor>,
    norm: &Normalisation,
    scratch: &Scratch,
) -> Result<[Tensor; 2]> {
    let size = output.size();
    let pixels = (size[2] * size[3]) as usize;
    let channels = size[1] as usize;
    let (number, given) = match norm {
        Normalisation::Layer { scale, shift } => (2, Some((scale, shift))),
        Normalisation::Adaptive { scale, shift } => (1, Some((scale, shift))),
        _ => (0, None),
    };
    let groups = if number == 2 { phases * phases } else { 1 };
    if channels != outputs * groups {
        return Err(failure(format!(
            "{channels} channels cannot be normalised as {outputs}"
        )));
    }
    let (kernel, vector) = if channels.is_multiple_of(kernels.wide()) {
        (Kernel::MomentsWide, kernels.wide())
    } else {
        (Kernel::MomentsSingle, 1)
    };
    let vectors = channels / vector;
    let lanes = (1..=SLAB / vector)
        .rev()
        .find(|lanes| vectors.is_multiple_of(*lanes))
        .unwrap_or(1);
    let slabs = vectors / lanes;
    if slabs >= COUNTERS {
        return Err(failure(format!("{channels} channels are too many")));
    }
    // Four pixels for each thread at least, and otherwise a few blocks for each multiprocessor.
    let rows = THREADS / lanes;
    let wanted = (4 * kernels.multiprocessors).div_ceil(slabs);
    let blocks = pixels.div_ceil(4 * rows).clamp(1, wanted);
    let chunk = pixels.div_ceil(blocks);
    let blocks = pixels.div_ceil(chunk);

    let partial = 2 * channels * blocks;
    let memory = scratch.take(2 * outputs + 2 * channels + partial, kernels.device)?;
    let mut start = COUNTERS as i64;
    let mut part = |length: usize| {
        let part = memory.f_narrow(0, start, length as i64);
        start += length as i64;
        part
    };
    let (scale, shift) = (part(outputs)?, part(outputs)?);
    let (statistics, partial) = (part(2 * channels)?, part(partial)?);
    let arguments = [
        Argument::from(output),
        pixels.into(),
        channels.into(),
        lanes.into(),
        chunk.into(),
        Argument::from(&partial),
        Argument::from(&memory),
        Argument::from(&statistics),
        number.into(),
        bias.into(),
        given.map(|(scale, _)| scale).into(),
        given.map(|(_, shift)| shift).into(),
        outputs.into(),
        Argument::from(&scale),
        Argument::from(&shift),
    ];
    // SAFETY: the parts of the scratch memory have the lengths that blocks and channels ask for,
    // and the norm's vectors one number for each output.
    unsafe { kernels.launch(kernel, [blocks, slabs, 1], &arguments)? };
    Ok([scale, shift])
}

/// Corrects the phases `[1, 4·O, H, W]` that were computed from `small`, which has a replicated
/// border of one pixel around its `[1, I, H, W]`. `weights`: the outer rows, and the outer columns,
/// of the 5×5 kernel, each `[2, 5, I, O]`.
pub(in crate::runtime) fn correct_ring(
    kernels: &Kernels,
    weights: &[Tensor; 2],
    output: &Tensor,
    small: &Tensor,
) -> Result<()> {
    let size = output.size();
    let (tall, wide) = (size[2] as usize, size[3] as usize);
    let outputs = size[1] as usize / 4;
    let inputs = small.size()[1] as usize;
    let group = outputs.min(THREADS);
    // The rows first: both correct the corners.
    for (weight, along_rows, length) in [(&weights[0], true, wide), (&weights[1], false, tall)] {
        let arguments = [
            Argument::from(output),
            Argument::from(small),
            Argument::from(weight),
            tall.into(),
            wide.into(),
            inputs.into(),
            outputs.into(),
            group.into(),
            i32::from(along_rows).into(),
        ];
        let grid = [(2 * length).div_ceil(POSITIONS), 2, outputs.div_ceil(group)];
        // SAFETY: the maps and weights have the sizes that are passed.
        unsafe { kernels.launch(Kernel::Ring, grid, &arguments)? };
    }
    Ok(())
}
