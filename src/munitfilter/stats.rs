//! What the element does, counted and timed over the last seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back times and rates look.
const WINDOW: Duration = Duration::from_secs(5);
/// More samples than any frame rate brings in that time, so that memory stays bounded.
const MOST_SAMPLES: usize = 4096;

/// A part of a frame's way through the element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Getting the input and an output frame as memory.
    Map,
    /// Pixels to the network's number format, on the device.
    Upload,
    /// The network.
    Network,
    /// From the device to 8-bit pixels; on CUDA the wait for the network, too.
    Download,
    /// Waiting for whatever comes after the element.
    Push,
}

impl Stage {
    /// All of them, in the order of a frame's way.
    pub const ALL: [Self; 5] = [
        Self::Map,
        Self::Upload,
        Self::Network,
        Self::Download,
        Self::Push,
    ];

    /// As it is called in the statistics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Upload => "upload",
            Self::Network => "network",
            Self::Download => "download",
            Self::Push => "push",
        }
    }
}

/// Why a frame was not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drop {
    /// A newer one came while it waited for the network.
    Replaced,
    /// It could not be read or translated.
    Failed,
}

/// Median, 95th percentile and maximum of a stage's times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spread {
    pub median: Duration,
    pub p95: Duration,
    pub max: Duration,
}

/// Samples of the last [`WINDOW`].
#[derive(Debug, Default)]
struct Recent {
    samples: VecDeque<(Instant, Duration)>,
}

impl Recent {
    fn add(&mut self, now: Instant, value: Duration) {
        self.forget(now);
        if self.samples.len() == MOST_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, value));
    }

    fn forget(&mut self, now: Instant) {
        while let Some((moment, _)) = self.samples.front()
            && now.duration_since(*moment) > WINDOW
        {
            self.samples.pop_front();
        }
    }

    fn spread(&mut self, now: Instant) -> Spread {
        self.forget(now);
        let mut sorted: Vec<_> = self.samples.iter().map(|(_, value)| *value).collect();
        sorted.sort_unstable();
        let at = |share: f64| {
            let index = ((sorted.len() as f64 * share).ceil() as usize).max(1) - 1;
            sorted.get(index).copied().unwrap_or_default()
        };
        Spread {
            median: at(0.5),
            p95: at(0.95),
            max: at(1.0),
        }
    }

    /// Samples a second, between the first and the last.
    fn rate(&mut self, now: Instant) -> f64 {
        self.forget(now);
        match (self.samples.front(), self.samples.back()) {
            (Some((first, _)), Some((last, _))) if last > first => {
                (self.samples.len() - 1) as f64 / last.duration_since(*first).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

/// Counts since the stream began, and times of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    pub frames_in: u64,
    pub frames_out: u64,
    pub replaced: u64,
    pub failed: u64,
    /// Frames whose translation was that of the one before.
    pub repeated: u64,
    arrivals: Recent,
    departures: Recent,
    stages: [Recent; Stage::ALL.len()],
}

impl Statistics {
    /// A frame has come.
    pub fn count_in(&mut self, now: Instant) {
        self.frames_in += 1;
        self.arrivals.add(now, Duration::ZERO);
    }

    /// A frame has been pushed.
    pub fn count_out(&mut self, now: Instant) {
        self.frames_out += 1;
        self.departures.add(now, Duration::ZERO);
    }

    /// A frame will not be pushed.
    pub fn count_drop(&mut self, cause: Drop) {
        match cause {
            Drop::Replaced => self.replaced += 1,
            Drop::Failed => self.failed += 1,
        }
    }

    /// A frame has passed a stage.
    pub fn time(&mut self, now: Instant, stage: Stage, taken: Duration) {
        self.stages[stage as usize].add(now, taken);
    }

    /// Times of a stage.
    pub fn spread(&mut self, now: Instant, stage: Stage) -> Spread {
        self.stages[stage as usize].spread(now)
    }

    /// Frames a second that come and that leave.
    pub fn rates(&mut self, now: Instant) -> (f64, f64) {
        (self.arrivals.rate(now), self.departures.rate(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn percentiles_are_of_the_last_seconds() {
        let start = Instant::now();
        let mut statistics = Statistics::default();
        for number in 1..=100 {
            statistics.time(start + ms(number), Stage::Network, ms(number));
        }
        let spread = statistics.spread(start + ms(100), Stage::Network);
        let expected = Spread {
            median: ms(50),
            p95: ms(95),
            max: ms(100),
        };
        assert_eq!(spread, expected);
        assert_eq!(
            statistics.spread(start, Stage::Upload),
            Spread::default(),
            "another stage"
        );
        let later = statistics.spread(start + WINDOW + ms(200), Stage::Network);
        assert_eq!(later, Spread::default());
    }

    #[test]
    fn rates_are_those_of_arrivals_and_departures() {
        let start = Instant::now();
        let mut statistics = Statistics::default();
        for number in 0..=50 {
            statistics.count_in(start + ms(20) * number);
            if number % 2 == 0 {
                statistics.count_out(start + ms(20) * number);
            } else {
                statistics.count_drop(Drop::Replaced);
            }
        }
        let (arrivals, departures) = statistics.rates(start + ms(1000));
        assert!((arrivals - 50.0).abs() < 0.01, "{arrivals}");
        assert!((departures - 25.0).abs() < 0.01, "{departures}");
        let counted = (statistics.frames_in, statistics.frames_out);
        assert_eq!(counted, (51, 26));
        assert_eq!(statistics.replaced, 25);
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut recent = Recent::default();
        for _ in 0..2 * MOST_SAMPLES {
            recent.add(now, ms(1));
        }
        assert_eq!(recent.samples.len(), MOST_SAMPLES);
    }
}
