//! The network of the perceptual loss.

use anyhow::{Context, Result};
use tch::Device;

use crate::config::TrainConfig;
use crate::perceptual::PerceptualNetwork;

/// The network that `config` names; `None` if it has no perceptual loss.
///
/// # Errors
/// A file that is missing or holds something else.
pub(super) fn load_perceptual(
    config: &TrainConfig,
    device: Device,
) -> Result<Option<PerceptualNetwork>> {
    let Some((key, weight)) = config.perceptual_terms().next() else {
        return Ok(None);
    };
    let path = config.vgg_weights.as_ref().with_context(|| {
        format!(
            "{key} is {weight}, but no weights are given: add --vgg-weights FILE, a .safetensors file of \
             munit-import backbone, or one with the tensors conv1_1.weight to conv5_3.bias of \
             VGG-16, or leave the perceptual loss out"
        )
    })?;
    let network = PerceptualNetwork::read(path, device)?;
    if config.vgg_style_w > 0.0 {
        network
            .check_style()
            .with_context(|| path.display().to_string())?;
    }
    if config.vgg_paired_w > 0.0 {
        network
            .check_pairs()
            .with_context(|| path.display().to_string())?;
    }
    Ok(Some(network))
}
