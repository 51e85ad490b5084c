//! Garments, as `garments.txt` describes them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use crate::shape::{Pen, Point, Shape, blend, mirror};

const DESCRIPTIONS: &str = include_str!("garments.txt");

/// Place of a shape in the drawing: its part's place in the order, then its own in the part.
type Place = (usize, usize);

/// A garment laid flat, seen from above.
#[derive(Clone, Debug, Default)]
pub struct Garment {
    shapes: BTreeMap<Place, Shape>,
}

impl Garment {
    /// All garments of the description.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn all() -> Result<Vec<Self>> {
        let mut order = Vec::new();
        let mut garments = Vec::new();
        for line in DESCRIPTIONS
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            read_line(line, &mut order, &mut garments).with_context(|| format!("in \"{line}\""))?;
        }
        Ok(garments)
    }

    /// The garment at `fraction` (0 is `self`, 1 is `other`) of the way to another.
    pub fn blend(&self, other: &Self, fraction: f32) -> Self {
        Self {
            shapes: blend(&self.shapes, &other.shapes, fraction),
        }
    }

    /// What to draw, from the first to the last.
    pub fn shapes(&self) -> impl Iterator<Item = &Shape> {
        self.shapes.values()
    }
}

fn read_line<'a>(
    line: &'a str,
    order: &mut Vec<&'a str>,
    garments: &mut Vec<Garment>,
) -> Result<()> {
    let mut words = line.split(' ');
    let name = words.next().context("nothing")?;
    if name == "order" {
        order.extend(words);
        return Ok(());
    }
    if name == "garment" {
        garments.push(Garment::default());
        return Ok(());
    }
    let garment = garments.last_mut().context("no garment to belong to")?;
    let part = order
        .iter()
        .position(|part| *part == name)
        .context("no place in the order")?;
    let side = words.next().context("no side")?;
    let pen = words.next().context("no pen")?;
    let points = words.map(point).collect::<Result<Vec<Point>>>()?;
    ensure!(!points.is_empty(), "no points");
    let shapes = match side {
        "whole" => shapes(pen, &points)?,
        "half" => shapes(pen, &completed(&points))?,
        "pair" => {
            let opposite: Vec<Point> = points.iter().copied().map(mirror).collect();
            [shapes(pen, &points)?, shapes(pen, &opposite)?].concat()
        }
        _ => bail!("no side is called {side}"),
    };
    let places = (0..).map(|index| (part, index));
    garment.shapes.extend(places.zip(shapes));
    Ok(())
}

/// The points of a half and then, back again, their mirror images. Those on the middle line are
/// their own.
fn completed(half: &[Point]) -> Vec<Point> {
    let off_middle = half.iter().rev().filter(|point| point.0 != 0.0);
    half.iter()
        .copied()
        .chain(off_middle.copied().map(mirror))
        .collect()
}

fn shapes(pen: &str, points: &[Point]) -> Result<Vec<Shape>> {
    let (pen, size) = pen.split_once(':').unwrap_or((pen, "0"));
    let size: f32 = size.parse()?;
    Ok(match pen {
        "outline" => vec![Shape::outline(points)],
        "line" => vec![Shape::line(points, Pen::Line)],
        "fold" => vec![Shape::line(points, Pen::Fold)],
        "strokes" => points
            .chunks(2)
            .map(|ends| Shape::line(ends, Pen::Line))
            .collect(),
        "circles" => points
            .iter()
            .map(|&centre| Shape::circle(centre, size))
            .collect(),
        _ => bail!("no pen is called {pen}"),
    })
}

fn point(text: &str) -> Result<Point> {
    let (x, y) = text.split_once(',').context("a point is written x,y")?;
    Ok((x.parse()?, y.parse()?))
}
