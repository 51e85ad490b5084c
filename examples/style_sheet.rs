//! Draws a sheet: frames of a video in the top row, the same frames in one style a row below. The
//! last argument is the shorter side at which the network runs; without it, the one that the model
//! was trained at.
//!
//! ```sh
//! cargo run --release --example style_sheet -- models/photo2illustration.safetensors clip.mp4 sheet.png 256
//! ```

use std::path::Path;

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gst_app::AppSink;
use gst_video::{VideoFrame, VideoFrameExt, VideoInfo};
use image::{RgbImage, imageops};
use munit::runtime::{
    DeviceChoice, PictureFormat, PictureMut, PictureRef, Precision, TranslateOptions, Translator,
};
use munit::{Direction, Model, StyleCode};

/// Frames in a row.
const COLUMNS: usize = 4;
/// Styles, one a row.
const STYLES: usize = 4;
/// Longer side of a frame on the sheet, in pixels.
const FRAME_SIDE: u32 = 320;
/// Frames that are kept while the video is read.
const KEPT: usize = 64;
/// White between the frames, in pixels.
const MARGIN: u32 = 6;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, video, sheet, size) = match arguments.as_slice() {
        [model, video, sheet] => (model, video, sheet, None),
        [model, video, sheet, size] => {
            let size = size.parse().with_context(|| format!("{size} is no size"))?;
            (model, video, sheet, Some(size))
        }
        _ => bail!("usage: style_sheet MODEL VIDEO SHEET.png [SIZE]"),
    };
    gst::init()?;
    let frames = evenly_spaced_frames(Path::new(video))?;
    let model = Model::read(Path::new(model))?;
    let direction = Direction::A2b;
    let mut translator = Translator::new(&model, direction, DeviceChoice::Auto, Precision::Auto)?;

    let options = TranslateOptions {
        inference_size: size.or(model.metadata.recommended_size),
        ..TranslateOptions::default()
    };

    let mut rows = vec![frames.clone()];
    for style in styles(&model, direction, translator.style_dim())? {
        let row = frames
            .iter()
            .map(|frame| translate(&mut translator, frame, &style, &options));
        rows.push(row.collect::<Result<_>>()?);
    }
    draw_sheet(&rows)
        .save(sheet)
        .with_context(|| format!("{sheet}: cannot write"))
}

/// The first [`STYLES`] of the model's named styles of the target domain, each code once, and of
/// draws from the prior.
fn styles(model: &Model, direction: Direction, style_dim: usize) -> Result<Vec<StyleCode>> {
    let named = model.metadata.distinct_styles(direction).into_iter();
    named
        .map(|(_, code)| Ok(StyleCode::new(code.to_vec(), style_dim)?))
        .chain((0..).map(|seed| Ok(StyleCode::sample(seed, style_dim))))
        .take(STYLES)
        .collect()
}

/// [`COLUMNS`] frames of a video, from a little after its beginning to a little before its end.
fn evenly_spaced_frames(video: &Path) -> Result<Vec<RgbImage>> {
    let pipeline = gst::parse::launch(
        "filesrc name=file ! decodebin ! videoconvert ! videoscale ! \
         video/x-raw,format=RGB,pixel-aspect-ratio=1/1 ! appsink name=frames sync=false",
    )?
    .downcast::<gst::Pipeline>()
    .ok()
    .context("not a pipeline")?;
    let file = pipeline.by_name("file").context("no source")?;
    file.set_property("location", video);
    let sink = pipeline
        .by_name("frames")
        .and_downcast::<AppSink>()
        .context("no sink")?;

    let frames = every_few_frames(&pipeline, &sink);
    pipeline.set_state(gst::State::Null)?;
    let frames = frames.with_context(|| video.display().to_string())?;
    if frames.is_empty() {
        bail!("{}: no video frame in this file", video.display());
    }
    Ok((0..COLUMNS)
        .map(|column| frames[(2 * column + 1) * frames.len() / (2 * COLUMNS)].clone())
        .collect())
}

/// At most [`KEPT`] frames at even distances; the length of the video need not be known.
fn every_few_frames(pipeline: &gst::Pipeline, sink: &AppSink) -> Result<Vec<RgbImage>> {
    if pipeline.set_state(gst::State::Playing).is_err() {
        fail_as(pipeline)?;
        bail!("cannot be played");
    }
    let mut kept = Vec::new();
    let mut distance = 1;
    let mut number = 0;
    while !sink.is_eos() {
        let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(50)) else {
            fail_as(pipeline)?;
            continue;
        };
        if number % distance == 0 {
            kept.push(picture(&sample)?);
        }
        number += 1;
        if kept.len() == KEPT {
            let mut even = [true, false].iter().cycle();
            kept.retain(|_| *even.next().unwrap_or(&true));
            distance *= 2;
        }
    }
    Ok(kept)
}

/// The error of a pipeline that has met one.
fn fail_as(pipeline: &gst::Pipeline) -> Result<()> {
    let bus = pipeline.bus().context("a pipeline without bus")?;
    let message = bus.pop_filtered(&[gst::MessageType::Error]);
    match message.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => bail!("{}", error.error()),
        _ => Ok(()),
    }
}

/// The sample's picture, no larger than [`FRAME_SIDE`].
fn picture(sample: &gst::Sample) -> Result<RgbImage> {
    let info = VideoInfo::from_caps(sample.caps().context("a frame without caps")?)?;
    let buffer = sample.buffer_owned().context("a sample without frame")?;
    let frame = VideoFrame::from_buffer_readable(buffer, &info)
        .ok()
        .context("a frame that cannot be read")?;
    let (stride, row) = (frame.plane_stride()[0] as usize, 3 * info.width() as usize);
    let pixels = frame
        .plane_data(0)?
        .chunks(stride)
        .flat_map(|line| &line[..row])
        .copied();
    let picture = RgbImage::from_raw(info.width(), info.height(), pixels.collect())
        .context("a frame with too few rows")?;
    let share = FRAME_SIDE as f32 / info.width().max(info.height()) as f32;
    if share >= 1.0 {
        return Ok(picture);
    }
    let side = |pixels: u32| ((pixels as f32 * share).round() as u32).max(1);
    Ok(imageops::thumbnail(
        &picture,
        side(info.width()),
        side(info.height()),
    ))
}

fn translate(
    translator: &mut Translator,
    frame: &RgbImage,
    style: &StyleCode,
    options: &TranslateOptions,
) -> Result<RgbImage> {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let mut translated = RgbImage::new(frame.width(), frame.height());
    let input = PictureRef::new(PictureFormat::Rgb, width, height, &[(frame, 3 * width)])?;
    let mut output = PictureMut::new(
        PictureFormat::Rgb,
        width,
        height,
        vec![(&mut translated, 3 * width)],
    )?;
    translator.translate(&input, &mut output, style, options)?;
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
