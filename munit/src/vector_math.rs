//! The vectorised functions of libtorch on the CPU, made ready before several threads call them.

use std::sync::Once;

use tch::{Device, Kind, Tensor};

/// Has MKL choose its kernels for the functions that networks take of whole tensors; once a process.
///
/// MKL chooses at the first call of each function. When several threads make that call at once, one
/// of them can get a kernel of low precision for its share (tanh with errors of 5e-5), without any
/// message: <https://github.com/pytorch/pytorch/issues/188792>, seen with the MKL 2024.2 that
/// libtorch 2.11 holds. A tensor of one element is worked on by one thread.
pub(crate) fn settle() {
    static SETTLED: Once = Once::new();
    SETTLED.call_once(|| {
        // Where there is no memory for one element, the network's own tensors will say so.
        let Ok(one) = Tensor::f_ones([1], (Kind::Float, Device::Cpu)) else {
            return;
        };
        for function in [Tensor::f_tanh, Tensor::f_sqrt, Tensor::f_exp, Tensor::f_log] {
            let _ = function(&one);
        }
    });
}
