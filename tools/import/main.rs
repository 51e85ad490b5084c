//! `munit-import`: a PyTorch checkpoint becomes a model file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use munit::config::{Activation, Padding};
use munit_tools::backbone_import::import_backbone;
use munit_tools::import::{Unwritten, import};
use munit_tools::info::family_name;
use munit_tools::program::{self, Directions, StoredPrecision};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Turns a PyTorch checkpoint of MUNIT or UNIT generators (gen_*.pt) into a model file for
/// munitfilter; with `backbone`, a published feature network into a file for munit-evaluate. Nothing
/// in the file is executed.
#[derive(Parser)]
#[command(
    name = "munit-import",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  munit-import gen_01000000.pt edges2shoes.safetensors --a-name edges --b-name shoes
  munit-import gen_00500000.pt winter.safetensors --directions a2b --precision fp16 --size 256
  munit-import backbone vgg16-397923af.pth vgg16.safetensors
  munit-import backbone alexnet-owt-7be5be79.pth lpips.safetensors --lpips lpips/weights/v0.1/alex.pth"
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    model: Option<ModelArguments>,
}

#[derive(Subcommand)]
enum Command {
    /// Make a backbone, which munit-evaluate computes figures with, of a published network
    ///
    /// Known are torchvision's VGG, AlexNet, SqueezeNet and ResNet (.pth), the Inception-v3 of
    /// pytorch-fid and torch-fidelity (.pth), and VGG-19 distilled to 1/16 (.npz). Which of them it
    /// is is told by the tensors. Weights keep their own licence.
    Backbone {
        /// The published file: a PyTorch state dict, NumPy's .npz or safetensors
        network: PathBuf,
        /// Backbone file to write, usually named *.safetensors
        output: PathBuf,
        /// Weights of each channel for the perceptual distance: lpips/weights/v0.1/*.pth of the
        /// package lpips
        #[arg(long, value_name = "FILE")]
        lpips: Option<PathBuf>,
        /// What figures are to be named after [default: the network's name]
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
        /// Print what was made as JSON instead of a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct ModelArguments {
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
    /// Print what was made as JSON instead of a line
    #[arg(long)]
    json: bool,
}

/// A choice by its name in the published configurations.
fn one_of<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    names: &'static [&'static str],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names).try_map(|name| serde_json::from_value::<T>(name.into()))
}

fn main() -> ExitCode {
    program::run("munit-import", |arguments| {
        program::print_line(&import_file(arguments)?)
    })
}

fn import_file(arguments: Arguments) -> anyhow::Result<String> {
    match (arguments.command, arguments.model) {
        (
            Some(Command::Backbone {
                network,
                output,
                lpips,
                name,
                json,
            }),
            _,
        ) => {
            for source in [Some(&network), lpips.as_ref()].into_iter().flatten() {
                refuse_to_replace(source, &output)?;
            }
            let made = import_backbone(&network, lpips.as_deref(), name.as_deref(), &output)?;
            let uses = [
                ("perceptual distance", !made.perceptual.is_empty()),
                ("content distance", made.content.is_some()),
                ("Fréchet and kernel distance", made.features.is_some()),
                ("inception scores", made.logits.is_some()),
            ];
            let uses: Vec<_> = uses
                .iter()
                .filter(|(_, can)| *can)
                .map(|(use_, _)| *use_)
                .collect();
            if json {
                return Ok(serde_json::to_string_pretty(&json!({
                    "file": output,
                    "name": made.name,
                    "uses": uses,
                }))?);
            }
            Ok(format!(
                "{}: {}; for {}",
                output.display(),
                made.name,
                uses.join(", ")
            ))
        }
        (None, Some(model)) => convert(model),
        (None, None) => bail!("name a checkpoint and the model file to write"),
    }
}

fn convert(arguments: ModelArguments) -> anyhow::Result<String> {
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
    refuse_to_replace(&arguments.checkpoint, &arguments.model)?;
    model.write(&arguments.model, arguments.precision.kind())?;
    if arguments.json {
        return Ok(serde_json::to_string_pretty(&json!({
            "file": arguments.model,
            "precision": arguments.precision.name(),
            "metadata": model.metadata,
        }))?);
    }
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

fn refuse_to_replace(checkpoint: &Path, output: &Path) -> anyhow::Result<()> {
    let same = matches!(
        (checkpoint.canonicalize(), output.canonicalize()),
        (Ok(one), Ok(other)) if one == other
    );
    if same {
        bail!(
            "{}: would replace the checkpoint itself; name another file for the result",
            output.display()
        );
    }
    Ok(())
}
