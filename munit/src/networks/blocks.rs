//! The pieces of which every network here is built. All maps are [batch, channels, height, width].
//!
//! Parameters are float32; each layer computes in the number format of its input, so that a
//! bfloat16 picture runs through the whole network in bfloat16 while gradients and updates stay
//! in float32.

use tch::{Kind, Tensor};

use super::parameters::{Role, Scope};
use crate::Result;
use crate::config::{Activation, Norm, Padding};

/// Numerical guard inside the root of instance and batch norm.
const NORM_EPSILON: f64 = 1e-5;

/// Continues `map` by `margin` pixels on each side.
pub(crate) fn pad(map: &Tensor, margin: i64, padding: Padding) -> Result<Tensor> {
    if margin == 0 {
        return Ok(map.shallow_clone());
    }
    let margins = [margin; 4];
    Ok(match padding {
        Padding::Reflect => map.f_reflection_pad2d(margins)?,
        Padding::Replicate => map.f_replication_pad2d(margins)?,
        Padding::Zero => map.f_constant_pad_nd(margins)?,
    })
}

/// An activation and its learned slope, if it has one.
#[derive(Debug)]
pub(crate) struct ActivationLayer {
    kind: Activation,
    slope: Option<Tensor>,
}

impl ActivationLayer {
    pub(crate) fn new(scope: &Scope, kind: Activation) -> Result<Self> {
        let slope = match kind {
            Activation::Prelu => Some(scope.enter("activation").make(
                "weight",
                &[1],
                Role::Constant(0.25),
            )?),
            _ => None,
        };
        Ok(Self { kind, slope })
    }

    pub(crate) fn forward(&self, x: Tensor) -> Result<Tensor> {
        Ok(match (self.kind, &self.slope) {
            (Activation::Relu, _) => x.f_relu()?,
            // tch's leaky_relu has a fixed slope of 0.01.
            (Activation::Lrelu, _) => x.f_maximum(&x.f_mul_scalar(0.2)?)?,
            (Activation::Prelu, Some(slope)) => x.f_prelu(&slope.f_to_kind(x.kind())?)?,
            (Activation::Selu, _) => x.f_selu()?,
            (Activation::Tanh, _) => x.f_tanh()?,
            (Activation::None | Activation::Prelu, _) => x,
        })
    }
}

/// A convolution's weight, plain or divided by its largest singular value.
#[derive(Debug)]
enum Kernel {
    Plain(Tensor),
    /// Miyato et al., arXiv 1802.05957: one power iteration each time the weight is used.
    Spectral {
        weight: Tensor,
        u: Tensor,
        v: Tensor,
    },
}

impl Kernel {
    fn new(scope: &Scope, shape: [i64; 4], norm: Norm) -> Result<Self> {
        if norm != Norm::Spectral {
            return Ok(Self::Plain(scope.make("weight", &shape, Role::Weight)?));
        }
        let columns = shape[1..].iter().product();
        let scope = scope.enter("module");
        Ok(Self::Spectral {
            weight: scope.make("weight_bar", &shape, Role::Weight)?,
            u: scope.make("weight_u", &shape[..1], Role::UnitVector)?,
            v: scope.make("weight_v", &[columns], Role::UnitVector)?,
        })
    }

    fn weight(&self) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => Ok(weight.shallow_clone()),
            Self::Spectral { weight, u, v } => {
                let matrix = weight.f_reshape([weight.size()[0], -1])?;
                tch::no_grad(|| -> Result<()> {
                    let fixed = matrix.f_detach()?;
                    v.shallow_clone().f_copy_(&unit(&fixed.f_tr()?.f_mv(u)?)?)?;
                    u.shallow_clone().f_copy_(&unit(&fixed.f_mv(v)?)?)?;
                    Ok(())
                })?;
                // Copies, since the next use overwrites both before this one's backward pass.
                let sigma = copy(u)?.f_dot(&matrix.f_mv(&copy(v)?)?)?;
                Ok(weight.f_div(&sigma)?)
            }
        }
    }
}

fn copy(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_to_dtype(tensor.kind(), false, true)?)
}

fn unit(vector: &Tensor) -> Result<Tensor> {
    Ok(vector.f_div(&vector.f_norm()?.f_add_scalar(1e-12)?)?)
}

