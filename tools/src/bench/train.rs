//! Iterations of training.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use munit::networks::normal;
use munit::runtime::{DeviceChoice, use_threads};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::peers::{LeftOut, PeerProgram, PeerTimes, Peers};
use super::statistics::Spread;
use crate::config::TrainConfig;
use crate::data::{DataLayout, Loader, PictureSet};
use crate::recipe::Recipe;
use crate::run::loader_settings;
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
    /// How the pictures came, if they were a set's and not random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loading: Option<Loading>,
    /// The published update in other engines, in turns with ours.
    #[serde(default)]
    pub peers: Vec<PeerTimes>,
    /// Those that could not be measured.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// Whether training had to wait for its pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loading {
    /// Threads that decode.
    pub workers: usize,
    /// Pictures of both domains a second of the loader alone, each decoded from its file.
    pub pictures_per_second: f64,
    /// Milliseconds that each iteration after warm-up waited for its batch.
    pub waiting_ms: Vec<f64>,
}

/// Most pictures that the loader is measured with alone.
const PICTURES_ALONE: usize = 400;

/// How iterations are timed.
pub struct TrainTiming<'a> {
    /// A folder with `trainA` and `trainB`, whose pictures are loaded as in training; without it,
    /// pictures are random.
    pub data: Option<&'a Path>,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Processor threads; 0 is the runtime's choice.
    pub threads: usize,
    /// Iterations before those that are timed.
    pub warm_up: usize,
    /// Iterations that are timed in each turn.
    pub iterations: usize,
    /// How often everyone has a turn.
    pub rounds: usize,
    /// The program that computes the published update in other engines.
    pub peers: Option<&'a PeerProgram>,
}

/// Times iterations on pictures of the size of the crops of `config`. `tell` is told what is being
/// done.
///
/// # Errors
/// A configuration that no network fits; a device that is not there; no memory; no pictures; other
/// engines that cannot be run at all.
pub fn measure_training(
    config: &TrainConfig,
    timing: &TrainTiming,
    tell: &dyn Fn(&str),
) -> Result<TrainResult> {
    use_threads(timing.threads);
    let device = timing.device.resolve()?;
    let data = timing.data;
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
    let device_name = match device {
        Device::Cuda(number) => format!("cuda:{number}"),
        _ => "cpu".to_owned(),
    };
    let flags = [
        ("--dim", config.generator.dim.to_string()),
        ("--size", config.crop_image_height.to_string()),
        ("--batch", config.batch_size.to_string()),
        ("--cycle", config.cycle_weight().to_string()),
        ("--threads", threads.to_string()),
        ("--device", device_name.clone()),
    ];
    let peers = timing
        .peers
        .map(|program| Peers::start(program, &device_name, &[], &flags, tell));
    let mut peers = peers.transpose()?;
    let mut sets = data.map(TrainingSets::find).transpose()?;
    let alone = sets.as_ref().map(|sets| sets.pictures_per_second(config));
    let alone = alone.transpose()?;
    let mut loader = sets.take().map(|sets| sets.loader(config)).transpose()?;
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
    let milliseconds = |begin: Instant| begin.elapsed().as_secs_f64() * 1e3;
    // Milliseconds of an iteration, and of waiting in it.
    let mut iterate = || -> Result<(f64, f64)> {
        let begin = Instant::now();
        let batch = loader.as_mut().map(Loader::next_batch).transpose()?;
        let waited = milliseconds(begin);
        let (a, b) = match &batch {
            Some(batch) => (batch.a.f_to_device(device)?, batch.b.f_to_device(device)?),
            None => (x_a.shallow_clone(), x_b.shallow_clone()),
        };
        trainer.step(&a, &b, &mut |shape| Ok(normal(&mut random, shape)?))?;
        wait_for(device)?;
        Ok((milliseconds(begin), waited))
    };
    for _ in 0..timing.warm_up {
        iterate()?;
    }
    let mut timed = Vec::new();
    for round in 1..=timing.rounds {
        if peers.is_some() {
            tell(&format!("round {round} of {}", timing.rounds));
            // The peers do so, too: what a turn finds in the caches is another's.
            iterate()?;
        }
        for _ in 0..timing.iterations {
            timed.push(iterate()?);
        }
        if let Some(peers) = &mut peers {
            peers.take_turns(timing.iterations);
        }
    }
    let (ms, waiting_ms) = timed.into_iter().unzip();
    let (peers, left_out) = peers.map(Peers::finish).unwrap_or_default();
    let loading = alone.map(|pictures_per_second| Loading {
        workers: config.num_workers,
        pictures_per_second,
        waiting_ms,
    });
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
        device: device_name,
        threads,
        ms,
        loading,
        peers,
        left_out,
    })
}

