//! The networks of one direction: content encoder and decoder as one chain of stages, the MLP
//! that turns style codes into AdaIN parameters, and the style encoder.

use tch::{Device, Kind, Tensor};

use super::border::Border;
use super::cuda::{Folded, Kernels};
use super::layers::{Block, Convolution, Map, Nonlinearity, Normalisation, Placement, Upsample};
use super::memory::Pool;
use super::weights::Weights;
use crate::config::{Activation, GeneratorConfig};
use crate::{Architecture, Direction, Error, Family, Model, Result, StyleCode};

/// One step of the chain from picture to picture.
enum Stage {
    Block(Block),
    /// Two blocks whose output is added to their input.
    Residual(Block, Block),
    Upsample(Upsample),
}

impl Stage {
    fn share(&self) -> Self {
        match self {
            Self::Block(block) => Self::Block(block.share()),
            Self::Residual(first, second) => Self::Residual(first.share(), second.share()),
            Self::Upsample(upsample) => Self::Upsample(upsample.share()),
        }
    }

    fn border(&self) -> Border {
        match self {
            Self::Block(block) | Self::Residual(block, _) => block.border(),
            Self::Upsample(upsample) => upsample.border(),
        }
    }

    fn forward(&self, map: &Map, border: Border, pool: &Pool) -> Result<Map> {
        match self {
            Self::Block(block) => block.forward(map, None, border, pool),
            Self::Residual(first, second) => {
                let middle = first.forward(map, None, second.border(), pool)?;
                let sum = second.forward(&middle, Some(map), border, pool)?;
                middle.recycle(pool);
                Ok(sum)
            }
            Self::Upsample(upsample) => upsample.forward(map, border, pool),
        }
    }
}

/// Which norm the blocks of a part have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BlockNorm {
    None,
    Instance,
    Adaptive,
}

/// Builds the parts of one domain's generator.
struct Builder<'a> {
    weights: Weights<'a>,
    config: &'a GeneratorConfig,
    placement: Placement,
}

