//! Line drawings from photographs: contours are found, followed as curves and drawn with a pen of
//! even width, near black on white.
//!
//! Contours are the ridges of the colour gradient (Di Zenzo 1986) of the smoothed picture, thinned
//! and tracked with two thresholds (Canny 1986) at sub-pixel positions and linked along their
//! direction (in the manner of Steger 1998). All lengths follow the picture's shorter side, so
//! that a drawing looks the same at any resolution.

use image::{GrayImage, Luma, RgbImage};

use super::filters::Plane;

/// The shorter side, in pixels, at which the lengths below are given.
const REFERENCE_SIDE: f32 = 160.0;
/// Brightness of the ink, 0 to 255.
const INK: f32 = 20.0;
/// Colour counts for less than brightness: cameras and JPEG blur it.
const CHROMA_WEIGHT: f32 = 0.8;

/// What the drawing shows and with which pen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EdgeOptions {
    /// How many of the weaker lines are drawn, from 0 (outlines only) to 1.
    pub detail: f32,
    /// Width of the pen as a share of the picture's shorter side.
    pub line_width: f32,
}

impl Default for EdgeOptions {
    fn default() -> Self {
        Self {
            detail: 0.5,
            line_width: 1.75 / 128.0,
        }
    }
}

/// Draws the outlines and main inner lines of `picture`, at its size.
pub fn draw_edges(picture: &RgbImage, options: &EdgeOptions) -> RgbImage {
    let shorter = picture.width().min(picture.height()) as f32;
    let unit = (shorter / REFERENCE_SIDE).max(0.5);
    let gradient = Gradient::of(picture, unit);
    let curves = Tracer::new(&gradient, unit, options.detail).trace();
    let mut drawing = Plane::filled(picture.width() as usize, picture.height() as usize, 0.0);
    let pen = (options.line_width * shorter).max(1.0);
    for curve in &curves {
        curve.smoothed(1.5 * unit).draw(&mut drawing, pen);
    }
    let grey = GrayImage::from_fn(picture.width(), picture.height(), |x, y| {
        let ink = drawing.at(x as usize, y as usize);
        Luma([(255.0 - (255.0 - INK) * ink).round() as u8])
    });
    image::DynamicImage::from(grey).into_rgb8()
}

/// Strength and direction of the steepest colour change at each pixel.
struct Gradient {
    strength: Plane,
    /// Unit vector across the edge.
    normal: [Plane; 2],
}

impl Gradient {
    fn of(picture: &RgbImage, unit: f32) -> Self {
        let luma = Plane::luma(picture)
            .bilateral(2.0 * unit, 0.12)
            .gaussian(0.9 * unit);
        let chroma = Plane::chroma(picture)
            .map(|plane| plane.gaussian(1.5 * unit).map(|v| CHROMA_WEIGHT * v));
        let (width, height) = (luma.width(), luma.height());
        let derivatives: Vec<[Plane; 2]> = std::iter::once(&luma)
            .chain(&chroma)
            .map(Plane::gradient)
            .collect();

        let mut strength = Plane::filled(width, height, 0.0);
        let mut normal = [strength.clone(), strength.clone()];
        for y in 0..height {
            for x in 0..width {
                let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
                for [dx, dy] in &derivatives {
                    let (dx, dy) = (dx.at(x, y), dy.at(x, y));
                    xx += dx * dx;
                    xy += dx * dy;
                    yy += dy * dy;
                }
                let root = ((xx - yy).powi(2) + 4.0 * xy * xy).sqrt();
                let angle = 0.5 * (2.0 * xy).atan2(xx - yy);
                strength.set(x, y, (0.5 * (xx + yy + root)).max(0.0).sqrt() * unit);
                normal[0].set(x, y, angle.cos());
                normal[1].set(x, y, angle.sin());
            }
        }
        // Where everything changes, in gravel or foliage, a change says little; a lone faint outline
        // says much.
        let around = strength.gaussian(8.0 * unit);
        let typical = strength.percentile(0.9).max(0.01);
        let strength = Plane::from_fn(width, height, |x, y| {
            strength.at(x, y) * (2.0 * typical / (around.at(x, y) + typical)).sqrt()
        });
        Self { strength, normal }
    }
}

