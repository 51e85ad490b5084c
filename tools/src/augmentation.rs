//! Differentiable augmentation (arXiv 2006.10738): what a discriminator sees, real or not, is changed
//! at random, so that it cannot learn a small set by heart, and gradients pass through the changes.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::random::{Noise, uniform, upload};

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Augmentation {
    /// Brightness, saturation and contrast.
    #[serde(alias = "color")]
    #[value(alias = "color")]
    Colour,
    /// Shifted by up to an eighth of the side, with zeros behind.
    Translation,
    /// A square of half the side is made zero.
    Cutout,
}

/// Share of the side by which pictures are shifted at most.
const LARGEST_SHIFT: f64 = 1.0 / 8.0;
/// Side of the square that is cut out, as a share of the picture's.
const CUT_SHARE: f64 = 0.5;

/// `pictures` [B, C, H, W] in [-1, 1] after each of `changes`, every picture with numbers of its own.
///
/// # Errors
/// libtorch's.
pub fn augment(pictures: &Tensor, changes: &[Augmentation], noise: &mut Noise) -> Result<Tensor> {
    if changes.is_empty() {
        return Ok(pictures.shallow_clone());
    }
    let samples = pictures.size()[0];
    // All numbers in one transfer: three for colours, two for each place.
    let numbers = upload(&uniform(noise, &[samples, 7])?, pictures.device())?;
    let number = |place: i64| -> Result<Tensor> {
        Ok(numbers
            .f_narrow(1, place, 1)?
            .f_reshape([samples, 1, 1, 1])?)
    };
    let has = |change| changes.contains(&change);
    let mut changed = pictures.shallow_clone();
    if has(Augmentation::Colour) {
        changed = colour(&changed, [number(0)?, number(1)?, number(2)?])?;
    }
    if has(Augmentation::Translation) {
        changed = translation(&changed, &number(3)?, &number(4)?)?;
    }
    if has(Augmentation::Cutout) {
        changed = cutout(&changed, &number(5)?, &number(6)?)?;
    }
    Ok(changed)
}

/// Brighter by `u − ½`, then saturation times `2u`, then contrast times `u + ½`, for u of each.
fn colour(x: &Tensor, [brightness, saturation, contrast]: [Tensor; 3]) -> Result<Tensor> {
    let kind = x.kind();
    let x = x.f_add(&brightness.f_sub_scalar(0.5)?.f_to_kind(kind)?)?;
    let away_from = |x: &Tensor, dimensions: &[i64], factor: Tensor| -> Result<Tensor> {
        let mean = x.f_mean_dim(dimensions, true, kind)?;
        Ok(mean.f_lerp_tensor(x, &factor.f_to_kind(kind)?)?)
    };
    let x = away_from(&x, &[1], saturation.f_mul_scalar(2.0)?)?;
    away_from(&x, &[1, 2, 3], contrast.f_add_scalar(0.5)?)
}

/// Positions 0, 1, … along a side, as `[side]`.
fn positions(side: i64, like: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_arange(side, (Kind::Float, like.device()))?)
}

/// Shifts by whole pixels; `down` and `right` from 0 to 1 stand for all shifts.
fn translation(x: &Tensor, down: &Tensor, right: &Tensor) -> Result<Tensor> {
    let size = x.size();
    let [samples, channels, height, width] = [size[0], size[1], size[2], size[3]];
    // Where a row or column comes from; outside of the picture there is nothing.
    let sources = |uniform: &Tensor, side: i64, shape: [i64; 4]| -> Result<(Tensor, Tensor)> {
        let largest = (side as f64 * LARGEST_SHIFT).round();
        let shift = uniform
            .f_mul_scalar(2.0 * largest + 1.0)?
            .f_floor()?
            .f_clamp_max(2.0 * largest)?
            .f_sub_scalar(largest)?;
        let source = positions(side, x)?.f_reshape(shape)?.f_sub(&shift)?;
        let inside = source.f_clamp(0.0, (side - 1) as f64)?;
        let is_inside = inside.f_eq_tensor(&source)?;
        Ok((inside, is_inside))
    };
    let (rows, row_is_inside) = sources(down, height, [1, 1, height, 1])?;
    let (columns, column_is_inside) = sources(right, width, [1, 1, 1, width])?;
    let places = rows
        .f_mul_scalar(width as f64)?
        .f_add(&columns)?
        .f_to_kind(Kind::Int64)?
        .f_reshape([samples, 1, -1])?
        .f_expand([-1, channels, -1], false)?;
    let moved = x
        .f_reshape([samples, channels, -1])?
        .f_gather(2, &places, false)?
        .f_reshape(size)?;
    let is_inside = row_is_inside.f_logical_and(&column_is_inside)?;
    Ok(moved.f_mul(&is_inside.f_to_kind(x.kind())?)?)
}

