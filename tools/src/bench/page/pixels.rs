//! Cost against pixels.

use super::{Page, by_place, cells, line};
use crate::bench::chart::{Series, cost_by_pixels};
use crate::bench::network::NetworkResult;
use crate::bench::size::FrameSize;
use crate::bench::statistics::Spread;
use crate::chart::short;

/// Frames below which a hundredth of them is no frame.
const HUNDREDTHS: usize = 100;

/// What a hundredth of so many times exceeds, as a cell; empty for too few.
fn hundredth(ms: &[f64]) -> String {
    let spread = Spread::of(ms).filter(|_| ms.len() >= HUNDREDTHS);
    spread.map_or_else(String::new, |spread| short(spread.p99))
}

impl Page {
    pub(super) fn networks(&mut self, results: &[&NetworkResult]) {
        line!(self, "## Cost against pixels\n");
        if results.is_empty() {
            line!(self, "Not measured.\n");
        }
        let places = by_place(results, |result| &result.subject);
        for (number, (place, results)) in places.into_iter().enumerate() {
            let chart = format!("pixels-{}.svg", number + 1);
            let (single, several): (Vec<_>, Vec<_>) =
                results.into_iter().partition(|result| result.streams == 1);
            if !single.is_empty() {
                self.networks_at(&place, &chart, &single);
            }
            if !several.is_empty() {
                self.streams_at(&place, &several);
            }
        }
    }

    fn streams_at(&mut self, place: &str, results: &[&NetworkResult]) {
        line!(
            self,
            "Several streams at once on {place}, each with frames of its own:\n"
        );
        line!(
            self,
            "| network | size | streams | median | from | to | p99 | frames/s in all | TFLOP/s | MB on the device |\n\
             |---|---|---:|---:|---:|---:|---:|---:|---:|---:|"
        );
        for result in results {
            let Some(spread) = Spread::of(&result.ms) else {
                continue;
            };
            let subject = &result.subject;
            line!(
                self,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                subject.model,
                subject.size,
                result.streams,
                cells(&spread),
                hundredth(&result.ms),
                short(result.frames_per_second),
                short(subject.teraflops(1e3 / result.frames_per_second)),
                result.device_memory_mb.map_or_else(String::new, short)
            );
        }
        line!(self);
    }

    fn networks_at(&mut self, place: &str, chart: &str, results: &[&NetworkResult]) {
        let mut rows: Vec<(&NetworkResult, Spread)> = results
            .iter()
            .filter_map(|result| Some((*result, Spread::of(&result.ms)?)))
            .collect();
        rows.sort_by_key(|(result, _)| {
            let subject = &result.subject;
            (
                -subject.dim,
                subject.model.clone(),
                subject.size.pixels(),
                subject.size,
            )
        });
        let mut series: Vec<Series> = vec![];
        for (result, spread) in &rows {
            let subject = &result.subject;
            let point = (subject.size, spread.median);
            match series.last_mut() {
                Some(last) if last.name == subject.model => last.points.push(point),
                _ => series.push(Series {
                    name: subject.model.clone(),
                    points: vec![point],
                }),
            }
        }
        let title = format!("Time of a frame by its size on {place}");
        self.chart(chart, &title, cost_by_pixels(&title, &series));
        for one in &series {
            line!(self, "- {}", linearity(one));
        }
        line!(self);
        line!(
            self,
            "| network | size | median | from | to | p99 | frames/s | ns/pixel | TFLOP/s | MB on the device |\n\
             |---|---|---:|---:|---:|---:|---:|---:|---:|---:|"
        );
        for (result, spread) in &rows {
            let subject = &result.subject;
            line!(
                self,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                subject.model,
                subject.size,
                cells(spread),
                hundredth(&result.ms),
                short(1e3 / spread.median),
                short(spread.median * 1e6 / subject.size.pixels() as f64),
                short(subject.teraflops(spread.median)),
                result.device_memory_mb.map_or_else(String::new, short)
            );
        }
        line!(self);
        let products = rows
            .iter()
            .map(|(result, _)| result.matrix_product_teraflops);
        if let Some(most) = products.flatten().reduce(f64::max) {
            line!(
                self,
                "A product of two matrices of 8192 x 8192 reaches {} TFLOP/s there.\n",
                short(most)
            );
        }
    }
}

/// By how much a pixel may be dearer than the cheapest before cost counts as out of proportion.
const PROPORTION: f64 = 1.15;

/// Between which sizes cost is in proportion to pixels, and what it is elsewhere.
fn linearity(series: &Series) -> String {
    let cheapest = series.cheapest_pixel();
    let cost = |(size, ms): (FrameSize, f64)| ms * 1e6 / size.pixels() as f64 / cheapest;
    let is_linear = |point: &&(FrameSize, f64)| cost(**point) <= PROPORTION;
    let linear: Vec<_> = series.points.iter().filter(is_linear).collect();
    let mut text = match &linear[..] {
        [only] => format!("{}: cheapest at {}", series.name, only.0),
        [first, .., last] => format!(
            "{}: in proportion to pixels within {:.0} % at {} of {} sizes, from {} to {}",
            series.name,
            100.0 * (PROPORTION - 1.0),
            linear.len(),
            series.points.len(),
            first.0,
            last.0
        ),
        [] => series.name.clone(),
    };
    let dearer: Vec<_> = series
        .points
        .iter()
        .filter(|point| cost(**point) > PROPORTION)
        .map(|point| format!("{:.2} times at {}", cost(*point), point.0))
        .collect();
    text += &match &dearer[..] {
        [] => ".".to_owned(),
        dearer => format!("; a pixel costs more elsewhere: {}.", dearer.join(", ")),
    };
    text
}
