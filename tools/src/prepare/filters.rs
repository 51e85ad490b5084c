//! Picture filters on one plane of floats: what the drawings are made from.

use image::RgbImage;

/// One channel of a picture, rows from the top, nominal range 0 (black) to 1 (white).
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Plane {
    /// A plane of `width`×`height` with one value everywhere.
    pub fn filled(width: usize, height: usize, value: f32) -> Self {
        Self {
            width,
            height,
            values: vec![value; width * height],
        }
    }

    /// A plane whose value at column `x` and row `y` is `value(x, y)`.
    pub fn from_fn(
        width: usize,
        height: usize,
        mut value: impl FnMut(usize, usize) -> f32,
    ) -> Self {
        let mut values = Vec::with_capacity(width * height);
        for y in 0..height {
            values.extend((0..width).map(|x| value(x, y)));
        }
        Self {
            width,
            height,
            values,
        }
    }

    /// The luma of a picture (BT.709 weights on the gamma-coded values).
    pub fn luma(picture: &RgbImage) -> Self {
        Self::of_pixels(picture, |[r, g, b]| 0.2126 * r + 0.7152 * g + 0.0722 * b)
    }

    /// The two colour differences of a picture, blue − luma and red − luma, each −1 to 1.
    pub fn chroma(picture: &RgbImage) -> [Self; 2] {
        let luma = |[r, g, b]: [f32; 3]| 0.2126 * r + 0.7152 * g + 0.0722 * b;
        [
            Self::of_pixels(picture, |rgb| rgb[2] - luma(rgb)),
            Self::of_pixels(picture, |rgb| rgb[0] - luma(rgb)),
        ]
    }

    fn of_pixels(picture: &RgbImage, value: impl Fn([f32; 3]) -> f32) -> Self {
        Self {
            width: picture.width() as usize,
            height: picture.height() as usize,
            values: picture
                .pixels()
                .map(|pixel| value(pixel.0.map(|channel| f32::from(channel) / 255.0)))
                .collect(),
        }
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All values, rows from the top.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The value at column `x` and row `y`, which must lie inside.
    pub fn at(&self, x: usize, y: usize) -> f32 {
        self.values[y * self.width + x]
    }

    /// Writes the value at column `x` and row `y`, which must lie inside.
    pub fn set(&mut self, x: usize, y: usize, value: f32) {
        self.values[y * self.width + x] = value;
    }

    /// The value at a position that may lie outside: the nearest value of the border.
    fn clamped(&self, x: isize, y: isize) -> f32 {
        self.at(
            x.clamp(0, self.width as isize - 1) as usize,
            y.clamp(0, self.height as isize - 1) as usize,
        )
    }

    /// The plane with `margin` more pixels on each side that repeat its border.
    fn padded(&self, margin: usize) -> Self {
        let offset = margin as isize;
        Self::from_fn(self.width + 2 * margin, self.height + 2 * margin, |x, y| {
            self.clamped(x as isize - offset, y as isize - offset)
        })
    }

    /// The plane with `value` applied to each of its values.
    pub fn map(&self, value: impl Fn(f32) -> f32) -> Self {
        Self {
            values: self.values.iter().map(|&v| value(v)).collect(),
            ..*self
        }
    }

    /// Convolution with a Gaussian of standard deviation `sigma` in pixels.
    pub fn gaussian(&self, sigma: f32) -> Self {
        if sigma <= 0.0 || self.values.is_empty() {
            return self.clone();
        }
        let radius = (3.0 * sigma).ceil() as isize;
        let mut kernel: Vec<f32> = (-radius..=radius)
            .map(|i| (-(i * i) as f32 / (2.0 * sigma * sigma)).exp())
            .collect();
        let sum: f32 = kernel.iter().sum();
        kernel.iter_mut().for_each(|weight| *weight /= sum);

        let mut padded = vec![0.0; self.width + 2 * radius as usize];
        let mut across = Self::filled(self.width, self.height, 0.0);
        for (row, out) in self
            .values
            .chunks_exact(self.width)
            .zip(across.values.chunks_exact_mut(self.width))
        {
            for (i, value) in padded.iter_mut().enumerate() {
                let x = (i as isize - radius).clamp(0, self.width as isize - 1);
                *value = row[x as usize];
            }
            for (x, value) in out.iter_mut().enumerate() {
                *value = padded[x..].iter().zip(&kernel).map(|(v, k)| v * k).sum();
            }
        }

        let mut both = Self::filled(self.width, self.height, 0.0);
        for (y, out) in both.values.chunks_exact_mut(self.width).enumerate() {
            for (i, weight) in kernel.iter().enumerate() {
                let from = (y as isize + i as isize - radius).clamp(0, self.height as isize - 1);
                let row = &across.values[from as usize * self.width..][..self.width];
                for (value, v) in out.iter_mut().zip(row) {
                    *value += weight * v;
                }
            }
        }
        both
    }

    /// The bilateral filter of Tomasi and Manduchi (1998): a Gaussian mean over neighbours within
    /// `sigma_space` pixels whose values differ by about `sigma_range` at most, so that areas
    /// become smooth and edges stay.
    ///
    /// The window is sampled with at most 17×17 taps, which bounds the time per pixel.
    pub fn bilateral(&self, sigma_space: f32, sigma_range: f32) -> Self {
        if sigma_space <= 0.0 || sigma_range <= 0.0 || self.values.is_empty() {
            return self.clone();
        }
        let radius = (2.0 * sigma_space).ceil() as isize;
        let step = (radius as f32 / 8.0).ceil().max(1.0) as isize;
        let count = radius / step;
        // A margin of border values lets the inner loop address its taps by one fixed offset each.
        let margin = (count * step) as usize;
        let padded = self.padded(margin);
        let mut taps = Vec::new();
        for row in -count..=count {
            for column in -count..=count {
                let (dx, dy) = (column * step, row * step);
                let distance = (dx * dx + dy * dy) as f32 / (2.0 * sigma_space * sigma_space);
                taps.push((dy * padded.width as isize + dx, (-distance).exp()));
            }
        }
        // Differences beyond three deviations weigh nothing; within, a table replaces `exp`.
        const STEPS: usize = 256;
        let per_difference = STEPS as f32 / (3.0 * sigma_range);
        let mut range = [0.0f32; STEPS + 1];
        for (i, weight) in range.iter_mut().enumerate().take(STEPS) {
            let difference = i as f32 / per_difference / sigma_range;
            *weight = (-difference * difference / 2.0).exp();
        }
        Self::from_fn(self.width, self.height, |x, y| {
            let here = (y + margin) * padded.width + x + margin;
            let centre = padded.values[here];
            let (mut sum, mut weights) = (0.0, 0.0);
            for &(offset, near) in &taps {
                let value = padded.values[here.wrapping_add_signed(offset)];
                let difference = ((value - centre).abs() * per_difference) as usize;
                let weight = near * range[difference.min(STEPS)];
                sum += weight * value;
                weights += weight;
            }
            sum / weights
        })
    }

    /// Horizontal and vertical derivative per pixel (Sobel's masks).
    pub fn gradient(&self) -> [Self; 2] {
        let derivative = |across: (isize, isize), along: (isize, isize)| {
            Self::from_fn(self.width, self.height, |x, y| {
                let (x, y) = (x as isize, y as isize);
                let difference = |side: isize| {
                    let (x, y) = (x + side * along.0, y + side * along.1);
                    self.clamped(x + across.0, y + across.1)
                        - self.clamped(x - across.0, y - across.1)
                };
                (difference(-1) + 2.0 * difference(0) + difference(1)) / 8.0
            })
        };
        [derivative((1, 0), (0, 1)), derivative((0, 1), (1, 0))]
    }

    /// The plane with every connected area (of eight neighbours) of values above `threshold` set to
    /// 0 that has fewer than `least` pixels.
    pub fn without_specks(mut self, threshold: f32, least: usize) -> Self {
        let mut seen = vec![false; self.values.len()];
        let mut area = Vec::new();
        for start in 0..self.values.len() {
            if seen[start] || self.values[start] <= threshold {
                continue;
            }
            seen[start] = true;
            area.clear();
            area.push(start);
            let mut next = 0;
            while let Some(&at) = area.get(next) {
                next += 1;
                let (x, y) = (at % self.width, at / self.width);
                for row in y.saturating_sub(1)..(y + 2).min(self.height) {
                    for column in x.saturating_sub(1)..(x + 2).min(self.width) {
                        let neighbour = row * self.width + column;
                        if !seen[neighbour] && self.values[neighbour] > threshold {
                            seen[neighbour] = true;
                            area.push(neighbour);
                        }
                    }
                }
            }
            if area.len() < least {
                area.iter().for_each(|&at| self.values[at] = 0.0);
            }
        }
        self
    }

    /// The value below which the given share (0 to 1) of all values lies; 0 for an empty plane.
    pub fn percentile(&self, share: f32) -> f32 {
        let mut values = self.values.clone();
        if values.is_empty() {
            return 0.0;
        }
        let rank = (share.clamp(0.0, 1.0) * (values.len() - 1) as f32).round() as usize;
        *values.select_nth_unstable_by(rank, f32::total_cmp).1
    }

    /// Mean and standard deviation of all values; 0 for an empty plane.
    pub fn moments(&self) -> (f32, f32) {
        let count = self.values.len().max(1) as f64;
        let sum = |of: &dyn Fn(f64) -> f64| -> f64 {
            self.values.iter().map(|&value| of(f64::from(value))).sum()
        };
        let mean = sum(&|value| value) / count;
        let variance = sum(&|value| (value - mean).powi(2)) / count;
        (mean as f32, variance.sqrt() as f32)
    }
}

/// 0 below `from`, 1 above `to`, a smooth cubic between.
pub fn smoothstep(from: f32, to: f32, value: f32) -> f32 {
    let t = ((value - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gaussian_keeps_the_mean_and_spreads_as_its_deviation_says() {
        let mut point = Plane::filled(41, 41, 0.0);
        point.set(20, 20, 1.0);
        let blurred = point.gaussian(3.0);
        let sum: f32 = blurred.values().iter().sum();
        assert!((sum - 1.0).abs() < 1e-3, "{sum}");
        let ratio = blurred.at(23, 20) / blurred.at(20, 20);
        assert!((ratio - (-0.5f32).exp()).abs() < 1e-3, "{ratio}");
    }

    #[test]
    fn the_bilateral_filter_smooths_areas_and_keeps_edges() {
        let noisy_step = Plane::from_fn(40, 40, |x, y| {
            let noise = if (x + y) % 2 == 0 { 0.03 } else { -0.03 };
            if x < 20 { 0.2 + noise } else { 0.8 + noise }
        });
        let smooth = noisy_step.bilateral(2.0, 0.1);
        for x in 0..40 {
            let expected = if x < 20 { 0.2 } else { 0.8 };
            assert!((smooth.at(x, 20) - expected).abs() < 0.01, "column {x}");
        }
    }

    #[test]
    fn the_gradient_of_a_ramp_is_its_slope() {
        let ramp = Plane::from_fn(9, 9, |x, y| 0.03 * x as f32 - 0.02 * y as f32);
        let [dx, dy] = ramp.gradient();
        assert!((dx.at(4, 4) - 0.03).abs() < 1e-5);
        assert!((dy.at(4, 4) + 0.02).abs() < 1e-5);
    }

    #[test]
    fn percentiles_are_ranks() {
        let plane = Plane::from_fn(101, 1, |x, _| ((x * 37) % 101) as f32);
        assert_eq!(plane.percentile(0.02), 2.0);
        assert_eq!(plane.percentile(0.98), 98.0);
    }

    #[test]
    fn moments_are_those_of_all_values() {
        let plane = Plane::from_fn(4, 2, |x, y| {
            [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0][4 * y + x]
        });
        assert_eq!(plane.moments(), (5.0, 2.0));
        assert_eq!(Plane::filled(0, 0, 1.0).moments(), (0.0, 0.0));
    }

    #[test]
    fn specks_go_and_lines_stay() {
        let mut plane = Plane::filled(20, 20, 0.0);
        plane.set(15, 15, 1.0);
        (2..10).for_each(|i| plane.set(i, i, 1.0));
        let cleaned = plane.without_specks(0.5, 5);
        assert_eq!(cleaned.at(15, 15), 0.0);
        assert_eq!(cleaned.values().iter().sum::<f32>(), 8.0);
    }
}
