//! Sizes of frames.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest side of a frame, in pixels.
const LONGEST_SIDE: usize = 16_384;

/// A frame's size in pixels; its text form is `WIDTHxHEIGHT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct FrameSize {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl FrameSize {
    /// Pixels of the whole frame.
    pub fn pixels(self) -> usize {
        self.width * self.height
    }
}

impl fmt::Display for FrameSize {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}x{}", self.width, self.height)
    }
}

impl FromStr for FrameSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |digits: &str| -> Option<usize> {
            let side = digits.parse().ok()?;
            (1..=LONGEST_SIDE).contains(&side).then_some(side)
        };
        text.split_once('x')
            .and_then(|(width, height)| {
                Some(Self {
                    width: side(width)?,
                    height: side(height)?,
                })
            })
            .ok_or_else(|| {
                format!("a size is WIDTHxHEIGHT with sides of 1 to {LONGEST_SIDE} pixels, for example 512x288")
            })
    }
}

impl From<FrameSize> for String {
    fn from(size: FrameSize) -> Self {
        size.to_string()
    }
}

impl TryFrom<String> for FrameSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        let size: FrameSize = "512x288".parse().unwrap();
        assert_eq!(
            (size.width, size.height, size.pixels()),
            (512, 288, 147_456)
        );
        assert_eq!(size.to_string(), "512x288");
        for text in [
            "", "512", "x", "512x", "0x16", "-1x16", "16x99999", "16X16", "1e2x16",
        ] {
            assert!(text.parse::<FrameSize>().is_err(), "{text}");
        }
    }
}
