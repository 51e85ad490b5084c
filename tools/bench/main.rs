//! `munit-bench`: how fast the network, the element and training are on this machine.

#[cfg(feature = "video")]
mod line;
#[cfg(feature = "video")]
mod pipeline;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgGroup, Args, Parser, Subcommand};
use munit::runtime::{DeviceChoice, Precision};
use munit_tools::bench::compare::compare;
use munit_tools::bench::network::measure_network;
use munit_tools::bench::peers::PeerProgram;
use munit_tools::bench::size::FrameSize;
use munit_tools::bench::subject::{ModelChoice, RunOptions};
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
  munit-bench pipeline --dim 16 --size 640x360";

#[derive(Subcommand)]
enum Command {
    /// Time each frame through the network by itself, from frame bytes to frame bytes
    Network(NetworkArguments),
    /// Time the same network in other engines, in turns with ours
    Compare(CompareArguments),
    /// Time the frames of `videotestsrc ! munitfilter ! fakesink`, in turns with the network by itself
    /// and with `videotestsrc ! fakesink`
    Pipeline(PipelineArguments),
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

#[derive(Args)]
struct PipelineArguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    run: RunArguments,
    /// How often each has its turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count)]
    rounds: usize,
    /// Frames to time in each turn
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count)]
    frames: usize,
    /// Print one JSON object: ms, network_ms and source_ms have the milliseconds of each frame
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[command(group(ArgGroup::new("network").required(true).args(["model", "dim"])))]
struct ModelArguments {
    /// Model file, or the name of a model that is shipped or installed
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// The published network with so many channels after its first convolution, random weights
    #[arg(long, value_name = "N")]
    dim: Option<i64>,
    /// Residual blocks of the network with random weights, on each side of its middle
    #[arg(long, value_name = "N", default_value_t = 4, requires = "dim")]
    n_res: i64,
}

impl ModelArguments {
    fn choice(&self) -> ModelChoice {
        match (&self.model, self.dim) {
            (Some(name), _) => ModelChoice::Named(name.clone()),
            (None, dim) => ModelChoice::Random {
                dim: dim.unwrap_or_default(),
                n_res: self.n_res,
            },
        }
    }
}

#[derive(Args)]
struct RunArguments {
    /// Size of the frames
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "256x256")]
    size: FrameSize,
    /// Processor threads of the network; 0 is munitfilter's own choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Number format: auto, fp32, bf16 or fp16
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    precision: Precision,
}

impl RunArguments {
    fn options(&self) -> RunOptions {
        RunOptions {
            size: self.size,
            threads: self.threads,
            device: self.device,
            precision: self.precision,
        }
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..) => Ok(count),
        _ => Err("a number above 0 is expected".to_owned()),
    }
}

fn main() -> ExitCode {
    program::run("munit-bench", |arguments: Arguments| {
        match arguments.command {
            Command::Network(arguments) => network(&arguments),
            Command::Compare(arguments) => compare_engines(&arguments),
            Command::Pipeline(arguments) => pipeline(&arguments),
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

#[cfg(feature = "video")]
fn pipeline(arguments: &PipelineArguments) -> anyhow::Result<()> {
    let result = pipeline::measure(
        &arguments.model.choice(),
        &arguments.run.options(),
        arguments.rounds,
        arguments.frames,
    )?;
    show(&result, arguments.json)
}

#[cfg(not(feature = "video"))]
fn pipeline(_: &PipelineArguments) -> anyhow::Result<()> {
    anyhow::bail!(
        "this program was built without video; build it with the feature \"video\" \
         (cargo build -p munit-tools --features video), which needs GStreamer"
    )
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
