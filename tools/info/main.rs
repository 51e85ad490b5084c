//! `munit-info`: what a model file is.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use munit_tools::info::ModelInfo;
use munit_tools::model_name::find_model;
use munit_tools::program;

/// Checks a model file and says what it is: network, size, cost, training data, licence, styles.
#[derive(Parser)]
#[command(
    name = "munit-info",
    version,
    after_help = "Examples:
  munit-info photo2illustration
  munit-info --json runs/mine/model.safetensors"
)]
struct Arguments {
    /// Model file, or the name of a model that is shipped or installed
    model: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    program::run("munit-info", |arguments| show(&arguments))
}

fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let info = ModelInfo::of(&find_model(&arguments.model)?)?;
    program::print_line(&if arguments.json {
        serde_json::to_string_pretty(&info)?
    } else {
        info.to_string().trim_end().to_owned()
    })
}
