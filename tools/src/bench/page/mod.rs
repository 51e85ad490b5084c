//! The page that says what was measured, made from records.

mod engines;
mod pipelines;
mod pixels;
mod starts;
mod training;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::record::{Measurement, Record};
use super::statistics::Spread;
use super::subject::Subject;
use crate::chart::short;
use crate::machine::Machine;

/// Writes a line of a page.
macro_rules! line {
    ($page:expr) => { $page.text.push('\n') };
    ($page:expr, $($argument:tt)*) => {{
        use std::fmt::Write;
        // Writing to a string cannot fail.
        let _ = writeln!($page.text, $($argument)*);
    }};
}
use line;

/// Writes the page to `file` and its charts into the folder beside it that has its name. `left_out`: what
/// was to be measured and failed, a line each; `made_by`: the command that made all records.
///
/// # Errors
/// No records; records of several machines; a folder that cannot be written.
pub fn write_page(
    records: &[Record],
    left_out: &[String],
    made_by: &str,
    file: &Path,
) -> Result<()> {
    let folder = file.with_extension("");
    let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
        bail!("{}: is not the name of a page", file.display());
    };
    let page = Page::new(records, left_out, made_by, name)?;
    fs::create_dir_all(&folder).with_context(|| format!("{}: cannot write", folder.display()))?;
    for (chart, svg) in &page.charts {
        let path = folder.join(chart);
        fs::write(&path, svg).with_context(|| format!("{}: cannot write", path.display()))?;
    }
    fs::write(file, page.text).with_context(|| format!("{}: cannot write", file.display()))
}

/// The page's text and its charts, by their names.
struct Page {
    folder: String,
    text: String,
    charts: Vec<(String, String)>,
}

impl Page {
    fn new(records: &[Record], left_out: &[String], made_by: &str, folder: &str) -> Result<Self> {
        let Some(first) = records.first() else {
            bail!("there are no records to write about");
        };
        if let Some(other) = records.iter().find(|one| one.machine != first.machine) {
            bail!(
                "the records come from several machines ({} and {}, or other versions); figures that \
                 were not measured together cannot be compared, so keep them apart",
                first.machine.processor,
                other.machine.processor
            );
        }
        let mut page = Self {
            folder: folder.to_owned(),
            text: String::new(),
            charts: vec![],
        };
        line!(page, "# Benchmarks\n");
        line!(
            page,
            "Made on the machine below by `{made_by}`. Times are milliseconds; *from* and \
             *to* are the 10th and the 90th percentile. TFLOP/s count two operations for each multiply-add \
             of the published network, however the runtime computes it.\n"
        );
        page.machine(&first.machine);
        page.compared(&select(records, |measurement| match measurement {
            Measurement::Compare(result) => Some(result),
            _ => None,
        }));
        page.networks(&select(records, |measurement| match measurement {
            Measurement::Network(result) => Some(result),
            _ => None,
        }));
        page.pipelines(&select(records, |measurement| match measurement {
            Measurement::Pipeline(result) => Some(result),
            _ => None,
        }));
        page.starts(&select(records, |measurement| match measurement {
            Measurement::Start(result) => Some(result),
            _ => None,
        }));
        page.training(&select(records, |measurement| match measurement {
            Measurement::Train(result) => Some(result),
            _ => None,
        }));
        page.left_out(left_out);
        page.commands(records);
        Ok(page)
    }

    fn left_out(&mut self, left_out: &[String]) {
        if left_out.is_empty() {
            return;
        }
        line!(self, "## Left out\n");
        for one in left_out {
            line!(self, "- {one}");
        }
        line!(self);
    }

    fn machine(&mut self, machine: &Machine) {
        line!(self, "| machine | |\n|---|---|");
        line!(
            self,
            "| processor | {}, {} processors{} |",
            machine.processor,
            machine.processors,
            listed(", ", &machine.instruction_sets)
        );
        line!(self, "| memory | {} GB |", machine.memory_gb);
        let gpus = match &machine.gpus[..] {
            [] => "none".to_owned(),
            gpus => gpus.join("; "),
        };
        line!(self, "| GPU | {gpus} |");
        for (name, version) in &machine.versions {
            line!(self, "| {name} | {version} |");
        }
        line!(self);
    }

    fn chart(&mut self, name: &str, description: &str, svg: String) {
        let folder = &self.folder;
        line!(self, "![{description}]({folder}/{name})\n");
        self.charts.push((name.to_owned(), svg));
    }

    fn commands(&mut self, records: &[Record]) {
        line!(
            self,
            "<details><summary>The commands one by one</summary>\n\n```sh"
        );
        // A command that measures several sizes gives a record of each.
        for (number, record) in records.iter().enumerate() {
            let before = &records[..number];
            if before.iter().all(|other| other.command != record.command) {
                line!(self, "{}", record.command);
            }
        }
        line!(self, "```\n\n</details>");
    }
}

/// The results of one kind.
fn select<'a, R>(
    records: &'a [Record],
    of_kind: impl Fn(&'a Measurement) -> Option<&'a R>,
) -> Vec<&'a R> {
    let measurements = records.iter().map(|record| &record.measurement);
    measurements.filter_map(of_kind).collect()
}

/// Results that ran in the same place, in the same way.
fn by_place<'a, R>(
    results: &[&'a R],
    subject: impl Fn(&R) -> &Subject,
) -> BTreeMap<String, Vec<&'a R>> {
    let mut places: BTreeMap<_, Vec<&R>> = BTreeMap::new();
    for &result in results {
        places
            .entry(place(subject(result)))
            .or_default()
            .push(result);
    }
    places
}

/// Where and how something ran.
fn place(subject: &Subject) -> String {
    let Subject {
        device,
        precision,
        threads,
        ..
    } = subject;
    match device.as_str() {
        "cpu" => format!("the CPU ({precision}, {threads} threads)"),
        _ => format!("{device} ({precision})"),
    }
}

/// Median, 10th and 90th percentile as the cells of a table.
fn cells(spread: &Spread) -> String {
    format!(
        "{} | {} | {}",
        short(spread.median),
        short(spread.p10),
        short(spread.p90)
    )
}

fn listed(before: &str, items: &[String]) -> String {
    match items {
        [] => String::new(),
        items => format!("{before}{}", items.join(", ")),
    }
}