impl Builder<'_> {
    /// `kernel`: side of the kernel, stride, border width.
    fn block(
        &self,
        name: &str,
        channels: [i64; 2],
        [kernel, stride, border]: [i64; 3],
        norm: BlockNorm,
        activation: Activation,
    ) -> Result<Block> {
        let [input, output] = channels;
        let border = Border {
            width: border as usize,
            padding: self.config.padding,
        };
        let shape = [output, input, kernel, kernel];
        let convolution =
            Convolution::new(&self.weights, name, shape, stride, border, self.placement)?;
        let norm = match norm {
            BlockNorm::None => Normalisation::None,
            BlockNorm::Instance => Normalisation::Instance,
            BlockNorm::Adaptive => Normalisation::Adaptive {
                scale: Tensor::f_ones([output], (Kind::Float, self.placement.device))?,
                shift: Tensor::f_zeros([output], (Kind::Float, self.placement.device))?,
            },
        };
        Ok(Block {
            convolution,
            phases: 1,
            norm,
            nonlinearity: Nonlinearity::new(activation, &self.weights, name)?,
        })
    }

    fn residual_blocks(&self, name: &str, channels: i64, norm: BlockNorm) -> Result<Vec<Stage>> {
        let block = |number: i64, half: i64, activation| {
            let name = format!("{name}.model.{number}.model.{half}");
            self.block(&name, [channels, channels], [3, 1, 1], norm, activation)
        };
        (0..self.config.n_res)
            .map(|number| {
                let first = block(number, 0, self.config.activation)?;
                let second = block(number, 1, Activation::None)?;
                Ok(Stage::Residual(first, second))
            })
            .collect()
    }

    fn content_encoder(&self, name: &str, input_channels: i64) -> Result<Vec<Stage>> {
        let GeneratorConfig {
            dim,
            n_downsample,
            activation,
            ..
        } = *self.config;
        let norm = BlockNorm::Instance;
        let first = format!("{name}.model.0");
        let mut block = self.block(&first, [input_channels, dim], [7, 1, 3], norm, activation)?;
        if self.placement.kernels.is_some() {
            let shape = [dim, input_channels, 7, 7];
            block.convolution = Convolution::with_folded_columns(
                &self.weights,
                &first,
                shape,
                block.border(),
                self.placement,
            )?;
        }
        let mut stages = vec![Stage::Block(block)];
        for number in 0..n_downsample {
            let channels = [dim << number, dim << (number + 1)];
            let name = format!("{name}.model.{}", number + 1);
            stages.push(Stage::Block(self.block(
                &name,
                channels,
                [4, 2, 1],
                norm,
                activation,
            )?));
        }
        let name = format!("{name}.model.{}", n_downsample + 1);
        stages.extend(self.residual_blocks(&name, dim << n_downsample, norm)?);
        Ok(stages)
    }

    fn decoder(&self, norm: BlockNorm, output_channels: i64) -> Result<Vec<Stage>> {
        let GeneratorConfig {
            dim,
            n_downsample,
            activation,
            padding,
            ..
        } = *self.config;
        let mut stages = self.residual_blocks("dec.model.0", dim << n_downsample, norm)?;
        for number in 0..n_downsample {
            stages.push(Stage::Upsample(Upsample::new(
                &self.weights,
                &format!("dec.model.{}", 2 * number + 2),
                dim << (n_downsample - number - 1),
                padding,
                activation,
                self.placement,
            )?));
        }
        let name = format!("dec.model.{}", 2 * n_downsample + 1);
        let channels = [dim, output_channels];
        let mut last = self.block(
            &name,
            channels,
            [7, 1, 3],
            BlockNorm::None,
            Activation::Tanh,
        )?;
        // The sides of a picture are multiples of this.
        let divisor = 1 << n_downsample;
        let most = if self.placement.kernels.is_some() {
            4
        } else {
            2
        };
        let phases = most.min(divisor);
        if phases > 1 || self.placement.kernels.is_some() {
            let shape = [output_channels, dim, 7, 7];
            last.convolution = Convolution::with_phases(
                &self.weights,
                &name,
                shape,
                phases,
                last.border(),
                self.placement,
            )?;
            last.phases = phases as usize;
        }
        stages.push(Stage::Block(last));
        Ok(stages)
    }

    fn mlp(&self, style_dim: i64, output: i64) -> Result<Mlp> {
        let hidden = self.config.mlp_dim;
        let widths = [style_dim, hidden, hidden, output];
        let last = widths.len() - 2;
        let layers = (0..=last)
            .map(|number| {
                let name = format!("mlp.model.{number}");
                let [input, output] = [widths[number], widths[number + 1]];
                let activation = if number == last {
                    Activation::None
                } else {
                    self.config.activation
                };
                Ok(Linear {
                    weight: self
                        .weights
                        .tensor(&format!("{name}.fc.weight"), &[output, input])?,
                    bias: self.weights.tensor(&format!("{name}.fc.bias"), &[output])?,
                    nonlinearity: Nonlinearity::new(activation, &self.weights, &name)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Mlp { layers })
    }
}

/// A linear layer on the CPU in single precision.
struct Linear {
    weight: Tensor,
    bias: Tensor,
    nonlinearity: Nonlinearity,
}

/// Style code → AdaIN parameters, on the CPU: it runs only when the style changes.
struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    fn share(&self) -> Self {
        let share = |layer: &Linear| Linear {
            weight: layer.weight.shallow_clone(),
            bias: layer.bias.shallow_clone(),
            nonlinearity: layer.nonlinearity,
        };
        Self {
            layers: self.layers.iter().map(share).collect(),
        }
    }

    /// All AdaIN parameters in the order of the decoder's layers: `[1, sum of 2·C]`.
    fn forward(&self, style: &StyleCode) -> Result<Tensor> {
        let mut values = Tensor::f_from_slice(style.values())?.f_unsqueeze(0)?;
        for layer in &self.layers {
            values = values.f_linear(&layer.weight, Some(&layer.bias))?;
            values = layer.nonlinearity.apply(values)?;
        }
        Ok(values)
    }
}

/// AdaIN parameters that stay where they are, on the host and on the device.
struct Parameters {
    staged: Tensor,
    uploaded: Tensor,
}

/// Content encoder of the source domain and decoder of the target domain.
pub(super) struct Generator {
    stages: Vec<Stage>,
    /// The first stage of the decoder.
    decoder_start: usize,
    mlp: Option<Mlp>,
    style_dim: usize,
    /// The style whose AdaIN parameters the decoder holds.
    style: Option<StyleCode>,
    /// Where our kernels read the parameters of all layers, once there is a style.
    parameters: Option<Parameters>,
    placement: Placement,
    pool: Pool,
    /// Size of the picture whose maps the pool holds.
    size: Vec<i64>,
}

impl Generator {
    pub(super) fn new(model: &Model, direction: Direction, placement: Placement) -> Result<Self> {
        let architecture = &model.metadata.architecture;
        let builder = |domain| Builder {
            weights: Weights::new(model, domain),
            config: &architecture.generator,
            placement,
        };
        let (source, target) = (direction.source(), direction.target());
        let (encoder, norm) = match architecture.family {
            Family::Munit => ("enc_content", BlockNorm::Adaptive),
            Family::Unit => ("enc", BlockNorm::Instance),
        };
        let mut stages = builder(source).content_encoder(encoder, architecture.channels(source))?;
        let decoder_start = stages.len();
        stages.extend(builder(target).decoder(norm, architecture.channels(target))?);
        let parameters = 4 * architecture.generator.n_res * architecture.content_channels();
        let mlp = match architecture.family {
            Family::Munit => Some(builder(target).mlp(architecture.style_dim(), parameters)?),
            Family::Unit => None,
        };
        Ok(Self {
            stages,
            decoder_start,
            mlp,
            style_dim: architecture.style_dim() as usize,
            style: None,
            parameters: None,
            placement,
            pool: Pool::default(),
            size: vec![],
        })
    }

    /// Another generator with the same weights in the same memory, and a style of its own.
    pub(super) fn share(&self) -> Self {
        Self {
            stages: self.stages.iter().map(Stage::share).collect(),
            decoder_start: self.decoder_start,
            mlp: self.mlp.as_ref().map(Mlp::share),
            style_dim: self.style_dim,
            // Styles are set by replacing tensors, or by writing into one's own.
            style: match self.placement.kernels {
                Some(_) => None,
                None => self.style.clone(),
            },
            parameters: None,
            placement: self.placement,
            pool: Pool::default(),
            size: vec![],
        }
    }

    pub(super) fn style_dim(&self) -> usize {
        self.style_dim
    }

    /// What the input picture must be surrounded by.
    pub(super) fn border(&self) -> Border {
        self.stages.first().map_or(Border::NONE, Stage::border)
    }

    /// Folds a style code into the decoder.
    ///
    /// # Errors
    /// [`Error::Style`] if its length is not [`Self::style_dim`].
    pub(super) fn set_style(&mut self, style: &StyleCode) -> Result<()> {
        if style.values().len() != self.style_dim {
            return Err(Error::Style(format!(
                "the style code has {} numbers, but this model's style codes have {}",
                style.values().len(),
                self.style_dim
            )));
        }
        let Some(mlp) = self
            .mlp
            .as_ref()
            .filter(|_| self.style.as_ref() != Some(style))
        else {
            return Ok(());
        };
        let parameters = mlp.forward(style)?.f_flatten(0, -1)?;
        // A failure half way must not leave a mixture behind as if it were a style.
        self.style = None;
        match self.placement.kernels {
            Some(kernels) => self.stage(kernels, &parameters)?,
            None => self.assign(&parameters.f_to_device(self.placement.device)?)?,
        }
        self.style = Some(style.clone());
        Ok(())
    }

    /// Puts AdaIN parameters where the next decoding takes them from.
    fn stage(&mut self, kernels: &Kernels, parameters: &Tensor) -> Result<()> {
        // The last ones may be on their way.
        kernels.wait()?;
        if let Some(own) = &mut self.parameters {
            return Ok(own.staged.f_copy_(parameters)?);
        }
        let mut staged = kernels.host_memory(parameters.numel(), Kind::Float)?;
        staged.f_copy_(parameters)?;
        let uploaded = parameters.f_to_device_(self.placement.device, Kind::Float, false, true)?;
        self.assign(&uploaded)?;
        self.parameters = Some(Parameters { staged, uploaded });
        Ok(())
    }

    /// Makes parts of one vector the parameters of the decoder's norms.
    fn assign(&mut self, parameters: &Tensor) -> Result<()> {
        let mut start = 0;
        for block in self.stages.iter_mut().flat_map(|stage| match stage {
            Stage::Residual(first, second) => vec![first, second],
            _ => vec![],
        }) {
            if let Normalisation::Adaptive { scale, shift } = &mut block.norm {
                let channels = scale.size1()?;
                *shift = parameters.f_narrow(0, start, channels)?.f_contiguous()?;
                *scale = parameters
                    .f_narrow(0, start + channels, channels)?
                    .f_contiguous()?;
                start += 2 * channels;
            }
        }
        Ok(())
    }

    /// Our kernels, where they compute everything but the convolutions.
    pub(super) fn kernels(&self) -> Option<&'static Kernels> {
        self.placement.kernels
    }

    /// How the first convolution takes pictures, if not as they are.
    pub(super) fn folded(&self) -> Option<Folded> {
        match self.stages.first() {
            Some(Stage::Block(block)) => block.convolution.folded(),
            _ => None,
        }
    }

    /// The block that makes the picture.
    pub(super) fn last(&self) -> Result<&Block> {
        match self.stages.last() {
            Some(Stage::Block(block)) => Ok(block),
            _ => Err(no_layers()),
        }
    }

    /// As [`Self::forward`], but for what follows the convolution of [`Self::last`].
    pub(super) fn forward_unfinished(&mut self, picture: &Map) -> Result<Tensor> {
        let content = self.encode_content(picture)?;
        self.upload_parameters()?;
        let map = self.run(self.decoder_start..self.stages.len() - 1, &content)?;
        content.recycle(&self.pool);
        let convolution = &self.last()?.convolution;
        let (values, _) = convolution.forward(&map.tensor, &self.pool)?;
        let step = || convolution.description(&map.tensor);
        self.pool.lap(values.device(), step)?;
        map.recycle(&self.pool);
        Ok(values)
    }

    /// Sets off the way of the style's parameters to the device.
    fn upload_parameters(&self) -> Result<()> {
        match (self.placement.kernels, &self.parameters) {
            (Some(kernels), Some(own)) => kernels.upload(&own.staged, &own.uploaded),
            _ => Ok(()),
        }
    }

    /// Translates a picture `[1, C, H, W]` in [-1, 1], surrounded by [`Self::border`], with the
    /// style set last, into one of the same size without a border.
    ///
    /// The result is given back with [`Self::recycle`] once it has been read.
    pub(super) fn forward(&mut self, picture: &Map) -> Result<Map> {
        let content = self.encode_content(picture)?;
        let translation = self.decode(&content)?;
        content.recycle(&self.pool);
        Ok(translation)
    }

    /// The content code of a picture, surrounded by [`Self::border`], as [`Self::decode`] takes it.
    pub(super) fn encode_content(&mut self, picture: &Map) -> Result<Map> {
        let size = picture.tensor.size();
        if self.size != size {
            self.pool.clear();
            self.size = size;
        }
        self.run(0..self.decoder_start, picture)
    }

    /// The picture that a content code becomes in the style set last, without a border.
    pub(super) fn decode(&self, content: &Map) -> Result<Map> {
        self.upload_parameters()?;
        self.run(self.decoder_start..self.stages.len(), content)
    }

    fn run(&self, stages: std::ops::Range<usize>, input: &Map) -> Result<Map> {
        let mut last: Option<Map> = None;
        for number in stages {
            let border = self
                .stages
                .get(number + 1)
                .map_or(Border::NONE, Stage::border);
            let map = last.as_ref().unwrap_or(input);
            let next = self.stages[number].forward(map, border, &self.pool)?;
            if let Some(done) = last.replace(next) {
                done.recycle(&self.pool);
            }
        }
        last.ok_or_else(no_layers)
    }

    /// Working memory, and how long steps take.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Lets the next frame use a translation's memory.
    pub(super) fn recycle(&self, translation: Map) {
        translation.recycle(&self.pool);
    }
}

