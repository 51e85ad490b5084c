//! The pieces of which every network here is built. All maps are [batch, channels, height, width].
//!
//! Parameters are float32; each layer computes in the number format of its input, so that a
//! bfloat16 picture runs through the whole network in bfloat16 while gradients and updates stay
//! in float32.

use tch::{Device, Kind, Tensor};

use super::kernels::{Norm, normalise};
use super::parameters::{Role, Scope};
use crate::Result;
use crate::config::{self, Activation, Padding};

/// Numerical guard inside the root of batch norm.
const BATCH_NORM_EPSILON: f64 = 1e-5;

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

    /// For what is not a map: [B, width].
    pub(crate) fn forward(&self, x: Tensor) -> Result<Tensor> {
        match self.linear_slope() {
            Some(0.0) => Ok(x.f_relu()?),
            // tch's leaky_relu has a fixed slope of 0.01.
            Some(slope) => Ok(x.f_maximum(&x.f_mul_scalar(slope)?)?),
            None => self.curve(x),
        }
    }

    /// The factor for negative numbers, if that is all that the activation does.
    fn linear_slope(&self) -> Option<f64> {
        match self.kind {
            Activation::Relu => Some(0.0),
            Activation::Lrelu => Some(0.2),
            Activation::None => Some(1.0),
            Activation::Prelu | Activation::Selu | Activation::Tanh => None,
        }
    }

    fn curve(&self, x: Tensor) -> Result<Tensor> {
        Ok(match (self.kind, &self.slope) {
            (Activation::Prelu, Some(slope)) => x.f_prelu(&slope.f_to_kind(x.kind())?)?,
            (Activation::Selu, _) => x.f_selu()?,
            (Activation::Tanh, _) => x.f_tanh()?,
            _ => x,
        })
    }

    /// `activation(norm(map)) + residual`.
    fn finish(&self, map: &Tensor, norm: Norm, residual: Option<&Tensor>) -> Result<Tensor> {
        match self.linear_slope() {
            Some(1.0) if residual.is_none() && matches!(norm, Norm::None) => {
                Ok(map.shallow_clone())
            }
            Some(slope) => normalise(map, norm, slope, residual),
            None => {
                let normalised = match norm {
                    Norm::None => map.shallow_clone(),
                    norm => normalise(map, norm, 1.0, None)?,
                };
                let activated = self.curve(normalised)?;
                Ok(match residual {
                    Some(residual) => activated.f_add(residual)?,
                    None => activated,
                })
            }
        }
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
    fn new(scope: &Scope, shape: [i64; 4], norm: config::Norm) -> Result<Self> {
        if norm != config::Norm::Spectral {
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
            Self::Spectral { .. } => {
                let divided = divided(&[self])?.into_iter().next();
                divided.ok_or_else(|| crate::Error::Weights("no weight to divide".to_owned()))
            }
        }
    }
}

