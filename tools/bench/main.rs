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

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use arguments::{ModelArguments, RunArguments, count};
use clap::{Args, Parser, Subcommand};
use munit::runtime::{DeviceChoice, Precision};
use munit_tools::bench::compare::compare;
use munit_tools::bench::network::{Timing, measure_network};
use munit_tools::bench::page::write_page;
use munit_tools::bench::peers::PeerProgram;
use munit_tools::bench::record::{Measurement, Record, read_left_out, read_records};
use munit_tools::bench::size::FrameSize;
use munit_tools::bench::steps::measure_steps;
use munit_tools::bench::subject::RunOptions;
use munit_tools::bench::train::{TrainTiming, measure_training};
use munit_tools::bench::verify::verify;
use munit_tools::config::{TrainConfig, TrainingPrecision};
use munit_tools::program;
use munit_tools::recipe::Recipe;

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
  munit-bench start --dim 64 --soak 600
  munit-bench train --dim 16 --size 128 --precision bf16
  munit-bench train --dim 16 --size 256 --batch 8 --data datasets/mine
  munit-bench train --dim 32 --peers benches/peers/training_update.py --python peers/bin/python
  munit-bench steps --dim 64 --size 1920x1080 --device cuda
  munit-bench verify --device cuda
  munit-bench report results --page docs/benchmarks.md";

#[derive(Subcommand)]
enum Command {
    /// Time each frame through the network by itself, from frame bytes to frame bytes
    Network(NetworkArguments),
    /// Tell where the time of a frame goes: time its steps, each of which is waited for
    Steps(StepsArguments),
    /// Time the same network in other engines, in turns with ours
    Compare(CompareArguments),
    #[cfg(feature = "video")]
    #[command(flatten)]
    InPipelines(in_pipelines::Command),
    /// Time the iterations of training
    Train(TrainArguments),
    /// Compare what a device computes with the networks and with the CPU; fails if they differ
    Verify(VerifyArguments),
    /// Make a page with charts of results that were written with --json
    Report(ReportArguments),
}

#[derive(Args)]
struct NetworkArguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    run: RunArguments,
    /// More sizes to measure at, one after the other
    #[arg(long, value_name = "WIDTHxHEIGHT", value_delimiter = ',')]
    more_sizes: Vec<FrameSize>,
    /// Translators that work at once, each on frames of its own; several numbers are measured one
    /// after the other
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = count)]
    streams: Vec<usize>,
    /// Frames to time
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count)]
    frames: usize,
    /// Frames before those
    #[arg(long, value_name = "N", default_value_t = 3)]
    warm_up: usize,
    /// Begin no other frame after this time
    #[arg(long, value_name = "SECONDS", default_value_t = 3600.0)]
    at_most: f64,
    /// Set a CUDA device's work off kernel by kernel
    #[arg(long, hide = true)]
    no_graph: bool,
    /// Print one JSON object for each size and number of streams: ms has the milliseconds of each frame
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct StepsArguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    run: RunArguments,
    /// Frames to time
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count)]
    frames: usize,
    /// Frames before those
    #[arg(long, value_name = "N", default_value_t = 3)]
    warm_up: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CompareArguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    run: RunArguments,
    /// The other engines, by the names that the program has for them, separated by commas; all where
    /// none is named
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    engine: Vec<String>,
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
struct TrainArguments {
    /// Channels after the first convolution of every network
    #[arg(long, value_name = "N", default_value_t = 64)]
    dim: i64,
    /// Side of the pictures
    #[arg(long, value_name = "PIXELS", default_value_t = 128)]
    size: usize,
    /// Pictures of each domain in an iteration
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Folder with trainA and trainB, whose pictures are loaded as in training; without it, pictures
    /// are random and nothing is loaded
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Weight of the cycle; 0 leaves it out
    #[arg(long, value_name = "WEIGHT", default_value_t = 10.0)]
    cycle: f64,
    /// Losses and schedule
    #[arg(long, value_enum, default_value_t)]
    recipe: Recipe,
    /// Number format of the networks' arithmetic [default: the recipe's]
    #[arg(long)]
    precision: Option<TrainingPrecision>,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Processor threads; 0 is munitfilter's own choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Iterations to time in each turn
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count)]
    iterations: usize,
    /// Iterations before those
    #[arg(long, value_name = "N", default_value_t = 2)]
    warm_up: usize,
    /// The program that computes the published update in other engines, in turns with ours:
    /// benches/peers/training_update.py
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    peers: Option<PathBuf>,
    /// The Python that runs it
    #[arg(
        long,
        value_name = "FILE",
        default_value = "python3",
        requires = "peers"
    )]
    python: PathBuf,
    /// How often everyone has a turn
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    rounds: usize,
    /// Print one JSON object: ms has the milliseconds of each iteration, peers those of the others
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct VerifyArguments {
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Number formats, separated by commas; all of the device's where none is named
    #[arg(long, value_name = "FORMAT", value_delimiter = ',')]
    precision: Vec<Precision>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ReportArguments {
    /// Folder of .json files, each with what one measurement printed; what failed is in the lines of
    /// left-out.txt
    results: PathBuf,
    /// The page; its charts go into the folder beside it that has its name
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
    page: PathBuf,
    /// The command that made the results, for the page's first sentence
    #[arg(long, value_name = "COMMAND", default_value = "make bench")]
    made_by: String,
}

fn main() -> ExitCode {
    program::run("munit-bench", |arguments: Arguments| {
        match arguments.command {
            Command::Network(arguments) => network(&arguments),
            Command::Steps(arguments) => steps(&arguments),
            Command::Compare(arguments) => compare_engines(&arguments),
            #[cfg(feature = "video")]
            Command::InPipelines(command) => command.run(),
            Command::Train(arguments) => train(&arguments),
            Command::Verify(arguments) => verify_device(&arguments),
            Command::Report(arguments) => report(&arguments),
        }
    })
}

fn network(arguments: &NetworkArguments) -> anyhow::Result<()> {
    let at_most = Duration::try_from_secs_f64(arguments.at_most)
        .with_context(|| format!("--at-most {}: is no time", arguments.at_most))?;
    let first = arguments.run.options();
    let sizes = std::iter::once(first.size).chain(arguments.more_sizes.iter().copied());
    for size in sizes {
        for &streams in &arguments.streams {
            let timing = Timing {
                warm_up: arguments.warm_up,
                frames: arguments.frames,
                at_most,
                streams,
                with_graphs: !arguments.no_graph,
            };
            let options = RunOptions { size, ..first };
            let result = measure_network(&arguments.model.choice(), &options, &timing)?;
            show(Measurement::Network(result), arguments.json)?;
        }
    }
    Ok(())
}

fn steps(arguments: &StepsArguments) -> anyhow::Result<()> {
    let result = measure_steps(
        &arguments.model.choice(),
        &arguments.run.options(),
        arguments.warm_up,
        arguments.frames,
    )?;
    let text = if arguments.json {
        serde_json::to_string(&result)? + "\n"
    } else {
        result.to_string()
    };
    print(&text)
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
        &arguments.engine,
        arguments.rounds,
        arguments.frames,
        &|what| eprintln!("munit-bench: {what}"),
    )?;
    show(Measurement::Compare(result), arguments.json)
}

