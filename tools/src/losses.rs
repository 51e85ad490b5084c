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
        self.terms
            .iter()
            .map(|(name, value)| (*name, value))
            .chain(self.total.as_ref().map(|total| (total_name, total)))
            .map(|(name, value)| Ok((name, value.f_double_value(&[])?)))
            .collect()
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
