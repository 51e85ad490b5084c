//! A group of series as a drawing that takes its colours from the page.

use super::series::{Reading, Series, smoothed, thinned};
use crate::chart::svg::{Anchor, Svg, TextStyle};
use crate::report::progress::short_number;

/// What the horizontal axis shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// Iterations.
    Iterations,
    /// Time spent training.
    Time,
}

/// How values are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As they are.
    Linear,
    /// By their logarithms.
    Logarithmic,
}

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 236.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 28.0;

/// Colours of the lines, as the page's style sheet has them.
pub const COLOURS: [&str; 6] = [
    "var(--line-1)",
    "var(--line-2)",
    "var(--line-3)",
    "var(--line-4)",
    "var(--line-5)",
    "var(--line-6)",
];
const INK: &str = "var(--quiet)";
const GRID: &str = "var(--rule)";
const AXIS: TextStyle = TextStyle {
    colour: INK,
    ..TextStyle::AXIS
};

/// A drawing, and what a program needs to read values off it.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// The SVG.
    pub svg: String,
    /// Sides of the plot within the drawing: left, top, right, bottom.
    pub sides: [f64; 4],
    /// What the right side stands for; the left is 0.
    pub last: f64,
    /// What bottom and top stand for, as logarithms if the scale is logarithmic.
    pub range: [f64; 2],
    /// The scale.
    pub scale: Scale,
}

/// Where the lines of `series` lie: drawn thick and smooth over thin and as they are. A logarithmic
/// scale becomes linear where a value is not above 0.
pub fn drawing(title: &str, series: &[Series], along: Along, scale: Scale) -> Drawing {
    let smooth: Vec<Vec<Reading>> = series.iter().map(|one| smoothed(&one.readings)).collect();
    let raw: Vec<Vec<Reading>> = series.iter().map(|one| thinned(&one.readings)).collect();
    let place = |reading: &Reading| match along {
        Along::Iterations => reading.iteration,
        Along::Time => reading.seconds,
    };
    let mut values = smooth.iter().flatten().map(|reading| reading.value);
    let has_logarithms =
        values.next().is_some_and(|first| first > 0.0) && values.all(|value| value > 0.0);
    let scale = match has_logarithms {
        true => scale,
        false => Scale::Linear,
    };
    let last = raw.iter().flatten().map(place).fold(0.0, f64::max);
    let (low, high) = range(&smooth, &raw, scale);
    let level = |value: f64| match scale {
        Scale::Linear => value,
        Scale::Logarithmic => value.max(f64::MIN_POSITIVE).log10(),
    };
    let plot = Plot {
        last: last.max(1.0),
        low: level(low),
        high: level(high),
    };

    let mut svg = Svg::on("none", WIDTH, HEIGHT, title);
    for value in value_ticks(low, high, scale) {
        let y = plot.y(level(value));
        svg.line((LEFT, y), (WIDTH - RIGHT, y), GRID, 1.0, "");
        svg.text((LEFT - 8.0, y + 4.0), Anchor::End, AXIS, &tick_label(value));
    }
    let (unit, name) = match along {
        Along::Iterations => (1.0, ""),
        Along::Time => time_unit(plot.last),
    };
    for value in linear_ticks(0.0, plot.last / unit, 5) {
        let x = plot.x(value * unit);
        let label = match name {
            "" => count_label(value),
            unit => format!("{} {unit}", short_tick(value)),
        };
        let anchor = match x {
            x if x < LEFT + 20.0 => Anchor::Start,
            x if x > WIDTH - 30.0 => Anchor::End,
            _ => Anchor::Middle,
        };
        svg.line(
            (x, HEIGHT - BOTTOM),
            (x, HEIGHT - BOTTOM + 4.0),
            GRID,
            1.0,
            "",
        );
        svg.text((x, HEIGHT - 8.0), anchor, AXIS, &label);
    }
    let points = |readings: &[Reading]| -> Vec<(f64, f64)> {
        let points = readings.iter();
        points
            .map(|reading| (plot.x(place(reading)), plot.y(level(reading.value))))
            .collect()
    };
    svg.begin_group("raw");
    for (readings, colour) in raw.iter().zip(COLOURS.iter().cycle()) {
        svg.thin_path(&points(readings), colour, 0.8);
    }
    svg.end_group();
    for (readings, colour) in smooth.iter().zip(COLOURS.iter().cycle()) {
        svg.path(&points(readings), colour);
        if let [only] = points(readings)[..] {
            svg.dot(only, 2.0, colour, true);
        }
    }
    Drawing {
        svg: svg.finish(),
        sides: [LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM],
        last: plot.last,
        range: [plot.low, plot.high],
        scale,
    }
}

