//! Brings pictures to the size that a network needs.

use tch::{Device, Kind, Tensor};

use super::{InputSize, Resampling};
use crate::Result;

/// Resizes `pictures` [B, C, H, W].
pub(super) fn resize(pictures: &Tensor, size: &InputSize) -> Result<Tensor> {
    match size.method {
        Resampling::Antialiased => Ok(pictures.f_internal_upsample_bilinear2d_aa(
            [size.height, size.width],
            false,
            None,
            None,
        )?),
        Resampling::Tensorflow1 => {
            let tall = from_the_corner(pictures, 2, size.height)?;
            from_the_corner(&tall, 3, size.width)
        }
    }
}

/// Linear interpolation along one axis, where place i of the result lies at i · (old / new).
fn from_the_corner(pictures: &Tensor, axis: i64, length: i64) -> Result<Tensor> {
    let old = pictures.size()[axis as usize];
    let device = pictures.device();
    let places = Tensor::f_arange(length, (Kind::Float, Device::Cpu))?
        .f_mul_scalar(old as f64 / length as f64)?;
    let below = places.f_floor()?;
    let mut shape = [1i64; 4];
    shape[axis as usize] = length;
    let share = places
        .f_sub(&below)?
        .f_reshape(shape)?
        .f_to_device(device)?;
    let below = below.f_to_kind(Kind::Int64)?.f_to_device(device)?;
    let above = below.f_add_scalar(1)?.f_clamp_max(old - 1)?;
    let lower = pictures.f_index_select(axis, &below)?;
    let upper = pictures.f_index_select(axis, &above)?;
    Ok(lower.f_add(&upper.f_sub(&lower)?.f_mul(&share)?)?)
}
