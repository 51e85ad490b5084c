//! The network of the perceptual loss.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use munit::backbone::{Backbone, Wanted};
use munit::networks::Vgg16;
use tch::{Device, Kind, Tensor};

/// A feature network in which pictures are compared, blind to what differs between domains and sharp
/// on what a picture shows (arXiv 1804.04732, section 5.1).
#[derive(Debug)]
pub enum PerceptualNetwork {
    /// VGG-16 as in the published loss.
    Published(Vgg16),
    /// Any other, compared at the layer that its file names for content.
    Backbone(Box<Backbone>),
}

impl PerceptualNetwork {
    /// Reads a file of `munit-import backbone`, or the bare weights of the published VGG-16.
    ///
    /// # Errors
    /// A file that is missing or holds something else.
    pub fn read(path: &Path, device: Device) -> Result<Self> {
        let unreadable = || {
            format!(
                "{}: cannot read the weights of the perceptual loss; give a .safetensors file of \
                 munit-import backbone, or one with the tensors conv1_1.weight to conv5_3.bias of \
                 VGG-16",
                path.display()
            )
        };
        if Backbone::is_described(path).with_context(unreadable)? {
            let network = Backbone::read(path, device)?;
            ensure!(
                network.can().content,
                "{}: {} names no layer for content, so that it cannot be the perceptual loss; take \
                 another backbone",
                path.display(),
                network.name()
            );
            return Ok(Self::Backbone(Box::new(network)));
        }
        let tensors = Tensor::read_safetensors(path)
            .with_context(unreadable)?
            .into_iter()
            .collect();
        let network = Vgg16::new(&tensors, device)
            .with_context(|| format!("{}: not VGG-16 weights", path.display()))?;
        Ok(Self::Published(network))
    }

    /// Mean squared difference of the instance-normalised features of `picture` and `target`, both
    /// [B, 3 or 1, H, W] in [-1, 1]: a scalar.
    ///
    /// # Errors
    /// libtorch's, for instance for pictures that are too small for the network.
    pub fn distance(&self, picture: &Tensor, target: &Tensor) -> Result<Tensor> {
        match self {
            Self::Published(network) => Ok(network.distance(picture, target)?),
            Self::Backbone(network) => {
                let wanted = Wanted {
                    content: true,
                    ..Wanted::default()
                };
                // No gradient is wanted of what is compared with.
                let target = tch::no_grad(|| network.activations(target, wanted))?;
                let picture = network.activations(picture, wanted)?;
                Ok(picture
                    .content_distance(&target, true)?
                    .f_mean(Kind::Float)?)
            }
        }
    }
}
