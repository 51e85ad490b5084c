//! What the network will see: the first pictures of a run as its loader makes them.

use std::path::Path;

use anyhow::Result;
use munit::Domain;
use munit::networks::normal;
use tch::Tensor;

use super::Sets;
use crate::augmentation::augment;
use crate::config::TrainConfig;
use crate::data::{Loader, LoaderSettings};
use crate::report::Sheet;
use crate::run::loader_settings;
use crate::samples::domain_name;
use crate::trainer::noise_generator;

/// Pictures in a row of the sheet.
const COLUMNS: usize = 8;
/// Rows of each domain.
const ROWS: usize = 2;
/// Crops that are larger are shown at this side, in pixels.
const LARGEST: i64 = 256;

/// Draws the first crops of each domain, as the run of `config` will see them, into a PNG file; below
/// them how `augment` changes the like for discriminators, if it does.
///
/// # Errors
/// When no picture of a domain can be read any more; a file that cannot be written.
pub fn save_input_sheet(sets: &Sets, config: &TrainConfig, path: &Path) -> Result<()> {
    let training = &sets.training;
    // What a draw shows does not depend on how many are drawn at once.
    let settings = LoaderSettings {
        batch_size: COLUMNS,
        ..loader_settings(config)
    };
    let mut loader = Loader::new(training.a.clone(), training.b.clone(), settings, 0)?;
    let batches = (0..ROWS)
        .map(|_| loader.next_batch())
        .collect::<Result<Vec<_>>>()?;
    let mut sheet = Sheet::new();
    for (domain, name) in [(Domain::A, &config.domain_a), (Domain::B, &config.domain_b)] {
        sheet.section(&domain_name(name.as_deref(), domain));
        for batch in &batches {
            let crops = match domain {
                Domain::A => &batch.a,
                Domain::B => &batch.b,
            };
            sheet.row("", &reduced(crops)?)?;
        }
        if let (false, Some(batch)) = (config.augment.is_empty(), batches.first()) {
            let crops = match domain {
                Domain::A => &batch.a,
                Domain::B => &batch.b,
            };
            let mut random = noise_generator(config.seed, config.noise_stream(0));
            let noise = &mut |shape: &[i64]| Ok(normal(&mut random, shape)?);
            let changed = augment(crops, &config.augment, noise)?;
            sheet.row("changed for the discriminator", &reduced(&changed)?)?;
        }
    }
    sheet.save(path)
}

/// Pictures [N, C, H, W] at a size to look at.
fn reduced(pictures: &Tensor) -> Result<Tensor> {
    let size = pictures.size();
    let (height, width) = (size[2], size[3]);
    let side = height.max(width);
    if side <= LARGEST {
        return Ok(pictures.shallow_clone());
    }
    let scaled = |length: i64| (length * LARGEST / side).max(1);
    Ok(pictures.f_adaptive_avg_pool2d([scaled(height), scaled(width)])?)
}
