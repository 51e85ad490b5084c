//! Feature networks ("backbones"), trained by others on other tasks, on whose maps pictures are
//! compared.
//!
//! A backbone is one safetensors file: its weights, and a [`Description`] of its layers as JSON, so
//! that any network of convolutions can be used. `munit-import backbone` makes such files from those
//! that are published.

mod description;
mod file;
mod resize;

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::{Error, Result, vector_math};
pub use description::{
    ColourOrder, Description, INPUT, Input, InputSize, Layer, Operation, PaddingMode, Resampling,
    Tap,
};
pub use file::write;

/// A feature network on a device. It is not trained; gradients flow through it to its input.
#[derive(Debug)]
pub struct Backbone {
    description: Description,
    steps: Vec<Step>,
    /// Step and channel weights of each layer of the perceptual distance.
    perceptual: Vec<(usize, Option<Tensor>)>,
    content: Option<usize>,
    features: Option<usize>,
    logits: Option<usize>,
    mean: Tensor,
    deviation: Tensor,
}

/// A layer with its weights. Results are counted from 0, the input.
#[derive(Debug)]
struct Step {
    from: Vec<usize>,
    operation: Operation,
    weights: Option<(Tensor, Tensor)>,
    /// Results that no later layer takes.
    finished: Vec<usize>,
}

/// Guards against the division by the length of a zero vector. The published LPIPS adds as much after
/// the root, which shows in no figure but has no gradient there.
const LENGTH_EPSILON: f64 = 1e-10;
/// Inside the root of instance norm.
const NORM_EPSILON: f64 = 1e-5;

/// What is asked of a backbone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Maps for [`Activations::perceptual_distance`].
    pub perceptual: bool,
    /// Statistics for [`Activations::style_distance`].
    pub style: bool,
    /// Maps for [`Activations::content_distance`].
    pub content: bool,
    /// Feature vectors.
    pub features: bool,
    /// Numbers for the classes.
    pub logits: bool,
}

/// What a backbone makes of B pictures. What was not wanted, or what the backbone does not have, is
/// empty or `None`.
#[derive(Debug)]
pub struct Activations {
    /// Maps [B, C, H, W], each pixel's vector of length 1, and the weight of each channel.
    perceptual: Vec<(Tensor, Option<Tensor>)>,
    /// Mean and deviation [B, C] of each channel over the picture, of the same layers.
    style: Vec<[Tensor; 2]>,
    /// Maps [B, C, H, W] as they are.
    content: Option<Tensor>,
    /// Spatial means [B, C].
    pub features: Option<Tensor>,
    /// Numbers [B, number of classes] before the softmax.
    pub logits: Option<Tensor>,
}

impl Backbone {
    /// Puts a network together.
    ///
    /// # Errors
    /// [`Error::Weights`] for a description that contradicts itself, and for tensors that are
    /// missing or of another shape.
    pub fn new(
        description: Description,
        tensors: &BTreeMap<String, Tensor>,
        device: Device,
    ) -> Result<Self> {
        description.check().map_err(Error::Weights)?;
        vector_math::settle();
        let weights = |name: &str, dimensions: usize| -> Result<Tensor> {
            let tensor = tensors
                .get(name)
                .ok_or_else(|| Error::Weights(format!("tensor {name} is missing")))?;
            if tensor.dim() != dimensions {
                return Err(Error::Weights(format!(
                    "tensor {name} has shape {:?}; expected {dimensions} dimensions",
                    tensor.size()
                )));
            }
            Ok(tensor
                .f_detach()?
                .f_to_device(device)?
                .f_to_kind(Kind::Float)?)
        };
        let names: Vec<&str> = std::iter::once(INPUT)
            .chain(description.layers.iter().map(|layer| layer.name.as_str()))
            .collect();
        let place = |name: &String| names.iter().position(|known| known == name).unwrap_or(0);
        let mut steps = Vec::new();
        for (before, layer) in description.layers.iter().enumerate() {
            let weights = match layer.operation {
                Operation::Convolution { .. } | Operation::Linear => {
                    let dimensions = match layer.operation {
                        Operation::Linear => 2,
                        _ => 4,
                    };
                    Some((
                        weights(&format!("{}.weight", layer.name), dimensions)?,
                        weights(&format!("{}.bias", layer.name), 1)?,
                    ))
                }
                _ => None,
            };
            let from = match layer.from.as_slice() {
                [] => vec![before],
                from => from.iter().map(place).collect(),
            };
            steps.push(Step {
                from,
                operation: layer.operation.clone(),
                weights,
                finished: Vec::new(),
            });
        }
        for result in 0..names.len() {
            let last = steps.iter().rposition(|step| step.from.contains(&result));
            if let Some(last) = last {
                steps[last].finished.push(result);
            }
        }
        let perceptual = description
            .perceptual
            .iter()
            .map(|tap| {
                let weights = match &tap.weights {
                    Some(name) => {
                        let tensor = tensors
                            .get(name)
                            .ok_or_else(|| Error::Weights(format!("tensor {name} is missing")))?;
                        let flat = tensor.f_detach()?.f_reshape([1, -1, 1, 1])?;
                        Some(flat.f_to_device(device)?.f_to_kind(Kind::Float)?)
                    }
                    None => None,
                };
                Ok((place(&tap.layer), weights))
            })
            .collect::<Result<_>>()?;
        let channels = |values: [f64; 3]| -> Result<Tensor> {
            let values = values.map(|value| value as f32);
            Ok(Tensor::f_from_slice(&values)?
                .f_reshape([1, 3, 1, 1])?
                .f_to_device(device)?)
        };
        Ok(Self {
            perceptual,
            content: description.content.as_ref().map(place),
            features: description.features.as_ref().map(place),
            logits: description.logits.as_ref().map(place),
            mean: channels(description.input.mean)?,
            deviation: channels(description.input.deviation)?,
            steps,
            description,
        })
    }

