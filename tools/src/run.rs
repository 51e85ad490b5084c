//! A training run from its first iteration, or its newest checkpoint, to the model file.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use munit::atomic_file;
use munit::config::Domain;
use munit::networks::normal;
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tch::{Device, Kind, TchError, Tensor};

use crate::checkpoint::{self, Checkpoint};
use crate::config::TrainConfig;
use crate::data::{DataLayout, Framing, Loader, LoaderSettings, Source, load_training_picture};
use crate::export;
use crate::perceptual::PerceptualNetwork;
use crate::preflight::{DataReport, MemoryEstimate, Preflight, Sets, listed, save_input_sheet};
use crate::program::shell_word;
use crate::report::scalars::TABLE_NAME;
use crate::report::{EventWriter, Progress, ScalarLog};
use crate::samples::{Samples, domain_name};
use crate::trainer::{Pair, Trainer, noise_generator};

/// Losses beside the progress bar.
const SHOWN_LOSSES: [&str; 5] = [
    "dis_total",
    "gen_total",
    "gen_adv_b",
    "gen_recon_x_b",
    "gen_recon_s_b",
];

/// Begin and end of a kept sample sheet's name.
const SAMPLE_SHEET_PREFIX: &str = "iteration-";
const SAMPLE_SHEET_SUFFIX: &str = ".png";

/// What a run makes in its folder, but for hidden files and those of TensorBoard.
const OWN_NAMES: [&str; 7] = [
    CONFIG_NAME,
    INPUT_SHEET_NAME,
    CHECKPOINTS_NAME,
    SAMPLES_NAME,
    SAMPLE_SHEET_NAME,
    MODEL_NAME,
    TABLE_NAME,
];
const CONFIG_NAME: &str = "config.yaml";
const INPUT_SHEET_NAME: &str = "inputs.png";
const CHECKPOINTS_NAME: &str = "checkpoints";
const SAMPLES_NAME: &str = "samples";
const SAMPLE_SHEET_NAME: &str = "samples.png";
const MODEL_NAME: &str = "model.safetensors";

