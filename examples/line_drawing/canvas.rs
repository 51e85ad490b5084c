//! Ink on white paper, anti-aliased.

use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke, Transform,
};

use crate::shape::{Pen, Point, Shape};

/// Brightness of the ink, 0 to 255.
const INK: u8 = 20;
/// Brightness of the paper.
const PAPER: u8 = 255;
/// Width and height of the drawing plane.
const PLANE: f32 = 1000.0;
/// Width of the pen on the drawing plane; the model learned from pens of this width.
const PEN_WIDTH: f32 = 1.75 / 128.0 * PLANE;

/// One picture, and how the drawing plane lies on it.
pub struct Canvas {
    pixmap: Pixmap,
    view: Transform,
}

impl Canvas {
    /// White paper, `size` pixels wide and high; `None` if that is 0. The drawing plane fills it:
    /// x is 0 in the middle, y at the top.
    pub fn new(size: u32) -> Option<Self> {
        let mut pixmap = Pixmap::new(size, size)?;
        pixmap.fill(Color::WHITE);
        let scale = size as f32 / PLANE;
        let view = Transform::from_translate(PLANE / 2.0, 0.0).post_scale(scale, scale);
        Some(Self { pixmap, view })
    }

    /// Brightness of each pixel, row by row.
    pub fn brightness(&self) -> impl Iterator<Item = u8> {
        self.pixmap.pixels().iter().map(|pixel| pixel.green())
    }

    /// Draws `shape` over what is there.
    pub fn draw(&mut self, shape: &Shape) {
        let closed = shape.pen == Pen::Outline;
        let Some(path) = path(&shape.curve, closed) else {
            return;
        };
        if closed {
            let paper = paint(PAPER);
            self.pixmap
                .fill_path(&path, &paper, FillRule::Winding, self.view, None);
        }
        let stroke = Stroke {
            width: PEN_WIDTH,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        self.pixmap
            .stroke_path(&path, &paint(INK), &stroke, self.view, None);
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
