//! The options of the published configurations, checked.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which of the two published models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Multimodal: content code and style code (arXiv 1804.04732).
    Munit,
    /// One-to-one: a shared latent code, no style (arXiv 1703.00848).
    Unit,
}

/// One of the two picture domains of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// The first domain, for instance photographs.
    A,
    /// The second domain, for instance illustrations.
    B,
}

impl Domain {
    /// Both, in order.
    pub const ALL: [Domain; 2] = [Domain::A, Domain::B];

    /// `"a"` or `"b"`, as in tensor names.
    pub fn name(self) -> &'static str {
        match self {
            Domain::A => "a",
            Domain::B => "b",
        }
    }

    /// The other domain.
    pub fn other(self) -> Self {
        match self {
            Domain::A => Domain::B,
            Domain::B => Domain::A,
        }
    }
}

/// From which domain to which a picture is translated.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From domain a to domain b.
    #[default]
    A2b,
    /// From domain b to domain a.
    B2a,
}

impl Direction {
    /// Both, in order.
    pub const ALL: [Direction; 2] = [Direction::A2b, Direction::B2a];

    /// The domain that pictures come from.
    pub fn source(self) -> Domain {
        match self {
            Direction::A2b => Domain::A,
            Direction::B2a => Domain::B,
        }
    }

    /// The domain that pictures are translated to.
    pub fn target(self) -> Domain {
        self.source().other()
    }

    /// `"a2b"` or `"b2a"`.
    pub fn name(self) -> &'static str {
        match self {
            Direction::A2b => "a2b",
            Direction::B2a => "b2a",
        }
    }
}

/// What follows a convolution or linear layer and its norm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// max(x, 0).
    #[default]
    Relu,
    /// Leaky rectifier with slope 0.2.
    Lrelu,
    /// Leaky rectifier with one learned slope, initially 0.25.
    Prelu,
    /// Scaled exponential linear unit.
    Selu,
    /// Hyperbolic tangent.
    Tanh,
    /// Identity.
    None,
}

/// How a convolution's input is continued beyond its border.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// Mirrored, without repeating the border itself.
    #[default]
    Reflect,
    /// The border repeated.
    Replicate,
    /// Zeros.
    Zero,
}

/// Normalisation of a convolution block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Norm {
    /// No normalisation.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Instance norm without affine parameters.
    #[serde(rename = "in", alias = "instance")]
    Instance,
    /// MUNIT's layer norm: over channels and positions of each sample, unbiased deviation.
    #[serde(rename = "ln", alias = "layer")]
    Layer,
    /// Batch norm with learned scale and shift.
    #[serde(rename = "bn", alias = "batch")]
    Batch,
    /// Adaptive instance norm: scale and shift come from the style code.
    #[serde(rename = "adain")]
    Adain,
    /// Spectral norm of the convolution's weight; no normalisation of its output.
    #[serde(rename = "sn", alias = "spectral")]
    Spectral,
}

/// Adversarial loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GanType {
    /// Least squares.
    #[default]
    Lsgan,
    /// Non-saturating: binary cross-entropy on the logits.
    Nsgan,
    /// Hinge (arXiv 1705.02894); in no published configuration.
    Hinge,
}

/// Hyper-parameters of a generator; the published configurations' group `gen`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Channels after the first convolution.
    pub dim: i64,
    /// Width of the hidden layers of the MLP (MUNIT only).
    pub mlp_dim: i64,
    /// Length of the style code (MUNIT only).
    pub style_dim: i64,
    /// Activation of every hidden layer.
    #[serde(rename = "activ")]
    pub activation: Activation,
    /// Stride-2 convolutions of the content encoder.
    pub n_downsample: i64,
    /// Residual blocks in the content encoder, and as many in the decoder.
    pub n_res: i64,
    /// Padding of every convolution.
    #[serde(rename = "pad_type")]
    pub padding: Padding,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            dim: 64,
            mlp_dim: 256,
            style_dim: 8,
            activation: Activation::Relu,
            n_downsample: 2,
            n_res: 4,
            padding: Padding::Reflect,
        }
    }
}

