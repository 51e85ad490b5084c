//! From a decoded picture to the crop that a network sees.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use rand::{Rng, RngExt};

use super::picture::PictureError;

/// How the pictures of one domain are resized and cropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Length of the shorter side after resizing, in pixels.
    pub new_size: usize,
    /// Height of the crop, in pixels.
    pub crop_height: usize,
    /// Width of the crop, in pixels.
    pub crop_width: usize,
    /// 3 for RGB; 1 for grey, by the luma of ITU-R BT.601.
    pub channels: i64,
}

impl Framing {
    /// The largest side that pictures are resized or cropped to, in pixels.
    pub const MAXIMUM_SIDE: usize = 4096;

    pub(super) fn check(&self) -> Result<(), String> {
        let sides = [
            ("new_size", self.new_size),
            ("crop_image_height", self.crop_height),
            ("crop_image_width", self.crop_width),
        ];
        for (name, side) in sides {
            if !(1..=Self::MAXIMUM_SIDE).contains(&side) {
                return Err(format!(
                    "{name} is {side}; it must lie between 1 and {}",
                    Self::MAXIMUM_SIDE
                ));
            }
        }
        match self.channels {
            1 | 3 => Ok(()),
            other => Err(format!("{other} channels asked for; it must be 1 or 3")),
        }
    }

    /// Number of values in one crop.
    pub(super) fn crop_len(&self) -> usize {
        self.channels as usize * self.crop_height * self.crop_width
    }

    /// Resizes a picture so that its shorter side has `new_size` pixels, or more where the crop
    /// would not fit, with the antialiased bilinear filter of the published loader.
    pub(super) fn resize(&self, picture: &RgbImage) -> Result<Resized, PictureError> {
        let (width, height) = self.resized_size(picture.width(), picture.height());
        let grey;
        let (samples, pixel_type) = if self.channels == 1 {
            grey = luma(picture.as_raw());
            (grey.as_slice(), PixelType::U8)
        } else {
            (picture.as_raw().as_slice(), PixelType::U8x3)
        };
        let source = ImageRef::new(picture.width(), picture.height(), samples, pixel_type)
            .map_err(|error| PictureError::Broken(error.to_string()))?;
        let mut resized = Image::new(width, height, pixel_type);
        let filter = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        Resizer::new()
            .resize(&source, &mut resized, &filter)
            .map_err(|error| PictureError::Broken(error.to_string()))?;
        Ok(Resized {
            width: width as usize,
            height: height as usize,
            samples: resized.into_vec(),
        })
    }

    /// Width and height after resizing; the longer side is rounded down, as in the published
    /// loader.
    fn resized_size(&self, width: u32, height: u32) -> (u32, u32) {
        let (width, height) = (u64::from(width), u64::from(height));
        let [new_size, crop_height, crop_width] =
            [self.new_size, self.crop_height, self.crop_width].map(|side| side as u64);
        let (mut to, mut from) = (new_size, width.min(height));
        for (crop, side) in [(crop_height, height), (crop_width, width)] {
            if side * to < crop * from {
                (to, from) = (crop, side);
            }
        }
        ((width * to / from) as u32, (height * to / from) as u32)
    }

    /// Draws a flip and the place of a crop.
    pub(super) fn draw_crop(&self, picture: &Resized, flip: bool, random: &mut impl Rng) -> Crop {
        Crop {
            flipped: random.random_bool(0.5) && flip,
            top: random.random_range(0..=picture.height - self.crop_height),
            left: random.random_range(0..=picture.width - self.crop_width),
        }
    }

    /// The crop in the middle, not flipped.
    pub(super) fn centre_crop(&self, picture: &Resized) -> Crop {
        Crop {
            flipped: false,
            top: (picture.height - self.crop_height) / 2,
            left: (picture.width - self.crop_width) / 2,
        }
    }

    /// Writes a crop as `[C, H, W]`, scaled to [-1, 1]: v becomes v / 127.5 − 1.
    pub(super) fn write_crop(&self, picture: &Resized, crop: Crop, planes: &mut [f32]) {
        let channels = self.channels as usize;
        let plane_len = self.crop_height * self.crop_width;
        for (channel, plane) in planes.chunks_exact_mut(plane_len).enumerate() {
            for (y, row) in plane.chunks_exact_mut(self.crop_width).enumerate() {
                let start = ((crop.top + y) * picture.width + crop.left) * channels;
                let samples = picture.samples[start..][..self.crop_width * channels]
                    .iter()
                    .skip(channel)
                    .step_by(channels);
                let scaled = samples.map(|&sample| f32::from(sample) / 127.5 - 1.0);
                if crop.flipped {
                    row.iter_mut().rev().zip(scaled).for_each(|(to, v)| *to = v);
                } else {
                    row.iter_mut().zip(scaled).for_each(|(to, v)| *to = v);
                }
            }
        }
    }
}

/// A resized picture, its channels interleaved.
pub(super) struct Resized {
    width: usize,
    height: usize,
    samples: Vec<u8>,
}

impl Resized {
    /// Memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.samples.len()
    }
}

/// Which part of a resized picture is shown.
#[derive(Clone, Copy)]
pub(super) struct Crop {
    flipped: bool,
    top: usize,
    left: usize,
}

/// Luma of ITU-R BT.601 in 16-bit fixed point, rounded to nearest; the weights add up to one.
fn luma(rgb: &[u8]) -> Vec<u8> {
    rgb.as_chunks::<3>()
        .0
        .iter()
        .map(|&pixel| {
            let [r, g, b] = pixel.map(u32::from);
            ((19_595 * r + 38_470 * g + 7_471 * b + 0x8000) >> 16) as u8
        })
        .collect()
}
