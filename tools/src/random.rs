//! The random numbers of an iteration, and how they get to the device.

use anyhow::Result;
use tch::{Device, Tensor};

/// Draws standard normal noise of a shape, float32 on the CPU.
pub type Noise<'n> = dyn FnMut(&[i64]) -> Result<Tensor> + 'n;

/// Numbers from 0 to 1 of `shape`, all alike probable: the ranks of normal ones, so that a run has one
/// kind of noise.
///
/// # Errors
/// libtorch's.
pub fn uniform(noise: &mut Noise, shape: &[i64]) -> Result<Tensor> {
    Ok(noise(shape)?.f_special_ndtr()?)
}

/// `values` on `device`, by way of memory that the device reads by itself, so that the program does
/// not wait until it gets there.
///
/// # Errors
/// libtorch's.
pub fn upload(values: &Tensor, device: Device) -> Result<Tensor> {
    if device == Device::Cpu {
        return Ok(values.shallow_clone());
    }
    let pinned = values.f_pin_memory(device)?;
    Ok(pinned.f_to_dtype_layout((values.kind(), device), true, false)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_normal_numbers_are_uniform() {
        let mut noise = |shape: &[i64]| {
            assert_eq!(shape, [4]);
            Ok(Tensor::from_slice(&[-10.0_f32, 0.0, 0.674_489_75, 10.0]))
        };
        let found = Vec::<f32>::try_from(uniform(&mut noise, &[4]).unwrap()).unwrap();
        for (found, expected) in found.iter().zip([0.0, 0.5, 0.75, 1.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }
}
