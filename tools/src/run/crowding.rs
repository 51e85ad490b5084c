//! Whether other programs want the processor on which a run computes.

use std::time::{Duration, Instant};

use munit::runtime::tame_spinning;

/// How long is looked at before it is judged.
const WINDOW: Duration = Duration::from_secs(2);
/// Of the time, in which the run could have computed but had to wait for a processor.
const MUCH: f64 = 0.1;

/// Sees when a run has to share the processor, and lets it behave accordingly.
///
/// libtorch's threads spin where they wait for one another. Alone on a machine that is the fastest way: where
/// they sleep instead, an iteration takes some 8 % longer. But where another program takes the place of one
/// of them, the others spin for it, and an iteration can take ten times as long and more.
#[derive(Debug)]
pub(super) struct Crowding {
    since: Instant,
    /// What the thread had waited for by then; `None` where nobody says, or all is done.
    waited: Option<Duration>,
}

impl Crowding {
    /// Looks at the calling thread from now on.
    pub(super) fn begin() -> Self {
        Self {
            since: Instant::now(),
            waited: waited(),
        }
    }

    /// After each iteration: if the processor had to be shared, libtorch's threads spin no more, for the
    /// rest of the run.
    pub(super) fn heed(&mut self) {
        if self.is_noticed() == Some(true) {
            tame_spinning();
            self.waited = None;
        }
    }

    /// Whether much of the time was spent waiting; `None` as long as it is too early to tell.
    fn is_noticed(&mut self) -> Option<bool> {
        let elapsed = self.since.elapsed();
        let before = self.waited?;
        if elapsed < WINDOW {
            return None;
        }
        let now = waited()?;
        *self = Self {
            since: Instant::now(),
            waited: Some(now),
        };
        let share = now.saturating_sub(before).as_secs_f64() / elapsed.as_secs_f64();
        Some(share > MUCH)
    }
}

/// For how long the calling thread has been ready to run without a processor to run on, if the system says
/// so: the second number of its `schedstat`, in nanoseconds.
fn waited() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_processor_that_others_want_is_noticed() {
        if waited().is_none() {
            // This system does not say.
            return;
        }
        let processors = std::thread::available_parallelism().unwrap().get();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // So many that the fairest of systems has none left for each.
            for _ in 0..3 * processors {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let mut crowding = Crowding::begin();
            let noticed = loop {
                if let Some(noticed) = crowding.is_noticed() {
                    break noticed;
                }
            };
            done.store(true, Ordering::Relaxed);
            assert!(noticed);
        });
    }
}