/// The weights of spectral `kernels` of one shape, [outputs, inputs, height, width] each, divided by
/// their largest singular values. One power iteration estimates those: v ← Wᵀu / ‖Wᵀu‖,
/// u ← W v / ‖W v‖, σ = uᵀ W v. All kernels go through each operation together, since one so small
/// takes a GPU no longer for several.
fn divided(kernels: &[&Kernel]) -> Result<Vec<Tensor>> {
    let spectral: Vec<_> = kernels
        .iter()
        .filter_map(|kernel| match kernel {
            Kernel::Spectral { weight, u, v } => Some((weight, u, v)),
            Kernel::Plain(_) => None,
        })
        .collect();
    let Some((first, ..)) = spectral.first() else {
        return Ok(Vec::new());
    };
    let [outputs, inputs, height, width] = <[i64; 4]>::try_from(first.size()).map_err(|size| {
        crate::Error::Weights(format!("a convolution's weight has shape {size:?}"))
    })?;
    // As convolutions read them, inputs last, which is how training has them in memory.
    let inputs_last = spectral
        .iter()
        .map(|(weight, ..)| weight.f_permute([0, 2, 3, 1]))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let stacked = Tensor::f_stack(&inputs_last, 0)?;
    let count = spectral.len() as i64;
    let matrices = stacked.f_reshape([count, outputs, -1])?;
    let (u, v) = tch::no_grad(|| -> Result<_> {
        let fixed = matrices.f_detach()?;
        let last: Vec<&Tensor> = spectral.iter().map(|(_, u, _)| *u).collect();
        let u = Tensor::f_stack(&last, 0)?.f_unsqueeze(2)?;
        let v = unit_columns(&fixed.f_transpose(1, 2)?.f_matmul(&u)?)?;
        let u = unit_columns(&fixed.f_matmul(&v)?)?;
        // Kept in the order of the published state dicts, inputs first.
        let published = v
            .f_reshape([count, height, width, inputs])?
            .f_permute([0, 3, 1, 2])?
            .f_reshape([count, -1])?;
        for (index, (_, kept_u, kept_v)) in (0..).zip(&spectral) {
            kept_u
                .shallow_clone()
                .f_copy_(&u.f_select(0, index)?.f_squeeze_dim(1)?)?;
            kept_v
                .shallow_clone()
                .f_copy_(&published.f_select(0, index)?)?;
        }
        Ok((u, v))
    })?;
    let sigma = u.f_mul(&matrices.f_matmul(&v)?)?.f_sum_dim_intlist(
        [1i64, 2].as_slice(),
        false,
        Kind::Float,
    )?;
    let divided = stacked
        .f_div(&sigma.f_reshape([count, 1, 1, 1, 1])?)?
        .f_permute([0, 1, 4, 2, 3])?;
    Ok(divided.f_unbind(0)?)
}

