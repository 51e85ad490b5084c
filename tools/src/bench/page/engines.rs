//! The network beside other engines.

use std::collections::{BTreeMap, BTreeSet};

use super::{Page, line, place};
use crate::bench::chart::{BarPanel, bar_panels};
use crate::bench::compare::CompareResult;
use crate::bench::peers::LeftOut;
use crate::bench::size::FrameSize;
use crate::bench::statistics::Spread;
use crate::chart::short;

impl Page {
    pub(super) fn compared(&mut self, results: &[&CompareResult]) {
        line!(self, "## The network beside other engines\n");
        if results.is_empty() {
            line!(
                self,
                "Not measured. `make bench-peers` installs the other engines.\n"
            );
            return;
        }
        line!(
            self,
            "The published network in several widths, batch 1, in turns in one run. Ours is timed from a \
             frame's bytes to a frame's bytes, the others from tensor to tensor. *Phase-decomposed* folds \
             each upsampling into the convolution behind it, as ours does; the others' outermost ring of \
             pixels is then not that of the published network.\n"
        );
        let mut groups: BTreeMap<_, Vec<&CompareResult>> = BTreeMap::new();
        for &result in results {
            let size = result.subject.size;
            let key = (size.pixels(), size, place(&result.subject));
            groups.entry(key).or_default().push(result);
        }
        for (number, ((_, size, place), mut results)) in groups.into_iter().enumerate() {
            results.sort_by_key(|result| -result.subject.dim);
            let chart = format!("engines-{}-{size}.svg", number + 1);
            self.compared_at(size, &place, &chart, &results);
        }
    }

    /// Results of one size and place.
    fn compared_at(
        &mut self,
        size: FrameSize,
        place: &str,
        chart: &str,
        results: &[&CompareResult],
    ) {
        let rows = Rows::of(results);
        let panels: Vec<_> = results
            .iter()
            .map(|result| BarPanel {
                heading: result.subject.model.clone(),
                values: rows
                    .names
                    .iter()
                    .map(|row| rows.times(result, row))
                    .collect(),
            })
            .collect();
        let title = format!("One frame of {size} on {place}");
        line!(self, "### {size} on {place}\n");
        let svg = bar_panels(&title, "ms", &rows.names, &panels);
        self.chart(chart, &title, svg);

        let mut head = "| engine |".to_owned();
        let mut rule = "|---|".to_owned();
        for result in results {
            head += &format!(
                " {}: median | from, to | times ours |",
                result.subject.model
            );
            rule += "---:|:---:|---:|";
        }
        line!(self, "{head}\n{rule}");
        for row in &rows.names {
            let mut cells = format!("| {row} |");
            for result in results {
                let ours = rows.times(result, rows.ours());
                cells += &match rows.times(result, row).zip(ours) {
                    Some((spread, ours)) => format!(
                        " {} | {} to {} | {:.2} |",
                        short(spread.median),
                        short(spread.p10),
                        short(spread.p90),
                        spread.median / ours.median
                    ),
                    None => " | left out | |".to_owned(),
                };
            }
            line!(self, "{cells}");
        }
        line!(self);
        for result in results {
            let ours = Spread::of(&result.ms);
            if let Some((most, ours)) = result.matrix_product_teraflops.zip(ours) {
                line!(
                    self,
                    "{}: munitfilter computes {} TFLOP/s, a product of two matrices of 8192 x 8192 {}.\n",
                    result.subject.model,
                    short(result.subject.teraflops(ours.median)),
                    short(most)
                );
            }
        }
        self.remarks(results);
    }

    /// Versions of the other engines, and those that are missing.
    fn remarks(&mut self, results: &[&CompareResult]) {
        let versions: BTreeSet<_> = results
            .iter()
            .flat_map(|result| result.peers.iter().map(|peer| peer.version.as_str()))
            .collect();
        if !versions.is_empty() {
            let versions: Vec<_> = versions.into_iter().collect();
            line!(self, "Versions: {}.\n", versions.join(", "));
        }
        let left_out: BTreeSet<_> = results
            .iter()
            .flat_map(|result| {
                let model = &result.subject.model;
                let one = move |one: &LeftOut| {
                    format!("- Left out: {}, {model}: {}", one.name, one.reason)
                };
                result.left_out.iter().map(one)
            })
            .collect();
        for one in &left_out {
            line!(self, "{one}");
        }
        if !left_out.is_empty() {
            line!(self);
        }
    }
}

/// The engines of several results.
struct Rows {
    /// Ours first, then the others by the medians of the first result.
    names: Vec<String>,
}

impl Rows {
    fn of(results: &[&CompareResult]) -> Self {
        let precision = results
            .first()
            .map_or("", |result| &result.subject.precision);
        let mut rows = Self {
            names: vec![format!("munitfilter {precision}")],
        };
        for peer in results.iter().flat_map(|result| &result.peers) {
            if !rows.names.contains(&peer.name) {
                rows.names.push(peer.name.clone());
            }
        }
        let median = |row: &String| {
            let first = results.first().and_then(|result| rows.times(result, row));
            first.map_or(f64::INFINITY, |spread| spread.median)
        };
        let mut others = rows.names[1..].to_vec();
        others.sort_by(|left, right| median(left).total_cmp(&median(right)));
        rows.names.truncate(1);
        rows.names.append(&mut others);
        rows
    }

    fn ours(&self) -> &str {
        &self.names[0]
    }

    fn times(&self, result: &CompareResult, row: &str) -> Option<Spread> {
        if row == self.ours() {
            return Spread::of(&result.ms);
        }
        let peer = result.peers.iter().find(|peer| peer.name == row)?;
        Spread::of(&peer.ms)
    }
}
