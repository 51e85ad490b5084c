//! Motorbikes, as `motorbikes.txt` describes them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::shape::{Point, Shape, blend};

const DESCRIPTIONS: &str = include_str!("motorbikes.txt");

/// A wheel: a tyre on a rim, a hub with a brake disc, and spokes.
#[derive(Clone, Copy, Debug)]
pub struct Wheel {
    /// Where the axle is.
    pub centre: Point,
    /// Outer radius of the tyre.
    pub radius: f32,
    /// How far the tyre reaches beyond the rim.
    pub tyre: f32,
    /// Radius of the brake disc.
    pub disc: f32,
    /// Width of a spoke; 0 for a wire.
    pub spoke: f32,
}

/// A motorbike, seen from its right side.
#[derive(Clone, Debug, Default)]
pub struct Motorbike {
    /// The two wheels.
    pub wheels: BTreeMap<String, Wheel>,
    /// All else, in the order in which it is drawn.
    pub parts: BTreeMap<usize, Shape>,
}

impl Motorbike {
    /// All motorbikes of the description.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn all() -> Result<Vec<Self>> {
        let mut order = Vec::new();
        let mut bikes = Vec::new();
        for line in DESCRIPTIONS
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            read_line(line, &mut order, &mut bikes).with_context(|| format!("in \"{line}\""))?;
        }
        Ok(bikes)
    }

    /// The motorbike at `fraction` (0 is `self`, 1 is `other`) of the way to another.
    pub fn blend(&self, other: &Self, fraction: f32) -> Self {
        let wheels = self.wheels.iter().zip(other.wheels.values());
        Self {
            wheels: wheels
                .map(|((name, wheel), other)| (name.clone(), wheel.blend(other, fraction)))
                .collect(),
            parts: blend(&self.parts, &other.parts, fraction),
        }
    }
}

impl Wheel {
    fn blend(&self, other: &Self, fraction: f32) -> Self {
        let mix = |from: f32, to: f32| from + (to - from) * fraction;
        Self {
            centre: (
                mix(self.centre.0, other.centre.0),
                mix(self.centre.1, other.centre.1),
            ),
            radius: mix(self.radius, other.radius),
            tyre: mix(self.tyre, other.tyre),
            disc: mix(self.disc, other.disc),
            spoke: mix(self.spoke, other.spoke),
        }
    }
}

fn read_line<'a>(
    line: &'a str,
    order: &mut Vec<&'a str>,
    bikes: &mut Vec<Motorbike>,
) -> Result<()> {
    let mut words = line.split(' ');
    let name = words.next().context("nothing")?;
    if name == "order" {
        order.extend(words);
        return Ok(());
    }
    if name == "motorbike" {
        bikes.push(Motorbike::default());
        return Ok(());
    }
    let bike = bikes.last_mut().context("no motorbike to belong to")?;
    let pen = words.next().context("no pen")?;
    if pen == "wheel" {
        let centre = point(words.next().context("no axle")?)?;
        let sizes = words
            .map(|word| Ok(word.parse()?))
            .collect::<Result<Vec<f32>>>()?;
        let &[radius, tyre, disc, spoke] = sizes.as_slice() else {
            anyhow::bail!("four sizes make a wheel");
        };
        let wheel = Wheel {
            centre,
            radius,
            tyre,
            disc,
            spoke,
        };
        bike.wheels.insert(name.to_owned(), wheel);
        return Ok(());
    }
    let part = order
        .iter()
        .position(|part| *part == name)
        .context("no place in the order")?;
    let points = words.map(point).collect::<Result<Vec<Point>>>()?;
    ensure!(!points.is_empty(), "no points");
    bike.parts.insert(part, shape(pen, &points)?);
    Ok(())
}

fn shape(pen: &str, points: &[Point]) -> Result<Shape> {
    let (pen, size) = pen.split_once(':').unwrap_or((pen, "0"));
    let size: f32 = size.parse()?;
    match pen {
        "outline" => Ok(Shape::outline(points)),
        "line" => Ok(Shape::line(points)),
        "tube" => Ok(Shape::tube(size, points)),
        "circle" => Ok(Shape::circle(points[0], size)),
        _ => anyhow::bail!("no pen is called {pen}"),
    }
}

fn point(text: &str) -> Result<Point> {
    let (x, y) = text.split_once(',').context("a point is written x,y")?;
    Ok((x.parse()?, y.parse()?))
}
