//! Styles as functions of stream time.
//!
//! Nothing here remembers what was shown before: a path gives the same style at the same second of
//! the stream, whatever the frame rate, and after every seek.

use std::time::Duration;

use munit::StyleCode;

/// A style at every moment of the stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum StylePath {
    /// The same style all the time.
    Still(StyleCode),
    /// A new draw from the prior at every multiple of `interval`.
    Draws {
        seed: u64,
        style_dim: usize,
        interval: Duration,
    },
    /// The next of these styles at every multiple of `interval`, in turn. Never empty.
    Tour {
        styles: Vec<StyleCode>,
        interval: Duration,
    },
    /// A smooth random walk whose value at each moment is a draw from the prior and which has lost
    /// its likeness to itself (correlation 1/e) after `correlation_time`.
    Drift {
        seed: u64,
        style_dim: usize,
        correlation_time: Duration,
    },
}

/// An interval shorter than this would be a flicker, and a long way to look back.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);
/// Time constants after which the rest of the way, e^-16, is less than a float resolves.
pub(super) const SETTLED: f64 = 16.0;
/// Steps that a glide is followed back, far enough for time constants of dozens of intervals.
const LONGEST_MEMORY: u64 = 512;

impl StylePath {
    /// Numbers in the codes of this path.
    pub fn style_dim(&self) -> usize {
        match self {
            Self::Still(style) => style.values().len(),
            Self::Draws { style_dim, .. } | Self::Drift { style_dim, .. } => *style_dim,
            Self::Tour { styles, .. } => styles.first().map_or(0, |style| style.values().len()),
        }
    }

    /// The style at `time` in the stream. Where one style follows another, the first glides into
    /// the second with this time constant; zero jumps.
    pub fn style_at(&self, time: Duration, time_constant: Duration) -> StyleCode {
        match self {
            Self::Still(style) => style.clone(),
            Self::Draws {
                seed,
                style_dim,
                interval,
            } => glide(time, *interval, time_constant, |number| {
                StyleCode::sample(seed_of_draw(*seed, number), *style_dim)
            }),
            Self::Tour { styles, interval } => glide(time, *interval, time_constant, |number| {
                styles[(number % styles.len() as u64) as usize].clone()
            }),
            Self::Drift {
                seed,
                style_dim,
                correlation_time,
            } => drift(time, *correlation_time, *seed, *style_dim),
        }
    }
}

