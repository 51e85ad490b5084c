//! The terms of the published losses.

use anyhow::Result;
use munit::config::GanType;
use tch::{Kind, Reduction, Tensor};

/// Named scalars, in the order in which they are logged, and their weighted sum.
#[derive(Debug, Default)]
pub struct Terms {
    terms: Vec<(&'static str, Tensor)>,
    total: Option<Tensor>,
}

impl Terms {
    /// Adds `weight · value` to the total and remembers `value` under `name`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn add(&mut self, name: &'static str, weight: f64, value: Tensor) -> Result<()> {
        let weighted = value.f_mul_scalar(weight)?;
        self.total = Some(match self.total.take() {
            Some(total) => total.f_add(&weighted)?,
            None => weighted,
        });
        self.terms.push((name, value));
        Ok(())
    }

    /// The weighted sum, a scalar; `None` without terms.
    pub fn total(&self) -> Option<&Tensor> {
        self.total.as_ref()
    }

    /// Each term's value, and the weighted sum under `total_name`. Waits for the device.
    ///
    /// # Errors
    /// libtorch's.
    pub fn values(&self, total_name: &'static str) -> Result<Vec<(&'static str, f64)>> {
        let (names, scalars): (Vec<_>, Vec<_>) = self
            .terms
            .iter()
            .map(|(name, value)| (*name, value))
            .chain(self.total.as_ref().map(|total| (total_name, total)))
            .unzip();
        // Together, since each copy from a device waits for all that it has to do.
        let values = Tensor::f_stack(&scalars, 0)?.f_to_kind(Kind::Double)?;
        Ok(names
            .into_iter()
            .zip(Vec::<f64>::try_from(values)?)
            .collect())
    }
}

/// Mean absolute difference, a scalar.
///
/// One kernel rather than three, above all because its gradient keeps the memory layout of `x`:
/// norms have a fast backward pass only where gradient and map are laid out alike.
///
/// # Errors
/// libtorch's.
pub fn l1(x: &Tensor, target: &Tensor) -> Result<Tensor> {
    let (x, target) = (x.f_to_kind(Kind::Float)?, target.f_to_kind(Kind::Float)?);
    Ok(x.f_l1_loss(&target, Reduction::Mean)?)
}

/// UNIT's divergence of a latent code from the standard normal, up to constants: mean(h²).
///
/// # Errors
/// libtorch's.
pub fn kl(latent: &Tensor) -> Result<Tensor> {
    Ok(latent.f_square()?.f_mean(Kind::Float)?)
}

/// What the discriminator minimises, summed over scales: fakes towards 0, real pictures towards 1.
///
/// # Errors
/// libtorch's.
pub fn discriminator_loss(gan_type: GanType, fake: &[Tensor], real: &[Tensor]) -> Result<Tensor> {
    let towards = |scores: &[Tensor], target| adversarial(gan_type, scores, target);
    Ok(towards(fake, 0.0)?.f_add(&towards(real, 1.0)?)?)
}

/// What the generator minimises, summed over scales: fakes towards 1.
///
/// # Errors
/// libtorch's.
pub fn generator_loss(gan_type: GanType, fake: &[Tensor]) -> Result<Tensor> {
    adversarial(gan_type, fake, 1.0)
}

fn adversarial(gan_type: GanType, scores: &[Tensor], target: f64) -> Result<Tensor> {
    let losses = scores
        .iter()
        .map(|score| {
            let score = score.f_to_kind(Kind::Float)?;
            Ok(match gan_type {
                GanType::Lsgan => score
                    .f_sub_scalar(target)?
                    .f_square()?
                    .f_mean(Kind::Float)?,
                GanType::Nsgan => {
                    let targets = score.f_full_like(target)?;
                    let (weight, positive) = (None::<Tensor>, None::<Tensor>);
                    score.f_binary_cross_entropy_with_logits(
                        &targets,
                        weight,
                        positive,
                        Reduction::Mean,
                    )?
                }
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::f_stack(&losses, 0)?.f_sum(Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(values: [f32; 2]) -> Tensor {
        Tensor::from_slice(&values)
    }

    fn assert_close(found: &Tensor, expected: f64) {
        let found = found.double_value(&[]);
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    #[test]
    fn least_squares_are_summed_over_scales() {
        let fake = [scores([1.0, 3.0]), scores([0.0, 2.0])];
        let real = [scores([1.0, 1.0]), scores([0.0, 1.0])];
        // (1 + 9) / 2 + (0 + 4) / 2, and 0 + (1 + 0) / 2.
        let loss = discriminator_loss(GanType::Lsgan, &fake, &real).unwrap();
        assert_close(&loss, 7.0 + 0.5);
        // (0 + 4) / 2 + (1 + 1) / 2.
        assert_close(&generator_loss(GanType::Lsgan, &fake).unwrap(), 3.0);
    }

    #[test]
    fn cross_entropy_of_logits() {
        let undecided = [scores([0.0, 0.0])];
        let two = 2.0_f64.ln();
        let loss = discriminator_loss(GanType::Nsgan, &undecided, &undecided).unwrap();
        assert_close(&loss, 2.0 * two);
        // −ln σ(s) = ln(1 + e^−s)
        let loss = generator_loss(GanType::Nsgan, &[scores([0.0, 3.0])]).unwrap();
        assert_close(&loss, (two + (-3.0_f64).exp().ln_1p()) / 2.0);
    }

    #[test]
    fn the_total_is_weighted_and_the_terms_are_not() {
        let mut terms = Terms::default();
        assert!(terms.total().is_none());
        let distance = l1(&scores([1.0, 2.0]), &scores([0.0, 4.0])).unwrap();
        terms.add("distance", 10.0, distance).unwrap();
        terms
            .add("divergence", 0.5, kl(&scores([1.0, 3.0])).unwrap())
            .unwrap();
        assert_eq!(
            terms.values("total").unwrap(),
            [("distance", 1.5), ("divergence", 5.0), ("total", 17.5)]
        );
    }
}
