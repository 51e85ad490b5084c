//! Exponential moving average of the generators: steadier than any single iterate, so it is what
//! is shown and exported.

use anyhow::Result;
use tch::Tensor;

/// The averaged parameters.
#[derive(Debug)]
pub struct Ema {
    /// The average, `[total]`.
    pub vector: Tensor,
    decay: f64,
    warmup: u64,
}

impl Ema {
    /// Starts at `parameters`. For `warmup` iterations they move too fast for an average to mean
    /// anything.
    ///
    /// # Errors
    /// libtorch's, for instance out of memory.
    pub fn new(parameters: &Tensor, decay: f64, warmup: u64) -> Result<Self> {
        let vector = parameters
            .f_detach()?
            .f_to_dtype(parameters.kind(), false, true)?;
        Ok(Self {
            vector,
            decay,
            warmup,
        })
    }

    /// Takes in the parameters after `iteration` iterations: a plain copy during the warm-up,
    /// then `decay · average + (1 − decay) · parameters`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn update(&mut self, parameters: &Tensor, iteration: u64) -> Result<()> {
        tch::no_grad(|| {
            if iteration <= self.warmup {
                self.vector.f_copy_(parameters)?;
            } else {
                let _ = self.vector.f_lerp_(parameters, 1.0 - self.decay)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_during_the_warmup_then_an_average() {
        let at = |value: f32| Tensor::from_slice(&[value]);
        let mut ema = Ema::new(&at(7.0), 0.75, 1000).unwrap();
        let mut update = |value, iteration| {
            ema.update(&at(value), iteration).unwrap();
            ema.vector.double_value(&[0])
        };
        assert_eq!(update(1.0, 1), 1.0);
        assert_eq!(update(4.0, 1000), 4.0);
        // 0.75 · 4 + 0.25 · 8, and so on.
        assert_eq!(update(8.0, 1001), 5.0);
        assert_eq!(update(1.0, 1002), 4.0);
    }

    #[test]
    fn the_average_has_a_memory_of_its_own() {
        let parameters = Tensor::from_slice(&[1.0_f32]);
        let ema = Ema::new(&parameters, 0.5, 1000).unwrap();
        let _ = parameters.shallow_clone().fill_(3.0);
        assert_eq!(ema.vector.double_value(&[0]), 1.0);
    }
}
