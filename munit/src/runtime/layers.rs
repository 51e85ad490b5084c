//! The layers of a generator, with weights packed for one device and number format.

use half::bf16;
use tch::{Device, Kind, Tensor};

use super::border::Border;
use super::cuda::{self, Folded, Kernels};
use super::element::as_channels_last;
use super::kernels::{self, Finish, Sums};
use super::memory::Pool;
use super::ring::Ring;
use super::weights::Weights;
#[cfg(target_arch = "x86_64")]
use super::{
    direct::Direct, tile_convolution::TileConvolution, vector::Vectors, winograd::Winograd,
};
use crate::Result;
use crate::config::{Activation, Padding};

/// Added to the variance (instance norm, inside the root) or the deviation (layer norm, outside).
pub(super) const EPSILON: f64 = 1e-5;

/// Where and in which format layers compute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    pub(super) device: Device,
    pub(super) kind: Kind,
    /// What computes everything but the convolutions, instead of libtorch.
    pub(super) kernels: Option<&'static Kernels>,
}

impl Placement {
    /// Moves a single-precision convolution weight there, channels last.
    pub(super) fn pack(self, weight: &Tensor) -> Result<Tensor> {
        let weight = weight.f_to_device(self.device)?.f_to_kind(self.kind)?;
        as_channels_last(&weight)
    }
}

/// A channels-last feature map `[1, C, H + 2·border, W + 2·border]`.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) tensor: Tensor,
    pub(super) border: i64,
}

impl Map {
    /// The map without its border: `[1, C, H, W]`.
    pub(super) fn interior(&self) -> Result<Tensor> {
        let size = self.tensor.size();
        let interior = self
            .tensor
            .f_narrow(2, self.border, size[2] - 2 * self.border)?
            .f_narrow(3, self.border, size[3] - 2 * self.border)?;
        Ok(interior)
    }

    /// Lets later layers write here.
    pub(super) fn recycle(self, pool: &Pool) {
        // Elsewhere libtorch keeps freed memory itself.
        if self.tensor.device() == Device::Cpu {
            pool.give(self.tensor);
        }
    }
}

/// An activation with its learned slope, if any.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Nonlinearity {
    None,
    Relu,
    Leaky(f32),
    Selu,
    Tanh,
}

impl Nonlinearity {
    /// `name`: path of the block that it ends, for the learned slope.
    pub(super) fn new(activation: Activation, weights: &Weights, name: &str) -> Result<Self> {
        Ok(match activation {
            Activation::Relu => Self::Relu,
            Activation::Lrelu => Self::Leaky(0.2),
            Activation::Prelu => {
                let slope = weights.tensor(&format!("{name}.activation.weight"), &[1])?;
                Self::Leaky(slope.f_double_value(&[0])? as f32)
            }
            Activation::Selu => Self::Selu,
            Activation::Tanh => Self::Tanh,
            Activation::None => Self::None,
        })
    }

    /// The factor for negative numbers, if that is all that the activation does.
    pub(super) fn slope(self) -> Option<f32> {
        match self {
            Self::None => Some(1.0),
            Self::Relu => Some(0.0),
            Self::Leaky(slope) => Some(slope),
            Self::Selu | Self::Tanh => None,
        }
    }

    pub(super) fn apply(self, mut values: Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::None => values,
            Self::Relu => values.f_relu_()?,
            Self::Leaky(slope) => {
                let slope = Tensor::f_from_slice(&[slope])?
                    .f_to_device(values.device())?
                    .f_to_kind(values.kind())?;
                values.f_prelu(&slope)?
            }
            Self::Selu => values.f_selu_()?,
            Self::Tanh => values.f_tanh_()?,
        })
    }
}

/// What a convolution's output is normalised with; scales and shifts are single-precision
/// vectors, one number a channel.
#[derive(Debug)]
pub(super) enum Normalisation {
    None,
    /// Without affine parameters.
    Instance,
    /// Its parameters come from the style code.
    Adaptive {
        scale: Tensor,
        shift: Tensor,
    },
    /// Over channels and positions, with the unbiased deviation.
    Layer {
        scale: Tensor,
        shift: Tensor,
    },
}

