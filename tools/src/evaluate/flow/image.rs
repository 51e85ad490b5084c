//! Grey pictures of floats, and smaller ones of them.

/// A picture, or one component of a field; rows from top to bottom.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f32>,
}

impl Image {
    pub fn from_fn(width: usize, height: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self {
            width,
            height,
            values: places.map(|(x, y)| value(x, y)).collect(),
        }
    }

    pub fn at(&self, x: usize, y: usize) -> f32 {
        self.values[y * self.width + x]
    }

    /// Between pixels, bilinearly; beyond the border, the border.
    pub fn sample(&self, x: f32, y: f32) -> f32 {
        let x = x.clamp(0.0, (self.width - 1) as f32);
        let y = y.clamp(0.0, (self.height - 1) as f32);
        let (left, top) = (x as usize, y as usize);
        let (right, below) = (
            (left + 1).min(self.width - 1),
            (top + 1).min(self.height - 1),
        );
        let (across, down) = (x - left as f32, y - top as f32);
        let upper = self.at(left, top) * (1.0 - across) + self.at(right, top) * across;
        let lower = self.at(left, below) * (1.0 - across) + self.at(right, below) * across;
        upper * (1.0 - down) + lower * down
    }

    /// Half as wide and high, each pixel the mean of four.
    pub fn halved(&self) -> Self {
        Self::from_fn(self.width / 2, self.height / 2, |x, y| {
            let (x, y) = (2 * x, 2 * y);
            (self.at(x, y) + self.at(x + 1, y) + self.at(x, y + 1) + self.at(x + 1, y + 1)) / 4.0
        })
    }

    /// Horizontal and vertical change for each pixel, by central differences.
    pub fn gradients(&self) -> [Self; 2] {
        let (right, bottom) = (self.width - 1, self.height - 1);
        let horizontal = Self::from_fn(self.width, self.height, |x, y| {
            (self.at((x + 1).min(right), y) - self.at(x.saturating_sub(1), y)) / 2.0
        });
        let vertical = Self::from_fn(self.width, self.height, |x, y| {
            (self.at(x, (y + 1).min(bottom)) - self.at(x, y.saturating_sub(1))) / 2.0
        });
        [horizontal, vertical]
    }
}
