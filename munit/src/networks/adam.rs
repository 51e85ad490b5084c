//! Adam in one pass over memory.

use std::ffi::c_char;

use tch::Tensor;
use torch_sys::C_tensor;

use super::kernels::check;
use crate::{Error, Result};

/// The constants of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct AdamStep {
    /// Updates so far, this one included.
    pub updates: f64,
    /// How far a parameter moves at most, nearly.
    pub learning_rate: f64,
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Guard beside the root of the mean squared gradient.
    pub epsilon: f64,
}

/// One update of each of `parameters` and its two means from its gradient: Adam with L2 decay
/// (arXiv 1412.6980). Tensors of one parameter are alike, float32 and contiguous.
///
/// # Errors
/// Lists of different lengths; libtorch's.
pub fn adam_step(
    parameters: &[Tensor],
    gradients: &[Tensor],
    means: &[Tensor],
    mean_squares: &[Tensor],
    step: &AdamStep,
) -> Result<()> {
    let count = parameters.len();
    if [gradients, means, mean_squares]
        .iter()
        .any(|list| list.len() != count)
    {
        return Err(Error::Weights(format!(
            "{count} parameters cannot be updated from {} gradients and {} and {} means",
            gradients.len(),
            means.len(),
            mean_squares.len()
        )));
    }
    let pointers = |tensors: &[Tensor]| -> Vec<_> { tensors.iter().map(Tensor::as_ptr).collect() };
    let lists = [parameters, gradients, means, mean_squares].map(pointers);
    // SAFETY: each list holds `count` tensors that outlive the call.
    check(unsafe {
        munit_adam(
            lists[0].as_ptr(),
            lists[1].as_ptr(),
            lists[2].as_ptr(),
            lists[3].as_ptr(),
            count,
            step,
        )
    })
}

unsafe extern "C" {
    fn munit_adam(
        parameters: *const *const C_tensor,
        gradients: *const *const C_tensor,
        means: *const *const C_tensor,
        mean_squares: *const *const C_tensor,
        count: usize,
        step: *const AdamStep,
    ) -> *mut c_char;
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: AdamStep = AdamStep {
        updates: 1.0,
        learning_rate: 0.1,
        beta1: 0.5,
        beta2: 0.75,
        weight_decay: 0.5,
        epsilon: 1e-8,
    };

    #[test]
    fn several_tensors_are_updated_together() {
        let all = |value: f32| [vec![value; 3], vec![value; 70]].map(|v| Tensor::from_slice(&v));
        let (parameters, means, squares) = (all(1.0), all(0.0), all(0.0));
        adam_step(&parameters, &all(2.0), &means, &squares, &STEP).unwrap();
        for ((parameter, mean), square) in parameters.iter().zip(&means).zip(&squares) {
            // Gradient 2 + 0.5 · 1 = 2.5; both corrected means give a step of 0.1 · 2.5 / 2.5.
            for (found, expected) in [(parameter, 0.9), (mean, 1.25), (square, 1.5625)] {
                let difference = (found - expected).abs().max().double_value(&[]);
                assert!(difference < 1e-6, "{found} is not {expected}");
            }
        }
        adam_step(&[], &[], &[], &[], &STEP).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let one = [Tensor::from_slice(&[1.0_f32])];
        let error = adam_step(&one, &one, &[], &one, &STEP).unwrap_err();
        assert!(error.to_string().contains("1 gradients"), "{error}");
        let whole = [Tensor::from_slice(&[1_i64])];
        assert!(adam_step(&whole, &whole, &whole, &whole, &STEP).is_err());
    }
}
