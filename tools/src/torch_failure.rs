//! Failures of libtorch that tch makes panics of.
//!
//! A function of tch 0.24 that takes a number, `f_mul_scalar` for instance, drops this number before it
//! looks whether libtorch has failed; the drop takes the failure for one of its own, and panics.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use munit::Error;
use munit::picture_file::panic_text;
use tch::TchError;

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What `compute` returns, or libtorch's failure, if it has panicked for that. It is not told on standard
/// error, as panics are.
///
/// # Errors
/// Those of `compute`, and [`Error::Torch`].
pub fn as_errors<T, E: From<Error>>(compute: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !(IS_CAUGHT.get() && text_of(info).as_deref().and_then(failure).is_some()) {
                usual(info);
            }
        }));
    });
    let (was_caught, gradients) = (IS_CAUGHT.replace(true), are_gradients_enabled());
    let outcome = panic::catch_unwind(AssertUnwindSafe(compute));
    IS_CAUGHT.set(was_caught);
    outcome.unwrap_or_else(|panic| {
        // What tch does without them does not end with a panic.
        set_gradients_enabled(gradients);
        match failure(&panic_text(panic.as_ref())) {
            Some(text) => Err(Error::Torch(TchError::Torch(text)).into()),
            None => panic::resume_unwind(panic),
        }
    })
}

fn text_of(info: &PanicHookInfo) -> Option<String> {
    info.payload_as_str().map(str::to_owned)
}

/// The first line of libtorch's failure in the text of a panic, if that is what it is about.
fn failure(panic: &str) -> Option<String> {
    let (_, quoted) = panic.split_once("`Err` value: Torch(\"")?;
    let line = quoted.split("\\n").next().unwrap_or(quoted);
    Some(
        line.strip_suffix("\")")
            .unwrap_or(line)
            .replace("\\\"", "\""),
    )
}

fn are_gradients_enabled() -> bool {
    // SAFETY: sets a switch of this thread and back.
    unsafe {
        let before = torch_sys::at_grad_set_enabled(1);
        torch_sys::at_grad_set_enabled(before);
        before != 0
    }
}

fn set_gradients_enabled(enabled: bool) {
    // SAFETY: sets a switch of this thread.
    let _before = unsafe { torch_sys::at_grad_set_enabled(enabled.into()) };
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use tch::{Device, Kind, Tensor};

    use super::*;

    /// More memory than a computer has.
    fn too_much() -> Tensor {
        let one = Tensor::ones([1, 1], (Kind::Float, Device::Cpu));
        one.expand([1 << 24, 1 << 24], false)
    }

    #[test]
    fn a_failure_that_panics_is_an_error() {
        let huge = too_much();
        let error =
            as_errors(|| -> Result<Tensor> { Ok(tch::no_grad(|| huge.f_mul_scalar(2.0))?) });
        let error = error.unwrap_err();
        let found = error.downcast_ref::<Error>().unwrap();
        assert!(found.is_out_of_memory(), "{found}");
        assert!(!found.to_string().contains("frame #"), "{found}");
        // Gradients are computed as before.
        let leaf = Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        assert!((leaf * 2.0).requires_grad());
    }

    #[test]
    fn all_else_stays_what_it_is() {
        assert_eq!(as_errors(|| Result::<_>::Ok(3)).unwrap(), 3);
        let error = as_errors(|| -> Result<()> { anyhow::bail!("another") });
        assert_eq!(error.unwrap_err().to_string(), "another");
        let panic = panic::catch_unwind(|| as_errors(|| -> Result<()> { panic!("as it must") }));
        assert_eq!(panic_text(panic.unwrap_err().as_ref()), "as it must");
    }
}
