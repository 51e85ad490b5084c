//! `munit-info`: what a model file is, and how far a run is.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use munit_tools::info::ModelInfo;
use munit_tools::model_name::find_model;
use munit_tools::program;
use munit_tools::run_info::RunInfo;
use serde::Serialize;

/// Checks a model file and says what it is: network, size, cost, training data, licence, styles; or
/// says how far a training run is.
#[derive(Parser)]
#[command(
    name = "munit-info",
    version,
    after_help = "Examples:
  munit-info photo2illustration
  munit-info --json runs/mine/model.safetensors
  munit-info runs/mine"
)]
struct Arguments {
    /// Model file, the name of a model that is shipped or installed, or the folder of a run
    model: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    program::run("munit-info", |arguments| show(&arguments))
}

fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let found = find_model(&arguments.model)?;
    match found.is_dir() {
        true => {
            let run = RunInfo::of(&found)?;
            print(arguments, &run)?;
            run.require_checkpoint()
        }
        false => print(arguments, &ModelInfo::of(&found)?),
    }
}

fn print(arguments: &Arguments, info: &(impl Serialize + Display)) -> anyhow::Result<()> {
    program::print_line(&if arguments.json {
        serde_json::to_string_pretty(info)?
    } else {
        info.to_string().trim_end().to_owned()
    })
}
