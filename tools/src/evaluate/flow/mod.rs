//! Dense optical flow by inverse search (Kroeger et al., arXiv 1603.03590, without its variational
//! refinement): where each pixel of a frame has gone in the next.
//!
//! From a small copy of the frames to the full size, patches of the first frame are looked for in the
//! second by gradient descent on their difference, whose mean is left out; each begins where the
//! coarser copy, or a neighbour already found, puts it. A pixel's motion is the mean of those of the
//! patches over it, by how well each explains the pixel.

mod image;

pub use image::Image;

/// Side of the patches, in pixels.
const PATCH: usize = 8;
/// From patch to patch.
const STEP: usize = 3;
/// The smallest copy of the frames is at least so high and wide.
const SMALLEST: usize = 2 * PATCH;
const ITERATIONS: usize = 24;
/// Mean square of the gradients of what may be noise, in steps of 8 bits for each pixel.
const NOISE: f32 = 1.0;
/// A step below this, in pixels, ends the descent.
const SETTLED: f32 = 0.005;
/// A patch that goes further than this from where it began has lost its way.
const FARTHEST: f32 = PATCH as f32;

/// Share of both motions' squares, and square of pixels, by which there and back may differ
/// (Sundaram et al. 2010).
const CONSISTENCY: (f32, f32) = (0.01, 0.5);
/// The same for the change of the motion from pixel to pixel, above which it is a boundary.
const BOUNDARY: (f32, f32) = (0.01, 0.002);

/// A motion for each pixel, in pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// To the right.
    pub x: Image,
    /// Downwards.
    pub y: Image,
}

impl Flow {
    /// Where each pixel of `first` is in `second`; both have values from 0 to 255, one size, and at
    /// least 16 pixels on each side.
    pub fn between(first: &Image, second: &Image) -> Self {
        let mut levels = vec![(first.clone(), second.clone())];
        while let Some((one, other)) = levels.last()
            && one.width.min(one.height) / 2 >= SMALLEST
        {
            levels.push((one.halved(), other.halved()));
        }
        let mut flow: Option<Flow> = None;
        for (first, second) in levels.iter().rev() {
            let begin = match &flow {
                Some(coarse) => coarse.enlarged(first.width, first.height),
                None => Self::none(first.width, first.height),
            };
            flow = Some(refined(first, second, &begin));
        }
        flow.unwrap_or_else(|| Self::none(first.width, first.height))
    }

    fn none(width: usize, height: usize) -> Self {
        let none = Image::from_fn(width, height, |_, _| 0.0);
        Self {
            x: none.clone(),
            y: none,
        }
    }

    /// For frames of about twice the size.
    fn enlarged(&self, width: usize, height: usize) -> Self {
        let enlarge = |component: &Image| {
            Image::from_fn(width, height, |x, y| {
                // Pixels' middles lie half a pixel inside them, at either size.
                2.0 * component.sample((x as f32 - 0.5) / 2.0, (y as f32 - 0.5) / 2.0)
            })
        };
        Self {
            x: enlarge(&self.x),
            y: enlarge(&self.y),
        }
    }

    fn at(&self, x: usize, y: usize) -> [f32; 2] {
        [self.x.at(x, y), self.y.at(x, y)]
    }

    /// Which pixels of the first frame can be seen in the second, by the flow back from there: those
    /// that come back to where they were, and not on the edge of something that moves otherwise
    /// (Ruder et al., arXiv 1604.08610, section 4.2).
    pub fn visible(&self, back: &Flow) -> Vec<bool> {
        let (width, height) = (self.x.width, self.x.height);
        let [x_gradients, y_gradients] = [&self.x, &self.y].map(Image::gradients);
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        places
            .map(|(x, y)| {
                let [right, down] = self.at(x, y);
                let (to_x, to_y) = (x as f32 + right, y as f32 + down);
                let inside = (0.0..=(width - 1) as f32).contains(&to_x)
                    && (0.0..=(height - 1) as f32).contains(&to_y);
                let [left, up] = [back.x.sample(to_x, to_y), back.y.sample(to_x, to_y)];
                let motion = square(right, down);
                let astray = square(right + left, down + up);
                let (share, least) = CONSISTENCY;
                let comes_back = astray <= share * (motion + square(left, up)) + least;
                let change: f32 = [&x_gradients, &y_gradients]
                    .iter()
                    .flat_map(|gradients| gradients.iter())
                    .map(|gradient| gradient.at(x, y).powi(2))
                    .sum();
                let (share, least) = BOUNDARY;
                inside && comes_back && change <= share * motion + least
            })
            .collect()
    }
}

