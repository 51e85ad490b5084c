//! Exponential moving average of the generators: steadier than any single iterate, so it is what
//! is shown and exported.

use anyhow::Result;
use tch::Tensor;

/// For so long the weights move too fast for an average to mean anything.
const COPIED_ITERATIONS: u64 = 1000;

/// The averaged parameters.
#[derive(Debug)]
pub struct Ema {
    /// The average, [total].
    pub vector: Tensor,
    decay: f64,
}

impl Ema {
    /// Starts at `parameters`.
    ///
    /// # Errors
    /// libtorch's, for instance out of memory.
    pub fn new(parameters: &Tensor, decay: f64) -> Result<Self> {
        let vector = parameters
            .f_detach()?
            .f_to_dtype(parameters.kind(), false, true)?;
        Ok(Self { vector, decay })
    }

    /// Takes in the parameters after `iteration` iterations: a plain copy for the first thousand,
    /// then `decay · average + (1 − decay) · parameters`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn update(&mut self, parameters: &Tensor, iteration: u64) -> Result<()> {
        tch::no_grad(|| {
            if iteration <= COPIED_ITERATIONS {
                self.vector.f_copy_(parameters)?;
            } else {
                let _ = self.vector.f_lerp_(parameters, 1.0 - self.decay)?;
            }
            Ok(())
        })
    }
}
