//! Figures of the networks as they are now, from a handful of pictures.

use anyhow::Result;
use munit::config::{Direction, Domain, Family, GanType};
use munit::networks::{Discriminator, Parameter};
use tch::{Kind, Tensor};

use super::figures;
use crate::trainer::{Pair, Trainer};

/// Pictures of each domain, at most: with them and the styles below a reading costs about as much as
/// two iterations of training with one picture each.
const PICTURES: i64 = 4;
/// Styles in which each picture is translated.
const STYLES: usize = 3;

/// The pictures and the styles of all readings of a run, so that readings can be compared.
#[derive(Debug)]
pub struct Probe {
    pictures: Pair<Tensor>,
    styles: Vec<Tensor>,
}

impl Probe {
    /// `pictures`: [N, C, H, W] in [-1, 1] for each domain; `styles`: [1, style_dim] each. The first
    /// few are taken.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(pictures: &Pair<Tensor>, styles: &[Tensor]) -> Result<Self> {
        let pictures = Pair::try_new(|domain| {
            let pictures = pictures.get(domain);
            let count = pictures.size()[0].min(PICTURES);
            anyhow::Ok(pictures.f_narrow(0, 0, count)?)
        })?;
        let styles = styles.iter().take(STYLES).map(Tensor::shallow_clone);
        Ok(Self {
            pictures,
            styles: styles.collect(),
        })
    }

    /// The figures of `trainer`'s networks by name, see [`figures::of`]. Nothing that is trained or saved
    /// changes.
    ///
    /// # Errors
    /// libtorch's, for instance out of memory.
    pub fn measure(&self, trainer: &Trainer) -> Result<Vec<(&'static str, f64)>> {
        let _no_grad = tch::no_grad_guard();
        let mut values = Vec::new();
        let mut translations = Vec::new();
        for direction in Direction::ALL {
            let translated = self.translate(trainer, direction)?;
            let pictures = self.pictures.get(direction.source());
            if let Some(diversity) = diversity(&translated)? {
                values.push((figures::diversity(direction), diversity));
            }
            let distances = translated
                .iter()
                .map(|translated| mean_difference(translated, pictures))
                .collect::<Result<Vec<f64>>>()?;
            let distance = distances.iter().sum::<f64>() / distances.len() as f64;
            values.push((figures::identity_distance(direction), distance));
            translations.push((direction.target(), translated));
        }
        if trainer.config().gan_w == 0.0 {
            return Ok(values);
        }
        translations.sort_by_key(|(domain, _)| domain.name());
        for (domain, translated) in translations {
            // One style is as good as another to a discriminator.
            if let Some(fake) = translated.first() {
                let real = self.pictures.get(domain);
                let accuracy = accuracy(trainer, domain, fake, real)?;
                values.push((figures::accuracy(domain), accuracy));
            }
        }
        Ok(values)
    }

    /// The pictures in each style, [N, C, H, W]; picture by picture, so that memory stays that of one.
    fn translate(&self, trainer: &Trainer, direction: Direction) -> Result<Vec<Tensor>> {
        let encoder = trainer.generators.get(direction.source());
        let decoder = trainer.generators.get(direction.target());
        let pictures = self.pictures.get(direction.source());
        let styles: Vec<Option<&Tensor>> = match trainer.config().architecture().family {
            Family::Munit => self.styles.iter().map(Some).collect(),
            Family::Unit => vec![None],
        };
        let mut translated: Vec<Vec<Tensor>> = styles.iter().map(|_| Vec::new()).collect();
        for index in 0..pictures.size()[0] {
            let content = encoder.encode_content(&pictures.f_narrow(0, index, 1)?)?;
            for (style, translated) in styles.iter().zip(&mut translated) {
                let style = style
                    .map(|style| style.f_to_device(content.device()))
                    .transpose()?;
                translated.push(decoder.decode(&content, style.as_ref())?);
            }
        }
        translated
            .iter()
            .map(|pictures| Ok(Tensor::f_cat(pictures, 0)?))
            .collect()
    }
}

/// Mean over all pairs of styles; `None` for less than two.
fn diversity(translated: &[Tensor]) -> Result<Option<f64>> {
    let mut differences = Vec::new();
    for (index, one) in translated.iter().enumerate() {
        for other in &translated[index + 1..] {
            differences.push(mean_difference(one, other)?);
        }
    }
    let count = differences.len() as f64;
    Ok((!differences.is_empty()).then(|| differences.iter().sum::<f64>() / count))
}

