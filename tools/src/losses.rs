//! The terms of the published losses.

use anyhow::Result;
use munit::config::GanType;
use tch::{Kind, Reduction, Tensor};

use crate::ranks::Ranks;

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

    /// Each term's value, and the weighted sum under `total_name`.
    pub fn named<'t>(
        &'t self,
        total_name: &'static str,
    ) -> impl Iterator<Item = (&'static str, &'t Tensor)> {
        let total = self.total.iter().map(move |total| (total_name, total));
        let terms = self.terms.iter().map(|(name, value)| (*name, value));
        terms.chain(total)
    }
}

/// The losses that are computed in some iterations only: what R1 takes squared gradients of.
pub const GRADIENT_PENALTIES: [&str; 2] = ["dis_r1_a", "dis_r1_b"];

/// The losses of one iteration by name, where they were computed; names are those of the published
/// logs without `loss_`.
#[derive(Debug)]
pub struct StepLosses {
    names: Vec<&'static str>,
    values: Tensor,
}

impl StepLosses {
    /// Of scalars, which it detaches from what they were computed of.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new<'t>(losses: impl Iterator<Item = (&'static str, &'t Tensor)>) -> Result<Self> {
        let (names, values): (_, Vec<_>) = losses.unzip();
        let values = tch::no_grad(|| Tensor::f_stack(&values, 0))?;
        Ok(Self { names, values })
    }

    /// Their values. Waits for all that the device has to do.
    ///
    /// # Errors
    /// libtorch's.
    pub fn read(&self) -> Result<Vec<(&'static str, f64)>> {
        let values = self.numbers()?;
        Ok(self.names.iter().copied().zip(values).collect())
    }

    /// Makes them their means over all `ranks`; whether `stop` is true in any of these.
    ///
    /// # Errors
    /// Processes that are gone; libtorch's.
    pub fn agree(&mut self, ranks: &Ranks, stop: bool) -> Result<bool> {
        if ranks.count() == 1 {
            return Ok(stop);
        }
        let mut values = self.numbers()?;
        let stop = ranks.agree(&mut values, stop)?;
        self.values = Tensor::f_from_slice(&values)?;
        Ok(stop)
    }

    /// Those called `names`, one float32 each, where they were computed; `None` unless all are there.
    ///
    /// # Errors
    /// libtorch's.
    pub fn named(&self, names: &[&str]) -> Result<Option<Tensor>> {
        let place = |name: &&str| self.names.iter().position(|known| known == name);
        let Some(places) = names.iter().map(place).collect::<Option<Vec<usize>>>() else {
            return Ok(None);
        };
        let places: Vec<i64> = places.into_iter().map(|place| place as i64).collect();
        let places = Tensor::f_from_slice(&places)?.f_to_device(self.values.device())?;
        let named = self.values.f_index_select(0, &places)?;
        Ok(Some(named.f_to_kind(Kind::Float)?))
    }

    fn numbers(&self) -> Result<Vec<f64>> {
        Ok(Vec::<f64>::try_from(self.values.f_to_kind(Kind::Double)?)?)
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
    Ok(latent
        .f_to_kind(Kind::Float)?
        .f_square()?
        .f_mean(Kind::Float)?)
}

/// A drawn number is beyond this once in 370 times.
const FAR: f64 = 3.0;

