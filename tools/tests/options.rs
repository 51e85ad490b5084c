//! Every option of the networks and losses through one training step.

use munit::config::{Activation, GanType, Norm, Padding};
use munit::networks::{Initialisation, normal};
use munit_tools::augmentation::Augmentation;
use munit_tools::config::{LearningRatePolicy, TrainConfig, TrainerKind, TrainingPrecision};
use munit_tools::loss_scale;
use munit_tools::recipe::Recipe;
use munit_tools::trainer::{Trainer, noise_generator};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

const PRECISIONS: [TrainingPrecision; 3] = [
    TrainingPrecision::Fp32,
    TrainingPrecision::Bf16,
    TrainingPrecision::Fp16,
];

/// Tiny networks, so that each step takes a moment.
fn tiny() -> TrainConfig {
    let mut config = TrainConfig {
        crop_image_height: 16,
        crop_image_width: 24,
        batch_size: 2,
        recon_x_cyc_w: Some(10.0),
        lr: 1e-3,
        ..TrainConfig::default()
    };
    config.generator.dim = 4;
    config.generator.mlp_dim = 8;
    config.generator.n_res = 1;
    config.discriminator.dim = 4;
    config.discriminator.n_layer = 2;
    config.discriminator.num_scales = 2;
    config
}

/// Pictures of both domains, the same for the same shapes.
fn pictures(config: &TrainConfig, random: &mut ChaCha8Rng) -> [Tensor; 2] {
    [config.input_dim_a, config.input_dim_b].map(|channels| {
        let (height, width) = (config.crop_image_height, config.crop_image_width);
        let batch = config.batch_size as i64;
        let shape = [batch, channels, height as i64, width as i64];
        normal(random, &shape).unwrap().tanh()
    })
}

/// Asserts that one step with `config` gives finite losses and moves both sides' weights.
#[track_caller]
fn trains(what: &str, config: TrainConfig) {
    // Networks this small only wait for one another's threads.
    tch::set_num_threads(1);
    let mut random = noise_generator(3, 0);
    let [x_a, x_b] = pictures(&config, &mut random);
    let mut trainer = Trainer::new(config, Device::Cpu, None).unwrap();
    set_loss_scale(&mut trainer, 64.0);
    let weights = |trainer: &Trainer| {
        [
            trainer.generator_parameters.vector().copy(),
            trainer.discriminator_parameters.vector().copy(),
        ]
    };
    let before = weights(&trainer);
    for iteration in 1..=2 {
        let losses = trainer
            .step(&x_a, &x_b, &mut |shape| Ok(normal(&mut random, shape)?))
            .unwrap_or_else(|error| panic!("{what}: {error:#}"));
        for (name, value) in losses.read().unwrap() {
            assert!(value.is_finite(), "{what}: {name} is {value}");
        }
        assert_eq!(trainer.iteration, iteration);
    }
    for (before, after) in before.iter().zip(weights(&trainer)) {
        assert!(all(&after.isfinite()), "{what}: weights are not finite");
        let moved = after.ne_tensor(before).mean(Kind::Float).double_value(&[]);
        assert!(moved > 0.5, "{what}: only {moved} of the weights moved");
    }
}

/// Gradients of pictures as small as these are large: with the scale of real runs some overflow.
fn set_loss_scale(trainer: &mut Trainer, scale: f32) {
    for adam in [
        &mut trainer.generator_optimiser,
        &mut trainer.discriminator_optimiser,
    ] {
        if let Some(loss_scale) = &mut adam.loss_scale {
            loss_scale.state = Tensor::from_slice(&[scale, 0.0]);
        }
    }
}

fn all(flags: &Tensor) -> bool {
    flags.all().int64_value(&[]) != 0
}