/// The pictures of both domains.
struct TrainingSets {
    a: PictureSet,
    b: PictureSet,
}

impl TrainingSets {
    fn find(data: &Path) -> Result<Self> {
        let layout = DataLayout::from_root(data)?;
        Ok(Self {
            a: PictureSet::scan(&layout.train_a)?,
            b: PictureSet::scan(&layout.train_b)?,
        })
    }

    fn loader(self, config: &TrainConfig) -> Result<Loader> {
        Loader::new(self.a, self.b, loader_settings(config), 0)
    }

    /// Of a loader with nothing else to do. No picture comes twice, so that each is decoded.
    fn pictures_per_second(&self, config: &TrainConfig) -> Result<f64> {
        let first = |set: &PictureSet| PictureSet {
            paths: set.paths.iter().take(PICTURES_ALONE / 2).cloned().collect(),
            ..set.clone()
        };
        let sets = Self {
            a: first(&self.a),
            b: first(&self.b),
        };
        let fewer = sets.a.paths.len().min(sets.b.paths.len());
        let batches = (fewer / config.batch_size).max(1);
        let begin = Instant::now();
        let mut loader = sets.loader(config)?;
        for _ in 0..batches {
            loader.next_batch()?;
        }
        let pictures = 2 * batches * config.batch_size;
        Ok(pictures as f64 / begin.elapsed().as_secs_f64())
    }
}

/// Waits until a device that computes behind the program's back has done what it was given.
fn wait_for(device: Device) -> Result<()> {
    if device != Device::Cpu {
        let done = Tensor::f_zeros([1], (Kind::Float, device))?;
        done.f_double_value(&[0])?;
    }
    Ok(())
}

impl Loading {
    /// In a sentence, beside the iterations' milliseconds.
    pub fn told(&self, ms: &[f64], batch: usize) -> String {
        let total: f64 = ms.iter().sum();
        let waited: f64 = self.waiting_ms.iter().sum();
        format!(
            "{:.1} % of the time waiting for pictures; the loader alone decodes {:.0} pictures a \
             second with {} threads, training takes {:.1}",
            100.0 * waited / total.max(f64::MIN_POSITIVE),
            self.pictures_per_second,
            self.workers,
            2e3 * (ms.len() * batch) as f64 / total.max(f64::MIN_POSITIVE)
        )
    }
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
            loading,
            peers,
            left_out,
        } = self;
        writeln!(
            formatter,
            "dim {dim}, {size}x{size}, batch {batch}, cycle {cycle}, recipe {}, {device}, {precision}, \
             {threads} threads",
            recipe.name()
        )?;
        let Some(ours) = Spread::of(ms) else {
            return Ok(());
        };
        writeln!(formatter, "{ours} for an iteration")?;
        if let Some(loading) = loading {
            writeln!(formatter, "{}", loading.told(ms, *batch))?;
        }
        for peer in peers {
            if let Some(spread) = Spread::of(&peer.ms) {
                let share = ours.median / spread.median;
                writeln!(
                    formatter,
                    "{:<56} {spread}, ours takes {share:.2} of it",
                    peer.name
                )?;
            }
        }
        for one in left_out {
            writeln!(formatter, "left out: {}: {}", one.name, one.reason)?;
        }
        Ok(())
    }
}
