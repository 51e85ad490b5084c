//! Why a picture is not trained on.

use std::fmt;

use image::{Rgb, RgbImage};
use munit::picture_file::{PictureError, PictureHeader};

/// Pictures more than this many times as long as they are wide are not trained on: a crop would
/// show next to nothing of such a strip.
const MAXIMUM_ASPECT: u32 = 16;

/// Samples of a picture of one colour may differ by this much, for the noise of compression.
const BLANK_TOLERANCE: u8 = 2;

/// Why a picture was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The file is no picture that can be read.
    File(PictureError),
    /// More than 16 times as long as wide.
    Strip {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// All of one colour.
    Blank,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Strip { width, height } => write!(
                f,
                "{width}×{height} is a strip; the longer side of a training picture may be {MAXIMUM_ASPECT} times the shorter"
            ),
            Self::Blank => write!(f, "it is blank: all of one colour"),
        }
    }
}

impl From<PictureError> for Unusable {
    fn from(error: PictureError) -> Self {
        Self::File(error)
    }
}

/// Whether something can be learnt from a picture, as far as its header tells.
///
/// # Errors
/// [`Unusable::Strip`].
pub(super) fn check_header(header: &PictureHeader) -> Result<(), Unusable> {
    check_shape(header.width, header.height)
}

/// Whether something can be learnt from a picture.
///
/// # Errors
/// [`Unusable::Strip`] and [`Unusable::Blank`].
pub(crate) fn check(picture: &RgbImage) -> Result<(), Unusable> {
    check_shape(picture.width(), picture.height())?;
    if is_blank(picture) {
        return Err(Unusable::Blank);
    }
    Ok(())
}

fn check_shape(width: u32, height: u32) -> Result<(), Unusable> {
    if width.max(height) > MAXIMUM_ASPECT * width.min(height) {
        return Err(Unusable::Strip { width, height });
    }
    Ok(())
}

/// Whether all pixels have the same colour, but for the noise of compression.
fn is_blank(picture: &RgbImage) -> bool {
    let mut pixels = picture.pixels();
    let Some(&Rgb(first)) = pixels.next() else {
        return true;
    };
    let (mut low, mut high) = (first, first);
    // Almost every picture betrays itself within a few pixels.
    !pixels.any(|Rgb(pixel)| {
        (0..3).any(|channel| {
            low[channel] = low[channel].min(pixel[channel]);
            high[channel] = high[channel].max(pixel[channel]);
            high[channel] - low[channel] > BLANK_TOLERANCE
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::test_pictures::picture;

    #[test]
    fn strips_are_refused() {
        for (width, height, strip) in [(256, 16, false), (257, 16, true), (16, 400, true)] {
            let expected = match strip {
                true => Err(Unusable::Strip { width, height }),
                false => Ok(()),
            };
            assert_eq!(check(&picture(width, height, 1)), expected);
        }
    }

    #[test]
    fn blank_means_one_colour() {
        let mut blank = RgbImage::from_pixel(20, 20, Rgb([200, 201, 202]));
        assert_eq!(check(&blank), Err(Unusable::Blank));
        blank.put_pixel(19, 19, Rgb([202, 200, 203]));
        assert_eq!(check(&blank), Err(Unusable::Blank));
        blank.put_pixel(18, 19, Rgb([200, 201, 220]));
        assert_eq!(check(&blank), Ok(()));
    }
}
