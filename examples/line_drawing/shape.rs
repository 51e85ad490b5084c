//! Curves with a pen: what a drawing is made of, and how one drawing turns into another.

use std::collections::{BTreeMap, BTreeSet};
use std::f32::consts::TAU;

/// A point of the drawing plane: x to the right of the middle line, y down.
pub type Point = (f32, f32);

/// Points that every curve is resampled to, so that any two can be blended.
const SAMPLES: usize = 240;
/// Straight pieces between two given points of a curve.
const STEPS: usize = 12;

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pen {
    /// A closed outline whose inside hides what was drawn before.
    Outline,
    /// One open line.
    Line,
    /// One open line that wanders on the cloth.
    Fold,
}

/// A curve and its pen.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Points close to each other.
    pub curve: Vec<Point>,
    /// How the curve is drawn.
    pub pen: Pen,
}

impl Shape {
    /// A smooth closed outline through `points`; a point given twice is a corner.
    pub fn outline(points: &[Point]) -> Self {
        Self {
            curve: resample(&smooth(points, true)),
            pen: Pen::Outline,
        }
    }

    /// A smooth line through `points`; a point given twice is a corner.
    pub fn line(points: &[Point], pen: Pen) -> Self {
        Self {
            curve: resample(&smooth(points, false)),
            pen,
        }
    }

    /// A circle around `centre`.
    pub fn circle(centre: Point, radius: f32) -> Self {
        let curve = (0..SAMPLES).map(|index| {
            let (sin, cos) = (index as f32 / SAMPLES as f32 * TAU).sin_cos();
            (centre.0 + radius * sin, centre.1 - radius * cos)
        });
        Self {
            curve: curve.collect(),
            pen: Pen::Outline,
        }
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
            pen: self.pen,
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
            pen: if fraction < 0.5 { self.pen } else { other.pen },
        }
    }
}

/// The drawing at `fraction` (0 is `from`, 1 is `to`) of the way between two: parts that both
/// have change their form; the others first shrink away or then grow out of nothing, so that the
/// old and the new do not lie on each other.
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
                (Some(shape), None) => shape.scaled(1.0 - 2.0 * fraction),
                (None, Some(other)) => other.scaled(2.0 * fraction - 1.0),
                (None, None) => None,
            };
            Some((part, shape?))
        })
        .collect()
}

/// The point opposite, on the other side of the middle line.
pub fn mirror((x, y): Point) -> Point {
    (-x, y)
}

/// Catmull and Rom's spline through `points`, as a polyline from each corner to the next.
fn smooth(points: &[Point], closed: bool) -> Vec<Vec<Point>> {
    let count = points.len() as isize;
    let at = |index: isize| {
        let index = if closed {
            index.rem_euclid(count)
        } else {
            index.clamp(0, count - 1)
        };
        points[index as usize]
    };
    let mut polylines = vec![vec![at(0)]];
    for piece in 0..if closed { count } else { count - 1 } {
        let [a, b, c, d] = [-1, 0, 1, 2].map(|offset| at(piece + offset));
        if b == c {
            polylines.push(vec![b]);
        } else if let Some(polyline) = polylines.last_mut() {
            polyline.extend((1..=STEPS).map(|step| {
                let t = step as f32 / STEPS as f32;
                let value = |a: f32, b: f32, c: f32, d: f32| {
                    b + 0.5
                        * t
                        * (c - a
                            + t * (2.0 * a - 5.0 * b + 4.0 * c - d + t * (3.0 * (b - c) + d - a)))
                };
                (value(a.0, b.0, c.0, d.0), value(a.1, b.1, c.1, d.1))
            }));
        }
    }
    // A corner at the very beginning or end has nothing on its other side.
    polylines.retain(|polyline| polyline.len() > 1);
    polylines
}

/// The same curve as [`SAMPLES`] points. Each polyline gets as many, evenly spaced, so that the
/// corners of one curve turn into those of another that has as many.
fn resample(polylines: &[Vec<Point>]) -> Vec<Point> {
    let share = |index: usize| SAMPLES * index / polylines.len();
    polylines
        .iter()
        .enumerate()
        .flat_map(|(index, polyline)| spaced(polyline, share(index + 1) - share(index)))
        .collect()
}

/// `count` points on a polyline, from its beginning to its end.
fn spaced(polyline: &[Point], count: usize) -> Vec<Point> {
    let distance = |from: Point, to: Point| (to.0 - from.0).hypot(to.1 - from.1);
    let length: f32 = polyline
        .windows(2)
        .map(|pair| distance(pair[0], pair[1]))
        .sum();
    let spacing = length / count.saturating_sub(1).max(1) as f32;
    let mut samples = Vec::with_capacity(count);
    let mut walked = 0.0;
    for pair in polyline.windows(2) {
        let piece = distance(pair[0], pair[1]);
        while samples.len() < count && walked + piece >= spacing * samples.len() as f32 {
            let fraction = (spacing * samples.len() as f32 - walked) / piece.max(f32::EPSILON);
            samples.push((
                pair[0].0 + (pair[1].0 - pair[0].0) * fraction,
                pair[0].1 + (pair[1].1 - pair[0].1) * fraction,
            ));
        }
        walked += piece;
    }
    // Rounding may leave the last point just short of the end.
    samples.extend(polyline.last().filter(|_| samples.len() < count));
    samples
}
