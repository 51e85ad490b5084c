//! The generators once more, as a sequence of operations in whatever language a writer knows.

use munit::config::{Activation, Architecture, Domain, Family, Padding};
use munit::layout::Part;

/// Halvings of every style encoder; not configurable in the published networks.
const STYLE_HALVINGS: i64 = 4;

/// A language in which a network can be written down, operation by operation. Maps are
/// [N, C, H, W]; `layer` is the name of a tensor without `.weight` or `.bias`.
pub trait Writer {
    /// What stands for a tensor.
    type Value: Clone;

    /// Continues a map by `margin` on each side.
    fn pad(&mut self, x: &Self::Value, margin: i64, padding: Padding) -> Self::Value;
    /// A convolution without padding; `kernel` is the side of its square kernel.
    fn convolution(
        &mut self,
        x: &Self::Value,
        layer: &str,
        kernel: i64,
        stride: i64,
    ) -> Self::Value;
    /// `x · weightᵀ + bias` for `x` [N, C].
    fn linear(&mut self, x: &Self::Value, layer: &str) -> Self::Value;
    /// Each sample's each channel by its mean and biased deviation.
    fn instance_norm(&mut self, x: &Self::Value, channels: i64) -> Self::Value;
    /// The same, then scaled and shifted by `parameters` [N, P]: the shifts begin at `position`, the
    /// scales follow them.
    fn adaptive_norm(
        &mut self,
        x: &Self::Value,
        channels: i64,
        parameters: &Self::Value,
        position: i64,
    ) -> Self::Value;
    /// MUNIT's layer norm with `layer.gamma` and `layer.beta`.
    fn layer_norm(&mut self, x: &Self::Value, layer: &str) -> Self::Value;
    /// An activation; `layer.weight` is its slope if it learns one.
    fn activation(&mut self, x: &Self::Value, activation: Activation, layer: &str) -> Self::Value;
    /// The sum of two maps.
    fn add(&mut self, x: &Self::Value, y: &Self::Value) -> Self::Value;
    /// Twice the height and width, each pixel repeated.
    fn enlarge(&mut self, x: &Self::Value) -> Self::Value;
    /// Mean of each channel, [N, C, 1, 1].
    fn mean(&mut self, x: &Self::Value) -> Self::Value;
}

/// The generator of one domain.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    pub architecture: &'a Architecture,
    pub domain: Domain,
}

/// What stands behind a convolution.
#[derive(Clone, Copy)]
enum Norm<'v, V> {
    None,
    Instance,
    Adaptive { parameters: &'v V, position: i64 },
    Layer,
}

/// Kernel, stride and padding of a convolution.
type Shape = [i64; 3];

