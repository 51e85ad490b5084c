//! `munit-bench`: how fast the network, the element and training are on this machine.

mod arguments;
#[cfg(feature = "video")]
mod in_pipelines;
#[cfg(feature = "video")]
mod line;
#[cfg(feature = "video")]
mod pipeline;
#[cfg(feature = "video")]
mod start;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use arguments::{ModelArguments, RunArguments, count};
use clap::{Args, Parser, Subcommand};
use munit_tools::bench::compare::compare;
use munit_tools::bench::network::measure_network;
use munit_tools::bench::peers::PeerProgram;
use munit_tools::program;
use serde::Serialize;

/// Measures how fast munitfilter is on this machine.
///
/// Every measurement prints a few lines, or one JSON object with --json.
#[derive(Parser)]
#[command(name = "munit-bench", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  munit-bench network --dim 64 --size 512x288 --threads 2
  munit-bench network --model photo2illustration --size 256x256 --frames 50 --json
  munit-bench compare --dim 32 --size 256x256 --threads 2 --python peers/bin/python
  munit-bench pipeline --dim 16 --size 640x360
  munit-bench start --model photo2illustration
  munit-bench start --dim 64 --soak 600";

#[derive(Subcommand)]
enum Command {
    /// Time each frame through the network by itself, from frame bytes to frame bytes
    Network(NetworkArguments),
    /// Time the same network in other engines, in turns with ours
    Compare(CompareArguments),
    #[cfg(feature = "video")]
    #[command(flatten)]
    InPipelines(in_pipelines::Command),
}

#[derive(Args)]
struct NetworkArguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    run: RunArguments,
    /// Frames to time
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count)]
    frames: usize,
    /// Frames before those
    #[arg(long, value_name = "N", default_value_t = 3)]
    warm_up: usize,
    /// Print one JSON object: ms has the milliseconds of each frame
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CompareArguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    run: RunArguments,
    /// How often each engine has its turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count)]
    rounds: usize,
    /// Frames to time in each turn
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = count)]
    frames: usize,
    /// The program that runs the other engines
    #[arg(
        long,
        value_name = "FILE",
        default_value = "benches/peers/translate.py"
    )]
    peers: PathBuf,
    /// The Python that runs it
    #[arg(long, value_name = "FILE", default_value = "python3")]
    python: PathBuf,
    /// Print one JSON object: ms has our milliseconds, peers those of the others
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    program::run("munit-bench", |arguments: Arguments| {
        match arguments.command {
            Command::Network(arguments) => network(&arguments),
            Command::Compare(arguments) => compare_engines(&arguments),
            #[cfg(feature = "video")]
            Command::InPipelines(command) => command.run(),
        }
    })
}

fn network(arguments: &NetworkArguments) -> anyhow::Result<()> {
    let result = measure_network(
        &arguments.model.choice(),
        &arguments.run.options(),
        arguments.warm_up,
        arguments.frames,
    )?;
    show(&result, arguments.json)
}

fn compare_engines(arguments: &CompareArguments) -> anyhow::Result<()> {
    let program = PeerProgram {
        python: arguments.python.clone(),
        script: arguments.peers.clone(),
    };
    let result = compare(
        &arguments.model.choice(),
        &arguments.run.options(),
        &program,
        arguments.rounds,
        arguments.frames,
        &|what| eprintln!("munit-bench: {what}"),
    )?;
    show(&result, arguments.json)
}

/// Prints a result for people, or as one line of JSON.
fn show(result: &(impl Display + Serialize), json: bool) -> anyhow::Result<()> {
    let text = if json {
        serde_json::to_string(result)? + "\n"
    } else {
        result.to_string()
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to the standard output")
}
