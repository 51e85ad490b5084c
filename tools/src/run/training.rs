//! The iterations of a run, and what goes on beside them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tch::{Device, Tensor};

use super::atomic_text;
use super::beginning::first_trainer;
use super::folder::RunFolder;
use super::perceptual::load_perceptual;
use super::pictures::loader_settings;
use super::problem::explain;
use super::rollback::{MOST_ROLLBACKS, earlier_state};
use crate::checkpoint::{self, CheckpointHeader, NotFinite};
use crate::config::{Rollback, TrainConfig};
use crate::crowding::{Crowding, LONG_WINDOW};
use crate::data::{Loader, LoaderSettings};
use crate::losses::{GRADIENT_PENALTIES, StepLosses};
use crate::preflight::{Preflight, Sets};
use crate::preview::Preview;
use crate::program::{sentence, shell_word, tell};
use crate::ranks::{Order, Ranks};
use crate::report::history::Happening;
use crate::report::page::{PageFacts, ReportPage, RunState};
use crate::report::scalars::LossTable;
use crate::report::{History, Progress, ScalarLog};
use crate::retention::{Judge, Retention};
use crate::samples::Samples;
use crate::torch_failure;
use crate::trainer::{Trainer, noise_generator};
use crate::watch::{Finding, Probe, Trouble, Watch};

/// Losses beside the progress bar.
const SHOWN_LOSSES: [&str; 6] = [
    "dis_total",
    "gen_total",
    "gen_adv_b",
    "gen_recon_x_b",
    "gen_recon_s_b",
    "gen_paired_b",
];

/// A run at work.
pub(super) struct Training<'r> {
    folder: &'r RunFolder,
    device: Device,
    sets: Sets,
    fingerprints: [u32; 2],
    preflight: Preflight,
    trainer: Trainer,
    loader: Loader,
    samples: Samples,
    probe: Probe,
    watch: Watch,
    judge: Judge,
    /// The newest [`GRADIENT_PENALTIES`], which belong to the losses of the iterations until the next.
    gradient_penalties: Option<Tensor>,
    log: ScalarLog,
    history: History,
    progress: Progress,
    page: ReportPage,
    /// What sample sheets have taken.
    sheet_time: Duration,
    preview: Option<Preview>,
    ranks: &'r Ranks,
    _crowding: Crowding,
    /// Whether this process or another has been asked to stop.
    stopped: bool,
    /// Iterations done in the newest checkpoint.
    saved: Option<u64>,
    saved_at: Instant,
}

/// What a run has before its first iteration.
pub(super) struct Prepared<'r> {
    pub folder: &'r RunFolder,
    pub device: Device,
    pub sets: Sets,
    pub fingerprints: [u32; 2],
    pub preflight: Preflight,
    pub trainer: Trainer,
    pub samples: Samples,
    pub preview: Option<Preview>,
    /// Of which this process must be the first.
    pub ranks: &'r Ranks,
    /// Whether a run goes on, be it from its beginning.
    pub resume: bool,
    /// What the checkpoint says that the state of `trainer` lies in, if there is one.
    pub saved: Option<CheckpointHeader>,
}

