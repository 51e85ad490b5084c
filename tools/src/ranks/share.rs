//! Which part of a batch a process computes on.

use std::ops::Range;

use anyhow::Result;
use munit::networks::normal;
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

/// One of `count` equal, successive parts of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Number of the part, from 0.
    pub index: usize,
    /// Number of parts.
    pub count: usize,
}

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// The positions in a batch of `batch_size`, which must be a multiple of the number of parts.
    pub fn of(self, batch_size: usize) -> Range<usize> {
        let length = batch_size / self.count;
        self.index * length..(self.index + 1) * length
    }

    /// Standard normal noise of `shape`, [B, …], for the B samples of this part: drawn for the whole
    /// batch, so that each sample gets what it would get in one process.
    ///
    /// # Errors
    /// libtorch's.
    pub fn normal(self, random: &mut ChaCha8Rng, shape: &[i64]) -> Result<Tensor> {
        let Some((&own, of_sample)) = shape.split_first() else {
            return Ok(normal(random, shape)?);
        };
        let whole = [&[own * self.count as i64], of_sample].concat();
        let noise = normal(random, &whole)?;
        Ok(noise.f_narrow(0, own * self.index as i64, own)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::noise_generator;

    #[test]
    fn shares_make_up_the_batch() {
        let shares = [0, 1, 2].map(|index| Share { index, count: 3 }.of(6));
        assert_eq!(shares, [0..2, 2..4, 4..6]);
        assert_eq!(Share::WHOLE.of(6), 0..6);
    }

    #[test]
    fn noise_is_that_of_one_process() {
        let mut random = noise_generator(7, 3);
        let whole = [[4, 2, 3], [4, 5, 1]].map(|shape| normal(&mut random, &shape).unwrap());
        for index in 0..2 {
            let mut random = noise_generator(7, 3);
            let share = Share { index, count: 2 };
            for (whole, shape) in whole.iter().zip([[2, 2, 3], [2, 5, 1]]) {
                let part = share.normal(&mut random, &shape).unwrap();
                assert_eq!(part, whole.narrow(0, 2 * index as i64, 2));
            }
        }
    }
}
