//! Sample sheets: rows of pictures with quiet labels, as a picture to look at.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::{Rgb, RgbImage};
use munit::atomic_file;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use tch::Tensor;

use crate::data::tensor_to_rgb;

/// Pixels around the whole sheet.
const MARGIN: u32 = 20;
/// Pixels between pictures.
const GUTTER: u32 = 4;
/// Pixels above a section's title.
const SECTION_GAP: u32 = 20;
/// Pixels between a label and its pictures, and below a section's title.
const LABEL_GAP: u32 = 10;

const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const TITLE_INK: u8 = 70;
const LABEL_INK: u8 = 130;

const FONT_SIZE: RasterHeight = RasterHeight::Size16;
/// Shown for characters that the font lacks.
const UNKNOWN: char = '?';

/// A sheet of labelled rows of pictures, in titled sections: for a training run one section per
/// direction with rows of inputs, reconstructions and translations, one column per input.
///
/// ```
/// use munit_tools::report::Sheet;
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> anyhow::Result<()> {
/// let pictures = Tensor::zeros([4, 3, 64, 64], (Kind::Float, Device::Cpu));
/// let mut sheet = Sheet::new();
/// sheet.section("photo to illustration");
/// sheet.row("input", &pictures)?;
/// sheet.row("fixed style 1", &pictures.neg())?;
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("samples.png");
/// sheet.save(&path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Sheet {
    lines: Vec<Line>,
}

enum Line {
    Section(String),
    Row(String, Vec<RgbImage>),
}

impl Sheet {
    /// An empty sheet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a section; the following rows belong to it.
    pub fn section(&mut self, title: &str) {
        self.lines.push(Line::Section(title.to_owned()));
    }

    /// Adds a row of N pictures from a tensor [N, C, H, W] of any float kind on any device: C is
    /// 1 (grey) or 3 (RGB), values from -1 (black) to 1 (white) are shown as they are and
    /// clamped beyond, never stretched; NaN is black.
    ///
    /// # Errors
    /// Another shape; a failure of libtorch.
    pub fn row(&mut self, label: &str, pictures: &Tensor) -> Result<()> {
        let size = pictures.size();
        let &[count, 1 | 3, height, width] = size.as_slice() else {
            anyhow::bail!(
                "row \"{label}\" of a sample sheet has shape {size:?}; it must be [N, 1 or 3, H, W]"
            );
        };
        ensure!(
            count > 0 && height > 0 && width > 0,
            "row \"{label}\" of a sample sheet is empty: its shape is {size:?}"
        );
        let pictures = tch::no_grad(|| {
            // A network that has run away must not turn the sheet into noise.
            let pictures = pictures.f_nan_to_num(-1.0, 1.0, -1.0)?;
            (0..count)
                .map(|index| tensor_to_rgb(&pictures.f_get(index)?))
                .collect::<Result<_>>()
        })
        .with_context(|| format!("row \"{label}\" of a sample sheet"))?;
        self.pictures(label, pictures);
        Ok(())
    }

    /// Adds a row of pictures, which may differ in size.
    pub fn pictures(&mut self, label: &str, pictures: Vec<RgbImage>) {
        self.lines.push(Line::Row(label.to_owned(), pictures));
    }

