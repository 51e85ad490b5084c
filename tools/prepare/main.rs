//! Makes pictures to train on: line drawings and illustrations from photographs, halves of a set,
//! pictures of one size, each only once, frames of a video.

#[cfg(feature = "video")]
mod frames;
#[cfg(feature = "video")]
mod stream;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use image::RgbImage;
use image::imageops::{self, FilterType};
use munit_tools::bench::size::FrameSize;
use munit_tools::data::{Skipped, lies_inside};
use munit_tools::prepare::background::is_plain;
use munit_tools::prepare::cutout::cut_out;
use munit_tools::prepare::edges::{EdgeOptions, draw_edges};
use munit_tools::prepare::folder::{self, Format, PictureFile, Scaling};
use munit_tools::prepare::illustrate::{PrintStyle, illustrate};
use munit_tools::program;
use serde_json::json;

#[derive(Parser)]
#[command(
    name = "munit-prepare",
    version,
    about = "Makes pictures to train on from photographs and video",
    after_help = EXAMPLES
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Drawings from one half of the photographs, the other half as the second domain:
    munit-prepare split photos first second
    munit-prepare edges first drawings

  Illustrations in many styles, shorter side 200 pixels:
    munit-prepare illustrate photos prints --size 200 --seed 7

  Clothes that lie on beds and floors, on white:
    munit-prepare cut-out photos garments --size 160

  Keep 5 % of a set for testing:
    munit-prepare split prints trainB testB --share 95

  Two frames of each second of a video:
    munit-prepare frames clip.mp4 photos --fps 2

  The middles of photographs, 256 pixels high and wide, and each subject once:
    munit-prepare dedupe photos once
    munit-prepare resize once squares --crop 256x256";

#[derive(Subcommand)]
enum Command {
    /// Draw the outlines and inner lines of photographs, near black on white
    Edges {
        #[command(flatten)]
        set: Set,
        /// How many of the weaker lines are drawn, from 0 (outlines only) to 1
        #[arg(long, default_value_t = EdgeOptions::default().detail, value_parser = share)]
        detail: f32,
    },
    /// Print photographs as illustrations: a few tones, screened shadows, ink contours; palette,
    /// screen and weight of line differ from picture to picture
    Illustrate {
        #[command(flatten)]
        set: Set,
        /// Seed of the styles; the same seed gives the same prints
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Cut the one thing that each photograph shows out of its background and put it on a white square;
    /// photographs in which none stands out clearly are left out
    CutOut(CutOutArguments),
    /// Copy a set into two folders that share no picture
    Split(SplitArguments),
    /// Scale pictures, and cut out their middles
    Resize(ResizeArguments),
    /// Copy a set without pictures that nearly repeat another of it: copies of other sizes or
    /// qualities, mirror images, frames of a still camera
    Dedupe(DedupeArguments),
    /// Cut a video into pictures named VIDEO-000001, VIDEO-000002, …
    Frames(FrameArguments),
    /// Write the frames of a video to the standard output, for the other programs
    #[command(hide = true)]
    Decode { video: PathBuf },
    /// Make a video of frames from the standard input, for the other programs
    #[command(hide = true)]
    Encode { video: PathBuf },
}

#[derive(Args)]
#[command(group(ArgGroup::new("scale").args(["size", "crop"]).required(true)))]
struct ResizeArguments {
    /// One picture, or a folder that is searched with its subfolders
    input: PathBuf,
    /// Folder for the results, which keep their relative names
    output: PathBuf,
    /// Scale the shorter side to this many pixels
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=16384))]
    size: Option<u32>,
    /// Scale each picture to cover this size, and cut out its middle
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    crop: Option<FrameSize>,
    /// Format of the results
    #[arg(long, value_enum, default_value_t = FormatName::Png)]
    format: FormatName,
}