    /// What the network is.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// What figures that are computed with it are named after.
    pub fn name(&self) -> &str {
        &self.description.name
    }

    /// The device that it is on.
    pub fn device(&self) -> Device {
        self.mean.device()
    }

    /// What it can be asked for.
    pub fn can(&self) -> Wanted {
        Wanted {
            perceptual: !self.perceptual.is_empty(),
            style: !self.perceptual.is_empty(),
            content: self.content.is_some(),
            features: self.features.is_some(),
            logits: self.logits.is_some(),
        }
    }

    /// Runs the network on `pictures` [B, 3 or 1, H, W] with values in [-1, 1], as far as it is
    /// needed for what is `wanted`.
    ///
    /// # Errors
    /// libtorch's, for instance for pictures that are too small for the network.
    pub fn activations(&self, pictures: &Tensor, wanted: Wanted) -> Result<Activations> {
        let taps = self.perceptual.iter().map(|(place, _)| *place);
        let taps: Vec<usize> = taps.filter(|_| wanted.perceptual || wanted.style).collect();
        let single = |place: Option<usize>, wanted: bool| place.filter(|_| wanted);
        let content = single(self.content, wanted.content);
        let features = single(self.features, wanted.features);
        let logits = single(self.logits, wanted.logits);
        let kept: Vec<usize> = taps
            .iter()
            .copied()
            .chain([content, features, logits].into_iter().flatten())
            .collect();
        let last = kept.iter().copied().max().unwrap_or(0);

        let mut results: Vec<Option<Tensor>> = vec![Some(self.prepare(pictures)?)];
        for step in &self.steps[..last] {
            let inputs: Vec<&Tensor> = step
                .from
                .iter()
                .filter_map(|place| results.get(*place)?.as_ref())
                .collect();
            let result = step.run(&inputs)?;
            results.push(Some(result));
            for place in step.finished.iter().filter(|place| !kept.contains(place)) {
                results[*place] = None;
            }
        }
        let result = |place: usize| {
            let result = results.get(place).and_then(Option::as_ref);
            result.ok_or_else(|| Error::Weights(format!("layer {place} was not computed")))
        };
        Ok(Activations {
            perceptual: taps
                .iter()
                .zip(&self.perceptual)
                .filter(|_| wanted.perceptual)
                .map(|(place, (_, weights))| {
                    let weights = weights.as_ref().map(Tensor::shallow_clone);
                    Ok((unit_vectors(result(*place)?)?, weights))
                })
                .collect::<Result<_>>()?,
            style: taps
                .iter()
                .filter(|_| wanted.style)
                .map(|place| moments(result(*place)?))
                .collect::<Result<_>>()?,
            content: content
                .map(|place| Ok::<_, Error>(result(place)?.shallow_clone()))
                .transpose()?,
            features: features
                .map(|place| flat_mean(result(place)?))
                .transpose()?,
            logits: logits.map(|place| flat_mean(result(place)?)).transpose()?,
        })
    }

