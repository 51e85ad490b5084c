//! Cost against pixels.

use crate::bench::size::FrameSize;
use crate::chart::svg::{Anchor, Svg, TextStyle};
use crate::chart::{GREY, GRID, PALE_INK, SERIES};

/// One network: milliseconds of a frame by its size, in order of size.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it is called.
    pub name: String,
    /// Sizes and medians.
    pub points: Vec<(FrameSize, f64)>,
}

impl Series {
    /// Nanoseconds for a pixel at the size where these are fewest.
    pub fn cheapest_pixel(&self) -> f64 {
        let costs = self.points.iter().map(|(size, ms)| per_pixel(*size, *ms));
        costs.fold(f64::INFINITY, f64::min)
    }
}

/// Nanoseconds for a pixel.
pub fn per_pixel(size: FrameSize, ms: f64) -> f64 {
    ms * 1e6 / size.pixels() as f64
}

const LEFT: f64 = 76.0;
const PLOT: f64 = 640.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 70.0;
const UPPER: f64 = 330.0;
const BETWEEN: f64 = 74.0;
const LOWER: f64 = 170.0;
/// Between the base lines of labels.
const LABEL_STEP: f64 = 17.0;

/// Draws time by pixels on logarithmic axes, with the time that would be in proportion to the
/// cheapest pixel, and below it how much dearer than that pixel the others are.
pub fn cost_by_pixels(title: &str, series: &[Series]) -> String {
    let height = TOP + UPPER + BETWEEN + LOWER + 52.0;
    let mut svg = Svg::new(LEFT + PLOT + RIGHT, height, title);
    svg.text((12.0, 24.0), Anchor::Start, TextStyle::HEADING, title);
    let sizes = sizes(series);
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else {
        return svg.finish();
    };
    let x_range = (log_pixels(*first) - 0.04, log_pixels(*last) + 0.04);
    let x = move |size: FrameSize| {
        LEFT + PLOT * (log_pixels(size) - x_range.0) / (x_range.1 - x_range.0)
    };
    let times = || {
        series
            .iter()
            .flat_map(|one| one.points.iter().map(|(_, ms)| *ms))
    };
    let low = times().fold(f64::INFINITY, f64::min).log10().floor();
    let high = times().fold(0.0, f64::max).log10().ceil().max(low + 1.0);
    let upper = Panel {
        top: TOP,
        height: UPPER,
        low,
        high,
    };
    svg.text(
        (12.0, TOP - 20.0),
        Anchor::Start,
        TextStyle::AXIS,
        "milliseconds a frame; dashed: in proportion to the cheapest pixel",
    );
    for decade in low as i32..=high as i32 {
        let value = 10f64.powi(decade);
        upper.grid(&mut svg, value.log10(), &format!("{value}"));
    }
    let dearest = series.iter().flat_map(relative_costs).fold(1.0, f64::max);
    let lower = Panel {
        top: TOP + UPPER + BETWEEN,
        height: LOWER,
        low: 1.0,
        high: (dearest * 2.0).ceil().max(3.0) / 2.0,
    };
    svg.text(
        (12.0, lower.top - 20.0),
        Anchor::Start,
        TextStyle::AXIS,
        "cost of a pixel, in times that of the cheapest",
    );
    let step = if lower.high > 4.0 { 1.0 } else { 0.5 };
    let mut value = lower.low;
    while value <= lower.high {
        lower.grid(&mut svg, value, &format!("{value}×"));
        value += step;
    }
    for size in &sizes {
        for panel in [&upper, &lower] {
            let bottom = panel.top + panel.height;
            svg.line((x(*size), bottom), (x(*size), bottom + 5.0), GREY, 1.0, "");
        }
    }
    label_sizes(&mut svg, &sizes, x, lower.top + lower.height + 20.0);
    label_sizes(&mut svg, &sizes, x, upper.top + upper.height + 20.0);

    let mut names = [vec![], vec![]];
    for (one, colour) in series.iter().zip(SERIES.iter().cycle()) {
        let ideal = |size: FrameSize| one.cheapest_pixel() * size.pixels() as f64 / 1e6;
        let ends = [first, last].map(|size| (x(*size), upper.y(ideal(*size).log10())));
        // What would be quicker than the axis reaches is not drawn.
        if ends[0].1 <= upper.top + upper.height {
            svg.line(ends[0], ends[1], colour, 1.0, "5 4");
        } else {
            let [(x0, y0), (x1, y1)] = ends;
            let bottom = upper.top + upper.height;
            let start = x0 + (x1 - x0) * (y0 - bottom) / (y0 - y1);
            svg.line((start, bottom), (x1, y1), colour, 1.0, "5 4");
        }
        let times: Vec<_> = one
            .points
            .iter()
            .map(|(size, ms)| (x(*size), upper.y(ms.log10())))
            .collect();
        let costs: Vec<_> = one
            .points
            .iter()
            .zip(relative_costs(one))
            .map(|((size, _), cost)| (x(*size), lower.y(cost)))
            .collect();
        for (points, names) in [times, costs].iter().zip(&mut names) {
            svg.path(points, colour);
            for point in points {
                svg.dot(*point, 3.0, colour, true);
            }
            if let Some((x, y)) = points.last() {
                names.push((*x, *y, *colour, one.name.as_str()));
            }
        }
    }
    for names in names {
        label_lines(&mut svg, names);
    }
    svg.finish()
}

