//! How maps and pictures go on beyond their edges.

use tch::Tensor;

use crate::Result;
use crate::config::Padding;

/// What surrounds a map, so that the convolution after it needs no padding of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Border {
    /// Pixels on each side.
    pub(super) width: usize,
    /// What they show.
    pub(super) padding: Padding,
}

impl Border {
    /// No border.
    pub(super) const NONE: Self = Self {
        width: 0,
        padding: Padding::Zero,
    };

    /// Surrounds `[1, C, H, W]` with this border.
    pub(super) fn surround(self, map: &Tensor) -> Result<Tensor> {
        let sides = [self.width as i64; 4];
        Ok(match self.padding {
            _ if self.width == 0 => map.shallow_clone(),
            Padding::Reflect => map.f_reflection_pad2d(sides)?,
            Padding::Replicate => map.f_replication_pad2d(sides)?,
            Padding::Zero => map.f_constant_pad_nd(sides)?,
        })
    }
}

/// Which of `length` pixels the pixel at `index`, possibly beyond either end, shows; `None` is
/// zero. A reflection reaches at most one `length` beyond.
pub(super) fn continued(index: isize, length: usize, padding: Padding) -> Option<usize> {
    let last = length as isize - 1;
    if (0..=last).contains(&index) {
        return Some(index as usize);
    }
    match padding {
        Padding::Zero => None,
        Padding::Replicate => Some(index.clamp(0, last) as usize),
        Padding::Reflect => {
            let reflected = if index < 0 { -index } else { 2 * last - index };
            Some(reflected.clamp(0, last) as usize)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_continued() {
        let continue_all = |padding| (-2..6).map(|index| continued(index, 4, padding)).collect();
        let all: Vec<_> = continue_all(Padding::Reflect);
        assert_eq!(all, [2, 1, 0, 1, 2, 3, 2, 1].map(Some));
        let all: Vec<_> = continue_all(Padding::Replicate);
        assert_eq!(all, [0, 0, 0, 1, 2, 3, 3, 3].map(Some));
        let all: Vec<_> = continue_all(Padding::Zero);
        assert_eq!(
            all,
            [None, None, Some(0), Some(1), Some(2), Some(3), None, None]
        );
    }
}