impl Normalisation {
    /// The same normalisation in the same memory.
    fn share(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Instance => Self::Instance,
            Self::Adaptive { scale, shift } => Self::Adaptive {
                scale: scale.shallow_clone(),
                shift: shift.shallow_clone(),
            },
            Self::Layer { scale, shift } => Self::Layer {
                scale: scale.shallow_clone(),
                shift: shift.shallow_clone(),
            },
        }
    }
}

/// How a convolution is computed.
enum Kernel {
    Libtorch {
        weight: Tensor,
        bias: Option<Tensor>,
        stride: i64,
    },
    /// libtorch's convolution, without the bias, which is left to the kernels.
    Unbiased {
        weight: Tensor,
        /// In single precision.
        bias: Option<Tensor>,
        stride: i64,
        kernels: &'static Kernels,
    },
    #[cfg(target_arch = "x86_64")]
    Single(Vectorised<f32>),
    #[cfg(target_arch = "x86_64")]
    Half(Vectorised<bf16>),
    #[cfg(target_arch = "x86_64")]
    Tiles(TileConvolution),
}

/// A convolution with our own kernels, over maps of `T`.
#[cfg(target_arch = "x86_64")]
#[derive(Clone)]
enum Vectorised<T> {
    Winograd(Winograd<T>),
    Direct(Direct<T>),
}

#[cfg(target_arch = "x86_64")]
impl<T: Vectors> Vectorised<T> {
    /// `None` where the processor does not suit.
    fn new(weight: &Tensor, bias: Option<&Tensor>, stride: i64) -> Result<Option<Self>> {
        if stride == 1
            && let Some(winograd) = Winograd::new(weight, bias)?
        {
            return Ok(Some(Self::Winograd(winograd)));
        }
        Ok(Direct::new(weight, bias, stride as usize)?.map(Self::Direct))
    }

    fn forward(&self, padded: &Tensor, pool: &Pool) -> Result<Tensor> {
        match self {
            Self::Winograd(winograd) => winograd.forward(padded, pool),
            Self::Direct(direct) => direct.forward(padded, pool),
        }
    }
}

impl Kernel {
    /// The same kernel in the same memory.
    fn share(&self) -> Self {
        match self {
            Self::Libtorch {
                weight,
                bias,
                stride,
            } => Self::Libtorch {
                weight: weight.shallow_clone(),
                bias: bias.as_ref().map(Tensor::shallow_clone),
                stride: *stride,
            },
            Self::Unbiased {
                weight,
                bias,
                stride,
                kernels,
            } => Self::Unbiased {
                weight: weight.shallow_clone(),
                bias: bias.as_ref().map(Tensor::shallow_clone),
                stride: *stride,
                kernels,
            },
            #[cfg(target_arch = "x86_64")]
            Self::Single(kernel) => Self::Single(kernel.clone()),
            #[cfg(target_arch = "x86_64")]
            Self::Half(kernel) => Self::Half(kernel.clone()),
            #[cfg(target_arch = "x86_64")]
            Self::Tiles(kernel) => Self::Tiles(kernel.clone()),
        }
    }

    fn new(
        weight: &Tensor,
        bias: Option<&Tensor>,
        stride: i64,
        placement: Placement,
    ) -> Result<Self> {
        if let Some(kernels) = placement.kernels {
            return Ok(Self::Unbiased {
                weight: placement.pack(weight)?,
                bias: bias
                    .map(|bias| bias.f_to_device(placement.device))
                    .transpose()?,
                stride,
                kernels,
            });
        }
        #[cfg(target_arch = "x86_64")]
        if placement.device == Device::Cpu {
            let kernel = match placement.kind {
                Kind::Float => Vectorised::new(weight, bias, stride)?.map(Self::Single),
                Kind::BFloat16 => match TileConvolution::new(weight, bias, stride as usize)? {
                    Some(kernel) => Some(Self::Tiles(kernel)),
                    None => Vectorised::new(weight, bias, stride)?.map(Self::Half),
                },
                _ => None,
            };
            if let Some(kernel) = kernel {
                return Ok(kernel);
            }
        }
        let bias = bias
            .map(|bias| {
                bias.f_to_device(placement.device)?
                    .f_to_kind(placement.kind)
            })
            .transpose()?;
        Ok(Self::Libtorch {
            weight: placement.pack(weight)?,
            bias,
            stride,
        })
    }
}

/// A convolution over maps that already have their border.
pub(super) struct Convolution {
    kernel: Kernel,
    border: Border,
    /// Channels of the output that count.
    outputs: i64,
    /// Where the kernel's columns are channels.
    folded: Option<Folded>,
}

