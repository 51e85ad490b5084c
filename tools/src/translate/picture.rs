//! Single pictures, from file to translator and back.

use std::path::Path;

use anyhow::{Result, anyhow};
use image::{GrayImage, RgbImage, Rgba, RgbaImage};
use munit::StyleCode;
use munit::picture_file::read_picture_with_alpha;
use munit::runtime::{PictureFormat, PictureMut, PictureRef, TranslateOptions, Translator};

/// Reads a picture file.
///
/// # Errors
/// A sentence that names the file.
pub fn open(path: &Path) -> Result<RgbImage> {
    Ok(open_with_alpha(path)?.0)
}

/// The same with how opaque each pixel is, where some are not quite.
///
/// # Errors
/// A sentence that names the file.
pub fn open_with_alpha(path: &Path) -> Result<(RgbImage, Option<GrayImage>)> {
    read_picture_with_alpha(path).map_err(|problem| anyhow!("{}: {problem}", path.display()))
}

/// A picture as opaque as `alpha` says, which may be narrower: then it is repeated to the right.
pub fn with_alpha(picture: &RgbImage, alpha: &GrayImage) -> RgbaImage {
    RgbaImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [r, g, b] = picture.get_pixel(x, y).0;
        let [alpha] = alpha.get_pixel(x % alpha.width(), y).0;
        Rgba([r, g, b, alpha])
    })
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