#[derive(Args)]
struct DedupeArguments {
    /// Folder of pictures, searched with its subfolders
    input: PathBuf,
    /// Folder for the pictures that are kept, copied as they are; without it, repetitions are only
    /// listed
    output: Option<PathBuf>,
    /// Print the repetitions as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CutOutArguments {
    /// One picture, or a folder that is searched with its subfolders
    input: PathBuf,
    /// Folder for the results, which keep their relative names
    output: PathBuf,
    /// Scale the squares to this side, in pixels
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=16384))]
    size: u32,
    /// Format of the results
    #[arg(long, value_enum, default_value_t = FormatName::Png)]
    format: FormatName,
}

#[derive(Args)]
struct SplitArguments {
    /// Folder of pictures, searched with its subfolders
    input: PathBuf,
    /// Folder for the first part
    first: PathBuf,
    /// Folder for the second part
    second: PathBuf,
    /// Percentage of the set that goes to the first part
    #[arg(long, default_value_t = 50.0, value_parser = percentage)]
    share: f32,
    /// Keep the frames of a video (NAME-000001, NAME-000002, …) in the same part
    #[arg(long)]
    keep_clips: bool,
    /// Take only pictures of one thing on a plain background
    #[arg(long)]
    plain_background: bool,
    /// Scale the shorter side to this many pixels; without it files are copied as they are
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16384))]
    size: Option<u32>,
    /// Format of scaled pictures
    #[arg(long, value_enum, default_value_t = FormatName::Png)]
    format: FormatName,
}

#[derive(Args)]
struct FrameArguments {
    /// Video file in any format that GStreamer decodes
    video: PathBuf,
    /// Folder for the pictures
    output: PathBuf,
    /// Take the first of every N frames
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "fps",
          value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Take F frames for each second of the video
    #[arg(long, value_name = "F", value_parser = frame_rate)]
    fps: Option<f64>,
    /// Stop after N pictures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Scale the shorter side to this many pixels
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16384))]
    size: Option<u32>,
    /// Format of the pictures
    #[arg(long, value_enum, default_value_t = FormatName::Jpg)]
    format: FormatName,
}

#[derive(Args)]
struct Set {
    /// One picture, or a folder that is searched with its subfolders
    input: PathBuf,
    /// Folder for the results, which keep their relative names
    output: PathBuf,
    /// Scale the shorter side to this many pixels first
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16384))]
    size: Option<u32>,
    /// Take one half of the set only; the halves are those of `split`
    #[arg(long, value_enum)]
    half: Option<Half>,
    /// Keep the frames of a video (NAME-000001, NAME-000002, …) in the same half
    #[arg(long, requires = "half")]
    keep_clips: bool,
    /// Take only pictures of one thing on a plain background
    #[arg(long)]
    plain_background: bool,
    /// Format of the results
    #[arg(long, value_enum, default_value_t = FormatName::Png)]
    format: FormatName,
}

#[derive(Clone, Copy, ValueEnum)]
enum Half {
    First,
    Second,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    Png,
    Jpg,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Png => Format::Png,
            FormatName::Jpg => Format::Jpeg,
        }
    }
}

impl Set {
    fn files(&self) -> Result<Vec<PictureFile>> {
        let files = list(&self.input, &[&self.output], self.plain_background)?;
        let Some(half) = self.half else {
            return Ok(files);
        };
        let [first, second] = divided(&self.input, files, 50.0, self.keep_clips)?;
        Ok(match half {
            Half::First => first,
            Half::Second => second,
        })
    }

    fn convert(&self, draw: impl Fn(&PictureFile, RgbImage) -> RgbImage + Sync) -> Result<()> {
        let format = self.format.into();
        let draw = |file: &PictureFile, picture| Some(draw(file, picture));
        convert(&self.files()?, &self.output, format, self.size.into(), draw)
    }
}

fn main() -> ExitCode {
    program::run("munit-prepare", |arguments: Arguments| {
        prepare(arguments.command)
    })
}

