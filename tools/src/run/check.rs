//! `munit-train --check`: all that a run would work on.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use munit::runtime::free_memory;
use serde::Serialize;
use tch::Device;

use super::folder::RunFolder;
use super::perceptual::{load_perceptual, unused_perceptual};
use super::pictures::data_layout;
use super::places::pictures_not_found;
use super::problem::explain;
use super::resumed::{continued, refuse_shorter};
use crate::config::TrainConfig;
use crate::preflight::{
    DataReport, MemoryEstimate, Preflight, Sets, save_input_sheet, too_small_disk,
};
use crate::ranks::Ranks;
use crate::result_file::make_folder;

/// What [`check`] found.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// What there is to learn from.
    pub data: DataReport,
    /// Whether it fits into memory.
    pub memory: MemoryEstimate,
    /// The sheet of what the network will see, if there is a folder for it.
    pub inputs: Option<PathBuf>,
}

/// Looks at all that [`run`](super::run) would work on, and trains nothing. `folder` gets the sheet of what the
/// network will see; nothing else in it is changed. `progress` is told now and then how many pictures
/// have been looked at, and how many there are.
///
/// # Errors
/// Whatever would keep the run from its first iteration.
pub fn check(
    mut config: TrainConfig,
    folder: Option<&RunFolder>,
    device: Device,
    resume: bool,
    progress: impl FnMut(usize, usize),
) -> Result<CheckReport> {
    config.check()?;
    config = config.resolved();
    let layout = data_layout(&config).map_err(|problem| pictures_not_found(problem, resume))?;
    match folder {
        Some(folder) if resume => {
            folder.check_run()?;
            let (begun, done) = match folder.has_checkpoint()? {
                true => {
                    let header = folder.newest_checkpoint()?.0.header;
                    (header.config, header.iteration)
                }
                false => (folder.config()?.resolved(), 0),
            };
            config = continued(&begun, &config)?;
            refuse_shorter(folder, done, &config)?;
        }
        Some(folder) => {
            folder.refuse_foreign()?;
            folder.refuse_begun()?;
            make_folder(&folder.input_sheet())?;
        }
        None => {}
    }
    let free = free_memory(device);
    let sets = Sets::scan(&layout, folder.map(RunFolder::path), config.is_paired())
        .map_err(|problem| pictures_not_found(problem, resume))?;
    load_perceptual(&config, Device::Cpu)?;
    let unused = match resume {
        true => None,
        false => unused_perceptual(&config)?,
    };
    // The checkpoints of a run that goes on have their room.
    let small_disk = folder.filter(|_| !resume);
    let small_disk = small_disk.and_then(|folder| too_small_disk(folder.path(), &config));
    let mut preflight = Preflight::complete(sets.clone(), &config, progress)?;
    preflight.report.notes.extend(unused);
    preflight.report.notes.extend(small_disk);
    let inputs = folder.map(RunFolder::input_sheet);
    if let Some(path) = &inputs {
        save_input_sheet(&sets, &config, path).map_err(|error| explain(error, &config))?;
    }
    Ok(CheckReport {
        memory: MemoryEstimate::new(
            &config,
            device,
            sets.kept_bytes(&config),
            free,
            &Ranks::alone(),
        ),
        data: preflight.report,
        inputs,
    })
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for set in &self.data.sets {
            writeln!(f, "{}", set.heading())?;
            writeln!(f, "  {}", set.details())?;
            for left_out in &set.left_out {
                writeln!(f, "  left out: {left_out}")?;
            }
        }
        writeln!(f, "memory: {}", self.memory.sentence())?;
        if let Some(inputs) = &self.inputs {
            writeln!(f, "what the network will see: {}", inputs.display())?;
        }
        for note in &self.data.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}
