//! Draws a short film of garments in ink on white paper: they sway as if in a breeze, and each
//! turns into the next. Written as YUV4MPEG2, which GStreamer reads.
//!
//! ```sh
//! cargo run --release --example line_drawing -- drawing.y4m
//! ```

mod breeze;
mod canvas;
mod garment;
mod shape;

use std::fs::File;
use std::io::{BufWriter, Write};

use anyhow::{Context, Result, bail};

use breeze::Breeze;
use canvas::Canvas;
use garment::Garment;

/// Width and height of the picture in pixels.
const SIZE: u32 = 192;
const FRAMES_PER_SECOND: u32 = 24;
/// How long one garment is seen, its change into the next included, in frames.
const FRAMES_EACH: usize = 53;
/// How long the change takes.
const FRAMES_CHANGE: usize = 15;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file] = arguments.as_slice() else {
        bail!("usage: line_drawing DRAWING.y4m");
    };
    write_film(file).with_context(|| format!("{file}: cannot write the drawing"))
}

fn write_film(file: &str) -> Result<()> {
    let garments = Garment::all()?;
    let mut film = BufWriter::new(File::create(file)?);
    writeln!(
        film,
        "YUV4MPEG2 W{SIZE} H{SIZE} F{FRAMES_PER_SECOND}:1 Ip A1:1 C444"
    )?;
    for frame in 0..garments.len() * FRAMES_EACH {
        let drawing = draw(&garments, frame)?;
        film.write_all(b"FRAME\n")?;
        // BT.601 video range: black is 16, white 235, no colour 128.
        let luma = drawing
            .brightness()
            .map(|value| (16.0 + f32::from(value) * 219.0 / 255.0).round() as u8);
        film.write_all(&luma.collect::<Vec<u8>>())?;
        film.write_all(&vec![128; 2 * (SIZE * SIZE) as usize])?;
    }
    Ok(film.flush()?)
}

/// One frame of a film that begins again after the last garment.
fn draw(garments: &[Garment], frame: usize) -> Result<Canvas> {
    let shown = frame / FRAMES_EACH;
    let next = (shown + 1) % garments.len();
    let still = (FRAMES_EACH - FRAMES_CHANGE) as f32;
    let change = ((frame % FRAMES_EACH) as f32 - still) / FRAMES_CHANGE as f32;
    let garment = garments[shown].blend(&garments[next], ease(change));

    let breeze = Breeze::new(frame as f32 / (garments.len() * FRAMES_EACH) as f32);
    let mut canvas = Canvas::new(SIZE).context("a picture without pixels")?;
    for shape in garment.shapes() {
        canvas.draw(&breeze.carry(shape));
    }
    Ok(canvas)
}

/// 0 up to 0, 1 from 1 on, and a soft start and end between.
fn ease(fraction: f32) -> f32 {
    let fraction = fraction.clamp(0.0, 1.0);
    fraction * fraction * (3.0 - 2.0 * fraction)
}
