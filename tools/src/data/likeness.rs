//! Whether two pictures are nearly the same: a copy of another size, recompressed, mirrored, or the
//! next frame of a still camera.

use std::f32::consts::PI;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use serde::{Deserialize, Serialize};

/// Side of the square that a picture is reduced to, in pixels, whatever its shape.
const SIDE: usize = 32;
/// Horizontal and vertical frequencies that are compared.
const FREQUENCIES: usize = 8;
const COEFFICIENTS: usize = FREQUENCIES * FREQUENCIES;
/// Length of a vector of coefficients, but for their rounding.
const UNIT: f32 = 127.0;
/// Root mean square of the coefficients' waves, in steps of 8 bits, below which a picture has no
/// likeness: what is left is noise.
const FAINTEST: f32 = 1.5;

/// From this cosine between coefficients on, pictures are nearly the same. Copies that were
/// recompressed, enlarged or reduced lie above 0.998; different garments on the same cloth reach
/// 0.991.
const NEAR: f32 = 0.995;
/// By how many steps of 8 bits the mean colours of nearly the same pictures may differ.
const COLOUR_TOLERANCE: u8 = 12;
/// Share of a picture's pixels, its most colourful ones, that decide whether it has colours: a thing
/// may be small on a white ground.
const COLOURFUL_SHARE: f32 = 0.02;
/// A picture is grey if the largest and the smallest of red, green and blue differ by less than this
/// in all but its most colourful pixels.
const GREY_TOLERANCE: u8 = 12;

/// A picture as seen from far away: its mean colour, and the directions in which its brightness
/// changes slowly, as the low coefficients of a discrete cosine transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Likeness {
    colour: [u8; 3],
    /// Those of even horizontal frequency first, then the odd, which a mirror turns round.
    coefficients: [i8; COEFFICIENTS],
    /// Sum of the coefficients' squares; 0 for a picture without features.
    square: i32,
}

/// What decoding a picture once tells about it, beside its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureFacts {
    /// Whether it has next to no colours, although it may be stored with them.
    pub grey: bool,
    /// For finding it again.
    pub likeness: Likeness,
}

impl PictureFacts {
    /// Looks at a picture.
    pub fn of(picture: &RgbImage) -> Self {
        let reduced = reduce(picture);
        let pixels = reduced.as_chunks::<3>().0;
        let is_colourful = |[r, g, b]: &&[u8; 3]| {
            let (most, least) = (r.max(g).max(b), r.min(g).min(b));
            most - least >= GREY_TOLERANCE
        };
        let colourful = pixels.iter().filter(is_colourful).count();
        Self {
            grey: (colourful as f32) < COLOURFUL_SHARE * pixels.len() as f32,
            likeness: Likeness::of_reduced(pixels),
        }
    }
}

impl Likeness {
    /// Whether two pictures are nearly the same, or mirror images.
    pub fn is_near(&self, other: &Self) -> bool {
        let same_colour = self
            .colour
            .iter()
            .zip(&other.colour)
            .all(|(one, other)| one.abs_diff(*other) <= COLOUR_TOLERANCE);
        same_colour && self.cosine(other) >= NEAR
    }

    /// Sum of the mean colour's red, green and blue. Pictures whose sums differ by more than
    /// [`Self::BRIGHTNESS_TOLERANCE`] are not near, so that few need to be compared.
    pub(super) fn brightness(&self) -> u16 {
        self.colour.iter().map(|&value| u16::from(value)).sum()
    }

    pub(super) const BRIGHTNESS_TOLERANCE: u16 = 3 * COLOUR_TOLERANCE as u16;

    /// Cosine of the angle between the pictures, or between one and the other's mirror image,
    /// whichever is larger.
    fn cosine(&self, other: &Self) -> f32 {
        let product = |range: std::ops::Range<usize>| -> i32 {
            let pairs = self.coefficients[range.clone()]
                .iter()
                .zip(&other.coefficients[range]);
            pairs
                .map(|(&one, &other)| i32::from(one) * i32::from(other))
                .sum()
        };
        let even = product(0..COEFFICIENTS / 2);
        let odd = product(COEFFICIENTS / 2..COEFFICIENTS);
        // A picture without features is like nothing.
        let lengths = (self.square as f32 * other.square as f32).sqrt().max(1.0);
        (even + odd.abs()) as f32 / lengths
    }