    /// From [-1, 1] to what the first layer expects.
    fn prepare(&self, pictures: &Tensor) -> Result<Tensor> {
        let input = &self.description.input;
        let pictures = pictures.f_to_kind(Kind::Float)?;
        let mut colour = match (pictures.size().get(1), input.order) {
            (Some(1), _) => pictures.f_expand([-1, 3, -1, -1], false)?,
            (_, ColourOrder::Rgb) => pictures,
            (_, ColourOrder::Bgr) => pictures.f_flip([1])?,
        };
        if let Some(size) = &input.size {
            colour = resize::resize(&colour, size)?;
        }
        let [black, white] = input.range;
        Ok(colour
            .f_mul_scalar((white - black) / 2.0)?
            .f_add_scalar((white + black) / 2.0)?
            .f_sub(&self.mean)?
            .f_div(&self.deviation)?)
    }
}

impl Step {
    fn run(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let [first, ..] = inputs else {
            return Err(Error::Weights("a layer has no input".to_owned()));
        };
        Ok(match (&self.operation, &self.weights) {
            (
                Operation::Convolution {
                    stride,
                    padding,
                    mode,
                },
                Some((weight, bias)),
            ) => {
                let [vertical, horizontal] = *padding;
                let around = match mode {
                    PaddingMode::Zeros => None,
                    PaddingMode::Reflect => Some(
                        first.f_reflection_pad2d([horizontal, horizontal, vertical, vertical])?,
                    ),
                };
                let (map, padding) = match &around {
                    Some(around) => (around, [0, 0]),
                    None => (*first, *padding),
                };
                map.f_conv2d(weight, Some(bias), *stride, padding, [1, 1], 1)?
            }
            (Operation::Linear, Some((weight, bias))) => {
                first.f_flatten(1, -1)?.f_linear(weight, Some(bias))?
            }
            (Operation::Convolution { .. } | Operation::Linear, None) => {
                return Err(Error::Weights("a layer has no weights".to_owned()));
            }
            (Operation::Relu, _) => first.f_relu()?,
            (
                Operation::MaxPool {
                    size,
                    stride,
                    padding,
                    ceil,
                },
                _,
            ) => first.f_max_pool2d(*size, *stride, *padding, [1, 1], *ceil)?,
            (
                Operation::AveragePool {
                    size,
                    stride,
                    padding,
                },
                _,
            ) => first.f_avg_pool2d(*size, *stride, *padding, false, false, None)?,
            (Operation::GlobalAveragePool, _) => first.f_adaptive_avg_pool2d([1, 1])?,
            (Operation::Add, _) => {
                let mut sum = first.shallow_clone();
                for other in &inputs[1..] {
                    sum = sum.f_add(other)?;
                }
                sum
            }
            (Operation::Concatenate, _) => Tensor::f_cat(inputs, 1)?,
        })
    }
}

