//! How many frames are translated at the same time, and how these share the threads.

use std::time::{Duration, Instant};

use munit::config::Architecture;

/// So many that decoding, copying and encoding overlap; more would only take memory.
const ON_CUDA: usize = 2;
/// Beyond this many the pipeline around the element is the limit.
const MOST_ON_CPU: usize = 4;
/// Share of the free memory that frames in flight may take.
const SHARE_OF_MEMORY: u64 = 2;

/// What decides how many frames may be translated at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub on_cpu: bool,
    pub live: bool,
    /// Threads for all frames together.
    pub threads: usize,
    /// Bytes that one frame takes; see [`working_memory`].
    pub frame_memory: u64,
    /// Bytes that are free.
    pub free_memory: u64,
}

impl Situation {
    /// The most that may be for the value 0 of `max-in-flight`.
    ///
    /// Threads that work on one frame wait for each other at the end of every layer; frames beside each
    /// other do not. So where only throughput counts there may be one for each thread. A live stream
    /// wants each frame soon.
    pub fn most_in_flight(&self) -> usize {
        if !self.on_cpu {
            return ON_CUDA;
        }
        if self.live {
            return 1;
        }
        let held = self.free_memory / SHARE_OF_MEMORY / self.frame_memory.max(1);
        let held = usize::try_from(held).unwrap_or(usize::MAX);
        MOST_ON_CPU.min(self.threads).min(held).max(1)
    }
}

/// Finds out whether frames follow each other more quickly with one frame on all threads, whose maps
/// and weights then stay in the caches, or with several beside each other, which need not wait for each
/// other: processors differ.
#[derive(Debug)]
pub(super) struct Trial {
    several: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Both have their turns, one frame at a time first.
    Running {
        /// Turns that have ended.
        turns: usize,
        /// When the frames of this turn were planned.
        planned: Vec<Instant>,
        /// The shortest turn of one frame at a time, and of several.
        shortest: [Duration; 2],
    },
    Settled(usize),
}

/// Turns of both together. The shorter of a contender's two counts: the first frames of all pay for memory,
/// and a stream may pause.
const TURNS: usize = 4;
/// Frames, besides those that fill all places, that are planned before each waits for another to be done.
const UNTIMED: usize = 2;
/// How often all places are filled anew in a turn while it is timed.
const ROUNDS: usize = 3;
/// How much less time several frames must take than as many after each other, in hundredths.
const GAIN: u32 = 4;

impl Trial {
    /// Between one frame at a time and `most`.
    pub fn new(most: usize) -> Self {
        if most < 2 {
            return Self::settled(1);
        }
        Self {
            several: most,
            state: State::Running {
                turns: 0,
                planned: Vec::new(),
                shortest: [Duration::MAX; 2],
            },
        }
    }

    /// Of a number that is not to be questioned.
    pub fn settled(frames: usize) -> Self {
        Self {
            several: frames,
            state: State::Settled(frames),
        }
    }

    /// The most that may be in flight until it is settled, or then.
    pub fn most(&self) -> usize {
        match self.state {
            State::Running { .. } => self.several,
            State::Settled(frames) => frames,
        }
    }

    /// Frames that may be in flight now.
    pub fn in_flight(&self) -> usize {
        match self.state {
            State::Running { turns, .. } if turns.is_multiple_of(2) => 1,
            State::Running { .. } => self.several,
            State::Settled(frames) => frames,
        }
    }

    /// A frame that is to be translated has been planned, for which a place was free. Whether the trial
    /// has ended with it.
    pub fn plan(&mut self, now: Instant) -> bool {
        let State::Running {
            turns,
            planned,
            shortest,
        } = &mut self.state
        else {
            return false;
        };
        planned.push(now);
        let untimed = self.several + UNTIMED;
        let timed = ROUNDS * self.several;
        if planned.len() <= untimed + timed {
            return false;
        }
        let shortest_of_this = &mut shortest[*turns % 2];
        *shortest_of_this = (*shortest_of_this).min(now - planned[untimed]);
        planned.clear();
        *turns += 1;
        if *turns < TURNS {
            return false;
        }
        let [one, several] = *shortest;
        let pays = several * 100 < one * (100 - GAIN);
        self.state = State::Settled(if pays { self.several } else { 1 });
        true
    }
}

/// Threads for the frames of a worker, if `workers` share `threads`.
pub(super) fn share_of_threads(threads: usize, workers: usize, worker: usize) -> usize {
    let workers = workers.max(1);
    let rest = usize::from(worker < threads % workers);
    (threads / workers + rest).max(1)
}

