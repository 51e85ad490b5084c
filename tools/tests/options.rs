//! Every option of the networks and losses through one training step.

use munit::config::{Activation, GanType, Norm, Padding};
use munit::networks::{Initialisation, normal};
use munit_tools::config::{TrainConfig, TrainerKind, TrainingPrecision};
use munit_tools::trainer::{Trainer, noise_generator};
use tch::{Device, Kind, Tensor};

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

/// Asserts that one step with `config` gives finite losses and moves both sides' weights.
#[track_caller]
fn trains(what: &str, config: TrainConfig) {
    // Networks this small only wait for one another's threads.
    tch::set_num_threads(1);
    let mut random = noise_generator(3, 0);
    let picture = |channels: i64, random: &mut _| {
        let (height, width) = (config.crop_image_height, config.crop_image_width);
        let shape = [
            config.batch_size as i64,
            channels,
            height as i64,
            width as i64,
        ];
        normal(random, &shape).unwrap().tanh()
    };
    let x_a = picture(config.input_dim_a, &mut random);
    let x_b = picture(config.input_dim_b, &mut random);

    let mut trainer = Trainer::new(config, Device::Cpu, None).unwrap();
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
        for (name, value) in losses {
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
        for gan_type in [GanType::Lsgan, GanType::Nsgan] {
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
fn both_families_train_in_both_precisions_on_colour_and_grey() {
    for trainer in [TrainerKind::Munit, TrainerKind::Unit] {
        for precision in [TrainingPrecision::Fp32, TrainingPrecision::Bf16] {
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
