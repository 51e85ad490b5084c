//! A run in the processes that are not the first, which alone decides, says and writes anything.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use tch::Device;

use super::folder::RunFolder;
use super::perceptual::load_perceptual;
use super::problem::explain;
use super::stop::stop_on_signals;
use super::{data_layout, loader_settings};
use crate::checkpoint;
use crate::config::TrainConfig;
use crate::crowding::{Crowding, LONG_WINDOW};
use crate::data::{Loader, LoaderSettings, PictureSet};
use crate::preflight::Sets;
use crate::ranks::{Order, Ranks};
use crate::trainer::{Pair, Trainer, noise_generator};

/// Does what the first of `ranks` says on `device` for the run in `folder`, until that has all it wants.
///
/// # Errors
/// A sentence for the person who started it: other pictures than there, no memory, …
pub fn follow(folder: Option<&RunFolder>, device: Device, ranks: &Ranks) -> Result<()> {
    let stop = stop_on_signals()?;
    let mut follower: Option<Follower> = None;
    loop {
        match ranks.follow()? {
            Order::Take {
                config,
                iteration,
                pictures,
            } => {
                let goes_on = |current: &Follower| {
                    current.trainer.iteration == iteration && current.trainer.config() == &*config
                };
                let mut current = match follower.take() {
                    Some(current) if goes_on(&current) => current,
                    // The run has gone back, with the pictures that it was begun with.
                    Some(Follower { pictures, .. }) => {
                        Follower::new(*config, iteration, pictures, device, ranks)?
                    }
                    None => {
                        let found = found_pictures(&config, folder, pictures)?;
                        Follower::new(*config, iteration, found, device, ranks)?
                    }
                };
                checkpoint::synchronise(&mut current.trainer, ranks)?;
                follower = Some(current);
            }
            Order::Train => {
                let follower = follower.as_mut().context("there is nothing to train yet")?;
                follower.train(ranks, &stop)?;
            }
            Order::Leave => return Ok(()),
        }
    }
}

/// The training pictures, which must have the `fingerprints` of the first process's.
fn found_pictures(
    config: &TrainConfig,
    folder: Option<&RunFolder>,
    fingerprints: [u32; 2],
) -> Result<Pair<PictureSet>> {
    let training = Sets::scan(
        &data_layout(config)?,
        folder.map(RunFolder::path),
        config.is_paired(),
    )?
    .training;
    ensure!(
        [training.a.fingerprint(), training.b.fingerprint()] == fingerprints,
        "the training pictures here are not those of the first process; all need the same ones \
         under the same paths"
    );
    Ok(training)
}

struct Follower {
    pictures: Pair<PictureSet>,
    trainer: Trainer,
    loader: Loader,
    _crowding: Crowding,
}

impl Follower {
    fn new(
        config: TrainConfig,
        iteration: u64,
        pictures: Pair<PictureSet>,
        device: Device,
        ranks: &Ranks,
    ) -> Result<Self> {
        let perceptual = load_perceptual(&config, device)?;
        let settings = LoaderSettings {
            share: ranks.share(),
            ..loader_settings(&config)
        };
        let mut trainer = Trainer::new(config.clone(), device, perceptual)
            .and_then(|mut trainer| {
                trainer.average_over(ranks)?;
                Ok(trainer)
            })
            .map_err(|error| explain(error, &config))?;
        trainer.iteration = iteration;
        let (a, b) = (pictures.a.clone(), pictures.b.clone());
        Ok(Self {
            pictures,
            trainer,
            loader: Loader::new(a, b, settings, iteration)?,
            _crowding: Crowding::watch(LONG_WINDOW),
        })
    }

    fn train(&mut self, ranks: &Ranks, stop: &AtomicBool) -> Result<()> {
        let Self {
            trainer, loader, ..
        } = self;
        let config = trainer.config().clone();
        let batch = loader
            .next_batch()
            .map_err(|error| explain(error, &config))?;
        // The first process tells of pictures that cannot be used.
        loader.take_warnings();
        let mut random = noise_generator(config.seed, config.noise_stream(trainer.iteration));
        let mut losses = trainer
            .step(&batch.a, &batch.b, &mut |shape| {
                ranks.share().normal(&mut random, shape)
            })
            .map_err(|error| explain(error, &config))?;
        losses.agree(ranks, stop.load(Ordering::Relaxed))?;
        Ok(())
    }
}