struct Plot {
    last: f64,
    low: f64,
    high: f64,
}

impl Plot {
    fn x(&self, place: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * place / self.last
    }

    /// What is out of the range lies on its edge.
    fn y(&self, level: f64) -> f64 {
        let share = (self.high - level) / (self.high - self.low);
        TOP + (HEIGHT - TOP - BOTTOM) * share.clamp(0.0, 1.0)
    }
}

/// From below to above all smoothed values and nearly all others.
fn range(smooth: &[Vec<Reading>], raw: &[Vec<Reading>], scale: Scale) -> (f64, f64) {
    let mut values: Vec<f64> = raw.iter().flatten().map(|reading| reading.value).collect();
    if scale == Scale::Logarithmic {
        values.retain(|value| *value > 0.0);
    }
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get((share * values.len() as f64) as usize).copied();
    let smooth = || smooth.iter().flatten().map(|reading| reading.value);
    let low = smooth().fold(at(0.02).unwrap_or(0.0), f64::min);
    let high = smooth().fold(at(0.98).unwrap_or(1.0), f64::max);
    match scale {
        Scale::Linear => {
            let low = low.min(0.0);
            let room = (high - low).max(1e-6);
            (low, high + 0.04 * room)
        }
        Scale::Logarithmic => (low / 1.1, high.max(1.1 * low) * 1.1),
    }
}

fn value_ticks(low: f64, high: f64, scale: Scale) -> Vec<f64> {
    if scale == Scale::Linear {
        return linear_ticks(low, high, 5);
    }
    let first = low.log10().floor() as i32;
    let last = high.log10().ceil() as i32;
    let steps: &[f64] = match (high / low).log10() {
        ..1.2 => &[1.0, 2.0, 5.0],
        1.2..2.5 => &[1.0, 3.0],
        _ => &[1.0],
    };
    let skip = ((last - first) / 6).max(1) as usize;
    let ticks: Vec<f64> = (first..=last)
        .step_by(skip)
        .flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)))
        .filter(|value| (low..=high).contains(value))
        .collect();
    match ticks.len() {
        // The range is narrow.
        ..3 => linear_ticks(low, high, 4),
        _ => ticks,
    }
}

/// About `count` round values from `low` to `high`.
fn linear_ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let rough = (high - low).max(f64::MIN_POSITIVE) / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = power
        * match rough / power {
            ..1.5 => 1.0,
            1.5..3.5 => 2.0,
            3.5..7.5 => 5.0,
            _ => 10.0,
        };
    let first = (low / step).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|number| number as f64 * step).collect()
}

/// The unit in which `seconds` are a number of one or two digits.
fn time_unit(seconds: f64) -> (f64, &'static str) {
    match seconds {
        ..180.0 => (1.0, "s"),
        ..10_800.0 => (60.0, "min"),
        ..259_200.0 => (3600.0, "h"),
        _ => (86_400.0, "d"),
    }
}

fn tick_label(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        1e5.. => short_number(value),
        ..1e-4 => short_number(value),
        _ => short_tick(value),
    }
}

/// Without the noise of binary fractions and without zeros at the end.
fn short_tick(value: f64) -> String {
    format!("{}", (value * 1e6).round() / 1e6)
}

