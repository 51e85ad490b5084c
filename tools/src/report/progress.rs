//! How far a run is: a bar on a terminal, a plain line now and then anywhere else.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};

use crate::local_time::local_time;

/// How often a line is written where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(20);

/// After this time the speed is known well enough to say when the run will end.
const FORECAST_AFTER: Duration = Duration::from_secs(60);

/// Who waits longer does not want to know.
const LONGEST_FORECAST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Time constant of the speed that is shown.
const SHORT_MEMORY: Duration = Duration::from_secs(30);

/// Time constant of the speed that the time left is computed from. Sample sheets and checkpoints,
/// which are minutes apart, must count in it.
const LONG_MEMORY: Duration = Duration::from_secs(20 * 60);

/// What takes longer than this, and so many times as long as usual, was a pause: somebody stopped the
/// process or put the machine to sleep.
const SHORTEST_PAUSE: Duration = Duration::from_secs(60);
const PAUSE_RATIO: f64 = 50.0;

/// Shows iteration, speed, time left and a few losses on standard error.
pub struct Progress {
    total: u64,
    images_per_iteration: u64,
    started: Instant,
    done: u64,
    /// Shown.
    speed: Speed,
    /// For the time left.
    steady_speed: Speed,
    values: String,
    forecast: bool,
    display: Display,
}

enum Display {
    Bar(ProgressBar),
    Plain {
        writer: Box<dyn Write + Send>,
        written: Option<Duration>,
    },
}

impl Progress {
    /// A run of `total` iterations, `done` of which are behind it already (0, or the iteration
    /// that is resumed at; they count as progress but not for the speed).
    pub fn new(done: u64, total: u64, images_per_iteration: u64) -> Self {
        let display = if std::io::stderr().is_terminal() {
            let template = "{wide_bar:.cyan/black.bright} {pos}/{len}  {prefix}\n{wide_msg}";
            let style = ProgressStyle::with_template(template)
                .expect("the template is constant")
                .progress_chars("━╸━");
            let bar = ProgressBar::new(total)
                .with_style(style)
                .with_position(done);
            bar.tick();
            Display::Bar(bar)
        } else {
            Display::Plain {
                writer: Box::new(std::io::stderr()),
                written: None,
            }
        };
        Self::with_display(done, total, images_per_iteration, display)
    }

    fn with_display(done: u64, total: u64, images_per_iteration: u64, display: Display) -> Self {
        Self {
            total,
            images_per_iteration,
            started: Instant::now(),
            done,
            speed: Speed::new(SHORT_MEMORY),
            steady_speed: Speed::new(LONG_MEMORY),
            values: String::new(),
            forecast: false,
            display,
        }
    }

    /// Sets the named values that are shown from now on, for example the main losses.
    pub fn show(&mut self, values: &[(&str, f64)]) {
        self.values = values
            .iter()
            .map(|(name, value)| format!("{name} {}", short_number(*value)))
            .collect::<Vec<_>>()
            .join("  ");
    }

    /// `iteration` iterations are done, those before a resume included.
    pub fn advance(&mut self, iteration: u64) {
        self.advance_at(iteration, self.started.elapsed());
    }

    /// The run has gone back to `iteration`.
    pub fn go_back(&mut self, iteration: u64) {
        self.done = iteration;
        self.speed.restart();
        self.steady_speed.restart();
        if let Display::Bar(bar) = &self.display {
            bar.set_position(iteration);
        }
    }

    /// Seconds for an iteration, all that goes on beside it included; `None` as long as nothing is
    /// known.
    pub fn seconds_per_iteration(&self) -> Option<f64> {
        Some(1.0 / self.steady_speed.iterations_per_second()?)
    }

    /// Time to the end of the run; `None` as long as nothing is known, and for times beyond all
    /// measure.
    pub fn time_left(&self) -> Option<Duration> {
        let left = self.total.saturating_sub(self.done) as f64 * self.seconds_per_iteration()?;
        let left = Duration::try_from_secs_f64(left).ok()?;
        (left < LONGEST_FORECAST).then_some(left)
    }