/// A convolution with bias.
#[derive(Debug)]
pub(crate) struct Convolution {
    kernel: Kernel,
    bias: Tensor,
    stride: i64,
}

impl Convolution {
    pub(crate) fn new(
        scope: &Scope,
        [inputs, outputs]: [i64; 2],
        size: i64,
        stride: i64,
        norm: Norm,
    ) -> Result<Self> {
        let kernel = Kernel::new(scope, [outputs, inputs, size, size], norm)?;
        let bias_scope = match norm {
            Norm::Spectral => &scope.enter("module"),
            _ => scope,
        };
        let fan_in = inputs * size * size;
        let bias = bias_scope.make("bias", &[outputs], Role::Bias { fan_in })?;
        Ok(Self {
            kernel,
            bias,
            stride,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = self.kernel.weight()?.f_to_kind(x.kind())?;
        let bias = self.bias.f_to_kind(x.kind())?;
        Ok(x.f_conv2d(&weight, Some(&bias), [self.stride; 2], [0, 0], [1, 1], 1)?)
    }
}

/// A norm with what it learns.
#[derive(Debug)]
enum NormLayer {
    None,
    Instance,
    Adaptive {
        channels: i64,
    },
    Layer {
        gamma: Tensor,
        beta: Tensor,
    },
    Batch {
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
    },
}

impl NormLayer {
    fn new(scope: &Scope, norm: Norm, channels: i64) -> Result<Self> {
        let scope = scope.enter("norm");
        let shape = [channels];
        Ok(match norm {
            Norm::None | Norm::Spectral => Self::None,
            Norm::Instance => Self::Instance,
            Norm::Adain => Self::Adaptive { channels },
            Norm::Layer => Self::Layer {
                gamma: scope.make("gamma", &shape, Role::Uniform)?,
                beta: scope.make("beta", &shape, Role::Constant(0.0))?,
            },
            Norm::Batch => Self::Batch {
                weight: scope.make("weight", &shape, Role::Constant(1.0))?,
                bias: scope.make("bias", &shape, Role::Constant(0.0))?,
                running_mean: scope.make("running_mean", &shape, Role::Buffer(0.0))?,
                running_var: scope.make("running_var", &shape, Role::Buffer(1.0))?,
            },
        })
    }

    fn forward(&self, x: Tensor, adain: &mut AdainParameters) -> Result<Tensor> {
        match self {
            Self::None => Ok(x),
            Self::Instance => instance_norm(&x, None),
            Self::Adaptive { channels } => {
                let (shift, scale) = adain.take(*channels)?;
                instance_norm(&x, Some((&scale, &shift)))
            }
            Self::Layer { gamma, beta } => layer_norm(&x, gamma, beta),
            Self::Batch {
                weight,
                bias,
                running_mean,
                running_var,
            } => Ok(x.f_batch_norm(
                Some(weight),
                Some(bias),
                Some(running_mean),
                Some(running_var),
                true,
                0.1,
                NORM_EPSILON,
                false,
            )?),
        }
    }
}

/// Instance norm (biased variance) of `x`, then with `affine` = (scale, shift), both [B, C]:
/// `y · scale + shift`.
///
/// Every sample's every channel is a channel of one batch norm, whose backward pass is several
/// times faster than group norm's; a batch of one keeps its memory layout.
fn instance_norm(x: &Tensor, affine: Option<(&Tensor, &Tensor)>) -> Result<Tensor> {
    let size = x.size();
    let flat = match size[0] {
        1 => x.shallow_clone(),
        batch => x.f_reshape([1, batch * size[1], size[2], size[3]])?,
    };
    let flatten = |values: &Tensor| values.f_reshape([-1]);
    let (scale, shift) = match affine {
        Some((scale, shift)) => (Some(flatten(scale)?), Some(flatten(shift)?)),
        None => (None, None),
    };
    let normalised = flat.f_batch_norm(
        scale.as_ref(),
        shift.as_ref(),
        None,
        None,
        true,
        0.0,
        NORM_EPSILON,
        false,
    )?;
    Ok(normalised.f_reshape(size)?)
}

/// MUNIT's layer norm: (x − mean) / (unbiased deviation + 1e-5) over all of a sample, then a
/// scale and a shift for each channel.
fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Result<Tensor> {
    let dimensions = [1i64, 2, 3];
    let wide = x.f_to_kind(Kind::Float)?;
    let (variance, mean) = wide.f_var_mean_correction(dimensions.as_slice(), 1, true)?;
    let inverse = variance
        .f_sqrt()?
        .f_add_scalar(NORM_EPSILON)?
        .f_reciprocal()?;
    // One scale and one shift for each channel: a single pass over the map.
    let scale = inverse.f_mul(&gamma.f_reshape([1, -1, 1, 1])?)?;
    let shift = beta.f_reshape([1, -1, 1, 1])?.f_sub(&mean.f_mul(&scale)?)?;
    let kind = x.kind();
    Ok(x.f_mul(&scale.f_to_kind(kind)?)?
        .f_add(&shift.f_to_kind(kind)?)?)
}

/// The MLP's output, handed out to the AdaIN layers in order.
pub(crate) struct AdainParameters {
    /// [B, number of parameters]; `None` in networks without AdaIN.
    values: Option<Tensor>,
    position: i64,
}

impl AdainParameters {
    pub(crate) fn new(values: Tensor) -> Self {
        Self {
            values: Some(values),
            position: 0,
        }
    }

    pub(crate) fn none() -> Self {
        Self {
            values: None,
            position: 0,
        }
    }

    /// The next layer's shift and scale, [B, channels] each; the shift comes first.
    fn take(&mut self, channels: i64) -> Result<(Tensor, Tensor)> {
        let values = self.values.as_ref().ok_or_else(|| {
            crate::Error::Style("this network needs a style code and was given none".to_owned())
        })?;
        let shift = values.f_narrow(1, self.position, channels)?;
        let scale = values.f_narrow(1, self.position + channels, channels)?;
        self.position += 2 * channels;
        Ok((shift, scale))
    }
}

/// Options that all blocks of a network share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockStyle {
    pub(crate) activation: Activation,
    pub(crate) padding: Padding,
}

/// Pad → convolution → norm → activation.
#[derive(Debug)]
pub(crate) struct ConvBlock {
    margin: i64,
    padding: Padding,
    convolution: Convolution,
    norm: NormLayer,
    activation: ActivationLayer,
}

impl ConvBlock {
    /// `shape`: kernel size, stride, padding.
    pub(crate) fn new(
        scope: &Scope,
        channels: [i64; 2],
        [size, stride, margin]: [i64; 3],
        norm: Norm,
        style: BlockStyle,
    ) -> Result<Self> {
        Ok(Self {
            margin,
            padding: style.padding,
            norm: NormLayer::new(scope, norm, channels[1])?,
            convolution: Convolution::new(&scope.enter("conv"), channels, size, stride, norm)?,
            activation: ActivationLayer::new(scope, style.activation)?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor, adain: &mut AdainParameters) -> Result<Tensor> {
        let padded = pad(x, self.margin, self.padding)?;
        let normalised = self
            .norm
            .forward(self.convolution.forward(&padded)?, adain)?;
        self.activation.forward(normalised)
    }
}

/// Two 3×3 conv blocks around which the input is added; nothing after the sum.
#[derive(Debug)]
struct ResidualBlock([ConvBlock; 2]);

/// A chain of residual blocks.
#[derive(Debug)]
pub(crate) struct ResidualBlocks(Vec<ResidualBlock>);

impl ResidualBlocks {
    pub(crate) fn new(
        scope: &Scope,
        count: i64,
        channels: i64,
        norm: Norm,
        style: BlockStyle,
    ) -> Result<Self> {
        let last = BlockStyle {
            activation: Activation::None,
            ..style
        };
        let block =
            |scope: Scope, style| ConvBlock::new(&scope, [channels; 2], [3, 1, 1], norm, style);
        (0..count)
            .map(|index| {
                let scope = scope.enter("model").enter(index).enter("model");
                Ok(ResidualBlock([
                    block(scope.enter(0), style)?,
                    block(scope.enter(1), last)?,
                ]))
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    pub(crate) fn forward(&self, x: Tensor, adain: &mut AdainParameters) -> Result<Tensor> {
        self.0
            .iter()
            .try_fold(x, |x, ResidualBlock([first, second])| {
                let inner = first.forward(&x, adain)?;
                Ok(second.forward(&inner, adain)?.f_add(&x)?)
            })
    }
}
