//! A training run from its first iteration, or its newest checkpoint, to the model file.

mod beginning;
mod check;
mod folder;
mod follow;
mod perceptual;
mod pictures;
mod places;
mod problem;
mod resumed;
mod rollback;
mod stop;
mod training;

use std::path::{Path, PathBuf};

use anyhow::Result;
use munit::atomic_file;
use munit::config::Domain;
use munit::runtime::free_memory;
use tch::{Device, Kind};

pub use beginning::Beginning;
pub use check::{CheckReport, check};
pub use folder::RunFolder;
pub use follow::follow;
pub use pictures::data_layout;
pub(crate) use pictures::{framing, loader_settings};
pub use resumed::BegunOtherwise;

use crate::checkpoint;
use crate::config::TrainConfig;
use crate::export;
use crate::preflight::{
    DataReport, MemoryEstimate, Preflight, Sets, listed, save_input_sheet, too_small_disk,
};
use crate::preview::Preview;
use crate::ranks::{Order, Ranks};
use crate::trainer::{Pair, Trainer};
use beginning::first_trainer;
use folder::Unbegun;
use perceptual::{load_perceptual, unused_perceptual};
use pictures::choose_samples;
use places::{pictures_not_found, with_absolute_paths};
use problem::explain;
use resumed::{announce_differences, continued, refuse_shorter};
use stop::stop_on_signals;
use training::{Prepared, Training};

/// How a run came to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All iterations are done; the path is the model file's.
    Finished(PathBuf),
    /// Asked to stop; the path is the newest checkpoint's.
    Stopped(PathBuf),
}

/// Trains as `config` says in `folder`, showing the newest samples on port `preview` of this machine
/// if there is one; with `resume`, goes on from the newest checkpoint there, or
/// from the beginning if the run was ended before it had one. Of several `ranks` this must be the
/// first; the others [`follow`].
///
/// Ctrl-C, SIGTERM and SIGHUP end the program at once as long as nothing is trained; from the first
/// iteration on they end the run after the current one, with a checkpoint.
///
/// # Errors
/// A sentence for the person who started it: no pictures, no memory, a full disk, a loss that is
/// not a number, …
pub fn run(
    mut config: TrainConfig,
    folder: &RunFolder,
    device: Device,
    resume: bool,
    preview: Option<u16>,
    ranks: &Ranks,
) -> Result<Outcome> {
    config.check()?;
    config = config.resolved();
    if !resume {
        // Those of the run whose configuration this was.
        config.rollbacks.clear();
    }
    let preview = preview.map(Preview::start).transpose()?;
    if let Some(preview) = &preview {
        eprintln!("preview: http://{}", preview.address());
    }
    let layout = data_layout(&config).map_err(|problem| pictures_not_found(problem, resume))?;
    if resume {
        folder.check_run()?;
    } else {
        folder.refuse_foreign()?;
    }
    // Before anything is taken of it that the run is estimated to need.
    let free = free_memory(device);
    // Before pictures are read and a folder is made.
    if !resume && let Some(note) = unused_perceptual(&config)? {
        eprintln!("munit-train: {note}");
    }
    let perceptual = load_perceptual(&config, device)?;
    let folders = folder.create()?;
    let lock_file = folder.lock_file();
    let lock = (!lock_file.exists()).then_some(lock_file);
    let _lock = folder.lock()?;
    let unbegun = Unbegun { folders, lock };
    folder.remove_leftovers()?;
    let resumed = if !resume {
        folder.begin_anew()?;
        None
    } else if folder.has_checkpoint()? {
        let (checkpoint, problems) = folder.newest_checkpoint()?;
        for problem in problems {
            eprintln!("munit-train: {problem}; going back to the one before");
        }
        config = continued(&checkpoint.header.config, &config)?;
        refuse_shorter(folder, checkpoint.header.iteration, &config)?;
        Some(checkpoint)
    } else {
        // All that a run computes follows from its configuration, so that its beginning is kept in
        // config.yaml.
        eprintln!("munit-train: there is no checkpoint yet; the run starts over from iteration 0");
        config = continued(&folder.config()?.resolved(), &config)?;
        None
    };
    // What is written down must hold wherever somebody goes on with the run.
    config = with_absolute_paths(config)?;
    ranks.check(&config)?;
    let sets = Sets::scan(&layout, Some(folder.path()), config.is_paired())
        .map_err(|problem| pictures_not_found(problem, resume))?;
    let preflight = Preflight::begin(sets.clone(), &config)?;
    announce_pictures(&preflight.report, resume);
    let memory = MemoryEstimate::new(&config, device, sets.kept_bytes(&config), free, ranks);
    let each = match ranks.count() {
        1 => "",
        _ => " of each process",
    };
    match memory.fits {
        true => eprintln!("memory{each}: {}", memory.sentence()),
        false => eprintln!("munit-train: memory{each}: {}", memory.sentence()),
    }
    if !resume && let Some(note) = too_small_disk(folder.path(), &config) {
        eprintln!("munit-train: {note}");
    }
    if !resume {
        save_input_sheet(&sets, &config, &folder.input_sheet())
            .map_err(|error| explain(error, &config))?;
    }
    let pictures = &sets.training;
    let fingerprints = [pictures.a.fingerprint(), pictures.b.fingerprint()];

    let mut trainer = match &resumed {
        None => first_trainer(&config, device, perceptual)?,
        // What the checkpoint holds comes in the place of what is drawn here.
        Some(_) => Trainer::new(config.clone(), device, perceptual)
            .map_err(|error| explain(error, &config))?,
    };
    trainer.average_over(ranks)?;
    if let Some(checkpoint) = &resumed {
        checkpoint.restore(&mut trainer)?;
        announce_differences(checkpoint, &trainer, fingerprints);
    }
    atomic_text(&folder.config_file(), &config.to_yaml()?)?;
    unbegun.begun();

    // The rest is some gigabytes, of no more use.
    let saved = resumed.map(|checkpoint| checkpoint.header);
    let samples = choose_samples(&config, &sets, device)?;
    let mut training = Training::begin(Prepared {
        folder,
        device,
        sets,
        fingerprints,
        preflight,
        trainer,
        samples,
        preview,
        ranks,
        resume,
        saved,
    })?;
    let stop = stop_on_signals()?;
    training.train(&stop)?;
    ranks.lead(Order::Leave)?;

    let trainer = training.trainer();
    if !training.is_done() {
        let newest = checkpoint::file_name(trainer.iteration);
        return Ok(Outcome::Stopped(folder.checkpoints().join(newest)));
    }
    let pictures = &training.sets().training;
    let paths = Pair {
        a: pictures.a.paths.clone(),
        b: pictures.b.paths.clone(),
    };
    export::model(trainer, &paths)?.write(&folder.model(), Kind::Float)?;
    Ok(Outcome::Finished(folder.model()))
}

/// Says what is trained on, and where there is little to learn, which a run would show only after
/// hours.
fn announce_pictures(report: &DataReport, resume: bool) {
    for set in report.sets.iter().take(Domain::ALL.len()) {
        eprintln!("{}", set.heading());
        for line in listed(&set.left_out) {
            eprintln!("  {line}");
        }
    }
    // A run that goes on has said all this before.
    if resume {
        return;
    }
    for note in &report.notes {
        eprintln!("munit-train: {note}");
    }
    if !report.complete {
        eprintln!("the pictures are being looked at meanwhile; what is found will be said here");
    }
}

fn atomic_text(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    Ok(atomic_file::write(path, |file| {
        file.write_all(text.as_bytes())
    })?)
}
