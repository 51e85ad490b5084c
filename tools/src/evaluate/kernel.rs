//! The kernel distance of two sets of feature vectors, known as KID (arXiv 1801.01401).

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

/// Rows of a kernel matrix that are in memory at a time.
const ROWS: i64 = 512;

/// The unbiased estimate of the squared maximum mean discrepancy between the rows of `left` [N, D]
/// and `right` [M, D] under the kernel (x·y / D + 1)³. It may be below zero, where the sets are as
/// alike as two draws from one distribution.
///
/// # Errors
/// Fewer than two vectors in a set; libtorch's.
pub fn kernel_distance(left: &Tensor, right: &Tensor) -> Result<f64> {
    let (n, m) = (left.size()[0], right.size()[0]);
    ensure!(
        n >= 2 && m >= 2,
        "the kernel distance needs two vectors on each side"
    );
    let (left, right) = (
        left.f_to_kind(Kind::Double)?,
        right.f_to_kind(Kind::Double)?,
    );
    let pairs = |count: i64| (count * (count - 1)) as f64;
    // Of a set with itself, no vector is compared with itself.
    let within = |set: &Tensor| Ok::<_, anyhow::Error>(sum(set, set)? - own(set)?);
    Ok(within(&left)? / pairs(n) + within(&right)? / pairs(m)
        - 2.0 * sum(&left, &right)? / (n * m) as f64)
}

fn kernel(products: &Tensor, length: i64) -> Result<Tensor> {
    Ok(products
        .f_div_scalar(length as f64)?
        .f_add_scalar(1.0)?
        .f_pow_tensor_scalar(3)?)
}

/// Sum of the kernel over all pairs.
fn sum(left: &Tensor, right: &Tensor) -> Result<f64> {
    let transposed = right.f_tr()?;
    let mut sum = 0.0;
    let mut start = 0;
    while start < left.size()[0] {
        let count = ROWS.min(left.size()[0] - start);
        let products = left.f_narrow(0, start, count)?.f_matmul(&transposed)?;
        let values = kernel(&products, left.size()[1])?;
        sum += values.f_sum(Kind::Double)?.f_double_value(&[])?;
        start += count;
    }
    Ok(sum)
}

/// Sum of the kernel of each vector with itself.
fn own(set: &Tensor) -> Result<f64> {
    let products = set
        .f_square()?
        .f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?;
    let values = kernel(&products, set.size()[1])?;
    Ok(values.f_sum(Kind::Double)?.f_double_value(&[])?)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn it_is_that_of_a_double_loop() {
        let set = |count: i64, seed: f64| {
            let places = Tensor::arange(count * 5, (Kind::Double, Device::Cpu)) + seed;
            ((places * 12.9898).sin() * 2.0).reshape([count, 5])
        };
        // More rows than are in memory at a time.
        let (left, right) = (set(530, 0.0), set(7, 1.7));
        let vectors = |set: &Tensor| -> Vec<Vec<f64>> {
            (0..set.size()[0])
                .map(|row| Vec::try_from(set.get(row)).unwrap())
                .collect()
        };
        let (x, y) = (vectors(&left), vectors(&right));
        let kernel = |a: &[f64], b: &[f64]| {
            let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            (product / 5.0 + 1.0).powi(3)
        };
        let mean = |left: &[Vec<f64>], right: &[Vec<f64>], itself: bool| {
            let (mut sum, mut count) = (0.0, 0.0);
            for (i, a) in left.iter().enumerate() {
                for (j, b) in right.iter().enumerate() {
                    if !itself || i != j {
                        sum += kernel(a, b);
                        count += 1.0;
                    }
                }
            }
            sum / count
        };
        let expected = mean(&x, &x, true) + mean(&y, &y, true) - 2.0 * mean(&x, &y, false);
        let found = kernel_distance(&left, &right).unwrap();
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        assert!(kernel_distance(&left, &left.narrow(0, 0, 1)).is_err());
    }
}
