//! The network of the perceptual loss.

use anyhow::{Context, Result, ensure};
use tch::Device;

use crate::config::TrainConfig;
use crate::perceptual::PerceptualNetwork;

/// What to say where `config` names a network that nothing is computed in.
///
/// # Errors
/// There is no such file.
pub(super) fn unused_perceptual(config: &TrainConfig) -> Result<Option<String>> {
    let Some(path) = config
        .vgg_weights
        .as_ref()
        .filter(|_| !config.is_perceptual())
    else {
        return Ok(None);
    };
    ensure!(
        path.is_file(),
        "{}: there is no such file for the perceptual loss (--vgg-weights)",
        path.display()
    );
    Ok(Some(format!(
        "the network {} (--vgg-weights) is not used, since no loss is computed in it; give one a weight with \
         --perceptual, --perceptual-style or --perceptual-paired",
        path.display()
    )))
}

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
