//! From a frame to the next: what moved where, and how well a translation went along.

use anyhow::Result;
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use super::flow::{Flow, Image};

/// The motion between two frames.
pub struct Motion {
    /// Where each pixel of the first frame is in the second, [1, H, W, 2] from -1 to 1.
    grid: Tensor,
    /// 1 for pixels that can be seen in both, [1, 1, H, W].
    mask: Tensor,
    /// The same.
    pub visible: Vec<bool>,
}

impl Motion {
    /// Looks for it in the frames themselves, both of one size.
    ///
    /// # Errors
    /// libtorch's.
    pub fn between(first: &RgbImage, second: &RgbImage, device: Device) -> Result<Self> {
        let (one, other) = (grey(first), grey(second));
        let (flow, back) = rayon::join(
            || Flow::between(&one, &other),
            || Flow::between(&other, &one),
        );
        let visible = flow.visible(&back);
        let (width, height) = (one.width, one.height);
        let size = [1, 1, height as i64, width as i64];
        let place = |index: usize, side: usize, way: &Image| -> Vec<f32> {
            let values = way.values.iter().enumerate();
            let scale = 2.0 / (side - 1).max(1) as f32;
            values
                .map(|(pixel, motion)| {
                    let from = if index == 0 {
                        pixel % width
                    } else {
                        pixel / width
                    };
                    (from as f32 + motion) * scale - 1.0
                })
                .collect()
        };
        let coordinates = [place(0, width, &flow.x), place(1, height, &flow.y)];
        let coordinates = coordinates
            .iter()
            .map(|values| Ok(Tensor::f_from_slice(values)?.f_reshape([1, size[2], size[3]])?))
            .collect::<Result<Vec<_>>>()?;
        let mask: Vec<f32> = visible.iter().map(|seen| f32::from(*seen)).collect();
        Ok(Self {
            grid: Tensor::f_stack(&coordinates, -1)?.f_to_device(device)?,
            mask: Tensor::f_from_slice(&mask)?
                .f_reshape(size)?
                .f_to_device(device)?,
            visible,
        })
    }

    /// The share of pixels that can be seen in both frames.
    pub fn visible_share(&self) -> f64 {
        let seen = self.visible.iter().filter(|seen| **seen).count();
        seen as f64 / self.visible.len() as f64
    }

    /// Warping error of each of N pictures [N, C, H, W] in [-1, 1] and its successor: the mean squared
    /// difference, for values in [0, 1], of pixels that can be seen in both and the places where they
    /// have gone (Lai et al., arXiv 1808.00449, equation 10, there summed over channels).
    ///
    /// # Errors
    /// libtorch's, for instance for pictures of another size than the frames.
    pub fn warping_error(&self, first: &Tensor, second: &Tensor) -> Result<Vec<f64>> {
        const BILINEAR: i64 = 0;
        const BORDER: i64 = 1;
        let size = first.size();
        let grid = self.grid.f_expand([size[0], size[2], size[3], 2], false)?;
        let there = second.f_grid_sampler(&grid, BILINEAR, BORDER, true)?;
        let squares = first.f_sub(&there)?.f_square()?.f_mul(&self.mask)?;
        // Values in [0, 1] differ half as much.
        let sums = squares
            .f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Double)?
            .f_div_scalar(4.0)?;
        let count = self.mask.f_sum(Kind::Double)?.f_mul_scalar(size[1])?;
        Ok(Vec::try_from(
            sums.f_div(&count)?.f_to_device(Device::Cpu)?,
        )?)
    }
}

/// Mean absolute difference of each of N pictures [N, C, H, W] in [-1, 1] and its successor, in steps
/// of 8 bits.
///
/// # Errors
/// libtorch's.
pub fn flicker(first: &Tensor, second: &Tensor) -> Result<Vec<f64>> {
    let differences = first
        .f_sub(second)?
        .f_abs()?
        .f_mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double)?
        .f_mul_scalar(127.5)?;
    Ok(Vec::try_from(differences.f_to_device(Device::Cpu)?)?)
}

/// Luma (ITU-R BT.601), 0 to 255.
fn grey(picture: &RgbImage) -> Image {
    let luma = picture.pixels().map(|pixel| {
        let [red, green, blue] = pixel.0.map(f32::from);
        0.299 * red + 0.587 * green + 0.114 * blue
    });
    Image {
        width: picture.width() as usize,
        height: picture.height() as usize,
        values: luma.collect(),
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;
    use crate::translate::picture_tensor;

    /// A picture whose content lies `shift` pixels further to the left.
    fn picture(shift: f32) -> RgbImage {
        RgbImage::from_fn(80, 64, |x, y| {
            let (x, y) = (x as f32 + shift, y as f32);
            let wave = |along: f32, down: f32| (along * x + down * y).sin();
            let value = 128.0
                + 40.0 * wave(0.11, 0.07)
                + 30.0 * wave(-0.16, 0.21)
                + 20.0 * wave(0.45, 0.31);
            Rgb([value as u8, (255.0 - value) as u8, (value / 2.0) as u8])
        })
    }

    #[test]
    fn what_goes_along_has_no_error_and_what_does_not_has_one() {
        let (first, second) = (picture(0.0), picture(3.0));
        let motion = Motion::between(&first, &second, Device::Cpu).unwrap();
        assert!(motion.visible_share() > 0.8);
        let tensor = |picture: &RgbImage| picture_tensor(picture).unwrap();
        let pair = |one: &RgbImage, other: &RgbImage| {
            motion.warping_error(&tensor(one), &tensor(other)).unwrap()[0]
        };
        let along = pair(&first, &second);
        assert!(along < 2e-4, "{along}");
        // A pattern that stays on the screen.
        let stays = pair(&first, &first);
        assert!(stays > 5e-3, "{stays}");
        // Everything a step of 51 brighter: 0.2 squared.
        let dark = RgbImage::from_pixel(80, 64, Rgb([40; 3]));
        let bright = RgbImage::from_pixel(80, 64, Rgb([91; 3]));
        assert!((pair(&dark, &bright) - 0.04).abs() < 1e-6);
        // Two pictures at a time are told apart.
        let both = |one: &RgbImage, other: &RgbImage| Tensor::cat(&[tensor(one), tensor(other)], 0);
        let errors = motion
            .warping_error(&both(&first, &dark), &both(&second, &bright))
            .unwrap();
        assert!((errors[0] - along).abs() < 1e-9 && (errors[1] - 0.04).abs() < 1e-6);
    }

    #[test]
    fn flicker_is_told_in_steps() {
        let of = |value: u8| {
            let picture = RgbImage::from_pixel(20, 16, Rgb([value, value, 10]));
            picture_tensor(&picture).unwrap()
        };
        let found = flicker(&of(40), &of(43)).unwrap();
        assert!((found[0] - 2.0).abs() < 1e-4, "{found:?}");
        assert_eq!(flicker(&of(40), &of(40)).unwrap(), [0.0]);
    }
}