/// The centre of the square lies anywhere in the picture.
fn cutout(x: &Tensor, down: &Tensor, right: &Tensor) -> Result<Tensor> {
    let size = x.size();
    let [height, width] = [size[2], size[3]];
    let is_cut = |uniform: &Tensor, side: i64, shape: [i64; 4]| -> Result<Tensor> {
        let length = (side as f64 * CUT_SHARE).round();
        let start = uniform.f_mul_scalar(side as f64)?.f_floor()?;
        let start = start.f_sub_scalar((length / 2.0).floor())?;
        let distance = positions(side, x)?.f_reshape(shape)?.f_sub(&start)?;
        let is_behind = distance.f_ge(0.0)?;
        Ok(is_behind.f_logical_and(&distance.f_lt(length)?)?)
    };
    let cut = is_cut(down, height, [1, 1, height, 1])?;
    let cut = cut.f_logical_and(&is_cut(right, width, [1, 1, 1, width])?)?;
    Ok(x.f_mul(&cut.f_logical_not()?.f_to_kind(x.kind())?)?)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// Noise whose ranks are `ranks`.
    fn ranked(ranks: &[f64]) -> Tensor {
        let ranks = Tensor::from_slice(ranks).view([-1, 7]);
        ranks.special_ndtri().to_kind(Kind::Float)
    }

    fn changed(x: &Tensor, change: Augmentation, ranks: &[f64]) -> Tensor {
        let noise = ranked(ranks);
        augment(x, &[change], &mut |shape| {
            assert_eq!(noise.size(), shape);
            Ok(noise.shallow_clone())
        })
        .unwrap()
    }

    fn assert_close(found: &Tensor, expected: &Tensor) {
        let difference = (found - expected).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "{difference}");
    }

    fn picture(samples: i64, side: i64) -> Tensor {
        let shape = [samples, 3, side, side];
        let count = shape.iter().product::<i64>();
        let values = Tensor::arange(count, (Kind::Float, Device::Cpu));
        (values * 0.7).sin().view(shape)
    }

    #[test]
    fn colours_change_as_the_paper_says() {
        let x = picture(2, 4);
        let ranks = [
            0.9, 0.2, 0.7, 0.5, 0.5, 0.5, 0.5, 0.1, 0.6, 0.3, 0.5, 0.5, 0.5, 0.5,
        ];
        let found = changed(&x, Augmentation::Colour, &ranks);
        for (sample, [brightness, saturation, contrast]) in
            [(0, [0.9, 0.2, 0.7]), (1, [0.1, 0.6, 0.3])]
        {
            let x: Tensor = x.get(sample) + (brightness - 0.5);
            let grey = x.mean_dim(&[0i64][..], true, Kind::Float);
            let x = (x - &grey) * (2.0 * saturation) + grey;
            let mean = x.mean(Kind::Float);
            let x = (x - &mean) * (contrast + 0.5) + mean;
            assert_close(&found.get(sample), &x);
        }
    }

    #[test]
    fn pictures_are_shifted_by_up_to_an_eighth_with_zeros_behind() {
        let x = picture(2, 16) + 3.0;
        // Of the shifts -2 to 2: the largest down and the smallest across; none, and 1.
        let ranks = [
            0.5, 0.5, 0.5, 0.999, 0.001, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.7, 0.5, 0.5,
        ];
        let found = changed(&x, Augmentation::Translation, &ranks);
        let first = Tensor::zeros([3, 16, 16], (Kind::Float, Device::Cpu));
        let source = x.get(0).narrow(1, 0, 14).narrow(2, 2, 14);
        first.narrow(1, 2, 14).narrow(2, 0, 14).copy_(&source);
        assert_eq!(found.get(0), first);
        let second = Tensor::zeros([3, 16, 16], (Kind::Float, Device::Cpu));
        let source = x.get(1).narrow(2, 0, 15);
        second.narrow(2, 1, 15).copy_(&source);
        assert_eq!(found.get(1), second);
    }

    #[test]
    fn a_square_of_half_the_side_is_cut_out() {
        let x = picture(2, 8) + 3.0;
        // Around row 4, column 4; around the corner.
        let ranks = [
            0.5, 0.5, 0.5, 0.5, 0.5, 0.55, 0.55, 0.5, 0.5, 0.5, 0.5, 0.5, 0.001, 0.999,
        ];
        let found = changed(&x, Augmentation::Cutout, &ranks);
        let first = x.get(0).copy();
        let _ = first.narrow(1, 2, 4).narrow(2, 2, 4).zero_();
        assert_eq!(found.get(0), first);
        let second = x.get(1).copy();
        let _ = second.narrow(1, 0, 2).narrow(2, 5, 3).zero_();
        assert_eq!(found.get(1), second);
    }

    #[test]
    fn gradients_go_back_to_where_pixels_came_from() {
        let all = [
            Augmentation::Colour,
            Augmentation::Translation,
            Augmentation::Cutout,
        ];
        for kind in [Kind::Float, Kind::BFloat16] {
            let x = picture(2, 16).to_kind(kind).set_requires_grad(true);
            let noise = ranked(&[0.4; 14]);
            let mut draw = |_: &[i64]| Ok(noise.shallow_clone());
            let y = augment(&x, &all, &mut draw).unwrap();
            assert_eq!((y.kind(), y.size()), (kind, x.size()));
            let gradient = &Tensor::run_backward(&[y.sum(Kind::Float)], &[&x], false, false)[0];
            assert_eq!(gradient.isfinite().all().int64_value(&[]), 1);
            assert!(gradient.abs().max().double_value(&[]) > 0.0);
        }
        let x = picture(1, 16);
        let mut none = |_: &[i64]| anyhow::bail!("no numbers are needed");
        assert_eq!(augment(&x, &[], &mut none).unwrap(), x);
    }
}
