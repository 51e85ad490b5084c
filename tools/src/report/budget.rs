//! Keeping what is nice to have from taking the time of what is needed.

use std::time::{Duration, Instant};

/// Allows some work only as often as it takes at most a given share of the time.
#[derive(Debug)]
pub struct Budget {
    share: f64,
    begun: Instant,
    spent: Duration,
    /// How long it took the last time.
    last: Duration,
}

impl Budget {
    /// `share`: of the time from now on, for example 0.01.
    pub fn new(share: f64) -> Self {
        Self {
            share,
            begun: Instant::now(),
            spent: Duration::ZERO,
            last: Duration::ZERO,
        }
    }

    /// Whether there is time for the work again, should it take as long as the last time.
    pub fn allows(&self) -> bool {
        self.allows_at(self.begun.elapsed())
    }

    fn allows_at(&self, since_begin: Duration) -> bool {
        let expected = self.spent + self.last;
        expected.as_secs_f64() <= self.share * since_begin.as_secs_f64()
    }

    /// Does the work, and remembers how long it took.
    pub fn spend<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.last = begun.elapsed();
        self.spent += self.last;
        result
    }

    /// The time that was spent.
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// Share of the time that was spent.
    pub fn spent_share(&self) -> f64 {
        self.share_of(self.spent)
    }

    /// What share of the time `duration` is.
    pub fn share_of(&self, duration: Duration) -> f64 {
        duration.as_secs_f64() / self.begun.elapsed().as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_never_exceeded() {
        let mut budget = Budget::new(0.01);
        let mut done = 0;
        // Two seconds of work each time, asked for every second.
        for second in 1..=10_000 {
            let now = Duration::from_secs(second);
            if budget.allows_at(now) {
                done += 1;
                budget.last = Duration::from_secs(2);
                budget.spent += budget.last;
            }
            let share = budget.spent.as_secs_f64() / now.as_secs_f64();
            // The first time nobody knows how long it will take.
            assert!(done <= 1 || share <= 0.01, "{share} after {second} s");
        }
        assert_eq!(done, 50);
    }

    #[test]
    fn what_is_spent_is_measured() {
        let mut budget = Budget::new(0.01);
        let answer = budget.spend(|| {
            std::thread::sleep(Duration::from_millis(20));
            7
        });
        assert_eq!(answer, 7);
        assert!(!budget.allows());
        assert!(budget.spent_share() > 0.1);
    }
}
