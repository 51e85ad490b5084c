//! Pictures for the tests of this module.

use std::fs;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};

/// A smooth picture that differs from those of other numbers, and from its own mirror image.
pub(super) fn picture(width: u32, height: u32, number: u8) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([
            (x * 255 / width) as u8,
            (y * 255 / height) as u8,
            number.wrapping_mul(37),
        ])
    })
}

/// Writes `count` pictures of 40×32 pixels, `00.png`, `01.png`, … and gives their paths.
pub(super) fn write_pictures(folder: &Path, count: u8) -> Vec<PathBuf> {
    fs::create_dir_all(folder).unwrap();
    (0..count)
        .map(|number| {
            let path = folder.join(format!("{number:02}.png"));
            picture(40, 32, number).save(&path).unwrap();
            path
        })
        .collect()
}