/// How a run came to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All iterations are done; the path is the model file's.
    Finished(PathBuf),
    /// Asked to stop; the path is the newest checkpoint's.
    Stopped(PathBuf),
}

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// The run in `folder`, which need not be there yet.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where checkpoints lie.
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join(CHECKPOINTS_NAME)
    }

    /// The sheet of what the network sees.
    pub fn input_sheet(&self) -> PathBuf {
        self.0.join(INPUT_SHEET_NAME)
    }

    /// Where sample sheets lie.
    pub fn samples(&self) -> PathBuf {
        self.0.join(SAMPLES_NAME)
    }

    /// The exported model.
    pub fn model(&self) -> PathBuf {
        self.0.join(MODEL_NAME)
    }

    /// The configuration that the run was started with, or last went on with.
    ///
    /// # Errors
    /// A folder without a run; a file that was changed into something unusable.
    pub fn config(&self) -> Result<TrainConfig> {
        self.check_run()?;
        TrainConfig::read(&self.config_file(), None)
    }

    /// The newest whole checkpoint, and a sentence for each newer one that is not.
    ///
    /// # Errors
    /// A folder without a run or without a whole checkpoint.
    pub fn newest_checkpoint(&self) -> Result<(Checkpoint, Vec<String>)> {
        let folder = self.0.display();
        ensure!(
            self.checkpoints().is_dir(),
            "{folder}: there is no run of munit-train in this folder; give the folder that was its \
             --out, or a checkpoint file"
        );
        Checkpoint::read_newest(&self.checkpoints())?.with_context(|| {
            let word = shell_word(&self.0);
            let how = if self.is_run() {
                format!(
                    "it gets one at the latest after ten minutes and when Ctrl-C stops it; to go on \
                     with it: munit-train --resume {word}"
                )
            } else {
                format!(
                    "it was ended before its first iteration; start it anew with --out {word}"
                )
            };
            format!("{folder}: this run has no checkpoint yet; {how}")
        })
    }

    fn config_file(&self) -> PathBuf {
        self.0.join(CONFIG_NAME)
    }

    fn is_run(&self) -> bool {
        self.config_file().exists() && self.checkpoints().is_dir()
    }

    fn check_run(&self) -> Result<()> {
        ensure!(
            self.is_run(),
            "{}: there is no run of munit-train in this folder, or it was ended before its first \
             iteration; give the folder that was its --out, or start anew without --resume",
            self.0.display()
        );
        Ok(())
    }

    fn has_checkpoint(&self) -> Result<bool> {
        Ok(!checkpoint::list(&self.checkpoints())?.is_empty())
    }

    /// Refuses a folder with a run's checkpoints.
    fn refuse_begun(&self) -> Result<()> {
        if let Some((iteration, _)) = checkpoint::list(&self.checkpoints())?.last() {
            bail!(
                "{}: holds a run of {iteration} iterations; add --resume to go on with it, or \
                 choose another folder with --out",
                self.0.display()
            );
        }
        Ok(())
    }

    /// Refuses a folder with a run's checkpoints. From a run that was ended before its first one,
    /// clears away what would mix with the new run: its curves in TensorBoard and its sample sheets.
    fn begin_anew(&self) -> Result<()> {
        self.refuse_begun()?;
        // Nothing in a folder without a config.yaml is of our making.
        if self.config_file().exists() {
            remove_files(&self.0, EventWriter::is_event_file)?;
            remove_files(&self.samples(), is_sample_sheet)?;
            // Last, so that a kill meanwhile leaves a folder that is cleared the next time. A kill
            // after it must not let --resume take up the configuration of the old run.
            let path = self.config_file();
            fs::remove_file(&path).with_context(|| format!("{}: cannot remove", path.display()))?;
        }
        Ok(())
    }

    /// Refuses a folder with anything in it that is not of a run.
    fn refuse_foreign(&self) -> Result<()> {
        if self.is_run() || !self.0.is_dir() {
            return Ok(());
        }
        let entries =
            fs::read_dir(&self.0).with_context(|| format!("{}: cannot read", self.0.display()))?;
        for entry in entries {
            let name = entry
                .with_context(|| format!("{}: cannot read", self.0.display()))?
                .file_name();
            let is_ours = name.to_str().is_some_and(|name| {
                OWN_NAMES.contains(&name)
                    || EventWriter::is_event_file(name)
                    || name.starts_with('.')
            });
            ensure!(
                is_ours,
                "{}: this folder holds {}, which is not of a run of munit-train; name a new or an \
                 empty folder with --out",
                self.0.display(),
                Path::new(&name).display()
            );
        }
        Ok(())
    }

    fn create(&self) -> Result<()> {
        for folder in [self.checkpoints(), self.samples()] {
            fs::create_dir_all(&folder)
                .with_context(|| format!("{}: cannot make the run's folder", folder.display()))?;
        }
        Ok(())
    }

    /// What a killed run was about to write; only with the lock.
    fn remove_leftovers(&self) -> Result<()> {
        for folder in [&self.0, &self.checkpoints(), &self.samples()] {
            atomic_file::remove_leftovers(folder)?;
        }
        Ok(())
    }

    /// Held while a run writes here; the system lets go of it even when the process is killed.
    fn lock(&self) -> Result<File> {
        let path = self.0.join(".lock");
        let file = File::create(&path)
            .with_context(|| format!("{}: cannot write into the run's folder", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => bail!(
                "{}: another munit-train is at work in this folder; choose another with --out",
                self.0.display()
            ),
            Err(TryLockError::Error(error)) => Err(error)
                .with_context(|| format!("{}: cannot lock the run's folder", path.display())),
        }
    }
}

/// Removes the files in `folder` whose names are among those `unwanted`.
fn remove_files(folder: &Path, unwanted: impl Fn(&str) -> bool) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("{}: cannot read", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("{}: cannot read", folder.display()))?;
        if entry.file_name().to_str().is_some_and(&unwanted) {
            let path = entry.path();
            fs::remove_file(&path).with_context(|| format!("{}: cannot remove", path.display()))?;
        }
    }
    Ok(())
}

