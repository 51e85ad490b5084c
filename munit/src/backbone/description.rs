//! A feature network as its file describes it: its input, its layers, and which of them are used.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// A feature network. A file holds this as JSON under the metadata key `munit.backbone`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// What figures that are computed with it are named after.
    pub name: String,
    /// What the first layer expects.
    pub input: Input,
    /// In the order in which they are computed.
    pub layers: Vec<Layer>,
    /// Layers for the perceptual distance.
    #[serde(default)]
    pub perceptual: Vec<Tap>,
    /// Layer whose maps, instance-normalised, say what a picture shows.
    #[serde(default)]
    pub content: Option<String>,
    /// Layer whose spatial mean is a picture's feature vector.
    #[serde(default)]
    pub features: Option<String>,
    /// Layer with a number for each class, before the softmax.
    #[serde(default)]
    pub logits: Option<String>,
}

/// How a picture is prepared for the first layer, which is called `input`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Order of the colours.
    pub order: ColourOrder,
    /// What black and white are, before the mean is taken away.
    pub range: [f64; 2],
    /// Taken away from each channel, in `order`.
    pub mean: [f64; 3],
    /// By which each channel is divided then.
    pub deviation: [f64; 3],
    /// The size that the network needs; `None`: any.
    #[serde(default)]
    pub size: Option<InputSize>,
}

/// Order of an input's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColourOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// The size to which pictures are brought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSize {
    /// In pixels.
    pub height: i64,
    /// In pixels.
    pub width: i64,
    /// How they are brought to it.
    pub method: Resampling,
}

/// How pictures are resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resampling {
    /// Bilinear, antialiased where the picture shrinks.
    Antialiased,
    /// Bilinear as TensorFlow 1 had it: not antialiased, and with the corner of the first pixel, not
    /// its centre, as the origin. The Inception network of the Fréchet inception distance saw
    /// pictures resized so.
    Tensorflow1,
}

/// One layer; its result is known by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name, which no other layer has.
    pub name: String,
    /// The layers whose results it takes; none: the one before it, or the input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// What it computes.
    #[serde(flatten)]
    pub operation: Operation,
}

/// What a layer computes. Sizes, strides and paddings are vertical, horizontal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Operation {
    /// Convolution with bias: the file's tensors `NAME.weight` [out, in, height, width] and
    /// `NAME.bias` `[out]`.
    Convolution {
        /// Step.
        stride: [i64; 2],
        /// Pixels by which each side is continued.
        padding: [i64; 2],
        /// With what.
        #[serde(default)]
        mode: PaddingMode,
    },
    /// max(x, 0).
    Relu,
    /// The largest value of each window.
    MaxPool {
        /// Of the window.
        size: [i64; 2],
        /// Step.
        stride: [i64; 2],
        /// Pixels by which each side is continued.
        #[serde(default)]
        padding: [i64; 2],
        /// Whether a last window that is not full counts.
        #[serde(default)]
        ceil: bool,
    },
    /// The mean of each window; what lies outside is not counted.
    AveragePool {
        /// Of the window.
        size: [i64; 2],
        /// Step.
        stride: [i64; 2],
        /// Pixels by which each side is continued.
        #[serde(default)]
        padding: [i64; 2],
    },
    /// The mean over the whole map: [B, C, 1, 1].
    GlobalAveragePool,
    /// A linear layer on all values of a picture: the file's tensors `NAME.weight` [out, in] and
    /// `NAME.bias` `[out]`. Gives `[B, out]`.
    Linear,
    /// The sum of all maps in `from`.
    Add,
    /// The channels of all maps in `from`, one after another.
    Concatenate,
}

/// What lies beyond a map's edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaddingMode {
    /// Zeros.
    #[default]
    Zeros,
    /// The map's own mirror image.
    Reflect,
}

/// A layer that takes part in the perceptual distance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tap {
    /// Its name.
    pub layer: String,
    /// The file's tensor with a weight for each channel, as LPIPS has them; `None`: all are 1.
    #[serde(default)]
    pub weights: Option<String>,
}

/// Name of the prepared picture among the layers.
pub const INPUT: &str = "input";

impl Description {
    /// Whether every name that is used is there, once.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut known = HashMap::from([(INPUT, ())]);
        for layer in &self.layers {
            for from in &layer.from {
                if !known.contains_key(from.as_str()) {
                    return Err(format!(
                        "layer {} takes the result of {from}, which no layer before it has",
                        layer.name
                    ));
                }
            }
            if known.insert(&layer.name, ()).is_some() {
                return Err(format!("two layers are named {}", layer.name));
            }
        }
        let taps = self.perceptual.iter().map(|tap| &tap.layer);
        for used in taps.chain(
            [&self.content, &self.features, &self.logits]
                .into_iter()
                .flatten(),
        ) {
            if !known.contains_key(used.as_str()) {
                return Err(format!("there is no layer {used}, which is to be used"));
            }
        }
        let numbers = self.input.mean.iter().chain(&self.input.range);
        let deviations = self.input.deviation.iter();
        if !numbers
            .chain(deviations.clone())
            .all(|number| number.is_finite())
            || deviations.clone().any(|number| *number == 0.0)
        {
            return Err("its input has a range, mean or deviation that makes no sense".to_owned());
        }
        let extent = |size: &InputSize| size.height.min(size.width)..=size.height.max(size.width);
        match self.input.size.as_ref().map(extent) {
            Some(sides) if *sides.start() < 1 || *sides.end() > 4096 => {
                Err("its input has a size that makes no sense".to_owned())
            }
            _ => Ok(()),
        }
    }
}