type Point = [f32; 2];

fn difference(to: Point, from: Point) -> Point {
    [to[0] - from[0], to[1] - from[1]]
}

fn dot(a: Point, b: Point) -> f32 {
    a[0] * b[0] + a[1] * b[1]
}

fn length(a: Point) -> f32 {
    dot(a, a).sqrt()
}

/// A pixel on the ridge of the gradient.
#[derive(Clone, Copy)]
struct EdgePoint {
    position: Point,
    tangent: Point,
    strength: f32,
}

/// Follows ridges of the gradient from pixel to pixel, strongest first.
struct Tracer {
    width: usize,
    height: usize,
    unit: f32,
    high: f32,
    ridge: Vec<Option<EdgePoint>>,
    /// Pixels on or next to a finished curve, where no other may run.
    taken: Vec<bool>,
    visited: Vec<bool>,
    least_saliency: f32,
}

impl Tracer {
    fn new(gradient: &Gradient, unit: f32, detail: f32) -> Self {
        let (width, height) = (gradient.strength.width(), gradient.strength.height());
        // Thresholds follow the picture's own strong edges, so that a pale photograph is drawn too,
        // but stay above what noise in a flat area reaches.
        let detail = detail.clamp(0.0, 1.0);
        let strong = gradient.strength.percentile(0.97).max(0.02);
        let faintest = 0.012 * 2.5f32.powf(1.0 - 2.0 * detail);
        let high = ((0.5 - 0.4 * detail) * strong).max(faintest);
        let low = 0.4 * high;
        let ridge = (0..width * height)
            .map(|i| ridge_point(gradient, i % width, i / width).filter(|p| p.strength > low))
            .collect();
        Self {
            width,
            height,
            unit,
            high,
            ridge,
            taken: vec![false; width * height],
            visited: vec![false; width * height],
            least_saliency: high * 14.0 * unit,
        }
    }