fn no_layers() -> Error {
    Error::Weights("the model's network has no layers".to_owned())
}

/// Style encoder of the target domain, in single precision: it runs only when a person chooses
/// an example picture.
pub(super) struct StyleEncoder {
    blocks: Vec<Block>,
    weight: Tensor,
    bias: Tensor,
}

impl StyleEncoder {
    pub(super) fn new(model: &Model, direction: Direction, device: Device) -> Result<Self> {
        let architecture: &Architecture = &model.metadata.architecture;
        let domain = direction.target();
        let placement = Placement {
            device,
            kind: Kind::Float,
            kernels: None,
        };
        let builder = Builder {
            weights: Weights::new(model, domain),
            config: &architecture.generator,
            placement,
        };
        let GeneratorConfig {
            dim,
            activation,
            style_dim,
            ..
        } = architecture.generator;
        let widths = [
            architecture.channels(domain),
            dim,
            2 * dim,
            4 * dim,
            4 * dim,
            4 * dim,
        ];
        let blocks = widths
            .windows(2)
            .enumerate()
            .map(|(number, channels)| {
                let geometry = if number == 0 { [7, 1, 3] } else { [4, 2, 1] };
                let name = format!("enc_style.model.{number}");
                builder.block(
                    &name,
                    [channels[0], channels[1]],
                    geometry,
                    BlockNorm::None,
                    activation,
                )
            })
            .collect::<Result<_>>()?;
        let to_device = |tensor: Tensor| tensor.f_to_device(device);
        let weight = builder
            .weights
            .tensor("enc_style.model.6.weight", &[style_dim, 4 * dim, 1, 1])?;
        let bias = builder
            .weights
            .tensor("enc_style.model.6.bias", &[style_dim])?;
        Ok(Self {
            blocks,
            weight: to_device(weight.f_flatten(1, -1)?)?,
            bias: to_device(bias)?,
        })
    }

    /// The same encoder with its weights in the same memory.
    pub(super) fn share(&self) -> Self {
        Self {
            blocks: self.blocks.iter().map(Block::share).collect(),
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
        }
    }

    /// What the input picture must be surrounded by.
    pub(super) fn border(&self) -> Border {
        self.blocks.first().map_or(Border::NONE, Block::border)
    }

    /// The style code of a picture `[1, C, H, W]` in [-1, 1], surrounded by [`Self::border`].
    pub(super) fn forward(&self, picture: Map) -> Result<StyleCode> {
        let pool = Pool::default();
        let mut map = picture;
        for (number, block) in self.blocks.iter().enumerate() {
            let border = self
                .blocks
                .get(number + 1)
                .map_or(Border::NONE, Block::border);
            map = block.forward(&map, None, border, &pool)?;
        }
        let mean = map
            .tensor
            .f_mean_dim([2, 3].as_slice(), false, Kind::Float)?;
        let code = mean.f_linear(&self.weight, Some(&self.bias))?.f_squeeze()?;
        let code = code.f_reshape([-1])?.f_to_device(Device::Cpu)?;
        let values: Vec<f32> = Vec::try_from(code)?;
        let length = values.len();
        StyleCode::new(values, length)
    }
}
