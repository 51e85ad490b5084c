//! From a decoded picture to the crop that a network sees.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use munit::picture_file::{MAXIMUM_DECODED_BYTES, PictureError};
use rand::{Rng, RngExt};

use super::unusable;

/// Blank crops are drawn again so many times before others are looked for.
const CROP_DRAWS: usize = 8;

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

    /// Shape of a crop, `[C, H, W]`.
    pub(super) fn crop_shape(&self) -> [i64; 3] {
        [
            self.channels,
            self.crop_height as i64,
            self.crop_width as i64,
        ]
    }

    /// Number of values in a crop.
    pub(super) fn crop_len(&self) -> usize {
        self.channels as usize * self.crop_height * self.crop_width
    }

    /// Resizes a picture so that its shorter side has `new_size` pixels, or more where the crop
    /// would not fit, with the antialiased bilinear filter of the published loader.
    ///
    /// # Errors
    /// [`PictureError::TooLarge`], since the longer side of a strip grows along with the shorter.
    pub(super) fn resize(&self, picture: &RgbImage) -> Result<Resized, PictureError> {
        let (width, height) = picture.dimensions();
        if self.resized_bytes(width, height) > MAXIMUM_DECODED_BYTES {
            return Err(PictureError::TooLarge);
        }
        let (width, height) = self.resized_size(width, height);
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

    /// Bytes of a picture of this size in pixels, once resized.
    pub(crate) fn resized_bytes(&self, width: u32, height: u32) -> u64 {
        let (width, height) = self.resized_size(width, height);
        u64::from(width) * u64::from(height) * self.channels as u64
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

    /// Draws a flip and the place of a crop that is the same in all of `pictures`, resized ones of one
    /// scene, and in none of them blank, if there is such a place.
    ///
    /// A blank picture gives instance norms no variance, so that each of them multiplies gradients by
    /// hundreds: behind some of them no number is left.
    pub(super) fn draw_crop(
        &self,
        pictures: &[&Resized],
        flip: bool,
        random: &mut impl Rng,
    ) -> Crop {
        let flipped = random.random_bool(0.5) && flip;
        // Rounded, longer sides of partners can differ by some pixels.
        let rooms = pictures.iter().map(|picture| {
            let (down, right) = (
                picture.height - self.crop_height,
                picture.width - self.crop_width,
            );
            [down, right]
        });
        let [down, right] = rooms
            .reduce(|one, other| [one[0].min(other[0]), one[1].min(other[1])])
            .unwrap_or_default();
        let crop = |[top, left]: [usize; 2]| Crop { flipped, top, left };
        let is_blank = |crop: &Crop| pictures.iter().any(|picture| self.is_blank(picture, *crop));
        let mut draw = || crop([down, right].map(|room| random.random_range(0..=room)));
        let mut drawn = draw();
        for _ in 1..CROP_DRAWS {
            if !is_blank(&drawn) {
                return drawn;
            }
            drawn = draw();
        }
        // Little is to be seen. Crops that overlap by half show any two neighbouring pixels.
        let starts = |room: usize, side: usize| (0..room).step_by((side / 2).max(1)).chain([room]);
        let shown: Vec<Crop> = starts(down, self.crop_height)
            .flat_map(|top| starts(right, self.crop_width).map(move |left| [top, left]))
            .map(crop)
            .filter(|crop| !is_blank(crop))
            .collect();
        match shown.len() {
            0 => drawn,
            count => shown[random.random_range(0..count)],
        }
    }

    /// Whether a crop of `picture` is all of one colour.
    fn is_blank(&self, picture: &Resized, crop: Crop) -> bool {
        // A partner has the crop of its picture, but channels of its own.
        let channels = picture.samples.len() / (picture.width * picture.height);
        let row = |y: usize| {
            let start = ((crop.top + y) * picture.width + crop.left) * channels;
            picture.samples[start..start + self.crop_width * channels].chunks_exact(channels)
        };
        unusable::is_one_colour((0..self.crop_height).flat_map(row))
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
        match self.channels {
            1 => self.write_planes::<1>(picture, crop, planes),
            _ => self.write_planes::<3>(picture, crop, planes),
        }
    }

    fn write_planes<const CHANNELS: usize>(
        &self,
        picture: &Resized,
        crop: Crop,
        planes: &mut [f32],
    ) {
        let pixels = picture.samples.as_chunks::<CHANNELS>().0;
        let plane_len = self.crop_height * self.crop_width;
        for (channel, plane) in planes.chunks_exact_mut(plane_len).enumerate() {
            for (y, row) in plane.chunks_exact_mut(self.crop_width).enumerate() {
                let start = (crop.top + y) * picture.width + crop.left;
                for (to, pixel) in row.iter_mut().zip(&pixels[start..]) {
                    *to = f32::from(pixel[channel]) / 127.5 - 1.0;
                }
                if crop.flipped {
                    row.reverse();
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use image::Rgb;

    use super::*;
    use crate::data::order;
    use crate::data::test_pictures::picture;

    fn framing(new_size: usize, crop_height: usize, crop_width: usize, channels: i64) -> Framing {
        Framing {
            new_size,
            crop_height,
            crop_width,
            channels,
        }
    }

    #[test]
    fn the_shorter_side_gets_the_new_size() {
        let plain = framing(256, 256, 256, 3);
        assert_eq!(plain.resized_size(640, 480), (341, 256));
        assert_eq!(plain.resized_size(480, 640), (256, 341));
        assert_eq!(plain.resized_size(100, 100), (256, 256));
        assert_eq!(plain.resized_size(261, 163), (409, 256));
    }

    #[test]
    fn the_crop_always_fits() {
        // The whole picture grows, in proportion, where the crop would not fit.
        assert_eq!(framing(128, 256, 256, 3).resized_size(200, 100), (512, 256));
        assert_eq!(framing(256, 256, 512, 3).resized_size(300, 300), (512, 512));
        for (width, height) in [(16, 17), (33, 16), (999, 1001), (256, 16), (301, 97)] {
            for (crop_height, crop_width) in [(64, 64), (100, 37), (31, 200), (7, 5)] {
                let framing = framing(48, crop_height, crop_width, 3);
                let (to_width, to_height) = framing.resized_size(width, height);
                assert!(to_width as usize >= crop_width && to_height as usize >= crop_height);
                assert!(to_width.min(to_height) >= 48);
            }
        }
    }

    #[test]
    fn a_strip_is_refused_where_it_would_grow_beyond_memory() {
        let strip = picture(16, 4096, 1);
        let resized = framing(64, 64, 64, 3).resize(&strip).ok().unwrap();
        assert_eq!((resized.width, resized.height), (64, 16_384));
        let error = framing(4096, 64, 64, 3).resize(&strip).err();
        assert_eq!(error, Some(PictureError::TooLarge));
    }

    #[test]
    fn values_are_scaled_to_minus_one_to_one() {
        let values = RgbImage::from_fn(16, 16, |x, y| Rgb([(y * 16 + x) as u8, 0, 255]));
        let framing = framing(16, 16, 16, 3);
        let resized = framing.resize(&values).unwrap();
        let mut planes = vec![0.0; framing.crop_len()];
        framing.write_crop(&resized, framing.centre_crop(&resized), &mut planes);
        for (value, &scaled) in planes[..256].iter().enumerate() {
            assert_eq!(scaled, value as f32 / 127.5 - 1.0);
        }
        assert!(planes[256..512].iter().all(|&value| value == -1.0));
        assert!(planes[512..].iter().all(|&value| value == 1.0));
    }

    #[test]
    fn a_crop_shows_its_part_of_the_picture_and_a_flip_mirrors_it() {
        let original = picture(20, 16, 1);
        let framing = framing(16, 3, 4, 3);
        let resized = framing.resize(&original).unwrap();
        let shown = |flipped| {
            let (top, left) = (13, 16);
            let mut planes = vec![0.0; framing.crop_len()];
            let crop = Crop { flipped, top, left };
            framing.write_crop(&resized, crop, &mut planes);
            planes
        };
        let (plain, flipped) = (shown(false), shown(true));
        for (index, &value) in plain.iter().enumerate() {
            let (channel, y, x) = (index / 12, index / 4 % 3, index % 4);
            let sample = original.get_pixel(16 + x as u32, 13 + y as u32).0[channel];
            assert_eq!(value, f32::from(sample) / 127.5 - 1.0);
            assert_eq!(value, flipped[index - x + 3 - x]);
        }
    }

    #[test]
    fn shrinking_averages() {
        let checks = RgbImage::from_fn(64, 64, |x, y| Rgb([((x + y) % 2 * 255) as u8; 3]));
        let resized = framing(16, 16, 16, 3).resize(&checks).unwrap();
        assert!(
            resized
                .samples
                .iter()
                .all(|sample| sample.abs_diff(128) <= 2)
        );
    }

    #[test]
    fn grey_is_luma() {
        let luma_of = |pixel: [u8; 3]| luma(&pixel)[0];
        assert_eq!(luma_of([255, 0, 0]), 76);
        assert_eq!(luma_of([0, 255, 0]), 150);
        assert_eq!(luma_of([0, 0, 255]), 29);
        for value in 0..=255 {
            assert_eq!(luma_of([value; 3]), value);
        }
    }

    #[test]
    fn flips_and_crops_are_spread_evenly() {
        let framing = framing(16, 14, 16, 3);
        let resized = framing.resize(&picture(20, 16, 1)).unwrap();
        let mut flips = 0;
        let (mut tops, mut lefts) = ([0; 3], [0; 5]);
        for draw in 0..600 {
            let mut random = order::augmentation(1, munit::Domain::A, draw);
            let crop = framing.draw_crop(&[&resized], true, &mut random);
            flips += usize::from(crop.flipped);
            tops[crop.top] += 1;
            lefts[crop.left] += 1;

            let mut random = order::augmentation(1, munit::Domain::A, draw);
            let unflipped = framing.draw_crop(&[&resized], false, &mut random);
            assert!(!unflipped.flipped);
            assert_eq!((unflipped.top, unflipped.left), (crop.top, crop.left));
        }
        assert!((240..360).contains(&flips), "{flips}");
        assert!(tops.iter().all(|&count| count > 150), "{tops:?}");
        assert!(lefts.iter().all(|&count| count > 80), "{lefts:?}");
    }

    /// White, with a black rectangle.
    fn sparse(rectangle: [u32; 4]) -> Resized {
        let [left, top, width, height] = rectangle;
        let picture = RgbImage::from_fn(200, 160, |x, y| {
            let inside = (left..left + width).contains(&x) && (top..top + height).contains(&y);
            Rgb([if inside { 0 } else { 255 }; 3])
        });
        framing(160, 16, 16, 3).resize(&picture).unwrap()
    }

    #[test]
    fn a_crop_is_not_blank_where_there_is_anything_to_show() {
        let framing = framing(160, 16, 16, 3);
        for rectangle in [
            [199, 0, 1, 1],
            [90, 70, 1, 1],
            [20, 30, 2, 1],
            [0, 0, 100, 160],
        ] {
            let picture = sparse(rectangle);
            let mut places = BTreeSet::new();
            for draw in 0..40 {
                let mut random = order::augmentation(1, munit::Domain::A, draw);
                let crop = framing.draw_crop(&[&picture], true, &mut random);
                assert!(
                    !framing.is_blank(&picture, crop),
                    "{rectangle:?}, draw {draw}"
                );
                places.insert((crop.top, crop.left));
            }
            // The pixel in the corner is in one of the crops that overlap by half.
            assert!(places.len() > 2 || rectangle[0] == 199, "{places:?}");
        }
        // Partners: neither is blank.
        let (one, other) = (sparse([20, 30, 90, 90]), sparse([100, 100, 80, 40]));
        for draw in 0..40 {
            let mut random = order::augmentation(1, munit::Domain::A, draw);
            let crop = framing.draw_crop(&[&one, &other], true, &mut random);
            assert!(!framing.is_blank(&one, crop) && !framing.is_blank(&other, crop));
        }
    }

    #[test]
    fn senseless_framings_are_refused() {
        assert_eq!(framing(1, 4096, 1, 1).check(), Ok(()));
        for (wrong, name) in [
            (framing(0, 1, 1, 3), "new_size"),
            (framing(1, 0, 1, 3), "crop_image_height"),
            (framing(1, 1, 5000, 3), "crop_image_width"),
            (framing(1, 1, 1, 4), "channels"),
        ] {
            assert!(wrong.check().unwrap_err().contains(name));
        }
    }
}
