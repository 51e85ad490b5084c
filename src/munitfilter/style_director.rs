//! Stream time in, style code out.
//!
//! A style that changes does not jump: the code in use approaches the wanted one exponentially,
//! with a time constant in stream time. Frames are only the moments at which this path is looked
//! at, so 15 and 60 frames a second show the same style at the same second.

use std::time::Duration;

use munit::StyleCode;

/// Decides the style code of each frame.
#[derive(Debug)]
pub(super) struct StyleDirector {
    current: StyleCode,
    target: StyleCode,
    /// Stream time at which `current` was looked at.
    time: Option<Duration>,
}

impl StyleDirector {
    /// Starts at `style`, without a glide.
    pub fn new(style: StyleCode) -> Self {
        Self {
            current: style.clone(),
            target: style,
            time: None,
        }
    }

    /// Glides to `style` from the last frame on; jumps if no frame was shown yet, or if its
    /// length differs, because then it is a style of another model.
    pub fn glide_to(&mut self, style: StyleCode) {
        if self.time.is_none() || style.values().len() != self.current.values().len() {
            self.current = style.clone();
        }
        self.target = style;
    }

    /// The style code at `time` in the stream, with `time_constant` for the approach (zero jumps).
    ///
    /// A frame without a time, or from before the last one (a seek back), has no place on the
    /// path and gets the wanted style at once.
    pub fn style_at(&mut self, time: Option<Duration>, time_constant: Duration) -> &StyleCode {
        if self.current != self.target {
            let elapsed = time
                .zip(self.time)
                .and_then(|(now, last)| now.checked_sub(last));
            match elapsed {
                Some(elapsed) if !time_constant.is_zero() => {
                    let passed = elapsed.as_secs_f64() / time_constant.as_secs_f64();
                    self.current = if passed > SETTLED {
                        self.target.clone()
                    } else {
                        let fraction = -(-passed).exp_m1();
                        self.current.interpolate(&self.target, fraction as f32)
                    };
                }
                _ => self.current = self.target.clone(),
            }
        }
        self.time = time;
        &self.current
    }
}

/// Time constants after which the rest of the way, e^-16, is less than a float resolves.
const SETTLED: f64 = 16.0;

#[cfg(test)]
mod tests {
    use super::*;

    const TIME_CONSTANT: Duration = Duration::from_millis(400);

    fn frame_time(number: u32, frames_per_second: u32) -> Option<Duration> {
        Some(Duration::from_secs(number.into()) / frames_per_second)
    }

    /// Plays 1.4 seconds with a style change after one second.
    fn play(frames_per_second: u32, from: &StyleCode, to: &StyleCode) -> StyleCode {
        let mut director = StyleDirector::new(from.clone());
        for number in 0..=frames_per_second * 7 / 5 {
            if number == frames_per_second + 1 {
                director.glide_to(to.clone());
            }
            director.style_at(frame_time(number, frames_per_second), TIME_CONSTANT);
        }
        director.current
    }

    fn distance(left: &StyleCode, right: &StyleCode) -> f32 {
        left.values()
            .iter()
            .zip(right.values())
            .map(|(left, right)| (left - right).abs())
            .fold(0.0, f32::max)
    }

    #[test]
    fn a_glide_does_not_depend_on_the_frame_rate() {
        let (from, to) = (StyleCode::sample(1, 8), StyleCode::sample(2, 8));
        let slow = play(15, &from, &to);
        let fast = play(60, &from, &to);
        assert!(distance(&slow, &fast) < 1e-4, "{slow:?} {fast:?}");
        assert!(distance(&fast, &from) > 0.1, "the style has not moved");
        assert!(distance(&fast, &to) > 0.1, "the style has jumped");
    }

    #[test]
    fn after_one_time_constant_the_way_left_is_one_over_e() {
        let (from, to) = (StyleCode::zeros(1), StyleCode::new(vec![1.0], 1).unwrap());
        let mut director = StyleDirector::new(from);
        director.style_at(Some(Duration::ZERO), TIME_CONSTANT);
        director.glide_to(to);
        let style = director.style_at(Some(TIME_CONSTANT), TIME_CONSTANT);
        assert!(
            (style.values()[0] - (1.0 - (-1.0f32).exp())).abs() < 1e-6,
            "{style:?}"
        );
    }

    #[test]
    fn a_glide_arrives() {
        let (from, to) = (StyleCode::sample(1, 8), StyleCode::sample(2, 8));
        let mut director = StyleDirector::new(from);
        director.style_at(frame_time(0, 30), TIME_CONSTANT);
        director.glide_to(to.clone());
        for number in 1..=300 {
            director.style_at(frame_time(number, 30), TIME_CONSTANT);
        }
        assert!(distance(&director.current, &to) < 1e-5);
    }

    #[test]
    fn the_first_style_and_a_zero_time_constant_jump() {
        let (from, to) = (StyleCode::sample(1, 8), StyleCode::sample(2, 8));
        let mut director = StyleDirector::new(from.clone());
        director.glide_to(to.clone());
        assert_eq!(director.style_at(frame_time(0, 30), TIME_CONSTANT), &to);
        director.glide_to(from.clone());
        assert_eq!(director.style_at(frame_time(1, 30), Duration::ZERO), &from);
    }

    #[test]
    fn a_seek_back_and_a_missing_time_land_on_the_wanted_style() {
        let (from, to) = (StyleCode::sample(1, 8), StyleCode::sample(2, 8));
        for next in [frame_time(10, 30), None] {
            let mut director = StyleDirector::new(from.clone());
            director.style_at(frame_time(30, 30), TIME_CONSTANT);
            director.glide_to(to.clone());
            director.style_at(frame_time(31, 30), TIME_CONSTANT);
            assert_ne!(director.current, to);
            assert_eq!(director.style_at(next, TIME_CONSTANT), &to);
        }
    }

    #[test]
    fn a_style_of_another_model_jumps() {
        let mut director = StyleDirector::new(StyleCode::sample(1, 8));
        director.style_at(frame_time(0, 30), TIME_CONSTANT);
        director.glide_to(StyleCode::sample(1, 4));
        assert_eq!(
            director
                .style_at(frame_time(1, 30), TIME_CONSTANT)
                .values()
                .len(),
            4
        );
    }
}
