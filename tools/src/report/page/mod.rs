//! The report of a run: one HTML file that shows itself wherever it is opened.

mod album;
mod curves;
mod drawing;
mod mosaic;
mod sections;
mod series;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use munit::atomic_file;

use super::budget::Budget;
use super::history::Event;
use super::progress::Progress;
use super::scalars::LossTable;
use crate::local_time::local_time;
use crate::machine::Machine;
use crate::preflight::DataReport;
use crate::retention::Retention;
use crate::run::RunFolder;
use crate::samples::Samples;
use crate::trainer::Trainer;
pub use album::ALBUM_NAME;
use album::Album;
pub use drawing::both_sheets;
use sections::Page;

/// The file's name in a run's folder.
pub const PAGE_NAME: &str = "report.html";
/// Figures of `munit-evaluate --json` in a run's folder, which the report shows.
pub const EVALUATION_NAME: &str = "evaluate.json";

/// What all reports of a run may take of its time.
const SHARE: f64 = 0.01;

/// How a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It trains.
    Running,
    /// It was asked to stop, and can go on.
    Stopped,
    /// All iterations are done.
    Finished,
    /// It ended with an error.
    Failed,
}

/// What a report is made from, beside what lies in the run's folder.
pub struct PageFacts<'r> {
    /// How the run is.
    pub state: RunState,
    /// Networks and configuration.
    pub trainer: &'r Trainer,
    /// The pictures that are shown.
    pub samples: &'r Samples,
    /// How fast it goes.
    pub progress: &'r Progress,
    /// What happened.
    pub events: &'r [Event],
    /// What is trained on.
    pub data: &'r DataReport,
    /// The time of this session that sample sheets have taken.
    pub sheet_time: Duration,
}

/// Writes `report.html` of a run again and again.
pub struct ReportPage {
    folder: PathBuf,
    album: Album,
    machine: Machine,
    budget: Budget,
}

impl ReportPage {
    /// The report of the run in `folder`, with the pictures up to iteration `resume_at`, or none.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn open(folder: &Path, resume_at: Option<u64>) -> Result<Self> {
        let mut album = Album::open(folder)?;
        match resume_at {
            Some(iteration) => album.forget_after(iteration)?,
            None => album.clear()?,
        }
        Ok(Self {
            folder: folder.to_owned(),
            album,
            machine: Machine::this(),
            budget: Budget::new(SHARE),
        })
    }

    /// The run has gone back to `iteration`.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn go_back(&mut self, iteration: u64) -> Result<()> {
        self.album.forget_after(iteration)
    }

    /// Whether another report would still take less than 1 % of the run's time.
    pub fn may_be_written(&self) -> bool {
        self.budget.allows()
    }

    /// Draws the sheets of this iteration for the next report, where none is written now.
    ///
    /// # Errors
    /// libtorch's, for instance out of memory; a file that cannot be written.
    pub fn keep_sheets(&mut self, trainer: &Trainer, samples: &Samples) -> Result<()> {
        drawing::draw_sheets(trainer, samples, &mut self.album)
    }

    /// What all reports of this session have taken, the last one included, and what sample sheets have: a
    /// sentence without its end.
    pub fn cost(&self, sheet_time: Duration) -> String {
        let told = |time: Duration| {
            let percent = 100.0 * self.budget.share_of(time);
            format!("{:.1} s, {percent:.1} %", time.as_secs_f64())
        };
        format!(
            "reports took {} of this session; sample sheets {}",
            told(self.budget.spent()),
            told(sheet_time)
        )
    }

    /// Writes the report, which is there whole or as it was before; with new pictures if `draw` says
    /// so.
    ///
    /// # Errors
    /// A file that cannot be read or written; libtorch's.
    pub fn write(&mut self, facts: &PageFacts, draw: bool) -> Result<()> {
        let Self {
            folder,
            album,
            machine,
            budget,
        } = self;
        let share = budget.spent_share();
        let sheet_share = budget.share_of(facts.sheet_time);
        budget.spend(|| {
            if draw {
                drawing::draw(facts.trainer, facts.samples, album)?;
            }
            let evaluation = std::fs::read(folder.join(EVALUATION_NAME)).ok();
            let checkpoints = RunFolder::new(folder).checkpoints();
            let page = Page {
                best: Retention::new(facts.trainer.config()).best_in(&checkpoints)?,
                facts,
                album,
                machine,
                table: LossTable::read(folder)?,
                evaluation: evaluation.and_then(|json| serde_json::from_slice(&json).ok()),
                written: local_time(SystemTime::now()),
                share,
                sheet_share,
            };
            let html = page.html()?;
            Ok(atomic_file::write(&folder.join(PAGE_NAME), |file| {
                file.write_all(html.as_bytes())
            })?)
        })
    }
}
