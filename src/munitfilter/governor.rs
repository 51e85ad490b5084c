//! Chooses the size at which the network runs, so that a live stream keeps its frame rate.
//!
//! The work of a frame grows about as the area of the picture, so one measurement says which size
//! would fit. Steps down come as soon as several frames in a row were too slow; steps up only after
//! a long quiet time, and only where the larger size would leave room. A step that turns out wrong
//! (up and down again soon, or down without the hoped-for gain) is undone and not tried again for a
//! while that doubles each time: the size never swings.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// From one size to the next: a little more than half the work.
const STEP: f64 = 0.75;
/// Sizes are multiples of this, which every usual network can divide.
const GRAIN: u32 = 8;
/// The larger of [`Governor::probe_sizes`].
const PROBE: u32 = 192;
/// Frames that decide together; their median forgives single slow ones.
const WINDOW: usize = 7;
/// Frames that decide if they took this long together: nobody waits for seven of a second each.
const FEWEST: usize = 3;
const LONG_ENOUGH: Duration = Duration::from_millis(700);
/// Share of the frame interval beyond which a frame is too slow.
const TOO_SLOW: f64 = 0.97;
/// Share of the frame interval that a size should need, with what was measured.
const COMFORTABLE: f64 = 0.8;
/// How long a larger size must have looked comfortable before it is tried.
const QUIET: Duration = Duration::from_secs(4);
/// A step up that fails within this time was a mistake.
const REGRET: Duration = Duration::from_secs(12);
/// The longest time that a failed step is not tried again.
const LONGEST_PENALTY: Duration = Duration::from_secs(256);
/// Share of the predicted gain below which a step down was in vain.
const LEAST_GAIN: f64 = 0.3;

/// The sizes that may be chosen: shorter sides in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SizeLimits {
    pub smallest: u32,
    pub largest: u32,
}

/// A step down whose effect is awaited.
#[derive(Debug)]
struct Trial {
    from: u32,
    /// Median time of a frame before it.
    before: Duration,
    /// What was hoped for.
    predicted: Duration,
}

/// Chooses the inference size from the time that frames take.
#[derive(Debug)]
pub(super) struct Governor {
    limits: SizeLimits,
    /// The largest size that the device has memory for, as far as is known.
    ceiling: u32,
    size: u32,
    recent: VecDeque<Duration>,
    trial: Option<Trial>,
    /// When the last step up was, to see whether it was a mistake.
    stepped_up: Option<Instant>,
    /// Since when a larger size has looked comfortable.
    quiet_since: Option<Instant>,
    penalty: Duration,
    /// No step up before this moment.
    no_step_up_before: Option<Instant>,
    /// No step down before this moment: the last one was in vain.
    no_step_down_before: Option<Instant>,
}

impl Governor {
    /// Starts at the largest size.
    pub fn new(limits: SizeLimits) -> Self {
        Self {
            limits,
            ceiling: u32::MAX,
            size: limits.largest,
            recent: VecDeque::with_capacity(WINDOW),
            trial: None,
            stepped_up: None,
            quiet_since: None,
            penalty: QUIET,
            no_step_up_before: None,
            no_step_down_before: None,
        }
    }

    /// The size to use.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Two sizes at which a frame is soon made, to start with; they may be the same.
    pub fn probe_sizes(&self) -> [u32; 2] {
        let SizeLimits { smallest, largest } = self.limits;
        [smallest, PROBE.clamp(smallest, largest)]
    }

    /// Starts at the size that suits, given how long a frame took at each of
    /// [`Self::probe_sizes`].
    pub fn start_with(&mut self, work: [Duration; 2], budget: Duration) {
        let area = |size: u32| f64::from(size).powi(2);
        let [small, medium] = self.probe_sizes();
        let [small_work, medium_work] = work.map(|work| work.as_secs_f64());
        // A part that does not depend on the size, and one that grows as the area.
        let per_area = if medium > small {
            ((medium_work - small_work) / (area(medium) - area(small))).max(0.0)
        } else {
            small_work / area(small)
        };
        let fixed = (small_work - per_area * area(small)).max(0.0);
        let predict = |size: u32| fixed + per_area * area(size);

        let wanted = budget.as_secs_f64() * COMFORTABLE;
        let mut size = self.limits.largest;
        while size > self.limits.smallest && predict(size) > wanted {
            size = self.below(size);
        }
        let largest = predict(self.limits.largest);
        // Where the frame rate is out of reach and little is to be gained, the picture need not
        // suffer.
        if predict(size) <= wanted || largest - predict(size) >= LEAST_GAIN * largest {
            self.change(size);
        }
    }

    /// Leaves the size alone.
    pub fn use_largest(&mut self) {
        if self.size != self.limits.largest {
            self.change(self.limits.largest);
        }
    }