#[test]
fn every_initialisation_trains() {
    for init in [
        Initialisation::Gaussian,
        Initialisation::Kaiming,
        Initialisation::Xavier,
        Initialisation::Orthogonal,
        Initialisation::Default,
    ] {
        trains(&format!("{init:?}"), TrainConfig { init, ..tiny() });
    }
}

#[test]
fn every_norm_and_loss_of_the_discriminator_trains() {
    for norm in [
        Norm::None,
        Norm::Instance,
        Norm::Layer,
        Norm::Batch,
        Norm::Spectral,
    ] {
        for gan_type in [GanType::Lsgan, GanType::Nsgan, GanType::Hinge] {
            let mut config = tiny();
            config.discriminator.norm = norm;
            config.discriminator.gan_type = gan_type;
            trains(&format!("{norm:?} {gan_type:?}"), config);
        }
    }
}

#[test]
fn every_activation_trains() {
    for activation in [
        Activation::Relu,
        Activation::Lrelu,
        Activation::Prelu,
        Activation::Selu,
        Activation::Tanh,
        Activation::None,
    ] {
        let mut config = tiny();
        config.generator.activation = activation;
        config.discriminator.activation = activation;
        trains(&format!("{activation:?}"), config);
    }
}

#[test]
fn every_padding_trains() {
    for padding in [Padding::Reflect, Padding::Replicate, Padding::Zero] {
        let mut config = tiny();
        config.generator.padding = padding;
        config.discriminator.padding = padding;
        trains(&format!("{padding:?}"), config);
    }
}

#[test]
fn both_families_train_in_every_precision_on_colour_and_grey() {
    for trainer in [TrainerKind::Munit, TrainerKind::Unit] {
        for precision in PRECISIONS {
            let config = TrainConfig {
                trainer,
                precision,
                input_dim_a: 1,
                ..tiny()
            };
            trains(&format!("{trainer:?} {precision:?}"), config);
        }
    }
}

#[test]
fn the_smallest_crop_trains_with_every_norm() {
    for norm in [Norm::Instance, Norm::Layer, Norm::Batch] {
        let mut config = tiny();
        (config.crop_image_height, config.crop_image_width) = (16, 16);
        config.batch_size = 1;
        config.discriminator.norm = norm;
        config.discriminator.n_layer = 3;
        config.check().unwrap();
        trains(&format!("{norm:?}"), config);
    }
}

/// The modern recipe on tiny networks.
fn tiny_modern() -> TrainConfig {
    let tiny = tiny();
    let mut config = TrainConfig {
        crop_image_height: tiny.crop_image_height,
        crop_image_width: tiny.crop_image_width,
        batch_size: tiny.batch_size,
        lr: 1e-3,
        precision: TrainingPrecision::Fp32,
        max_iter: 20,
        r1_every: 2,
        ema_warmup: 1,
        generator: tiny.generator,
        ..TrainConfig::of_recipe(Recipe::Modern)
    };
    config.discriminator.dim = 4;
    config.discriminator.n_layer = 2;
    config.discriminator.num_scales = 2;
    config
}

#[test]
fn the_modern_recipe_trains_both_families_at_every_batch_size() {
    for trainer in [TrainerKind::Munit, TrainerKind::Unit] {
        for batch_size in [1, 2, 3] {
            for precision in PRECISIONS {
                let config = TrainConfig {
                    trainer,
                    batch_size,
                    precision,
                    consistency_w: 1.0,
                    paired_w: 1.0,
                    augment: vec![
                        Augmentation::Colour,
                        Augmentation::Translation,
                        Augmentation::Cutout,
                    ],
                    ..tiny_modern()
                };
                trains(&format!("{trainer:?} {batch_size} {precision:?}"), config);
            }
        }
    }
}