    fn trace(mut self) -> Vec<Curve> {
        let mut starts: Vec<(f32, usize)> = self
            .ridge
            .iter()
            .enumerate()
            .filter_map(|(i, point)| point.map(|point| (point.strength, i)))
            .filter(|&(strength, _)| strength > self.high)
            .collect();
        starts.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));

        let mut curves = Vec::new();
        for (_, start) in starts {
            if self.visited[start] || self.taken[start] {
                continue;
            }
            let Some(first) = self.ridge[start] else {
                continue;
            };
            self.visited[start] = true;
            let forward = self.follow(start, first.tangent);
            let backward = self.follow(start, first.tangent.map(|t| -t));
            let mut points: Vec<EdgePoint> = backward.into_iter().rev().collect();
            points.push(first);
            points.extend(forward);
            if let Some(curve) = self.finish(&points) {
                curves.push(curve);
            }
        }
        curves
    }

    /// The points after `start` in the direction `heading`.
    fn follow(&mut self, start: usize, mut heading: Point) -> Vec<EdgePoint> {
        let mut points = Vec::new();
        let mut at = start;
        while let Some(next) = self.next(at, heading) {
            self.visited[next] = true;
            let (Some(from), Some(to)) = (self.ridge[at], self.ridge[next]) else {
                break;
            };
            let along = dot(to.tangent, heading).signum();
            let step = difference(to.position, from.position);
            let reach = length(step).max(1e-3);
            // The new heading leans on the step as well as on the edge's own direction, which is
            // unreliable at corners.
            let mixed = [0, 1].map(|k| along * to.tangent[k] + step[k] / reach);
            let size = length(mixed).max(1e-3);
            heading = mixed.map(|v| v / size);
            points.push(to);
            at = next;
        }
        points
    }

    /// The best free ridge pixel ahead: a neighbour, or one across a gap of a pixel or two.
    fn next(&self, at: usize, heading: Point) -> Option<usize> {
        let from = self.ridge[at]?;
        let (x, y) = ((at % self.width) as isize, (at / self.width) as isize);
        let gap = (2.0 * self.unit).round().max(1.0) as isize;
        for radius in 1..=gap {
            let least_cosine = if radius == 1 { 0.3 } else { 0.85 };
            let mut best = None;
            for dy in -radius..=radius {
                for dx in -radius..=radius {
                    if dx.abs().max(dy.abs()) != radius {
                        continue;
                    }
                    let Some(i) = self.index(x + dx, y + dy) else {
                        continue;
                    };
                    let Some(to) = self.ridge[i] else { continue };
                    if self.visited[i] || self.taken[i] {
                        continue;
                    }
                    let step = difference(to.position, from.position);
                    let reach = length(step).max(1e-3);
                    let cosine = dot(step, heading) / reach;
                    if cosine < least_cosine {
                        continue;
                    }
                    let bend = dot(to.tangent, heading).abs();
                    let cost = reach - cosine - bend;
                    if best.is_none_or(|(least, _)| cost < least) {
                        best = Some((cost, i));
                    }
                }
            }
            if let Some((_, i)) = best {
                return Some(i);
            }
        }
        None
    }

    fn index(&self, x: isize, y: isize) -> Option<usize> {
        let inside =
            (0..self.width as isize).contains(&x) && (0..self.height as isize).contains(&y);
        inside.then(|| y as usize * self.width + x as usize)
    }

    /// Keeps a curve that is long and strong enough, joins its ends to what lies just ahead and
    /// clears its surroundings, so that both sides of a thin line do not become two.
    fn finish(&mut self, points: &[EdgePoint]) -> Option<Curve> {
        let run: f32 = points
            .windows(2)
            .map(|pair| length(difference(pair[1].position, pair[0].position)))
            .sum();
        let mean = points.iter().map(|p| p.strength).sum::<f32>() / points.len().max(1) as f32;
        if run < 7.0 * self.unit || run * mean < self.least_saliency {
            return None;
        }
        let mut positions: Vec<Point> = points.iter().map(|p| p.position).collect();
        let (first, last) = (*positions.first()?, *positions.last()?);
        let closed = run > 12.0 * self.unit && length(difference(first, last)) < 4.0 * self.unit;
        if !closed {
            if let Some(joint) = self.joint(&positions) {
                positions.push(joint);
            }
            positions.reverse();
            if let Some(joint) = self.joint(&positions) {
                positions.push(joint);
            }
        }
        let clearance = 1.8 * self.unit;
        let reach = clearance.ceil() as isize;
        for point in points {
            let (x, y) = (point.position[0].round(), point.position[1].round());
            for dy in -reach..=reach {
                for dx in -reach..=reach {
                    if ((dx * dx + dy * dy) as f32) <= clearance * clearance
                        && let Some(i) = self.index(x as isize + dx, y as isize + dy)
                    {
                        self.taken[i] = true;
                    }
                }
            }
        }
        Some(Curve {
            points: positions,
            closed,
        })
    }

    /// Where the end of a curve meets a finished one within a few pixels straight ahead.
    fn joint(&self, positions: &[Point]) -> Option<Point> {
        let last = *positions.last()?;
        let before = positions[positions.len().saturating_sub(5)];
        let ahead = difference(last, before);
        let reach = length(ahead);
        if reach < 1e-3 {
            return None;
        }
        (1..=(4.0 * self.unit) as usize)
            .map(|t| [0, 1].map(|k| last[k] + ahead[k] / reach * t as f32))
            .find(|p| {
                self.index(p[0].round() as isize, p[1].round() as isize)
                    .is_some_and(|i| self.taken[i])
            })
    }
}

