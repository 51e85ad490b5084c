//! Makes pictures to train on: line drawings and illustrations from photographs, halves of a set,
//! pictures of one size, each only once, frames of a video.

#[cfg(feature = "video")]
mod audio;
#[cfg(feature = "video")]
mod container;
#[cfg(feature = "video")]
mod element;
#[cfg(feature = "video")]
mod failure;
#[cfg(feature = "video")]
mod frames;
#[cfg(feature = "video")]
mod header;
#[cfg(feature = "video")]
mod reach;
#[cfg(feature = "video")]
mod reader;
#[cfg(feature = "video")]
mod stream;
#[cfg(feature = "video")]
mod tracks;

use std::collections::BTreeSet;
use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use image::RgbImage;
use munit_tools::bench::size::FrameSize;
use munit_tools::data::{Skipped, lies_inside};
use munit_tools::prepare::background::is_plain;
use munit_tools::prepare::cutout;
use munit_tools::prepare::edges::{EdgeOptions, draw_edges};
use munit_tools::prepare::folder::{self, Enlarged, Format, PictureFile, Scaling};
use munit_tools::prepare::illustrate::{PrintStyle, illustrate};
use munit_tools::program;
use serde::Serialize;
use serde_json::{Value, json};

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
    munit-prepare resize once squares --crop 256x256

  Another square of each, which shows somewhere between half and all of the picture's breadth:
    munit-prepare resize once parts --crop 256x256 --smallest 50 --seed 1";

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
    /// Print photographs as illustrations: a few tones and ink contours; palette, texture (flat,
    /// washed or engraved) and weight of line differ from picture to picture
    Illustrate {
        #[command(flatten)]
        set: Set,
        /// Seed of the styles; the same seed gives the same prints
        #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = program::seed)]
        seed: u64,
    },
    /// Cut the one thing that each photograph shows out of its background and put it on a white square;
    /// photographs in which none stands out clearly are left out
    CutOut(CutOutArguments),
    /// Copy a set into two folders that share no picture
    Split(SplitArguments),
    /// Scale pictures, and cut out their middles or other parts
    Resize(ResizeArguments),
    /// Copy a set without pictures that nearly repeat another of it: copies of other sizes or
    /// qualities, mirror images, frames of a still camera
    Dedupe(DedupeArguments),
    /// Cut a video into pictures named VIDEO-000001, VIDEO-000002, …
    ///
    /// Of a video that is damaged or cut off the frames before that are written; the exit code is then 1.
    Frames(FrameArguments),
    /// Write the frames of a video to the standard output, for the other programs
    #[command(hide = true)]
    Decode { video: PathBuf },
    /// Make a video of frames from the standard input, for the other programs
    #[command(hide = true)]
    Encode {
        video: PathBuf,
        /// The video whose sound is carried over
        #[arg(long)]
        audio_of: Option<PathBuf>,
    },
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
    /// Cut out another part than the middle, which takes from this percentage of the breadth of the largest
    /// that fits up to all of it, and lies somewhere, each as the seed says
    #[arg(long, value_name = "PERCENT", conflicts_with = "size", value_parser = fill)]
    smallest: Option<f32>,
    /// Seed of sizes and places of the parts; the same seed gives the same parts [default: 0]
    #[arg(long, requires = "smallest", allow_negative_numbers = true, value_parser = program::seed)]
    seed: Option<u64>,
    /// Format of the results
    #[arg(long, value_enum, default_value_t = FormatName::Png)]
    format: FormatName,
    #[command(flatten)]
    results: Results,
}

/// What is done with results.
#[derive(Args, Clone, Copy)]
struct Results {
    /// Replace results of these names that are in the folder already
    #[arg(long)]
    replace: bool,
    /// Print what was done as JSON instead of a line
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct DedupeArguments {
    /// Folder of pictures, searched with its subfolders
    input: PathBuf,
    /// Folder for the pictures that are kept, copied as they are; without it, repetitions are only
    /// listed
    output: Option<PathBuf>,
    /// Replace pictures of these names that are in the folder already
    #[arg(long, requires = "output")]
    replace: bool,
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
    /// Let things take from this percentage of the square's side up to all of it, somewhere within, each as
    /// the seed says, so that a model learns them in all sizes and places
    #[arg(long, default_value_t = 100.0, value_parser = fill)]
    smallest: f32,
    /// Seed of sizes and places; the same seed gives the same squares
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = program::seed)]
    seed: u64,
    /// Format of the results
    #[arg(long, value_enum, default_value_t = FormatName::Png)]
    format: FormatName,
    #[command(flatten)]
    results: Results,
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
    #[arg(long, default_value_t = 50.0, value_parser = part)]
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
    /// Print what was done as JSON instead of lines
    #[arg(long)]
    json: bool,
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
    /// Take F frames for each second of the video [default: what --every says]
    #[arg(long, value_name = "F", value_parser = frame_rate)]
    fps: Option<f64>,
    /// Stop after N pictures [default: at the end of the video]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Scale the shorter side to this many pixels [default: as it is]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16384))]
    size: Option<u32>,
    /// Format of the pictures
    #[arg(long, value_enum, default_value_t = FormatName::Jpg)]
    format: FormatName,
    #[command(flatten)]
    results: Results,
}