/// Bytes of feature maps that one frame takes at most, about, if the network runs at this height and
/// width with numbers of `number_size` bytes.
///
/// At the full size and after each downsampling there are four maps at a time: the input and the
/// output of a layer, what is added to it, and room to work in. From one size to the next the channels
/// double and the pixels become a quarter.
pub(super) fn working_memory(
    architecture: &Architecture,
    (height, width): (usize, usize),
    number_size: u64,
) -> u64 {
    const MAPS: u64 = 4;
    const LEAST_CHANNELS: u64 = 16;

    let generator = &architecture.generator;
    let channels = u64::try_from(generator.dim)
        .unwrap_or(0)
        .max(LEAST_CHANNELS);
    let pixels = (height as u64).saturating_mul(width as u64);
    let largest = MAPS
        .saturating_mul(channels)
        .saturating_mul(pixels)
        .saturating_mul(number_size);
    let levels = u32::try_from(generator.n_downsample).unwrap_or(0);
    (0..=levels.min(63)).fold(0, |sum: u64, level| sum.saturating_add(largest >> level))
}

#[cfg(test)]
mod tests {
    use munit::config::{Family, GeneratorConfig};

    use super::*;

    const FILES_ON_EIGHT_THREADS: Situation = Situation {
        on_cpu: true,
        live: false,
        threads: 8,
        frame_memory: 1 << 30,
        free_memory: 64 << 30,
    };

    #[test]
    fn frames_beside_each_other_where_only_throughput_counts() {
        let files = FILES_ON_EIGHT_THREADS;
        assert_eq!(files.most_in_flight(), 4);
        for (change, expected) in [
            (
                Situation {
                    threads: 3,
                    ..files
                },
                3,
            ),
            (
                Situation {
                    threads: 1,
                    ..files
                },
                1,
            ),
            (
                Situation {
                    live: true,
                    ..files
                },
                1,
            ),
            (
                Situation {
                    on_cpu: false,
                    ..files
                },
                2,
            ),
            (
                Situation {
                    on_cpu: false,
                    live: true,
                    ..files
                },
                2,
            ),
            // Half of what is free, and never none.
            (
                Situation {
                    free_memory: 5 << 30,
                    ..files
                },
                2,
            ),
            (
                Situation {
                    free_memory: 1 << 20,
                    ..files
                },
                1,
            ),
            (
                Situation {
                    free_memory: 0,
                    ..files
                },
                1,
            ),
        ] {
            assert_eq!(change.most_in_flight(), expected, "{change:?}");
        }
    }

    /// Plans frames until the trial has ended, each frame taking so many milliseconds when it is alone
    /// and so many when there are several; the first frames take longer, and the stream pauses once.
    fn settled(most: usize, alone: u64, among_several: u64) -> usize {
        let mut trial = Trial::new(most);
        let mut now = Instant::now();
        let mut frames: u64 = 0;
        while !trial.plan(now) {
            frames += 1;
            assert!(frames < 200, "{trial:?}");
            now += Duration::from_millis(match trial.in_flight() {
                1 if frames < 12 => 3 * alone,
                1 => alone,
                // They are done at the same time.
                several if frames.is_multiple_of(several as u64) => several as u64 * among_several,
                _ => 0,
            });
            if frames == 20 {
                now += Duration::from_secs(1);
            }
        }
        assert!(!trial.plan(now + Duration::from_secs(5)), "it has ended");
        trial.in_flight()
    }

    #[test]
    fn the_quicker_number_of_frames_is_kept() {
        for most in [2, 4] {
            assert_eq!(settled(most, 20, 15), most);
            assert_eq!(settled(most, 20, 24), 1);
            // Something else is the limit; one frame takes less memory.
            assert_eq!(settled(most, 20, 20), 1);
        }
        assert_eq!(Trial::new(1).in_flight(), 1);
        assert_eq!(Trial::settled(2).in_flight(), 2);
    }

    #[test]
    fn all_threads_are_shared_out() {
        for (threads, workers) in [(8, 4), (7, 4), (3, 2), (1, 1), (16, 3)] {
            let shares: Vec<usize> = (0..workers)
                .map(|worker| share_of_threads(threads, workers, worker))
                .collect();
            assert_eq!(shares.iter().sum::<usize>(), threads, "{shares:?}");
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
        // More frames than threads.
        assert_eq!(share_of_threads(2, 5, 4), 1);
        assert_eq!(share_of_threads(2, 0, 0), 2);
    }

    #[test]
    fn memory_grows_with_the_picture_and_the_network() {
        let architecture = |dim| Architecture {
            family: Family::Munit,
            input_dim_a: 3,
            input_dim_b: 3,
            generator: GeneratorConfig {
                dim,
                ..GeneratorConfig::default()
            },
        };
        let small = working_memory(&architecture(64), (256, 256), 4);
        // Seven maps of 64 channels.
        assert_eq!(small, 7 * 64 * 256 * 256 * 4);
        assert_eq!(working_memory(&architecture(64), (512, 256), 4), 2 * small);
        assert_eq!(working_memory(&architecture(32), (256, 256), 4), small / 2);
        assert_eq!(working_memory(&architecture(64), (256, 256), 2), small / 2);
        assert_eq!(
            working_memory(&architecture(i64::MAX), (8192, 8192), 4),
            u64::MAX
        );
    }
}