/// Convolutions of 16-bit numbers are fast where channels are multiples of this.
const CHANNEL_MULTIPLE: i64 = 8;

impl Convolution {
    /// `shape`: output channels, input channels, kernel height, kernel width.
    pub(super) fn new(
        weights: &Weights,
        name: &str,
        shape: [i64; 4],
        stride: i64,
        border: Border,
        placement: Placement,
    ) -> Result<Self> {
        let weight = weights.tensor(&format!("{name}.conv.weight"), &shape)?;
        let bias = weights.tensor(&format!("{name}.conv.bias"), &shape[..1])?;
        Self::from_tensors(&weight, Some(&bias), stride, border, placement)
    }

    /// A stride-1 convolution that computes the pixels of each square of `phases` x `phases` as
    /// groups of channels, which need rows and columns in this multiple: three output channels
    /// would use three lanes of a vector of sixteen, or three columns of a matrix product that is
    /// made of 64. The kernel grows by `phases` - 1 rows and columns, which each phase leaves
    /// empty.
    pub(super) fn with_phases(
        weights: &Weights,
        name: &str,
        shape: [i64; 4],
        phases: i64,
        border: Border,
        placement: Placement,
    ) -> Result<Self> {
        let weight = weights.tensor(&format!("{name}.conv.weight"), &shape)?;
        let bias = weights.tensor(&format!("{name}.conv.bias"), &shape[..1])?;
        let last = phases - 1;
        let groups: Vec<Tensor> = (0..phases * phases)
            .map(|phase| (phase / phases, phase % phases))
            .map(|(y, x)| weight.f_constant_pad_nd([x, last - x, y, last - y]))
            .collect::<Result<_, _>>()?;
        let mut weight = Tensor::f_cat(&groups, 0)?;
        let bias = bias.f_repeat([phases * phases])?;
        let outputs = weight.size()[0];
        if placement.kernels.is_some() {
            let missing = (CHANNEL_MULTIPLE - outputs % CHANNEL_MULTIPLE) % CHANNEL_MULTIPLE;
            weight = weight.f_constant_pad_nd([0, 0, 0, 0, 0, 0, 0, missing])?;
        }
        let convolution = Self::from_tensors(&weight, Some(&bias), phases, border, placement)?;
        Ok(Self {
            outputs,
            ..convolution
        })
    }

    /// A stride-1 convolution of a picture whose kernel is one column of many channels instead of
    /// several columns of one or three, which use few of a matrix product's lanes.
    pub(super) fn with_folded_columns(
        weights: &Weights,
        name: &str,
        shape: [i64; 4],
        border: Border,
        placement: Placement,
    ) -> Result<Self> {
        let weight = weights.tensor(&format!("{name}.conv.weight"), &shape)?;
        let bias = weights.tensor(&format!("{name}.conv.bias"), &shape[..1])?;
        let [outputs, colours, tall, taps] = shape;
        let channels = taps * colours;
        let stored = (channels as u64).next_power_of_two() as i64;
        let stored = stored.max(CHANNEL_MULTIPLE);
        let weight = weight
            .f_permute([0, 3, 1, 2])?
            .f_reshape([outputs, channels, tall, 1])?
            .f_constant_pad_nd([0, 0, 0, 0, 0, stored - channels])?;
        let convolution = Self::from_tensors(&weight, Some(&bias), 1, border, placement)?;
        Ok(Self {
            folded: Some(Folded {
                taps: taps as usize,
                colours: colours as usize,
                stored: stored as usize,
            }),
            ..convolution
        })
    }

    fn from_tensors(
        weight: &Tensor,
        bias: Option<&Tensor>,
        stride: i64,
        border: Border,
        placement: Placement,
    ) -> Result<Self> {
        Ok(Self {
            kernel: Kernel::new(weight, bias, stride, placement)?,
            border,
            outputs: weight.size()[0],
            folded: None,
        })
    }

    fn share(&self) -> Self {
        Self {
            kernel: self.kernel.share(),
            ..*self
        }
    }

    /// What it computes from a map.
    pub(super) fn description(&self, padded: &Tensor) -> String {
        let size = padded.size();
        let (inputs, outputs) = (size[1], self.outputs);
        format!(
            "convolution of {inputs} to {outputs} channels, {}x{}",
            size[3], size[2]
        )
    }

