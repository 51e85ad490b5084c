//! Stream time in, style code out.
//!
//! The wanted style is a path in stream time ([`StylePath`]). When a person wants another path, the
//! picture does not jump: the style shown last fades out of the mixture exponentially, with a time
//! constant in stream time. Frames are only the moments at which this is looked at, so 15 and 60
//! frames a second show the same style at the same second.

use std::time::Duration;

use munit::StyleCode;

use super::style_path::{SETTLED, StylePath};

/// Decides the style code of each frame.
#[derive(Debug)]
pub(super) struct StyleDirector {
    path: StylePath,
    /// The style that is being left, and the share of the way to the path that remains.
    leaving: Option<(StyleCode, f64)>,
    /// The style of the last frame.
    shown: Option<StyleCode>,
    /// Stream time of the last frame.
    time: Option<Duration>,
}

impl StyleDirector {
    /// Starts on `path`, without a glide.
    pub fn new(path: StylePath) -> Self {
        Self {
            path,
            leaving: None,
            shown: None,
            time: None,
        }
    }

    /// Glides to `path` from the last frame on; jumps if no frame was shown yet, or if the length
    /// of its codes differs, because then they are styles of another model.
    pub fn glide_to(&mut self, path: StylePath) {
        self.leaving = self
            .shown
            .take()
            .filter(|shown| shown.values().len() == path.style_dim())
            .map(|shown| (shown, 1.0));
        self.path = path;
    }

    /// The style code at `time` in the stream, with `time_constant` for glides (zero jumps).
    ///
    /// A frame without a time, or from before the last one (a seek back), has no place on a glide
    /// and gets the path's style at once.
    pub fn style_at(&mut self, time: Option<Duration>, time_constant: Duration) -> StyleCode {
        let place = time.or(self.time).unwrap_or_default();
        let mut style = self.path.style_at(place, time_constant);
        if let Some((from, remaining)) = &mut self.leaving {
            let elapsed = time
                .zip(self.time)
                .and_then(|(now, last)| now.checked_sub(last));
            *remaining = match elapsed {
                Some(elapsed) if !time_constant.is_zero() => {
                    *remaining * (-elapsed.as_secs_f64() / time_constant.as_secs_f64()).exp()
                }
                _ => 0.0,
            };
            if *remaining > (-SETTLED).exp() {
                style = from.interpolate(&style, (1.0 - *remaining) as f32);
            } else {
                self.leaving = None;
            }
        }
        self.time = time;
        self.shown = Some(style.clone());
        style
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME_CONSTANT: Duration = Duration::from_millis(400);

    fn still(seed: u64) -> StylePath {
        StylePath::Still(StyleCode::sample(seed, 8))
    }

    fn code(seed: u64) -> StyleCode {
        StyleCode::sample(seed, 8)
    }

    fn frame_time(number: u32, frames_per_second: u32) -> Option<Duration> {
        Some(Duration::from_secs(number.into()) / frames_per_second)
    }

    /// Plays 1.4 seconds with a style change after one second.
    fn play(frames_per_second: u32, from: StylePath, to: StylePath) -> StyleCode {
        let mut director = StyleDirector::new(from);
        let mut shown = None;
        for number in 0..=frames_per_second * 7 / 5 {
            if number == frames_per_second + 1 {
                director.glide_to(to.clone());
            }
            let time = frame_time(number, frames_per_second);
            shown = Some(director.style_at(time, TIME_CONSTANT));
        }
        shown.unwrap()
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
        let drift = StylePath::Drift {
            seed: 5,
            style_dim: 8,
            correlation_time: Duration::from_secs(1),
        };
        for to in [still(2), drift] {
            let slow = play(15, still(1), to.clone());
            let fast = play(60, still(1), to.clone());
            let end = to.style_at(Duration::from_millis(1400), TIME_CONSTANT);
            assert!(distance(&slow, &fast) < 1e-4, "{slow:?} {fast:?}");
            assert!(distance(&fast, &code(1)) > 0.1, "the style has not moved");
            assert!(distance(&fast, &end) > 0.1, "the style has jumped");
        }
    }

    #[test]
    fn after_one_time_constant_the_way_left_is_one_over_e() {
        let mut director = StyleDirector::new(still(1));
        let second = Duration::from_secs(1);
        director.style_at(Some(second), TIME_CONSTANT);
        director.glide_to(still(2));
        let expected = code(1).interpolate(&code(2), 1.0 - (-1.0f32).exp());
        let shown = director.style_at(Some(second + TIME_CONSTANT), TIME_CONSTANT);
        assert!(distance(&shown, &expected) < 1e-5);
        let shown = director.style_at(Some(60 * second), TIME_CONSTANT);
        assert_eq!(shown, code(2));
    }

    #[test]
    fn a_second_change_starts_where_the_first_has_got_to() {
        let mut director = StyleDirector::new(still(1));
        director.style_at(frame_time(0, 10), TIME_CONSTANT);
        director.glide_to(still(2));
        let midway = director.style_at(frame_time(3, 10), TIME_CONSTANT);
        director.glide_to(still(3));
        let next = director.style_at(frame_time(3, 10), TIME_CONSTANT);
        assert!(distance(&midway, &next) < 1e-5);
    }

    #[test]
    fn zero_jumps() {
        let mut director = StyleDirector::new(still(1));
        director.style_at(frame_time(0, 30), Duration::ZERO);
        director.glide_to(still(2));
        let shown = director.style_at(frame_time(1, 30), Duration::ZERO);
        assert_eq!(shown, code(2));
    }

    #[test]
    fn a_seek_back_and_a_missing_time_land_on_the_path() {
        for next in [frame_time(10, 30), None] {
            let mut director = StyleDirector::new(still(1));
            director.style_at(frame_time(30, 30), TIME_CONSTANT);
            director.glide_to(still(2));
            let midway = director.style_at(frame_time(31, 30), TIME_CONSTANT);
            assert_ne!(midway, code(2));
            assert_eq!(director.style_at(next, TIME_CONSTANT), code(2));
        }
    }

    #[test]
    fn a_style_of_another_model_jumps() {
        let mut director = StyleDirector::new(still(1));
        director.style_at(frame_time(0, 30), TIME_CONSTANT);
        director.glide_to(StylePath::Still(StyleCode::sample(1, 4)));
        let shown = director.style_at(frame_time(1, 30), TIME_CONSTANT);
        assert_eq!(shown, StyleCode::sample(1, 4));
    }
}
