//! `munit-evaluate`: figures about a model.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use munit::Direction;
use munit::runtime::{DeviceChoice, Precision};
use munit_tools::evaluate::{
    PairsRequest, Pictures, Request, evaluate, evaluate_pairs, evaluation_page, pairs_page,
    write_page,
};
use munit_tools::model_name::find_model;
use munit_tools::program::{self, print_line};
use munit_tools::result_file;

/// Says in figures how various a model's translations are, how close to real pictures, and how much
/// of their inputs they keep.
///
/// Without a backbone it gives what the model's own networks can tell: style reconstruction,
/// reconstruction and cycle. With backbones, trained networks that munit-import makes of published
/// ones, it gives diversity, Fréchet and kernel distance to the real pictures, content distance and
/// inception scores, each as far as a backbone has the layers for it and named after it.
///
/// With --video it says how steady translations of a clip are, along the clip's own motion.
#[derive(Parser)]
#[command(
    name = "munit-evaluate",
    version,
    max_term_width = 100,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    model: Option<ModelArguments>,
}

#[derive(Subcommand)]
enum Command {
    /// Does the content distance of a backbone tell scenes apart, whatever the domain? The experiment
    /// of the MUNIT paper, on pairs of pictures
    ///
    /// Pictures of one name in the two folders show one scene in both domains. Each pair is compared,
    /// and each picture with another of its own domain, with and without instance norm.
    Pairs(PairsArguments),
}

#[derive(Args)]
struct PairsArguments {
    /// Folder of pictures of the one domain
    a: PathBuf,
    /// Folder of pictures of the other domain, under the same names
    b: PathBuf,
    /// A feature network; can be given several times
    #[arg(long, value_name = "FILE", required = true)]
    backbone: Vec<PathBuf>,
    /// Compare at most so many pairs, evenly spread over the folder
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..))]
    pairs: u32,
    /// Side of the pictures, whose shorter side is resized to it and whose middle is cut out
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=4096))]
    size: u32,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Also write a page with the figures and histograms: one HTML file
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ModelArguments {
    /// Model file, or the name of a model that is shipped or installed
    model: PathBuf,

    /// Folder with testA and testB, pictures that the model was not trained on
    ///
    /// Where one of them is missing, trainA or trainB is taken, which is said. Can be left out with
    /// --video, and with --a and --b.
    data: Option<PathBuf>,

    /// Instead of DATA: folder of pictures of domain a that the model was not trained on
    #[arg(long, value_name = "FOLDER", requires = "b", conflicts_with = "data")]
    a: Option<PathBuf>,

    /// Instead of DATA: folder of pictures of domain b that the model was not trained on
    #[arg(long, value_name = "FOLDER", requires = "a", conflicts_with = "data")]
    b: Option<PathBuf>,

    /// A clip of the source domain, a video file or a folder of frames; can be given several times
    ///
    /// Warping error and flicker of its translations, and their content distance if a backbone has
    /// it. The direction is the model's first, or the one that is given. Of a video that breaks off what
    /// can be read is measured, and one that cannot be read is left out; the exit code is then 1.
    #[arg(long, value_name = "CLIP")]
    video: Vec<PathBuf>,

    /// Translate at most so many frames of a clip, from its beginning
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..))]
    frames: u32,

    /// Translate a clip in so many styles
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    video_styles: u32,

    /// A feature network; can be given several times
    #[arg(long, value_name = "FILE")]
    backbone: Vec<PathBuf>,

    /// Translate at most so many pictures, evenly spread over the folder
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    inputs: u32,

    /// Translate each in so many styles; diversity compares each with the next, 19 pairs of 20
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    styles: u32,

    /// Compare with at most so many real pictures of the target domain
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    real: u32,

    /// Side of the pictures, whose shorter side is resized to it and whose middle is cut out
    /// [default: the size that the model was trained at]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(16..=4096))]
    size: Option<u32>,

    /// Number of the first style that is drawn
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = program::seed)]
    seed: u64,

    /// Only from domain a to domain b
    #[arg(long, conflicts_with = "b2a")]
    a2b: bool,

    /// Only from domain b to domain a
    #[arg(long)]
    b2a: bool,

    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,

    /// Number format of the translations: auto, fp32, bf16 or fp16
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    precision: Precision,

    /// Also write every input and translation to this folder, as a2b/0000-input.png, a2b/0000-00.png
    #[arg(long, value_name = "FOLDER")]
    outputs: Option<PathBuf>,

    /// Also write a page with the figures, charts and sheets: one HTML file
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  munit-evaluate photo2illustration data/photo2illustration
  munit-evaluate mine.safetensors data/mine --backbone lpips-alexnet.safetensors
  munit-evaluate mine.safetensors --a photos-kept-back --b prints-kept-back
  munit-evaluate mine.safetensors data/mine --backbone vgg16.safetensors \\
    --backbone inception.safetensors --json > figures.json
  munit-evaluate mine.safetensors data/mine --inputs 10 --styles 4 --outputs translations
  munit-evaluate mine.safetensors --video street.mp4 --backbone vgg19.safetensors --page street.html
  munit-evaluate pairs photos drawings --backbone vgg19.safetensors --page pairs.html";

