//! Single pictures to tensors and back.

use std::path::Path;
use std::slice;

use anyhow::{Context, Result, anyhow, bail, ensure};
use image::RgbImage;
use munit::picture_file::read_picture;
use tch::{Device, Kind, Tensor};

use super::augment::Framing;
use super::unusable::{self, Unusable};

/// Reads a picture, resizes it and cuts out its middle, without chance: for previews and tests.
/// Gives `[C, H, W]` in [-1, 1], single precision.
///
/// # Errors
/// A picture that cannot be read and a framing that makes no sense, in a sentence that names the
/// file or the value.
pub fn load_picture(path: &Path, framing: &Framing) -> Result<Tensor> {
    framed(path, framing, |_| Ok(()))
}

/// The same for a picture to train on, which must not be blank or a strip.
///
/// # Errors
/// As [`load_picture`]; a picture from which nothing is learnt.
pub fn load_training_picture(path: &Path, framing: &Framing) -> Result<Tensor> {
    framed(path, framing, unusable::check)
}

fn framed(
    path: &Path,
    framing: &Framing,
    check: impl FnOnce(&RgbImage) -> Result<(), Unusable>,
) -> Result<Tensor> {
    framing.check().map_err(anyhow::Error::msg)?;
    let usable = || {
        let picture = read_picture(path)?;
        check(&picture)?;
        framing.resize(&picture).map_err(Unusable::from)
    };
    let resized = usable()
        .map_err(|reason| anyhow!("cannot use the picture {}: {reason}", path.display()))?;
    write_tensor(&framing.crop_shape(), |planes| {
        framing.write_crop(&resized, framing.centre_crop(&resized), planes);
        Ok(())
    })
}

/// A new tensor of single precision on the CPU, of which `write` gets the values, all zero.
///
/// tch's constructors from slices fill the tensor with OpenMP first. Each thread that loads
/// pictures would then keep OpenMP threads of its own, which spin while the networks compute.
pub(super) fn write_tensor(
    shape: &[i64],
    write: impl FnOnce(&mut [f32]) -> Result<()>,
) -> Result<Tensor> {
    let tensor = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
    let values = tensor.data_ptr().cast::<f32>();
    ensure!(!values.is_null(), "a tensor of shape {shape:?} is empty");
    // SAFETY: the tensor is new, contiguous and on the CPU: the pointer leads to `numel` values,
    // aligned, that nothing else refers to, and that live as long as `tensor`, which outlives the
    // slice. They are set before they are lent.
    let values = unsafe {
        values.write_bytes(0, tensor.numel());
        slice::from_raw_parts_mut(values, tensor.numel())
    };
    write(values)?;
    Ok(tensor)
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

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;
    use crate::data::test_pictures::picture;

    fn framing(new_size: usize, crop: usize, channels: i64) -> Framing {
        Framing {
            new_size,
            crop_height: crop,
            crop_width: crop,
            channels,
        }
    }

    #[test]
    fn a_picture_survives_the_way_to_a_tensor_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let values = RgbImage::from_fn(16, 16, |x, y| {
            let value = (y * 16 + x) as u8;
            Rgb([value, 255 - value, value.wrapping_mul(7)])
        });
        values.save(&path).unwrap();
        let tensor = load_picture(&path, &framing(16, 16, 3)).unwrap();
        assert_eq!(tensor.size(), [3, 16, 16]);
        assert_eq!(tensor.kind(), Kind::Float);
        assert_eq!(tensor_to_rgb(&tensor).unwrap(), values);
        assert_eq!(tensor_to_rgb(&tensor.unsqueeze(0)).unwrap(), values);
    }

    #[test]
    fn the_middle_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let original = picture(40, 20, 1);
        original.save(&path).unwrap();
        let tensor = load_picture(&path, &framing(20, 16, 3)).unwrap();
        let middle = image::imageops::crop_imm(&original, 12, 2, 16, 16).to_image();
        assert_eq!(tensor_to_rgb(&tensor).unwrap(), middle);
    }

    #[test]
    fn a_blank_picture_is_shown_but_not_trained_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blank.png");
        RgbImage::new(20, 20).save(&path).unwrap();
        let framing = framing(16, 16, 3);
        assert!(load_picture(&path, &framing).is_ok());
        let error = load_training_picture(&path, &framing).unwrap_err();
        let sentence = error.to_string();
        assert!(sentence.contains("blank.png: it is blank"), "{sentence}");
    }

    #[test]
    fn one_channel_is_luma_and_comes_back_grey() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let mut red = RgbImage::from_pixel(16, 16, Rgb([255, 0, 0]));
        red.save(&path).unwrap();
        let tensor = load_picture(&path, &framing(16, 16, 1)).unwrap();
        assert_eq!(tensor.size(), [1, 16, 16]);
        red.pixels_mut().for_each(|pixel| *pixel = Rgb([76; 3]));
        assert_eq!(tensor_to_rgb(&tensor).unwrap(), red);
    }

    #[test]
    fn values_out_of_range_are_clamped_not_stretched() {
        let tensor = Tensor::from_slice(&[-3.0f32, 0.0, 0.5, 3.0]).view([1, 2, 2]);
        let picture = tensor_to_rgb(&tensor).unwrap();
        let values: Vec<_> = picture.pixels().map(|pixel| pixel.0[0]).collect();
        assert_eq!(values, [0, 128, 191, 255]);
    }

    #[test]
    fn other_shapes_are_refused() {
        for shape in [&[2i64, 4, 4][..], &[2, 3, 4, 4], &[4, 4], &[1, 1, 3, 4, 4]] {
            let tensor = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
            assert!(tensor_to_rgb(&tensor).is_err(), "{shape:?}");
        }
    }

    #[test]
    fn errors_name_the_file() {
        let error = load_picture(Path::new("missing.png"), &framing(16, 16, 3)).unwrap_err();
        let sentence = format!("{error:#}");
        assert!(sentence.contains("missing.png") && sentence.contains("no such file"));
    }
}
