//! The Fréchet distance of two sets of feature vectors (arXiv 1706.08500).

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

/// Fréchet distance between the normal distributions with the means and (unbiased) covariances of
/// the rows of `left` [N, D] and `right` [M, D]: |μ − μ'|² + tr(Σ + Σ' − 2(ΣΣ')^½).
///
/// The trace of (ΣΣ')^½ is the sum of the singular values of X·Yᵀ, where XᵀX = Σ and YᵀY = Σ': no
/// root of a matrix is taken, whatever the sets' sizes and ranks.
///
/// # Errors
/// Fewer than two vectors in a set; other lengths; libtorch's.
pub fn frechet_distance(left: &Tensor, right: &Tensor) -> Result<f64> {
    let (left_mean, left_root) = moments(left)?;
    let (right_mean, right_root) = moments(right)?;
    let between = left_mean
        .f_sub(&right_mean)?
        .f_square()?
        .f_sum(Kind::Double)?;
    let traces = [&left_root, &right_root]
        .map(|root| Ok(root.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?));
    let [left_trace, right_trace]: [Result<f64>; 2] = traces;
    let product = left_root.f_matmul(&right_root.f_tr()?)?;
    let shared = product.f_linalg_norm_ord_str("nuc", [0, 1].as_slice(), false, None)?;
    let distance = between.f_double_value(&[])? + left_trace? + right_trace?
        - 2.0 * shared.f_double_value(&[])?;
    // Rounding may leave less than nothing between equal sets.
    Ok(distance.max(0.0))
}

/// Mean [D], and X [at most D, D] with XᵀX = the covariance.
fn moments(vectors: &Tensor) -> Result<(Tensor, Tensor)> {
    let &[count, length] = vectors.size().as_slice() else {
        anyhow::bail!(
            "feature vectors have shape {:?}; expected [N, D]",
            vectors.size()
        );
    };
    ensure!(count >= 2, "{count} feature vectors have no covariance");
    let vectors = vectors.f_to_kind(Kind::Double)?;
    let mean = vectors.f_mean_dim([0i64].as_slice(), false, Kind::Double)?;
    let centred = vectors
        .f_sub(&mean)?
        .f_div_scalar(((count - 1) as f64).sqrt())?;
    // An orthogonal factor on the left changes neither covariance nor singular values.
    let root = if count > length {
        Tensor::f_linalg_qr(&centred, "r")?.1
    } else {
        centred
    };
    Ok((mean, root))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// Points whose mean is `mean` and whose covariance is diagonal with these entries, exactly.
    fn cross(mean: &[f64], variances: &[f64]) -> Tensor {
        let count = 2 * variances.len();
        let mut points = Vec::new();
        for (axis, variance) in variances.iter().enumerate() {
            let reach = (variance * (count - 1) as f64 / 2.0).sqrt();
            for sign in [-1.0, 1.0] {
                let mut point = mean.to_vec();
                point[axis] += sign * reach;
                points.extend(point);
            }
        }
        Tensor::from_slice(&points).reshape([count as i64, mean.len() as i64])
    }

    #[track_caller]
    fn assert_near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-9 * expected.max(1.0),
            "{found} {expected}"
        );
    }

    #[test]
    fn normals_along_the_axes_have_a_closed_form() {
        let (left_mean, right_mean) = ([1.0f64, -2.0, 0.5], [0.0, 1.0, 2.0]);
        let (left, right) = ([4.0, 0.25, 9.0], [1.0, 1.0, 16.0]);
        let between: f64 = left_mean
            .iter()
            .zip(right_mean)
            .map(|(a, b)| (a - b).powi(2))
            .sum();
        let roots = left
            .iter()
            .zip(&right)
            .map(|(a, b): (&f64, &f64)| (a.sqrt() - b.sqrt()).powi(2));
        let expected = between + roots.sum::<f64>();
        let [left, right] = [cross(&left_mean, &left), cross(&right_mean, &right)];
        assert_near(frechet_distance(&left, &right).unwrap(), expected);
        assert_near(frechet_distance(&right, &left).unwrap(), expected);
        assert_near(frechet_distance(&left, &left).unwrap(), 0.0);
    }

    #[test]
    fn covariances_that_do_not_commute_agree_with_the_root_of_their_product() {
        // In the plane the trace of a root is √(tr + 2√det).
        let points = |seed: f64, count: i64| {
            let places = Tensor::arange(2 * count, (Kind::Double, Device::Cpu)) + seed;
            (places * 12.9898).sin().reshape([count, 2]) * Tensor::from_slice(&[1.0, seed])
        };
        let (left, right) = (points(0.3, 7), points(2.5, 40));
        let covariance = |points: &Tensor| {
            let mean = points.mean_dim([0i64].as_slice(), true, Kind::Double);
            let centred = points - mean;
            centred.tr().matmul(&centred) / (points.size()[0] - 1) as f64
        };
        let (a, b) = (covariance(&left), covariance(&right));
        let value = |m: &Tensor, y: i64, x: i64| m.double_value(&[y, x]);
        let determinant =
            |m: &Tensor| value(m, 0, 0) * value(m, 1, 1) - value(m, 0, 1) * value(m, 1, 0);
        let trace = |m: &Tensor| value(m, 0, 0) + value(m, 1, 1);
        let product = a.matmul(&b);
        let root = (trace(&product) + 2.0 * determinant(&product).sqrt()).sqrt();
        let means = [&left, &right].map(|set| set.mean_dim([0i64].as_slice(), false, Kind::Double));
        let between = (&means[0] - &means[1])
            .square()
            .sum(Kind::Double)
            .double_value(&[]);
        let expected = between + trace(&a) + trace(&b) - 2.0 * root;
        assert_near(frechet_distance(&left, &right).unwrap(), expected);
    }

    #[test]
    fn one_vector_is_no_distribution() {
        let one = cross(&[0.0], &[1.0]).narrow(0, 0, 1);
        assert!(
            frechet_distance(&one, &one)
                .unwrap_err()
                .to_string()
                .contains("covariance")
        );
    }
}
