//! Loss scaling (arXiv 1710.03740, section 3.2): most gradients of a loss are too small for float16,
//! which ends at 6e-8, but not those of a loss that is some thousand times larger. How much larger it may
//! be is found out while training: until a gradient overflows.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// What a run begins with, as PyTorch's `GradScaler` does.
pub const INITIAL: f64 = 65_536.0;
/// After so many updates without an overflow the scale is doubled, as there.
pub const GROWTH_INTERVAL: f64 = 2000.0;
/// Larger ones win nothing: 2²⁴ times the smallest number of float16 is 1.
pub const LARGEST: f64 = 16_777_216.0;
/// From float16's largest number of 65504 to 1. What still overflows is no longer a matter of scale: the
/// pictures, the loss or the weights themselves are lost, see [`crate::watch`].
pub const SMALLEST: f64 = 1.0 / 65_536.0;

/// The scales in `losses.csv`: the discriminators' and the generators'.
pub const NAMES: [&str; 2] = ["dis_loss_scale", "gen_loss_scale"];

/// The scale of one optimiser's loss. It stays on the device, where gradients are judged, too, so that
/// an update that is passed over never makes the program wait for the device.
#[derive(Debug)]
pub struct LossScale {
    /// The scale, and the updates since it was last changed or a gradient overflowed: `[2]`, float32.
    pub state: Tensor,
}

impl LossScale {
    /// That of a run that begins.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(device: Device) -> Result<Self> {
        let state = Tensor::f_from_slice(&[INITIAL as f32, 0.0])?;
        Ok(Self {
            state: state.f_to_device(device)?,
        })
    }

    /// What the loss is multiplied by now: a scalar that shares its memory with [`Self::state`].
    ///
    /// # Errors
    /// libtorch's.
    pub fn scale(&self) -> Result<Tensor> {
        Ok(self.state.f_select(0, 0)?)
    }

    /// Takes in whether the last gradient was `finite`, 1 or 0: halves the scale where it was not, and
    /// doubles it where that has long not been so.
    ///
    /// # Errors
    /// libtorch's.
    pub fn update(&mut self, finite: &Tensor) -> Result<()> {
        let (mut scale, mut updates) = (self.state.f_select(0, 0)?, self.state.f_select(0, 1)?);
        tch::no_grad(|| {
            let _ = updates.f_add_scalar_(1.0)?.f_mul_(finite)?;
            let grown = updates.f_ge(GROWTH_INTERVAL)?.f_to_kind(Kind::Float)?;
            let kept = finite.f_add_scalar(1.0)?.f_mul_scalar_(0.5)?;
            let factor = grown.f_add_scalar(1.0)?.f_mul_(&kept)?;
            let _ = scale.f_mul_(&factor)?.f_clamp_(SMALLEST, LARGEST)?;
            let _ = updates.f_remainder_(GROWTH_INTERVAL)?;
            Ok(())
        })
    }
}

/// Whether no number of `gradient` is infinite or NaN: 1 or 0, a float32 on its device. Reads it once.
///
/// # Errors
/// libtorch's.
pub fn is_finite(gradient: &Tensor) -> Result<Tensor> {
    // What is not finite stays so in a sum. A sum of finite numbers is infinite only where they are so
    // large that nothing can be learnt from them.
    let sum = gradient.f_sum(Kind::Float)?;
    Ok(sum.f_isfinite()?.f_to_kind(Kind::Float)?)
}

/// Whether `losses` (those of one row of `losses.csv`) say that the update that loss `name` belongs to may
/// have been passed over, to be tried again with a smaller scale.
pub fn is_passed_over(name: &str, losses: &[(&str, f64)]) -> bool {
    let side = name.split('_').next();
    let scale = losses
        .iter()
        .find(|(known, _)| NAMES.contains(known) && known.split('_').next() == side);
    scale.is_some_and(|(_, scale)| *scale > SMALLEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(scale: &LossScale) -> [f32; 2] {
        Vec::try_from(&scale.state).unwrap().try_into().unwrap()
    }

    #[test]
    fn an_overflow_halves_the_scale_and_many_updates_without_one_double_it() {
        let mut scale = LossScale::new(Device::Cpu).unwrap();
        let [good, bad] = [1.0_f32, 0.0].map(Tensor::from);
        assert_eq!(numbers(&scale), [65536.0, 0.0]);
        scale.update(&good).unwrap();
        assert_eq!(numbers(&scale), [65536.0, 1.0]);
        scale.update(&bad).unwrap();
        scale.update(&bad).unwrap();
        assert_eq!(numbers(&scale), [16384.0, 0.0]);
        for _ in 0..1999 {
            scale.update(&good).unwrap();
        }
        assert_eq!(numbers(&scale), [16384.0, 1999.0]);
        scale.update(&good).unwrap();
        assert_eq!(numbers(&scale), [32768.0, 0.0]);
        assert_eq!(scale.scale().unwrap().double_value(&[]), 32768.0);
    }

    #[test]
    fn the_scale_has_bounds() {
        let mut scale = LossScale::new(Device::Cpu).unwrap();
        let bad = Tensor::from(0.0_f32);
        for _ in 0..40 {
            scale.update(&bad).unwrap();
        }
        assert_eq!(f64::from(numbers(&scale)[0]), SMALLEST);
        let values = [LARGEST as f32, GROWTH_INTERVAL as f32 - 1.0];
        scale.state = Tensor::from_slice(&values);
        scale.update(&Tensor::from(1.0_f32)).unwrap();
        assert_eq!(numbers(&scale), [LARGEST as f32, 0.0]);
    }

    #[test]
    fn a_gradient_is_finite_or_not() {
        for (value, finite) in [
            (1e30, 1.0),
            (-65504.0, 1.0),
            (f32::INFINITY, 0.0),
            (f32::NEG_INFINITY, 0.0),
            (f32::NAN, 0.0),
        ] {
            let gradient = Tensor::from_slice(&[1.0, value, -2.0]);
            let found = is_finite(&gradient).unwrap();
            assert_eq!(found.double_value(&[]), finite, "{value}");
        }
        let both = Tensor::from_slice(&[f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!(is_finite(&both).unwrap().double_value(&[]), 0.0);
    }
}