fn prepare(command: Command) -> Result<()> {
    match command {
        Command::Edges { set, detail } => {
            let options = EdgeOptions {
                detail,
                ..EdgeOptions::default()
            };
            set.convert(|_, picture| draw_edges(&picture, &options))
        }
        Command::Illustrate { set, seed } => set
            .convert(|file, picture| illustrate(&picture, &PrintStyle::from_seed(file.hash(seed)))),
        Command::CutOut(arguments) => cut_out_things(&arguments),
        Command::Split(arguments) => split(&arguments),
        Command::Resize(arguments) => resize(&arguments),
        Command::Dedupe(arguments) => dedupe(&arguments),
        Command::Frames(arguments) => cut_frames(&arguments),
        Command::Decode { video } => decode(&video),
        Command::Encode { video } => encode(&video),
    }
}

fn cut_out_things(arguments: &CutOutArguments) -> Result<()> {
    let files = list(&arguments.input, &[&arguments.output], false)?;
    let format = arguments.format.into();
    let side = arguments.size;
    convert(
        &files,
        &arguments.output,
        format,
        Scaling::AsTheyAre,
        |_, picture| {
            let cut = cut_out(&picture)?;
            Some(imageops::resize(&cut, side, side, FilterType::CatmullRom))
        },
    )
}

fn resize(arguments: &ResizeArguments) -> Result<()> {
    let files = list(&arguments.input, &[&arguments.output], false)?;
    let format = arguments.format.into();
    let output = &arguments.output;
    let scaling = match arguments.crop {
        Some(size) => Scaling::Crop([size.width.try_into()?, size.height.try_into()?]),
        None => arguments.size.into(),
    };
    convert(&files, output, format, scaling, |_, picture| Some(picture))
}

fn dedupe(arguments: &DedupeArguments) -> Result<()> {
    let outputs: Vec<&Path> = arguments.output.as_deref().into_iter().collect();
    let files = list(&arguments.input, &outputs, false)?;
    let repetitions = folder::repetitions(&files);
    if arguments.json {
        let listed: Vec<_> = repetitions
            .iter()
            .map(|(earlier, later)| json!({"picture": files[*later].name, "repeats": files[*earlier].name}))
            .collect();
        program::print_line(&serde_json::to_string_pretty(&listed)?)?;
    } else {
        for (earlier, later) in &repetitions {
            let (later, earlier) = (&files[*later].name, &files[*earlier].name);
            let line = format!("{} repeats {}", later.display(), earlier.display());
            program::print_line(&line)?;
        }
    }
    let Some(output) = &arguments.output else {
        return Ok(());
    };
    let repeats: BTreeSet<usize> = repetitions.iter().map(|(_, later)| *later).collect();
    let kept: Vec<PictureFile> = files
        .into_iter()
        .enumerate()
        .filter(|(index, _)| !repeats.contains(index))
        .map(|(_, file)| file)
        .collect();
    let skipped = folder::copy(&kept, output)?;
    show_skipped(&skipped);
    // The standard output is JSON, or ends with what was done.
    let done = format!(
        "{} files copied to {}, {} left out as repetitions",
        kept.len() - skipped.len(),
        output.display(),
        repeats.len()
    );
    match arguments.json {
        true => eprintln!("munit-prepare: {done}"),
        false => program::print_line(&done)?,
    }
    Ok(())
}

fn split(arguments: &SplitArguments) -> Result<()> {
    let outputs = [arguments.first.as_path(), arguments.second.as_path()];
    for output in outputs {
        if lies_inside(output, &arguments.input) {
            bail!(
                "{} lies inside the input folder, where the whole set would hold its parts twice; \
                 choose a folder elsewhere",
                output.display()
            );
        }
        // Left-overs of another division would be in both parts.
        if output
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some())
        {
            bail!(
                "{} is not empty; choose a new folder or empty this one, so that the parts share \
                 no picture",
                output.display()
            );
        }
    }
    let files = list(&arguments.input, &outputs, arguments.plain_background)?;
    let parts = divided(
        &arguments.input,
        files,
        arguments.share,
        arguments.keep_clips,
    )?;
    for (files, output) in parts.iter().zip(outputs) {
        if arguments.size.is_some() {
            let format = arguments.format.into();
            let scaling = arguments.size.into();
            convert(files, output, format, scaling, |_, picture| Some(picture))?;
        } else {
            let skipped = folder::copy(files, output)?;
            show_skipped(&skipped);
            println!(
                "{} files copied to {}",
                files.len() - skipped.len(),
                output.display()
            );
        }
    }
    Ok(())
}

