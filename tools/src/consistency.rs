//! Steadiness in video without video: a picture that is shifted by less than a network's stride, with
//! a little noise, is to be translated into the shifted translation.

use anyhow::Result;
use tch::Tensor;

use crate::losses::l1;
use crate::random::{Noise, uniform, upload};

/// A shift of up to `reach` pixels each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    reach: i64,
    /// Pixels down from the upmost shift.
    down: i64,
    /// Pixels right from the leftmost shift.
    right: i64,
}

impl Shift {
    /// Draws one; every shift is as probable.
    ///
    /// # Errors
    /// libtorch's.
    pub fn draw(reach: i64, noise: &mut Noise) -> Result<Self> {
        let drawn = Vec::<f32>::try_from(uniform(noise, &[2])?)?;
        let count = 2 * reach + 1;
        let place = |number: f32| ((f64::from(number) * count as f64) as i64).min(count - 1);
        Ok(Self {
            reach,
            down: place(drawn[0]),
            right: place(drawn[1]),
        })
    }

    /// `pictures` [B, C, H, W], shifted; what comes in at an edge is a mirror image.
    ///
    /// # Errors
    /// Pictures no larger than the reach; libtorch's.
    pub fn apply(self, pictures: &Tensor) -> Result<Tensor> {
        let size = pictures.size();
        Ok(pictures
            .f_reflection_pad2d([self.reach; 4])?
            .f_narrow(2, 2 * self.reach - self.down, size[2])?
            .f_narrow(3, 2 * self.reach - self.right, size[3])?)
    }

    /// Mean absolute difference of `shifted`, translations of shifted pictures, from what the
    /// translations `plain` are when they are shifted, which is a fixed target; as far from the edges
    /// as mirror images reach.
    ///
    /// # Errors
    /// libtorch's.
    pub fn difference(self, shifted: &Tensor, plain: &Tensor) -> Result<Tensor> {
        let inner = |pictures: &Tensor| -> Result<Tensor> {
            let size = pictures.size();
            let margin = self.reach.min((size[2].min(size[3]) - 1) / 2);
            Ok(pictures
                .f_narrow(2, margin, size[2] - 2 * margin)?
                .f_narrow(3, margin, size[3] - 2 * margin)?)
        };
        l1(&inner(shifted)?, &inner(&self.apply(&plain.f_detach()?)?)?)
    }
}

/// `pictures` with noise of this deviation.
///
/// # Errors
/// libtorch's.
pub fn noisy(pictures: &Tensor, deviation: f64, noise: &mut Noise) -> Result<Tensor> {
    if deviation == 0.0 {
        return Ok(pictures.shallow_clone());
    }
    let drawn = upload(&noise(&pictures.size())?, pictures.device())?;
    let kind = pictures.kind();
    Ok(pictures.f_add(&drawn.f_mul_scalar(deviation)?.f_to_kind(kind)?)?)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn picture() -> Tensor {
        Tensor::arange(2 * 3 * 12 * 10, (Kind::Float, Device::Cpu)).view([2, 3, 12, 10])
    }

    /// The shift whose drawn numbers have these ranks.
    fn drawn(reach: i64, ranks: [f64; 2]) -> Shift {
        let noise = Tensor::from_slice(&ranks).special_ndtri();
        Shift::draw(reach, &mut |_| Ok(noise.to_kind(Kind::Float))).unwrap()
    }

    #[test]
    fn content_moves_down_and_right() {
        // Of the shifts -4 to 4: 3 down and 2 to the left.
        let shift = drawn(4, [0.85, 0.25]);
        let x = picture();
        let y = shift.apply(&x).unwrap();
        assert_eq!(y.size(), x.size());
        assert_eq!(
            y.narrow(2, 3, 9).narrow(3, 0, 8),
            x.narrow(2, 0, 9).narrow(3, 2, 8)
        );
        // A mirror image around the first row.
        assert_eq!(
            y.narrow(2, 2, 1).narrow(3, 0, 8),
            x.narrow(2, 1, 1).narrow(3, 2, 8)
        );
        for extreme in [[0.0001, 0.9999], [0.9999, 0.0001], [0.5, 0.5]] {
            let y = drawn(4, extreme).apply(&x).unwrap();
            assert_eq!(y == x, extreme == [0.5, 0.5]);
        }
    }

    #[test]
    fn a_network_that_moves_with_its_input_is_not_punished() {
        let shift = drawn(2, [0.9, 0.1]);
        let x = picture();
        let value = |shifted: &Tensor, plain: &Tensor| {
            let difference = shift.difference(shifted, plain).unwrap();
            difference.double_value(&[])
        };
        assert_eq!(value(&shift.apply(&x).unwrap(), &x), 0.0);
        // Two rows up, ten apart, and two columns, one apart.
        assert!((value(&x, &x) - (2.0 * 10.0 - 2.0)).abs() < 1e-5);
        // The target is fixed.
        let plain = picture().set_requires_grad(true);
        let shifted = picture().set_requires_grad(true);
        shift.difference(&shifted, &plain).unwrap().backward();
        assert!(shifted.grad().defined());
        assert!(!plain.grad().defined());
    }
}
