//! Losses that are no numbers any more, or run away.

use std::collections::{BTreeMap, VecDeque};

use super::persistence::{Persistence, Turn};
use super::{Finding, Trouble};
use crate::report::progress::short_number;

/// Readings that a loss is compared with.
const REMEMBERED: usize = 50;
/// Before there are so many, nobody knows what is usual.
const LEAST_REMEMBERED: usize = 20;
/// So many times its usual size, a loss runs away. In healthy runs the largest ratio comes when a
/// discriminator that had nearly won is surprised: from some hundredths to about 1, and the
/// comparison is with 1 at least.
const RATIO: f64 = 100.0;
/// Pictures lie in [-1, 1] and scores near 0 and 1, so that no loss of a run that works is far above
/// 1; smaller ones may well grow a hundredfold.
const LEAST_USUAL: f64 = 1.0;
/// One batch can do that to a loss; three readings in a row mean that the weights have gone.
const PATIENCE: u32 = 3;
/// Nothing comes back from here, however little is known about the loss.
const BEYOND: f64 = 1e8;

/// Compares each loss with its own median.
#[derive(Clone, Debug, Default)]
pub struct Divergence {
    losses: BTreeMap<String, History>,
}

#[derive(Clone, Debug)]
struct History {
    values: VecDeque<f64>,
    runs_away: Persistence,
}

impl Divergence {
    /// Takes in the losses after `iteration` iterations.
    pub fn observe(&mut self, iteration: u64, losses: &[(&str, f64)]) -> Option<Finding> {
        let finding = |trouble, what| Finding {
            iteration,
            trouble,
            what,
        };
        if let Some((name, value)) = losses.iter().find(|(_, value)| !value.is_finite()) {
            return Some(finding(
                Trouble::NotFinite,
                format!("the loss {name} is {value}"),
            ));
        }
        let mut found = None;
        for (name, value) in losses {
            let history = match self.losses.get_mut(*name) {
                Some(history) => history,
                None => self
                    .losses
                    .entry((*name).to_owned())
                    .or_insert_with(History::new),
            };
            if let Some(usual) = history.observe(*value) {
                found = found.or_else(|| {
                    Some(finding(
                        Trouble::Explosion,
                        match usual {
                            Some(usual) => format!(
                                "the loss {name} has grown to {}; it used to be {}",
                                short_number(*value),
                                short_number(usual)
                            ),
                            None => format!(
                                "the loss {name} is {}, far beyond what it can be in a run that works",
                                short_number(*value)
                            ),
                        },
                    ))
                });
            }
        }
        found
    }
}

impl History {
    fn new() -> Self {
        Self {
            values: VecDeque::with_capacity(REMEMBERED),
            runs_away: Persistence::new(PATIENCE),
        }
    }

    /// The usual size, as far as it is known, once the loss has left it.
    fn observe(&mut self, value: f64) -> Option<Option<f64>> {
        let usual = self.median();
        let too_large = usual.is_some_and(|usual| value.abs() > RATIO * usual.max(LEAST_USUAL));
        let gone = value.abs() > BEYOND;
        // What runs away must not become the usual.
        if !too_large && !gone {
            if self.values.len() == REMEMBERED {
                self.values.pop_front();
            }
            self.values.push_back(value.abs());
        }
        let turn = self.runs_away.observe(too_large || gone);
        (turn == Some(Turn::Begins)).then_some(usual)
    }

    fn median(&self) -> Option<f64> {
        if self.values.len() < LEAST_REMEMBERED {
            return None;
        }
        let mut sorted: Vec<f64> = self.values.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn troubles(values: impl IntoIterator<Item = f64>) -> Vec<(u64, Trouble)> {
        let mut divergence = Divergence::default();
        (1..)
            .zip(values)
            .filter_map(|(iteration, value)| {
                let losses = [("dis_total", 0.5), ("gen_total", value)];
                let finding = divergence.observe(iteration, &losses)?;
                assert!(finding.what.contains("gen_total"), "{}", finding.what);
                Some((finding.iteration, finding.trouble))
            })
            .collect()
    }

    #[test]
    fn what_is_no_number_is_found_at_once() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(troubles([3.0, value]), [(2, Trouble::NotFinite)]);
        }
    }

    #[test]
    fn a_loss_that_runs_away_is_found_after_three_readings() {
        let calm = (0..40).map(|reading| 3.0 + f64::from(reading % 5));
        let away = (1..8).map(|step| 10f64.powi(2 + step));
        assert_eq!(troubles(calm.chain(away)), [(43, Trouble::Explosion)]);
        // Even if nothing is known about it yet.
        assert_eq!(troubles([1e9; 4]), [(3, Trouble::Explosion)]);
    }

    #[test]
    fn a_bad_batch_a_surprised_discriminator_and_a_wild_start_are_no_explosions() {
        let calm = [4.0; 30];
        let spikes = calm.iter().copied().chain([1e4, 1e4, 4.0, 1e4, 4.0]);
        assert_eq!(troubles(spikes), []);
        let won = (0..200).map(|reading| if reading < 150 { 0.004 } else { 2.5 });
        assert_eq!(troubles(won), []);
        let start = (0..300).map(|reading| 3000.0 * 0.9f64.powi(reading) + 2.0);
        assert_eq!(troubles(start), []);
    }
}
