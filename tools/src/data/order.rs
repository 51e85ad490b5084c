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
    pub(super) fn from_draw(&mut self, draw: u64) -> impl Iterator<Item = usize> {
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