/// Costs of a pixel in times that of the cheapest.
fn relative_costs(series: &Series) -> Vec<f64> {
    let cheapest = series.cheapest_pixel();
    let points = series.points.iter();
    points
        .map(|(size, ms)| per_pixel(*size, *ms) / cheapest)
        .collect()
}

fn log_pixels(size: FrameSize) -> f64 {
    (size.pixels() as f64).log10()
}

/// Every size that any of the series has, by pixels.
fn sizes(series: &[Series]) -> Vec<FrameSize> {
    let mut sizes: Vec<FrameSize> = series
        .iter()
        .flat_map(|one| one.points.iter().map(|(size, _)| *size))
        .collect();
    sizes.sort_by_key(|size| (size.pixels(), size.width));
    sizes.dedup();
    sizes
}

/// A size as people call it.
fn size_name(size: FrameSize) -> String {
    match (size.width, size.height) {
        (width, height) if width == height => format!("{width}²"),
        (3840, 2160) => "4K".to_owned(),
        (width, height) if width * 9 == height * 16 => format!("{height}p"),
        _ => size.to_string(),
    }
}

/// Names sizes, but for those that would stand on one another.
fn label_sizes(svg: &mut Svg, sizes: &[FrameSize], x: impl Fn(FrameSize) -> f64, baseline: f64) {
    let mut free_from = f64::NEG_INFINITY;
    for size in sizes {
        let name = size_name(*size);
        let half = TextStyle::AXIS.width(&name) / 2.0;
        if x(*size) - half < free_from {
            continue;
        }
        free_from = x(*size) + half + 4.0;
        svg.text((x(*size), baseline), Anchor::Middle, TextStyle::AXIS, &name);
    }
}

/// Names lines at their right ends, pushed apart where these are close.
fn label_lines(svg: &mut Svg, mut ends: Vec<(f64, f64, &'static str, &str)>) {
    ends.sort_by(|left, right| left.1.total_cmp(&right.1));
    let mut free_from = f64::NEG_INFINITY;
    // Where several end together, half of them move up.
    let shift = crowd(&ends) / 2.0;
    for (x, y, colour, name) in ends {
        let baseline = (y + 4.5 - shift).max(free_from);
        free_from = baseline + LABEL_STEP;
        let style = TextStyle::LABEL.strong(colour);
        svg.text((x + 10.0, baseline), Anchor::Start, style, name);
    }
}

/// How much lower than its line the last of the labels would come to stand.
fn crowd(ends: &[(f64, f64, &'static str, &str)]) -> f64 {
    let mut free_from = f64::NEG_INFINITY;
    let mut lowered = 0.0;
    for (_, y, ..) in ends {
        let placed = y.max(free_from);
        free_from = placed + LABEL_STEP;
        lowered = f64::max(lowered, placed - y);
    }
    lowered
}

/// One of the two parts of the chart.
struct Panel {
    top: f64,
    height: f64,
    low: f64,
    high: f64,
}

impl Panel {
    fn y(&self, value: f64) -> f64 {
        self.top + self.height * (self.high - value) / (self.high - self.low)
    }

    fn grid(&self, svg: &mut Svg, value: f64, label: &str) {
        let y = self.y(value);
        let colour = if value == self.low { PALE_INK } else { GRID };
        svg.line((LEFT, y), (LEFT + PLOT, y), colour, 1.0, "");
        svg.text((LEFT - 8.0, y + 4.0), Anchor::End, TextStyle::AXIS, label);
    }
}