fn square(x: f32, y: f32) -> f32 {
    x * x + y * y
}

/// The flow at one size, from a first guess.
fn refined(first: &Image, second: &Image, begin: &Flow) -> Flow {
    let (width, height) = (first.width, first.height);
    let gradients = first.gradients();
    let columns = starts(width);
    let rows = starts(height);
    let mut motions: Vec<[f32; 2]> = Vec::with_capacity(columns.len() * rows.len());
    for (row, &y) in rows.iter().enumerate() {
        for (column, &x) in columns.iter().enumerate() {
            let patch = Patch::of(first, &gradients, x, y);
            let middle = begin.at(x + PATCH / 2, y + PATCH / 2);
            let left = (column > 0).then(|| motions[motions.len() - 1]);
            let above = (row > 0).then(|| motions[(row - 1) * columns.len() + column]);
            let candidates = [Some(middle), left, above].into_iter().flatten();
            let start = candidates
                .map(|motion| (patch.difference(second, motion), motion))
                .min_by(|one, other| one.0.total_cmp(&other.0))
                .map_or(middle, |(_, motion)| motion);
            motions.push(patch.search(second, start));
        }
    }
    spread(first, second, &columns, &rows, &motions)
}

/// Where patches begin along a side, the last at its end.
fn starts(length: usize) -> Vec<usize> {
    let last = length - PATCH;
    let mut starts: Vec<usize> = (0..=last).step_by(STEP).collect();
    if starts.last() != Some(&last) {
        starts.push(last);
    }
    starts
}

/// A patch of the first frame.
struct Patch {
    x: usize,
    y: usize,
    /// Less their mean.
    values: [f32; PATCH * PATCH],
    /// Less their means.
    gradients: [[f32; PATCH * PATCH]; 2],
    /// Inverse of the products of gradients; all zero where there is nothing to hold on to.
    inverse: [f32; 3],
}

impl Patch {
    fn of(picture: &Image, gradients: &[Image; 2], x: usize, y: usize) -> Self {
        let cut = |image: &Image| {
            let values =
                std::array::from_fn(|index| image.at(x + index % PATCH, y + index / PATCH));
            without_mean(values)
        };
        let gradients = gradients.each_ref().map(cut);
        let product = |one: usize, other: usize| -> f32 {
            let pairs = gradients[one].iter().zip(&gradients[other]);
            pairs.map(|(one, other)| one * other).sum()
        };
        let (xx, xy, yy) = (product(0, 0), product(0, 1), product(1, 1));
        let determinant = xx * yy - xy * xy;
        // Gradients along one line do not tell the motion along it, and gradients of noise none.
        let noise = NOISE * (PATCH * PATCH) as f32;
        let inverse = if determinant > (1e-3 * (xx + yy).powi(2)).max(noise * noise) {
            [yy / determinant, -xy / determinant, xx / determinant]
        } else {
            [0.0; 3]
        };
        Self {
            x,
            y,
            values: cut(picture),
            gradients,
            inverse,
        }
    }

    /// What the second frame shows where the patch would be after this motion, less the patch; both
    /// without their means.
    fn differences(&self, second: &Image, [right, down]: [f32; 2]) -> [f32; PATCH * PATCH] {
        let (x, y) = (self.x as f32 + right, self.y as f32 + down);
        let seen = std::array::from_fn(|index| {
            second.sample(x + (index % PATCH) as f32, y + (index / PATCH) as f32)
        });
        let seen = without_mean(seen);
        std::array::from_fn(|index| seen[index] - self.values[index])
    }

