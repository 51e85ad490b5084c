//! Single pictures, from file to translator and back.

use std::path::Path;

use anyhow::{Result, anyhow};
use image::RgbImage;
use munit::StyleCode;
use munit::picture_file::read_picture;
use munit::runtime::{PictureFormat, PictureMut, PictureRef, TranslateOptions, Translator};

/// Reads a picture file.
///
/// # Errors
/// A sentence that names the file.
pub fn open(path: &Path) -> Result<RgbImage> {
    read_picture(path).map_err(|problem| anyhow!("{}: {problem}", path.display()))
}

/// The translation of a picture, of the same size.
///
/// # Errors
/// As [`Translator::translate`].
pub fn translated(
    translator: &mut Translator,
    picture: &RgbImage,
    style: &StyleCode,
    options: &TranslateOptions,
) -> munit::Result<RgbImage> {
    let mut result = RgbImage::new(picture.width(), picture.height());
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let plane = (result.as_mut(), 3 * width);
    let mut target = PictureMut::new(PictureFormat::Rgb, width, height, vec![plane])?;
    translator.translate(&view(picture)?, &mut target, style, options)?;
    Ok(result)
}

/// Two pictures of one size in one, `left` on the left.
pub fn side_by_side(left: &RgbImage, right: &RgbImage) -> RgbImage {
    let width = left.width();
    RgbImage::from_fn(2 * width, left.height().min(right.height()), |x, y| {
        if x < width {
            *left.get_pixel(x, y)
        } else {
            *right.get_pixel(x - width, y)
        }
    })
}

/// The style code of a picture of the target domain.
///
/// # Errors
/// As [`Translator::encode_style`].
pub fn encoded_style(translator: &mut Translator, picture: &RgbImage) -> munit::Result<StyleCode> {
    translator.encode_style(&view(picture)?)
}

fn view(picture: &RgbImage) -> munit::Result<PictureRef<'_>> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let plane = (picture.as_raw().as_slice(), 3 * width);
    PictureRef::new(PictureFormat::Rgb, width, height, &[plane])
}