fn sample_sheet_name(iteration: u64) -> String {
    format!("{SAMPLE_SHEET_PREFIX}{iteration:09}{SAMPLE_SHEET_SUFFIX}")
}

fn is_sample_sheet(name: &str) -> bool {
    name.starts_with(SAMPLE_SHEET_PREFIX) && name.ends_with(SAMPLE_SHEET_SUFFIX)
}

/// The four sources of pictures of a run. Test folders that are named on their own go before
/// those below `data_root`.
///
/// # Errors
/// A domain without training pictures.
pub fn data_layout(config: &TrainConfig) -> Result<DataLayout> {
    let source = |folder: &Option<PathBuf>, list: &Option<PathBuf>| {
        folder.as_ref().map(|folder| match list {
            Some(list) => Source::List {
                root: folder.clone(),
                list: list.clone(),
            },
            None => Source::Folder(folder.clone()),
        })
    };
    let test_a = source(&config.data_folder_test_a, &config.data_list_test_a);
    let test_b = source(&config.data_folder_test_b, &config.data_list_test_b);
    if let Some(root) = &config.data_root {
        let layout = DataLayout::from_root(root)?;
        return Ok(DataLayout {
            test_a: test_a.or(layout.test_a),
            test_b: test_b.or(layout.test_b),
            ..layout
        });
    }
    let required = |found: Option<Source>, domain: Domain| {
        found.with_context(|| {
            let name = domain.name();
            format!(
                "there are no pictures of domain {name}: give --{name} FOLDER, or data_root or \
                 data_folder_train_{name} in the configuration"
            )
        })
    };
    Ok(DataLayout {
        train_a: required(
            source(&config.data_folder_train_a, &config.data_list_train_a),
            Domain::A,
        )?,
        train_b: required(
            source(&config.data_folder_train_b, &config.data_list_train_b),
            Domain::B,
        )?,
        test_a,
        test_b,
    })
}

