//! Measurements that need GStreamer.

use std::time::Duration;

use clap::{Args, Subcommand};
use munit_tools::bench::record::Measurement;

use crate::arguments::{ModelArguments, RunArguments, count};
use crate::{pipeline, show, start};

#[derive(Subcommand)]
pub enum Command {
    /// Time the frames of `videotestsrc ! munitfilter ! fakesink`, in turns with the network by itself
    /// and with `videotestsrc ! fakesink`
    Pipeline(PipelineArguments),
    /// Time the plugin's registration and a pipeline's way to its first frame, and watch its memory
    Start(StartArguments),
    /// Time one pipeline's way to its first frame in this process, as `start` does
    #[command(hide = true)]
    FirstFrame(FirstFrameArguments),
}

#[derive(Args)]
pub struct PipelineArguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    run: RunArguments,
    /// Frames that munitfilter translates at once; 0 is its own choice, 1 gives each all threads, as
    /// in a live pipeline
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_in_flight: u32,
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
pub struct StartArguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    run: RunArguments,
    /// How often to start
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count)]
    times: usize,
    /// How long to watch the memory of gst-launch-1.0
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    soak: u64,
    /// Print one JSON object: scan_ms and first_frame_ms have the milliseconds of each start, memory
    /// what was seen
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct FirstFrameArguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    run: RunArguments,
}

impl Command {
    /// Measures and prints what was asked for.
    pub fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Pipeline(arguments) => {
                let (model, options) = (arguments.model.choice(), arguments.run.options());
                let (rounds, frames) = (arguments.rounds, arguments.frames);
                let in_flight = arguments.max_in_flight;
                let result = pipeline::measure(&model, &options, in_flight, rounds, frames)?;
                show(Measurement::Pipeline(result), arguments.json)
            }
            Self::Start(arguments) => {
                let (model, options) = (arguments.model.choice(), arguments.run.options());
                let soak = Duration::from_secs(arguments.soak);
                let result = start::measure(&model, &options, arguments.times, soak)?;
                show(Measurement::Start(result), arguments.json)
            }
            Self::FirstFrame(arguments) => {
                let file = arguments.model.choice().file()?;
                let ms = start::first_frame(file.path(), &arguments.run.options())?;
                println!("{ms}");
                Ok(())
            }
        }
    }
}
