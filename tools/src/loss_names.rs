//! Which columns a run's `losses.csv` can have.

use anyhow::{Result, bail};
use munit::config::Family;

use crate::config::TrainConfig;
use crate::losses::GRADIENT_PENALTIES;
use crate::watch::figures;

/// The losses and figures that a run with `config` has, be it in some iterations only.
pub fn all(config: &TrainConfig) -> Vec<&'static str> {
    let mut names = vec!["gen_total"];
    let mut add = |is_there: bool, more: &[&'static str]| {
        if is_there {
            names.extend_from_slice(more);
        }
    };
    let family = config.architecture().family;
    let (munit, unit) = (family == Family::Munit, family == Family::Unit);
    let cycle = config.cycle_weight() > 0.0;
    let adversarial = config.gan_w > 0.0;
    add(adversarial, &["dis_a", "dis_b", "dis_total"]);
    add(adversarial && config.r1_w > 0.0, &GRADIENT_PENALTIES);
    add(config.reconstructs(), &["gen_recon_x_a", "gen_recon_x_b"]);
    let styles = munit && config.recon_s_w > 0.0;
    add(styles, &["gen_recon_s_a", "gen_recon_s_b"]);
    let contents = munit && (config.recon_c_w > 0.0 || cycle);
    add(contents, &["gen_recon_c_a", "gen_recon_c_b"]);
    add(unit, &["gen_recon_kl_a", "gen_recon_kl_b"]);
    add(munit && cycle, &["gen_cycrecon_x_a", "gen_cycrecon_x_b"]);
    add(unit && cycle, &["gen_cyc_x_a", "gen_cyc_x_b"]);
    add(unit, &["gen_recon_kl_cyc_aba", "gen_recon_kl_cyc_bab"]);
    add(adversarial, &["gen_adv_a", "gen_adv_b"]);
    add(config.vgg_w > 0.0, &["gen_vgg_a", "gen_vgg_b"]);
    let style = munit && config.vgg_style_w > 0.0;
    add(style, &["gen_vgg_style_a", "gen_vgg_style_b"]);
    add(config.paired_w > 0.0, &["gen_paired_a", "gen_paired_b"]);
    let pairs = ["gen_vgg_paired_a", "gen_vgg_paired_b"];
    add(config.vgg_paired_w > 0.0, &pairs);
    let consistency = ["gen_consistency_a", "gen_consistency_b"];
    add(config.consistency_w > 0.0, &consistency);
    let diversity = munit && config.diversity_weight(0) > 0.0;
    add(diversity, &["gen_diversity_a", "gen_diversity_b"]);
    let prior = munit && config.style_prior_w > 0.0 && config.batch_size > 1;
    add(prior, &["gen_style_prior_a", "gen_style_prior_b"]);
    names.extend(figures::of(config));
    names
}

/// Refuses a `keep_best` that no iteration has.
///
/// # Errors
/// A sentence with the nearest name that there is.
pub fn check_best(config: &TrainConfig) -> Result<()> {
    let Some(name) = &config.keep_best else {
        return Ok(());
    };
    let known = all(config);
    if known.contains(&name.as_str()) {
        return Ok(());
    }
    let nearest = known.into_iter().max_by(|one, other| {
        strsim::jaro_winkler(name, one).total_cmp(&strsim::jaro_winkler(name, other))
    });
    bail!(
        "keep_best is {name}, but this run has no such figure; the nearest is {}",
        nearest.unwrap_or_default()
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use munit::networks::normal;
    use tch::Device;

    use super::*;
    use crate::config::TrainerKind;
    use crate::recipe::Recipe;
    use crate::trainer::{Trainer, noise_generator};

    fn tiny(recipe: Recipe, trainer: TrainerKind) -> TrainConfig {
        TrainConfig {
            trainer,
            ..TrainConfig::tiny(recipe)
        }
    }

    #[test]
    fn a_first_iteration_has_all_losses_that_are_named() {
        for trainer in [TrainerKind::Munit, TrainerKind::Unit] {
            let modern = tiny(Recipe::Modern, trainer);
            for config in [
                tiny(Recipe::Classic, trainer),
                TrainConfig {
                    consistency_w: 1.0,
                    paired_w: 1.0,
                    ..modern.clone()
                },
                // What weighs nothing is left out.
                TrainConfig {
                    gan_w: 0.0,
                    recon_x_w: 0.0,
                    recon_s_w: 0.0,
                    recon_c_w: 0.0,
                    recon_x_cyc_w: Some(0.0),
                    paired_w: 1.0,
                    encoded_styles: 1.0,
                    ..modern.clone()
                },
                TrainConfig {
                    batch_size: 1,
                    diversity_share: 0.0,
                    r1_w: 0.0,
                    recon_x_cyc_w: Some(0.0),
                    ..modern
                },
            ] {
                let mut random = noise_generator(3, 0);
                let x = normal(&mut random, &[config.batch_size as i64, 3, 16, 16]).unwrap();
                let mut trainer = Trainer::new(config.clone(), Device::Cpu, None).unwrap();
                let losses = trainer
                    .step(&x, &x, &mut |shape| Ok(normal(&mut random, shape)?))
                    .unwrap()
                    .read()
                    .unwrap();
                let found: BTreeSet<&str> = losses.into_iter().map(|(name, _)| name).collect();
                let named = all(&config);
                let losses = named.iter().copied();
                let losses = losses.filter(|name| !figures::is_figure(name));
                assert_eq!(losses.collect::<BTreeSet<_>>(), found);
            }
        }
    }

    #[test]
    fn a_figure_that_no_iteration_has_is_refused_with_the_nearest() {
        let best = |name: &str, trainer| TrainConfig {
            keep_best: Some(name.to_owned()),
            vgg_w: 1.0,
            ..tiny(Recipe::Modern, trainer)
        };
        let munit = TrainerKind::Munit;
        for (config, nearest) in [
            (best("gen_recon_xb", munit), "gen_recon_x_b"),
            (best("gen_cyc_x_a", munit), "gen_cycrecon_x_a"),
            (best("diversity_b2a", TrainerKind::Unit), ""),
        ] {
            let sentence = check_best(&config).unwrap_err().to_string();
            assert!(sentence.starts_with("keep_best is "), "{sentence}");
            assert!(sentence.contains("no such figure"), "{sentence}");
            assert!(sentence.ends_with(nearest), "{sentence}");
        }
        // The second is there until its weight has fallen to nothing.
        for name in ["gen_vgg_a", "gen_diversity_a", "diversity_a2b", "dis_r1_b"] {
            check_best(&best(name, munit)).unwrap();
        }
        check_best(&tiny(Recipe::Classic, munit)).unwrap();
    }
}
