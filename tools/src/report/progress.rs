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

/// Time constant of the speed's moving average.
const SMOOTHING: Duration = Duration::from_secs(30);

/// Shows iteration, speed, time left and a few losses on standard error.
pub struct Progress {
    total: u64,
    images_per_iteration: u64,
    started: Instant,
    speed: Speed,
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
            speed: Speed::new(done),
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

    fn advance_at(&mut self, iteration: u64, now: Duration) {
        self.speed.advance(iteration, now);
        let pace = self.pace(iteration);
        if now >= FORECAST_AFTER && !self.forecast {
            self.forecast = true;
            if let Some(left) = self.time_left(iteration) {
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

    /// `None` as long as nothing is known, and for times beyond all measure.
    fn time_left(&self, iteration: u64) -> Option<Duration> {
        let speed = self.speed.iterations_per_second()?;
        let left = self.total.saturating_sub(iteration) as f64 / speed;
        let left = Duration::try_from_secs_f64(left).ok()?;
        (left < LONGEST_FORECAST).then_some(left)
    }

    /// For example `12.34 images/s  1h 02m left`; empty as long as nothing is known.
    fn pace(&self, iteration: u64) -> String {
        let Some(speed) = self.speed.iterations_per_second() else {
            return String::new();
        };
        let images = short_number(speed * self.images_per_iteration as f64);
        match self.total.saturating_sub(iteration) {
            0 => format!("{images} images/s"),
            left => format!(
                "{images} images/s  {} left",
                short_time(left as f64 / speed)
            ),
        }
    }
}

/// Iterations per second as a moving average over time: both the iterations and the time they
/// took fade with [`SMOOTHING`], so the first figure is already unbiased, and iterations of a
/// former run never count.
struct Speed {
    iteration: u64,
    at: Duration,
    faded_iterations: f64,
    faded_seconds: f64,
}

impl Speed {
    fn new(done: u64) -> Self {
        Self {
            iteration: done,
            at: Duration::ZERO,
            faded_iterations: 0.0,
            faded_seconds: 0.0,
        }
    }

    fn advance(&mut self, iteration: u64, now: Duration) {
        let seconds = now.saturating_sub(self.at).as_secs_f64();
        let fading = (-seconds / SMOOTHING.as_secs_f64()).exp();
        let iterations = iteration.saturating_sub(self.iteration) as f64;
        self.faded_iterations = self.faded_iterations * fading + iterations;
        self.faded_seconds = self.faded_seconds * fading + seconds;
        self.iteration = iteration;
        self.at = now;
    }

    /// `None` before the first iteration.
    fn iterations_per_second(&self) -> Option<f64> {
        let speed = self.faded_iterations / self.faded_seconds;
        (speed.is_finite() && speed > 0.0).then_some(speed)
    }
}

/// Four digits are enough to watch a loss.
fn short_number(value: f64) -> String {
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
fn short_time(seconds: f64) -> String {
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
            "1/50  2.000 images/s  49s left  gen 3.214  dis 0.5000\n\
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
    fn iterations_before_a_resume_do_not_count_for_the_time_left() {
        let (mut progress, lines) = plain(1000, 2000, 1);
        progress.advance_at(1001, Duration::from_secs(2));
        assert_eq!(lines.text(), "1001/2000  0.5000 images/s  33m 18s left\n");
    }

    #[test]
    fn the_speed_follows_a_change_within_a_few_time_constants() {
        let mut speed = Speed::new(0);
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
