//! `munit-import`: a PyTorch checkpoint becomes a model file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use munit::config::{Activation, Padding};
use munit_tools::import::{Unwritten, import};
use munit_tools::info::family_name;
use munit_tools::program::{self, Directions, StoredPrecision};
use serde::de::DeserializeOwned;

/// Turns a PyTorch checkpoint of MUNIT or UNIT generators (gen_*.pt) into a model file for
/// munitfilter. Nothing in the checkpoint is executed.
#[derive(Parser)]
#[command(
    name = "munit-import",
    version,
    after_help = "Examples:
  munit-import gen_01000000.pt edges2shoes.safetensors --a-name edges --b-name shoes
  munit-import gen_00500000.pt winter.safetensors --directions a2b --precision fp16 --size 256"
)]
struct Arguments {
    /// Checkpoint: a stream from before PyTorch 1.6 or a zip, MUNIT or UNIT
    checkpoint: PathBuf,
    /// Model file to write, usually named *.safetensors
    model: PathBuf,
    /// What pictures of domain a show
    #[arg(long, value_name = "NAME", default_value = "a")]
    a_name: String,
    /// What pictures of domain b show
    #[arg(long, value_name = "NAME", default_value = "b")]
    b_name: String,
    /// Directions to keep; one direction makes half the file
    #[arg(long, value_enum, default_value_t = Directions::Both)]
    directions: Directions,
    /// Number format of the weights in the model file
    #[arg(long, value_enum, default_value_t = StoredPrecision::Fp32)]
    precision: StoredPrecision,
    /// Activation of the hidden layers (gen.activ of the training configuration), which cannot
    /// be read off the weights; prelu is recognised [default: relu]
    #[arg(long, value_parser = one_of::<Activation>(&["relu", "lrelu", "prelu", "selu", "tanh", "none"]))]
    activ: Option<Activation>,
    /// Padding of the convolutions (gen.pad_type of the training configuration), which cannot
    /// be read off the weights
    #[arg(long, default_value = "reflect", value_parser = one_of::<Padding>(&["reflect", "replicate", "zero"]))]
    pad_type: Padding,
    /// Generator updates that the weights have seen [default: the number in gen_NUMBER.pt]
    #[arg(long, value_name = "N")]
    iterations: Option<u64>,
    /// Shorter side, in pixels, of the pictures that the model was trained on
    #[arg(long, value_name = "PIXELS")]
    size: Option<u32>,
    /// What the model was trained on
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    data: String,
    /// Licence of the weights
    #[arg(
        long,
        alias = "license",
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    licence: String,
}

/// A choice by its name in the published configurations.
fn one_of<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    names: &'static [&'static str],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names).try_map(|name| serde_json::from_value::<T>(name.into()))
}

fn main() -> ExitCode {
    program::run("munit-import", |arguments| {
        program::print_line(&convert(arguments)?)
    })
}

fn convert(arguments: Arguments) -> anyhow::Result<String> {
    let unwritten = Unwritten {
        activation: arguments.activ,
        padding: arguments.pad_type,
        domain_a: arguments.a_name,
        domain_b: arguments.b_name,
        iterations: arguments.iterations,
        recommended_size: arguments.size,
        data: arguments.data,
        licence: arguments.licence,
    };
    let directions = arguments.directions.list();
    let model = import(&arguments.checkpoint, &unwritten)?.restrict(directions)?;
    if same_file(&arguments.checkpoint, &arguments.model) {
        bail!(
            "{}: would replace the checkpoint itself; name another file for the model",
            arguments.model.display()
        );
    }
    model.write(&arguments.model, arguments.precision.kind())?;
    let kept: Vec<&str> = directions.iter().map(|one| one.name()).collect();
    Ok(format!(
        "{}: {}, {}, {}; munit-info says more",
        arguments.model.display(),
        family_name(model.metadata.architecture.family),
        kept.join(" and "),
        match model.metadata.iterations {
            0 => "unknown number of iterations".to_owned(),
            iterations => format!("{iterations} iterations"),
        }
    ))
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
