//! Starting up, and memory.

use super::{Page, cells, line};
use crate::bench::start::{FIRST_FRAME_BAR, MEMORY_BAR, SCAN_BAR, StartResult};
use crate::bench::statistics::Spread;

impl Page {
    pub(super) fn starts(&mut self, results: &[&StartResult]) {
        line!(self, "## Starting up, memory\n");
        if results.is_empty() {
            line!(self, "Not measured.\n");
            return;
        }
        line!(
            self,
            "The scan is `gst-inspect-1.0 munitfilter` with an empty registry and no other plugin; the first \
             frame is counted from NULL; memory is that of `gst-launch-1.0` with `videotestsrc ! munitfilter \
             ! fakesink`. Files are in the system's cache.\n"
        );
        line!(
            self,
            "| | median | from | to | bar |\n|---|---:|---:|---:|---:|"
        );
        let mut row = |what: &str, values: &[f64], bar: &str| {
            if let Some(spread) = Spread::of(values) {
                line!(self, "| {what} | {} | {bar} |", cells(&spread));
            }
        };
        // No model is loaded by these.
        let of_all = |values: fn(&StartResult) -> &Vec<f64>| -> Vec<f64> {
            results
                .iter()
                .flat_map(|result| values(result))
                .copied()
                .collect()
        };
        row(
            "scan, ms",
            &of_all(|result| &result.scan_ms),
            &format!("{SCAN_BAR:.0}"),
        );
        row(
            "scan of a known plugin, ms",
            &of_all(|result| &result.registered_ms),
            "",
        );
        for result in results {
            let of = format!("{}, {}", result.model, result.size);
            let bar = format!("{FIRST_FRAME_BAR:.0}");
            row(
                &format!("first frame, {of}, ms"),
                &result.first_frame_ms,
                &bar,
            );
            let steady = result.memory.after_warm_up();
            row(
                &format!("memory, {of}, MB"),
                steady,
                &format!("{MEMORY_BAR:.0}"),
            );
        }
        line!(self);
        for result in results {
            let memory = &result.memory;
            let seconds = memory.seconds.last().copied().unwrap_or_default();
            line!(
                self,
                "- {}, {}: {:.0} MB at most; {:+.1} MB from beginning to end of {seconds:.0} s. CUDA \
                 libraries opened by the scan: {}; in the running pipeline ({}): {}.",
                result.model,
                result.size,
                memory.peak_mb,
                memory.growth().unwrap_or_default(),
                or_none(&result.cuda_libraries),
                result.device,
                or_none(&memory.cuda_libraries)
            );
        }
        line!(self);
    }
}

fn or_none(items: &[String]) -> String {
    match items {
        [] => "none".to_owned(),
        items => items.join(", "),
    }
}