#[derive(Args)]
struct Set {
    /// One picture, or a folder that is searched with its subfolders
    input: PathBuf,
    /// Folder for the results, which keep their relative names
    output: PathBuf,
    /// Scale the shorter side to this many pixels first [default: as it is]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16384))]
    size: Option<u32>,
    /// Take one half of the set only; the halves are those of `split` [default: both]
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
    #[command(flatten)]
    results: Results,
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
    fn files(&self) -> Result<Listed> {
        let listed = list(&self.input, &[&self.output], self.plain_background)?;
        let Some(half) = self.half else {
            return Ok(listed);
        };
        let [first, second] = divided(&self.input, listed.files, 50.0, self.keep_clips)?;
        Ok(Listed {
            files: match half {
                Half::First => first,
                Half::Second => second,
            },
            ..listed
        })
    }

    fn convert(&self, draw: impl Fn(&PictureFile, RgbImage) -> RgbImage + Sync) -> Result<()> {
        let draw = |file: &PictureFile, picture| Some(draw(file, picture));
        let format = self.format.into();
        let (output, scaling) = (&self.output, self.size.into());
        convert_into(self.files()?, output, format, scaling, self.results, draw)
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
        Command::Encode { video, audio_of } => encode(&video, audio_of.as_deref()),
    }
}

fn cut_out_things(arguments: &CutOutArguments) -> Result<()> {
    let listed = list(&arguments.input, &[&arguments.output], false)?;
    let format = arguments.format.into();
    let side = arguments.size;
    convert_into(
        listed,
        &arguments.output,
        format,
        Scaling::AsTheyAre,
        arguments.results,
        |file, picture| {
            let cut = cutout::cut_out(&picture)?;
            let seed = file.hash(arguments.seed);
            Some(cutout::place(&cut, side, arguments.smallest / 100.0, seed))
        },
    )
}

fn resize(arguments: &ResizeArguments) -> Result<()> {
    let listed = list(&arguments.input, &[&arguments.output], false)?;
    let format = arguments.format.into();
    let output = &arguments.output;
    let scaling = match arguments.crop {
        Some(size) => {
            let size = [size.width.try_into()?, size.height.try_into()?];
            match arguments.smallest {
                Some(smallest) => Scaling::Part {
                    size,
                    smallest: smallest / 100.0,
                    seed: arguments.seed.unwrap_or(0),
                },
                None => Scaling::Crop(size),
            }
        }
        None => arguments.size.into(),
    };
    let results = arguments.results;
    convert_into(listed, output, format, scaling, results, |_, picture| {
        Some(picture)
    })
}

