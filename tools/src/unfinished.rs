//! What a backward pass leaves behind when it fails.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Lets go of what a backward pass that has failed had still to do. libtorch keeps that, with all maps
/// that it needs, in a queue of the thread until another pass comes to it
/// (<https://github.com/pytorch/pytorch/pull/33157>), though nothing is made of it any more: memory
/// that whoever tells of the failure may be short of.
#[derive(Debug)]
pub struct Unfinished {
    leaf: Tensor,
    root: Tensor,
}

impl Unfinished {
    /// For passes over what is computed from now on in this thread.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new() -> Result<Self> {
        let leaf = Tensor::f_ones([0i64; 0], (Kind::Float, Device::Cpu))?;
        let leaf = leaf.f_set_requires_grad(true)?;
        Ok(Self {
            root: leaf.f_mul_scalar(1.0)?,
            leaf,
        })
    }

    /// Lets go of it.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forget(&self) -> Result<()> {
        // What was computed last comes first. So a pass from what was computed before everything else
        // comes to all that is left.
        Tensor::f_run_backward(&[&self.root], &[&self.leaf], true, false)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use munit::networks::on_gradient;

    use super::*;

    #[test]
    fn a_failed_pass_holds_nothing_once_it_is_forgotten() {
        let leaf = || Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let unfinished = Unfinished::new().unwrap();
        let (fails, still_to_come, map) = (leaf(), leaf(), leaf());
        on_gradient(&fails, |_| panic!("as it must")).unwrap();
        // Goes when the map does.
        let held = Arc::new(());
        let with_map = Arc::clone(&held);
        on_gradient(&map, move |_| assert!(Arc::strong_count(&with_map) > 0)).unwrap();
        let early = (&still_to_come * &map).sum(Kind::Float);
        let loss = early + (&fails * 2.0).sum(Kind::Float);
        let parameters = [&fails, &still_to_come];
        assert!(Tensor::f_run_backward(&[&loss], &parameters, false, false).is_err());
        drop((loss, map));
        assert_eq!(Arc::strong_count(&held), 2, "libtorch no longer keeps it");
        for _ in 0..2 {
            unfinished.forget().unwrap();
            assert_eq!(Arc::strong_count(&held), 1);
        }
    }
}
