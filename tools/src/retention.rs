//! Which checkpoints of a run are kept.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::checkpoint::{self, KeptFigure};
use crate::config::TrainConfig;
use crate::watch::figures;

/// Losses differ much from batch to batch; a mean over so many readings says more.
const READINGS_OF_LOSSES: usize = 10;

/// The rules by which checkpoints are kept; what one of them keeps stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest.
    pub last: usize,
    /// Those at multiples of so many iterations; 0 for none.
    pub every: u64,
    /// The best by the figure of this name.
    pub best: Option<String>,
}

/// A checkpoint as far as these rules look at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Iterations done.
    pub iteration: u64,
    /// Its value of the figure, where it has one.
    pub value: Option<f64>,
}

impl Retention {
    /// The rules of a run.
    pub fn new(config: &TrainConfig) -> Self {
        Self {
            last: config.keep_checkpoints,
            every: config.keep_every,
            best: config.keep_best.clone(),
        }
    }

    /// Which of `candidates`, oldest first, no rule keeps.
    pub fn superfluous(&self, candidates: &[Candidate]) -> Vec<u64> {
        let newest = candidates.len().saturating_sub(self.last);
        let best = self.best(candidates);
        candidates[..newest]
            .iter()
            .map(|candidate| candidate.iteration)
            .filter(|iteration| self.every == 0 || iteration % self.every != 0)
            .filter(|iteration| best != Some(*iteration))
            .collect()
    }

    /// Of equals the newest.
    fn best(&self, candidates: &[Candidate]) -> Option<u64> {
        let sign = match figures::larger_is_better(self.best.as_deref()?) {
            true => 1.0,
            false => -1.0,
        };
        let valued = candidates.iter().filter_map(|candidate| {
            let value = candidate.value.filter(|value| value.is_finite())?;
            Some((sign * value, candidate.iteration))
        });
        valued
            .max_by(|one, other| one.0.total_cmp(&other.0))
            .map(|(_, iteration)| iteration)
    }

    /// Removes from `folder` what no rule keeps of the checkpoints up to `newest`, which must be whole.
    ///
    /// Checkpoints of later iterations are left alone: a run that went back because they are damaged
    /// must not count them among those that it keeps.
    ///
    /// # Errors
    /// A folder that cannot be read, a file that cannot be removed.
    pub fn apply(&self, folder: &Path, newest: u64) -> Result<()> {
        let mut past = checkpoint::list(folder)?;
        past.retain(|(iteration, _)| *iteration <= newest);
        let candidates = self.candidates(&past);
        let superfluous = self.superfluous(&candidates);
        for (iteration, path) in past {
            if superfluous.contains(&iteration) {
                fs::remove_file(&path)
                    .with_context(|| format!("{}: cannot remove", path.display()))?;
            }
        }
        Ok(())
    }

    /// Checkpoints with what is known of their figures.
    fn candidates(&self, checkpoints: &[(u64, PathBuf)]) -> Vec<Candidate> {
        let known = |(iteration, path): &(u64, PathBuf)| Candidate {
            iteration: *iteration,
            value: self.value_of(path),
        };
        checkpoints.iter().map(known).collect()
    }

    /// The best of the checkpoints in `folder`, with its figure; `None` if no figure says which, or none
    /// has one.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn best_in(&self, folder: &Path) -> Result<Option<(PathBuf, KeptFigure)>> {
        let Some(name) = &self.best else {
            return Ok(None);
        };
        let past = checkpoint::list(folder)?;
        let candidates = self.candidates(&past);
        let best = self.best(&candidates);
        let best = past
            .into_iter()
            .zip(candidates)
            .find_map(|(one, candidate)| {
                let (iteration, path) = one;
                let figure = KeptFigure {
                    name: name.clone(),
                    value: candidate.value?,
                };
                (Some(iteration) == best).then_some((path, figure))
            });
        Ok(best)
    }

    fn value_of(&self, path: &Path) -> Option<f64> {
        let name = self.best.as_ref()?;
        let figure = checkpoint::header(path).ok()?.figure?;
        (figure.name == *name).then_some(figure.value)
    }
}

/// The newest value of the figure by which checkpoints are compared.
#[derive(Clone, Debug)]
pub struct Judge {
    name: Option<String>,
    readings: VecDeque<f64>,
}

impl Judge {
    /// For the figure of this name, if there is one.
    pub fn new(name: Option<String>) -> Self {
        Self {
            name,
            readings: VecDeque::new(),
        }
    }

    /// Takes in losses and figures.
    pub fn observe(&mut self, values: &[(&str, f64)]) {
        let Some(name) = &self.name else { return };
        let Some((_, value)) = values.iter().find(|(known, _)| known == name) else {
            return;
        };
        let remembered = match figures::is_figure(name) {
            true => 1,
            false => READINGS_OF_LOSSES,
        };
        if self.readings.len() == remembered {
            self.readings.pop_front();
        }
        self.readings.push_back(*value);
    }

    /// What a checkpoint of now is worth; `None` without a figure or a reading.
    pub fn figure(&self) -> Option<KeptFigure> {
        let name = self.name.clone()?;
        let count = self.readings.len() as f64;
        let value = self.readings.iter().sum::<f64>() / count;
        value.is_finite().then_some(KeptFigure { name, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(last: usize, every: u64, best: Option<&str>) -> Retention {
        Retention {
            last,
            every,
            best: best.map(str::to_owned),
        }
    }

    fn candidates(values: &[(u64, Option<f64>)]) -> Vec<Candidate> {
        let values = values.iter();
        values
            .map(|&(iteration, value)| Candidate { iteration, value })
            .collect()
    }

    #[test]
    fn the_newest_every_mth_and_the_best_stay() {
        let all = candidates(&[
            (10, Some(3.0)),
            (20, Some(1.0)),
            (30, Some(2.0)),
            (40, None),
            (50, Some(f64::NAN)),
            (60, Some(1.5)),
        ]);
        for (rules, superfluous) in [
            (rules(2, 0, None), &[10, 20, 30, 40][..]),
            (rules(1, 20, None), &[10, 30, 50]),
            (rules(1, 0, Some("gen_total")), &[10, 30, 40, 50]),
            (rules(1, 0, Some("diversity_a2b")), &[20, 30, 40, 50]),
            (rules(2, 30, Some("gen_total")), &[10, 40]),
            (rules(9, 0, None), &[]),
        ] {
            assert_eq!(rules.superfluous(&all), superfluous, "{rules:?}");
        }
        assert_eq!(rules(1, 1, None).superfluous(&[]), [0; 0]);
    }

    #[test]
    fn of_equals_the_newest_is_the_best() {
        let equal = candidates(&[(1, Some(2.0)), (2, Some(2.0)), (3, Some(9.0)), (4, None)]);
        assert_eq!(rules(1, 0, Some("dis_total")).superfluous(&equal), [1, 3]);
    }

    #[test]
    fn a_loss_is_judged_by_its_mean_and_a_figure_by_its_last_value() {
        for (name, expected) in [("gen_total", 14.5), ("diversity_a2b", 19.0)] {
            let mut judge = Judge::new(Some(name.to_owned()));
            assert_eq!(judge.figure(), None);
            for value in 0..20 {
                judge.observe(&[("other", 100.0), (name, f64::from(value))]);
            }
            judge.observe(&[("other", 100.0)]);
            assert_eq!(judge.figure().unwrap().value, expected);
        }
        let mut none = Judge::new(None);
        none.observe(&[("gen_total", 1.0)]);
        assert_eq!(none.figure(), None);
    }
}
