//! The multi-scale patch discriminator.

use tch::Tensor;

use super::blocks::{BlockStyle, ConvBlock, Convolution};
use super::parameters::{Parameter, ParameterStore};
use crate::Result;
use crate::config::{DiscriminatorConfig, Norm};

#[derive(Debug)]
struct Scale {
    blocks: Vec<ConvBlock>,
    last: Convolution,
}

/// Judges pictures of one domain, patch by patch, at several sizes (arXiv 1711.11585).
#[derive(Debug)]
pub struct Discriminator {
    scales: Vec<Scale>,
    parameters: Vec<Parameter>,
}

impl Discriminator {
    /// For pictures of `channels` channels, with weights from `store`.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for impossible options, [`crate::Error::Weights`] for a tensor
    /// that is missing or of another shape.
    pub fn new(config: &DiscriminatorConfig, channels: i64, store: ParameterStore) -> Result<Self> {
        config.check()?;
        let style = BlockStyle {
            activation: config.activation,
            padding: config.padding,
        };
        let root = store.root();
        let scales = (0..config.num_scales)
            .map(|scale| {
                let scope = root.enter("cnns").enter(scale);
                let mut shape = [channels, config.dim];
                let mut blocks = Vec::new();
                for layer in 0..config.n_layer {
                    let norm = if layer == 0 { Norm::None } else { config.norm };
                    blocks.push(ConvBlock::new(
                        &scope.enter(layer),
                        shape,
                        [4, 2, 1],
                        norm,
                        style,
                    )?);
                    shape = [shape[1], 2 * shape[1]];
                }
                let last = Convolution::new(
                    &scope.enter(config.n_layer),
                    [shape[0], 1],
                    1,
                    1,
                    Norm::None,
                )?;
                Ok(Scale { blocks, last })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            scales,
            parameters: store.into_parameters(),
        })
    }

    /// Every tensor in order of definition.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Scores [B, 1, h, w] of `picture` [B, C, H, W] in [-1, 1], one map for each scale, the full
    /// size first.
    ///
    /// # Errors
    /// libtorch's, for instance a picture too small for the last scale.
    pub fn forward(&self, picture: &Tensor) -> Result<Vec<Tensor>> {
        // A layer of all scales at once.
        let layers = self.scales.first().map_or(0, |scale| scale.blocks.len());
        let weights = (0..layers)
            .map(|layer| {
                let blocks: Vec<&ConvBlock> = self
                    .scales
                    .iter()
                    .map(|scale| &scale.blocks[layer])
                    .collect();
                ConvBlock::weights(&blocks)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut picture = picture.shallow_clone();
        let mut scores = Vec::with_capacity(self.scales.len());
        for (index, scale) in self.scales.iter().enumerate() {
            if index > 0 {
                picture = picture.f_avg_pool2d([3, 3], [2, 2], [1, 1], false, false, None)?;
            }
            let features = scale
                .blocks
                .iter()
                .zip(&weights)
                .try_fold(picture.shallow_clone(), |x, (block, weights)| {
                    block.forward_weighted(&x, &weights[index])
                })?;
            scores.push(scale.last.forward(&features)?);
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tch::{Device, Kind};

    use super::*;
    use crate::networks::Initialisation;

    fn config(norm: Norm) -> DiscriminatorConfig {
        DiscriminatorConfig {
            dim: 5,
            n_layer: 3,
            num_scales: 2,
            norm,
            ..DiscriminatorConfig::default()
        }
    }

    #[test]
    fn spectral_norm_divides_by_the_largest_singular_value() {
        let store = ParameterStore::random(Initialisation::Kaiming, 1, Device::Cpu);
        let spectral = Discriminator::new(&config(Norm::Spectral), 3, store).unwrap();
        let x = Tensor::arange(2 * 3 * 32 * 32, (Kind::Float, Device::Cpu))
            .sin()
            .view([2, 3, 32, 32]);
        let _guard = tch::no_grad_guard();
        // Each pass is one power iteration.
        for _ in 0..300 {
            spectral.forward(&x.narrow(0, 0, 1)).unwrap();
        }
        let mut plain = BTreeMap::new();
        let mut divided = 0;
        for Parameter { name, tensor, .. } in spectral.parameters() {
            let (name, tensor) = match name.strip_suffix("module.weight_bar") {
                Some(start) => {
                    divided += 1;
                    let matrix = tensor.reshape([tensor.size()[0], -1]);
                    let largest = matrix.svd(true, false).1.max();
                    (format!("{start}weight"), tensor / largest)
                }
                None => (name.replace("module.", ""), tensor.shallow_clone()),
            };
            plain.insert(name, tensor);
        }
        assert_eq!(
            divided, 4,
            "all but the first and the last layer of each scale"
        );
        let store = ParameterStore::given(&plain, "", Device::Cpu);
        let plain = Discriminator::new(&config(Norm::None), 3, store).unwrap();
        let scores = plain.forward(&x).unwrap();
        for (found, expected) in spectral.forward(&x).unwrap().iter().zip(scores) {
            let difference = (found - expected).abs().max().double_value(&[]);
            assert!(difference < 1e-3, "{difference}");
        }
    }

    #[test]
    fn a_pass_moves_the_vectors_of_the_power_iteration_and_gradients_follow_the_quotient() {
        let store = ParameterStore::random(Initialisation::Kaiming, 1, Device::Cpu);
        let network = Discriminator::new(&config(Norm::Spectral), 3, store).unwrap();
        let named = |end: &str| {
            let parameters = network.parameters().iter();
            let mut found = parameters.filter(|parameter| parameter.name.ends_with(end));
            found.next().unwrap()
        };
        let (u, v) = (named("weight_u"), named("weight_v"));
        assert!(!u.trainable && !v.trainable);
        let before = u.tensor.copy();
        let x = Tensor::ones([1, 3, 32, 32], (Kind::Float, Device::Cpu));
        let scores = network.forward(&x).unwrap();
        assert_ne!(u.tensor, before);
        for vector in [u, v] {
            let length = vector.tensor.norm().double_value(&[]);
            assert!((length - 1.0).abs() < 1e-5, "{length}");
        }
        // W / (uᵀ W v) does not depend on the length of W, so that its gradient stands upright on W.
        let loss = scores[0].square().sum(Kind::Float);
        let weight = &named("weight_bar").tensor;
        let gradient = &Tensor::run_backward(&[loss], &[weight], false, false)[0];
        let along = (gradient * weight).sum(Kind::Float).double_value(&[]);
        let lengths = (gradient.norm() * weight.norm()).double_value(&[]);
        assert!(lengths > 0.0 && along.abs() < 1e-4 * lengths, "{along}");
    }
}