    /// Draws the sheet.
    pub fn render(&self) -> RgbImage {
        let mut label_width = 0;
        let mut columns: Vec<u32> = Vec::new();
        let mut title_width = 0;
        for line in &self.lines {
            match line {
                Line::Section(title) => title_width = title_width.max(text_width(title)),
                Line::Row(label, pictures) => {
                    label_width = label_width.max(text_width(label));
                    for (index, picture) in pictures.iter().enumerate() {
                        match columns.get_mut(index) {
                            Some(width) => *width = picture.width().max(*width),
                            None => columns.push(picture.width()),
                        }
                    }
                }
            }
        }
        let left = MARGIN
            + if label_width > 0 {
                label_width + LABEL_GAP
            } else {
                0
            };
        let pictures_width = columns.iter().map(|width| width + GUTTER).sum::<u32>();
        let width = (left + pictures_width.saturating_sub(GUTTER)).max(left + title_width) + MARGIN;
        let height = self.tops().last().copied().unwrap_or(MARGIN) + MARGIN;

        let mut sheet = RgbImage::from_pixel(width, height, PAPER);
        for (line, top) in self.lines.iter().zip(self.tops()) {
            match line {
                Line::Section(title) => {
                    draw_text(&mut sheet, title, left, top, FontWeight::Bold, TITLE_INK);
                }
                Line::Row(label, pictures) => {
                    let middle = top + (line.height() - text_height()) / 2;
                    let start = MARGIN + label_width - text_width(label);
                    draw_text(
                        &mut sheet,
                        label,
                        start,
                        middle,
                        FontWeight::Regular,
                        LABEL_INK,
                    );
                    let mut x = left;
                    for (picture, column) in pictures.iter().zip(&columns) {
                        image::imageops::replace(&mut sheet, picture, x.into(), top.into());
                        x += column + GUTTER;
                    }
                }
            }
        }
        sheet
    }

    /// The upper edge of every line, and the lower edge of the last.
    fn tops(&self) -> Vec<u32> {
        let mut y = MARGIN;
        let mut tops = Vec::with_capacity(self.lines.len() + 1);
        for (index, line) in self.lines.iter().enumerate() {
            if index > 0 {
                y += match (&self.lines[index - 1], line) {
                    (_, Line::Section(_)) => SECTION_GAP,
                    (Line::Section(_), _) => LABEL_GAP,
                    (Line::Row(..), Line::Row(..)) => GUTTER,
                };
            }
            tops.push(y);
            y += line.height();
        }
        tops.push(y);
        tops
    }

    /// Draws the sheet into a PNG file that is there whole or not at all.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        save_png(path, &self.render())
    }
}

impl Line {
    fn height(&self) -> u32 {
        match self {
            Line::Section(_) => text_height(),
            Line::Row(_, pictures) => {
                let pictures = pictures.iter().map(RgbImage::height);
                pictures.chain([text_height()]).max().unwrap_or_default()
            }
        }
    }
}

/// Writes a PNG file that is there whole or not at all, whatever `path`'s extension.
///
/// # Errors
/// A sentence that names the file, if it cannot be written.
pub fn save_png(path: &Path, picture: &RgbImage) -> Result<()> {
    let mut png = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut png, image::ImageFormat::Png)
        .with_context(|| format!("{}: cannot encode", path.display()))?;
    Ok(atomic_file::write(path, |writer| {
        writer.write_all(png.get_ref())
    })?)
}

fn text_height() -> u32 {
    FONT_SIZE.val() as u32
}

fn text_width(text: &str) -> u32 {
    (text.chars().count() * get_raster_width(FontWeight::Regular, FONT_SIZE)) as u32
}

