//! `munit-export`: makes a model file from a training run.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::{Parser, ValueEnum};
use munit::Domain;
use munit_tools::export::{StyleRequest, from_run};
use munit_tools::program::{self, Directions, StoredPrecision};

/// Make the model file that munitfilter loads from a training run.
///
/// Takes the averaged generators of the newest checkpoint, or of a given one.
#[derive(Parser)]
#[command(
    name = "munit-export",
    version,
    after_help = "Examples:\n  \
        munit-export runs/mine mine.safetensors\n  \
        munit-export runs/mine/checkpoints/iteration-000010000.safetensors early.safetensors\n  \
        munit-export runs/mine mine.safetensors --precision bf16 --directions a2b\n  \
        munit-export runs/mine mine.safetensors --style violet=12 --style like-this=print.png"
)]
struct Arguments {
    /// Folder of a run, or a checkpoint file in it
    run: PathBuf,
    /// Model file to write
    model: PathBuf,
    /// Number format of the weights in the file
    #[arg(long, value_enum, default_value_t = StoredPrecision::Fp32)]
    precision: StoredPrecision,
    /// Directions to keep; one alone makes a smaller file
    #[arg(long, value_enum, default_value_t = Directions::Both)]
    directions: Directions,
    /// Name a style: NAME=SEED (a draw), NAME=NUMBER,NUMBER,… (a code) or NAME=PICTURE (its style)
    #[arg(long, value_name = "NAME=STYLE")]
    style: Vec<StyleRequest>,
    /// Domain whose styles are named [default: b; a if only b2a is kept]
    #[arg(long, value_enum)]
    style_domain: Option<StyleDomain>,
}

#[derive(Clone, Copy, ValueEnum)]
enum StyleDomain {
    A,
    B,
}

fn main() -> ExitCode {
    program::run("munit-export", |arguments| export(&arguments))
}

fn export(arguments: &Arguments) -> Result<()> {
    let directions = arguments.directions.list();
    let domain = match (arguments.style_domain, arguments.directions) {
        (Some(StyleDomain::A), _) | (None, Directions::B2a) => Domain::A,
        (Some(StyleDomain::B), _) | (None, _) => Domain::B,
    };
    if !arguments.style.is_empty() && directions.iter().all(|one| one.target() != domain) {
        bail!(
            "--style names styles of domain {0}, but no direction into domain {0} is kept; change \
             --style-domain or --directions",
            domain.name()
        );
    }
    ensure!(
        arguments.run.exists(),
        "{}: there is no such run or checkpoint",
        arguments.run.display()
    );
    let model = from_run(&arguments.run, domain, &arguments.style)?.restrict(directions)?;
    model.write(&arguments.model, arguments.precision.kind())?;
    program::print_line(&arguments.model.display().to_string())
}
