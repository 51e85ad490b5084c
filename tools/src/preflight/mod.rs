//! What a run will work on, before it begins: the pictures, what the network will see of them, and
//! whether it fits into memory.

mod data_report;
mod disk;
mod inputs;
mod inspection;
mod memory;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use munit::Domain;

pub use data_report::{DataReport, LeftOut, SetReport, listed};
pub use disk::too_small_disk;
pub use inputs::save_input_sheet;
pub use inspection::{Findings, Inspection};
pub use memory::MemoryEstimate;

use crate::config::TrainConfig;
use crate::data::{CACHE_BYTES, DataLayout, PictureSet, Source, cache_folder};
use crate::run::framing;
use crate::trainer::Pair;

/// How long a run waits for its pictures to be looked at before it begins without knowing all of
/// them.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pictures of a run.
#[derive(Clone, Debug)]
pub struct Sets {
    /// Those that are trained on.
    pub training: Pair<PictureSet>,
    /// Those that are only shown, where there are any.
    pub test: Pair<Option<PictureSet>>,
    layout: DataLayout,
}

impl Sets {
    /// Finds all pictures of `layout` but those in `run`, the folder of the run, which are its sheets; if
    /// they are `paired`, only those for training that have a partner.
    ///
    /// # Errors
    /// Those of [`PictureSet::scan`], with the domain, and of [`PictureSet::pair`].
    pub fn scan(layout: &DataLayout, run: Option<&Path>, paired: bool) -> Result<Self> {
        let scan = |source: &Source, domain: Domain| {
            PictureSet::scan_outside(source, run)
                .with_context(|| format!("domain {}", domain.name()))
        };
        let mut training = Pair {
            a: scan(&layout.train_a, Domain::A)?,
            b: scan(&layout.train_b, Domain::B)?,
        };
        if paired {
            PictureSet::pair(&mut training.a, &mut training.b)?;
        }
        Ok(Self {
            training,
            test: Pair {
                a: layout
                    .test_a
                    .as_ref()
                    .map(|test| scan(test, Domain::A))
                    .transpose()?,
                b: layout
                    .test_b
                    .as_ref()
                    .map(|test| scan(test, Domain::B))
                    .transpose()?,
            },
            layout: layout.clone(),
        })
    }

    /// Bytes of the training pictures that the loader of a run of `config` keeps in memory.
    pub fn kept_bytes(&self, config: &TrainConfig) -> u64 {
        let bytes = Domain::ALL.map(|domain| {
            let framing = framing(config, domain);
            let headers = self.training.get(domain).headers.iter();
            headers
                .map(|header| framing.resized_bytes(header.width, header.height))
                .sum::<u64>()
        });
        bytes.iter().sum::<u64>().min(CACHE_BYTES as u64)
    }

    /// Training pictures of a and b first, then the test pictures that there are.
    fn all(&self) -> Vec<NamedSet<'_>> {
        let named = |domain, is_test, set| NamedSet {
            domain,
            is_test,
            set,
        };
        let training = Domain::ALL.map(|domain| named(domain, false, self.training.get(domain)));
        let test = Domain::ALL.into_iter().filter_map(|domain| {
            let set = self.test.get(domain).as_ref()?;
            Some(named(domain, true, set))
        });
        training.into_iter().chain(test).collect()
    }

    /// The same with where they come from.
    fn sources(&self) -> Vec<(Source, PictureSet)> {
        let layout = &self.layout;
        let sources = [&layout.train_a, &layout.train_b].into_iter();
        let sources = sources.chain(&layout.test_a).chain(&layout.test_b);
        let sets = self.all().into_iter().map(|named| named.set.clone());
        sources.cloned().zip(sets).collect()
    }
}

/// One of the sets of a run.
#[derive(Clone, Copy, Debug)]
struct NamedSet<'s> {
    domain: Domain,
    is_test: bool,
    set: &'s PictureSet,
}

impl NamedSet<'_> {
    fn name(&self) -> String {
        let domain = self.domain.name();
        match self.is_test {
            false => format!("domain {domain}"),
            true => format!("test pictures of domain {domain}"),
        }
    }
}

/// The look at a run's pictures that goes on while it trains.
pub struct Preflight {
    sets: Sets,
    config: TrainConfig,
    inspection: Option<Inspection>,
    /// What is known by now.
    pub report: DataReport,
}

impl Preflight {
    /// Looks at the pictures for a few seconds, which is enough for all that are known from former
    /// runs and for sets of some thousand; see [`Self::news`] for the others.
    ///
    /// # Errors
    /// A set of which no picture can be used; a thread that cannot be started.
    pub fn begin(sets: Sets, config: &TrainConfig) -> Result<Self> {
        Self::start(sets, config, |inspection| inspection.wait(PATIENCE))
    }

    /// Looks at all pictures, however long it takes; `progress` is told now and then how many have
    /// been looked at, and how many there are.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn complete(
        sets: Sets,
        config: &TrainConfig,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        Self::start(sets, config, |inspection| {
            loop {
                let found = inspection.wait(Duration::from_millis(100));
                let (done, total) = inspection.progress();
                progress(done, total);
                if found.is_some() {
                    return found;
                }
            }
        })
    }

    fn start(
        sets: Sets,
        config: &TrainConfig,
        wait: impl FnOnce(&Inspection) -> Option<Findings>,
    ) -> Result<Self> {
        let inspection = Inspection::start(sets.sources(), cache_folder())?;
        let findings = wait(&inspection);
        let report = DataReport::new(&sets, config, findings.as_ref());
        for set in &report.sets {
            set.require_usable()?;
        }
        inspection.step_aside();
        Ok(Self {
            sets,
            config: config.clone(),
            inspection: findings.is_none().then_some(inspection),
            report,
        })
    }

    /// Whether a picture has been reported as left out.
    pub fn knows(&self, path: &Path) -> bool {
        let mut left_out = self.report.sets.iter().flat_map(|set| &set.left_out);
        left_out.any(|left_out| left_out.path == path)
    }

    /// Lines on what was found out since this was last asked.
    pub fn news(&mut self) -> Vec<String> {
        let Some(inspection) = &self.inspection else {
            return Vec::new();
        };
        let Some(findings) = inspection.wait(Duration::ZERO) else {
            return Vec::new();
        };
        self.inspection = None;
        let before = std::mem::replace(
            &mut self.report,
            DataReport::new(&self.sets, &self.config, Some(&findings)),
        );
        let mut lines = Vec::new();
        for (set, before) in self.report.sets.iter().zip(before.sets) {
            let new: Vec<LeftOut> = set
                .left_out
                .iter()
                .filter(|left_out| !before.left_out.contains(left_out))
                .cloned()
                .collect();
            lines.extend(listed(&new));
        }
        let notes = self.report.notes.iter();
        lines.extend(notes.filter(|note| !before.notes.contains(note)).cloned());
        lines
    }
}