/// Trains as `config` says in `folder`; with `resume`, goes on from the newest checkpoint there, or
/// from the beginning if the run was ended before it had one.
///
/// Ctrl-C and SIGTERM end the program at once as long as nothing is trained; from the first
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
) -> Result<Outcome> {
    config.check()?;
    config = config.resolved();
    let layout = data_layout(&config)?;
    if resume {
        folder.check_run()?;
    } else {
        folder.refuse_foreign()?;
    }
    folder.create()?;
    let _lock = folder.lock()?;
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
        Some(checkpoint)
    } else {
        // All that a run computes follows from its configuration, so that its beginning is kept in
        // config.yaml.
        eprintln!("munit-train: there is no checkpoint yet; the run starts over from iteration 0");
        config = continued(&folder.config()?.resolved(), &config)?;
        None
    };
    let sets = Sets::scan(&layout)?;
    let mut preflight = Preflight::begin(sets.clone(), &config)?;
    announce_pictures(&preflight.report, resume);
    let memory = MemoryEstimate::new(&config, device, sets.kept_bytes(&config));
    if !memory.fits {
        eprintln!("munit-train: the run takes {}", memory.sentence());
    }
    if !resume {
        save_input_sheet(&sets, &config, &folder.input_sheet())
            .map_err(|error| explain(error, &config))?;
    }
    let pictures = &sets.training;
    let fingerprints = [pictures.a.fingerprint(), pictures.b.fingerprint()];

    let perceptual = load_perceptual(&config, device)?;
    let mut trainer = Trainer::new(config.clone(), device, perceptual)
        .map_err(|error| explain(error, &config))?;
    if let Some(checkpoint) = &resumed {
        checkpoint.restore(&mut trainer)?;
        announce_differences(checkpoint, &trainer, fingerprints);
    }
    atomic_text(&folder.config_file(), &config.to_yaml()?)?;

    let samples = choose_samples(&config, &sets, device)?;
    let mut loader = Loader::new(
        pictures.a.clone(),
        pictures.b.clone(),
        loader_settings(&config),
        trainer.iteration,
    )?;
    let mut log = ScalarLog::open(&folder.0, resume.then_some(trainer.iteration))?;
    let mut progress = Progress::new(
        trainer.iteration,
        config.max_iter,
        2 * config.batch_size as u64,
    );
    let mut saved = resumed.as_ref().map(|_| trainer.iteration);
    let longest_unsaved =
        Duration::try_from_secs_f64(60.0 * config.snapshot_save_minutes).unwrap_or(Duration::MAX);
    let mut saved_at = Instant::now();
    let stop = stop_on_signals()?;

    while trainer.iteration < config.max_iter && !stop.load(Ordering::Relaxed) {
        for line in preflight.news() {
            progress.log_line(&line);
        }
        let batch = loader
            .next_batch()
            .map_err(|error| explain(error, &config))?;
        for skipped in loader.take_warnings() {
            if !preflight.knows(&skipped.path) {
                progress.log_line(&format!("left out from now on: {skipped}"));
            }
        }
        let mut random = noise_generator(config.seed, trainer.iteration);
        let losses = trainer
            .step(&batch.a, &batch.b, &mut |shape| {
                Ok(normal(&mut random, shape)?)
            })
            .map_err(|error| explain(error, &config))?;
        let iteration = trainer.iteration;
        let is_logged = iteration % config.log_iter == 0;
        // To read the losses is to wait for a device that could be given the next iteration.
        if is_logged || device == Device::Cpu {
            let losses = losses.read()?;
            if let Some((name, value)) = losses.iter().find(|(_, value)| !value.is_finite()) {
                bail!(
                    "iteration {iteration}: the loss {name} is {value}; nothing after the last \
                     checkpoint is kept. A lower lr usually helps: set it and start anew"
                );
            }
            if is_logged {
                log.write(iteration, &losses)?;
                let shown: Vec<(&str, f64)> = SHOWN_LOSSES
                    .iter()
                    .filter_map(|name| losses.iter().find(|(known, _)| known == name).copied())
                    .collect();
                progress.show(&shown);
            }
        }
        progress.advance(iteration);
        save_samples(&trainer, &samples, folder, &mut log)
            .map_err(|error| explain(error, &config))?;
        if iteration % config.snapshot_save_iter == 0 || saved_at.elapsed() >= longest_unsaved {
            save_checkpoint(&trainer, fingerprints, folder)?;
            saved = Some(iteration);
            saved_at = Instant::now();
        }
    }
    progress.finish();

    if saved != Some(trainer.iteration) {
        save_checkpoint(&trainer, fingerprints, folder)?;
    }
    if trainer.iteration < config.max_iter {
        let newest = checkpoint::file_name(trainer.iteration);
        return Ok(Outcome::Stopped(folder.checkpoints().join(newest)));
    }
    let paths = Pair {
        a: sets.training.a.paths,
        b: sets.training.b.paths,
    };
    export::model(&trainer, &paths)?.write(&folder.model(), Kind::Float)?;
    Ok(Outcome::Finished(folder.model()))
}

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

/// Looks at all that [`run`] would work on, and trains nothing. `folder` gets the sheet of what the
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
    let layout = data_layout(&config)?;
    match folder {
        Some(folder) if resume => {
            folder.check_run()?;
            let begun = match folder.has_checkpoint()? {
                true => folder.newest_checkpoint()?.0.header.config,
                false => folder.config()?.resolved(),
            };
            config = continued(&begun, &config)?;
        }
        Some(folder) => {
            folder.refuse_foreign()?;
            folder.create()?;
            folder.refuse_begun()?;
        }
        None => {}
    }
    let sets = Sets::scan(&layout)?;
    let preflight = Preflight::complete(sets.clone(), &config, progress)?;
    load_perceptual(&config, Device::Cpu)?;
    let inputs = folder.map(RunFolder::input_sheet);
    if let Some(path) = &inputs {
        save_input_sheet(&sets, &config, path).map_err(|error| explain(error, &config))?;
    }
    Ok(CheckReport {
        memory: MemoryEstimate::new(&config, device, sets.kept_bytes(&config)),
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

/// Set once by Ctrl-C or SIGTERM; a second one ends the program at once, in case the first is not
/// heeded quickly enough.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .context("cannot watch for Ctrl-C")?;
    }
    Ok(stop)
}