    /// Channels of the output that count, all phases together.
    pub(super) fn outputs(&self) -> usize {
        self.outputs as usize
    }

    /// How it takes pictures, if not as they are.
    pub(super) fn folded(&self) -> Option<Folded> {
        self.folded
    }

    /// What [`Self::forward`] has not added to the output, one number a channel.
    pub(super) fn bias(&self) -> Option<&Tensor> {
        match &self.kernel {
            Kernel::Unbiased { bias, .. } => bias.as_ref(),
            _ => None,
        }
    }

    /// The output, and the sums of its channels where they cost nothing.
    pub(super) fn forward(&self, padded: &Tensor, pool: &Pool) -> Result<(Tensor, Option<Sums>)> {
        match &self.kernel {
            Kernel::Libtorch {
                weight,
                bias,
                stride,
            } => {
                let output = convolve(padded, weight, bias.as_ref(), *stride)?;
                Ok((output, None))
            }
            Kernel::Unbiased { weight, stride, .. } => {
                let output = match self.folded {
                    Some(folded) if padded.size()[1] == folded.colours as i64 => {
                        convolve(&fold(padded, folded)?, weight, None, *stride)?
                    }
                    _ => convolve(padded, weight, None, *stride)?,
                };
                Ok((output, None))
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Single(kernel) => Ok((kernel.forward(padded, pool)?, None)),
            #[cfg(target_arch = "x86_64")]
            Kernel::Half(kernel) => Ok((kernel.forward(padded, pool)?, None)),
            #[cfg(target_arch = "x86_64")]
            Kernel::Tiles(kernel) => {
                let (output, sums) = kernel.forward(padded, pool)?;
                Ok((output, Some(sums)))
            }
        }
    }

    /// Lets the next convolution write where [`Self::forward`] has written `output`.
    fn recycle(&self, output: Tensor, pool: &Pool) {
        match &self.kernel {
            // libtorch takes its memory from elsewhere.
            Kernel::Libtorch { .. } | Kernel::Unbiased { .. } => drop(output),
            #[cfg(target_arch = "x86_64")]
            Kernel::Single(_) | Kernel::Half(_) | Kernel::Tiles(_) => pool.give(output),
        }
    }
}

/// libtorch's convolution without padding. On a CUDA device single precision is just that:
/// libtorch's own choice would round factors to ten bits.
fn convolve(
    padded: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: i64,
) -> Result<Tensor> {
    if padded.device() == Device::Cpu {
        return Ok(padded.f_conv2d(weight, bias, stride, 0, 1, 1)?);
    }
    let (benchmark, deterministic, cudnn, tf32) = (true, false, true, false);
    Ok(padded.f_internal_convolution(
        weight,
        bias,
        [stride; 2],
        [0; 2],
        [1; 2],
        false,
        [0; 2],
        1,
        benchmark,
        deterministic,
        cudnn,
        tf32,
    )?)
}

/// Makes a picture's columns, next to one another under the kernel, channels; the picture has its
/// border.
fn fold(padded: &Tensor, folded: Folded) -> Result<Tensor> {
    let taps = folded.taps as i64;
    let wide = padded.size()[3] - (taps - 1);
    let columns: Vec<Tensor> = (0..taps)
        .map(|tap| padded.f_narrow(3, tap, wide))
        .collect::<Result<_, _>>()?;
    let missing = (folded.stored - folded.taps * folded.colours) as i64;
    let channels = Tensor::f_cat(&columns, 1)?.f_constant_pad_nd([0, 0, 0, 0, 0, missing])?;
    as_channels_last(&channels)
}

/// Convolution, norm and activation.
pub(super) struct Block {
    pub(super) convolution: Convolution,
    /// Side of the squares that the convolution computes as groups of channels:
    /// [`Convolution::with_phases`].
    pub(super) phases: usize,
    pub(super) norm: Normalisation,
    pub(super) nonlinearity: Nonlinearity,
}

impl Block {
    /// The same block with its weights in the same memory.
    pub(super) fn share(&self) -> Self {
        Self {
            convolution: self.convolution.share(),
            phases: self.phases,
            norm: self.norm.share(),
            nonlinearity: self.nonlinearity,
        }
    }

    /// What its input must be surrounded by.
    pub(super) fn border(&self) -> Border {
        self.convolution.border
    }

