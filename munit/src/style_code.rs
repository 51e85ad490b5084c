//! Style codes: the short vectors that say what a picture looks like.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::{Error, Result};

/// A style code: `style_dim` finite numbers, standard normal under the prior.
/// UNIT models have the empty code.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StyleCode(Vec<f32>);

impl StyleCode {
    /// # Errors
    /// [`Error::Style`] if the length is not `style_dim` or a number is not finite.
    pub fn new(values: Vec<f32>, style_dim: usize) -> Result<Self> {
        if values.len() != style_dim {
            return Err(Error::Style(format!(
                "the style code has {} numbers, but this model's style codes have {style_dim}",
                values.len()
            )));
        }
        if let Some(position) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::Style(format!(
                "number {} of the style code is {}; style codes are made of finite numbers",
                position + 1,
                values[position]
            )));
        }
        Ok(Self(values))
    }

    /// A code that a person has written down.
    ///
    /// # Errors
    /// Those of [`Self::new`]; a number further from 0 than [`Self::LARGEST_WRITTEN`].
    pub fn written(values: Vec<f32>, style_dim: usize) -> Result<Self> {
        let code = Self::new(values, style_dim)?;
        let mut numbers = (1..).zip(code.values());
        match numbers.find(|(_, value)| value.abs() > Self::LARGEST_WRITTEN) {
            Some((position, value)) => Err(Error::Style(format!(
                "number {position} of the style code is {value:?}; styles lie around 0 with a deviation of \
                 about 1, so give numbers from -{0} to {0}",
                Self::LARGEST_WRITTEN
            ))),
            None => Ok(code),
        }
    }

    /// Far outside of the prior, whose deviation is 1, and of what encoders make of pictures.
    pub const LARGEST_WRITTEN: f32 = 100.0;

    /// A draw from the prior. The same seed gives the same code on every machine.
    pub fn sample(seed: u64, style_dim: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        Self(
            StandardNormal
                .sample_iter(&mut random)
                .take(style_dim)
                .collect(),
        )
    }

    /// The prior's mean: all zeros.
    pub fn zeros(style_dim: usize) -> Self {
        Self(vec![0.0; style_dim])
    }

    /// The numbers.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// Euclidean length.
    pub fn norm(&self) -> f32 {
        self.0.iter().map(|value| value * value).sum::<f32>().sqrt()
    }

    /// The point at `fraction` (0 is `self`, 1 is `other`) of a path whose norm goes evenly from
    /// one end's to the other's: the direction turns along the great circle (Shoemake's slerp)
    /// and the norm is interpolated linearly. A straight line between two draws of an
    /// 8-dimensional normal passes at 0.7 of their norm, where trained decoders look washed out.
    pub fn interpolate(&self, other: &Self, fraction: f32) -> Self {
        debug_assert_eq!(self.0.len(), other.0.len());
        let (norm, other_norm) = (self.norm(), other.norm());
        let mix = |left: f32, right: f32| {
            self.0
                .iter()
                .zip(&other.0)
                .map(|(a, b)| left * a + right * b)
                .collect()
        };
        let dot: f32 = self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum();
        let cosine = dot / (norm * other_norm);
        // No direction to turn (a zero code) or none to prefer (opposite codes, equal codes).
        if !cosine.is_finite() || cosine.abs() > 0.9995 {
            return Self(mix(1.0 - fraction, fraction));
        }
        let angle = cosine.acos();
        let length = norm + (other_norm - norm) * fraction;
        let left = ((1.0 - fraction) * angle).sin() / angle.sin() * length / norm;
        let right = (fraction * angle).sin() / angle.sin() * length / other_norm;
        Self(mix(left, right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_is_seeded_and_standard_normal() {
        assert_eq!(StyleCode::sample(7, 8), StyleCode::sample(7, 8));
        assert_ne!(StyleCode::sample(7, 8), StyleCode::sample(8, 8));
        let many: Vec<f32> = (0..2000)
            .flat_map(|seed| StyleCode::sample(seed, 8).0)
            .collect();
        let count = many.len() as f32;
        let mean = many.iter().sum::<f32>() / count;
        let variance = many.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / count;
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05,
            "{mean} {variance}"
        );
    }

    #[test]
    fn interpolation_meets_its_ends_and_keeps_the_norm() {
        let (from, to) = (StyleCode::sample(1, 8), StyleCode::sample(2, 8));
        for (fraction, end) in [(0.0, &from), (1.0, &to)] {
            let code = from.interpolate(&to, fraction);
            for (value, expected) in code.values().iter().zip(end.values()) {
                assert!((value - expected).abs() < 1e-5);
            }
        }
        for step in 0..=10 {
            let fraction = step as f32 / 10.0;
            let expected = from.norm() + (to.norm() - from.norm()) * fraction;
            assert!((from.interpolate(&to, fraction).norm() - expected).abs() < 1e-4);
        }
    }

    #[test]
    fn interpolation_survives_degenerate_codes() {
        let (code, zero) = (StyleCode::sample(3, 8), StyleCode::zeros(8));
        let opposite = StyleCode(code.0.iter().map(|value| -value).collect());
        for other in [&zero, &opposite, &code] {
            let middle = code.interpolate(other, 0.5);
            assert!(middle.values().iter().all(|value| value.is_finite()));
        }
    }

    #[test]
    fn wrong_codes_are_refused_with_a_sentence() {
        let error = StyleCode::new(vec![0.0; 3], 8).unwrap_err().to_string();
        assert!(error.contains('3') && error.contains('8'), "{error}");
        let error = StyleCode::new(vec![0.0, f32::NAN], 2)
            .unwrap_err()
            .to_string();
        assert!(error.contains("number 2"), "{error}");
        // What networks make of pictures is not judged.
        let far = vec![0.0, 100.0, -1e38];
        assert!(StyleCode::new(far.clone(), 3).is_ok());
        let error = StyleCode::written(far, 3).unwrap_err().to_string();
        assert!(error.contains("number 3"), "{error}");
        assert!(StyleCode::written(vec![100.0, -100.0], 2).is_ok());
    }
}