#[test]
fn a_picture_that_is_not_shifted_is_consistent() {
    for trainer in [TrainerKind::Munit, TrainerKind::Unit] {
        let config = TrainConfig {
            trainer,
            batch_size: 3,
            consistency_w: 1.0,
            consistency_noise: 0.0,
            augment: Vec::new(),
            ..tiny_modern()
        };
        let mut random = noise_generator(3, 0);
        let [x_a, x_b] = pictures(&config, &mut random);
        let mut trained = Trainer::new(config, Device::Cpu, None).unwrap();
        let mut consistency = |shift: f64| {
            let losses = trained.step(&x_a, &x_b, &mut |shape| match shape {
                // The shift, whose middle is none. Codes of UNIT get their noise all the same.
                [2] => Ok(Tensor::full([2], shift, (Kind::Float, Device::Cpu))),
                _ => Ok(normal(&mut random, shape)?),
            });
            let losses = losses.unwrap().read().unwrap();
            ["gen_consistency_a", "gen_consistency_b"].map(|term| {
                let (_, value) = losses.iter().find(|(name, _)| *name == term).unwrap();
                *value
            })
        };
        for none in consistency(0.0) {
            assert!(none < 1e-5, "{trainer:?}: {none}");
        }
        for some in consistency(1.0) {
            assert!(some > 1e-3, "{trainer:?}: {some}");
        }
    }
}

