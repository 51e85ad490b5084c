//! The auto-encoders of MUNIT and UNIT.

use tch::{Kind, Tensor};

use super::blocks::{
    ActivationLayer, AdainParameters, BlockStyle, ConvBlock, Convolution, ResidualBlocks,
};
use super::parameters::{Parameter, ParameterStore, Role, Scope};
use crate::config::{Activation, Architecture, Domain, Family, GeneratorConfig, Norm};
use crate::{Error, Result};

/// Picture → content code.
#[derive(Debug)]
struct ContentEncoder {
    blocks: Vec<ConvBlock>,
    residual: ResidualBlocks,
}

impl ContentEncoder {
    fn new(scope: &Scope, config: &GeneratorConfig, channels: i64) -> Result<Self> {
        let scope = scope.enter("model");
        let style = block_style(config);
        let mut width = config.dim;
        let mut blocks = vec![ConvBlock::new(
            &scope.enter(0),
            [channels, width],
            [7, 1, 3],
            Norm::Instance,
            style,
        )?];
        for index in 1..=config.n_downsample {
            let shape = [width, 2 * width];
            blocks.push(ConvBlock::new(
                &scope.enter(index),
                shape,
                [4, 2, 1],
                Norm::Instance,
                style,
            )?);
            width *= 2;
        }
        let scope = scope.enter(config.n_downsample + 1);
        let residual = ResidualBlocks::new(&scope, config.n_res, width, Norm::Instance, style)?;
        Ok(Self { blocks, residual })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let adain = &mut AdainParameters::none();
        let x = run(&self.blocks, x, adain)?;
        self.residual.forward(x, adain)
    }
}

/// Picture → style code.
#[derive(Debug)]
struct StyleEncoder {
    blocks: Vec<ConvBlock>,
    last: Convolution,
}

impl StyleEncoder {
    /// Whatever the content encoder does, the style encoder halves the picture so often.
    const DOWNSAMPLINGS: i64 = 4;

    fn new(scope: &Scope, config: &GeneratorConfig, channels: i64) -> Result<Self> {
        let scope = scope.enter("model");
        let style = block_style(config);
        let mut width = config.dim;
        let mut blocks = vec![ConvBlock::new(
            &scope.enter(0),
            [channels, width],
            [7, 1, 3],
            Norm::None,
            style,
        )?];
        for index in 1..=Self::DOWNSAMPLINGS {
            let wider = if index <= 2 { 2 * width } else { width };
            let shape = [width, wider];
            blocks.push(ConvBlock::new(
                &scope.enter(index),
                shape,
                [4, 2, 1],
                Norm::None,
                style,
            )?);
            width = wider;
        }
        // Position 5 is the pooling.
        let last = Convolution::new(&scope.enter(6), [width, config.style_dim], 1, 1, Norm::None)?;
        Ok(Self { blocks, last })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = run(&self.blocks, x, &mut AdainParameters::none())?;
        let pooled = x.f_adaptive_avg_pool2d([1, 1])?;
        self.last.forward(&pooled.f_to_kind(Kind::Float)?)
    }
}

/// Style code → scales and shifts of every AdaIN layer.
#[derive(Debug)]
struct Mlp {
    layers: Vec<(Tensor, Tensor, ActivationLayer)>,
}

impl Mlp {
    fn new(scope: &Scope, config: &GeneratorConfig, outputs: i64) -> Result<Self> {
        let widths = [config.style_dim, config.mlp_dim, config.mlp_dim, outputs];
        let layers = widths
            .windows(2)
            .enumerate()
            .map(|(index, pair)| {
                let (inputs, outputs) = (pair[0], pair[1]);
                let activation = if index == 2 {
                    Activation::None
                } else {
                    config.activation
                };
                let scope = scope.enter("model").enter(index);
                let fully_connected = scope.enter("fc");
                Ok((
                    fully_connected.make("weight", &[outputs, inputs], Role::Weight)?,
                    fully_connected.make("bias", &[outputs], Role::Bias { fan_in: inputs })?,
                    ActivationLayer::new(&scope, activation)?,
                ))
            })
            .collect::<Result<_>>()?;
        Ok(Self { layers })
    }

    /// `style`: [B, style_dim] or [B, style_dim, 1, 1]. In float32 whatever maps are in, since it is
    /// cheap and rounding here would show in every pixel.
    fn forward(&self, style: &Tensor) -> Result<Tensor> {
        let flat = style
            .f_reshape([style.size()[0], -1])?
            .f_to_kind(Kind::Float)?;
        self.layers
            .iter()
            .try_fold(flat, |x, (weight, bias, activation)| {
                activation.forward(x.f_linear(weight, Some(bias))?)
            })
    }
}

/// Content code (and scales and shifts) → picture.
#[derive(Debug)]
struct Decoder {
    residual: ResidualBlocks,
    upsampling: Vec<ConvBlock>,
    last: ConvBlock,
}

impl Decoder {
    fn new(scope: &Scope, config: &GeneratorConfig, channels: i64, norm: Norm) -> Result<Self> {
        let scope = scope.enter("model");
        let style = block_style(config);
        let mut width = config.dim << config.n_downsample;
        let residual = ResidualBlocks::new(&scope.enter(0), config.n_res, width, norm, style)?;
        let mut upsampling = Vec::new();
        for index in 0..config.n_downsample {
            // Odd positions are the enlargements.
            let scope = scope.enter(2 + 2 * index);
            upsampling.push(ConvBlock::new(
                &scope,
                [width, width / 2],
                [5, 1, 2],
                Norm::Layer,
                style,
            )?);
            width /= 2;
        }
        let last = ConvBlock::new(
            &scope.enter(1 + 2 * config.n_downsample),
            [width, channels],
            [7, 1, 3],
            Norm::None,
            BlockStyle {
                activation: Activation::Tanh,
                ..style
            },
        )?;
        Ok(Self {
            residual,
            upsampling,
            last,
        })
    }