    fn advance_at(&mut self, iteration: u64, now: Duration) {
        self.done = iteration;
        self.speed.advance(iteration, now);
        self.steady_speed.advance(iteration, now);
        let pace = self.pace();
        if self.steady_speed.measured() >= FORECAST_AFTER && !self.forecast {
            self.forecast = true;
            if let Some(left) = self.time_left() {
                self.log_line(&format!(
                    "at this pace the run is done in {}, at {}",
                    short_time(left.as_secs_f64()),
                    local_time(SystemTime::now() + left)
                ));
            }
        }
        match &mut self.display {
            Display::Bar(bar) => {
                bar.set_prefix(pace);
                bar.set_message(self.values.clone());
                bar.set_position(iteration);
            }
            Display::Plain { writer, written } => {
                let due = written.is_none_or(|written| now >= written + PLAIN_INTERVAL);
                if due || iteration == self.total {
                    *written = Some(now);
                    let parts = [
                        format!("{iteration}/{}", self.total),
                        pace,
                        self.values.clone(),
                    ];
                    let parts: Vec<String> =
                        parts.into_iter().filter(|part| !part.is_empty()).collect();
                    // A closed standard error must not end a training run.
                    let _ = writeln!(writer, "{}", parts.join("  "));
                }
            }
        }
    }

    /// Writes a line above the bar.
    pub fn log_line(&mut self, line: &str) {
        match &mut self.display {
            Display::Bar(bar) => bar.println(line),
            Display::Plain { writer, .. } => {
                let _ = writeln!(writer, "{line}");
            }
        }
    }

    /// Leaves the last state on the screen and the cursor below it.
    pub fn finish(&mut self) {
        if let Display::Bar(bar) = &self.display {
            bar.abandon();
        }
    }

    /// For example `12.34 images/s  1h 02m left`; empty as long as nothing is known.
    fn pace(&self) -> String {
        let Some(speed) = self.speed.iterations_per_second() else {
            return String::new();
        };
        let images = short_number(speed * self.images_per_iteration as f64);
        match self.time_left() {
            Some(left) if self.done < self.total => {
                format!("{images} images/s  {} left", short_time(left.as_secs_f64()))
            }
            _ => format!("{images} images/s"),
        }
    }
}

/// Iterations per second as a moving average over time: both the iterations and the time they took
/// fade, so the first figure is already unbiased. The first iteration, in which libtorch prepares
/// itself, those of a former run, and pauses never count.
struct Speed {
    memory: Duration,
    /// The newest iteration, and when it was done.
    newest: Option<(u64, Duration)>,
    measured: Duration,
    faded_iterations: f64,
    faded_seconds: f64,
}

impl Speed {
    fn new(memory: Duration) -> Self {
        Self {
            memory,
            newest: None,
            measured: Duration::ZERO,
            faded_iterations: 0.0,
            faded_seconds: 0.0,
        }
    }

    /// Another iteration follows than the next; the speed stays.
    fn restart(&mut self) {
        self.newest = None;
    }

    fn advance(&mut self, iteration: u64, now: Duration) {
        let newest = self.newest.replace((iteration, now));
        let Some((before, then)) = newest else {
            return;
        };
        let took = now.saturating_sub(then);
        let seconds = took.as_secs_f64();
        let iterations = iteration.saturating_sub(before) as f64;
        let usual = self.iterations_per_second().map(|speed| iterations / speed);
        if took > SHORTEST_PAUSE && usual.is_some_and(|usual| seconds > PAUSE_RATIO * usual) {
            return;
        }
        let fading = (-seconds / self.memory.as_secs_f64()).exp();
        self.faded_iterations = self.faded_iterations * fading + iterations;
        self.faded_seconds = self.faded_seconds * fading + seconds;
        self.measured += took;
    }

    /// How long it has been measured.
    fn measured(&self) -> Duration {
        self.measured
    }

    /// `None` before the second iteration.
    fn iterations_per_second(&self) -> Option<f64> {
        let speed = self.faded_iterations / self.faded_seconds;
        (speed.is_finite() && speed > 0.0).then_some(speed)
    }
}

/// Four digits are enough to watch a loss.
pub fn short_number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || size == 0.0 {
        format!("{value}")
    } else if !(1e-3..1e5).contains(&size) {
        format!("{value:.2e}")
    } else {
        let decimals = (3 - size.log10().floor() as i32).clamp(0, 4);
        format!("{value:.*}", decimals as usize)
    }
}

