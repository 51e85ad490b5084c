//! Iterations of training.

use std::fmt;
use std::time::Instant;

use anyhow::Result;
use munit::networks::normal;
use munit::runtime::{DeviceChoice, use_threads};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::statistics::Spread;
use crate::config::TrainConfig;
use crate::recipe::Recipe;
use crate::trainer::{Trainer, noise_generator};

/// Times of iterations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainResult {
    /// Channels after the first convolution of the generators; of the discriminators, too.
    pub dim: i64,
    /// Side of the pictures, in pixels.
    pub size: usize,
    /// Pictures of each domain in an iteration.
    pub batch: usize,
    /// Weight of the cycle.
    pub cycle: f64,
    /// Losses and schedule.
    #[serde(default)]
    pub recipe: Recipe,
    /// Number format of the networks' arithmetic.
    pub precision: String,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Processor threads.
    pub threads: usize,
    /// Milliseconds of each iteration after warm-up.
    pub ms: Vec<f64>,
}

/// Times `iterations` iterations after `warm_up` others, on random pictures of the size of the crops
/// of `config`.
///
/// # Errors
/// A configuration that no network fits; a device that is not there; no memory.
pub fn measure_training(
    config: &TrainConfig,
    device: DeviceChoice,
    threads: usize,
    warm_up: usize,
    iterations: usize,
) -> Result<TrainResult> {
    use_threads(threads);
    let device = device.resolve()?;
    let mut random = noise_generator(config.seed, 0);
    let mut picture = |channels: i64| -> Result<Tensor> {
        let (height, width) = (config.crop_image_height, config.crop_image_width);
        let shape = [
            config.batch_size as i64,
            channels,
            height as i64,
            width as i64,
        ];
        Ok(normal(&mut random, &shape)?.f_tanh()?)
    };
    let (x_a, x_b) = (picture(config.input_dim_a)?, picture(config.input_dim_b)?);
    let mut trainer = Trainer::new(config.clone(), device, None)?;
    let mut iterate = || -> Result<f64> {
        let begin = Instant::now();
        trainer.step(&x_a, &x_b, &mut |shape| Ok(normal(&mut random, shape)?))?;
        wait_for(device)?;
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    };
    for _ in 0..warm_up {
        iterate()?;
    }
    let ms = (0..iterations).map(|_| iterate()).collect::<Result<_>>()?;
    Ok(TrainResult {
        dim: config.generator.dim,
        size: config.crop_image_height,
        batch: config.batch_size,
        cycle: config.cycle_weight(),
        recipe: config.recipe,
        precision: serde_json::to_value(config.precision)?
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        device: match device {
            Device::Cuda(number) => format!("cuda:{number}"),
            _ => "cpu".to_owned(),
        },
        threads: usize::try_from(tch::get_num_threads()).unwrap_or(1),
        ms,
    })
}

/// Waits until a device that computes behind the program's back has done what it was given.
fn wait_for(device: Device) -> Result<()> {
    if device != Device::Cpu {
        let done = Tensor::f_zeros([1], (Kind::Float, device))?;
        done.f_double_value(&[0])?;
    }
    Ok(())
}

impl fmt::Display for TrainResult {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            dim,
            size,
            batch,
            cycle,
            recipe,
            precision,
            device,
            threads,
            ms,
        } = self;
        writeln!(
            formatter,
            "dim {dim}, {size}x{size}, batch {batch}, cycle {cycle}, recipe {}, {device}, {precision}, \
             {threads} threads",
            recipe.name()
        )?;
        match Spread::of(ms) {
            Some(spread) => writeln!(formatter, "{spread} for an iteration"),
            None => Ok(()),
        }
    }
}