    fn new(colour: [u8; 3], coefficients: [i8; COEFFICIENTS]) -> Self {
        let squares = coefficients.iter().map(|&value| i32::from(value).pow(2));
        Self {
            colour,
            square: squares.sum(),
            coefficients,
        }
    }

    fn of_reduced(pixels: &[[u8; 3]]) -> Self {
        let count = pixels.len() as u32;
        let colour = [0, 1, 2].map(|channel| {
            let sum: u32 = pixels.iter().map(|pixel| u32::from(pixel[channel])).sum();
            ((sum + count / 2) / count) as u8
        });
        let grey: Vec<f32> = pixels
            .iter()
            .map(|pixel| {
                let [r, g, b] = pixel.map(f32::from);
                0.299 * r + 0.587 * g + 0.114 * b
            })
            .collect();
        let mut values = transform(&grey);
        let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        let scale = if norm < FAINTEST { 0.0 } else { UNIT / norm };
        values.iter_mut().for_each(|value| *value *= scale);
        Self::new(colour, values.map(|value| value.round() as i8))
    }
}

/// Low coefficients of the orthonormal discrete cosine transform over the side of the square, so
/// that the sum of their squares is a mean square; the first, which is the mean, is zero. Even
/// horizontal frequencies come first.
fn transform(grey: &[f32]) -> [f32; COEFFICIENTS] {
    let wave: [[f32; SIDE]; FREQUENCIES] = std::array::from_fn(|frequency| {
        let scale = if frequency == 0 { 1.0 } else { 2f32.sqrt() } / SIDE as f32;
        std::array::from_fn(|position| {
            let phase = (position as f32 + 0.5) * frequency as f32 * PI / SIDE as f32;
            scale * phase.cos()
        })
    });
    let rows: Vec<[f32; FREQUENCIES]> = grey
        .chunks_exact(SIDE)
        .map(|row| {
            wave.each_ref()
                .map(|wave| row.iter().zip(wave).map(|(value, wave)| value * wave).sum())
        })
        .collect();
    std::array::from_fn(|index| {
        let (half, within) = (index / (COEFFICIENTS / 2), index % (COEFFICIENTS / 2));
        let vertical = within / (FREQUENCIES / 2);
        let horizontal = 2 * (within % (FREQUENCIES / 2)) + half;
        if (vertical, horizontal) == (0, 0) {
            return 0.0;
        }
        rows.iter()
            .zip(&wave[vertical])
            .map(|(row, wave)| row[horizontal] * wave)
            .sum()
    })
}

/// The picture as a square of [`SIDE`] pixels, each the mean of what it covers.
fn reduce(picture: &RgbImage) -> Vec<u8> {
    let mut reduced = Image::new(SIDE as u32, SIDE as u32, PixelType::U8x3);
    let source = ImageRef::new(
        picture.width(),
        picture.height(),
        picture.as_raw(),
        PixelType::U8x3,
    );
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Box));
    // It fails for pictures without pixels alone, which are not decoded.
    if let Ok(source) = source {
        let _ = Resizer::new().resize(&source, &mut reduced, &options);
    }
    reduced.into_vec()
}

