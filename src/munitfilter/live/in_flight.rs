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
/// other: processors differ. It does so anew when frames have become clearly slower or faster, since
/// whatever else the machine was doing may have decided.
#[derive(Debug)]
pub(super) struct Trial {
    several: usize,
    state: State,
    /// So many stretches one after the other must be clearly slower or faster.
    patience: usize,
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
    Decided {
        frames: usize,
        /// What filling all places took when it was decided.
        round: Duration,
        /// When the frames of this stretch were planned.
        planned: Vec<Instant>,
        /// Stretches, up to this one, that were clearly slower or faster.
        departures: usize,
    },
    /// Not to be questioned.
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
/// How often all places are filled anew in a stretch, of which the median counts: a stream may pause.
const ROUNDS_OF_A_STRETCH: usize = 9;
/// Of how much time three quarters are clearly less, and how much is clearly more than three quarters.
const CLEARLY: [u32; 2] = [3, 4];
/// Stretches before the first new trial. Each new trial doubles them: where the load keeps changing, or
/// something else sets the pace, little time is lost.
const PATIENCE: usize = 2;

impl Trial {
    /// Between one frame at a time and `most`.
    pub fn new(most: usize) -> Self {
        if most < 2 {
            return Self::settled(1);
        }
        Self {
            several: most,
            state: State::begin(),
            patience: PATIENCE,
        }
    }

    /// Of a number that is not to be questioned.
    pub fn settled(frames: usize) -> Self {
        Self {
            several: frames,
            state: State::Settled(frames),
            patience: PATIENCE,
        }
    }

    /// The most that may be in flight, now or later.
    pub fn most(&self) -> usize {
        self.several
    }

    /// Frames that may be in flight now.
    pub fn in_flight(&self) -> usize {
        match self.state {
            State::Running { turns, .. } if turns.is_multiple_of(2) => 1,
            State::Running { .. } => self.several,
            State::Decided { frames, .. } | State::Settled(frames) => frames,
        }
    }

    /// A frame that is to be translated has been planned, for which a place was free. Whether the trial
    /// has ended with it, or begun anew.
    pub fn plan(&mut self, now: Instant) -> bool {
        let several = self.several;
        match &mut self.state {
            State::Settled(_) => return false,
            State::Running {
                turns,
                planned,
                shortest,
            } => {
                planned.push(now);
                let untimed = several + UNTIMED;
                if planned.len() <= untimed + ROUNDS * several {
                    return false;
                }
                let shortest_of_this = &mut shortest[*turns % 2];
                *shortest_of_this = (*shortest_of_this).min(now - planned[untimed]);
                planned.clear();
                *turns += 1;
                if *turns < TURNS {
                    return false;
                }
                let [alone, together] = *shortest;
                let pays = together * 100 < alone * (100 - GAIN);
                self.state = State::Decided {
                    frames: if pays { several } else { 1 },
                    round: if pays { together } else { alone } / ROUNDS as u32,
                    planned: Vec::new(),
                    departures: 0,
                };
            }
            State::Decided {
                round,
                planned,
                departures,
                ..
            } => {
                planned.push(now);
                if planned.len() <= ROUNDS_OF_A_STRETCH * several {
                    return false;
                }
                let median = median_round(planned, several);
                planned.clear();
                let [less, more] = CLEARLY;
                let departs = median * more < *round * less || *round * more < median * less;
                *departures = if departs { *departures + 1 } else { 0 };
                if *departures < self.patience {
                    return false;
                }
                self.patience = self.patience.saturating_mul(2);
                self.state = State::begin();
            }
        }
        true
    }
}

impl State {
    fn begin() -> Self {
        Self::Running {
            turns: 0,
            planned: Vec::new(),
            shortest: [Duration::MAX; 2],
        }
    }
}

/// The median of the times in which `several` frames were planned.
fn median_round(planned: &[Instant], several: usize) -> Duration {
    let beginnings: Vec<_> = planned.iter().step_by(several).collect();
    let mut rounds: Vec<Duration> = beginnings
        .windows(2)
        .map(|pair| *pair[1] - *pair[0])
        .collect();
    rounds.sort_unstable();
    rounds.get(rounds.len() / 2).copied().unwrap_or_default()
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

    /// Plans so many frames, each taking the milliseconds that `alone_and_among` says of its number when
    /// it is alone, and when there are several; the stream pauses after every fiftieth. How often the
    /// trial began anew or ended, and how many were in flight at last.
    fn changes(
        trial: &mut Trial,
        frames: u64,
        alone_and_among: impl Fn(u64) -> [u64; 2],
    ) -> (usize, usize) {
        let mut now = Instant::now();
        let mut changes = 0;
        for frame in 1..=frames {
            let [alone, among] = alone_and_among(frame);
            now += Duration::from_millis(match trial.in_flight() {
                1 => alone,
                several if frame.is_multiple_of(several as u64) => several as u64 * among,
                _ => 0,
            });
            if frame.is_multiple_of(50) {
                now += Duration::from_secs(1);
            }
            changes += usize::from(trial.plan(now));
        }
        (changes, trial.in_flight())
    }

    #[test]
    fn a_busy_machine_does_not_decide_for_the_rest_of_the_stream() {
        for most in [2, 4] {
            let mut trial = Trial::new(most);
            // At first others want the processors, and the trial ends with the wrong number.
            let busy = |_| [60, 75];
            assert_eq!(changes(&mut trial, 100, busy), (1, 1));
            let quiet = |_| [20, 15];
            assert_eq!(changes(&mut trial, 1000, quiet), (2, most));
            // They come back, and stay.
            assert_eq!(changes(&mut trial, 1000, busy), (2, 1));
        }
    }

    #[test]
    fn what_has_been_decided_is_left_alone_while_nothing_changes() {
        for (most, [alone, among]) in [(2, [20, 15]), (4, [20, 15]), (2, [20, 24]), (4, [20, 24])] {
            let mut trial = Trial::new(most);
            // As far as times swing by themselves.
            let swinging = |frame| [alone, among].map(|ms| ms + frame / 40 % 2 * ms / 5);
            let (changes, _) = changes(&mut trial, 20_000, swinging);
            assert_eq!(changes, 1);
        }
    }

    #[test]
    fn a_load_that_comes_and_goes_costs_few_trials() {
        let mut trial = Trial::new(2);
        let coming_and_going = |frame| [20, 15].map(|ms| ms * (1 + frame / 200 % 2));
        let (changes, _) = changes(&mut trial, 100_000, coming_and_going);
        assert!(changes < 30, "{changes}");
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
