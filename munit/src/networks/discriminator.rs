//! The multi-scale patch discriminator.

use tch::Tensor;

use super::blocks::{AdainParameters, BlockStyle, ConvBlock, Convolution};
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
        let mut picture = picture.shallow_clone();
        let mut scores = Vec::with_capacity(self.scales.len());
        for (index, scale) in self.scales.iter().enumerate() {
            if index > 0 {
                picture = picture.f_avg_pool2d([3, 3], [2, 2], [1, 1], false, false, None)?;
            }
            let features = scale
                .blocks
                .iter()
                .try_fold(picture.shallow_clone(), |x, block| {
                    block.forward(&x, &mut AdainParameters::none())
                })?;
            scores.push(scale.last.forward(&features)?);
        }
        Ok(scores)
    }
}