fn main() -> ExitCode {
    program::run_beside_others("munit-evaluate", run)
}

fn run(arguments: Arguments) -> Result<()> {
    match (arguments.command, arguments.model) {
        (Some(Command::Pairs(arguments)), _) => pairs(arguments),
        (None, Some(arguments)) => model(arguments),
        (None, None) => bail!("name a model; {WHAT_ON}"),
    }
}

fn pairs(arguments: PairsArguments) -> Result<()> {
    arguments
        .page
        .as_deref()
        .map_or(Ok(()), result_file::check)?;
    let report = evaluate_pairs(&PairsRequest {
        folders: [arguments.a, arguments.b],
        backbones: arguments.backbone,
        pairs: arguments.pairs as usize,
        size: arguments.size,
        device: arguments.device,
    })?;
    // First, so that a page that cannot be written takes nothing with it.
    print_line(&if arguments.json {
        serde_json::to_string_pretty(&report)?
    } else {
        report.to_string().trim_end().to_owned()
    })?;
    match &arguments.page {
        Some(page) => write_page(page, &pairs_page(&report)),
        None => Ok(()),
    }
}

/// What a model is evaluated on.
const WHAT_ON: &str = "say on what it is evaluated: DATA, a folder with testA and testB, or --a FOLDER and --b \
                       FOLDER, pictures of each domain, or --video CLIP";

fn model(arguments: ModelArguments) -> Result<()> {
    if arguments.data.is_none() && arguments.a.is_none() && arguments.video.is_empty() {
        bail!(WHAT_ON);
    }
    arguments
        .page
        .as_deref()
        .map_or(Ok(()), result_file::check)?;
    let evaluation = evaluate(&Request {
        model: find_model(&arguments.model)?,
        pictures: match (arguments.data, arguments.a, arguments.b) {
            (Some(root), _, _) => Some(Pictures::Root(root)),
            (None, Some(a), Some(b)) => Some(Pictures::Folders([a, b])),
            _ => None,
        },
        clips: arguments.video,
        frames: arguments.frames as usize,
        video_styles: arguments.video_styles as usize,
        backbones: arguments.backbone,
        direction: match (arguments.a2b, arguments.b2a) {
            (true, _) => Some(Direction::A2b),
            (_, true) => Some(Direction::B2a),
            _ => None,
        },
        inputs: arguments.inputs as usize,
        styles: arguments.styles as usize,
        real: arguments.real as usize,
        size: arguments.size,
        seed: arguments.seed,
        device: arguments.device,
        precision: arguments.precision,
        outputs: arguments.outputs,
    })?;
    print_line(&if arguments.json {
        serde_json::to_string_pretty(&evaluation)?
    } else {
        evaluation.to_string().trim_end().to_owned()
    })?;
    if let Some(page) = &arguments.page {
        write_page(page, &evaluation_page(&evaluation)?)?;
    }
    evaluation.require_whole()
}