impl Activations {
    /// Perceptual distance of each of these pictures to the one at the same place in `other`, `[B]`:
    /// at each pixel of each layer the squared difference of the unit feature vectors, weighted by
    /// channel if the backbone has weights, summed over channels, averaged over the picture, summed
    /// over layers (arXiv 1801.03924, equation 1).
    ///
    /// # Errors
    /// libtorch's, for instance for pictures of another size.
    pub fn perceptual_distance(&self, other: &Self) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for ((map, weights), (other, _)) in self.perceptual.iter().zip(&other.perceptual) {
            let mut squares = map.f_sub(other)?.f_square()?;
            if let Some(weights) = weights {
                squares = squares.f_mul(weights)?;
            }
            let distance = squares
                .f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?
                .f_mean_dim([1i64, 2].as_slice(), false, Kind::Float)?;
            sum = Some(match sum {
                Some(sum) => sum.f_add(&distance)?,
                None => distance,
            });
        }
        sum.ok_or_else(|| Error::Weights("the backbone has no layers to compare".to_owned()))
    }

    /// How far the style of each of these pictures is from that of the one at the same place in `other`,
    /// `[B]`: at each layer the squared differences of the channels' means and deviations over the
    /// picture (arXiv 1703.06868, equation 13), as a share of the squares of the other's, so that all
    /// layers of all backbones count alike; averaged over layers. Blind to what is where.
    ///
    /// # Errors
    /// libtorch's; a backbone without layers to compare.
    pub fn style_distance(&self, other: &Self) -> Result<Tensor> {
        let squares = |moments: &[Tensor; 2]| -> Result<Tensor> {
            let [mean, deviation] = moments;
            let both = mean.f_square()?.f_add(&deviation.f_square()?)?;
            Ok(both.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?)
        };
        let distances = self
            .style
            .iter()
            .zip(&other.style)
            .map(|([mean, deviation], other)| {
                let difference = [mean.f_sub(&other[0])?, deviation.f_sub(&other[1])?];
                Ok(squares(&difference)?.f_div(&squares(other)?.f_add_scalar(NORM_EPSILON)?)?)
            })
            .collect::<Result<Vec<_>>>()?;
        if distances.is_empty() {
            return Err(Error::Weights(
                "the backbone has no layers to compare".to_owned(),
            ));
        }
        Ok(Tensor::f_stack(&distances, 0)?.f_mean_dim([0i64].as_slice(), false, Kind::Float)?)
    }

    /// Mean squared difference of the content layer's maps of each picture and the one at the same
    /// place in `other`, `[B]`. With `normalised`, the maps are instance-normalised first: blind to
    /// what differs between domains and sharp on what a picture shows (arXiv 1804.04732, section
    /// 5.1).
    ///
    /// # Errors
    /// libtorch's, for instance for pictures of another size.
    pub fn content_distance(&self, other: &Self, normalised: bool) -> Result<Tensor> {
        let maps = |activations: &Self| -> Result<Tensor> {
            let maps = activations.content.as_ref().ok_or_else(|| {
                Error::Weights("the backbone has no layer for content".to_owned())
            })?;
            if normalised {
                instance_norm(maps)
            } else {
                Ok(maps.shallow_clone())
            }
        };
        let squares = maps(self)?.f_sub(&maps(other)?)?.f_square()?;
        Ok(squares.f_mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float)?)
    }

    /// The pictures at these places.
    ///
    /// # Errors
    /// libtorch's, for instance for places that are not there.
    pub fn select(&self, places: &[i64]) -> Result<Self> {
        let places = Tensor::f_from_slice(places)?;
        let chosen = |tensor: &Tensor| -> Result<Tensor> {
            Ok(tensor.f_index_select(0, &places.f_to_device(tensor.device())?)?)
        };
        Ok(Self {
            perceptual: self
                .perceptual
                .iter()
                .map(|(map, weights)| {
                    let weights = weights.as_ref().map(Tensor::shallow_clone);
                    Ok((chosen(map)?, weights))
                })
                .collect::<Result<_>>()?,
            style: self
                .style
                .iter()
                .map(|[mean, deviation]| Ok([chosen(mean)?, chosen(deviation)?]))
                .collect::<Result<_>>()?,
            content: self.content.as_ref().map(chosen).transpose()?,
            features: self.features.as_ref().map(chosen).transpose()?,
            logits: self.logits.as_ref().map(chosen).transpose()?,
        })
    }
}

/// Mean and deviation of each channel of `map` [B, C, H, W] over the picture, [B, C] each.
fn moments(map: &Tensor) -> Result<[Tensor; 2]> {
    let (variance, mean) = map.f_var_mean_correction(&[2i64, 3][..], 0, false)?;
    // The root is steep without bound where a channel is flat.
    Ok([mean, variance.f_add_scalar(NORM_EPSILON)?.f_sqrt()?])
}

/// Divides each pixel's vector by its length.
fn unit_vectors(map: &Tensor) -> Result<Tensor> {
    let length = map
        .f_square()?
        .f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?
        // Before the root, which is steep without bound where nothing is active.
        .f_add_scalar(LENGTH_EPSILON)?
        .f_sqrt()?;
    Ok(map.f_div(&length)?)
}

fn instance_norm(map: &Tensor) -> Result<Tensor> {
    let none = None::<&Tensor>;
    Ok(map.f_instance_norm(none, none, none, none, true, 0.0, NORM_EPSILON, false)?)
}

/// The mean over the picture, where there is one: [B, C].
fn flat_mean(result: &Tensor) -> Result<Tensor> {
    match result.dim() {
        4 => Ok(result.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?),
        _ => Ok(result.shallow_clone()),
    }
}

#[cfg(test)]
mod tests;