    /// `residual`: a map that is added to the block's output; `border`: what its output is
    /// surrounded by.
    pub(super) fn forward(
        &self,
        map: &Map,
        residual: Option<&Map>,
        border: Border,
        pool: &Pool,
    ) -> Result<Map> {
        let (output, sums) = self.convolution.forward(&map.tensor, pool)?;
        pool.lap(output.device(), || {
            self.convolution.description(&map.tensor)
        })?;
        let finished = finish(
            &self.convolution,
            &output,
            sums.as_ref(),
            &Finish {
                norm: &self.norm,
                nonlinearity: self.nonlinearity,
                residual,
                phases: self.phases,
                border,
            },
            pool,
        )?;
        self.convolution.recycle(output, pool);
        pool.lap(finished.tensor.device(), || {
            "norm, activation, border".to_owned()
        })?;
        Ok(finished)
    }
}

/// Nearest-neighbour enlargement ×2 and a 5×5 convolution, computed as one 3×3 convolution on
/// the small map that yields the four pixels of each 2×2 square as groups of channels.
///
/// Tap u of the 5×5 kernel at an output pixel of phase p falls on the small map's offset
/// ⌊(p + u)/2⌋, so the taps that share an offset are summed once.
pub(super) struct Upsample {
    convolution: Convolution,
    /// Where a border is reflected.
    ring: Option<Ring>,
    norm: Normalisation,
    nonlinearity: Nonlinearity,
}

impl Upsample {
    /// `channels`: of the output; the input has twice as many.
    pub(super) fn new(
        weights: &Weights,
        name: &str,
        channels: i64,
        padding: Padding,
        activation: Activation,
        placement: Placement,
    ) -> Result<Self> {
        let shape = [channels, 2 * channels, 5, 5];
        let weight = weights.tensor(&format!("{name}.conv.weight"), &shape)?;
        let bias = weights.tensor(&format!("{name}.conv.bias"), &[channels])?;
        let vector = |suffix: &str| -> Result<Tensor> {
            let vector = weights.tensor(&format!("{name}.norm.{suffix}"), &[channels])?;
            Ok(vector.f_to_device(placement.device)?)
        };
        // The reflected border of the enlarged map is not an enlarged border of the small map;
        // a replicated one differs from it only in what the outermost ring sees.
        let (border, ring) = match padding {
            Padding::Reflect => (Padding::Replicate, Some(Ring::new(&weight, placement)?)),
            other => (other, None),
        };
        let border = Border {
            width: 1,
            padding: border,
        };
        let convolution = Convolution::from_tensors(
            &phase_weight(&weight)?,
            Some(&bias.f_repeat([4])?),
            1,
            border,
            placement,
        )?;
        Ok(Self {
            convolution,
            ring,
            norm: Normalisation::Layer {
                scale: vector("gamma")?,
                shift: vector("beta")?,
            },
            nonlinearity: Nonlinearity::new(activation, weights, name)?,
        })
    }

    /// The same layer with its weights in the same memory.
    pub(super) fn share(&self) -> Self {
        Self {
            convolution: self.convolution.share(),
            ring: self.ring.as_ref().map(Ring::share),
            norm: self.norm.share(),
            nonlinearity: self.nonlinearity,
        }
    }

    /// What its input must be surrounded by.
    pub(super) fn border(&self) -> Border {
        self.convolution.border
    }

