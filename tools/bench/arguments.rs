//! Flags that several measurements have.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use munit::runtime::{DeviceChoice, Precision};
use munit_tools::bench::size::FrameSize;
use munit_tools::bench::subject::{ModelChoice, RunOptions};

#[derive(Args)]
#[command(group(ArgGroup::new("network").required(true).args(["model", "dim"])))]
pub struct ModelArguments {
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
    pub fn choice(&self) -> ModelChoice {
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
pub struct RunArguments {
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
    pub fn options(&self) -> RunOptions {
        RunOptions {
            size: self.size,
            threads: self.threads,
            device: self.device,
            precision: self.precision,
        }
    }
}

pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..) => Ok(count),
        _ => Err("a number above 0 is expected".to_owned()),
    }
}