/// Columns [N, length, 1] of length 1.
fn unit_columns(columns: &Tensor) -> Result<Tensor> {
    let length = columns.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)?;
    Ok(columns.f_div(&length.f_add_scalar(1e-12)?)?)
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
        norm: config::Norm,
    ) -> Result<Self> {
        let kernel = Kernel::new(scope, [outputs, inputs, size, size], norm)?;
        let bias_scope = match norm {
            config::Norm::Spectral => &scope.enter("module"),
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
        self.forward_with(x, &self.kernel.weight()?)
    }

    fn forward_with(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let kind = x.kind();
        // On the CPU float16 has no backward pass but one for reference, a hundred times slower. Products
        // of rounded numbers, summed up in float32 and rounded, are what a GPU computes, too.
        let inner = match (kind, x.device()) {
            (Kind::Half, Device::Cpu) => Kind::Float,
            _ => kind,
        };
        let rounded = |tensor: &Tensor| tensor.f_to_kind(kind)?.f_to_kind(inner);
        let (weight, bias) = (rounded(weight)?, rounded(&self.bias)?);
        let x = x.f_to_kind(inner)?;
        let y = x.f_conv2d(&weight, Some(&bias), [self.stride; 2], [0, 0], [1, 1], 1)?;
        Ok(y.f_to_kind(kind)?)
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
    fn new(scope: &Scope, norm: config::Norm, channels: i64) -> Result<Self> {
        let scope = scope.enter("norm");
        let shape = [channels];
        Ok(match norm {
            config::Norm::None | config::Norm::Spectral => Self::None,
            config::Norm::Instance => Self::Instance,
            config::Norm::Adain => Self::Adaptive { channels },
            config::Norm::Layer => Self::Layer {
                gamma: scope.make("gamma", &shape, Role::Uniform)?,
                beta: scope.make("beta", &shape, Role::Constant(0.0))?,
            },
            config::Norm::Batch => Self::Batch {
                weight: scope.make("weight", &shape, Role::Constant(1.0))?,
                bias: scope.make("bias", &shape, Role::Constant(0.0))?,
                running_mean: scope.make("running_mean", &shape, Role::Buffer(0.0))?,
                running_var: scope.make("running_var", &shape, Role::Buffer(1.0))?,
            },
        })
    }

    /// `activation(norm(map)) + residual`.
    fn forward(
        &self,
        map: &Tensor,
        adain: &mut AdainParameters,
        activation: &ActivationLayer,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        match self {
            Self::None => activation.finish(map, Norm::None, residual),
            Self::Instance => activation.finish(map, Norm::Instance, residual),
            Self::Adaptive { channels } => {
                let (shift, scale) = &adain.take(*channels)?;
                activation.finish(map, Norm::Adaptive { scale, shift }, residual)
            }
            Self::Layer { gamma, beta } => {
                activation.finish(map, Norm::Layer { gamma, beta }, residual)
            }
            Self::Batch {
                weight,
                bias,
                running_mean,
                running_var,
            } => {
                let normalised = map.f_batch_norm(
                    Some(weight),
                    Some(bias),
                    Some(running_mean),
                    Some(running_var),
                    true,
                    0.1,
                    BATCH_NORM_EPSILON,
                    false,
                )?;
                activation.finish(&normalised, Norm::None, residual)
            }
        }
    }
}

/// The MLP's output, handed out to the AdaIN layers in order.
pub(crate) struct AdainParameters {
    /// [B, number of parameters]; `None` in networks without AdaIN, and once it is in pieces.
    values: Option<Tensor>,
    /// [B, channels] each, the last first.
    pieces: Vec<Tensor>,
}

impl AdainParameters {
    pub(crate) fn new(values: Tensor) -> Self {
        Self {
            values: Some(values),
            pieces: Vec::new(),
        }
    }

    pub(crate) fn none() -> Self {
        Self {
            values: None,
            pieces: Vec::new(),
        }
    }

    /// The next layer's shift and scale, [B, channels] each; the shift comes first. All layers have as
    /// many channels.
    fn take(&mut self, channels: i64) -> Result<(Tensor, Tensor)> {
        if let Some(values) = self.values.take() {
            // At once, since each piece's gradient would be as large as all of them otherwise.
            self.pieces = values.f_split(channels, 1)?;
            self.pieces.reverse();
        }
        let (shift, scale) = (self.pieces.pop(), self.pieces.pop());
        shift.zip(scale).ok_or_else(|| {
            crate::Error::Style("this network needs a style code and was given none".to_owned())
        })
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
        norm: config::Norm,
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
        self.forward_with(x, &self.convolution.kernel.weight()?, adain, None)
    }

    /// What [`Self::forward`] makes without AdaIN of `x`, with a weight of [`Self::weights`].
    pub(crate) fn forward_weighted(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        self.forward_with(x, weight, &mut AdainParameters::none(), None)
    }

    /// The weights of `blocks`, which are alike. Each has its power iteration, if its norm is
    /// spectral.
    pub(crate) fn weights(blocks: &[&Self]) -> Result<Vec<Tensor>> {
        let kernels = blocks.iter().map(|block| &block.convolution.kernel);
        let kernels: Vec<&Kernel> = kernels.collect();
        match kernels.first() {
            Some(Kernel::Spectral { .. }) => divided(&kernels),
            _ => kernels.iter().map(|kernel| kernel.weight()).collect(),
        }
    }

    /// With this weight, and `residual` added at the end.
    fn forward_with(
        &self,
        x: &Tensor,
        weight: &Tensor,
        adain: &mut AdainParameters,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let padded = pad(x, self.margin, self.padding)?;
        let map = self.convolution.forward_with(&padded, weight)?;
        self.norm.forward(&map, adain, &self.activation, residual)
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
        norm: config::Norm,
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
                let weight = second.convolution.kernel.weight()?;
                second.forward_with(&inner, &weight, adain, Some(&x))
            })
    }
}