/// What decides the numbers of a run comes from its beginning; what does not, from `wanted`.
fn continued(saved: &TrainConfig, wanted: &TrainConfig) -> Result<TrainConfig> {
    let free = |config: &TrainConfig| TrainConfig {
        max_iter: saved.max_iter,
        image_save_iter: saved.image_save_iter,
        image_display_iter: saved.image_display_iter,
        display_size: saved.display_size,
        snapshot_save_iter: saved.snapshot_save_iter,
        snapshot_save_minutes: saved.snapshot_save_minutes,
        log_iter: saved.log_iter,
        num_workers: saved.num_workers,
        keep_checkpoints: saved.keep_checkpoints,
        domain_a: saved.domain_a.clone(),
        domain_b: saved.domain_b.clone(),
        data_description: saved.data_description.clone(),
        licence: saved.licence.clone(),
        data_root: saved.data_root.clone(),
        data_folder_train_a: saved.data_folder_train_a.clone(),
        data_list_train_a: saved.data_list_train_a.clone(),
        data_folder_test_a: saved.data_folder_test_a.clone(),
        data_list_test_a: saved.data_list_test_a.clone(),
        data_folder_train_b: saved.data_folder_train_b.clone(),
        data_list_train_b: saved.data_list_train_b.clone(),
        data_folder_test_b: saved.data_folder_test_b.clone(),
        data_list_test_b: saved.data_list_test_b.clone(),
        vgg_weights: saved.vgg_weights.clone(),
        ..config.clone()
    };
    let (saved_yaml, wanted_yaml) = (saved.to_yaml()?, free(wanted).to_yaml()?);
    let difference = saved_yaml
        .lines()
        .zip(wanted_yaml.lines())
        .find(|(saved, wanted)| saved != wanted);
    if let Some((saved, wanted)) = difference {
        bail!(
            "the run was begun with \"{}\", but \"{}\" was asked for; leave it out to go on, \
             or start anew in another folder",
            saved.trim(),
            wanted.trim()
        );
    }
    Ok(wanted.clone())
}

