//! Draws a short film of motorbikes in ink on white paper: their wheels turn, the body rocks on
//! its springs, the view sways, and each bike turns into the next. Written as YUV4MPEG2, which
//! GStreamer reads.
//!
//! ```sh
//! cargo run --release --example line_drawing -- drawing.y4m
//! ```

mod canvas;
mod motorbike;
mod shape;

use std::f32::consts::TAU;
use std::fs::File;
use std::io::{BufWriter, Write};

use anyhow::{Context, Result, bail};

use canvas::Canvas;
use motorbike::Motorbike;

/// Size of the picture in pixels.
const WIDTH: u32 = 256;
const HEIGHT: u32 = 160;
const FRAMES_PER_SECOND: u32 = 24;
/// How long one motorbike is seen, its change into the next included, in seconds.
const SECONDS_EACH: f32 = 2.5;
/// How long the change takes.
const SECONDS_CHANGE: f32 = 0.6;
/// Share of the picture's width that the 1000 units of the drawing plane take.
const FILL: f32 = 0.86;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file] = arguments.as_slice() else {
        bail!("usage: line_drawing DRAWING.y4m");
    };
    write_film(file).with_context(|| format!("{file}: cannot write the drawing"))
}

fn write_film(file: &str) -> Result<()> {
    let bikes = Motorbike::all()?;
    let seconds = SECONDS_EACH * bikes.len() as f32;
    let frames = (seconds * FRAMES_PER_SECOND as f32) as u32;
    let mut film = BufWriter::new(File::create(file)?);
    writeln!(
        film,
        "YUV4MPEG2 W{WIDTH} H{HEIGHT} F{FRAMES_PER_SECOND}:1 Ip A1:1 C444"
    )?;
    for frame in 0..frames {
        let drawing = draw(&bikes, frame as f32 / FRAMES_PER_SECOND as f32, seconds)?;
        film.write_all(b"FRAME\n")?;
        // BT.601 video range: black is 16, white 235, no colour 128.
        let luma = drawing
            .brightness()
            .map(|value| (16.0 + f32::from(value) * 219.0 / 255.0).round() as u8);
        film.write_all(&luma.collect::<Vec<u8>>())?;
        film.write_all(&vec![128; 2 * (WIDTH * HEIGHT) as usize])?;
    }
    Ok(film.flush()?)
}

/// The frame at `time` of a film that begins again after `seconds`.
fn draw(bikes: &[Motorbike], time: f32, seconds: f32) -> Result<Canvas> {
    let shown = (time / SECONDS_EACH) as usize % bikes.len();
    let next = (shown + 1) % bikes.len();
    let change = (time % SECONDS_EACH - (SECONDS_EACH - SECONDS_CHANGE)) / SECONDS_CHANGE;
    let bike = bikes[shown].blend(&bikes[next], ease(change));

    // `count` swings in the whole film, so that its end meets its beginning.
    let swing = |count: f32, phase: f32| (TAU * (count * time / seconds + phase)).sin();
    let scale = FILL * WIDTH as f32 / 1000.0 * (1.0 + 0.03 * swing(3.0, 0.0));
    let centre = (
        500.0 + 14.0 * swing(2.0, 0.25),
        318.0 + 8.0 * swing(5.0, 0.0),
    );
    let sag = 8.0 * swing(17.0, 0.0) * (0.6 + 0.4 * swing(4.0, 0.1));
    let turn = TAU * 0.6 * time;

    let mut canvas =
        Canvas::new(WIDTH, HEIGHT, centre, scale).context("a picture without pixels")?;
    canvas.draw_motorbike(&bike, turn, sag);
    Ok(canvas)
}

/// 0 up to 0, 1 from 1 on, and a soft start and end between.
fn ease(fraction: f32) -> f32 {
    let fraction = fraction.clamp(0.0, 1.0);
    fraction * fraction * (3.0 - 2.0 * fraction)
}
