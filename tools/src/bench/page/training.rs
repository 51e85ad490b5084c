//! Training.

use super::{Page, cells, line};
use crate::bench::statistics::Spread;
use crate::bench::train::TrainResult;

impl Page {
    pub(super) fn training(&mut self, results: &[&TrainResult]) {
        line!(self, "## Training\n");
        if results.is_empty() {
            line!(self, "Not measured.\n");
            return;
        }
        line!(
            self,
            "One iteration: discriminators, then generators, then the average of the generators.\n\n\
             | network | pictures | recipe | cycle | where | median, ms | from | to |\n|---|---|---|---:|---|---:|---:|---:|"
        );
        for result in results {
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
                loading: _,
            } = result;
            if let Some(spread) = Spread::of(ms) {
                line!(
                    self,
                    "| dim {dim} | {batch} of {size}x{size} | {} | {cycle} | {device}, {precision}, \
                     {threads} threads | {} |",
                    recipe.name(),
                    cells(&spread)
                );
            }
        }
        line!(self);
        for result in results {
            if let Some(loading) = &result.loading {
                let TrainResult {
                    dim, size, batch, ..
                } = result;
                line!(
                    self,
                    "Dim {dim}, {batch} of {size}x{size}, with pictures from files: {}.\n",
                    loading.told(&result.ms, *batch)
                );
            }
        }
    }
}
