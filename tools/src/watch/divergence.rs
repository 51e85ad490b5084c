//! Losses that are no numbers any more, or run away.

use std::collections::{BTreeMap, VecDeque};

use super::persistence::{Persistence, Turn};
use super::{Finding, Trouble};
use crate::loss_scale::{self, is_passed_over};
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
        let is_scale = |name: &str| loss_scale::NAMES.contains(&name);
        let lost = losses
            .iter()
            .find(|(name, value)| !value.is_finite() && !is_passed_over(name, losses));
        if let Some((name, value)) = lost {
            return Some(finding(
                Trouble::NotFinite,
                format!("the loss {name} is {value}"),
            ));
        }
        let sunk = losses
            .iter()
            .find(|(name, value)| is_scale(name) && *value <= loss_scale::SMALLEST);
        if let Some((name, value)) = sunk {
            return Some(finding(
                Trouble::NotFinite,
                format!(
                    "no gradient has been finite until {name} was {}",
                    short_number(*value)
                ),
            ));
        }
        let mut found = None;
        for (name, value) in losses {
            if is_scale(name) || !value.is_finite() {
                continue;
            }
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
    fn an_update_that_is_passed_over_is_no_loss_of_the_weights() {
        let observe = |losses: &[(&str, f64)]| {
            let finding = Divergence::default().observe(1, losses)?;
            assert_eq!(finding.trouble, Trouble::NotFinite);
            Some(finding.what)
        };
        let (nan, smallest) = (f64::NAN, loss_scale::SMALLEST);
        let row = |dis, gen_total, dis_scale, gen_scale| {
            observe(&[
                ("dis_total", dis),
                ("gen_total", gen_total),
                ("dis_loss_scale", dis_scale),
                ("gen_loss_scale", gen_scale),
            ])
        };
        assert_eq!(row(1.0, nan, 65536.0, 2.0), None);
        assert_eq!(row(nan, f64::INFINITY, 0.5, 2.0), None);
        // Each side has a scale of its own.
        let found = row(1.0, nan, 65536.0, smallest).unwrap();
        assert_eq!(found, "the loss gen_total is NaN");
        assert_eq!(
            row(nan, 1.0, smallest, 2.0).unwrap(),
            "the loss dis_total is NaN"
        );
        assert_eq!(
            row(1.0, nan, smallest, 2.0).unwrap(),
            "no gradient has been finite until dis_loss_scale was 1.53e-5"
        );
        // Without a scale there is nothing to wait for.
        assert!(observe(&[("gen_total", nan), ("dis_loss_scale", 2.0)]).is_some());
    }

    #[test]
    fn scales_and_passed_over_losses_say_nothing_about_what_is_usual() {
        let mut divergence = Divergence::default();
        for iteration in 1..100 {
            let scale = if iteration < 50 { 16_777_216.0 } else { 0.001 };
            let loss = if iteration % 2 == 0 {
                f64::INFINITY
            } else {
                3.0
            };
            let losses = [("gen_total", loss), ("gen_loss_scale", scale)];
            assert_eq!(divergence.observe(iteration, &losses), None);
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