    /// `border`: what its output is surrounded by.
    pub(super) fn forward(&self, map: &Map, border: Border, pool: &Pool) -> Result<Map> {
        let (mut output, mut sums) = self.convolution.forward(&map.tensor, pool)?;
        pool.lap(output.device(), || {
            self.convolution.description(&map.tensor)
        })?;
        if let Some(ring) = &self.ring {
            ring.correct(&mut output, sums.as_mut(), map)?;
            pool.lap(output.device(), || "outermost ring".to_owned())?;
        }
        let finished = finish(
            &self.convolution,
            &output,
            sums.as_ref(),
            &Finish {
                norm: &self.norm,
                nonlinearity: self.nonlinearity,
                residual: None,
                phases: 2,
                border,
            },
            pool,
        )?;
        self.convolution.recycle(output, pool);
        pool.lap(finished.tensor.device(), || {
            "norm, activation, border".to_owned()
        })?;
        Ok(finished)
    }
}

/// `[O, I, 5, 5]` → `[4·O, I, 3, 3]`, the four phases (top left, top right, bottom left, bottom
/// right) one after the other.
fn phase_weight(weight: &Tensor) -> Result<Tensor> {
    let mut taps = [0_f32; 2 * 3 * 5];
    for phase in 0..2 {
        for tap in 0..5 {
            taps[(phase * 3 + (phase + tap) / 2) * 5 + tap] = 1.0;
        }
    }
    let taps = Tensor::f_from_slice(&taps)?
        .f_reshape([2, 3, 5])?
        .f_to_kind(Kind::Double)?;
    let weight = weight.f_to_kind(Kind::Double)?;
    let phases = Tensor::f_einsum(
        "psu,qtv,oiuv->pqoist",
        &[&taps, &taps, &weight],
        None::<&[i64]>,
    )?;
    let size = weight.size();
    Ok(phases
        .f_reshape([4 * size[0], size[1], 3, 3])?
        .f_to_kind(Kind::Float)?)
}

/// `[1, 4·C, H, W]` → `[1, C, 2·H, 2·W]`: the inverse of the phases' grouping.
fn shuffle(output: &Tensor) -> Result<Tensor> {
    let size = output.size();
    let (channels, height, width) = (size[1] / 4, size[2], size[3]);
    let pixels = output
        .f_permute([0, 2, 3, 1])?
        .f_reshape([1, height, width, 2, 2, channels])?
        .f_permute([0, 1, 3, 2, 4, 5])?
        .f_reshape([1, 2 * height, 2 * width, channels])?;
    Ok(pixels.f_permute([0, 3, 1, 2])?)
}

/// Norm, activation, sum with a residual, border, of a convolution's output; `sums`: those of the
/// output, if they are known.
fn finish(
    convolution: &Convolution,
    output: &Tensor,
    sums: Option<&Sums>,
    finish: &Finish,
    pool: &Pool,
) -> Result<Map> {
    if let Kernel::Unbiased { kernels, bias, .. } = &convolution.kernel {
        let outputs = convolution.outputs() / finish.phases.pow(2);
        let scratch = pool.scratch();
        return cuda::finish(kernels, output, outputs, bias.as_ref(), finish, scratch);
    }
    match (output.device(), output.kind()) {
        (Device::Cpu, Kind::Float) => kernels::finish::<f32>(output, sums, finish, pool),
        (Device::Cpu, Kind::BFloat16) => kernels::finish::<bf16>(output, sums, finish, pool),
        _ => finish_with_libtorch(output, finish),
    }
}

fn finish_with_libtorch(output: &Tensor, finish: &Finish) -> Result<Map> {
    let output = if finish.phases == 2 {
        shuffle(output)?
    } else {
        output.shallow_clone()
    };
    let normalised = match finish.norm {
        Normalisation::None => output,
        Normalisation::Instance => instance_norm(&output, None)?,
        Normalisation::Adaptive { scale, shift } => instance_norm(&output, Some((scale, shift)))?,
        Normalisation::Layer { scale, shift } => layer_norm(&output, scale, shift)?,
    };
    let mut sum = finish.nonlinearity.apply(normalised)?;
    if let Some(residual) = finish.residual {
        sum = sum.f_add_(&residual.interior()?)?;
    }
    Ok(Map {
        tensor: finish.border.surround(&sum)?,
        border: finish.border.width as i64,
    })
}

/// For one picture, instance norm is batch norm in training mode, which keeps channels last.
fn instance_norm(map: &Tensor, affine: Option<(&Tensor, &Tensor)>) -> Result<Tensor> {
    Ok(map.f_batch_norm(
        affine.map(|(scale, _)| scale),
        affine.map(|(_, shift)| shift),
        None,
        None,
        true,
        0.0,
        EPSILON,
        true,
    )?)
}

fn layer_norm(map: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let single = map.f_to_kind(Kind::Float)?;
    let mean = single.f_mean(None)?;
    let deviation = single.f_std(true)?;
    let scale = scale.f_div(&deviation.f_add_scalar(EPSILON)?)?;
    let shift = shift.f_sub(&scale.f_mul(&mean)?)?;
    let column = [1, -1, 1, 1];
    let normalised = single
        .f_mul(&scale.f_reshape(column)?)?
        .f_add_(&shift.f_reshape(column)?)?;
    Ok(normalised.f_to_kind(map.kind())?)
}