impl Network<'_> {
    /// Content code of a picture, whose sides are multiples of the stride.
    pub fn encode_content<W: Writer>(&self, writer: &mut W, picture: &W::Value) -> W::Value {
        let generator = &self.architecture.generator;
        let path = self.path(Part::ContentEncoder);
        let mut block = |x: &W::Value, index: i64, width: i64, shape| {
            let path = format!("{path}.model.{index}");
            self.block(writer, x, &path, width, shape, Norm::Instance)
        };
        let mut width = generator.dim;
        let mut x = block(picture, 0, width, [7, 1, 3]);
        for index in 1..=generator.n_downsample {
            width *= 2;
            x = block(&x, index, width, [4, 2, 1]);
        }
        let path = format!("{path}.model.{}", generator.n_downsample + 1);
        self.residual_blocks(writer, x, &path, None)
    }

    /// Style code [N, style_dim, 1, 1] of a picture. MUNIT only.
    pub fn encode_style<W: Writer>(&self, writer: &mut W, picture: &W::Value) -> W::Value {
        let path = self.path(Part::StyleEncoder);
        let mut x = picture.clone();
        for index in 0..=STYLE_HALVINGS {
            let shape = if index == 0 { [7, 1, 3] } else { [4, 2, 1] };
            let path = format!("{path}.model.{index}");
            x = self.block(writer, &x, &path, 0, shape, Norm::None);
        }
        let pooled = writer.mean(&x);
        writer.convolution(
            &pooled,
            &format!("{path}.model.{}", STYLE_HALVINGS + 2),
            1,
            1,
        )
    }

    /// Shifts and scales of every AdaIN layer, [N, P], for a style [N, style_dim]. MUNIT only.
    pub fn adain_parameters<W: Writer>(&self, writer: &mut W, style: &W::Value) -> W::Value {
        let path = self.path(Part::Mlp);
        (0..3).fold(style.clone(), |x, index| {
            let path = format!("{path}.model.{index}");
            let x = writer.linear(&x, &format!("{path}.fc"));
            match index {
                2 => x,
                _ => self.activation(writer, &x, &path),
            }
        })
    }

    /// Picture of a content code; `parameters` are those of [`Self::adain_parameters`], `None` for
    /// UNIT.
    pub fn decode<W: Writer>(
        &self,
        writer: &mut W,
        content: &W::Value,
        parameters: Option<&W::Value>,
    ) -> W::Value {
        let generator = &self.architecture.generator;
        let path = format!("{}.model", self.path(Part::Decoder));
        let mut x = self.residual_blocks(writer, content.clone(), &format!("{path}.0"), parameters);
        for index in 1..=generator.n_downsample {
            let large = writer.enlarge(&x);
            let path = format!("{path}.{}", 2 * index);
            x = self.block(writer, &large, &path, 0, [5, 1, 2], Norm::Layer);
        }
        let path = format!("{path}.{}", 2 * generator.n_downsample + 1);
        let x = self.convolution(writer, &x, &path, [7, 1, 3]);
        writer.activation(&x, Activation::Tanh, &path)
    }

    /// The layer that takes a picture in the content encoder, in the style encoder.
    pub fn first_convolution(&self, part: Part) -> String {
        format!("{}.model.0.conv", self.path(part))
    }

    /// The layer that takes a style.
    pub fn first_linear(&self) -> String {
        format!("{}.model.0.fc", self.path(Part::Mlp))
    }

    fn path(&self, part: Part) -> String {
        let family = self.architecture.family;
        format!("{}.{}", self.domain.name(), part.name(family))
    }

    fn residual_blocks<W: Writer>(
        &self,
        writer: &mut W,
        x: W::Value,
        path: &str,
        parameters: Option<&W::Value>,
    ) -> W::Value {
        let width = self.architecture.content_channels();
        (0..self.architecture.generator.n_res).fold(x, |x, index| {
            let path = format!("{path}.model.{index}.model");
            let norm = |layer: i64| match parameters {
                Some(parameters) => Norm::Adaptive {
                    parameters,
                    // Each layer before it has taken a shift and a scale for each channel.
                    position: (2 * index + layer) * 2 * width,
                },
                None => Norm::Instance,
            };
            let inner = format!("{path}.0");
            let inner = self.block(writer, &x, &inner, width, [3, 1, 1], norm(0));
            let second = self.convolution(writer, &inner, &format!("{path}.1"), [3, 1, 1]);
            let second = self.normalise(writer, &second, &path, width, norm(1));
            writer.add(&second, &x)
        })
    }

    /// Pad, convolution, norm, activation. `width` is the number of its channels, of no concern to
    /// some norms.
    fn block<W: Writer>(
        &self,
        writer: &mut W,
        x: &W::Value,
        path: &str,
        width: i64,
        shape: Shape,
        norm: Norm<W::Value>,
    ) -> W::Value {
        let x = self.convolution(writer, x, path, shape);
        let x = self.normalise(writer, &x, path, width, norm);
        self.activation(writer, &x, path)
    }

    fn convolution<W: Writer>(
        &self,
        writer: &mut W,
        x: &W::Value,
        path: &str,
        [kernel, stride, margin]: Shape,
    ) -> W::Value {
        let padded = writer.pad(x, margin, self.architecture.generator.padding);
        writer.convolution(&padded, &format!("{path}.conv"), kernel, stride)
    }

    fn normalise<W: Writer>(
        &self,
        writer: &mut W,
        x: &W::Value,
        path: &str,
        width: i64,
        norm: Norm<W::Value>,
    ) -> W::Value {
        match norm {
            Norm::None => x.clone(),
            Norm::Instance => writer.instance_norm(x, width),
            Norm::Adaptive {
                parameters,
                position,
            } => writer.adaptive_norm(x, width, parameters, position),
            Norm::Layer => writer.layer_norm(x, &format!("{path}.norm")),
        }
    }

    fn activation<W: Writer>(&self, writer: &mut W, x: &W::Value, path: &str) -> W::Value {
        let activation = self.architecture.generator.activation;
        writer.activation(x, activation, &format!("{path}.activation"))
    }
}

/// Whether a generator of this family takes a style.
pub fn takes_style(architecture: &Architecture) -> bool {
    architecture.family == Family::Munit
}