impl From<Likeness> for String {
    fn from(likeness: Likeness) -> Self {
        let coefficients = likeness.coefficients.map(|value| value as u8);
        let bytes = likeness.colour.iter().chain(&coefficients);
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for Likeness {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes: Option<Vec<u8>> = text
            .as_bytes()
            .chunks(2)
            .map(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok())
            .collect();
        let split = bytes.as_deref().and_then(|bytes| bytes.split_first_chunk());
        let coefficients = split.and_then(|(_, rest)| <[u8; COEFFICIENTS]>::try_from(rest).ok());
        match (split, coefficients) {
            (Some((&colour, _)), Some(coefficients)) => {
                Ok(Self::new(colour, coefficients.map(|byte| byte as i8)))
            }
            _ => Err(format!("\"{text}\" is no likeness of a picture")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::codecs::jpeg::JpegEncoder;
    use image::imageops::{self, FilterType as ImageFilter};
    use image::{ImageFormat, Rgb};

    use super::*;

    /// Blobs of several sizes, whose places follow from `number`.
    fn scene(number: u32) -> RgbImage {
        let place = |blob: u32, axis: u32| {
            let key = number * 100 + blob * 10 + axis;
            (key.wrapping_mul(2_654_435_769) >> 16) as f32 % 160.0
        };
        RgbImage::from_fn(160, 120, |x, y| {
            let mut value = 90.0;
            for blob in 0..6 {
                let (dx, dy) = (x as f32 - place(blob, 0), y as f32 - place(blob, 1));
                let size = 10.0 + 6.0 * blob as f32;
                let sign = if blob % 2 == 0 { 90.0 } else { -80.0 };
                value += sign * (-(dx * dx + dy * dy) / (size * size)).exp();
            }
            Rgb([value, 0.8 * value, 120.0].map(|value: f32| value.clamp(0.0, 255.0) as u8))
        })
    }

    fn likeness(picture: &RgbImage) -> Likeness {
        PictureFacts::of(picture).likeness
    }

    #[test]
    fn copies_are_near_and_other_pictures_are_not() {
        let original = scene(1);
        let mut jpeg = Cursor::new(Vec::new());
        JpegEncoder::new_with_quality(&mut jpeg, 40)
            .encode_image(&original)
            .unwrap();
        let recompressed = image::load_from_memory_with_format(jpeg.get_ref(), ImageFormat::Jpeg);
        let copies = [
            recompressed.unwrap().into_rgb8(),
            imageops::resize(&original, 70, 50, ImageFilter::Triangle),
            imageops::resize(&original, 320, 240, ImageFilter::CatmullRom),
            imageops::flip_horizontal(&original),
            imageops::crop_imm(&original, 1, 1, 158, 118).to_image(),
        ];
        for (number, copy) in copies.iter().enumerate() {
            assert!(likeness(&original).is_near(&likeness(copy)), "{number}");
        }
        for number in 2..40 {
            let other = likeness(&scene(number));
            assert!(!likeness(&original).is_near(&other), "{number}");
        }
        let mut recoloured = original.clone();
        recoloured.pixels_mut().for_each(|pixel| pixel.0.reverse());
        assert!(!likeness(&original).is_near(&likeness(&recoloured)));
        assert!(!likeness(&original).is_near(&likeness(&imageops::rotate180(&original))));
    }

    #[test]
    fn what_has_no_features_is_like_nothing() {
        let plain = RgbImage::from_fn(64, 64, |x, y| Rgb([100 + (x + y) as u8 % 2; 3]));
        assert!(!likeness(&plain).is_near(&likeness(&plain)));
    }

    #[test]
    fn grey_is_told_from_coloured() {
        let tinted = |by: u8| {
            let tinted = RgbImage::from_fn(64, 64, |x, _| {
                let value = 2 * x as u8;
                Rgb([value + by, value, value])
            });
            PictureFacts::of(&tinted).grey
        };
        assert!(tinted(0) && tinted(4));
        assert!(!tinted(20));
        assert!(!PictureFacts::of(&scene(1)).grey);
    }

    #[test]
    fn a_small_coloured_thing_on_white_is_no_grey_picture() {
        let thing = |colour: [u8; 3]| {
            RgbImage::from_fn(200, 200, |x, y| {
                let is_thing = (80..120).contains(&x) && (80..120).contains(&y);
                Rgb(if is_thing { colour } else { [255; 3] })
            })
        };
        // 4 % of the pixels: the mean over all of them differs by less than 3.
        assert!(!PictureFacts::of(&thing([150, 120, 100])).grey);
        assert!(PictureFacts::of(&thing([120, 121, 118])).grey);
        // As a scanner leaves it: a speck of dust in colour.
        let mut speck = thing([120; 3]);
        for y in 90..96 {
            speck.put_pixel(90, y, Rgb([200, 20, 20]));
        }
        assert!(PictureFacts::of(&speck).grey);
    }

    #[test]
    fn a_likeness_survives_as_text() {
        let original = likeness(&scene(3));
        let text = String::from(original);
        assert_eq!(Likeness::try_from(text.clone()), Ok(original));
        for wrong in [
            "",
            "00",
            &text[2..],
            &format!("{text}00"),
            &text.replace('0', "g"),
        ] {
            assert!(Likeness::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
