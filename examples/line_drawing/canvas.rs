//! Ink on white paper, anti-aliased.

use std::f32::consts::TAU;

use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke, Transform,
};

use crate::motorbike::{Motorbike, Wheel};
use crate::shape::{Pen, Point, Shape};

/// Brightness of the ink, 0 to 255.
const INK: u8 = 20;
/// Brightness of the paper.
const PAPER: u8 = 255;
/// How low on the drawing plane the axles are, about.
const AXLE_HEIGHT: f32 = 455.0;
/// Spokes of a wheel.
const SPOKES: u8 = 7;
/// Width of the pen as a share of the picture's shorter side.
const PEN_WIDTH: f32 = 1.75 / 128.0;

/// One picture, and how the drawing plane lies on it.
pub struct Canvas {
    pixmap: Pixmap,
    view: Transform,
    /// Width of the pen on the drawing plane.
    pen: f32,
}

impl Canvas {
    /// White paper of `width`×`height` pixels; `None` if a side is 0. The point `centre` of the
    /// drawing plane comes to lie in its middle, and a unit is `scale` pixels long.
    pub fn new(width: u32, height: u32, centre: Point, scale: f32) -> Option<Self> {
        let mut pixmap = Pixmap::new(width, height)?;
        pixmap.fill(Color::WHITE);
        let view = Transform::from_translate(-centre.0, -centre.1)
            .post_scale(scale, scale)
            .post_translate(width as f32 / 2.0, height as f32 / 2.0);
        let pen = PEN_WIDTH * width.min(height) as f32 / scale;
        Some(Self { pixmap, view, pen })
    }

    /// Brightness of each pixel, row by row.
    pub fn brightness(&self) -> impl Iterator<Item = u8> {
        self.pixmap.pixels().iter().map(|pixel| pixel.green())
    }

    /// Draws a motorbike whose wheels have turned by `turn` radians and whose body has sunk by
    /// `sag` into its springs.
    pub fn draw_motorbike(&mut self, bike: &Motorbike, turn: f32, sag: f32) {
        for wheel in bike.wheels.values() {
            self.draw_wheel(wheel, turn);
        }
        // What is as low as the axles stays with them; the higher, the more it moves.
        for shape in bike.parts.values() {
            let mut sprung = shape.clone();
            for point in &mut sprung.curve {
                point.1 += sag * ((AXLE_HEIGHT - point.1) / AXLE_HEIGHT * 2.0).clamp(0.0, 1.0);
            }
            self.draw(&sprung);
        }
    }

    fn draw_wheel(&mut self, wheel: &Wheel, turn: f32) {
        let rim = wheel.radius - wheel.tyre;
        let hub = wheel.disc * 0.4;
        self.draw(&Shape::circle(wheel.centre, wheel.radius));
        self.draw(&Shape::circle(wheel.centre, rim));
        for spoke in 0..SPOKES {
            let angle = turn + TAU * f32::from(spoke) / f32::from(SPOKES);
            let at = |radius: f32| {
                (
                    wheel.centre.0 + radius * angle.cos(),
                    wheel.centre.1 + radius * angle.sin(),
                )
            };
            self.draw(&Shape::tube(
                wheel.spoke,
                &[at(hub), at(rim - self.pen / 2.0)],
            ));
        }
        self.draw(&Shape::circle(wheel.centre, wheel.disc));
        self.draw(&Shape::circle(wheel.centre, hub));
    }

    fn draw(&mut self, shape: &Shape) {
        let Some(path) = path(&shape.curve, shape.pen == Pen::Outline) else {
            return;
        };
        match shape.pen {
            Pen::Outline => {
                let paper = paint(PAPER);
                self.pixmap
                    .fill_path(&path, &paper, FillRule::Winding, self.view, None);
                self.stroke(&path, INK, self.pen);
            }
            Pen::Line => self.stroke(&path, INK, self.pen),
            Pen::Tube(width) => {
                self.stroke(&path, INK, width + self.pen);
                if width > self.pen {
                    self.stroke(&path, PAPER, width - self.pen);
                }
            }
        }
    }

    fn stroke(&mut self, path: &Path, brightness: u8, width: f32) {
        let stroke = Stroke {
            width,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        self.pixmap
            .stroke_path(path, &paint(brightness), &stroke, self.view, None);
    }
}

fn path(curve: &[Point], closed: bool) -> Option<Path> {
    let mut builder = PathBuilder::new();
    let (first, rest) = curve.split_first()?;
    builder.move_to(first.0, first.1);
    for point in rest {
        builder.line_to(point.0, point.1);
    }
    if closed {
        builder.close();
    }
    builder.finish()
}

fn paint(brightness: u8) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(brightness, brightness, brightness, 255);
    paint
}
