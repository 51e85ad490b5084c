//! How far a run of munit-train is.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::checkpoint::{self, KeptFigure, OtherVersion};
use crate::program::{sentence, shell_word};
use crate::retention::Retention;
use crate::run::RunFolder;

/// What the folder of a run says.
#[derive(Clone, Debug, Serialize)]
pub struct RunInfo {
    /// The folder, as it was named.
    pub run: PathBuf,
    /// Whether all iterations are done and the model is written.
    pub finished: bool,
    /// Iterations of the newest checkpoint; 0 without one.
    pub iteration: u64,
    /// Iterations of the whole run.
    pub iterations: u64,
    /// The newest checkpoint that can be used.
    pub checkpoint: Option<PathBuf>,
    /// What is wrong with each newer one, newest first.
    pub problems: Vec<String>,
    /// The best checkpoint, if the run keeps one (`keep_best`).
    pub best: Option<Best>,
    /// The model, if the run has written one.
    pub model: Option<PathBuf>,
}

/// The best checkpoint of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Best {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// By what, and how good.
    pub figure: KeptFigure,
}

impl RunInfo {
    /// Looks at the run in `folder`.
    ///
    /// # Errors
    /// A sentence that names the folder: no run, a configuration that cannot be read; a checkpoint of
    /// another version of munit-train.
    pub fn of(folder: &Path) -> Result<Self> {
        let run = RunFolder::new(folder);
        let config = run.config()?;
        let mut newest = None;
        let mut problems = Vec::new();
        for (iteration, path) in checkpoint::list(&run.checkpoints())?.into_iter().rev() {
            match checkpoint::header(&path) {
                Ok(_) => {
                    newest = Some((iteration, path));
                    break;
                }
                Err(error) if error.is::<OtherVersion>() => return Err(error),
                Err(error) => problems.push(sentence(&error)),
            }
        }
        let iteration = newest.as_ref().map_or(0, |(iteration, _)| *iteration);
        let model = Some(run.model()).filter(|model| model.exists());
        let best = Retention::new(&config).best_in(&run.checkpoints())?;
        Ok(Self {
            run: folder.to_owned(),
            finished: iteration >= config.max_iter && model.is_some(),
            iteration,
            iterations: config.max_iter,
            checkpoint: newest.map(|(_, path)| path),
            problems,
            best: best.map(|(checkpoint, figure)| Best { checkpoint, figure }),
            model,
        })
    }

    /// # Errors
    /// A sentence that names the newest checkpoint, if there are some and none of them can be used.
    pub fn require_checkpoint(&self) -> Result<()> {
        match (&self.checkpoint, self.problems.first()) {
            (None, Some(problem)) => bail!(checkpoint::none_whole(problem)),
            _ => Ok(()),
        }
    }

    /// What to type next where the run is not finished, each with what it does.
    pub fn next_steps(&self) -> Vec<String> {
        let run = shell_word(&self.run);
        let mut steps = Vec::new();
        if !self.finished {
            if self.iteration < self.iterations && self.require_checkpoint().is_ok() {
                steps.push(format!("go on with: munit-train --resume {run}"));
            }
            if self.checkpoint.is_some() {
                steps.push(format!(
                    "make a model of it as it is: munit-export {run} model.safetensors"
                ));
            }
        }
        steps
    }
}

impl fmt::Display for RunInfo {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let state = match self.finished {
            true => "finished",
            false => "not finished",
        };
        let shown = |path: &Option<PathBuf>| match path {
            Some(path) => path.display().to_string(),
            None => "none yet".to_owned(),
        };
        let progress = format!("{} of {}, {state}", self.iteration, self.iterations);
        let mut row = |name: &str, text: &str| writeln!(f, "{name:<16} {text}");
        row("run", &self.run.display().to_string())?;
        row("iterations", &progress)?;
        row(
            "checkpoint",
            &match self.require_checkpoint() {
                Ok(()) => shown(&self.checkpoint),
                Err(_) => "none that can be used".to_owned(),
            },
        )?;
        for problem in &self.problems {
            row("", problem)?;
        }
        if let Some(Best { checkpoint, figure }) = &self.best {
            let text = format!(
                "{}, {} {:.4}",
                checkpoint.display(),
                figure.name,
                figure.value
            );
            row("best", &text)?;
        }
        row("model", &shown(&self.model))?;
        self.next_steps()
            .iter()
            .try_for_each(|step| writeln!(f, "{step}"))
    }
}
