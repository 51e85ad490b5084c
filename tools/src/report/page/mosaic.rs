//! Pictures side by side in one file, without gaps: the page draws these.

use std::io::Cursor;

use anyhow::{Context, Result, ensure};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

/// Blocks of a JPEG with halved colours; whole ones to a picture keep pictures from bleeding into
/// each other.
const BLOCK: u32 = 16;
const QUALITY: u8 = 78;

/// A grid of pictures as a JPEG file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mosaic {
    /// Pictures in a row.
    pub columns: u32,
    /// Rows.
    pub rows: u32,
    /// Width and height of a picture, in pixels.
    pub tile: (u32, u32),
    /// The file.
    pub jpeg: Vec<u8>,
}

impl Mosaic {
    /// Rows of as many pictures each, all of one size, shown with a longer side of at most `longest`
    /// pixels. A `None` stays empty.
    ///
    /// # Errors
    /// Rows of different lengths, no picture at all.
    pub fn new(rows: &[Vec<Option<RgbImage>>], longest: u32) -> Result<Self> {
        let columns = rows.first().map_or(0, Vec::len);
        let first = rows.iter().flatten().flatten().next();
        let first = first.context("there are no pictures to show")?;
        ensure!(
            rows.iter().all(|row| row.len() == columns),
            "rows of pictures differ in length"
        );
        let tile = tile_size(first.dimensions(), longest);
        let (width, height) = (columns as u32 * tile.0, rows.len() as u32 * tile.1);
        let mut canvas = RgbImage::from_pixel(width, height, Rgb([128; 3]));
        for (row, pictures) in (0i64..).zip(rows) {
            for (column, picture) in (0i64..).zip(pictures) {
                let Some(picture) = picture else { continue };
                let (x, y) = (column * i64::from(tile.0), row * i64::from(tile.1));
                if picture.dimensions() == tile {
                    imageops::replace(&mut canvas, picture, x, y);
                } else {
                    let filter = FilterType::Triangle;
                    let resized = imageops::resize(picture, tile.0, tile.1, filter);
                    imageops::replace(&mut canvas, &resized, x, y);
                }
            }
        }
        Ok(Self {
            columns: columns as u32,
            rows: rows.len() as u32,
            tile,
            jpeg: jpeg(&canvas)?,
        })
    }
}

fn jpeg(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(picture)?;
    Ok(bytes.into_inner())
}

/// Never larger than the picture, but for whole blocks.
fn tile_size((width, height): (u32, u32), longest: u32) -> (u32, u32) {
    let scale = f64::from(longest) / f64::from(width.max(height).max(1));
    let side = |pixels: u32| {
        let blocks = f64::from(pixels) * scale.min(1.0) / f64::from(BLOCK);
        (blocks.round() as u32).max(1) * BLOCK
    };
    (side(width), side(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_lie_side_by_side_and_do_not_bleed() {
        let black = RgbImage::new(64, 32);
        let white = RgbImage::from_pixel(64, 32, Rgb([255; 3]));
        let rows = [
            vec![Some(black.clone()), Some(white.clone())],
            vec![None, Some(black)],
        ];
        let mosaic = Mosaic::new(&rows, 64).unwrap();
        assert_eq!((mosaic.columns, mosaic.rows, mosaic.tile), (2, 2, (64, 32)));
        let shown = image::load_from_memory(&mosaic.jpeg).unwrap().to_rgb8();
        assert_eq!(shown.dimensions(), (128, 64));
        for (x, y, value) in [(63, 31, 0), (64, 0, 255), (127, 31, 255), (64, 32, 0)] {
            let found = shown.get_pixel(x, y).0[0];
            assert!(found.abs_diff(value) < 4, "{x}, {y}: {found}");
        }
        assert_eq!(Mosaic::new(&rows, 32).unwrap().tile, (32, 16));
        assert!(Mosaic::new(&[vec![Some(white)], vec![]], 64).is_err());
        assert!(Mosaic::new(&[vec![None]], 64).is_err());
    }

    #[test]
    fn tiles_are_whole_blocks_and_keep_their_shape() {
        for (size, longest, tile) in [
            ((256, 256), 96, (96, 96)),
            ((512, 256), 96, (96, 48)),
            ((64, 64), 96, (64, 64)),
            ((100, 20), 96, (96, 16)),
            ((36, 36), 96, (32, 32)),
        ] {
            assert_eq!(tile_size(size, longest), tile);
        }
    }
}
