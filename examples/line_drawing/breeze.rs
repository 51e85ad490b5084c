//! A breeze, in which garments sway.

use std::f32::consts::TAU;

use crate::shape::{Pen, Point, Shape};

/// Where a garment hangs: what is here does not swing.
const NECK: Point = (0.0, 110.0);
/// The right shoulder, around which that sleeve swings; the left one is opposite.
const SHOULDER: Point = (190.0, 150.0);
/// Height of a garment from its neck to its hem, about.
const LENGTH: f32 = 750.0;

/// The state of the air at one moment.
///
/// It moves the points of the drawing plane according to where they are alone, so that what is
/// sewn together stays together.
pub struct Breeze {
    moment: f32,
}

impl Breeze {
    /// The breeze at `moment` of a film, which is 0 at its beginning and 1 at its end. At 1 the
    /// air is as it was at 0.
    pub fn new(moment: f32) -> Self {
        Self { moment }
    }

    /// The shape as the breeze bends it.
    pub fn carry(&self, shape: &Shape) -> Shape {
        let curve = shape.curve.iter().map(|&point| match shape.pen {
            Pen::Fold => self.bend(self.drift(point)),
            Pen::Outline | Pen::Line => self.bend(point),
        });
        Shape {
            curve: curve.collect(),
            pen: shape.pen,
        }
    }

    /// Where a fold at `point` wanders on the cloth.
    fn drift(&self, (x, y): Point) -> Point {
        let phase = x / 700.0 + y / 900.0;
        (
            x + 7.0 * self.swing(10, phase),
            y + 7.0 * self.swing(13, -phase),
        )
    }

    /// Where the cloth at `point` moves.
    fn bend(&self, point: Point) -> Point {
        let (x, y) = self.bend_sleeve(point);
        let depth = ((y - NECK.1) / LENGTH).max(0.0);
        // What hangs lower follows later, as the tail of a flag does.
        let gust = 0.65 + 0.35 * self.swing(2, 0.0);
        let angle = 0.032 * gust * depth * self.swing(7, -0.22 * depth);
        let (x, y) = rotate((x, y), NECK, angle);
        let ripple = depth * depth;
        (
            x + 4.0 * ripple * self.swing(11, y / 420.0),
            y + 6.0 * ripple * self.swing(11, -x / 520.0),
        )
    }

    /// Swings what is beside the body, the further out the more, around its shoulder.
    fn bend_sleeve(&self, (x, y): Point) -> Point {
        let side = x.signum();
        let share = ((x.abs() - 235.0) / 170.0).clamp(0.0, 1.0);
        let ease = share * share * (3.0 - 2.0 * share);
        // The sleeves differ a little in phase, or they would look like wings.
        let angle = 0.042 * ease * self.swing(9, 0.12 * side);
        rotate((x, y), (side * SHOULDER.0, SHOULDER.1), angle)
    }

    /// A sine that makes `count` swings in the film, a whole number so that the film's end meets
    /// its beginning; `phase` is in swings.
    fn swing(&self, count: u8, phase: f32) -> f32 {
        (TAU * (f32::from(count) * self.moment + phase)).sin()
    }
}

fn rotate(point: Point, centre: Point, angle: f32) -> Point {
    let (sin, cos) = angle.sin_cos();
    let (x, y) = (point.0 - centre.0, point.1 - centre.1);
    (centre.0 + x * cos - y * sin, centre.1 + x * sin + y * cos)
}