/// How far the moments of encoded styles `[B, style_dim, 1, 1]` are from those of drawn ones, a scalar:
/// mean² + (mean square − 1)², averaged over the numbers of a code. Both squares are estimated from
/// pairs of different pictures, so that few pictures at once draw codes neither together nor apart;
/// the estimate of a distance of 0 varies around 0. `None` for one picture, which has no moments.
///
/// Numbers count as 3 at most, and the square of what they are beyond it is added: a picture whose
/// style is far from those of all others would else be driven further and further away, since a product
/// of its square and theirs falls without end as long as theirs are below 1.
///
/// The moments are those of all `ranks`' styles, of which each has equally many. The mean over the ranks
/// of what they return, and of its gradients, is what one process finds for all styles; what one of them
/// returns says nothing by itself.
///
/// # Errors
/// Processes that are gone; libtorch's.
pub fn style_prior(styles: &Tensor, ranks: &Ranks) -> Result<Option<Tensor>> {
    let processes = ranks.count() as i64;
    let count = styles.size()[0] * processes;
    if count < 2 {
        return Ok(None);
    }
    // Σᵢ≠ⱼ xᵢ xⱼ = (Σ x)² − Σ x², for the numbers and for their squares less 1.
    let near = styles.f_clamp(-FAR, FAR)?;
    let squares = near.f_square()?.f_sub_scalar(1.0)?;
    let beyond = styles.f_sub(&near)?.f_square()?.f_mean(Kind::Float)?;
    let off_prior = Tensor::f_stack(&[near, squares], 1)?;
    let sums = |x: &Tensor| x.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Float);
    let own = sums(&off_prior)?;
    let mut pairs = own.f_square()?.f_sub(&sums(&off_prior.f_square()?)?)?;
    if processes > 1 {
        // Pairs with styles of other processes count once here and once there, but their gradient
        // with respect to the styles here comes from here alone.
        let fixed = own.f_detach()?;
        let others = sum_over(ranks, &fixed)?.f_sub(&fixed)?;
        let crossing = own.f_mul_scalar(2.0)?.f_sub(&fixed)?.f_mul(&others)?;
        pairs = pairs.f_add(&crossing)?;
    }
    let pairs_of_both = pairs.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Float)?;
    let number = (count * (count - 1)) as f64 / processes as f64;
    Ok(Some(
        pairs_of_both
            .f_mean(Kind::Float)?
            .f_div_scalar(number)?
            .f_add(&beyond)?,
    ))
}

/// The sum over all `ranks` of `values`, of which no gradient is wanted.
fn sum_over(ranks: &Ranks, values: &Tensor) -> Result<Tensor> {
    let flat = values.f_to_kind(Kind::Double)?.f_reshape([-1])?;
    let mut numbers = Vec::<f64>::try_from(flat)?;
    ranks.agree(&mut numbers, false)?;
    let means = Tensor::f_from_slice(&numbers)?.f_reshape(values.size())?;
    let sums = means.f_mul_scalar(ranks.count() as f64)?;
    Ok(sums
        .f_to_kind(values.kind())?
        .f_to_device(values.device())?)
}

/// What scores are driven to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// A picture is fake, says the discriminator.
    Fake,
    /// A picture is real, says the discriminator.
    Real,
    /// A picture is to pass for real, says the generator.
    Passing,
}

/// What the discriminator minimises, summed over scales: scores of fakes and of real pictures are
/// driven apart.
///
/// # Errors
/// libtorch's.
pub fn discriminator_loss(gan_type: GanType, fake: &[Tensor], real: &[Tensor]) -> Result<Tensor> {
    let towards = |scores: &[Tensor], target| adversarial(gan_type, scores, target);
    Ok(towards(fake, Target::Fake)?.f_add(&towards(real, Target::Real)?)?)
}

/// What the generator minimises, summed over scales: fakes are to pass for real.
///
/// # Errors
/// libtorch's.
pub fn generator_loss(gan_type: GanType, fake: &[Tensor]) -> Result<Tensor> {
    adversarial(gan_type, fake, Target::Passing)
}

