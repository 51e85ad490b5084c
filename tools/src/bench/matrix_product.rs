//! What a device reaches in the operation that it does best, to hold networks against.

use std::time::Instant;

use anyhow::Result;
use munit::runtime::Precision;
use tch::{Device, Kind, Tensor};

/// Rows and columns of the matrices.
const SIDE: i64 = 8192;

/// Products that are timed.
const PRODUCTS: usize = 12;

/// Floating-point operations per second, in 10¹², of a large matrix product on a CUDA device: the best
/// of several. `None` for the CPU, where it would take seconds.
///
/// # Errors
/// No memory.
pub fn matrix_product_teraflops(device: Device, precision: Precision) -> Result<Option<f64>> {
    let Device::Cuda(number) = device else {
        return Ok(None);
    };
    let _no_grad = tch::no_grad_guard();
    let kind = match precision {
        Precision::Fp16 => Kind::Half,
        Precision::Bf16 => Kind::BFloat16,
        Precision::Auto | Precision::Fp32 => Kind::Float,
    };
    let factors = [(); 2].map(|()| Tensor::f_randn([SIDE, SIDE], (kind, device)));
    let [left, right] = factors;
    let (left, right) = (left?, right?);
    let mut product = left.f_matmul(&right)?;
    tch::Cuda::synchronize(number as i64);
    let mut best = f64::INFINITY;
    for _ in 0..PRODUCTS {
        let begin = Instant::now();
        product = left.f_matmul_out(&product, &right)?;
        tch::Cuda::synchronize(number as i64);
        best = best.min(begin.elapsed().as_secs_f64());
    }
    Ok(Some(2.0 * (SIDE as f64).powi(3) / best / 1e12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gpus_are_measured() {
        let found = matrix_product_teraflops(Device::Cpu, Precision::Fp32);
        assert_eq!(found.unwrap(), None);
    }
}