    /// Takes over new limits; the size stays if it may.
    pub fn set_limits(&mut self, limits: SizeLimits) {
        let limits = SizeLimits {
            largest: limits.largest.min(self.ceiling).max(limits.smallest),
            ..limits
        };
        if limits == self.limits {
            return;
        }
        let was_largest = self.size == self.limits.largest;
        self.limits = limits;
        let size = if was_largest {
            limits.largest
        } else {
            self.size.clamp(limits.smallest, limits.largest)
        };
        self.change(size);
    }

    /// Lowers the size by a step at once, because the device has no memory for this one; false at
    /// the smallest. The size is not tried again.
    pub fn retreat(&mut self) -> bool {
        let smaller = self.below(self.size);
        if smaller == self.size {
            return false;
        }
        self.ceiling = smaller;
        self.limits.largest = smaller;
        self.change(smaller);
        true
    }

    /// Takes the work time of a frame at the current size; `budget` is the time from one frame to
    /// the next. Returns the new size when it changes.
    pub fn observe(&mut self, now: Instant, work: Duration, budget: Duration) -> Option<u32> {
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(work);
        let seen: Duration = self.recent.iter().sum();
        if self.recent.len() < WINDOW && (self.recent.len() < FEWEST || seen < LONG_ENOUGH) {
            return None;
        }
        let median = self.median();
        let chosen = if let Some(trial) = self.trial.take() {
            self.judge(now, median, &trial)
        } else if median > budget.mul_f64(TOO_SLOW) {
            self.step_down(now, median, budget)
        } else {
            self.step_up(now, median, budget)
        };
        let changed = chosen != self.size;
        if changed {
            self.change(chosen);
        }
        changed.then_some(chosen)
    }

    fn median(&self) -> Duration {
        let mut sorted: Vec<_> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    }

    fn change(&mut self, size: u32) {
        self.size = size;
        self.recent.clear();
        self.quiet_since = None;
    }

    /// Whether the last step down has brought anything; if not, the picture need not suffer.
    fn judge(&mut self, now: Instant, median: Duration, trial: &Trial) -> u32 {
        let hoped = trial.before.saturating_sub(trial.predicted);
        let gained = trial.before.saturating_sub(median);
        if gained >= hoped.mul_f64(LEAST_GAIN) {
            return self.size;
        }
        self.no_step_down_before = Some(now + self.penalize());
        trial.from
    }

    fn step_down(&mut self, now: Instant, median: Duration, budget: Duration) -> u32 {
        self.quiet_since = None;
        if self.no_step_down_before.is_some_and(|moment| now < moment) {
            return self.size;
        }
        let wanted = budget.mul_f64(COMFORTABLE);
        let mut size = self.below(self.size);
        while size > self.limits.smallest && predict(median, self.size, size) > wanted {
            size = self.below(size);
        }
        if size == self.size {
            return size;
        }
        if self
            .stepped_up
            .take()
            .is_some_and(|moment| now.duration_since(moment) < REGRET)
        {
            self.no_step_up_before = Some(now + self.penalize());
        }
        self.trial = Some(Trial {
            from: self.size,
            before: median,
            predicted: predict(median, self.size, size),
        });
        size
    }

    fn step_up(&mut self, now: Instant, median: Duration, budget: Duration) -> u32 {
        let larger = self.above(self.size);
        let fits = predict(median, self.size, larger) < budget.mul_f64(COMFORTABLE);
        if larger == self.size || !fits {
            self.quiet_since = None;
            return self.size;
        }
        let since = *self.quiet_since.get_or_insert(now);
        let waits = self.no_step_up_before.is_some_and(|moment| now < moment);
        if waits || now.duration_since(since) < QUIET {
            return self.size;
        }
        self.stepped_up = Some(now);
        larger
    }

    /// How long a mistake is not repeated; doubles with each.
    fn penalize(&mut self) -> Duration {
        self.penalty = (self.penalty * 2).min(LONGEST_PENALTY);
        self.penalty
    }

    fn below(&self, size: u32) -> u32 {
        let next = (f64::from(size) * STEP / f64::from(GRAIN)).round() as u32 * GRAIN;
        next.clamp(self.limits.smallest, size)
    }

    fn above(&self, size: u32) -> u32 {
        let next = (f64::from(size) / STEP / f64::from(GRAIN)).round() as u32 * GRAIN;
        next.max(size + 1).min(self.limits.largest)
    }
}