fn dedupe(arguments: &DedupeArguments) -> Result<()> {
    let outputs: Vec<&Path> = arguments.output.as_deref().into_iter().collect();
    let files = list(&arguments.input, &outputs, false)?.files;
    let repetitions = folder::repetitions(&files);
    let repeats: BTreeSet<usize> = repetitions.iter().map(|(_, later)| *later).collect();
    let kept: Vec<PictureFile> = files
        .iter()
        .enumerate()
        .filter(|(index, _)| !repeats.contains(index))
        .map(|(_, file)| file.clone())
        .collect();
    if let (Some(output), false) = (&arguments.output, arguments.replace) {
        folder::refuse_to_replace(&kept, output, None)?;
    }
    if arguments.json {
        let listed: Vec<_> = repetitions
            .iter()
            .map(|(earlier, later)| json!({"picture": files[*later].name, "repeats": files[*earlier].name}))
            .collect();
        print_json(&listed.into())?;
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
    let skipped = folder::copy(&kept, output)?;
    show_skipped(&skipped);
    // The standard output is JSON, or ends with what was done.
    let done = format!(
        "{} copied to {}, {} left out as repetitions",
        program::counted((kept.len() - skipped.len()) as u64, "file"),
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
    let begin = Instant::now();
    let mut listed = list(&arguments.input, &outputs, arguments.plain_background)?;
    let parts = divided(
        &arguments.input,
        listed.files,
        arguments.share,
        arguments.keep_clips,
    )?;
    let mut made = Vec::new();
    for (files, output) in parts.iter().zip(outputs) {
        let (one, skipped) = if arguments.size.is_some() {
            let format = arguments.format.into();
            let scaling = arguments.size.into();
            convert(files, output, format, scaling, |_, picture| Some(picture))?
        } else {
            let skipped = folder::copy(files, output)?;
            show_skipped(&skipped);
            (
                Made {
                    folder: output.to_owned(),
                    written: files.len() - skipped.len(),
                    left_out: 0,
                    enlarged: None,
                },
                skipped,
            )
        };
        if !arguments.json {
            program::print_line(&match arguments.size {
                Some(_) => one.to_string(),
                None => format!(
                    "{} copied to {}",
                    program::counted(one.written as u64, "file"),
                    output.display()
                ),
            })?;
        }
        listed.skipped.extend(skipped);
        made.push(one);
    }
    if arguments.json {
        return print_json(&json!({
            "parts": made,
            "skipped": named(&listed.skipped),
            "seconds": begin.elapsed().as_secs_f64(),
        }));
    }
    Ok(())
}

/// The pictures of a set.
struct Listed {
    files: Vec<PictureFile>,
    /// What could not be looked at.
    skipped: Vec<Skipped>,
}

/// The pictures of a set, with `plain_background` only those; what could not be looked at is listed.
fn list(input: &Path, outputs: &[&Path], plain_background: bool) -> Result<Listed> {
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
    Ok(Listed { files, skipped })
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

/// Converts a set into a folder, and says what was done.
fn convert_into(
    listed: Listed,
    output: &Path,
    format: Format,
    scaling: Scaling,
    results: Results,
    draw: impl Fn(&PictureFile, RgbImage) -> Option<RgbImage> + Sync,
) -> Result<()> {
    let begin = Instant::now();
    if !results.replace {
        folder::refuse_to_replace(&listed.files, output, Some(format))?;
    }
    let (made, skipped) = convert(&listed.files, output, format, scaling, draw)?;
    if !results.json {
        return program::print_line(&made.to_string());
    }
    let skipped = [listed.skipped, skipped].concat();
    print_json(&json!({
        "folder": made.folder,
        "written": made.written,
        "left_out": made.left_out,
        "enlarged": made.enlarged,
        "skipped": named(&skipped),
        "seconds": begin.elapsed().as_secs_f64(),
    }))
}

/// Converts `files`; gives what was made, and what could not be read, which is listed.
fn convert(
    files: &[PictureFile],
    output: &Path,
    format: Format,
    scaling: Scaling,
    draw: impl Fn(&PictureFile, RgbImage) -> Option<RgbImage> + Sync,
) -> Result<(Made, Vec<Skipped>)> {
    let converted = folder::convert(files, output, format, scaling, draw)?;
    show_skipped(&converted.skipped);
    if let Some(enlarged) = converted.enlarged {
        eprintln!(
            "munit-prepare: {} of {} enlarged, up to {:.1} times, which adds no detail; a smaller size, or larger \
             pictures, would be better",
            enlarged.pictures,
            program::counted(files.len() as u64, "picture"),
            enlarged.most
        );
    }
    if converted.written == 0 {
        bail!("in none of the pictures a single thing stands out clearly from its background");
    }
    let made = Made {
        folder: output.to_owned(),
        written: converted.written,
        left_out: files.len() - converted.skipped.len() - converted.written,
        enlarged: converted.enlarged,
    };
    Ok((made, converted.skipped))
}

/// What was made of a set.
#[derive(Serialize)]
struct Made {
    folder: PathBuf,
    /// Pictures that were written.
    written: usize,
    /// Pictures in which no single thing stands out.
    left_out: usize,
    /// Pictures that had to be enlarged.
    #[serde(skip_serializing_if = "Option::is_none")]
    enlarged: Option<Enlarged>,
}

impl Display for Made {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        let folder = self.folder.display();
        let written = program::counted(self.written as u64, "picture");
        write!(f, "{written} written to {folder}")?;
        match self.left_out {
            0 => Ok(()),
            count => write!(
                f,
                ", {count} left out, in which no single thing stands out clearly"
            ),
        }
    }
}

/// Files and why they were skipped.
fn named(skipped: &[Skipped]) -> Vec<Value> {
    let named =
        |skipped: &Skipped| json!({"file": skipped.path, "reason": skipped.reason.to_string()});
    skipped.iter().map(named).collect()
}

fn print_json(value: &Value) -> Result<()> {
    program::print_line(&serde_json::to_string_pretty(value)?)
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
        replace: arguments.results.replace,
    };
    let begin = Instant::now();
    let (written, problem) = frames::cut(&arguments.video, &arguments.output, &options)?;
    if arguments.results.json {
        print_json(&json!({
            "folder": arguments.output,
            "written": written,
            "problem": problem.as_ref().map(program::sentence),
            "seconds": begin.elapsed().as_secs_f64(),
        }))?;
    } else {
        let folder = arguments.output.display();
        let written = program::counted(written, "picture");
        program::print_line(&format!("{written} written to {folder}"))?;
    }
    // The pictures are good, but whoever relies on all of them is to know.
    problem.map_or(Ok(()), |problem| {
        Err(problem.context("stopped before the end of the video"))
    })
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
fn encode(_: &Path, _: Option<&Path>) -> Result<()> {
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

fn part(text: &str) -> Result<f32, String> {
    number_between(text, 0.0, 100.0)
        .ok()
        .filter(|share| 0.0 < *share && *share < 100.0)
        .ok_or_else(|| {
            "a number between 0 and 100 is expected, and both parts get pictures".to_owned()
        })
}

fn fill(text: &str) -> Result<f32, String> {
    number_between(text, 10.0, 100.0)
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