fn announce_differences(checkpoint: &Checkpoint, trainer: &Trainer, fingerprints: [u32; 2]) {
    let header = &checkpoint.header;
    if header.pictures != fingerprints {
        eprintln!(
            "munit-train: the training pictures have changed since the checkpoint; the run goes on \
             with the new ones, so it is not what it would have been"
        );
    }
    let device = checkpoint::device_name(trainer);
    if header.device != device {
        eprintln!(
            "munit-train: the checkpoint was made on \"{}\", this is \"{device}\"; the run goes on, but \
             rounding may differ from here",
            header.device
        );
    }
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

/// How the batches of a run are made.
pub(crate) fn loader_settings(config: &TrainConfig) -> LoaderSettings {
    LoaderSettings {
        batch_size: config.batch_size,
        new_size: Domain::ALL.map(|domain| config.new_size(domain)),
        crop_height: config.crop_image_height,
        crop_width: config.crop_image_width,
        channels: Domain::ALL.map(|domain| config.architecture().channels(domain)),
        flip: config.flip,
        seed: config.seed,
        workers: config.num_workers,
    }
}

/// How pictures of `domain` are framed where nothing is random.
pub(crate) fn framing(config: &TrainConfig, domain: Domain) -> Framing {
    loader_settings(config).framing(domain)
}

/// Evenly spaced test pictures, or training pictures where there are none to test on.
fn choose_samples(config: &TrainConfig, sets: &Sets, device: Device) -> Result<Samples> {
    let pictures = Pair::try_new(|domain| {
        let test = sets.test.get(domain).as_ref();
        let set = test.unwrap_or(sets.training.get(domain));
        let pictures = evenly_spaced(&set.paths, config.display_size, &framing(config, domain))?;
        anyhow::Ok(pictures.f_to_device(device)?)
    })?;
    let names = Pair {
        a: domain_name(config.domain_a.as_deref(), Domain::A),
        b: domain_name(config.domain_b.as_deref(), Domain::B),
    };
    Samples::new(pictures, names, config.generator.style_dim, config.seed)
}

/// At most `count` of the pictures at `paths`, spread over the whole list: [N, C, H, W] in [-1, 1].
/// For one that cannot be used the next stands in.
fn evenly_spaced(paths: &[PathBuf], count: usize, framing: &Framing) -> Result<Tensor> {
    let count = count.min(paths.len());
    let start = |index: usize| index * paths.len() / count;
    let pictures: Vec<Tensor> = (0..count)
        .filter_map(|index| {
            let mut candidates = paths[start(index)..start(index + 1)].iter();
            candidates.find_map(|path| load_training_picture(path, framing).ok())
        })
        .collect();
    ensure!(!pictures.is_empty(), "there are no pictures to show");
    Ok(Tensor::f_stack(&pictures, 0)?)
}

fn save_samples(
    trainer: &Trainer,
    samples: &Samples,
    folder: &RunFolder,
    log: &mut ScalarLog,
) -> Result<()> {
    let (config, iteration) = (trainer.config(), trainer.iteration);
    let keep = iteration % config.image_save_iter == 0 || iteration == config.max_iter;
    if !keep && iteration % config.image_display_iter != 0 {
        return Ok(());
    }
    let family = config.architecture().family;
    let sheet = samples.sheet(&trainer.averaged_generators()?, family, iteration)?;
    sheet.save(&folder.0.join(SAMPLE_SHEET_NAME))?;
    if keep {
        sheet.save(&folder.samples().join(sample_sheet_name(iteration)))?;
        log.write_image(iteration, "samples", &sheet.render())?;
    }
    Ok(())
}

fn save_checkpoint(trainer: &Trainer, pictures: [u32; 2], folder: &RunFolder) -> Result<()> {
    let keep = trainer.config().keep_checkpoints;
    checkpoint::save(trainer, pictures, &folder.checkpoints(), keep)
        .context("the checkpoint could not be written; the ones before are still there")?;
    Ok(())
}

fn load_perceptual(config: &TrainConfig, device: Device) -> Result<Option<PerceptualNetwork>> {
    if config.vgg_w == 0.0 {
        return Ok(None);
    }
    let path = config.vgg_weights.as_ref().with_context(|| {
        format!(
            "vgg_w is {}, but no weights are given: add --vgg-weights FILE, a .safetensors file of \
             munit-import backbone, or one with the tensors conv1_1.weight to conv5_3.bias of \
             VGG-16, or set vgg_w to 0",
            config.vgg_w
        )
    })?;
    PerceptualNetwork::read(path, device).map(Some)
}

/// libtorch's failures without their back traces, and with advice where memory ran out.
fn explain(error: anyhow::Error, config: &TrainConfig) -> anyhow::Error {
    let error = match error.downcast::<TchError>() {
        Ok(error) => munit::Error::from(error).into(),
        Err(error) => error,
    };
    let out_of_memory = error
        .downcast_ref::<munit::Error>()
        .is_some_and(munit::Error::is_out_of_memory);
    if !out_of_memory {
        return error;
    }
    anyhow!(
        "there is not enough memory; lower --batch-size ({}), --size ({}x{}) or --dim ({}) ({error})",
        config.batch_size,
        config.crop_image_width,
        config.crop_image_height,
        config.generator.dim
    )
}

fn atomic_text(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    Ok(atomic_file::write(path, |file| {
        file.write_all(text.as_bytes())
    })?)
}