    fn difference(&self, second: &Image, motion: [f32; 2]) -> f32 {
        let differences = self.differences(second, motion);
        differences.iter().map(|value| value * value).sum()
    }

    /// Gradient descent from `start`; `start` itself where that leads nowhere.
    fn search(&self, second: &Image, start: [f32; 2]) -> [f32; 2] {
        let mut motion = start;
        let mut best = (self.difference(second, start), start);
        for _ in 0..ITERATIONS {
            let differences = self.differences(second, motion);
            let [along_x, along_y] = self.gradients.each_ref().map(|gradient| {
                let pairs = gradient.iter().zip(&differences);
                pairs.map(|(one, other)| one * other).sum::<f32>()
            });
            let [xx, xy, yy] = self.inverse;
            let step = [xx * along_x + xy * along_y, xy * along_x + yy * along_y];
            motion = [motion[0] - step[0], motion[1] - step[1]];
            let way = square(motion[0] - start[0], motion[1] - start[1]);
            if way > FARTHEST * FARTHEST {
                break;
            }
            let difference = self.difference(second, motion);
            if difference < best.0 {
                best = (difference, motion);
            }
            if square(step[0], step[1]) < SETTLED * SETTLED {
                break;
            }
        }
        best.1
    }
}

fn without_mean(mut values: [f32; PATCH * PATCH]) -> [f32; PATCH * PATCH] {
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    values.iter_mut().for_each(|value| *value -= mean);
    values
}