    fn forward(&self, content: &Tensor, mut adain: AdainParameters) -> Result<Tensor> {
        let mut x = self.residual.forward(content.shallow_clone(), &mut adain)?;
        for block in &self.upsampling {
            let size = x.size();
            let large = x.f_upsample_nearest2d([2 * size[2], 2 * size[3]], 2.0, 2.0)?;
            x = block.forward(&large, &mut adain)?;
        }
        self.last.forward(&x, &mut adain)
    }
}

fn block_style(config: &GeneratorConfig) -> BlockStyle {
    BlockStyle {
        activation: config.activation,
        padding: config.padding,
    }
}

fn run(blocks: &[ConvBlock], x: &Tensor, adain: &mut AdainParameters) -> Result<Tensor> {
    blocks
        .iter()
        .try_fold(x.shallow_clone(), |x, block| block.forward(&x, adain))
}

#[derive(Debug)]
struct StyleRooms {
    encoder: StyleEncoder,
    mlp: Mlp,
}

/// The generator of one domain: encodes its pictures and decodes codes into it.
///
/// MUNIT (arXiv 1804.04732, appendix B.2) has a content encoder, a style encoder, an MLP and an
/// AdaIN decoder; UNIT (arXiv 1703.00848) an encoder and a decoder with plain instance norm.
#[derive(Debug)]
pub struct Generator {
    content_encoder: ContentEncoder,
    style: Option<StyleRooms>,
    decoder: Decoder,
    parameters: Vec<Parameter>,
}

impl Generator {
    /// The generator of `domain` with weights from `store`.
    ///
    /// # Errors
    /// [`Error::Config`] for an impossible architecture, [`Error::Weights`] for a tensor that is
    /// missing or of another shape.
    pub fn new(architecture: &Architecture, domain: Domain, store: ParameterStore) -> Result<Self> {
        architecture.check()?;
        let config = &architecture.generator;
        let channels = architecture.channels(domain);
        let root = store.root();
        let (content_encoder, style, decoder) = match architecture.family {
            Family::Munit => {
                let style_encoder = StyleEncoder::new(&root.enter("enc_style"), config, channels)?;
                let content_encoder =
                    ContentEncoder::new(&root.enter("enc_content"), config, channels)?;
                let decoder = Decoder::new(&root.enter("dec"), config, channels, Norm::Adain)?;
                let mlp = Mlp::new(&root.enter("mlp"), config, architecture.adain_parameters())?;
                let style = StyleRooms {
                    encoder: style_encoder,
                    mlp,
                };
                (content_encoder, Some(style), decoder)
            }
            Family::Unit => (
                ContentEncoder::new(&root.enter("enc"), config, channels)?,
                None,
                Decoder::new(&root.enter("dec"), config, channels, Norm::Instance)?,
            ),
        };
        Ok(Self {
            content_encoder,
            style,
            decoder,
            parameters: store.into_parameters(),
        })
    }

    /// Every tensor in order of definition.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Content code [B, dim·2ⁿ, H/2ⁿ, W/2ⁿ] (n = `n_downsample`; UNIT: the latent code without
    /// noise) of `picture` [B, C, H, W] in [-1, 1].
    ///
    /// # Errors
    /// libtorch's, for instance out of memory.
    pub fn encode_content(&self, picture: &Tensor) -> Result<Tensor> {
        self.content_encoder.forward(picture)
    }

    /// Style code [B, style_dim, 1, 1], float32, of `picture` [B, C, H, W] in [-1, 1].
    ///
    /// # Errors
    /// [`Error::Style`] for UNIT; libtorch's.
    pub fn encode_style(&self, picture: &Tensor) -> Result<Tensor> {
        self.style_rooms()?.encoder.forward(picture)
    }

    /// The MLP's output [B, P] for `style` [B, style_dim(, 1, 1)]: for each AdaIN layer of C
    /// channels, C shifts and then C scales.
    ///
    /// # Errors
    /// [`Error::Style`] for UNIT; libtorch's.
    pub fn adain_parameters(&self, style: &Tensor) -> Result<Tensor> {
        self.style_rooms()?.mlp.forward(style)
    }

    /// Picture [B, C, H, W] in [-1, 1] from `content` and, for MUNIT, `style`
    /// [B, style_dim(, 1, 1)].
    ///
    /// # Errors
    /// [`Error::Style`] if MUNIT is given no style; libtorch's.
    pub fn decode(&self, content: &Tensor, style: Option<&Tensor>) -> Result<Tensor> {
        let adain = match (&self.style, style) {
            (Some(rooms), Some(style)) => AdainParameters::new(rooms.mlp.forward(style)?),
            _ => AdainParameters::none(),
        };
        self.decoder.forward(content, adain)
    }

    fn style_rooms(&self) -> Result<&StyleRooms> {
        self.style.as_ref().ok_or_else(|| {
            Error::Style("this is a UNIT model, which has no style; leave the style out".to_owned())
        })
    }
}

impl Architecture {
    /// Length of the MLP's output: a shift and a scale for each channel of the two AdaIN layers
    /// of every residual block of the decoder.
    pub fn adain_parameters(&self) -> i64 {
        2 * self.generator.n_res * 2 * self.content_channels()
    }
}
