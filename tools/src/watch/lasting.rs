//! What goes wrong slowly: discriminators that have won, styles that do nothing, translations that
//! change nothing.

use munit::{Direction, Domain};

use super::figures;
use super::persistence::{Persistence, Turn};
use super::{Finding, Findings, Trouble};

/// The step between two of the 256 values of a pixel, in a range from -1 to 1.
const GREY_LEVEL: f64 = 2.0 / 255.0;
/// Translations that differ by less than one grey level on the average look the same on any screen.
const LEAST_DIVERSITY: f64 = GREY_LEVEL;
/// What saving a photograph as an ordinary JPEG changes, nobody calls a translation.
const LEAST_CHANGE: f64 = 4.0 * GREY_LEVEL;
/// A discriminator that is mistaken in less than one score of a hundred.
const MOST_ACCURACY: f64 = 0.99;
/// Readings in a row until it is said; figures of a handful of pictures are noisy.
const PATIENCE: u32 = 3;
/// Discriminators win often for a while, and lose again.
const ACCURACY_PATIENCE: u32 = 6;

/// Compares figures with the limits of what a person can see, once the run is old enough.
#[derive(Clone, Debug)]
pub struct Lasting {
    from: u64,
    diversity: [Persistence; 2],
    change: [Persistence; 2],
    accuracy: [Persistence; 2],
}

impl Lasting {
    /// Says nothing before iteration `from`: networks that have just been drawn translate nothing
    /// yet and are told from real pictures with ease.
    pub fn new(from: u64) -> Self {
        let pair = |patience| [Persistence::new(patience), Persistence::new(patience)];
        Self {
            from,
            diversity: pair(PATIENCE),
            change: pair(PATIENCE),
            accuracy: pair(ACCURACY_PATIENCE),
        }
    }

    /// Takes in figures after `iteration` iterations; those that are missing are passed over.
    pub fn observe(&mut self, iteration: u64, values: &[(&str, f64)]) -> Findings {
        let mut findings = Findings::default();
        if iteration < self.from {
            return findings;
        }
        let value = |name: &str| {
            let found = values.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| *value)
        };
        let mut find = |turn, trouble, what: String, seen: String| {
            let finding = |what| Finding {
                iteration,
                trouble,
                what,
            };
            match turn {
                Some(Turn::Begins) => findings.begun.push(finding(format!("{what}: {seen}"))),
                Some(Turn::Ends) => findings.ended.push(finding(what)),
                None => {}
            }
        };
        for (index, direction) in Direction::ALL.into_iter().enumerate() {
            let way = direction.name();
            if let Some(diversity) = value(figures::diversity(direction)) {
                find(
                    self.diversity[index].observe(diversity < LEAST_DIVERSITY),
                    Trouble::ModeCollapse,
                    format!("styles have no visible effect in direction {way}"),
                    format!(
                        "translations of a picture in different styles differ by {:.2} grey levels of 255",
                        diversity / GREY_LEVEL
                    ),
                );
            }
            if let Some(change) = value(figures::identity_distance(direction)) {
                find(
                    self.change[index].observe(change < LEAST_CHANGE),
                    Trouble::IdentityCollapse,
                    format!("translations in direction {way} are their inputs"),
                    format!(
                        "they differ by {:.1} grey levels of 255",
                        change / GREY_LEVEL
                    ),
                );
            }
        }
        for (index, domain) in Domain::ALL.into_iter().enumerate() {
            if let Some(accuracy) = value(figures::accuracy(domain)) {
                find(
                    self.accuracy[index].observe(accuracy > MOST_ACCURACY),
                    Trouble::Saturation,
                    format!("the discriminator of domain {} has won", domain.name()),
                    format!("it tells {:.1} % of its patches", 100.0 * accuracy),
                );
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Iterations and troubles found in readings of `name` every 500 iterations.
    fn found(name: &str, values: &[f64]) -> Vec<(u64, Trouble)> {
        let mut lasting = Lasting::new(2000);
        (1..)
            .zip(values)
            .flat_map(|(number, value)| lasting.observe(500 * number, &[(name, *value)]).begun)
            .map(|finding| (finding.iteration, finding.trouble))
            .collect()
    }

    #[test]
    fn styles_that_fall_silent_are_found() {
        let healthy = [0.3; 8];
        let falling = [0.1, 0.03, 0.007, 0.002, 0.0, 0.0, 0.0, 0.0];
        let values = [healthy, falling].concat();
        for name in ["diversity_a2b", "diversity_b2a"] {
            assert_eq!(found(name, &values), [(6500, Trouble::ModeCollapse)]);
        }
    }

    #[test]
    fn what_has_healed_is_told_by_the_name_that_it_was_found_by() {
        let mut lasting = Lasting::new(0);
        let mut told = Vec::new();
        for (number, diversity) in [0.0, 0.0, 0.0, 0.0, 0.3, 0.3, 0.3, 0.3]
            .into_iter()
            .enumerate()
        {
            let found = lasting.observe(number as u64, &[("diversity_a2b", diversity)]);
            told.extend(found.begun.into_iter().map(|finding| (true, finding)));
            told.extend(found.ended.into_iter().map(|finding| (false, finding)));
        }
        let [(true, begun), (false, ended)] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!((begun.iteration, ended.iteration), (2, 6));
        assert!(ended.is_end_of(begun));
        assert_eq!(ended.what, "styles have no visible effect in direction a2b");
        let other = Finding {
            what: begun.what.replace("a2b", "b2a"),
            ..begun.clone()
        };
        assert!(!ended.is_end_of(&other));
    }

    #[test]
    fn translations_that_copy_their_inputs_are_found() {
        let values = [0.4, 0.4, 0.4, 0.3, 0.1, 0.04, 0.03, 0.02, 0.02, 0.02];
        for name in ["identity_distance_a2b", "identity_distance_b2a"] {
            assert_eq!(found(name, &values), [(4500, Trouble::IdentityCollapse)]);
        }
    }

    #[test]
    fn a_discriminator_that_has_won_is_found() {
        let values = [1.0; 12];
        for name in ["dis_accuracy_a", "dis_accuracy_b"] {
            assert_eq!(found(name, &values), [(4500, Trouble::Saturation)]);
        }
        // It wins for a while and loses again.
        let changing = [1.0, 1.0, 1.0, 0.97].repeat(6);
        assert_eq!(found("dis_accuracy_a", &changing), []);
    }

    #[test]
    fn the_beginning_of_a_run_is_no_collapse() {
        let beginning = [0.001, 0.002, 0.004, 0.006, 0.007, 0.02, 0.1, 0.1, 0.1];
        assert_eq!(found("diversity_a2b", &beginning), []);
        assert_eq!(found("identity_distance_a2b", &[0.01, 0.02, 0.03, 0.2]), []);
        assert_eq!(found("dis_accuracy_b", &[1.0, 1.0, 1.0, 1.0, 0.9, 0.9]), []);
    }

    #[test]
    fn what_is_not_measured_is_not_judged() {
        assert_eq!(found("gen_recon_x_a", &[0.0; 20]), []);
    }
}