/// From patches to pixels.
fn spread(
    first: &Image,
    second: &Image,
    columns: &[usize],
    rows: &[usize],
    motions: &[[f32; 2]],
) -> Flow {
    let (width, height) = (first.width, first.height);
    let mut sums = vec![[0f32; 3]; width * height];
    let places = rows
        .iter()
        .flat_map(|y| columns.iter().map(move |x| (*x, *y)));
    for ((left, top), &[right, down]) in places.zip(motions) {
        for y in top..top + PATCH {
            for x in left..left + PATCH {
                let there = second.sample(x as f32 + right, y as f32 + down);
                let weight = 1.0 / (there - first.at(x, y)).abs().max(1.0);
                let sum = &mut sums[y * width + x];
                sum[0] += weight * right;
                sum[1] += weight * down;
                sum[2] += weight;
            }
        }
    }
    let component = |index: usize| {
        Image::from_fn(width, height, |x, y| {
            let sum = sums[y * width + x];
            sum[index] / sum[2]
        })
    };
    Flow {
        x: component(0),
        y: component(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waves of many lengths and directions, which are known between pixels, too: the longer, the
    /// stronger, as in pictures of the world.
    fn texture(x: f32, y: f32) -> f32 {
        let waves = [
            (0.31, 0.12, 0.0),
            (-0.17, 0.43, 1.0),
            (0.07, -0.09, 2.0),
            (0.73, 0.51, 0.4),
            (-0.66, 0.35, 2.5),
            (0.12, -0.21, 1.3),
            (0.081, 0.137, 0.7),
            (-0.03, 0.051, 1.9),
            (0.023, 0.019, 0.2),
        ];
        let sum: f32 = waves
            .iter()
            .map(|(along, down, phase): &(f32, f32, f32)| {
                (along * x + down * y + phase).sin() / along.hypot(*down).sqrt()
            })
            .sum();
        127.5 + 9.0 * sum
    }

    /// Mean distance in pixels of the flow found from the true one, `margin` pixels from the border.
    fn error(
        (width, height): (usize, usize),
        margin: usize,
        motion: impl Fn(f32, f32) -> [f32; 2],
        back: impl Fn(f32, f32) -> [f32; 2],
    ) -> f32 {
        let first = Image::from_fn(width, height, |x, y| texture(x as f32, y as f32));
        let second = Image::from_fn(width, height, |x, y| {
            let [x, y] = back(x as f32, y as f32);
            texture(x, y)
        });
        let flow = Flow::between(&first, &second);
        let mut sum = 0.0;
        let mut count = 0.0;
        for y in margin..height - margin {
            for x in margin..width - margin {
                let [right, down] = motion(x as f32, y as f32);
                let [found_right, found_down] = flow.at(x, y);
                sum += square(found_right - right, found_down - down).sqrt();
                count += 1.0;
            }
        }
        sum / count
    }

    #[test]
    fn a_shift_is_found_to_a_twentieth_of_a_pixel() {
        for (right, down) in [
            (0.0, 0.0),
            (1.0, 0.0),
            (3.4, -2.2),
            (-0.3, 0.7),
            (-9.5, 6.25),
        ] {
            let found = error(
                (97, 80),
                12,
                |_, _| [right, down],
                |x, y| [x - right, y - down],
            );
            assert!(found < 0.05, "{right} {down}: {found}");
        }
    }

    #[test]
    fn turning_and_growing_are_found() {
        let (angle, growth) = (0.04f32, 1.03f32);
        let middle = 64.0;
        let turned = |x: f32, y: f32, angle: f32, growth: f32| {
            let (x, y) = (x - middle, y - middle);
            let (sin, cos) = angle.sin_cos();
            [
                middle + growth * (cos * x - sin * y),
                middle + growth * (sin * x + cos * y),
            ]
        };
        let found = error(
            (128, 128),
            12,
            |x, y| {
                let [to_x, to_y] = turned(x, y, angle, growth);
                [to_x - x, to_y - y]
            },
            |x, y| turned(x, y, -angle, 1.0 / growth),
        );
        assert!(found < 0.1, "{found}");
    }

    /// A square of another texture that moves over a still background.
    #[test]
    fn what_is_covered_or_leaves_is_not_visible() {
        let frame = |left: usize| {
            Image::from_fn(96, 64, move |x, y| {
                if (left..left + 24).contains(&x) && (20..44).contains(&y) {
                    255.0 - texture((x - left) as f32 * 1.7 + 300.0, y as f32 * 1.3)
                } else {
                    texture(x as f32, y as f32)
                }
            })
        };
        let (first, second) = (frame(30), frame(38));
        let flow = Flow::between(&first, &second);
        let back = Flow::between(&second, &first);
        let visible = flow.visible(&back);
        let share = |xs: std::ops::Range<usize>, ys: std::ops::Range<usize>| {
            let places = ys.flat_map(|y| xs.clone().map(move |x| y * 96 + x));
            let flags: Vec<bool> = places.map(|place| visible[place]).collect();
            flags.iter().filter(|flag| **flag).count() as f32 / flags.len() as f32
        };
        // What the square covers in the second frame.
        assert!(share(54..61, 24..40) < 0.2, "{}", share(54..61, 24..40));
        // The square's middle, and the background far from it.
        assert!(share(36..48, 26..38) > 0.9, "{}", share(36..48, 26..38));
        assert!(share(2..20, 4..60) > 0.95, "{}", share(2..20, 4..60));
        assert!(share(75..94, 4..60) > 0.95, "{}", share(75..94, 4..60));
        let [right, down] = flow.at(42, 32);
        assert!(
            (right - 8.0).abs() < 0.2 && down.abs() < 0.2,
            "{right} {down}"
        );

        // Everything goes eight pixels to the left: what is at the left border leaves.
        let moved = Image::from_fn(96, 64, |x, y| texture((x + 8) as f32, y as f32));
        let still = Image::from_fn(96, 64, |x, y| texture(x as f32, y as f32));
        let flow = Flow::between(&still, &moved);
        let visible = flow.visible(&Flow::between(&moved, &still));
        let column = |x: usize| (0..64).filter(|y| visible[y * 96 + x]).count();
        assert!(
            column(3) < 10 && column(60) > 60,
            "{} {}",
            column(3),
            column(60)
        );
    }

    #[test]
    fn what_has_no_features_does_not_move() {
        let plain = Image::from_fn(40, 40, |_, _| 90.0);
        let flow = Flow::between(&plain, &plain);
        assert!(
            flow.x
                .values
                .iter()
                .chain(&flow.y.values)
                .all(|value| *value == 0.0)
        );
    }
}
