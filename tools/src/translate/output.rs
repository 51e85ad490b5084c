//! Where results go.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::codecs::jpeg::JpegEncoder;
use image::{GrayImage, ImageBuffer, ImageFormat, PixelWithColorType, RgbImage};
use safetensors::{Dtype, tensor::TensorView};
use tch::{Device, Kind, Tensor};

use munit::atomic_file;

use super::input::with_ending;
use super::picture::with_alpha;
use crate::result_file::make_folder;

/// Name of the float output of a single picture, or of a tensor of pictures.
pub const RAW_NAME: &str = "output";

const JPEG_QUALITY: u8 = 95;

/// Float outputs of the network, kept for one safetensors file.
#[derive(Default)]
pub struct RawOutput {
    tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
}

impl RawOutput {
    /// Keeps `tensor` under `name`, in fp32.
    ///
    /// # Errors
    /// libtorch's.
    pub fn add(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let tensor = tensor
            .f_to_device(Device::Cpu)?
            .f_to_kind(Kind::Float)?
            .f_contiguous()?;
        let shape = tensor.size().iter().map(|&side| side as usize).collect();
        let values = Vec::<f32>::try_from(tensor.f_reshape(-1)?)?;
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.tensors.insert(name.to_owned(), (shape, bytes));
        Ok(())
    }

    /// Writes all that was kept.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let views = self
            .tensors
            .iter()
            .map(|(name, (shape, bytes))| {
                Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let file = safetensors::serialize(views, None)?;
        make_folder(path)?;
        Ok(atomic_file::write(path, |writer| writer.write_all(&file))?)
    }
}

/// The format that a file name asks for, if it is one that is written.
fn named_format(path: &Path) -> Option<ImageFormat> {
    let extension = path
        .extension()
        .and_then(OsStr::to_str)?
        .to_ascii_lowercase();
    match extension.as_str() {
        "png" => Some(ImageFormat::Png),
        "jpg" | "jpeg" | "jpe" | "jfif" => Some(ImageFormat::Jpeg),
        "webp" => Some(ImageFormat::WebP),
        "bmp" => Some(ImageFormat::Bmp),
        "ppm" | "pnm" => Some(ImageFormat::Pnm),
        _ => None,
    }
}

/// Whether a file of this name is one of the pictures that are written.
pub fn has_picture_name(path: &Path) -> bool {
    named_format(path).is_some()
}

/// `path`, or `path` with `.png` behind it if its name asks for a format that is not written.
pub fn writable_name(path: PathBuf) -> PathBuf {
    if named_format(&path).is_some() {
        return path;
    }
    with_ending(path, "png")
}

/// The format that a file name asks for.
///
/// # Errors
/// A sentence that names the file, if it asks for another format than those written here.
pub fn format(path: &Path) -> Result<ImageFormat> {
    named_format(path).with_context(|| {
        format!(
            "{}: cannot tell the format from this name; end it in .png, .jpg, .webp, .bmp or .ppm",
            path.display()
        )
    })
}

/// As [`save_picture`], as opaque as `alpha` says where the format has that, as PNG and WebP do.
///
/// # Errors
/// As [`save_picture`].
pub fn save_translation(path: &Path, picture: &RgbImage, alpha: Option<&GrayImage>) -> Result<()> {
    match (format(path)?, alpha) {
        (ImageFormat::Png | ImageFormat::WebP, Some(alpha)) => {
            save(path, &with_alpha(picture, alpha))
        }
        _ => save_picture(path, picture),
    }
}

/// Writes a picture in the format that its name asks for, and the folder it lies in if that is
/// missing.
///
/// # Errors
/// A sentence that names the file, if it cannot be written or its name asks for another format.
pub fn save_picture(path: &Path, picture: &RgbImage) -> Result<()> {
    save(path, picture)
}

fn save<P: PixelWithColorType<Subpixel = u8>>(
    path: &Path,
    picture: &ImageBuffer<P, Vec<u8>>,
) -> Result<()> {
    let format = format(path)?;
    let mut bytes = Cursor::new(Vec::new());
    match format {
        ImageFormat::Jpeg => {
            picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))
        }
        _ => picture.write_to(&mut bytes, format),
    }
    .with_context(|| format!("{}: cannot encode", path.display()))?;
    make_folder(path)?;
    Ok(atomic_file::write(path, |writer| {
        writer.write_all(bytes.get_ref())
    })?)
}