/// A trainer in this number format, and iterations of it that are alike for all formats.
fn formatted(
    config: TrainConfig,
    precision: TrainingPrecision,
) -> (
    Trainer,
    impl FnMut(&mut Trainer) -> Vec<(&'static str, f64)>,
) {
    tch::set_num_threads(1);
    let config = TrainConfig {
        precision,
        ..config
    };
    let [x_a, x_b] = pictures(&config, &mut noise_generator(3, 0));
    let trainer = Trainer::new(config, Device::Cpu, None).unwrap();
    let step = move |trainer: &mut Trainer| {
        let mut random = noise_generator(4, trainer.iteration);
        let losses = trainer
            .step(&x_a, &x_b, &mut |shape| Ok(normal(&mut random, shape)?))
            .unwrap();
        losses.read().unwrap()
    };
    (trainer, step)
}

#[test]
fn float16_follows_float32_more_closely_than_bfloat16() {
    for mut config in [tiny(), tiny_modern()] {
        // Without kinks, at which a little rounding makes a large difference.
        config.generator.activation = Activation::Tanh;
        config.discriminator.activation = Activation::Tanh;
        config.lr = 1e-4;
        let run = |precision| {
            let (mut trainer, mut step) = formatted(config.clone(), precision);
            set_loss_scale(&mut trainer, 64.0);
            let mut taken = Vec::new();
            for _ in 0..4 {
                let mut losses = step(&mut trainer);
                losses.retain(|(name, _)| !loss_scale::NAMES.contains(name));
                let gradients = [
                    trainer.generator_parameters.gradient().copy(),
                    trainer.discriminator_parameters.gradient().copy(),
                ];
                taken.push((losses, gradients));
            }
            taken
        };
        let expected = run(TrainingPrecision::Fp32);
        // Of each iteration, the largest difference of a loss, as a part of it, and of the gradients.
        let differences = |precision| -> Vec<[f64; 2]> {
            let pairs = run(precision).into_iter().zip(&expected);
            let of_iteration = pairs.map(|((losses, gradients), expected)| {
                let losses = losses.iter().zip(&expected.0).map(|(found, expected)| {
                    assert_eq!(found.0, expected.0);
                    (found.1 - expected.1).abs() / expected.1.abs().max(0.1)
                });
                let gradients = gradients.iter().zip(&expected.1).map(|(found, expected)| {
                    ((found - expected).norm() / expected.norm()).double_value(&[])
                });
                [losses.fold(0.0, f64::max), gradients.fold(0.0, f64::max)]
            });
            of_iteration.collect()
        };
        let [fp16, bf16] = [TrainingPrecision::Fp16, TrainingPrecision::Bf16].map(differences);
        let said = format!("float16 {fp16:?}, bfloat16 {bf16:?}");
        assert!(fp16.iter().all(|[losses, _]| *losses < 0.03), "{said}");
        // Signs of the smallest differences decide much of the gradient of an absolute difference.
        assert!(fp16[0][0] < 0.01 && fp16[0][1] < 0.1, "{said}");
        assert!(fp16[0][0] < bf16[0][0] && fp16[0][1] < bf16[0][1], "{said}");
    }
}

#[test]
fn overflows_are_passed_over_until_the_scale_has_fallen_far_enough() {
    let (mut trainer, mut step) = formatted(tiny_modern(), TrainingPrecision::Fp16);
    let state = |trainer: &Trainer| {
        [
            (&trainer.generator_optimiser, &trainer.generator_parameters),
            (
                &trainer.discriminator_optimiser,
                &trainer.discriminator_parameters,
            ),
        ]
        .map(|(adam, parameters)| {
            let scale = adam.loss_scale.as_ref().unwrap().scale().unwrap();
            let weights = [parameters.vector(), &adam.mean, &adam.mean_square].map(Tensor::copy);
            (
                scale.double_value(&[]),
                adam.updates.double_value(&[]),
                weights,
            )
        })
    };
    set_loss_scale(&mut trainer, 1e30);
    let average = trainer.ema.vector.copy();
    let mut before = state(&trainer);
    let mut skipped = [0, 0];
    for iteration in 1..=24 {
        let losses = step(&mut trainer);
        assert_eq!(trainer.iteration, iteration);
        assert!(
            losses.iter().all(|(_, value)| value.is_finite()),
            "{losses:?}"
        );
        let after = state(&trainer);
        let sides = skipped
            .iter_mut()
            .zip(&before)
            .zip(&after)
            .zip(["gen_loss_scale", "dis_loss_scale"]);
        for (((skipped, before), after), name) in sides {
            let logged = losses.iter().find(|(known, _)| *known == name);
            assert_eq!(logged, Some(&(name, after.0)));
            if after.0 < before.0 {
                *skipped += 1;
                assert_eq!(
                    (after.1, &after.2),
                    (before.1, &before.2),
                    "an overflow changes nothing"
                );
            } else {
                assert_eq!((after.0, after.1), (before.0, before.1 + 1.0));
                assert_ne!(after.2, before.2);
            }
        }
        before = after;
    }
    for (skipped, state) in skipped.iter().zip(&before) {
        assert!((2..20).contains(skipped), "{skipped} were passed over");
        assert_eq!(state.1, f64::from(24 - skipped));
        assert!(state.2.iter().all(|tensor| all(&tensor.isfinite())));
    }
    assert_ne!(trainer.ema.vector, average);
}

/// The weights of generators, their average and discriminators after three steps, and the names of
/// the losses of the first.
fn outcome(config: &TrainConfig) -> (Vec<Tensor>, Vec<&'static str>) {
    tch::set_num_threads(1);
    let mut random = noise_generator(3, 0);
    let [x_a, x_b] = pictures(config, &mut random);
    let mut trainer = Trainer::new(config.clone(), Device::Cpu, None).unwrap();
    let mut names = Vec::new();
    for iteration in 0..3 {
        let mut random = noise_generator(4, iteration);
        let losses = trainer
            .step(&x_a, &x_b, &mut |shape| Ok(normal(&mut random, shape)?))
            .unwrap();
        if iteration == 0 {
            let losses = losses.read().unwrap();
            names = losses.into_iter().map(|(name, _)| name).collect();
        }
    }
    let vectors = vec![
        trainer.generator_parameters.vector().copy(),
        trainer.ema.vector.copy(),
        trainer.discriminator_parameters.vector().copy(),
    ];
    (vectors, names)
}

#[test]
fn every_switch_of_the_modern_recipe_changes_what_is_learnt() {
    const GENERATORS: usize = 0;
    const AVERAGE: usize = 1;
    const DISCRIMINATORS: usize = 2;
    let (with, names) = outcome(&tiny_modern());
    assert_eq!(
        outcome(&tiny_modern()).0,
        with,
        "the same run ends the same"
    );
    type Switch = (
        &'static str,
        fn(&mut TrainConfig),
        usize,
        Option<&'static str>,
    );
    let switches: [Switch; 16] = [
        (
            "hinge",
            |c| c.discriminator.gan_type = GanType::Lsgan,
            DISCRIMINATORS,
            None,
        ),
        (
            "spectral norm",
            |c| c.discriminator.norm = Norm::None,
            DISCRIMINATORS,
            None,
        ),
        ("lr_dis", |c| c.lr_dis = None, DISCRIMINATORS, None),
        (
            "decay",
            |c| (c.lr_decay_share, c.max_iter) = (1.0, 4),
            GENERATORS,
            None,
        ),
        (
            "policy",
            |c| {
                (c.lr_policy, c.step_size) = (LearningRatePolicy::Step, 1);
            },
            GENERATORS,
            None,
        ),
        ("ema_decay", |c| c.ema_decay = 0.5, AVERAGE, None),
        ("ema_warmup", |c| c.ema_warmup = 3, AVERAGE, None),
        (
            "precision",
            |c| c.precision = TrainingPrecision::Bf16,
            GENERATORS,
            None,
        ),
        (
            "share_translations",
            |c| c.share_translations = false,
            GENERATORS,
            None,
        ),
        (
            "detach_content",
            |c| c.detach_content = false,
            GENERATORS,
            None,
        ),
        ("augment", |c| c.augment.clear(), DISCRIMINATORS, None),
        ("r1", |c| c.r1_w = 0.0, DISCRIMINATORS, Some("dis_r1_b")),
        (
            "encoded_styles",
            |c| c.encoded_styles = 0.0,
            GENERATORS,
            None,
        ),
        (
            "diversity",
            |c| c.diversity_w = 0.0,
            GENERATORS,
            Some("gen_diversity_a"),
        ),
        (
            "style_prior",
            |c| c.style_prior_w = 0.0,
            GENERATORS,
            Some("gen_style_prior_b"),
        ),
        ("consistency", |c| c.consistency_w = 1.0, GENERATORS, None),
    ];
    for (what, switch, moved, term) in switches {
        let mut config = tiny_modern();
        switch(&mut config);
        let (without, fewer) = outcome(&config);
        assert_ne!(without[moved], with[moved], "{what} changes nothing");
        if moved == AVERAGE {
            assert_eq!(without[GENERATORS], with[GENERATORS], "{what}");
        }
        if let Some(term) = term {
            assert!(names.contains(&term), "{what}: no {term} in {names:?}");
            assert!(!fewer.contains(&term), "{what}: {term} is still there");
        }
    }
    // Each change by itself, too.
    for change in [
        Augmentation::Colour,
        Augmentation::Translation,
        Augmentation::Cutout,
    ] {
        let mut config = tiny_modern();
        config.augment = vec![change];
        assert_ne!(outcome(&config).0[DISCRIMINATORS], with[DISCRIMINATORS]);
    }
}

#[test]
fn a_gradient_penalty_is_due_every_so_often() {
    let mut config = tiny_modern();
    config.r1_every = 3;
    let mut random = noise_generator(3, 0);
    let [x_a, x_b] = pictures(&config, &mut random);
    let mut trainer = Trainer::new(config, Device::Cpu, None).unwrap();
    let due: Vec<bool> = (0..5)
        .map(|_| {
            let losses = trainer
                .step(&x_a, &x_b, &mut |shape| Ok(normal(&mut random, shape)?))
                .unwrap();
            let losses = losses.read().unwrap();
            losses.iter().any(|(name, _)| *name == "dis_r1_a")
        })
        .collect();
    assert_eq!(due, [true, false, false, true, false]);
}