/// Hyper-parameters of a multi-scale discriminator; the published configurations' group `dis`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Channels after the first convolution.
    pub dim: i64,
    /// Norm of every convolution but the first.
    pub norm: Norm,
    /// Activation of every hidden layer.
    #[serde(rename = "activ")]
    pub activation: Activation,
    /// Stride-2 convolutions of one scale.
    pub n_layer: i64,
    /// Adversarial loss.
    pub gan_type: GanType,
    /// How many copies look at the image, each at half the size of the one before.
    pub num_scales: i64,
    /// Padding of every convolution.
    #[serde(rename = "pad_type")]
    pub padding: Padding,
}

impl Default for DiscriminatorConfig {
    fn default() -> Self {
        Self {
            dim: 64,
            norm: Norm::None,
            activation: Activation::Lrelu,
            n_layer: 4,
            gan_type: GanType::Lsgan,
            num_scales: 3,
            padding: Padding::Reflect,
        }
    }
}

/// Everything that fixes the shapes of a model's generators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// MUNIT or UNIT.
    pub family: Family,
    /// Channels of pictures of domain a: 1 or 3.
    pub input_dim_a: i64,
    /// Channels of pictures of domain b: 1 or 3.
    pub input_dim_b: i64,
    /// The generators' hyper-parameters.
    pub generator: GeneratorConfig,
}

/// Bounds far beyond any useful network, so that a hostile file cannot ask for the whole memory.
const LARGEST_WIDTH: i64 = 1024;
const LARGEST_DEPTH: i64 = 64;

impl Architecture {
    /// Channels of pictures of `domain`.
    pub fn channels(&self, domain: Domain) -> i64 {
        match domain {
            Domain::A => self.input_dim_a,
            Domain::B => self.input_dim_b,
        }
    }

    /// Width and height of a translated picture are multiples of this.
    pub fn stride(&self) -> i64 {
        1 << self.generator.n_downsample
    }

    /// Length of a style code; 0 for UNIT.
    pub fn style_dim(&self) -> i64 {
        match self.family {
            Family::Munit => self.generator.style_dim,
            Family::Unit => 0,
        }
    }

    /// Channels of the content code.
    pub fn content_channels(&self) -> i64 {
        self.generator.dim << self.generator.n_downsample
    }

    /// Shortest side of a picture that the networks can translate: every reflection padding
    /// must be smaller than the map it pads.
    pub fn smallest_side(&self) -> i64 {
        (2 * self.stride()).max(16)
    }

    /// # Errors
    /// [`Error::Config`] names the first option that is out of its range.
    pub fn check(&self) -> Result<()> {
        let generator = &self.generator;
        for (name, value) in [
            ("input_dim_a", self.input_dim_a),
            ("input_dim_b", self.input_dim_b),
        ] {
            if value != 1 && value != 3 {
                return Err(Error::Config(format!(
                    "{name} is {value}; pictures have 1 (grey) or 3 (RGB) channels"
                )));
            }
        }
        check_range("gen.dim", generator.dim, 1, LARGEST_WIDTH)?;
        check_range("gen.n_downsample", generator.n_downsample, 0, 6)?;
        // A MUNIT decoder without AdaIN layers would have nothing for the style to act on.
        let fewest = if self.family == Family::Munit { 1 } else { 0 };
        check_range("gen.n_res", generator.n_res, fewest, LARGEST_DEPTH)?;
        if self.family == Family::Munit {
            check_range("gen.mlp_dim", generator.mlp_dim, 1, 8 * LARGEST_WIDTH)?;
            check_range("gen.style_dim", generator.style_dim, 1, LARGEST_WIDTH)?;
        }
        Ok(())
    }
}

impl DiscriminatorConfig {
    /// # Errors
    /// [`Error::Config`] names the first option that is out of its range.
    pub fn check(&self) -> Result<()> {
        check_range("dis.dim", self.dim, 1, LARGEST_WIDTH)?;
        check_range("dis.n_layer", self.n_layer, 1, 8)?;
        check_range("dis.num_scales", self.num_scales, 1, 8)?;
        if self.norm == Norm::Adain {
            return Err(Error::Config(
                "dis.norm is adain, but a discriminator has no style code; use none, in, ln, bn or sn"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

fn check_range(name: &str, value: i64, smallest: i64, largest: i64) -> Result<()> {
    if (smallest..=largest).contains(&value) {
        return Ok(());
    }
    Err(Error::Config(format!(
        "{name} is {value}; it must lie between {smallest} and {largest}"
    )))
}
