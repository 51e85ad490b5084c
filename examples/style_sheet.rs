//! Draws a sheet: frames of a video in the top row, the same frames in one style a row below.
//!
//! ```sh
//! cargo run --release --example style_sheet -- models/photo2illustration.safetensors clip.mp4 sheet.png
//! ```

use std::path::Path;

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use image::{RgbImage, imageops};
use munit::runtime::{
    DeviceChoice, PictureFormat, PictureMut, PictureRef, Precision, TranslateOptions, Translator,
};
use munit::{Direction, Model, StyleCode};

/// Frames in a row.
const COLUMNS: usize = 5;
/// Styles, one a row.
const STYLES: u64 = 4;
/// Longer side of a frame on the sheet, in pixels.
const FRAME_SIDE: u32 = 256;
/// White between the frames, in pixels.
const MARGIN: u32 = 6;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, video, sheet] = arguments.as_slice() else {
        bail!("usage: style_sheet MODEL VIDEO SHEET.png");
    };
    gst::init()?;
    let frames = evenly_spaced_frames(Path::new(video))?;
    let model = Model::read(Path::new(model))?;
    let direction = Direction::A2B;
    let mut translator = Translator::new(&model, direction, DeviceChoice::Auto, Precision::Auto)?;

    let mut rows = vec![frames.clone()];
    for seed in 0..STYLES {
        let style = StyleCode::sample(seed, translator.style_dim());
        let row = frames
            .iter()
            .map(|frame| translate(&mut translator, frame, &style));
        rows.push(row.collect::<Result<_>>()?);
    }
    draw_sheet(&rows)
        .save(sheet)
        .with_context(|| format!("{sheet}: cannot write"))
}

/// [`COLUMNS`] frames of a video, from a little after its beginning to a little before its end.
fn evenly_spaced_frames(video: &Path) -> Result<Vec<RgbImage>> {
    let frames = decode(video)?;
    if frames.is_empty() {
        bail!("{}: no video frame in this file", video.display());
    }
    Ok((0..COLUMNS)
        .map(|column| frames[(2 * column + 1) * frames.len() / (2 * COLUMNS)].clone())
        .collect())
}

fn translate(translator: &mut Translator, frame: &RgbImage, style: &StyleCode) -> Result<RgbImage> {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let mut translated = RgbImage::new(frame.width(), frame.height());
    let input = PictureRef::new(PictureFormat::Rgb, width, height, &[(frame, 3 * width)])?;
    let mut output = PictureMut::new(
        PictureFormat::Rgb,
        width,
        height,
        vec![(&mut translated, 3 * width)],
    )?;
    translator.translate(&input, &mut output, style, &TranslateOptions::default())?;
    Ok(translated)
}

fn draw_sheet(rows: &[Vec<RgbImage>]) -> RgbImage {
    let (width, height) = rows[0][0].dimensions();
    let left = |column: usize| i64::from(MARGIN + column as u32 * (width + MARGIN));
    // A wider gap sets the input apart from its translations.
    let top = |row: usize| {
        let gaps = row as u32 + 1 + u32::from(row > 0);
        i64::from(gaps * MARGIN + row as u32 * height)
    };
    let mut sheet = RgbImage::from_pixel(
        left(COLUMNS) as u32,
        top(rows.len()) as u32,
        image::Rgb([255; 3]),
    );
    for (row, frames) in rows.iter().enumerate() {
        for (column, frame) in frames.iter().enumerate() {
            imageops::replace(&mut sheet, frame, left(column), top(row));
        }
    }
    sheet
}
