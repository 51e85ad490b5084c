//! Which tensors a generator has: their names and shapes, read off the architecture alone.
//!
//! The names are those of the published state dicts. Everything that reads weights from outside
//! is checked against this list before a network is built.

use std::collections::BTreeMap;

use crate::config::{Activation, Architecture, Direction, Domain, Family};

/// A generator consists of these; UNIT has only a content encoder and a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Picture to style code.
    StyleEncoder,
    /// Picture to content code.
    ContentEncoder,
    /// Content code to picture.
    Decoder,
    /// Style code to the scales and shifts of the decoder's AdaIN layers.
    Mlp,
}

impl Part {
    /// The parts of a generator, in the order of the published state dicts.
    pub fn of(family: Family) -> &'static [Part] {
        match family {
            Family::Munit => &[
                Part::StyleEncoder,
                Part::ContentEncoder,
                Part::Decoder,
                Part::Mlp,
            ],
            Family::Unit => &[Part::ContentEncoder, Part::Decoder],
        }
    }

    /// First word of the part's tensor names, for example `enc_content`.
    pub fn name(self, family: Family) -> &'static str {
        match (self, family) {
            (Part::StyleEncoder, _) => "enc_style",
            (Part::ContentEncoder, Family::Munit) => "enc_content",
            (Part::ContentEncoder, Family::Unit) => "enc",
            (Part::Decoder, _) => "dec",
            (Part::Mlp, _) => "mlp",
        }
    }

    /// Which side of a translation needs this part: the source domain's content encoder, the
    /// target domain's style encoder, MLP and decoder.
    pub fn domain(self, direction: Direction) -> Domain {
        match self {
            Part::ContentEncoder => direction.source(),
            Part::StyleEncoder | Part::Decoder | Part::Mlp => direction.target(),
        }
    }
}

/// Stride-2 convolutions of every style encoder; not configurable in the published networks.
const STYLE_DOWNSAMPLINGS: i64 = 4;

/// Names and shapes of one part of the generator of `domain`, without the `a.` or `b.` that
/// model files put in front.
///
/// `architecture` must have passed [`Architecture::check`].
pub fn expected_tensors(
    architecture: &Architecture,
    domain: Domain,
    part: Part,
) -> Vec<(String, Vec<i64>)> {
    layers(architecture, domain, part)
        .iter()
        .flat_map(|layer| layer.tensors(part.name(architecture.family)))
        .collect()
}

/// Names, with `a.` or `b.`, and shapes of all that a model needs to translate in `directions`.
///
/// `architecture` must have passed [`Architecture::check`].
pub fn expected_weights(
    architecture: &Architecture,
    directions: &[Direction],
) -> BTreeMap<String, Vec<i64>> {
    let mut weights = BTreeMap::new();
    for &direction in directions {
        for &part in Part::of(architecture.family) {
            let domain = part.domain(direction);
            let tensors = expected_tensors(architecture, domain, part);
            weights.extend(
                tensors
                    .into_iter()
                    .map(|(name, shape)| (format!("{}.{name}", domain.name()), shape)),
            );
        }
    }
    weights
}

/// Multiply-adds per picture pixel of content encoder and decoder, all that runs for a frame
/// while the style stays. 1,083,776 for the published sizes.
///
/// `architecture` must have passed [`Architecture::check`].
pub fn multiply_adds_per_pixel(architecture: &Architecture, direction: Direction) -> f64 {
    [Part::ContentEncoder, Part::Decoder]
        .into_iter()
        .flat_map(|part| layers(architecture, part.domain(direction), part))
        .map(|layer| {
            let weights = (layer.inputs * layer.outputs * layer.kernel * layer.kernel) as f64;
            weights / 4f64.powi(layer.halvings as i32)
        })
        .sum()
}

