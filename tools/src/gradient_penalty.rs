//! R1: real pictures are to lie where the discriminator is level (arXiv 1801.04406, equation 9).

use anyhow::{Context, Result};
use munit::networks::{Discriminator, differentiable_twice};
use tch::{Kind, Tensor};

/// Half the squared length of the gradient of `discriminator`'s score at each of `pictures`
/// [B, C, H, W], averaged over them: a scalar. The score of a picture is, as in the losses, the mean
/// over patches, summed over scales. In float32 whatever `pictures` are in, since the squares of small
/// numbers are summed.
///
/// # Errors
/// libtorch's.
pub fn r1(discriminator: &Discriminator, pictures: &Tensor) -> Result<Tensor> {
    let pictures = pictures
        .f_detach()?
        .f_to_kind(Kind::Float)?
        .f_set_requires_grad(true)?;
    let scores = differentiable_twice(|| discriminator.forward(&pictures))?;
    let sums = scores
        .iter()
        .map(|score| {
            let means = score.f_mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float)?;
            Ok(means.f_sum(Kind::Float)?)
        })
        .collect::<Result<Vec<_>>>()?;
    let sum = Tensor::f_stack(&sums, 0)?.f_sum(Kind::Float)?;
    // Pictures do not share their scores, so that the gradient of the sum is that of each.
    let gradients = Tensor::f_run_backward(&[sum], &[&pictures], true, true)?;
    let gradient = gradients.first().context("no gradient of the scores")?;
    let squares =
        gradient
            .f_square()?
            .f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float)?;
    Ok(squares.f_mean(Kind::Float)?.f_mul_scalar(0.5)?)
}

#[cfg(test)]
mod tests {
    use munit::config::{DiscriminatorConfig, Norm};
    use munit::networks::{Initialisation, ParameterStore, normal};
    use tch::Device;

    use super::*;
    use crate::trainer::noise_generator;

    fn discriminator(norm: Norm) -> Discriminator {
        let config = DiscriminatorConfig {
            dim: 3,
            n_layer: 2,
            num_scales: 2,
            norm,
            ..DiscriminatorConfig::default()
        };
        let store = ParameterStore::random(Initialisation::Kaiming, 1, Device::Cpu);
        Discriminator::new(&config, 3, store).unwrap()
    }

    fn pictures() -> Tensor {
        normal(&mut noise_generator(2, 0), &[2, 3, 16, 16]).unwrap()
    }

    fn score(discriminator: &Discriminator, pictures: &Tensor) -> f64 {
        let scores = tch::no_grad(|| discriminator.forward(pictures)).unwrap();
        let means = scores
            .iter()
            .map(|score| score.to_kind(Kind::Double).mean(Kind::Double));
        means.map(|mean| mean.double_value(&[])).sum()
    }

    #[test]
    fn the_penalty_is_the_slope_measured_by_small_steps() {
        let (network, x) = (discriminator(Norm::None), pictures());
        let found = r1(&network, &x).unwrap().double_value(&[]);
        let step = 1e-2;
        let mut expected = 0.0;
        for sample in 0..2 {
            let own = x.narrow(0, sample, 1);
            for pixel in 0..own.numel() as i64 {
                let moved = |by: f64| {
                    let moved = own.copy();
                    let _ = moved.view([-1]).narrow(0, pixel, 1).g_add_scalar_(by);
                    score(&network, &moved)
                };
                let slope = (moved(step) - moved(-step)) / (2.0 * step);
                expected += 0.5 * slope * slope / 2.0;
            }
        }
        assert!(
            (found / expected - 1.0).abs() < 1e-2,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn weights_have_a_gradient_of_the_penalty_with_every_norm() {
        for norm in [Norm::None, Norm::Spectral, Norm::Instance, Norm::Layer] {
            let network = discriminator(norm);
            r1(&network, &pictures().to_kind(Kind::BFloat16))
                .unwrap()
                .backward();
            for parameter in network.parameters() {
                if parameter.trainable && parameter.name.ends_with("weight") {
                    let gradient = parameter.tensor.grad();
                    assert!(
                        gradient.abs().max().double_value(&[]) > 0.0,
                        "{norm:?}: {}",
                        parameter.name
                    );
                }
            }
        }
    }
}
