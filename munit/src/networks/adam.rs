//! Adam in one pass over memory.

use std::ffi::c_char;
use std::ptr;

use tch::Tensor;
use torch_sys::C_tensor;

use super::kernels::check;
use crate::{Error, Result};

/// What one update needs beside its tensors.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep<'t> {
    /// Updates so far, this one included: a scalar, float32, on the parameters' device.
    pub updates: &'t Tensor,
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
    /// If gradients are those of a scaled loss.
    pub scaled: Option<ScaledLoss<'t>>,
}

/// The loss was multiplied before it was differentiated. Both are scalars, float32, on the parameters'
/// device, so that nothing has to wait until they can be read elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct ScaledLoss<'t> {
    /// By what: gradients are divided by it, where they lie, too.
    pub scale: &'t Tensor,
    /// 1 if the gradients are of no use, so that nothing is to change; else 0.
    pub overflow: &'t Tensor,
}

/// As in adam.cpp.
#[repr(C)]
struct Call {
    learning_rate: f64,
    beta1: f64,
    beta2: f64,
    weight_decay: f64,
    epsilon: f64,
    updates: *const C_tensor,
    scale: *const C_tensor,
    overflow: *const C_tensor,
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
    let [scale, overflow] = match step.scaled {
        Some(ScaledLoss { scale, overflow }) => [scale.as_ptr(), overflow.as_ptr()],
        None => [ptr::null(); 2],
    };
    let call = Call {
        learning_rate: step.learning_rate,
        beta1: step.beta1,
        beta2: step.beta2,
        weight_decay: step.weight_decay,
        epsilon: step.epsilon,
        updates: step.updates.as_ptr(),
        scale,
        overflow,
    };
    // SAFETY: each list holds `count` tensors that outlive the call, as those of `step` do.
    check(unsafe {
        munit_adam(
            lists[0].as_ptr(),
            lists[1].as_ptr(),
            lists[2].as_ptr(),
            lists[3].as_ptr(),
            count,
            &raw const call,
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
        call: *const Call,
    ) -> *mut c_char;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(updates: &Tensor) -> AdamStep<'_> {
        AdamStep {
            updates,
            learning_rate: 0.1,
            beta1: 0.5,
            beta2: 0.75,
            weight_decay: 0.5,
            epsilon: 1e-8,
            scaled: None,
        }
    }

    fn all(value: f32) -> [Tensor; 2] {
        [vec![value; 3], vec![value; 70]].map(|values| Tensor::from_slice(&values))
    }

    #[track_caller]
    fn assert_all(found: &[Tensor; 2], expected: f64) {
        for found in found {
            let difference = (found - expected).abs().max().double_value(&[]);
            assert!(difference < 1e-6, "{found} is not {expected}");
        }
    }

    #[test]
    fn several_tensors_are_updated_together() {
        let (parameters, means, squares) = (all(1.0), all(0.0), all(0.0));
        let first = Tensor::from(1.0_f32);
        adam_step(&parameters, &all(2.0), &means, &squares, &step(&first)).unwrap();
        // Gradient 2 + 0.5 · 1 = 2.5; both corrected means give a step of 0.1 · 2.5 / 2.5.
        assert_all(&parameters, 0.9);
        assert_all(&means, 1.25);
        assert_all(&squares, 1.5625);
        adam_step(&[], &[], &[], &[], &step(&first)).unwrap();
    }

    #[test]
    fn gradients_of_a_scaled_loss_are_divided_and_those_of_no_use_change_nothing() {
        let (parameters, means, squares) = (all(1.0), all(0.0), all(0.0));
        let (first, scale) = (Tensor::from(1.0_f32), Tensor::from(1024.0_f32));
        let update = |gradient: f32, overflow: f32| {
            let gradients = all(gradient);
            let scaled = Some(ScaledLoss {
                scale: &scale,
                overflow: &Tensor::from(overflow),
            });
            let step = AdamStep {
                scaled,
                ..step(&first)
            };
            adam_step(&parameters, &gradients, &means, &squares, &step).unwrap();
            gradients
        };
        for useless in [f32::INFINITY, f32::NAN, 2048.0] {
            let _gradients = update(useless, 1.0);
            assert_all(&parameters, 1.0);
            assert_all(&means, 0.0);
            assert_all(&squares, 0.0);
        }
        let gradients = update(2048.0, 0.0);
        assert_all(&gradients, 2.0);
        assert_all(&parameters, 0.9);
        assert_all(&means, 1.25);
        assert_all(&squares, 1.5625);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let first = Tensor::from(1.0_f32);
        let one = [Tensor::from_slice(&[1.0_f32])];
        let error = adam_step(&one, &one, &[], &one, &step(&first)).unwrap_err();
        assert!(error.to_string().contains("1 gradients"), "{error}");
        let whole = [Tensor::from_slice(&[1_i64])];
        assert!(adam_step(&whole, &whole, &whole, &whole, &step(&first)).is_err());
    }
}