/// The pictures of a set, with `plain_background` only those; what could not be looked at is listed.
fn list(input: &Path, outputs: &[&Path], plain_background: bool) -> Result<Vec<PictureFile>> {
    let (mut files, skipped) = folder::pictures(input, outputs)?;
    show_skipped(&skipped);
    if plain_background {
        files = folder::select(files, is_plain);
        if files.is_empty() {
            bail!(
                "{}: no picture there shows one thing on a plain background",
                input.display()
            );
        }
    }
    Ok(files)
}

fn divided(
    input: &Path,
    files: Vec<PictureFile>,
    percentage: f32,
    keep_clips: bool,
) -> Result<[Vec<PictureFile>; 2]> {
    let parts = folder::split(files, percentage / 100.0, keep_clips);
    if parts.iter().any(Vec::is_empty) {
        bail!(
            "{} holds only one {}, which cannot be divided",
            input.display(),
            if keep_clips { "clip" } else { "picture" }
        );
    }
    Ok(parts)
}

fn convert(
    files: &[PictureFile],
    output: &Path,
    format: Format,
    scaling: Scaling,
    draw: impl Fn(&PictureFile, RgbImage) -> Option<RgbImage> + Sync,
) -> Result<()> {
    let converted = folder::convert(files, output, format, scaling, draw)?;
    show_skipped(&converted.skipped);
    if converted.written == 0 {
        bail!("in none of the pictures a single thing stands out clearly from its background");
    }
    let left_out = files.len() - converted.skipped.len() - converted.written;
    println!(
        "{} pictures written to {}{}",
        converted.written,
        output.display(),
        match left_out {
            0 => String::new(),
            _ => format!(", {left_out} left out, in which no single thing stands out clearly"),
        }
    );
    Ok(())
}

fn show_skipped(skipped: &[Skipped]) {
    for skipped in skipped {
        eprintln!("munit-prepare: skipped {skipped}");
    }
}

#[cfg(feature = "video")]
fn cut_frames(arguments: &FrameArguments) -> Result<()> {
    let options = frames::FrameOptions {
        rate: match arguments.fps {
            Some(rate) => frames::Rate::PerSecond(rate),
            None => frames::Rate::Every(arguments.every),
        },
        most: arguments.max,
        size: arguments.size,
        format: arguments.format.into(),
    };
    let (written, problem) = frames::cut(&arguments.video, &arguments.output, &options)?;
    if let Some(problem) = problem {
        eprintln!(
            "munit-prepare: stopped early: {}",
            program::sentence(&problem)
        );
    }
    println!(
        "{written} pictures written to {}",
        arguments.output.display()
    );
    Ok(())
}

#[cfg(feature = "video")]
use stream::{decode, encode};

#[cfg(not(feature = "video"))]
fn cut_frames(_: &FrameArguments) -> Result<()> {
    without_video()
}

#[cfg(not(feature = "video"))]
fn decode(_: &Path) -> Result<()> {
    without_video()
}

#[cfg(not(feature = "video"))]
fn encode(_: &Path) -> Result<()> {
    without_video()
}

#[cfg(not(feature = "video"))]
fn without_video() -> Result<()> {
    bail!(
        "munit-prepare was built without video; build it with the feature \"video\" \
         (cargo build -p munit-tools --features video), which needs GStreamer"
    )
}

fn share(text: &str) -> Result<f32, String> {
    number_between(text, 0.0, 1.0)
}

fn percentage(text: &str) -> Result<f32, String> {
    number_between(text, 0.0, 100.0)
}

fn frame_rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| "a number above 0 is expected".to_owned())
}

fn number_between(text: &str, least: f32, most: f32) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| format!("a number from {least} to {most} is expected"))
}
