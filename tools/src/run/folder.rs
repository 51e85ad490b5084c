//! The folder of a run: what lies where, who may write there, and what is left of earlier runs.

use std::fs::{self, File, Metadata, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use munit::atomic_file;

use crate::checkpoint::{self, Checkpoint};
use crate::config::TrainConfig;
use crate::program::shell_word;
use crate::report::EventWriter;
use crate::report::history::HISTORY_NAME;
use crate::report::page::{EVALUATION_NAME, PAGE_NAME};
use crate::report::scalars::TABLE_NAME;
use crate::result_file::make_folder;

/// Begin and end of a kept sample sheet's name.
const SAMPLE_SHEET_PREFIX: &str = "iteration-";
const SAMPLE_SHEET_SUFFIX: &str = ".png";

/// What a run makes in its folder, but for hidden files and those of TensorBoard.
const OWN_NAMES: [&str; 10] = [
    CONFIG_NAME,
    INPUT_SHEET_NAME,
    CHECKPOINTS_NAME,
    SAMPLES_NAME,
    SAMPLE_SHEET_NAME,
    MODEL_NAME,
    TABLE_NAME,
    HISTORY_NAME,
    PAGE_NAME,
    EVALUATION_NAME,
];
const CONFIG_NAME: &str = "config.yaml";
const INPUT_SHEET_NAME: &str = "inputs.png";
const CHECKPOINTS_NAME: &str = "checkpoints";
const SAMPLES_NAME: &str = "samples";
const SAMPLE_SHEET_NAME: &str = "samples.png";
const MODEL_NAME: &str = "model.safetensors";

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// The run in `folder`, which need not be there yet.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The run whose checkpoint lies at `path`, if it lies where a run keeps it.
    pub(crate) fn of_checkpoint(path: &Path) -> Option<Self> {
        let checkpoints = path.canonicalize().ok()?.parent()?.to_owned();
        checkpoints
            .ends_with(CHECKPOINTS_NAME)
            .then(|| checkpoints.parent().map(Self::new))?
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

    /// The report.
    pub fn report(&self) -> PathBuf {
        self.0.join(PAGE_NAME)
    }

    /// The exported model.
    pub fn model(&self) -> PathBuf {
        self.0.join(MODEL_NAME)
    }

    /// The configuration that the run was started with, or last went on with; where its file is gone,
    /// that of the newest checkpoint.
    ///
    /// # Errors
    /// A folder without a run; a file that was changed into something unusable.
    pub fn config(&self) -> Result<TrainConfig> {
        self.check_run()?;
        let path = self.config_file();
        match path.exists() {
            true => TrainConfig::read(&path, None),
            false => Ok(self.newest_checkpoint()?.0.header.config),
        }
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

    /// Threads with which the run, alone and on the CPU, has computed its newest checkpoint.
    pub fn threads(&self) -> Option<i32> {
        let checkpoints = checkpoint::list(&self.checkpoints()).ok()?;
        let mut headers = checkpoints
            .iter()
            .rev()
            .filter_map(|(_, path)| checkpoint::header(path).ok());
        checkpoint::threads_of(&headers.next()?.device)
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.0.join(CONFIG_NAME)
    }

    /// The newest sample sheet.
    pub(super) fn sample_sheet(&self) -> PathBuf {
        self.0.join(SAMPLE_SHEET_NAME)
    }

    /// The sample sheet that is kept of `iteration`.
    pub(super) fn kept_sample_sheet(&self, iteration: u64) -> PathBuf {
        self.samples().join(sample_sheet_name(iteration))
    }

    fn is_run(&self) -> bool {
        self.checkpoints().is_dir()
            && (self.config_file().exists() || self.has_checkpoint().unwrap_or(false))
    }

    pub(super) fn check_run(&self) -> Result<()> {
        ensure!(
            self.is_run(),
            "{}: there is no run of munit-train in this folder; give the folder that was its --out. A run \
             that was ended before its first iteration is begun anew, without --resume",
            self.0.display()
        );
        Ok(())
    }

    pub(super) fn has_checkpoint(&self) -> Result<bool> {
        Ok(!checkpoint::list(&self.checkpoints())?.is_empty())
    }

    /// Refuses a folder with a run's checkpoints.
    pub(super) fn refuse_begun(&self) -> Result<()> {
        if !self.checkpoints().is_dir() {
            return Ok(());
        }
        if let Some((iteration, _)) = checkpoint::list(&self.checkpoints())?.last() {
            bail!(
                "{}: holds a run of {iteration} iterations; add --resume to go on with it, or \
                 choose another folder with --out",
                self.0.display()
            );
        }
        Ok(())
    }

    /// Refuses a folder with a finished model.
    fn refuse_model(&self) -> Result<()> {
        let model = self.model();
        ensure!(
            !model.exists(),
            "{}: a model is there already; choose another folder with --out, or move the model away",
            model.display()
        );
        Ok(())
    }

    /// Refuses a folder with a run's checkpoints or model. From a run that was ended before its first
    /// checkpoint, clears away what would mix with the new run: its curves in TensorBoard and its sample
    /// sheets.
    pub(super) fn begin_anew(&self) -> Result<()> {
        self.refuse_begun()?;
        self.refuse_model()?;
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

    /// Refuses a file, and a folder with anything in it that is not of a run.
    pub(super) fn refuse_foreign(&self) -> Result<()> {
        ensure!(
            !self.0.is_file(),
            "{}: this is a file; name a new or an empty folder with --out",
            self.0.display()
        );
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

    /// Makes the folders that are not there yet, which the answer lists, outer ones first.
    pub(super) fn create(&self) -> Result<Vec<PathBuf>> {
        make_folder(&self.0)
            .with_context(|| format!("{}: cannot make the run's folder", self.0.display()))?;
        let mut made = Vec::new();
        for folder in [self.0.clone(), self.checkpoints(), self.samples()] {
            match fs::create_dir(&folder) {
                Ok(()) => made.push(folder),
                Err(_) if folder.is_dir() => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("{}: cannot make the run's folder", folder.display())
                    });
                }
            }
        }
        Ok(made)
    }

    /// What is locked while a run writes here.
    pub(super) fn lock_file(&self) -> PathBuf {
        self.0.join(".lock")
    }

    /// What a killed run was about to write; only with the lock.
    pub(super) fn remove_leftovers(&self) -> Result<()> {
        for folder in [&self.0, &self.checkpoints(), &self.samples()] {
            atomic_file::remove_leftovers(folder)?;
        }
        Ok(())
    }

    /// Held while a run writes here; the system lets go of it even when the process is killed.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.lock_file();
        let file = File::create(&path)
            .with_context(|| format!("{}: cannot write into the run's folder", path.display()))?;
        match file.try_lock() {
            Ok(()) if lies_at(&file, &path) => Ok(file),
            // Whoever held it has removed it meanwhile.
            Ok(()) => self.lock(),
            Err(TryLockError::WouldBlock) => bail!(
                "{}: another munit-train is at work in this folder; choose another with --out",
                self.0.display()
            ),
            Err(TryLockError::Error(error)) => Err(error)
                .with_context(|| format!("{}: cannot lock the run's folder", path.display())),
        }
    }
}

/// What a start has made. Where it fails before there is a run in the folder, the empty folders go again,
/// and the lock's file; only with the lock.
pub(super) struct Unbegun {
    /// Folders, outer ones first.
    pub folders: Vec<PathBuf>,
    /// The lock's file, unless it was there before.
    pub lock: Option<PathBuf>,
}

impl Unbegun {
    /// From now on there is a run.
    pub fn begun(mut self) {
        self.folders.clear();
        self.lock = None;
    }
}

impl Drop for Unbegun {
    fn drop(&mut self) {
        // What cannot be removed does no harm.
        if let Some(lock) = &self.lock {
            let _ = fs::remove_file(lock);
        }
        for folder in self.folders.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Whether `file` is what lies at `path`, which another process may have removed since it was opened.
fn lies_at(file: &File, path: &Path) -> bool {
    let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let lies = fs::metadata(path).map(place);
    file.metadata()
        .map(place)
        .is_ok_and(|own| lies.is_ok_and(|lies| lies == own))
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
