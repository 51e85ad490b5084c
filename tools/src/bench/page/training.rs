//! Training.

use super::{Page, cells, line};
use crate::bench::statistics::Spread;
use crate::bench::train::TrainResult;
use crate::chart::short;

impl Page {
    pub(super) fn training(&mut self, results: &[&TrainResult]) {
        line!(self, "## Training\n");
        if results.is_empty() {
            line!(self, "Not measured.\n");
            return;
        }
        line!(
            self,
            "One iteration: discriminators, then generators, then the average of the generators. Other \
             engines compute the published update in turns with ours, without that average and without \
             what `modern` adds; *of theirs* is our time as a share of that engine's.\n\n\
             | network | pictures | recipe | cycle | engine | where | median, ms | from | to | of theirs \
             |\n|---|---|---|---:|---|---|---:|---:|---:|---:|"
        );
        for result in results {
            self.iterations(result);
        }
        line!(self);
        for result in results {
            let TrainResult {
                dim, size, batch, ..
            } = result;
            if let Some(loading) = &result.loading {
                line!(
                    self,
                    "Dim {dim}, {batch} of {size}x{size}, with pictures from files: {}.\n",
                    loading.told(&result.ms, *batch)
                );
            }
            for one in &result.left_out {
                line!(
                    self,
                    "- Left out: {}, dim {dim}: {}\n",
                    one.name,
                    one.reason
                );
            }
        }
    }

    /// Our row, and those of the engines beside it.
    fn iterations(&mut self, result: &TrainResult) {
        let TrainResult {
            dim,
            size,
            batch,
            cycle,
            recipe,
            precision,
            device,
            threads,
            ms,
            ..
        } = result;
        let Some(ours) = Spread::of(ms) else {
            return;
        };
        let what = format!("dim {dim} | {batch} of {size}x{size}");
        line!(
            self,
            "| {what} | {} | {cycle} | munit-train {precision} | {device}, {threads} threads | {} | |",
            recipe.name(),
            cells(&ours)
        );
        for peer in &result.peers {
            if let Some(spread) = Spread::of(&peer.ms) {
                line!(
                    self,
                    "| {what} | published | {cycle} | {} | {device}, {threads} threads | {} | {} |",
                    peer.name,
                    cells(&spread),
                    short(ours.median / spread.median)
                );
            }
        }
    }
}