fn count_label(iterations: f64) -> String {
    match iterations {
        1e6.. => format!("{}M", short_tick(iterations / 1e6)),
        1e3.. => format!("{}k", short_tick(iterations / 1e3)),
        _ => short_tick(iterations),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        let readings = (1..).zip(values).map(|(number, &value)| Reading {
            iteration: 10.0 * f64::from(number),
            seconds: 100.0 * f64::from(number),
            value,
        });
        Series {
            label: "it".to_owned(),
            readings: readings.collect(),
        }
    }

    /// The points of the thick lines.
    fn lines(svg: &str) -> Vec<Vec<(f64, f64)>> {
        let lines = svg
            .lines()
            .filter(|line| line.contains("stroke-width=\"2\""));
        lines
            .filter_map(|line| line.split_once("points=\"")?.1.split_once('"'))
            .map(|(points, _)| {
                let points = points.split(' ').map(|point| {
                    let (x, y) = point.split_once(',').unwrap();
                    (x.parse().unwrap(), y.parse().unwrap())
                });
                points.collect()
            })
            .collect()
    }

    #[test]
    fn lines_run_through_their_values() {
        for (scale, middle) in [(Scale::Linear, 0.5), (Scale::Logarithmic, 0.5)] {
            let values = match scale {
                Scale::Linear => [1.0, 5.5, 10.0],
                Scale::Logarithmic => [1.0, 10.0, 100.0],
            };
            for along in [Along::Iterations, Along::Time] {
                let drawn = drawing("a title", &[series(&values)], along, scale);
                let svg = drawn.svg;
                let [line] = &lines(&svg)[..] else {
                    panic!("{svg}");
                };
                let plot = WIDTH - LEFT - RIGHT;
                for (point, share) in line.iter().zip([1.0, 2.0, 3.0]) {
                    assert!((point.0 - LEFT - plot * share / 3.0).abs() < 0.1);
                }
                let share = (line[0].1 - line[1].1) / (line[0].1 - line[2].1);
                assert!((share - middle).abs() < 0.01, "{share}");
                assert!(
                    line.iter()
                        .all(|(_, y)| (TOP..=HEIGHT - BOTTOM).contains(y))
                );
            }
        }
    }

    #[test]
    fn what_has_no_logarithm_is_drawn_linearly() {
        let negative = [series(&[-1.0, 0.0, 1.0])];
        let drawn = |scale| drawing("", &negative, Along::Iterations, scale);
        assert_eq!(drawn(Scale::Logarithmic), drawn(Scale::Linear));
    }

    #[test]
    fn drawings_of_nothing_and_of_one_value_are_drawings() {
        for series in [vec![], vec![series(&[])], vec![series(&[0.0])]] {
            for scale in [Scale::Linear, Scale::Logarithmic] {
                let svg = drawing("", &series, Along::Time, scale).svg;
                assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
            }
        }
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(linear_ticks(0.0, 10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(
            linear_ticks(-0.3, 0.7, 5),
            [-0.2, 0.0, 0.2, 0.4, 0.6000000000000001]
        );
        let log = |low, high| {
            let ticks = value_ticks(low, high, Scale::Logarithmic);
            ticks.into_iter().map(tick_label).collect::<Vec<_>>()
        };
        assert_eq!(log(0.9, 12.0), ["1", "2", "5", "10"]);
        assert_eq!(log(0.02, 1.2), ["0.03", "0.1", "0.3", "1"]);
        assert_eq!(log(2.1, 3.9), ["2.5", "3", "3.5"]);
        let labels = [0.6000000000000001, 0.0, 20_000.0, 1e-7].map(tick_label);
        assert_eq!(labels, ["0.6", "0", "20000", "1.00e-7"]);
        let counts = [0.0, 500.0, 12_500.0, 1_000_000.0].map(count_label);
        assert_eq!(counts, ["0", "500", "12.5k", "1M"]);
    }
}