fn train(arguments: &TrainArguments) -> anyhow::Result<()> {
    let mut config = TrainConfig {
        crop_image_height: arguments.size,
        crop_image_width: arguments.size,
        batch_size: arguments.batch,
        recon_x_cyc_w: Some(arguments.cycle),
        ..TrainConfig::of_recipe(arguments.recipe)
    };
    if let Some(precision) = arguments.precision {
        config.precision = precision;
    }
    config.precision = config.precision.resolve(arguments.device.resolve()?);
    config.generator.dim = arguments.dim;
    config.discriminator.dim = arguments.dim;
    let peers = arguments.peers.clone().map(|script| PeerProgram {
        python: arguments.python.clone(),
        script,
    });
    let timing = TrainTiming {
        data: arguments.data.as_deref(),
        device: arguments.device,
        threads: arguments.threads,
        warm_up: arguments.warm_up,
        iterations: arguments.iterations,
        rounds: arguments.rounds,
        peers: peers.as_ref(),
    };
    let tell = |what: &str| eprintln!("munit-bench: {what}");
    let result = measure_training(&config, &timing, &tell)?;
    show(Measurement::Train(result), arguments.json)
}

fn verify_device(arguments: &VerifyArguments) -> anyhow::Result<()> {
    let result = verify(arguments.device, &arguments.precision, &|check| {
        if !arguments.json {
            println!("{check}");
        }
    })?;
    let text = if arguments.json {
        serde_json::to_string(&result)? + "\n"
    } else {
        result.to_string()
    };
    print(&text)?;
    if !result.passed() {
        bail!(
            "what {} computes differs from what it should be",
            result.device
        );
    }
    Ok(())
}

fn report(arguments: &ReportArguments) -> anyhow::Result<()> {
    write_page(
        &read_records(&arguments.results)?,
        &read_left_out(&arguments.results)?,
        &arguments.made_by,
        &arguments.page,
    )?;
    println!("{}", arguments.page.display());
    Ok(())
}

/// Prints a result for people, or as one line of JSON.
fn show(measurement: Measurement, json: bool) -> anyhow::Result<()> {
    let text = if json {
        serde_json::to_string(&Record::of_this_process(measurement))? + "\n"
    } else {
        measurement.to_string()
    };
    print(&text)
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to the standard output")
}
