//! The figures of the watch by name.

use munit::config::Family;
use munit::{Direction, Domain};

use crate::config::TrainConfig;

/// Mean absolute difference of translations of the same picture in different styles, in a range of
/// pixel values from -1 to 1.
pub fn diversity(direction: Direction) -> &'static str {
    match direction {
        Direction::A2b => "diversity_a2b",
        Direction::B2a => "diversity_b2a",
    }
}

/// Mean absolute difference between pictures and their translations, in the same range.
pub fn identity_distance(direction: Direction) -> &'static str {
    match direction {
        Direction::A2b => "identity_distance_a2b",
        Direction::B2a => "identity_distance_b2a",
    }
}

/// Share of a discriminator's scores that tell real pictures from translated ones: 0.5 if it knows
/// nothing, 1 if it is never mistaken.
pub fn accuracy(domain: Domain) -> &'static str {
    match domain {
        Domain::A => "dis_accuracy_a",
        Domain::B => "dis_accuracy_b",
    }
}

/// All figures of the watch.
pub fn all() -> Vec<&'static str> {
    let of_directions = Direction::ALL
        .into_iter()
        .flat_map(|direction| [diversity(direction), identity_distance(direction)]);
    of_directions
        .chain(Domain::ALL.into_iter().map(accuracy))
        .collect()
}

/// The figures of a run of `config`: UNIT has one translation of a picture, no diversity, and
/// discriminators that learn nothing have no accuracy.
pub fn of(config: &TrainConfig) -> Vec<&'static str> {
    let mut figures = all();
    if config.architecture().family == Family::Unit {
        figures.retain(|name| Direction::ALL.iter().all(|way| diversity(*way) != *name));
    }
    if config.gan_w == 0.0 {
        figures.retain(|name| Domain::ALL.iter().all(|domain| accuracy(*domain) != *name));
    }
    figures
}

/// Whether `name` is that of a figure of the watch, not of a loss.
pub fn is_figure(name: &str) -> bool {
    all().contains(&name)
}

/// Whether more of it is better; less of a loss is, but for the difference of two styles of one picture.
pub fn larger_is_better(name: &str) -> bool {
    let is_accuracy = |domain: Domain| accuracy(domain) == name;
    match name {
        "gen_diversity_a" | "gen_diversity_b" => true,
        _ => is_figure(name) && !Domain::ALL.into_iter().any(is_accuracy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_no_losses() {
        for (name, figure, larger) in [
            ("diversity_b2a", true, true),
            ("identity_distance_a2b", true, true),
            ("dis_accuracy_a", true, false),
            ("dis_a", false, false),
            ("gen_recon_x_b", false, false),
            ("gen_diversity_a", false, true),
        ] {
            assert_eq!((is_figure(name), larger_is_better(name)), (figure, larger));
        }
    }
}
