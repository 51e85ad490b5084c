//! The element in a pipeline.

use super::{Page, by_place, cells, line};
use crate::bench::chart::{DotRow, dot_rows};
use crate::bench::pipeline::{PerFrame, PipelineResult};
use crate::bench::subject::Subject;
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
            "`videotestsrc ! munitfilter ! fakesink` in RGB, in turns with the network by itself, which has \
             all threads for each frame, and with `videotestsrc ! fakesink`. A turn's time is divided by its \
             frames. *At once*: the frames that the element translates beside each other \
             (`max-in-flight`); a live stream has one.\n"
        );
        let places = by_place(results, |result| &result.subject);
        for (number, (place, results)) in places.into_iter().enumerate() {
            let chart = format!("pipeline-{}.svg", number + 1);
            self.pipelines_at(&place, &chart, &results);
        }
    }

    fn pipelines_at(&mut self, place: &str, chart: &str, results: &[&PipelineResult]) {
        let rows: Vec<(&PipelineResult, PerFrame)> = results
            .iter()
            .filter_map(|result| Some((*result, result.per_frame()?)))
            .collect();
        let dots: Vec<_> = rows
            .iter()
            .map(|(result, per_frame)| {
                let Subject { model, size, .. } = &result.subject;
                DotRow {
                    name: match result.max_in_flight {
                        0 => format!("{model}, {size}"),
                        some => format!("{model}, {size}, {some} at once"),
                    },
                    value: 1e3 / per_frame.pipeline.median,
                    limit: 1e3 / per_frame.network.median,
                }
            })
            .collect();
        let title = format!("Frames per second in a pipeline on {place}");
        let explanation = "dot: the pipeline; ring: the network by itself";
        let marks = [(30.0, "30 fps"), (60.0, "60 fps")];
        let svg = dot_rows(&title, explanation, "frames per second", &dots, &marks);
        self.chart(chart, &title, svg);
        line!(
            self,
            "| network | size | at once | pipeline: median | from | to | frames/s | network: median | source: \
             median | pipeline/network |\n|---|---|---|---:|---:|---:|---:|---:|---:|---:|"
        );
        for (result, per_frame) in &rows {
            let at_once = match result.max_in_flight {
                0 => "own choice".to_owned(),
                some => some.to_string(),
            };
            line!(
                self,
                "| {} | {} | {at_once} | {} | {} | {} | {} | {:.3} |",
                result.subject.model,
                result.subject.size,
                cells(&per_frame.pipeline),
                short(1e3 / per_frame.pipeline.median),
                short(per_frame.network.median),
                short(per_frame.source.median),
                per_frame.ratio
            );
        }
        line!(self);
    }
}
