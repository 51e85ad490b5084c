//! A result as it is kept: what was measured, by which command, on what machine.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::compare::CompareResult;
use super::network::NetworkResult;
use super::pipeline::PipelineResult;
use super::start::StartResult;
use super::train::TrainResult;
use crate::machine::Machine;
use crate::program::shell_word;

/// One measurement, one JSON object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What was typed.
    pub command: String,
    /// Where.
    pub machine: Machine,
    /// What came out.
    #[serde(flatten)]
    pub measurement: Measurement,
}

impl Record {
    /// What this process has measured.
    pub fn of_this_process(measurement: Measurement) -> Self {
        let mut words = std::env::args_os();
        let program = words.next().unwrap_or_default();
        // Where the program lies is of no use to a reader on another machine.
        let name = Path::new(&program).file_name().unwrap_or_default();
        let words = std::iter::once(name.to_owned()).chain(words);
        let words: Vec<_> = words.map(|word| shell_word(Path::new(&word))).collect();
        Self {
            command: words.join(" "),
            machine: Machine::this(),
            measurement,
        }
    }
}

/// The result of one of the measurements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "measurement", rename_all = "lowercase")]
pub enum Measurement {
    /// The network by itself.
    Network(NetworkResult),
    /// The network beside other engines.
    Compare(CompareResult),
    /// The element in a pipeline.
    Pipeline(PipelineResult),
    /// Starting up.
    Start(StartResult),
    /// Training.
    Train(TrainResult),
}

impl fmt::Display for Measurement {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Network(result) => result.fmt(formatter),
            Self::Compare(result) => result.fmt(formatter),
            Self::Pipeline(result) => result.fmt(formatter),
            Self::Start(result) => result.fmt(formatter),
            Self::Train(result) => result.fmt(formatter),
        }
    }
}

/// All records in the `.json` files of a folder, by their names.
///
/// # Errors
/// A sentence that names the file that is no record; a folder without any.
pub fn read_records(folder: &Path) -> Result<Vec<Record>> {
    let unreadable = || format!("{}: cannot read", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!(
            "{}: there is no .json file; write what munit-bench prints with --json there",
            folder.display()
        );
    }
    files.sort();
    let records = files.iter().map(|file| read_file(file));
    Ok(records.collect::<Result<Vec<_>>>()?.concat())
}

/// The lines of `left-out.txt` in a folder of records, each a measurement that failed and why; none where
/// there is no such file.
///
/// # Errors
/// A file that cannot be read.
pub fn read_left_out(folder: &Path) -> Result<Vec<String>> {
    let file = folder.join("left-out.txt");
    match fs::read_to_string(&file) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(error).with_context(|| format!("{}: cannot read", file.display())),
    }
}

/// One record a line, or one record in several lines.
fn read_file(file: &Path) -> Result<Vec<Record>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("{}: cannot read", file.display()))?;
    let records = serde_json::Deserializer::from_str(&text).into_iter();
    let records: Vec<Record> = records.collect::<Result<_, _>>().with_context(|| {
        format!(
            "{}: is not what munit-bench prints with --json",
            file.display()
        )
    })?;
    if records.is_empty() {
        bail!("{}: is empty", file.display());
    }
    Ok(records)
}