/// Mean absolute difference; pictures of one channel are compared with all three of the other.
fn mean_difference(one: &Tensor, other: &Tensor) -> Result<f64> {
    let difference = one.f_sub(other)?.f_abs()?.f_mean(Kind::Float)?;
    Ok(difference.f_double_value(&[])?)
}

/// Share of the scores of `domain`'s discriminator on the right side, over fakes and real pictures
/// alike. Its scales count alike, too.
fn accuracy(trainer: &Trainer, domain: Domain, fake: &Tensor, real: &Tensor) -> Result<f64> {
    let discriminator = trainer.discriminators.get(domain);
    let middle = match trainer.config().discriminator.gan_type {
        // Scores near 0 for fakes and near 1 for real pictures.
        GanType::Lsgan => 0.5,
        // Logits.
        _ => 0.0,
    };
    let _unchanged = Buffers::of(discriminator)?;
    let mut shares = Vec::new();
    for (pictures, is_real) in [(fake, false), (real, true)] {
        for scores in discriminator.forward(pictures)? {
            let right = match is_real {
                true => scores.f_gt(middle)?,
                false => scores.f_le(middle)?,
            };
            shares.push(right.f_to_kind(Kind::Float)?.f_mean(Kind::Float)?);
        }
    }
    let shares = Tensor::f_stack(&shares, 0)?.f_mean(Kind::Float)?;
    Ok(shares.f_double_value(&[])?)
}

/// Running statistics and power iterations, which every pass through a network moves, put back when
/// this goes out of scope.
struct Buffers<'n> {
    saved: Vec<(&'n Parameter, Tensor)>,
}

