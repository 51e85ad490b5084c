//! What is to happen as soon as a gradient is there.

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::Tensor;
use torch_sys::C_tensor;

use super::kernels::check;
use crate::Result;

type Hook = Box<dyn Fn(&Tensor) + Send + Sync>;

/// Calls `hook` with the whole gradient of `parameter` as soon as a backward pass has it, while the
/// pass goes on to others. The call comes from a thread of libtorch's; a panic in it is an error of
/// the backward pass.
///
/// # Errors
/// A tensor that is not trained, or that was computed from others.
pub fn on_gradient(
    parameter: &Tensor,
    hook: impl Fn(&Tensor) + Send + Sync + 'static,
) -> Result<()> {
    let hook: Box<Hook> = Box::new(Box::new(hook));
    // SAFETY: the tensor outlives the call; `call` and `release` take what `into_raw` gives, and C++
    // calls `release` once, after the last `call`.
    check(unsafe {
        munit_on_gradient(
            parameter.as_ptr(),
            call,
            release,
            Box::into_raw(hook).cast::<c_void>(),
        )
    })
}

/// # Safety
/// `hook` must be a [`Hook`] that has not been released, `gradient` a tensor.
unsafe extern "C" fn call(hook: *mut c_void, gradient: *const C_tensor) -> bool {
    // SAFETY: as the caller promises; the clone counts as one more user of the gradient.
    let (hook, gradient) = unsafe {
        (
            &*hook.cast::<Hook>(),
            Tensor::clone_from_ptr(gradient.cast_mut()),
        )
    };
    catch_unwind(AssertUnwindSafe(|| hook(&gradient))).is_ok()
}

/// # Safety
/// `hook` must be a [`Hook`] that nobody uses any more.
unsafe extern "C" fn release(hook: *mut c_void) {
    // SAFETY: as the caller promises.
    drop(unsafe { Box::from_raw(hook.cast::<Hook>()) });
}

unsafe extern "C" {
    fn munit_on_gradient(
        parameter: *const C_tensor,
        call: unsafe extern "C" fn(*mut c_void, *const C_tensor) -> bool,
        release: unsafe extern "C" fn(*mut c_void),
        data: *mut c_void,
    ) -> *mut c_char;
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tch::{Device, Kind};

    use super::*;

    fn parameter(value: f64) -> Tensor {
        Tensor::full([2], value, (Kind::Float, Device::Cpu)).set_requires_grad(true)
    }

    #[test]
    fn a_hook_is_called_once_with_the_sum_of_all_uses() {
        let (near, far) = (parameter(2.0), parameter(3.0));
        let seen = Arc::new(Mutex::new(Vec::new()));
        for (name, tensor) in [("near", &near), ("far", &far)] {
            let seen = Arc::clone(&seen);
            on_gradient(tensor, move |gradient| {
                let value = gradient.double_value(&[0]);
                seen.lock().unwrap().push((name, value));
            })
            .unwrap();
        }
        // near² · far, `near` being used once early and once late.
        let loss = || ((&near * &far).relu() * &near).sum(Kind::Float);
        let take = || {
            let mut seen = std::mem::take(&mut *seen.lock().unwrap());
            seen.sort_by_key(|(name, _)| *name);
            seen
        };
        loss().backward();
        assert_eq!(take(), [("far", 4.0), ("near", 12.0)]);
        // Also where gradients are returned and not added up, of those that are asked for.
        Tensor::run_backward(&[loss()], &[&near, &far], false, false);
        assert_eq!(take(), [("far", 4.0), ("near", 12.0)]);
        Tensor::run_backward(&[loss()], &[&far], false, false);
        assert_eq!(take(), [("far", 4.0)]);
        // Not while a parameter is not trained.
        let _ = near.set_requires_grad(false);
        loss().backward();
        assert_eq!(take(), [("far", 4.0)]);
        let _ = near.set_requires_grad(true);
        loss().backward();
        assert_eq!(take(), [("far", 4.0), ("near", 12.0)]);
    }

    #[test]
    fn a_hook_is_dropped_with_its_parameter() {
        let tensor = parameter(1.0);
        let held = Arc::new(());
        for _ in 0..2 {
            let held = Arc::clone(&held);
            on_gradient(&tensor, move |_| assert!(Arc::strong_count(&held) > 1)).unwrap();
        }
        tensor.sum(Kind::Float).backward();
        assert_eq!(Arc::strong_count(&held), 3);
        drop(tensor);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn failures_are_errors() {
        let tensor = parameter(1.0);
        on_gradient(&tensor, |_| panic!("as it must")).unwrap();
        let error = tensor.sum(Kind::Float).f_backward().unwrap_err();
        assert!(error.to_string().contains("failed unexpectedly"), "{error}");

        for untrained in [Tensor::from_slice(&[1.0_f32]), parameter(1.0) * 2.0] {
            let error = on_gradient(&untrained, |_| ()).unwrap_err();
            assert!(
                error.to_string().contains("only what is trained"),
                "{error}"
            );
        }
    }
}
