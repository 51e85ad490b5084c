//! `munit-export`: makes a model file, or a file for other programs, from a training run or a model.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use munit::{Domain, Model};
use munit_tools::export::parity::Parity;
use munit_tools::export::{self, Format, StyleRequest, Wanted};
use munit_tools::program::{self, Directions, StoredPrecision};
use munit_tools::result_file;
use munit_tools::translate::refuse_to_replace;
use serde_json::json;

/// Makes a model file, or a file for other programs, from a training run or from another model.
///
/// Of a run, the averaged generators of the newest checkpoint are taken, or of the best (--best). The name of OUT says what
/// is written: a model for munitfilter, a TorchScript archive (.pt), which torch.jit.load opens, or
/// an ONNX file (.onnx). What is written for other programs is compared with the model before.
#[derive(Parser)]
#[command(name = "munit-export", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    /// Folder of a run, a checkpoint file in it, or a model file or its name
    source: PathBuf,
    /// File to write: .pt for TorchScript, .onnx for ONNX, .safetensors for a model
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// What to write, whatever OUT is called [default: what its name says]
    #[arg(long, value_enum)]
    format: Option<FormatName>,
    /// Number format of the weights in the file
    ///
    /// TorchScript computes in it; ONNX converts to fp32 when the file is loaded.
    #[arg(long, value_enum, default_value_t = StoredPrecision::Fp32)]
    precision: StoredPrecision,
    /// Directions to keep; one alone makes a smaller file [default: both; the first for ONNX]
    #[arg(long, value_enum)]
    directions: Option<Directions>,
    /// Name a style of a run: NAME=SEED (a draw), NAME=NUMBER,NUMBER,… (a code) or NAME=PICTURE (its
    /// style)
    #[arg(long, value_name = "NAME=STYLE")]
    style: Vec<StyleRequest>,
    /// Of a run, take the best checkpoint by the figure of its keep_best, not the newest
    #[arg(long)]
    best: bool,
    /// Domain whose styles are named [default: b; a if only b2a is kept]
    #[arg(long, value_enum)]
    style_domain: Option<StyleDomain>,
    /// Print JSON instead of a line
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  munit-export runs/mine mine.safetensors
  munit-export runs/mine/checkpoints/iteration-000010000.safetensors early.safetensors
  munit-export runs/mine best.safetensors --best
  munit-export runs/mine mine.safetensors --precision bf16 --directions a2b
  munit-export runs/mine mine.safetensors --style violet=12 --style like-this=print.png
  munit-export photo2illustration photo2illustration.pt --precision fp16
  munit-export mine.safetensors mine.onnx --directions b2a";

#[derive(Clone, Copy, ValueEnum)]
enum StyleDomain {
    A,
    B,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    Model,
    Torchscript,
    Onnx,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Model => Self::Model,
            FormatName::Torchscript => Self::TorchScript,
            FormatName::Onnx => Self::Onnx,
        }
    }
}

fn main() -> ExitCode {
    program::run_beside_others("munit-export", |arguments| export(&arguments))
}

fn export(arguments: &Arguments) -> Result<()> {
    result_file::check(&arguments.output)?;
    let format = match arguments.format {
        Some(name) => name.into(),
        None => Format::of(&arguments.output)?,
    };
    let domain = match (arguments.style_domain, arguments.directions) {
        (Some(StyleDomain::A), _) | (None, Some(Directions::B2a)) => Domain::A,
        (Some(StyleDomain::B), _) | (None, _) => Domain::B,
    };
    let kept = arguments.directions.unwrap_or(Directions::Both).list();
    if !arguments.style.is_empty() && kept.iter().all(|one| one.target() != domain) {
        bail!(
            "--style names styles of domain {0}, but no direction into domain {0} is kept; change \
             --style-domain or --directions",
            domain.name()
        );
    }
    refuse_to_replace(&arguments.output, &[&arguments.source])?;
    let wanted = match arguments.best {
        true => Wanted::Best,
        false => Wanted::Newest,
    };
    let model = export::open(&arguments.source, wanted, domain, &arguments.style)?;
    let model = match (arguments.directions, format) {
        (Some(directions), _) => model.restrict(directions.list())?,
        (None, Format::Onnx) => {
            let first: Vec<_> = model.metadata.directions.iter().take(1).copied().collect();
            model.restrict(&first)?
        }
        (None, _) => model,
    };
    let kind = arguments.precision.kind();
    let parity = export::write(&model, &arguments.output, format, kind)?;
    program::print_line(&if arguments.json {
        serde_json::to_string_pretty(&json!({
            "file": arguments.output,
            "format": format,
            "precision": arguments.precision.name(),
            "directions": model.metadata.directions,
            "iterations": model.metadata.iterations,
            "parity": parity,
        }))?
    } else {
        told(arguments, &model, format, &parity)
    })
}

/// What was written, and how it was compared.
fn told(arguments: &Arguments, model: &Model, format: Format, parity: &[Parity]) -> String {
    let directions = model.metadata.directions.iter();
    let directions: Vec<&str> = directions.map(|one| one.name()).collect();
    let mut text = format!(
        "{}  {}, {}, {}",
        arguments.output.display(),
        format.name(),
        arguments.precision.name(),
        directions.join(" and ")
    );
    for one in parity {
        let [width, height] = one.size;
        text += &format!(
            "\n  {}: differs from the model by at most {:.1e}, at {width}×{height} ({})",
            one.direction.name(),
            one.largest_difference,
            one.with
        );
    }
    text
}
