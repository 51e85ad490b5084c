//! Cuts the one thing that a picture shows out of its background and puts it on white.
//!
//! What the border shows is background, what the middle shows is the thing; two mixtures of colours
//! learn from both and from what they find in between, in turns, as in GrabCut (Rother 2004). Where
//! they are undecided a guided filter (He 2010) follows the edges of the picture, in place of a
//! minimum cut.

use image::imageops::{self, FilterType};
use image::{GrayImage, Luma, Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::filters::{Plane, smoothstep};

/// The shorter side, in pixels, at which the thing is looked for.
const SIDE: f32 = 160.0;
/// Width of the border that is background at first, as a share of the shorter side.
const BORDER: f32 = 0.05;
/// Half axes of the ellipse in the middle that is the thing at first, as shares of the sides.
const MIDDLE: f32 = 0.24;
/// Colours in each mixture.
const COLOURS: usize = 6;
/// Turns of learning.
const TURNS: usize = 6;
/// How much a difference of chroma counts beside one of luma: shadows change luma alone.
const CHROMA: f32 = 2.0;
/// Margin around the thing, as a share of its longer side.
const MARGIN: f32 = 0.08;

/// The thing that `picture` shows, on a white square, with a margin; `None` where no thing in its middle
/// stands out clearly from what surrounds it.
pub fn cut_out(picture: &RgbImage) -> Option<RgbImage> {
    let shorter = picture.width().min(picture.height()) as f32;
    if shorter < 32.0 {
        return None;
    }
    let scale = SIDE / shorter;
    let scaled = |side: u32| (side as f32 * scale).round().max(1.0) as u32;
    let small = imageops::thumbnail(picture, scaled(picture.width()), scaled(picture.height()));
    let thing = Thing::find(&small)?;

    let mask = thing.soft_mask();
    let mask = imageops::resize(
        &mask,
        picture.width(),
        picture.height(),
        FilterType::Triangle,
    );
    let [left, top, right, bottom] = thing.bounds.map(|position| position as f32 / scale);
    let side = ((right - left).max(bottom - top) * (1.0 + 2.0 * MARGIN)).round();
    let corner = [
        ((left + right - side) / 2.0).round() as i64,
        ((top + bottom - side) / 2.0).round() as i64,
    ];
    let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
    Some(RgbImage::from_fn(side as u32, side as u32, |x, y| {
        let (x, y) = (i64::from(x) + corner[0], i64::from(y) + corner[1]);
        if !(0..width).contains(&x) || !(0..height).contains(&y) {
            return Rgb([255; 3]);
        }
        let (x, y) = (x as u32, y as u32);
        let cover = smoothstep(0.4, 0.7, f32::from(mask.get_pixel(x, y)[0]) / 255.0);
        let colour = picture.get_pixel(x, y).0;
        Rgb(colour.map(|v| (255.0 + (f32::from(v) - 255.0) * cover).round() as u8))
    }))
}

/// `cut` on a white square with sides of `side` pixels, of which it takes a share between `smallest` and 1,
/// somewhere within: both as the seed says, so that a set has things of all sizes in all places.
///
/// # Panics
/// A `smallest` outside of 0 to 1.
pub fn place(cut: &RgbImage, side: u32, smallest: f32, seed: u64) -> RgbImage {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let share = random.random_range(smallest..=1.0);
    let inner = ((side as f32 * share).round() as u32).clamp(1, side);
    let scaled = imageops::resize(cut, inner, inner, FilterType::CatmullRom);
    let mut square = RgbImage::from_pixel(side, side, Rgb([255; 3]));
    let corner = [(); 2].map(|()| i64::from(random.random_range(0..=side - inner)));
    imageops::replace(&mut square, &scaled, corner[0], corner[1]);
    square
}

/// One connected area without holes.
struct Thing {
    mask: Vec<bool>,
    width: usize,
    height: usize,
    /// Left, top, right and bottom, the latter two exclusive.
    bounds: [usize; 4],
}

impl Thing {
    fn find(picture: &RgbImage) -> Option<Self> {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let luma = Plane::luma(picture);
        let [blue, red] = Plane::chroma(picture);
        let colours: Vec<[f32; 3]> = (0..width * height)
            .map(|at| {
                let chroma = |plane: &Plane| CHROMA * plane.values()[at];
                [luma.values()[at], chroma(&blue), chroma(&red)]
            })
            .collect();

        let margin = BORDER * width.min(height) as f32;
        let to_edge = |x: usize, y: usize| x.min(y).min(width - 1 - x).min(height - 1 - y) as f32;
        let from_middle = |x: usize, y: usize| {
            let across = (x as f32 + 0.5) / width as f32 - 0.5;
            let along = (y as f32 + 0.5) / height as f32 - 0.5;
            across.hypot(along) / MIDDLE
        };
        let first = |at: usize| {
            let (x, y) = (at % width, at / width);
            match (to_edge(x, y) < margin, from_middle(x, y) < 1.0) {
                (true, _) => [0.0, 1.0],
                (_, true) => [1.0, 0.0],
                _ => [0.0, 0.0],
            }
        };
        let mut weights: Vec<[f32; 2]> = (0..width * height).map(first).collect();
        let mut likely = Plane::filled(width, height, 0.5);
        for _ in 0..TURNS {
            let [thing, background] =
                [0, 1].map(|which| Mixture::of(&colours, |at| weights[at][which]));
            let (thing, background) = (thing?, background?);
            let evidence = Plane::from_fn(width, height, |x, y| {
                let colour = colours[y * width + x];
                let ratio = thing.log_likelihood(colour) - background.log_likelihood(colour);
                // The outermost pixels stay background.
                let outside = if to_edge(x, y) < 2.0 { 4.0 } else { 0.0 };
                (ratio - outside).clamp(-5.0, 5.0)
            });
            likely = guided(&evidence, &luma, 3.0, 0.001).map(|v| 1.0 / (1.0 + (-1.5 * v).exp()));
            for (weight, likely) in weights.iter_mut().zip(likely.values()) {
                *weight = [*likely, 1.0 - likely];
            }
        }

        let found = Self::largest(&likely)?;
        found.stands_out(&likely).then_some(found)
    }

    /// The largest connected area that is rather the thing than background, its holes filled.
    fn largest(likely: &Plane) -> Option<Self> {
        let (width, height) = (likely.width(), likely.height());
        let inside: Vec<bool> = likely.values().iter().map(|&v| v > 0.5).collect();
        let largest = areas(&inside, true, width, height)
            .into_iter()
            .max_by_key(Vec::len)?;
        let mut mask = vec![false; width * height];
        largest.iter().for_each(|&at| mask[at] = true);
        let on_edge = |at: usize| {
            let (x, y) = (at % width, at / width);
            x == 0 || y == 0 || x == width - 1 || y == height - 1
        };
        for hole in areas(&mask, false, width, height) {
            if !hole.iter().any(|&at| on_edge(at)) {
                hole.iter().for_each(|&at| mask[at] = true);
            }
        }
        let mut bounds = [width, height, 0, 0];
        for at in (0..mask.len()).filter(|&at| mask[at]) {
            let (x, y) = (at % width, at / width);
            bounds = [
                bounds[0].min(x),
                bounds[1].min(y),
                bounds[2].max(x + 1),
                bounds[3].max(y + 1),
            ];
        }
        Some(Self {
            mask,
            width,
            height,
            bounds,
        })
    }

    /// Whether this looks like one whole thing rather than a guess.
    fn stands_out(&self, likely: &Plane) -> bool {
        let all = self.mask.len() as f32;
        let area = self.mask.iter().filter(|&&inside| inside).count() as f32;
        let elsewhere = likely
            .values()
            .iter()
            .zip(&self.mask)
            .filter(|&(&likely, &inside)| likely > 0.5 && !inside)
            .count() as f32;
        let undecided = likely.values().iter().filter(|v| (0.15..0.85).contains(*v));
        let outline = self.outline() as f32;
        let [left, top, right, bottom] = self.bounds;
        (0.12..0.72).contains(&(area / all))
            && elsewhere < 0.06 * area
            && (undecided.count() as f32) < 0.14 * all
            // A disc has 4π; a shirt with sleeves about twice as much, a ragged area far more.
            && outline * outline < 75.0 * area
            && left > 1
            && top > 1
            && right < self.width - 1
            && bottom < self.height - 1
    }

    /// Length of the outline in pixels: steps between inside and outside, less what diagonals count
    /// twice.
    fn outline(&self) -> usize {
        let inside = |x: usize, y: usize| self.mask[y * self.width + x];
        let mut steps = 0;
        for y in 0..self.height - 1 {
            for x in 0..self.width - 1 {
                steps += usize::from(inside(x, y) != inside(x + 1, y));
                steps += usize::from(inside(x, y) != inside(x, y + 1));
            }
        }
        steps * 4 / 5
    }

    fn soft_mask(&self) -> GrayImage {
        let mask = Plane::from_fn(self.width, self.height, |x, y| {
            f32::from(u8::from(self.mask[y * self.width + x]))
        });
        let mask = mask.gaussian(1.0);
        GrayImage::from_fn(self.width as u32, self.height as u32, |x, y| {
            Luma([(255.0 * mask.at(x as usize, y as usize)).round() as u8])
        })
    }
}

/// The connected areas (of four neighbours) where `mask` is `wanted`, as indices.
fn areas(mask: &[bool], wanted: bool, width: usize, height: usize) -> Vec<Vec<usize>> {
    let mut seen = vec![false; mask.len()];
    let mut found = vec![];
    for start in 0..mask.len() {
        if seen[start] || mask[start] != wanted {
            continue;
        }
        seen[start] = true;
        let mut area = vec![start];
        let mut next = 0;
        while let Some(&at) = area.get(next) {
            next += 1;
            let (x, y) = (at % width, at / width);
            let neighbours = [
                (x > 0).then(|| at - 1),
                (x + 1 < width).then(|| at + 1),
                (y > 0).then(|| at - width),
                (y + 1 < height).then(|| at + width),
            ];
            for neighbour in neighbours.into_iter().flatten() {
                if !seen[neighbour] && mask[neighbour] == wanted {
                    seen[neighbour] = true;
                    area.push(neighbour);
                }
            }
        }
        found.push(area);
    }
    found
}

/// A mixture of Gaussian colours, each with one deviation for all channels.
struct Mixture(Vec<Component>);

struct Component {
    centre: [f32; 3],
    variance: f32,
    share: f32,
}

impl Mixture {
    /// Learns from weighted colours by k-means; `None` without any weight.
    fn of(colours: &[[f32; 3]], weight: impl Fn(usize) -> f32) -> Option<Self> {
        let mut weighted: Vec<([f32; 3], f32)> = colours
            .iter()
            .enumerate()
            .map(|(at, &colour)| (colour, weight(at)))
            .filter(|&(_, weight)| weight > 0.2)
            .collect();
        if weighted.is_empty() {
            return None;
        }
        // The first centres lie evenly among the colours from dark to light.
        weighted.sort_by(|(a, _), (b, _)| a[0].total_cmp(&b[0]));
        let mut centres: Vec<[f32; 3]> = (0..COLOURS)
            .map(|i| weighted[(2 * i + 1) * weighted.len() / (2 * COLOURS)].0)
            .collect();
        let mut components = vec![];
        for _ in 0..8 {
            let mut sums = vec![([0.0f32; 3], 0.0f32, 0.0f32); COLOURS];
            for &(colour, weight) in &weighted {
                let (nearest, distance) = centres
                    .iter()
                    .map(|&centre| square_distance(colour, centre))
                    .enumerate()
                    .min_by(|a, b| a.1.total_cmp(&b.1))?;
                let (sum, squares, total) = &mut sums[nearest];
                for (sum, channel) in sum.iter_mut().zip(colour) {
                    *sum += weight * channel;
                }
                *squares += weight * distance;
                *total += weight;
            }
            let all: f32 = sums.iter().map(|&(_, _, total)| total).sum();
            components.clear();
            for (centre, (sum, squares, total)) in centres.iter_mut().zip(&sums) {
                if *total > 0.0 {
                    *centre = sum.map(|channel| channel / total);
                    components.push(Component {
                        centre: *centre,
                        // Cameras' noise is never less.
                        variance: (squares / total / 3.0).max(0.0004),
                        share: total / all,
                    });
                }
            }
        }
        Some(Self(components))
    }

    fn log_likelihood(&self, colour: [f32; 3]) -> f32 {
        let sum: f32 = self
            .0
            .iter()
            .map(|component| {
                let distance = square_distance(colour, component.centre);
                component.share
                    * component.variance.powf(-1.5)
                    * (-distance / (2.0 * component.variance)).exp()
            })
            .sum();
        // A colour that the mixture has never seen says little.
        (sum + 1e-3).ln()
    }
}

fn square_distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

/// The guided filter with Gaussian windows: `plane` smoothed within `sigma` pixels, except across edges of
/// `guide` whose variance is above `edge`.
fn guided(plane: &Plane, guide: &Plane, sigma: f32, edge: f32) -> Plane {
    let product = |a: &Plane, b: &Plane| {
        Plane::from_fn(a.width(), a.height(), |x, y| a.at(x, y) * b.at(x, y))
    };
    let smooth = |plane: &Plane| plane.gaussian(sigma);
    let (mean_guide, mean) = (smooth(guide), smooth(plane));
    let (squares, products) = (
        smooth(&product(guide, guide)),
        smooth(&product(guide, plane)),
    );
    let slope = Plane::from_fn(plane.width(), plane.height(), |x, y| {
        let own = mean_guide.at(x, y);
        (products.at(x, y) - own * mean.at(x, y)) / (squares.at(x, y) - own * own + edge)
    });
    let offset = Plane::from_fn(plane.width(), plane.height(), |x, y| {
        mean.at(x, y) - slope.at(x, y) * mean_guide.at(x, y)
    });
    let (slope, offset) = (smooth(&slope), smooth(&offset));
    Plane::from_fn(plane.width(), plane.height(), |x, y| {
        slope.at(x, y) * guide.at(x, y) + offset.at(x, y)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shape that is one where `inside` says so, on a woven ground that grows lighter.
    fn photo(inside: impl Fn(f32, f32) -> bool, colour: [u8; 3]) -> RgbImage {
        RgbImage::from_fn(240, 200, |x, y| {
            let position = (x as f32 / 240.0 - 0.5, y as f32 / 200.0 - 0.5);
            let weave = if (x + y) % 2 == 0 { 6 } else { 0 };
            if inside(position.0, position.1) {
                Rgb(colour.map(|v: u8| v.saturating_add(weave)))
            } else {
                Rgb([90 + weave + (x / 8) as u8, 80 + weave, 60 + (y / 10) as u8])
            }
        })
    }

    fn shirt(x: f32, y: f32) -> bool {
        let body = x.abs() < 0.18 && y.abs() < 0.35;
        let sleeves = x.abs() < 0.32 && (-0.35..-0.1).contains(&y);
        body || sleeves
    }

    #[test]
    fn a_thing_is_put_on_white_and_keeps_its_colour() {
        let blue = [40, 60, 190];
        let cut = cut_out(&photo(shirt, blue)).unwrap();
        // 0.64 of 240 pixels wide, 0.7 of 200 high, and the margin.
        let side = (0.64 * 240.0 * 1.16f32).round() as i64;
        assert!(
            (i64::from(cut.width()) - side).abs() < 8,
            "{:?}",
            cut.dimensions()
        );
        assert_eq!(cut.width(), cut.height());
        for (x, y) in [(2, 2), (side / 2, 3), (10, side * 3 / 4)] {
            assert_eq!(cut.get_pixel(x as u32, y as u32).0, [255; 3], "{x} {y}");
        }
        let middle = cut.get_pixel(cut.width() / 2, cut.height() / 2).0;
        assert!(
            middle.iter().zip(blue).all(|(&a, b)| a.abs_diff(b) <= 6),
            "{middle:?}"
        );
        let coloured = cut.pixels().filter(|pixel| pixel.0 != [255; 3]).count() as f32;
        let area = 240.0 * 200.0 * (0.36 * 0.7 + 0.28 * 0.25);
        assert!((coloured / area - 1.0).abs() < 0.15, "{coloured} of {area}");
    }

    #[test]
    fn a_hole_in_the_colour_of_the_ground_belongs_to_the_thing() {
        let with_print = |x: f32, y: f32| shirt(x, y) && x.hypot(y - 0.1) > 0.08;
        let cut = cut_out(&photo(with_print, [190, 40, 50])).unwrap();
        let print = cut.get_pixel(cut.width() / 2, cut.height() * 6 / 10).0;
        assert_ne!(print, [255; 3]);
    }

    #[test]
    fn things_are_placed_in_all_sizes_and_everywhere() {
        let cut = RgbImage::from_pixel(80, 80, Rgb([40, 60, 190]));
        assert_eq!(
            place(&cut, 80, 1.0, 7),
            imageops::resize(&cut, 80, 80, FilterType::CatmullRom)
        );
        assert_eq!(place(&cut, 64, 0.3, 7), place(&cut, 64, 0.3, 7));
        let covered = |picture: &RgbImage, x: bool| -> Vec<u32> {
            let ink = picture.enumerate_pixels().filter(|p| p.2.0 != [255; 3]);
            ink.map(|p| if x { p.0 } else { p.1 }).collect()
        };
        let (mut sides, mut middles) = (Vec::new(), Vec::new());
        for seed in 0..200 {
            let placed = place(&cut, 100, 0.3, seed);
            assert_eq!(placed.dimensions(), (100, 100));
            for x in [true, false] {
                let at = covered(&placed, x);
                let (first, last) = (at.iter().min().unwrap(), at.iter().max().unwrap());
                sides.push(last - first + 1);
                middles.push((first + last) / 2);
            }
        }
        let range = |of: &[u32]| (*of.iter().min().unwrap(), *of.iter().max().unwrap());
        let ((shortest, longest), (nearest, farthest)) = (range(&sides), range(&middles));
        assert!(
            (30..36).contains(&shortest) && longest > 94,
            "{shortest} {longest}"
        );
        assert!(nearest < 30 && farthest > 70, "{nearest} {farthest}");
    }

    #[test]
    fn pictures_without_one_clear_thing_are_refused() {
        assert!(cut_out(&photo(|_, _| false, [0; 3])).is_none());
        assert!(cut_out(&photo(|_, y| y > 0.0, [40, 60, 190])).is_none());
        let stripes = |x: f32, _: f32| (x * 20.0).rem_euclid(2.0) < 1.0;
        assert!(cut_out(&photo(stripes, [40, 60, 190])).is_none());
        for side in [0, 1, 31] {
            assert!(cut_out(&RgbImage::new(side, side)).is_none());
        }
    }
}
