//! Single pictures to tensors and back.

use std::path::Path;

use anyhow::{Context, Result, bail};
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use super::augment::Framing;
use super::picture::read_picture;

/// Reads a picture, resizes it and cuts out its middle, without chance: for previews and tests.
/// Gives `[C, H, W]` in [-1, 1], single precision.
///
/// # Errors
/// A picture that cannot be read and a framing that makes no sense, in a sentence that names the
/// file or the value.
pub fn load_picture(path: &Path, framing: &Framing) -> Result<Tensor> {
    framing.check().map_err(anyhow::Error::msg)?;
    let resized = read_picture(path)
        .and_then(|picture| framing.resize(&picture))
        .with_context(|| format!("cannot use the picture {}", path.display()))?;
    let mut samples = vec![0.0; framing.crop_len()];
    framing.write_crop(&resized, framing.centre_crop(&resized), &mut samples);
    let shape = [
        framing.channels,
        framing.crop_height as i64,
        framing.crop_width as i64,
    ];
    Ok(Tensor::f_from_slice(&samples)?.f_view(shape)?)
}

/// Turns `[C, H, W]` or `[1, C, H, W]` in [-1, 1], of one or three channels, into a picture:
/// x becomes (x + 1) · 127.5, rounded and clamped. One channel gives a grey picture.
///
/// # Errors
/// Any other shape, and failures of libtorch.
pub fn tensor_to_rgb(tensor: &Tensor) -> Result<RgbImage> {
    let size = tensor.size();
    let &[channels @ (1 | 3), height, width] = size
        .strip_prefix(&[1])
        .filter(|rest| rest.len() == 3)
        .unwrap_or(&size)
    else {
        bail!("a tensor of shape {size:?} is not one picture; [C, H, W] with 1 or 3 channels is");
    };
    let samples = tensor
        .f_detach()?
        .f_to_device(Device::Cpu)?
        .f_to_kind(Kind::Float)?
        .f_view([channels, height, width])?
        .f_expand([3, height, width], false)?
        .f_permute([1, 2, 0])?;
    let samples = ((samples + 1.0) * 127.5)
        .f_round()?
        .f_clamp(0.0, 255.0)?
        .f_to_kind(Kind::Uint8)?
        .f_contiguous()?
        .f_view(-1)?;
    RgbImage::from_raw(width as u32, height as u32, Vec::try_from(samples)?)
        .context("the tensor has fewer values than its shape says")
}