/// Writes in grey `ink` on paper.
fn draw_text(sheet: &mut RgbImage, text: &str, left: u32, top: u32, weight: FontWeight, ink: u8) {
    for (index, character) in text.chars().enumerate() {
        let glyph = get_raster(character, weight, FONT_SIZE)
            .or_else(|| get_raster(UNKNOWN, weight, FONT_SIZE));
        let Some(glyph) = glyph else { continue };
        let left = left + (index * glyph.width()) as u32;
        for (y, row) in (top..).zip(glyph.rows()) {
            for (x, &coverage) in (left..).zip(row) {
                let depth = u32::from(255 - ink) * u32::from(coverage) / 255;
                let grey = 255 - depth as u8;
                if coverage > 0 && x < sheet.width() && y < sheet.height() {
                    sheet.put_pixel(x, y, Rgb([grey; 3]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn constant(count: i64, channels: i64, height: i64, width: i64, value: f64) -> Tensor {
        Tensor::full(
            [count, channels, height, width],
            value,
            (Kind::Float, Device::Cpu),
        )
    }

    #[test]
    fn pictures_lie_in_rows_and_columns_between_white_gutters() {
        let mut sheet = Sheet::new();
        sheet.section("a");
        sheet.row("in", &constant(3, 3, 24, 32, -1.0)).unwrap();
        sheet.row("out", &constant(2, 1, 24, 32, 0.0)).unwrap();
        let picture = sheet.render();
        let left = MARGIN + text_width("out") + LABEL_GAP;
        let top = MARGIN + text_height() + LABEL_GAP;
        let right = left + 3 * 32 + 2 * GUTTER;
        let bottom = top + 2 * 24 + GUTTER;
        assert_eq!(picture.dimensions(), (right + MARGIN, bottom + MARGIN));
        for (x, y, expected) in [
            (left - 1, top, 255),
            (left, top, 0),
            (left + 31, top + 23, 0),
            (left + 32, top, 255),
            (left + 32 + GUTTER, top, 0),
            (right - 1, top, 0),
            (right, top, 255),
            (left, top + 24, 255),
            (left, top + 24 + GUTTER, 128),
            (right - 1, bottom - 1, 255),
        ] {
            assert_eq!(picture.get_pixel(x, y), &Rgb([expected; 3]), "{x}, {y}");
        }
    }

    #[test]
    fn values_are_clamped_and_never_stretched() {
        let values = [-3.0f32, -1.0, -0.5, 0.5, 1.0, 3.0, f32::NAN, 0.0];
        let tensor = Tensor::from_slice(&values).reshape([1, 1, 1, 8]);
        let mut sheet = Sheet::new();
        sheet.row("", &tensor).unwrap();
        let picture = sheet.render();
        let shown: Vec<u8> = (0..8)
            .map(|x| picture.get_pixel(MARGIN + x, MARGIN).0[0])
            .collect();
        assert_eq!(shown, [0, 0, 64, 191, 255, 255, 0, 128]);
    }

    #[test]
    fn channels_keep_their_order_and_pictures_their_order() {
        let red = Tensor::from_slice(&[1.0f32, -1.0, -1.0]).reshape([1, 3, 1, 1]);
        let blue = Tensor::from_slice(&[-1.0f32, -1.0, 1.0]).reshape([1, 3, 1, 1]);
        let mut sheet = Sheet::new();
        sheet.row("", &Tensor::cat(&[red, blue], 0)).unwrap();
        let picture = sheet.render();
        assert_eq!(picture.get_pixel(MARGIN, MARGIN).0, [255, 0, 0]);
        assert_eq!(
            picture.get_pixel(MARGIN + 1 + GUTTER, MARGIN).0,
            [0, 0, 255]
        );
    }

    #[test]
    fn labels_are_drawn_where_pictures_are_not() {
        let mut sheet = Sheet::new();
        sheet.row("größe €", &constant(1, 3, 40, 40, -1.0)).unwrap();
        let picture = sheet.render();
        let ink = |x: u32| (0..picture.height()).any(|y| picture.get_pixel(x, y).0[0] < 200);
        let label = MARGIN..MARGIN + text_width("größe €");
        assert!(label.clone().any(ink));
        assert!(!(0..MARGIN).any(ink));
        assert!(!(label.end..label.end + LABEL_GAP).any(ink));
    }

    #[test]
    fn a_sheet_is_saved_as_png() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.png");
        let mut sheet = Sheet::new();
        sheet.row("input", &constant(2, 3, 8, 8, 0.3)).unwrap();
        sheet.save(&path).unwrap();
        assert_eq!(image::open(&path).unwrap().to_rgb8(), sheet.render());
    }

    #[test]
    fn other_shapes_are_refused_with_a_sentence() {
        for size in [vec![3, 8, 8], vec![1, 4, 8, 8], vec![0, 3, 8, 8]] {
            let tensor = Tensor::zeros(&size, (Kind::Float, Device::Cpu));
            let error = Sheet::new().row("input", &tensor).unwrap_err().to_string();
            assert!(
                error.contains("input") && error.contains(&format!("{size:?}")),
                "{error}"
            );
        }
    }
}
