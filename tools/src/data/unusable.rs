//! Why a picture is not trained on.

use std::fmt;
use std::path::PathBuf;

use image::RgbImage;
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
    /// No picture has its name in the folder of the other domain.
    NoPartner {
        /// That folder.
        folder: PathBuf,
    },
    /// Its partner is not of its shape, so that the two do not show the same.
    OtherShape {
        /// The partner.
        partner: PathBuf,
    },
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
            Self::NoPartner { folder } => write!(
                f,
                "it has no partner: there is no other picture of this name in {}",
                folder.display()
            ),
            Self::OtherShape { partner } => write!(
                f,
                "its partner has another ratio of width to height: {}",
                partner.display()
            ),
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
    if is_one_colour(picture.pixels().map(|pixel| pixel.0.as_slice())) {
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

/// Whether all `pixels`, of as many channels each, have the same colour, but for the noise of
/// compression.
pub(super) fn is_one_colour<'p>(mut pixels: impl Iterator<Item = &'p [u8]>) -> bool {
    let Some(first) = pixels.next() else {
        return true;
    };
    let mut extremes: Vec<[u8; 2]> = first.iter().map(|&sample| [sample; 2]).collect();
    // Almost every picture betrays itself within a few pixels.
    !pixels.any(|pixel| {
        extremes.iter_mut().zip(pixel).any(|(extremes, &sample)| {
            let [low, high] = *extremes;
            *extremes = [low.min(sample), high.max(sample)];
            extremes[1] - extremes[0] > BLANK_TOLERANCE
        })
    })
}

#[cfg(test)]
mod tests {
    use image::Rgb;

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