/// The ridge of the gradient at a pixel, if it runs through it: the strength is largest there
/// along the normal; the position is the vertex of the parabola through three samples.
fn ridge_point(gradient: &Gradient, x: usize, y: usize) -> Option<EdgePoint> {
    let strength = &gradient.strength;
    if x == 0 || y == 0 || x + 1 >= strength.width() || y + 1 >= strength.height() {
        return None;
    }
    let normal = [gradient.normal[0].at(x, y), gradient.normal[1].at(x, y)];
    let sample = |side: f32| {
        let (px, py) = (x as f32 + side * normal[0], y as f32 + side * normal[1]);
        let (left, top) = (px.floor(), py.floor());
        let (fx, fy) = (px - left, py - top);
        let (left, top) = (left as usize, top as usize);
        let right = (left + 1).min(strength.width() - 1);
        let bottom = (top + 1).min(strength.height() - 1);
        let above = strength.at(left, top) * (1.0 - fx) + strength.at(right, top) * fx;
        let below = strength.at(left, bottom) * (1.0 - fx) + strength.at(right, bottom) * fx;
        above * (1.0 - fy) + below * fy
    };
    let (before, here, after) = (sample(-1.0), strength.at(x, y), sample(1.0));
    if here <= before || here < after {
        return None;
    }
    let curvature = before - 2.0 * here + after;
    let offset = (0.5 * (before - after) / curvature.min(-1e-9)).clamp(-0.5, 0.5);
    Some(EdgePoint {
        position: [x as f32 + offset * normal[0], y as f32 + offset * normal[1]],
        tangent: [-normal[1], normal[0]],
        strength: here,
    })
}

/// A polyline in pixel coordinates; pixel centres are whole numbers.
struct Curve {
    points: Vec<Point>,
    closed: bool,
}

impl Curve {
    /// The curve with the tremble of the pixel grid taken out: a Gaussian mean along the line,
    /// `sigma` points wide, that leaves open ends where they are.
    fn smoothed(&self, sigma: f32) -> Self {
        let radius = (2.5 * sigma).ceil() as isize;
        let count = self.points.len() as isize;
        let at = |i: isize| -> Point {
            if self.closed {
                return self.points[i.rem_euclid(count) as usize];
            }
            // Mirrored through the end point, so that the mean at the end is the end.
            let end = i.clamp(0, count - 1);
            let mirrored = (2 * end - i).clamp(0, count - 1);
            let (end_point, point) = (self.points[end as usize], self.points[mirrored as usize]);
            if end == i {
                end_point
            } else {
                [0, 1].map(|k| 2.0 * end_point[k] - point[k])
            }
        };
        let points = (0..count)
            .map(|i| {
                let (mut sum, mut weights) = ([0.0, 0.0], 0.0);
                for d in -radius..=radius {
                    let weight = (-(d * d) as f32 / (2.0 * sigma * sigma)).exp();
                    let point = at(i + d);
                    sum = [sum[0] + weight * point[0], sum[1] + weight * point[1]];
                    weights += weight;
                }
                sum.map(|v| v / weights)
            })
            .collect();
        Self {
            points,
            closed: self.closed,
        }
    }