/// The work at another size, if it grows as the area.
fn predict(work: Duration, from: u32, to: u32) -> Duration {
    work.mul_f64((f64::from(to) / f64::from(from.max(1))).powi(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(33);
    const LIMITS: SizeLimits = SizeLimits {
        smallest: 64,
        largest: 480,
    };

    /// Feeds `seconds` of frames whose work is `work(size)`; returns the sizes that were chosen.
    fn run(
        governor: &mut Governor,
        clock: &mut Instant,
        seconds: u32,
        work: impl Fn(u32) -> Duration,
    ) -> Vec<u32> {
        (0..seconds * 30)
            .filter_map(|_| {
                *clock += BUDGET;
                let work = work(governor.size());
                governor.observe(*clock, work, BUDGET)
            })
            .collect()
    }

    /// Work that grows as the area and takes `at_full` at the largest size.
    fn area_work(at_full: Duration) -> impl Fn(u32) -> Duration {
        move |size| predict(at_full, LIMITS.largest, size)
    }

    #[test]
    fn a_fast_machine_keeps_the_full_size() {
        let (mut governor, mut clock) = (Governor::new(LIMITS), Instant::now());
        let chosen = run(
            &mut governor,
            &mut clock,
            60,
            area_work(Duration::from_millis(25)),
        );
        assert!(chosen.is_empty(), "{chosen:?}");
        assert_eq!(governor.size(), 480);
    }

    #[test]
    fn a_slow_machine_settles_at_once_and_stays() {
        let (mut governor, mut clock) = (Governor::new(LIMITS), Instant::now());
        let work = area_work(Duration::from_millis(200));
        let chosen = run(&mut governor, &mut clock, 1, &work);
        assert_eq!(chosen.len(), 1, "one step, not many: {chosen:?}");
        assert!(work(governor.size()) < BUDGET, "{}", governor.size());
        assert!(run(&mut governor, &mut clock, 120, &work).is_empty());
    }

    #[test]
    fn quality_comes_back_when_the_load_goes() {
        let (mut governor, mut clock) = (Governor::new(LIMITS), Instant::now());
        run(
            &mut governor,
            &mut clock,
            5,
            area_work(Duration::from_millis(120)),
        );
        assert!(governor.size() < 300);
        let chosen = run(
            &mut governor,
            &mut clock,
            60,
            area_work(Duration::from_millis(10)),
        );
        assert!(chosen.is_sorted(), "{chosen:?}");
        assert_eq!(governor.size(), 480);
    }

    #[test]
    fn a_machine_at_the_edge_does_not_swing() {
        let (mut governor, mut clock) = (Governor::new(LIMITS), Instant::now());
        // Looks comfortable below 400 and is too slow above: the prediction is wrong.
        let work = |size| Duration::from_millis(if size > 300 { 40 } else { 8 });
        let chosen = run(&mut governor, &mut clock, 600, work);
        assert!(
            chosen.len() <= 14,
            "{} steps in ten minutes: {chosen:?}",
            chosen.len()
        );
    }

    #[test]
    fn a_step_that_brings_nothing_is_undone() {
        let (mut governor, mut clock) = (Governor::new(LIMITS), Instant::now());
        let chosen = run(&mut governor, &mut clock, 5, |_| Duration::from_millis(100));
        assert_eq!(chosen.len(), 2, "{chosen:?}");
        assert_eq!(governor.size(), 480);
        let chosen = run(&mut governor, &mut clock, 600, |_| {
            Duration::from_millis(100)
        });
        assert!(chosen.len() <= 12, "{chosen:?}");
    }

    #[test]
    fn a_measurement_gives_the_size_to_start_with() {
        let started = |work: &dyn Fn(u32) -> Duration| {
            let mut governor = Governor::new(LIMITS);
            governor.start_with(governor.probe_sizes().map(work), BUDGET);
            governor
        };
        let work = area_work(Duration::from_millis(150));
        let mut governor = started(&work);
        assert!(work(governor.size()) < BUDGET, "{}", governor.size());
        assert!(work(governor.above(governor.size())) > BUDGET.mul_f64(COMFORTABLE));
        let mut clock = Instant::now();
        assert!(run(&mut governor, &mut clock, 60, &work).is_empty());

        // Work that does not depend on the size is no reason to lower it.
        assert_eq!(started(&|_| Duration::from_secs(1)).size(), 480);
        // Work that does is, even if the frame rate stays out of reach.
        assert_eq!(started(&area_work(Duration::from_secs(60))).size(), 64);
        let mixed = |size| area_work(Duration::from_millis(60))(size) + Duration::from_millis(15);
        assert!((64..300).contains(&started(&mixed).size()));
    }

    #[test]
    fn limits_hold() {
        let (mut governor, mut clock) = (Governor::new(LIMITS), Instant::now());
        run(
            &mut governor,
            &mut clock,
            5,
            area_work(Duration::from_secs(5)),
        );
        assert_eq!(governor.size(), 64);
        governor.set_limits(SizeLimits {
            smallest: 100,
            largest: 200,
        });
        assert_eq!(governor.size(), 100);
        governor.set_limits(SizeLimits {
            smallest: 32,
            largest: 64,
        });
        assert_eq!(governor.size(), 64);
    }

    #[test]
    fn a_retreat_is_for_good() {
        let (mut governor, mut clock) = (Governor::new(LIMITS), Instant::now());
        assert!(governor.retreat());
        let retreated = governor.size();
        assert!(retreated < 480);
        run(&mut governor, &mut clock, 60, |_| Duration::from_millis(1));
        assert_eq!(governor.size(), retreated);
        governor.set_limits(LIMITS);
        assert_eq!(governor.size(), retreated);
        while governor.retreat() {}
        assert_eq!(governor.size(), 64);
    }
}