impl<'r> Training<'r> {
    /// Opens all that the run writes.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub(super) fn begin(prepared: Prepared<'r>) -> Result<Self> {
        let Prepared {
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
        } = prepared;
        let (config, iteration) = (trainer.config(), trainer.iteration);
        let resume_at = resume.then_some(iteration);
        let log = ScalarLog::open(folder.path(), resume_at)?;
        let mut history = History::open(folder.path(), resume_at)?;
        history.add(
            iteration,
            match resume {
                true => Happening::Resumed,
                false => Happening::Started,
            },
        )?;
        if !resume {
            for note in &preflight.report.notes {
                let what = note.clone();
                history.add(iteration, Happening::Note { what })?;
            }
        }
        let (watch, judge) = remembered(folder, config)?;
        let mut training = Self {
            loader: loader(&sets, config, iteration, ranks)?,
            probe: Probe::new(samples.pictures(), samples.fixed_styles())?,
            progress: Progress::new(iteration, config.max_iter, 2 * config.batch_size as u64),
            page: ReportPage::open(folder.path(), resume_at)?,
            gradient_penalties: saved.as_ref().and_then(penalties),
            saved: saved.map(|header| header.iteration),
            saved_at: Instant::now(),
            folder,
            device,
            sets,
            fingerprints,
            preflight,
            trainer,
            samples,
            watch,
            judge,
            log,
            history,
            preview,
            ranks,
            _crowding: Crowding::watch(LONG_WINDOW),
            stopped: false,
            sheet_time: Duration::ZERO,
        };
        // So that there is something to open from the first minute on.
        training.write_page(RunState::Running, false)?;
        Ok(training)
    }

    /// Trains until all iterations are done or `stop` says so, and leaves a checkpoint.
    ///
    /// # Errors
    /// A sentence for the person who started it.
    pub(super) fn train(&mut self, stop: &AtomicBool) -> Result<()> {
        let begun = self.trainer.iteration;
        let result = self.train_to_checkpoint(stop);
        self.progress.finish();
        let state = match result {
            Err(_) => RunState::Failed,
            Ok(()) if self.is_done() => RunState::Finished,
            Ok(()) => RunState::Stopped,
        };
        let happening = match state {
            RunState::Finished => Some(Happening::Finished),
            RunState::Stopped => Some(Happening::Stopped),
            _ => None,
        };
        let iteration = self.trainer.iteration;
        let written = happening
            .map_or(Ok(()), |happening| self.history.add(iteration, happening))
            // Who asks a run to stop does not want to wait for pictures.
            .and_then(|()| self.write_page(state, state == RunState::Finished));
        if result.is_ok() && iteration > begun {
            tell(&self.page.cost(self.sheet_time));
        }
        // The first failure is the one to tell of.
        result.and(written)
    }

    /// The trainer, after the last iteration.
    pub(super) fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// The pictures that are trained on and shown.
    pub(super) fn sets(&self) -> &Sets {
        &self.sets
    }

    /// Whether all iterations are done.
    pub(super) fn is_done(&self) -> bool {
        self.trainer.iteration >= self.trainer.config().max_iter
    }

    fn train_to_checkpoint(&mut self, stop: &AtomicBool) -> Result<()> {
        self.send_state()?;
        loop {
            let mut lost = None;
            while lost.is_none() && !self.is_done() && !self.stopped {
                lost = match torch_failure::as_errors(|| self.iterate(stop)) {
                    Ok(lost) => lost,
                    Err(error) => {
                        let error = self.explain(error);
                        self.rescue(&error);
                        return Err(error);
                    }
                };
            }
            if lost.is_none() && self.saved != Some(self.trainer.iteration) {
                lost = self.save_checkpoint()?;
            }
            match lost {
                Some(finding) => self.roll_back(&finding)?,
                None => return Ok(()),
            }
        }
    }

    /// Saves what has been learnt before the run ends with `error`, if it is whole.
    fn rescue(&mut self, error: &anyhow::Error) {
        let iteration = self.trainer.iteration;
        let goes_on = match self.saved {
            Some(saved) => format!("goes on from the checkpoint of iteration {saved}"),
            None => "starts over, since there is no checkpoint yet".to_owned(),
        };
        if !self.trainer.is_whole() {
            self.progress.log_line(&format!(
                "munit-train: iteration {} has failed half-way, with some of the weights changed and others \
                 not, so that nothing can be saved now; --resume {goes_on}",
                iteration + 1
            ));
            return;
        }
        if iteration <= self.saved.unwrap_or_default() {
            return;
        }
        let problem = match self.write_checkpoint() {
            Ok(None) => {
                self.progress.log_line(&format!(
                    "munit-train: the run ends with an error; the checkpoint of iteration {iteration} is saved"
                ));
                return;
            }
            Ok(Some(lost)) => lost.what,
            Err(problem) => sentence(&problem),
        };
        // On a full disk, for instance, it is what the run ends with.
        if problem != sentence(error) {
            self.progress.log_line(&format!(
                "munit-train: the state after iteration {iteration} cannot be saved either: {problem}; \
                 --resume {goes_on}"
            ));
        }
    }

    /// One iteration. What it returns has cost the weights.
    fn iterate(&mut self, stop: &AtomicBool) -> Result<Option<Finding>> {
        self.tell_of_pictures()?;
        let batch = self
            .loader
            .next_batch()
            .map_err(|error| self.explain(error))?;
        self.ranks.lead(Order::Train)?;
        let config = self.trainer.config();
        let stream = config.noise_stream(self.trainer.iteration);
        let mut random = noise_generator(config.seed, stream);
        let share = self.ranks.share();
        let mut losses = self
            .trainer
            .step(&batch.a, &batch.b, &mut |shape| {
                share.normal(&mut random, shape)
            })
            .map_err(|error| self.explain(error))?;
        self.stopped = losses.agree(self.ranks, stop.load(Ordering::Relaxed))?;
        if let Some(computed) = losses.named(&GRADIENT_PENALTIES)? {
            self.gradient_penalties = Some(computed);
        }
        let lost = self.read(&losses)?;
        self.progress.advance(self.trainer.iteration);
        if lost.is_some() {
            return Ok(lost);
        }
        let begun = Instant::now();
        let drawn = self.save_samples().map_err(|error| self.explain(error))?;
        self.sheet_time += begun.elapsed();
        if self.is_checkpoint_due()
            && let Some(lost) = self.save_checkpoint()?
        {
            return Ok(Some(lost));
        }
        let iteration = self.trainer.iteration;
        let due = iteration.is_multiple_of(self.trainer.config().report_iter);
        // The last report shows all that there is.
        if !self.is_done() {
            if (due || drawn) && self.page.may_be_written() {
                self.write_page(RunState::Running, true)?;
            } else if drawn {
                let begun = Instant::now();
                self.page
                    .keep_sheets(&self.trainer, &self.samples)
                    .map_err(|error| self.explain(error))?;
                self.sheet_time += begun.elapsed();
            }
        }
        if let Some(preview) = &mut self.preview {
            let shown = preview.show(&self.trainer, &self.samples, &self.progress);
            if let Err(error) = shown.map_err(|error| self.explain(error)) {
                let error = sentence(&error);
                self.progress.log_line(&format!(
                    "munit-train: the preview shows no more samples: {error}"
                ));
                self.preview = None;
            }
        }
        Ok(None)
    }

    /// Logs and judges what is due after this iteration.
    fn read(&mut self, losses: &StepLosses) -> Result<Option<Finding>> {
        let (config, iteration) = (self.trainer.config(), self.trainer.iteration);
        let mut values = Vec::new();
        // To read the losses is to wait for a device that could be given the next iteration.
        if iteration % config.log_iter == 0 {
            let mut losses = losses.read()?;
            if losses
                .iter()
                .all(|(name, _)| !GRADIENT_PENALTIES.contains(name))
                && let Some(newest) = self.newest_penalties()?
            {
                losses.extend(GRADIENT_PENALTIES.into_iter().zip(newest.map(f64::from)));
            }
            values.extend_from_slice(&losses);
            let shown: Vec<(&str, f64)> = SHOWN_LOSSES
                .iter()
                .filter_map(|name| losses.iter().find(|(known, _)| known == name).copied())
                .collect();
            self.progress.show(&shown);
        }
        if iteration % config.watch_iter == 0 {
            let measured = self.probe.measure(&self.trainer);
            values.extend(measured.map_err(|error| self.explain(error))?);
        }
        if values.is_empty() {
            return Ok(None);
        }
        self.log.write(iteration, &values)?;
        self.judge.observe(&values);
        let mut lost = None;
        let findings = self.watch.observe(iteration, &values);
        for finding in findings.ended {
            self.progress
                .log_line(&format!("munit-train: {}", finding.end_line()));
            self.history.add(iteration, Happening::Ended { finding })?;
        }
        for finding in findings.begun {
            if finding.trouble.ruins_weights() {
                lost = Some(finding);
                continue;
            }
            self.tell(finding)?;
        }
        Ok(lost)
    }

    fn newest_penalties(&self) -> Result<Option<[f32; 2]>> {
        let values = self.gradient_penalties.as_ref().map(Vec::<f32>::try_from);
        Ok(values
            .transpose()?
            .and_then(|values| values.try_into().ok()))
    }

    fn tell(&mut self, finding: Finding) -> Result<()> {
        self.progress
            .log_line(&format!("munit-train: {}", finding.line()));
        self.history
            .add(finding.iteration, Happening::Found { finding })
    }

    /// What has been found out about the pictures meanwhile.
    fn tell_of_pictures(&mut self) -> Result<()> {
        let iteration = self.trainer.iteration;
        for what in self.preflight.news() {
            self.progress.log_line(&what);
            self.history.add(iteration, Happening::Note { what })?;
        }
        for skipped in self.loader.take_warnings() {
            if !self.preflight.knows(&skipped.path) {
                self.progress.log_line(&format!(
                    "cannot be used now, another picture stands in for it: {skipped}"
                ));
                let what = skipped.to_string();
                self.history.add(iteration, Happening::LeftOut { what })?;
            }
        }
        Ok(())
    }

    /// Draws the sheet of samples if it is due; true if it is one that is kept.
    fn save_samples(&mut self) -> Result<bool> {
        let (config, iteration) = (self.trainer.config(), self.trainer.iteration);
        let keep = iteration % config.image_save_iter == 0 || iteration == config.max_iter;
        if !keep && iteration % config.image_display_iter != 0 {
            return Ok(false);
        }
        let family = config.architecture().family;
        let generators = self.trainer.averaged_generators()?;
        let sheet = self.samples.sheet(&generators, family, iteration)?;
        sheet.save(&self.folder.sample_sheet())?;
        if keep {
            sheet.save(&self.folder.kept_sample_sheet(iteration))?;
            self.log
                .write_image(iteration, "samples", &sheet.render())?;
        }
        Ok(keep)
    }

    fn is_checkpoint_due(&self) -> bool {
        let (config, iteration) = (self.trainer.config(), self.trainer.iteration);
        let longest_unsaved = Duration::try_from_secs_f64(60.0 * config.snapshot_save_minutes)
            .unwrap_or(Duration::MAX);
        iteration % config.snapshot_save_iter == 0
            || (config.keep_every > 0 && iteration % config.keep_every == 0)
            || self.saved_at.elapsed() >= longest_unsaved
    }

    /// Saves a checkpoint, from which all processes go on. Weights that are lost are not saved.
    fn save_checkpoint(&mut self) -> Result<Option<Finding>> {
        let lost = self.write_checkpoint()?;
        if lost.is_none() {
            // Also in the other processes the run goes on from what the checkpoint holds.
            self.send_state()?;
        }
        Ok(lost)
    }

    /// Writes a checkpoint, and removes those that it supersedes.
    fn write_checkpoint(&mut self) -> Result<Option<Finding>> {
        // Not even a power cut may leave a checkpoint and take losses from before it.
        self.log.sync()?;
        self.history.sync()?;
        let iteration = self.trainer.iteration;
        let folder = self.folder.checkpoints();
        let figure = self.judge.figure();
        let penalties = self.newest_penalties()?;
        let finite = penalties.filter(|penalties| penalties.iter().all(|value| value.is_finite()));
        match checkpoint::save(&self.trainer, self.fingerprints, figure, finite, &folder) {
            Ok(_) => {}
            Err(error) => match error.downcast::<NotFinite>() {
                Ok(lost) => {
                    return Ok(Some(Finding {
                        iteration,
                        trouble: Trouble::NotFinite,
                        what: lost.to_string(),
                    }));
                }
                Err(error) => {
                    let left = match checkpoint::list(&folder)?.last() {
                        Some(_) => "the ones before are still there",
                        None => "there is none before it",
                    };
                    return Err(
                        error.context(format!("the checkpoint could not be written; {left}"))
                    );
                }
            },
        }
        Retention::new(self.trainer.config()).apply(&folder, iteration)?;
        self.saved = Some(iteration);
        self.saved_at = Instant::now();
        Ok(None)
    }

    /// Gives the other processes, if there are any, the state of this one.
    fn send_state(&mut self) -> Result<()> {
        self.ranks.lead(Order::Take {
            config: Box::new(self.trainer.config().clone()),
            iteration: self.trainer.iteration,
            pictures: self.fingerprints,
        })?;
        checkpoint::synchronise(&mut self.trainer, self.ranks)
    }

    /// Goes back to an earlier state, with lower learning rates, other noise and other crops.
    fn roll_back(&mut self, finding: &Finding) -> Result<()> {
        let from = self.trainer.iteration;
        let mut config = self.trainer.config().clone();
        let told = Happening::Found {
            finding: finding.clone(),
        };
        self.history.add(from, told)?;
        if config.rollbacks.len() >= MOST_ROLLBACKS {
            let [rate, _] = config.learning_rates(from);
            let folder = shell_word(self.folder.path());
            bail!(
                "iteration {from}: {}, and {MOST_ROLLBACKS} returns to earlier checkpoints, each with half \
                 the learning rate, have not helped; nothing after the last checkpoint is kept. Make a \
                 model of that with munit-export {folder} model.safetensors, or start anew with an lr \
                 below {rate:e}",
                finding.what
            );
        }
        self.progress
            .log_line(&format!("munit-train: {}", finding.line()));
        let folder = self.folder.checkpoints();
        let state = earlier_state(&folder, from, &config.rollbacks)?;
        let to = state.as_ref().map_or(0, |state| state.header.iteration);
        config.rollbacks.push(Rollback { from, to });
        self.gradient_penalties = state.as_ref().and_then(|state| penalties(&state.header));
        // Anew even where a checkpoint is restored: the other processes begin anew, too, and all must
        // find out together in which order gradients come.
        let perceptual = load_perceptual(&config, self.device)?;
        self.trainer = match &state {
            None => first_trainer(&config, self.device, perceptual)?,
            Some(_) => Trainer::new(config.clone(), self.device, perceptual)
                .map_err(|error| explain(error, &config))?,
        };
        self.trainer.average_over(self.ranks)?;
        if let Some(state) = state {
            state.restore(&mut self.trainer)?;
        }
        self.trainer.set_rollbacks(config.rollbacks.clone());
        // Were they left, a run that is killed now would go on from them. Killed before the next
        // checkpoint is written, it goes on from the state that this one goes back to, and fails again
        // in the same way.
        for (iteration, path) in checkpoint::list(&folder)? {
            if iteration > to {
                std::fs::remove_file(&path)
                    .with_context(|| format!("{}: cannot remove", path.display()))?;
            }
        }
        self.log = ScalarLog::open(self.folder.path(), Some(to))?;
        self.history = History::open(self.folder.path(), Some(to))?;
        (self.watch, self.judge) = remembered(self.folder, &config)?;
        if self.save_checkpoint()?.is_some() {
            bail!("iteration {to}: the checkpoint that was gone back to holds no numbers");
        }
        atomic_text(&self.folder.config_file(), &config.to_yaml()?)?;
        self.loader = loader(&self.sets, &config, to, self.ranks)?;
        self.progress.go_back(to);
        self.page.go_back(to)?;
        let [rate, _] = config.learning_rates(to.max(config.lr_warmup));
        self.progress.log_line(&format!(
            "munit-train: going back to iteration {to}, with the learning rate {rate:e}, other noise \
             and other crops (return {} of {MOST_ROLLBACKS} at most)",
            config.rollbacks.len()
        ));
        self.history.add(from, Happening::RolledBack { to, rate })?;
        self.write_page(RunState::Running, false)
    }

    /// Writes the report, with new samples if `draw` says so. A report that cannot be written is no
    /// reason to end a run.
    fn write_page(&mut self, state: RunState, draw: bool) -> Result<()> {
        let written = self.page.write(
            &PageFacts {
                state,
                trainer: &self.trainer,
                samples: &self.samples,
                progress: &self.progress,
                events: self.history.events(),
                data: &self.preflight.report,
                sheet_time: self.sheet_time,
            },
            draw,
        );
        if let Err(error) = written {
            let error = sentence(&self.explain(error));
            self.progress
                .log_line(&format!("munit-train: the report was not written: {error}"));
        }
        Ok(())
    }

    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        explain(error, self.trainer.config())
    }
}

fn penalties(header: &CheckpointHeader) -> Option<Tensor> {
    header
        .gradient_penalties
        .map(|values| Tensor::from_slice(&values))
}

fn loader(sets: &Sets, config: &TrainConfig, iteration: u64, ranks: &Ranks) -> Result<Loader> {
    let pictures = &sets.training;
    let settings = LoaderSettings {
        share: ranks.share(),
        ..loader_settings(config)
    };
    Loader::new(pictures.a.clone(), pictures.b.clone(), settings, iteration)
}

/// Watch and judge as they were after the last row of `losses.csv`.
fn remembered(folder: &RunFolder, config: &TrainConfig) -> Result<(Watch, Judge)> {
    let mut watch = Watch::new(config.watch_after);
    let mut judge = Judge::new(config.keep_best.clone());
    let table = LossTable::read(folder.path())?;
    for row in &table.rows {
        let known = table.known(row);
        // What was found has been told.
        watch.observe(row.iteration, &known);
        judge.observe(&known);
    }
    Ok((watch, judge))
}
