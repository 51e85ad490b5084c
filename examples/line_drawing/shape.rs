//! Curves with a pen: what a drawing is made of, and how one drawing turns into another.

use std::collections::{BTreeMap, BTreeSet};

/// A point of the drawing plane: x to the right, y down.
pub type Point = (f32, f32);

/// Points that every curve is resampled to, so that any two can be blended.
const SAMPLES: usize = 96;
/// Straight pieces between two given points of a curve.
const STEPS: usize = 12;

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pen {
    /// A closed outline whose inside hides what was drawn before.
    Outline,
    /// One open line.
    Line,
    /// The two edges of a tube of this width, which hides what was drawn before.
    Tube(f32),
}

/// A curve and its pen.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Evenly spaced points.
    pub curve: Vec<Point>,
    /// How the curve is drawn.
    pub pen: Pen,
}

impl Shape {
    /// A smooth closed outline through `points`; a point given twice is a corner.
    pub fn outline(points: &[Point]) -> Self {
        Self::new(resample(&smooth(points, true)), Pen::Outline)
    }

    /// A smooth line through `points`; a point given twice is a corner.
    pub fn line(points: &[Point]) -> Self {
        Self::new(resample(&smooth(points, false)), Pen::Line)
    }

    /// A smooth tube along `points`; a point given twice is a corner.
    pub fn tube(width: f32, points: &[Point]) -> Self {
        Self::new(resample(&smooth(points, false)), Pen::Tube(width))
    }

    /// A circle around `centre`.
    pub fn circle(centre: Point, radius: f32) -> Self {
        let curve = (0..SAMPLES).map(|index| {
            let angle = index as f32 / (SAMPLES - 1) as f32 * std::f32::consts::TAU;
            (
                centre.0 - radius * angle.cos(),
                centre.1 - radius * angle.sin(),
            )
        });
        Self::new(curve.collect(), Pen::Outline)
    }

    fn new(curve: Vec<Point>, pen: Pen) -> Self {
        Self { curve, pen }
    }

    /// The shape at `size` times its size around its middle; nothing when that is but a dot.
    fn scaled(&self, size: f32) -> Option<Self> {
        let count = self.curve.len() as f32;
        let middle_x = self.curve.iter().map(|point| point.0).sum::<f32>() / count;
        let middle_y = self.curve.iter().map(|point| point.1).sum::<f32>() / count;
        let scale = |value: f32, middle: f32| middle + (value - middle) * size;
        (size > 0.1).then(|| Self {
            curve: self
                .curve
                .iter()
                .map(|point| (scale(point.0, middle_x), scale(point.1, middle_y)))
                .collect(),
            pen: match self.pen {
                Pen::Tube(width) => Pen::Tube(width * size),
                pen => pen,
            },
        })
    }

    fn blend(&self, other: &Self, fraction: f32) -> Self {
        let mix = |from: f32, to: f32| from + (to - from) * fraction;
        Self {
            curve: self
                .curve
                .iter()
                .zip(&other.curve)
                .map(|(from, to)| (mix(from.0, to.0), mix(from.1, to.1)))
                .collect(),
            pen: match (self.pen, other.pen) {
                (Pen::Tube(from), Pen::Tube(to)) => Pen::Tube(mix(from, to)),
                (pen, other_pen) => {
                    if fraction < 0.5 {
                        pen
                    } else {
                        other_pen
                    }
                }
            },
        }
    }
}

/// The drawing at `fraction` (0 is `from`, 1 is `to`) of the way between two: parts that both
/// have change their form, the others shrink away or grow out of nothing.
pub fn blend<Part: Ord + Copy>(
    from: &BTreeMap<Part, Shape>,
    to: &BTreeMap<Part, Shape>,
    fraction: f32,
) -> BTreeMap<Part, Shape> {
    let parts: BTreeSet<Part> = from.keys().chain(to.keys()).copied().collect();
    parts
        .into_iter()
        .filter_map(|part| {
            let shape = match (from.get(&part), to.get(&part)) {
                (Some(shape), Some(other)) => Some(shape.blend(other, fraction)),
                (Some(shape), None) => shape.scaled(1.0 - fraction),
                (None, Some(other)) => other.scaled(fraction),
                (None, None) => None,
            };
            Some((part, shape?))
        })
        .collect()
}

/// Catmull and Rom's spline through `points`, as a polyline.
fn smooth(points: &[Point], closed: bool) -> Vec<Point> {
    let count = points.len() as isize;
    let at = |index: isize| {
        let index = if closed {
            index.rem_euclid(count)
        } else {
            index.clamp(0, count - 1)
        };
        points[index as usize]
    };
    let pieces = if closed { count } else { count - 1 };
    let mut polyline: Vec<Point> = (0..pieces)
        .flat_map(|piece| {
            let [a, b, c, d] = [-1, 0, 1, 2].map(|offset| at(piece + offset));
            (0..STEPS).map(move |step| {
                let t = step as f32 / STEPS as f32;
                let value = |a: f32, b: f32, c: f32, d: f32| {
                    b + 0.5
                        * t
                        * (c - a
                            + t * (2.0 * a - 5.0 * b + 4.0 * c - d + t * (3.0 * (b - c) + d - a)))
                };
                (value(a.0, b.0, c.0, d.0), value(a.1, b.1, c.1, d.1))
            })
        })
        .collect();
    polyline.push(at(pieces));
    polyline
}

/// The same curve as [`SAMPLES`] points at even distances along it.
fn resample(polyline: &[Point]) -> Vec<Point> {
    let distance = |from: Point, to: Point| (to.0 - from.0).hypot(to.1 - from.1);
    let length: f32 = polyline
        .windows(2)
        .map(|pair| distance(pair[0], pair[1]))
        .sum();
    let spacing = length / (SAMPLES - 1) as f32;
    let mut samples = vec![polyline[0]];
    let mut walked = 0.0;
    for pair in polyline.windows(2) {
        let piece = distance(pair[0], pair[1]);
        while samples.len() < SAMPLES && walked + piece >= spacing * samples.len() as f32 {
            let fraction = (spacing * samples.len() as f32 - walked) / piece.max(f32::EPSILON);
            samples.push((
                pair[0].0 + (pair[1].0 - pair[0].0) * fraction,
                pair[0].1 + (pair[1].1 - pair[0].1) * fraction,
            ));
        }
        walked += piece;
    }
    // Rounding may leave the last point just short of the end.
    samples.resize(SAMPLES, polyline[polyline.len() - 1]);
    samples
}
