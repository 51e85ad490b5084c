//! Makes pictures to train on: line drawings and illustrations from photographs, halves of a set.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use munit_tools::prepare::edges::{EdgeOptions, draw_edges};
use munit_tools::prepare::folder::{self, Format, Outcome, Source};
use munit_tools::prepare::illustrate::{PrintStyle, illustrate};

#[derive(Parser)]
#[command(name = "munit-prepare", version, about, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Drawings from one half of the photographs, the other half as the second domain:
    munit-prepare edges photos drawings --half first
    munit-prepare split photos /tmp/unused others

  Illustrations in many styles, shorter side 200 pixels:
    munit-prepare illustrate photos prints --size 200 --seed 7

  Keep 5 % of a set for testing:
    munit-prepare split prints trainB testB --share 95";

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
    /// Copy a set into two folders that share no picture
    Split {
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
        /// Scale the shorter side to this many pixels; without it files are copied as they are
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16384))]
        size: Option<u32>,
        /// Format of scaled pictures
        #[arg(long, value_enum, default_value_t = FormatName::Png)]
        format: FormatName,
    },
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
    fn sources(&self) -> Result<Vec<Source>> {
        let sources = folder::pictures(&self.input, &[&self.output])?;
        let Some(half) = self.half else {
            return Ok(sources);
        };
        let [first, second] = folder::split(sources, 0.5, self.keep_clips);
        let chosen = match half {
            Half::First => first,
            Half::Second => second,
        };
        if chosen.is_empty() {
            bail!(
                "{} holds one picture or clip only, which is all in the first half",
                self.input.display()
            );
        }
        Ok(chosen)
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("munit-prepare: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Edges { set, detail } => {
            let options = EdgeOptions {
                detail,
                ..EdgeOptions::default()
            };
            let outcome = folder::convert(
                &set.sources()?,
                &set.output,
                set.format.into(),
                set.size,
                |_, picture| draw_edges(&picture, &options),
            )?;
            report(&outcome, &set.output);
        }
        Command::Illustrate { set, seed } => {
            let outcome = folder::convert(
                &set.sources()?,
                &set.output,
                set.format.into(),
                set.size,
                |source, picture| {
                    illustrate(&picture, &PrintStyle::from_seed(source.hash(seed)))
                },
            )?;
            report(&outcome, &set.output);
        }
        Command::Split {
            input,
            first,
            second,
            share,
            keep_clips,
            size,
            format,
        } => {
            let sources = folder::pictures(&input, &[&first, &second])?;
            let parts = folder::split(sources, share / 100.0, keep_clips);
            for (sources, output) in parts.iter().zip([first, second]) {
                if sources.is_empty() {
                    bail!(
                        "{} holds one picture or clip only, which cannot be divided",
                        input.display()
                    );
                }
                if size.is_none() {
                    folder::copy(sources, &output)?;
                    println!("{} files copied to {}", sources.len(), output.display());
                    continue;
                }
                let outcome =
                    folder::convert(sources, &output, format.into(), size, |_, picture| picture)?;
                report(&outcome, &output);
            }
        }
    }
    Ok(())
}

fn report(outcome: &Outcome, output: &std::path::Path) {
    for (path, problem) in &outcome.skipped {
        eprintln!("munit-prepare: skipped {}: {problem}", path.display());
    }
    println!(
        "{} pictures written to {}",
        outcome.written,
        output.display()
    );
}

fn share(text: &str) -> Result<f32, String> {
    number_between(text, 0.0, 1.0)
}

fn percentage(text: &str) -> Result<f32, String> {
    number_between(text, 0.0, 100.0)
}

fn number_between(text: &str, least: f32, most: f32) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| format!("a number from {least} to {most} is expected"))
}
