//! What the element answers to a LATENCY query: measured, with head room.

use std::time::{Duration, Instant};

/// A latency is lowered only when this long has shown that less will do.
const WATCH: Duration = Duration::from_secs(10);

/// Keeps the latency to report from the delays that frames have seen.
///
/// Every change makes the whole pipeline set its latency anew, which can be seen and heard; so a
/// delay beyond the reported one raises it at once, far enough that the next one fits, and it is
/// lowered only after it has been far too high for a while.
#[derive(Debug, Default)]
pub(crate) struct LatencyEstimator {
    reported: Duration,
    /// Since when the longest delay is kept, and that delay.
    watch: Option<(Instant, Duration)>,
}

impl LatencyEstimator {
    /// The latency to report; zero before anything was measured.
    pub fn reported(&self) -> Duration {
        self.reported
    }

    /// Takes a measurement made before any frame came. `work` is the time that one frame takes;
    /// a frame may also wait in the slot while the one before it is worked on, but never longer
    /// than `frame_interval`, because the next frame would replace it.
    pub fn start(&mut self, work: Duration, frame_interval: Option<Duration>) {
        let longest_wait = frame_interval.map_or(work, |interval| interval.min(work));
        self.reported = with_head_room(work + longest_wait);
        self.watch = None;
    }

    /// Takes the delay of a frame, from its arrival until it could be pushed, and returns the
    /// latency to report if that has changed.
    pub fn observe(&mut self, now: Instant, delay: Duration) -> Option<Duration> {
        if delay > self.reported {
            self.reported = with_head_room(delay);
            self.watch = None;
            return Some(self.reported);
        }
        let (since, longest) = self.watch.get_or_insert((now, delay));
        *longest = delay.max(*longest);
        if now.duration_since(*since) < WATCH {
            return None;
        }
        let enough = with_head_room(*longest);
        self.watch = None;
        (enough * 3 < self.reported * 2).then(|| {
            self.reported = enough;
            enough
        })
    }
}

/// A quarter more, for the scheduler's moods, and a little for frames of no work at all.
fn with_head_room(delay: Duration) -> Duration {
    delay + delay / 4 + Duration::from_millis(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_first_answer_covers_a_frame_that_waits_and_is_worked_on() {
        let mut latency = LatencyEstimator::default();
        latency.start(ms(100), Some(ms(33)));
        assert!((ms(133)..ms(180)).contains(&latency.reported()));
        latency.start(ms(10), Some(ms(33)));
        assert!((ms(20)..ms(30)).contains(&latency.reported()));
        latency.start(ms(100), None);
        assert!((ms(200)..ms(260)).contains(&latency.reported()));
    }

    #[test]
    fn a_longer_delay_raises_it_at_once_and_the_same_again_does_not() {
        let mut latency = LatencyEstimator::default();
        let now = Instant::now();
        let raised = latency.observe(now, ms(80)).unwrap();
        assert!(raised > ms(80));
        assert_eq!(latency.observe(now + ms(100), ms(85)), None);
        assert_eq!(latency.reported(), raised);
    }

    #[test]
    fn it_falls_only_after_a_while_and_only_when_far_off() {
        let start = Instant::now();
        let mut latency = LatencyEstimator::default();
        latency.start(ms(200), None);
        let high = latency.reported();
        for second in 0..10 {
            assert_eq!(latency.observe(start + ms(1000 * second), ms(50)), None);
        }
        let lowered = latency.observe(start + WATCH, ms(50)).unwrap();
        assert!(lowered < high && lowered > ms(50));
        for second in 11..40 {
            assert_eq!(latency.observe(start + ms(1000 * second), ms(45)), None);
        }
    }
}
