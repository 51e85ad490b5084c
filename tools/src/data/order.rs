//! Which picture is drawn when, and the random numbers that go with it: functions of counters, so
//! that nothing needs to be remembered but the number of the draw.

use munit::Domain;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// What random numbers are drawn for.
#[derive(Clone, Copy)]
enum Purpose {
    Order,
    Augmentation,
}

/// A generator of its own for each purpose, domain and counter: ChaCha keyed with all of them.
fn generator(seed: u64, purpose: Purpose, domain: Domain, counter: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    let words = [seed, purpose as u64, domain as u64, counter];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// The generator for the flip and the crop of one draw.
pub(super) fn augmentation(seed: u64, domain: Domain, draw: u64) -> ChaCha8Rng {
    generator(seed, Purpose::Augmentation, domain, draw)
}

/// The order of a domain's pictures: a fresh shuffle in every epoch.
///
/// Holds the shuffle of the epoch that was asked for last, because the next draw mostly falls into
/// the same one.
pub(super) struct Order {
    seed: u64,
    domain: Domain,
    epoch: Option<u64>,
    shuffled: Vec<usize>,
}

impl Order {
    /// For `count` pictures, at least one.
    pub(super) fn new(seed: u64, domain: Domain, count: usize) -> Self {
        Self {
            seed,
            domain,
            epoch: None,
            shuffled: (0..count).collect(),
        }
    }

    /// The pictures of the epoch of a draw, beginning with the one drawn and going round; those
    /// after the first stand in for it in turn when it cannot be read.
    pub(super) fn draw(&mut self, draw: u64) -> impl Iterator<Item = usize> {
        let count = self.shuffled.len() as u64;
        let epoch = draw / count;
        if self.epoch != Some(epoch) {
            for (position, picture) in self.shuffled.iter_mut().enumerate() {
                *picture = position;
            }
            let mut generator = generator(self.seed, Purpose::Order, self.domain, epoch);
            self.shuffled.shuffle(&mut generator);
            self.epoch = Some(epoch);
        }
        let (before, from) = self.shuffled.split_at((draw % count) as usize);
        from.iter().chain(before).copied()
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    fn epoch(order: &mut Order, epoch: u64, count: u64) -> Vec<usize> {
        (epoch * count..(epoch + 1) * count)
            .map(|draw| order.draw(draw).next().unwrap())
            .collect()
    }

    #[test]
    fn every_epoch_shows_every_picture_once_in_an_order_of_its_own() {
        let mut order = Order::new(7, Domain::A, 50);
        let epochs: Vec<_> = (0..4).map(|number| epoch(&mut order, number, 50)).collect();
        for (number, shown) in epochs.iter().enumerate() {
            let mut sorted = shown.clone();
            sorted.sort();
            assert_eq!(sorted, (0..50).collect::<Vec<_>>());
            assert!(!epochs[..number].contains(shown));
        }
        let mut other_domain = Order::new(7, Domain::B, 50);
        assert_ne!(epoch(&mut other_domain, 0, 50), epochs[0]);
        let mut other_seed = Order::new(8, Domain::A, 50);
        assert_ne!(epoch(&mut other_seed, 0, 50), epochs[0]);
    }

    #[test]
    fn a_draw_does_not_depend_on_those_before() {
        let mut order = Order::new(7, Domain::A, 50);
        let third = epoch(&mut order, 3, 50);
        assert_ne!(epoch(&mut order, 1, 50), third);
        assert_eq!(epoch(&mut order, 3, 50), third);
        let fresh = Order::new(7, Domain::A, 50).draw(161).next();
        assert_eq!(fresh, Some(third[11]));
    }

    #[test]
    fn all_other_pictures_stand_in_in_turn() {
        let mut order = Order::new(7, Domain::A, 5);
        let shown = epoch(&mut order, 0, 5);
        let drawn: Vec<_> = order.draw(3).collect();
        assert_eq!(drawn, [3, 4, 0, 1, 2].map(|position| shown[position]));
    }

    #[test]
    fn augmentations_differ_from_draw_to_draw() {
        let first = |seed, domain, draw| augmentation(seed, domain, draw).next_u64();
        let reference = first(1, Domain::A, 2);
        assert_eq!(reference, first(1, Domain::A, 2));
        for (seed, domain, draw) in [(1, Domain::A, 3), (1, Domain::B, 2), (2, Domain::A, 2)] {
            assert_ne!(reference, first(seed, domain, draw));
        }
    }
}
