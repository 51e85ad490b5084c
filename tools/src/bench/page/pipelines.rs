//! The element in a pipeline.

use super::{Page, by_place, cells, line};
use crate::bench::chart::{DotRow, dot_rows};
use crate::bench::pipeline::PipelineResult;
use crate::bench::statistics::Spread;
use crate::chart::short;

impl Page {
    pub(super) fn pipelines(&mut self, results: &[&PipelineResult]) {
        line!(self, "## In a pipeline\n");
        if results.is_empty() {
            line!(self, "Not measured.\n");
            return;
        }
        line!(
            self,
            "`videotestsrc ! munitfilter ! fakesink` in RGB, from frame to frame, in turns with the network \
             by itself and with `videotestsrc ! fakesink`.\n"
        );
        let places = by_place(results, |result| &result.subject);
        for (number, (place, results)) in places.into_iter().enumerate() {
            let chart = format!("pipeline-{}.svg", number + 1);
            self.pipelines_at(&place, &chart, &results);
        }
    }

    fn pipelines_at(&mut self, place: &str, chart: &str, results: &[&PipelineResult]) {
        let rows: Vec<(&PipelineResult, [Spread; 3])> = results
            .iter()
            .filter_map(|result| {
                let spreads = [&result.ms, &result.network_ms, &result.source_ms];
                let [pipeline, network, source] = spreads.map(|ms| Spread::of(ms));
                Some((*result, [pipeline?, network?, source?]))
            })
            .collect();
        let dots: Vec<_> = rows
            .iter()
            .map(|(result, [pipeline, network, _])| DotRow {
                name: format!("{}, {}", result.subject.model, result.subject.size),
                value: 1e3 / pipeline.median,
                limit: 1e3 / network.median,
            })
            .collect();
        let title = format!("Frames per second in a pipeline on {place}");
        let explanation = "dot: the pipeline; ring: the network by itself";
        let marks = [(30.0, "30 fps"), (60.0, "60 fps")];
        let svg = dot_rows(&title, explanation, "frames per second", &dots, &marks);
        self.chart(chart, &title, svg);
        line!(
            self,
            "| network | size | pipeline: median | from | to | frames/s | network: median | source: median | \
             pipeline/network |\n|---|---|---:|---:|---:|---:|---:|---:|---:|"
        );
        for (result, [pipeline, network, source]) in &rows {
            line!(
                self,
                "| {} | {} | {} | {} | {} | {} | {:.3} |",
                result.subject.model,
                result.subject.size,
                cells(pipeline),
                short(1e3 / pipeline.median),
                short(network.median),
                short(source.median),
                pipeline.median / network.median
            );
        }
        line!(self);
    }
}