fn adversarial(gan_type: GanType, scores: &[Tensor], target: Target) -> Result<Tensor> {
    let number = if target == Target::Fake { 0.0 } else { 1.0 };
    let losses = scores
        .iter()
        .map(|score| {
            let score = score.f_to_kind(Kind::Float)?;
            Ok(match gan_type {
                GanType::Lsgan => score
                    .f_sub_scalar(number)?
                    .f_square()?
                    .f_mean(Kind::Float)?,
                GanType::Hinge => {
                    let mean = |x: Tensor| x.f_mean(Kind::Float);
                    match target {
                        Target::Fake => mean(score.f_add_scalar(1.0)?.f_relu()?)?,
                        Target::Real => mean(score.f_neg()?.f_add_scalar(1.0)?.f_relu()?)?,
                        Target::Passing => mean(score)?.f_neg()?,
                    }
                }
                GanType::Nsgan => {
                    let targets = score.f_full_like(number)?;
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
    fn the_hinge_is_flat_beyond_one_and_the_generator_knows_no_bound() {
        let fake = [scores([-2.0, 0.5]), scores([1.0, -1.0])];
        let real = [scores([2.0, 0.5]), scores([-1.0, 1.0])];
        // (0 + 1.5) / 2 + (2 + 0) / 2, and (0 + 0.5) / 2 + (2 + 0) / 2.
        let loss = discriminator_loss(GanType::Hinge, &fake, &real).unwrap();
        assert_close(&loss, 0.75 + 1.0 + 0.25 + 1.0);
        // −(−2 + 0.5) / 2 − (1 − 1) / 2.
        assert_close(&generator_loss(GanType::Hinge, &fake).unwrap(), 0.75);
    }

    #[test]
    fn a_style_far_from_all_others_is_drawn_back() {
        let mut styles = Tensor::from_slice(&[0.1f32, -0.2, 0.3, 4.0]).view([4, 1, 1, 1]);
        for _ in 0..400 {
            let variable = styles.detach().set_requires_grad(true);
            let distance = style_prior(&variable, &Ranks::alone()).unwrap().unwrap();
            distance.backward();
            styles = variable.detach() - variable.grad() * 0.05;
        }
        let largest = styles.abs().max().double_value(&[]);
        assert!(largest < 3.5, "{largest}");
    }

    #[test]
    fn moments_of_styles_are_compared_over_pairs() {
        // Three codes of two numbers.
        let styles = Tensor::from_slice(&[1.0_f32, 0.0, 2.0, 0.0, -1.0, 2.0]).view([3, 2, 1, 1]);
        // Pairs of the first number: 2, −1, −2; of its square less 1, 0, 3 and 0: 0, 0, 0. Of the
        // second: 0, 0, 0; of −1, −1 and 3: 1, −3, −3.
        let found = style_prior(&styles, &Ranks::alone()).unwrap().unwrap();
        assert_close(&found, (-1.0 / 3.0 - 5.0 / 3.0) / 2.0);
        let one = styles.narrow(0, 0, 1);
        assert!(style_prior(&one, &Ranks::alone()).unwrap().is_none());
    }

    #[test]
    fn styles_like_drawn_ones_are_where_they_should_be() {
        let drawn = |shift: f64, factor: f64| {
            let mut random = crate::trainer::noise_generator(5, 0);
            let styles = munit::networks::normal(&mut random, &[4000, 2, 1, 1]).unwrap();
            let distance = style_prior(&(styles * factor + shift), &Ranks::alone()).unwrap();
            distance.unwrap().double_value(&[])
        };
        assert!(drawn(0.0, 1.0).abs() < 0.01);
        // 1 + (1 + 1 − 1)². Of numbers twice as large the mean square is 3.11, as those beyond 3 count as 3:
        // (3.11 − 1)², and 0.18 for what they are beyond it.
        assert!((drawn(1.0, 1.0) - 2.0).abs() < 0.2);
        assert!((drawn(0.0, 2.0) - 4.65).abs() < 0.4);
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
        let losses = StepLosses::new(terms.named("total")).unwrap();
        assert_eq!(
            losses.read().unwrap(),
            [("distance", 1.5), ("divergence", 5.0), ("total", 17.5)]
        );
        let named = losses.named(&["total", "distance"]).unwrap().unwrap();
        assert_eq!(named, Tensor::from_slice(&[17.5_f32, 1.5]));
        assert!(losses.named(&["total", "other"]).unwrap().is_none());
    }
}