impl<'n> Buffers<'n> {
    fn of(discriminator: &'n Discriminator) -> Result<Self> {
        let buffers = discriminator.parameters().iter();
        let saved = buffers
            .filter(|parameter| !parameter.trainable)
            .map(|parameter| {
                let tensor = &parameter.tensor;
                Ok((parameter, tensor.f_to_dtype(tensor.kind(), false, true)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { saved })
    }
}

impl Drop for Buffers<'_> {
    fn drop(&mut self) {
        for (parameter, saved) in &self.saved {
            let mut tensor = parameter.tensor.shallow_clone();
            // Same shape, same device, as it was copied from it.
            let _ = tch::no_grad(|| tensor.f_copy_(saved));
        }
    }
}

#[cfg(test)]
mod tests {
    use munit::config::{DiscriminatorConfig, GeneratorConfig, Norm};
    use munit::networks::{Initialisation, normal};
    use tch::Device;

    use super::*;
    use crate::config::{TrainConfig, TrainerKind};
    use crate::recipe::Recipe;
    use crate::trainer::noise_generator;

    fn trainer(kind: TrainerKind, norm: Norm, init: Initialisation) -> Trainer {
        let tiny = TrainConfig::tiny(Recipe::Classic);
        let config = TrainConfig {
            trainer: kind,
            init,
            generator: GeneratorConfig {
                style_dim: 3,
                ..tiny.generator
            },
            discriminator: DiscriminatorConfig {
                norm,
                ..tiny.discriminator
            },
            crop_image_height: 32,
            crop_image_width: 32,
            ..tiny
        };
        Trainer::new(config, Device::Cpu, None).unwrap()
    }

    fn probe() -> Probe {
        let mut random = noise_generator(1, 2);
        let mut pictures = || {
            let noise = normal(&mut random, &[6, 3, 32, 32]).unwrap();
            noise.clamp(-1.0, 1.0)
        };
        let pictures = Pair {
            a: pictures(),
            b: pictures(),
        };
        let styles: Vec<Tensor> = (0..4)
            .map(|_| normal(&mut random, &[1, 3]).unwrap())
            .collect();
        Probe::new(&pictures, &styles).unwrap()
    }

    fn value(values: &[(&str, f64)], name: &str) -> f64 {
        values.iter().find(|(known, _)| *known == name).unwrap().1
    }

    #[test]
    fn figures_are_those_of_the_translations() {
        let trainer = trainer(TrainerKind::Munit, Norm::None, Initialisation::Kaiming);
        let probe = probe();
        let values = probe.measure(&trainer).unwrap();
        assert_eq!(values.len(), 6);
        let _no_grad = tch::no_grad_guard();
        let (gen_a, gen_b) = (&trainer.generators.a, &trainer.generators.b);
        let pictures = probe.pictures.a.narrow(0, 0, 4);
        let content = gen_a.encode_content(&pictures).unwrap();
        let translations: Vec<Tensor> = probe.styles[..3]
            .iter()
            .map(|style| gen_b.decode(&content, Some(&style.repeat([4, 1]))).unwrap())
            .collect();
        let l1 = |x: &Tensor, y: &Tensor| (x - y).abs().mean(Kind::Float).double_value(&[]);
        let [x, y, z] = &translations[..] else {
            panic!("three styles are expected");
        };
        let diversity = (l1(x, y) + l1(x, z) + l1(y, z)) / 3.0;
        let distance = translations.iter().map(|x| l1(x, &pictures)).sum::<f64>() / 3.0;
        for (name, expected) in [
            ("diversity_a2b", diversity),
            ("identity_distance_a2b", distance),
        ] {
            let found = value(&values, name);
            assert!(
                (found - expected).abs() < 1e-5,
                "{name}: {found}, {expected}"
            );
        }
    }

    #[test]
    fn networks_that_ignore_styles_have_no_diversity() {
        // Weights so small that nothing of the style arrives.
        let trainer = trainer(TrainerKind::Munit, Norm::None, Initialisation::Gaussian);
        let values = probe().measure(&trainer).unwrap();
        assert!(value(&values, "diversity_a2b") < 2.0 / 255.0, "{values:?}");
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        assert!(
            names.iter().all(|name| figures::is_figure(name)),
            "{names:?}"
        );
    }

    #[test]
    fn unit_has_no_styles() {
        let trainer = trainer(TrainerKind::Unit, Norm::None, Initialisation::Kaiming);
        let values = probe().measure(&trainer).unwrap();
        assert_eq!(values.len(), 4);
        assert!(value(&values, "identity_distance_b2a") > 0.0);
    }

    #[test]
    fn accuracy_counts_scores_on_the_right_side() {
        let trainer = trainer(TrainerKind::Munit, Norm::None, Initialisation::Kaiming);
        let bias = |scale: i64, value: f64| {
            let _no_grad = tch::no_grad_guard();
            for parameter in trainer.discriminators.a.parameters() {
                let mut tensor = parameter.tensor.shallow_clone();
                if parameter.name.starts_with(&format!("cnns.{scale}.2.")) {
                    let _ = tensor.fill_(if parameter.name.ends_with("bias") {
                        value
                    } else {
                        0.0
                    });
                }
            }
        };
        let probe = probe();
        for (scores, expected) in [([0.4, 0.3], 0.5), ([0.9, 0.9], 0.5)] {
            bias(0, scores[0]);
            bias(1, scores[1]);
            let values = probe.measure(&trainer).unwrap();
            assert_eq!(value(&values, "dis_accuracy_a"), expected);
        }
        // The same picture cannot be told from itself; two constants can.
        let picture = |value: f64| Tensor::full([1, 3, 32, 32], value, (Kind::Float, Device::Cpu));
        let score = |parameters: &[(&str, f64)]| {
            let _no_grad = tch::no_grad_guard();
            for parameter in trainer.discriminators.b.parameters() {
                let mut tensor = parameter.tensor.shallow_clone();
                let value = parameters
                    .iter()
                    .find(|(end, _)| parameter.name.ends_with(end))
                    .map_or(0.0, |(_, value)| *value);
                let _ = tensor.fill_(value);
            }
        };
        score(&[("weight", 0.1), ("bias", 0.0)]);
        let told = |fake, real| {
            let _no_grad = tch::no_grad_guard();
            accuracy(&trainer, Domain::B, &picture(fake), &picture(real)).unwrap()
        };
        assert_eq!(told(-1.0, 1.0), 1.0);
        assert_eq!(told(1.0, -1.0), 0.0);
    }

    #[test]
    fn a_reading_changes_nothing() {
        for norm in [Norm::Batch, Norm::Spectral] {
            let trainer = trainer(TrainerKind::Munit, norm, Initialisation::Kaiming);
            let state = || {
                let discriminators = &trainer.discriminators;
                let parameters = discriminators.a.parameters().iter();
                let parameters = parameters.chain(discriminators.b.parameters());
                let values = parameters.map(|parameter| parameter.tensor.reshape([-1]));
                let values = values.collect::<Vec<_>>();
                Vec::<f32>::try_from(Tensor::cat(&values, 0).detach()).unwrap()
            };
            let before = state();
            let first = probe().measure(&trainer).unwrap();
            assert_eq!(before, state());
            assert_eq!(probe().measure(&trainer).unwrap(), first);
        }
    }
}