/// The seed of a draw in a row of them; the first is that of the row, and any two rows soon differ
/// (the increment is that of SplitMix64, Steele et al. 2014).
fn seed_of_draw(seed: u64, number: u64) -> u64 {
    seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// The end of the glide through `styles`, of which the next is headed for at each multiple of
/// `interval`: every piece of the way is an exponential approach, known in closed form.
fn glide(
    time: Duration,
    interval: Duration,
    time_constant: Duration,
    styles: impl Fn(u64) -> StyleCode,
) -> StyleCode {
    let interval = interval.max(SHORTEST_INTERVAL).as_secs_f64();
    let time = time.as_secs_f64();
    let number = (time / interval) as u64;
    if time_constant.is_zero() {
        return styles(number);
    }
    let per_interval = interval / time_constant.as_secs_f64();
    // What lies further back has been forgotten.
    let memory = ((SETTLED / per_interval).ceil() as u64).min(LONGEST_MEMORY);
    let first = number.saturating_sub(memory);
    let mut style = styles(first);
    for next in first + 1..=number {
        let end = ((next + 1) as f64 * interval).min(time);
        let passed = (end - next as f64 * interval) / time_constant.as_secs_f64();
        style = style.interpolate(&styles(next), -(-passed).exp_m1() as f32);
    }
    style
}

/// Draws from the prior lie on a lattice in time; each moment sees those around it through a
/// Gaussian window, divided by the window's norm there, so that the variance stays that of the
/// prior. Two moments a correlation time apart have the correlation 1/e: the window's deviation is
/// half of that time, and windows a distance d apart overlap by exp(−d²/4σ²).
fn drift(time: Duration, correlation_time: Duration, seed: u64, style_dim: usize) -> StyleCode {
    /// Lattice points in a correlation time, and the window's deviation in lattice steps.
    const DENSITY: f64 = 2.0;
    const DEVIATION: f64 = DENSITY / 2.0;
    /// Lattice points on either side beyond which the window is less than 1e-7.
    const REACH: i64 = 6;

    let correlation_time = correlation_time.max(SHORTEST_INTERVAL).as_secs_f64();
    let position = time.as_secs_f64() / correlation_time * DENSITY;
    let nearest = position.round() as i64;
    let mut sum = vec![0.0; style_dim];
    let mut square = 0.0;
    for point in nearest - REACH..=nearest + REACH {
        let distance = (point as f64 - position) / DEVIATION;
        let weight = (-0.5 * distance * distance).exp();
        square += weight * weight;
        let draw = StyleCode::sample(seed_of_draw(seed, point as u64), style_dim);
        for (sum, value) in sum.iter_mut().zip(draw.values()) {
            *sum += weight * f64::from(*value);
        }
    }
    let norm = square.sqrt();
    let values = sum.into_iter().map(|value| (value / norm) as f32).collect();
    StyleCode::new(values, style_dim).unwrap_or_else(|_| StyleCode::zeros(style_dim))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const STYLE_DIM: usize = 8;

    fn distance(left: &StyleCode, right: &StyleCode) -> f32 {
        let squares = left.values().iter().zip(right.values());
        squares.map(|(l, r)| (l - r).powi(2)).sum::<f32>().sqrt()
    }

    fn draws(seed: u64) -> StylePath {
        StylePath::Draws {
            seed,
            style_dim: STYLE_DIM,
            interval: 2 * SECOND,
        }
    }

    fn drift_path(seed: u64) -> StylePath {
        StylePath::Drift {
            seed,
            style_dim: STYLE_DIM,
            correlation_time: 2 * SECOND,
        }
    }

    #[test]
    fn draws_begin_with_the_seed_s_own_and_change_at_each_interval() {
        let path = draws(7);
        let at = |milliseconds| path.style_at(Duration::from_millis(milliseconds), Duration::ZERO);
        assert_eq!(at(0), StyleCode::sample(7, STYLE_DIM));
        assert_eq!(at(1999), at(0));
        assert_ne!(at(2000), at(0));
        assert_ne!(at(4000), at(2000));
    }

    #[test]
    fn a_glide_leaves_one_over_e_of_the_way_after_a_time_constant() {
        let path = draws(7);
        let constant = SECOND / 5;
        let before = path.style_at(2 * SECOND, constant);
        let after = path.style_at(2 * SECOND + constant, constant);
        let (from, to) = (
            path.style_at(SECOND, Duration::ZERO),
            path.style_at(3 * SECOND, Duration::ZERO),
        );
        assert!(distance(&before, &from) < 1e-3);
        let expected = from.interpolate(&to, 1.0 - (-1.0f32).exp());
        assert!(distance(&after, &expected) < 1e-3);
    }

    #[test]
    fn no_path_jumps_where_it_glides() {
        let tour = StylePath::Tour {
            styles: (0..3)
                .map(|seed| StyleCode::sample(seed, STYLE_DIM))
                .collect(),
            interval: SECOND,
        };
        for path in [draws(3), drift_path(3), tour] {
            for step in 0..2000 {
                let time = step * Duration::from_millis(5);
                let next = time + Duration::from_millis(5);
                let moved = distance(
                    &path.style_at(time, SECOND / 2),
                    &path.style_at(next, SECOND / 2),
                );
                assert!(moved < 0.15, "{path:?} jumps by {moved} at {time:?}");
            }
        }
    }

    #[test]
    fn a_tour_goes_through_its_styles_in_turn() {
        let styles: Vec<_> = (0..3)
            .map(|seed| StyleCode::sample(seed, STYLE_DIM))
            .collect();
        let tour = StylePath::Tour {
            styles: styles.clone(),
            interval: SECOND,
        };
        for second in 0..7 {
            let time = second * SECOND + SECOND / 2;
            let shown = tour.style_at(time, Duration::ZERO);
            assert_eq!(shown, styles[second as usize % 3]);
        }
    }

    #[test]
    fn a_long_memory_ends_somewhere() {
        let path = StylePath::Draws {
            seed: 1,
            style_dim: 2,
            interval: Duration::ZERO,
        };
        let style = path.style_at(Duration::from_secs(1_000_000), Duration::from_secs(600));
        assert!(style.values().iter().all(|value| value.is_finite()));
    }

    #[test]
    fn a_drift_has_the_prior_s_distribution_and_its_correlation_time() {
        let (mut sum, mut square, mut product, mut count) = (0.0, 0.0, 0.0, 0.0);
        for seed in 0..40 {
            let path = drift_path(seed * 1000 + 1);
            for step in 0..40 {
                // Moments of every phase between two lattice points.
                let time = step * Duration::from_millis(3370);
                let now = path.style_at(time, Duration::ZERO);
                let later = path.style_at(time + 2 * SECOND, Duration::ZERO);
                for (a, b) in now.values().iter().zip(later.values()) {
                    sum += f64::from(*a);
                    square += f64::from(a * a);
                    product += f64::from(a * b);
                    count += 1.0;
                }
            }
        }
        let (mean, variance, correlation) = (sum / count, square / count, product / square);
        assert!(mean.abs() < 0.05, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
        assert!(
            (correlation - (-1.0f64).exp()).abs() < 0.05,
            "correlation {correlation}"
        );
    }
}