/// A convolution or linear layer with what stands behind it.
struct Layer {
    /// Where it stands in its part, for example `model.3.model.0.model.1`.
    path: String,
    kind: LayerKind,
    inputs: i64,
    outputs: i64,
    /// Side of the convolution kernel; 1 for a linear layer.
    kernel: i64,
    /// How often the picture's sides were halved to get those of the layer's output.
    halvings: i64,
    layer_norm: bool,
    learned_slope: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum LayerKind {
    /// Convolution with norm and activation.
    ConvBlock,
    /// Linear layer with activation.
    LinearBlock,
    /// Convolution alone.
    Conv,
}

impl Layer {
    fn tensors(&self, part: &str) -> Vec<(String, Vec<i64>)> {
        let path = format!("{part}.{}", self.path);
        let inner = match self.kind {
            LayerKind::ConvBlock => format!("{path}.conv"),
            LayerKind::LinearBlock => format!("{path}.fc"),
            LayerKind::Conv => path.clone(),
        };
        let mut shape = vec![self.outputs, self.inputs];
        if self.kind != LayerKind::LinearBlock {
            shape.extend([self.kernel, self.kernel]);
        }
        let mut tensors = vec![
            (format!("{inner}.weight"), shape),
            (format!("{inner}.bias"), vec![self.outputs]),
        ];
        if self.layer_norm {
            tensors.push((format!("{path}.norm.gamma"), vec![self.outputs]));
            tensors.push((format!("{path}.norm.beta"), vec![self.outputs]));
        }
        if self.learned_slope {
            tensors.push((format!("{path}.activation.weight"), vec![1]));
        }
        tensors
    }
}

fn layers(architecture: &Architecture, domain: Domain, part: Part) -> Vec<Layer> {
    let generator = &architecture.generator;
    let learned_slope = generator.activation == Activation::Prelu;
    let channels = architecture.channels(domain);
    let depth = generator.n_downsample;
    let conv = |path: String, inputs: i64, outputs: i64, kernel: i64, halvings: i64| Layer {
        path,
        kind: LayerKind::ConvBlock,
        inputs,
        outputs,
        kernel,
        halvings,
        layer_norm: false,
        learned_slope,
    };
    let residual_blocks = |path: &str| -> Vec<Layer> {
        let width = architecture.content_channels();
        (0..generator.n_res)
            .flat_map(|block| {
                let path = format!("{path}.model.{block}.model");
                [
                    conv(format!("{path}.0"), width, width, 3, depth),
                    Layer {
                        learned_slope: false,
                        ..conv(format!("{path}.1"), width, width, 3, depth)
                    },
                ]
            })
            .collect()
    };

    match part {
        Part::StyleEncoder => {
            let mut layers = vec![conv("model.0".to_owned(), channels, generator.dim, 7, 0)];
            let mut width = generator.dim;
            for step in 1..=STYLE_DOWNSAMPLINGS {
                let wider = if step <= 2 { 2 * width } else { width };
                layers.push(conv(format!("model.{step}"), width, wider, 4, step));
                width = wider;
            }
            layers.push(Layer {
                kind: LayerKind::Conv,
                learned_slope: false,
                // Behind the global average pooling, which takes a place but has no weights.
                ..conv(
                    format!("model.{}", STYLE_DOWNSAMPLINGS + 2),
                    width,
                    generator.style_dim,
                    1,
                    STYLE_DOWNSAMPLINGS,
                )
            });
            layers
        }
        Part::ContentEncoder => {
            let mut layers = vec![conv("model.0".to_owned(), channels, generator.dim, 7, 0)];
            for step in 1..=depth {
                let width = generator.dim << (step - 1);
                layers.push(conv(format!("model.{step}"), width, 2 * width, 4, step));
            }
            layers.extend(residual_blocks(&format!("model.{}", depth + 1)));
            layers
        }
        Part::Decoder => {
            let mut layers = residual_blocks("model.0");
            for step in 1..=depth {
                let width = generator.dim << (depth - step);
                layers.push(Layer {
                    layer_norm: true,
                    // Every other place is an upsampling, which has no weights.
                    ..conv(
                        format!("model.{}", 2 * step),
                        2 * width,
                        width,
                        5,
                        depth - step,
                    )
                });
            }
            layers.push(Layer {
                learned_slope: false,
                ..conv(
                    format!("model.{}", 2 * depth + 1),
                    generator.dim,
                    channels,
                    7,
                    0,
                )
            });
            layers
        }
        Part::Mlp => {
            let sizes = [
                generator.style_dim,
                generator.mlp_dim,
                generator.mlp_dim,
                architecture.adain_parameters(),
            ];
            sizes
                .windows(2)
                .enumerate()
                .map(|(index, size)| Layer {
                    kind: LayerKind::LinearBlock,
                    learned_slope: learned_slope && index + 2 < sizes.len(),
                    ..conv(format!("model.{index}"), size[0], size[1], 1, 0)
                })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GeneratorConfig;

    fn published(family: Family) -> Architecture {
        Architecture {
            family,
            input_dim_a: 3,
            input_dim_b: 3,
            generator: GeneratorConfig::default(),
        }
    }

    #[test]
    fn the_published_sizes_cost_what_is_known() {
        for family in [Family::Munit, Family::Unit] {
            for direction in Direction::ALL {
                let cost = multiply_adds_per_pixel(&published(family), direction);
                assert_eq!(cost, 1_083_776.0);
            }
        }
    }

    #[test]
    fn grey_pictures_change_the_outermost_layers_of_their_domain() {
        let architecture = Architecture {
            input_dim_b: 1,
            ..published(Family::Munit)
        };
        let weights = expected_weights(&architecture, &Direction::ALL);
        assert_eq!(weights["a.enc_content.model.0.conv.weight"], [64, 3, 7, 7]);
        assert_eq!(weights["b.enc_content.model.0.conv.weight"], [64, 1, 7, 7]);
        assert_eq!(weights["b.enc_style.model.0.conv.weight"], [64, 1, 7, 7]);
        assert_eq!(weights["b.dec.model.5.conv.weight"], [1, 64, 7, 7]);
    }

    #[test]
    fn one_direction_needs_one_encoder_and_one_decoder() {
        let names = |direction| -> Vec<String> {
            expected_weights(&published(Family::Munit), &[direction])
                .into_keys()
                .map(|name| name.split('.').take(2).collect::<Vec<_>>().join("."))
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect()
        };
        assert_eq!(
            names(Direction::A2b),
            ["a.enc_content", "b.dec", "b.enc_style", "b.mlp"]
        );
        assert_eq!(
            names(Direction::B2a),
            ["a.dec", "a.enc_style", "a.mlp", "b.enc_content"]
        );
    }

    #[test]
    fn learned_slopes_stand_behind_every_hidden_layer() {
        let mut architecture = published(Family::Munit);
        architecture.generator.activation = Activation::Prelu;
        let weights = expected_weights(&architecture, &[Direction::A2b]);
        let slopes: Vec<_> = weights
            .iter()
            .filter(|(name, _)| name.ends_with(".activation.weight"))
            .collect();
        // Content encoder 3 + 4, style encoder 5, decoder 4 + 2, MLP 2.
        assert_eq!(slopes.len(), 20);
        assert!(slopes.iter().all(|(_, shape)| **shape == [1]));
        for outer in ["b.dec.model.5", "b.mlp.model.2", "b.enc_style.model.6"] {
            assert!(!weights.contains_key(&format!("{outer}.activation.weight")));
        }
    }

    #[test]
    fn depth_moves_the_places_in_the_dotted_paths() {
        let mut architecture = published(Family::Unit);
        architecture.generator.n_downsample = 3;
        architecture.generator.n_res = 0;
        let weights = expected_weights(&architecture, &[Direction::A2b]);
        assert_eq!(weights["a.enc.model.3.conv.weight"], [512, 256, 4, 4]);
        assert_eq!(weights["b.dec.model.2.conv.weight"], [256, 512, 5, 5]);
        assert_eq!(weights["b.dec.model.6.norm.gamma"], [64]);
        assert_eq!(weights["b.dec.model.7.conv.bias"], [3]);
        assert!(!weights.keys().any(|name| name.contains("model.4.model")));
    }
}