    /// Adds the curve to `drawing` (0 paper, 1 ink) with a round pen `width` pixels wide; edges
    /// are anti-aliased by their distance.
    fn draw(&self, drawing: &mut Plane, width: f32) {
        let closing = self
            .closed
            .then(|| [self.points[self.points.len() - 1], self.points[0]]);
        let segments = self.points.windows(2).map(|pair| [pair[0], pair[1]]);
        for [from, to] in segments.chain(closing) {
            let margin = 0.5 * width + 1.0;
            let bounds = |k: usize, size: usize| {
                let low = (from[k].min(to[k]) - margin).floor().max(0.0) as usize;
                let high = (from[k].max(to[k]) + margin).ceil().max(0.0) as usize;
                low..(high + 1).min(size)
            };
            let along = difference(to, from);
            let square = dot(along, along).max(1e-6);
            for y in bounds(1, drawing.height()) {
                for x in bounds(0, drawing.width()) {
                    let point = difference([x as f32, y as f32], from);
                    let t = (dot(point, along) / square).clamp(0.0, 1.0);
                    let distance = length(difference(point, along.map(|v| t * v)));
                    let cover = (0.5 * width + 0.5 - distance).clamp(0.0, 1.0);
                    if cover > drawing.at(x, y) {
                        drawing.set(x, y, cover);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    const SIDE: u32 = 160;
    const CENTRE: f32 = 79.5;

    fn disc(radius: f32, ground: [u8; 3], colour: [u8; 3]) -> RgbImage {
        RgbImage::from_fn(SIDE, SIDE, |x, y| {
            let inside = (x as f32 - CENTRE).hypot(y as f32 - CENTRE) < radius;
            Rgb(if inside { colour } else { ground })
        })
    }

    fn is_ink(drawing: &RgbImage, x: f32, y: f32) -> bool {
        drawing.get_pixel(x.round() as u32, y.round() as u32)[0] < 100
    }

    fn assert_one_closed_rim(drawing: &RgbImage, radius: f32) {
        for degrees in 0..360 {
            let (sin, cos) = (degrees as f32).to_radians().sin_cos();
            let drawn = (-3..=3).any(|off| {
                let r = radius + 0.5 * off as f32;
                is_ink(drawing, CENTRE + r * cos, CENTRE + r * sin)
            });
            assert!(drawn, "the contour is open at {degrees} degrees");
        }
        for (x, y, pixel) in drawing.enumerate_pixels() {
            let off = ((x as f32 - CENTRE).hypot(y as f32 - CENTRE) - radius).abs();
            assert!(off < 4.0 || pixel.0 == [255; 3], "ink at {x}, {y}");
        }
    }

    #[test]
    fn a_disc_becomes_a_closed_contour_at_its_rim_and_nothing_else() {
        let photo = disc(50.0, [240; 3], [60; 3]);
        assert_one_closed_rim(&draw_edges(&photo, &EdgeOptions::default()), 50.0);
    }

    #[test]
    fn an_edge_between_colours_of_one_brightness_is_drawn() {
        let photo = disc(40.0, [200, 80, 90], [70, 118, 100]);
        let luma = Plane::luma(&photo);
        assert!((luma.at(0, 0) - luma.at(80, 80)).abs() < 0.01);
        assert_one_closed_rim(&draw_edges(&photo, &EdgeOptions::default()), 40.0);
    }

    #[test]
    fn strokes_are_near_black_of_the_given_width_at_any_size() {
        for side in [160u32, 480] {
            let photo = RgbImage::from_fn(side, side, |x, _| {
                Rgb([if x < side / 2 { 40 } else { 220 }; 3])
            });
            let options = EdgeOptions::default();
            let drawing = draw_edges(&photo, &options);
            let row: Vec<f32> = (0..side)
                .map(|x| f32::from(drawing.get_pixel(x, side / 2)[0]))
                .collect();
            let ink: f32 = row.iter().map(|v| (255.0 - v) / (255.0 - INK)).sum();
            let width = options.line_width * side as f32;
            assert!((ink - width).abs() < 0.35, "{ink} instead of {width}");
            assert_eq!(row.iter().copied().fold(255.0, f32::min), INK);
        }
    }

    #[test]
    fn noise_is_not_drawn() {
        let mut state = 1u32;
        let photo = RgbImage::from_fn(SIDE, SIDE, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Rgb([180 + (state >> 28) as u8; 3])
        });
        let drawing = draw_edges(&photo, &EdgeOptions::default());
        assert!(drawing.pixels().all(|pixel| pixel.0 == [255; 3]));
    }

    #[test]
    fn more_detail_draws_fainter_lines() {
        let photo = RgbImage::from_fn(SIDE, SIDE, |x, _| {
            Rgb([match x {
                0..50 => 30,
                50..110 => 230,
                _ => 215,
            }; 3])
        });
        let drawn = |detail| {
            let options = EdgeOptions {
                detail,
                ..EdgeOptions::default()
            };
            let drawing = draw_edges(&photo, &options);
            [50, 110].map(|x| (-2..2).any(|off| is_ink(&drawing, (x + off) as f32, 80.0)))
        };
        assert_eq!(drawn(0.0), [true, false]);
        assert_eq!(drawn(1.0), [true, true]);
    }

    #[test]
    fn tiny_and_flat_pictures_stay_white() {
        for (width, height) in [(0, 0), (1, 1), (1, 7), (2, 2), (3, 3), (64, 5)] {
            let photo = RgbImage::from_pixel(width, height, Rgb([90, 30, 200]));
            let drawing = draw_edges(&photo, &EdgeOptions::default());
            assert_eq!(drawing.dimensions(), (width, height));
            assert!(drawing.pixels().all(|pixel| pixel.0 == [255; 3]));
        }
    }
}