/// The two largest units: `2d 03h`, `1h 02m`, `4m 09s`, `12s`.
pub fn short_time(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    if days > 0 {
        format!("{days}d {:02}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h {:02}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m {:02}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn plain(done: u64, total: u64, images_per_iteration: u64) -> (Progress, Lines) {
        let lines = Lines::default();
        let display = Display::Plain {
            writer: Box::new(lines.clone()),
            written: None,
        };
        (
            Progress::with_display(done, total, images_per_iteration, display),
            lines,
        )
    }

    #[test]
    fn without_a_terminal_a_line_is_written_now_and_then_and_at_the_end() {
        let (mut progress, lines) = plain(0, 50, 2);
        progress.show(&[("gen", 3.21416), ("dis", 0.5)]);
        for iteration in 1..=50 {
            progress.advance_at(iteration, Duration::from_secs(iteration));
        }
        progress.log_line("checkpoint written");
        assert_eq!(
            lines.text(),
            "1/50  gen 3.214  dis 0.5000\n\
             21/50  2.000 images/s  29s left  gen 3.214  dis 0.5000\n\
             41/50  2.000 images/s  9s left  gen 3.214  dis 0.5000\n\
             50/50  2.000 images/s  gen 3.214  dis 0.5000\n\
             checkpoint written\n"
        );
    }

    #[test]
    fn after_a_minute_it_is_said_once_when_the_run_will_end() {
        let (mut progress, lines) = plain(0, 10_000, 1);
        for iteration in 1..=200 {
            progress.advance_at(iteration, Duration::from_secs(iteration));
        }
        let text = lines.text();
        let forecasts: Vec<&str> = text.lines().filter(|line| line.contains("pace")).collect();
        let [forecast] = forecasts[..] else {
            panic!("{text}");
        };
        let start = "at this pace the run is done in 2h 45m, at 2";
        assert!(forecast.starts_with(start), "{forecast}");
        assert_eq!(forecast.len(), start.len() + "030-01-01 00:00".len());
    }

    #[test]
    fn the_start_and_iterations_before_a_resume_do_not_count_for_the_time_left() {
        let (mut progress, lines) = plain(1000, 2000, 1);
        // Half a minute until the first iteration is done.
        progress.advance_at(1001, Duration::from_secs(30));
        progress.advance_at(1011, Duration::from_secs(50));
        assert_eq!(
            lines.text(),
            "1001/2000\n1011/2000  0.5000 images/s  32m 58s left\n"
        );
        assert_eq!(progress.seconds_per_iteration(), Some(2.0));
    }

    #[test]
    fn pauses_do_not_count_but_slow_iterations_do() {
        let mut now = Duration::ZERO;
        let (mut progress, _) = plain(0, 1000, 1);
        let mut advance = |iteration, seconds| {
            now += Duration::from_secs(seconds);
            progress.advance_at(iteration, now);
            progress.seconds_per_iteration()
        };
        for iteration in 1..=20 {
            advance(iteration, 1);
        }
        // A night.
        assert_eq!(advance(21, 8 * 3600), Some(1.0));
        // A sheet of samples.
        let slow = advance(22, 20).unwrap();
        assert!((1.8..2.1).contains(&slow), "{slow}");
    }

    #[test]
    fn a_run_that_goes_back_keeps_its_speed() {
        let (mut progress, _) = plain(0, 100, 1);
        for iteration in 1..=11 {
            progress.advance_at(iteration, Duration::from_secs(iteration));
        }
        progress.go_back(5);
        assert_eq!(progress.time_left(), Some(Duration::from_secs(95)));
        progress.advance_at(6, Duration::from_secs(40));
        progress.advance_at(7, Duration::from_secs(41));
        assert_eq!(progress.seconds_per_iteration(), Some(1.0));
        assert_eq!(progress.time_left(), Some(Duration::from_secs(93)));
    }

    #[test]
    fn the_speed_follows_a_change_within_a_few_time_constants() {
        let mut speed = Speed::new(SHORT_MEMORY);
        let mut now = Duration::ZERO;
        let mut iteration = 0;
        for (count, pause) in [(100, 1.0), (1000, 0.25)] {
            for _ in 0..count {
                now += Duration::from_secs_f64(pause);
                iteration += 1;
                speed.advance(iteration, now);
            }
        }
        let measured = speed.iterations_per_second().unwrap();
        assert!((measured - 4.0).abs() < 0.01, "{measured}");
    }

    #[test]
    fn numbers_and_times_are_short() {
        let numbers = [0.0, 0.01234567, -1.5, 12.3456, 1234.56, 1e-7, f64::NAN];
        let shown = ["0", "0.0123", "-1.500", "12.35", "1235", "1.00e-7", "NaN"];
        assert_eq!(numbers.map(short_number), shown);
        let times = [12.4, 249.0, 3725.0, 183_700.0];
        assert_eq!(times.map(short_time), ["12s", "4m 09s", "1h 02m", "2d 03h"]);
    }
}
