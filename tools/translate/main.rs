//! `munit-translate`: pictures and videos through a model.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Parser};
use munit::Direction;
use munit::runtime::{DeviceChoice, Precision, TranslateOptions};
use munit_tools::model_name::find_model;
use munit_tools::program;
use munit_tools::translate::{Request, StyleChoice, translate};

/// Translates pictures, videos and folders of them with a MUNIT or UNIT model.
#[derive(Parser)]
#[command(name = "munit-translate", version, max_term_width = 100, after_long_help = EXAMPLES)]
#[command(group(ArgGroup::new("look").args(["style", "style_name", "style_image", "seed", "all_styles"])))]
struct Arguments {
    /// Model file (.safetensors), or the name of a model that is shipped or installed
    model: PathBuf,

    /// Picture, video, folder of pictures and videos, or float pictures as FILE.safetensors or
    /// FILE.safetensors#NAME
    ///
    /// Folders are searched with all folders in them. Videos (.mp4, .mkv, .webm, .mov, .avi, …) need
    /// GStreamer, which munit-prepare brings in; the translation has their sound, as it is where the
    /// container of OUT takes it, else encoded anew; of several tracks of sound it has the first. A tensor
    /// has the shape [N, C, H, W] and values in [-1, 1]; #NAME can be left out if the file holds one
    /// tensor.
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// Where the result goes: a picture, a video, or a folder if there are several
    ///
    /// The name says the format: .png, .jpg, .webp, .bmp or .ppm; .mp4, .mov, .mkv or .webm. In a folder every
    /// picture and every video keeps its relative name; where that asks for another format, .png or .mp4 is
    /// put behind it.
    /// Several tensors become 0.png, 1.png and so on. A single file of this name is replaced, results that
    /// are in a folder already with --replace only. Can be left out with --raw.
    #[arg(value_name = "OUT")]
    output: Option<PathBuf>,

    /// Style code: as many numbers as the model's style codes have
    ///
    /// Without any of the five style options the style is the model's own: the one named default,
    /// else the mean style of the target domain, else all zeros. UNIT models have no style.
    #[arg(
        long,
        value_name = "NUMBERS",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    style: Option<Vec<f32>>,

    /// A style of this name, of the model or kept beside it; munit-style lists them
    #[arg(long, value_name = "NAME")]
    style_name: Option<String>,

    /// Picture of the target domain whose style is taken
    #[arg(long, value_name = "FILE")]
    style_image: Option<PathBuf>,

    /// Draw the style code at random; the same number gives the same style
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = program::seed)]
    seed: Option<u64>,

    /// Translate in every named style, each into a file or folder of its name in the folder OUT;
    /// names that mean the same style, as default and another often do, give one translation
    #[arg(long, conflicts_with = "raw")]
    all_styles: bool,

    /// Replace results of these names that are in the folder already
    #[arg(long)]
    replace: bool,

    /// Put the original on the left of each translation
    #[arg(long)]
    side_by_side: bool,
    /// Make what is transparent in a picture opaque, for drawings without a ground: as if they lay on white
    #[arg(long)]
    opaque: bool,

    /// Leave the sound of a video out
    #[arg(long)]
    no_audio: bool,

    /// Translate from domain a to domain b (the default, unless the model only has b2a)
    #[arg(long, conflicts_with = "b2a")]
    a2b: bool,

    /// Translate from domain b to domain a
    #[arg(long)]
    b2a: bool,

    /// Also write the network's float output to this safetensors file
    ///
    /// fp32, [1, C, H, W] with values in [-1, 1], untouched by --strength. The tensor is called
    /// "output"; if IN is a folder of pictures, each tensor has the picture's relative path as its name; if
    /// IN is a tensor of N pictures, the output is [N, C, H, W]. Computed in fp32 without the fast
    /// path's shortcuts, with --device auto on the CPU; --precision auto is then fp32 for OUT,
    /// too. Results are held in memory until the end.
    #[arg(long, value_name = "FILE", conflicts_with = "size")]
    raw: Option<PathBuf>,

    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,

    /// Number format: auto, fp32, bf16 or fp16
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    precision: Precision,

    /// Shorter side in pixels at which the network runs; the result is scaled back [default: that of
    /// the picture]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(16..=16384))]
    size: Option<u32>,

    /// Mix with the original: 0 is the original, 1 the translation
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = fraction)]
    strength: f32,

    /// Print what was done as JSON instead of a line
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  munit-translate photo2illustration cat.jpg cat.png
  munit-translate photo2illustration cat.jpg cat.png --seed 7
  munit-translate photo2illustration cat.jpg cat.png --style-image print.png
  munit-translate photo2illustration holiday/ drawn/ --size 512
  munit-translate photo2illustration clip.mp4 drawn.mp4 --style-name violet --side-by-side
  munit-translate photo2illustration cat.jpg cats/ --all-styles
  munit-translate shoes.safetensors sketch.png shoe.png --style 0.1,-0.3,0,0,1.2,0,0,0.5
  munit-translate model.safetensors pictures.safetensors#x_a --b2a --raw output.safetensors

What is transparent in a picture is translated as if it lay on white, and stays transparent in PNG and WebP,
unless --opaque is given.
Pictures and videos of a folder that cannot be read or translated are listed and skipped. Of a video
that is damaged or cut off what can be read is translated; what is missing is told, as is sound that
cannot be kept. The exit code is 1 if nothing could be translated, a video is skipped or breaks off
before its end, or a result could not be written.";

fn fraction(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("it must be a number from 0 to 1".to_owned()),
    }
}

impl Arguments {
    fn request(self) -> anyhow::Result<Request> {
        let style = None
            .or(self.style.map(StyleChoice::Code))
            .or(self.style_name.map(StyleChoice::Name))
            .or(self.style_image.map(StyleChoice::Image))
            .or(self.seed.map(StyleChoice::Seed));
        let direction = match (self.a2b, self.b2a) {
            (true, _) => Some(Direction::A2b),
            (_, true) => Some(Direction::B2a),
            _ => None,
        };
        Ok(Request {
            model: find_model(&self.model)?,
            input: self.input,
            output: self.output,
            raw: self.raw,
            style,
            all_styles: self.all_styles,
            side_by_side: self.side_by_side,
            opaque: self.opaque,
            audio: !self.no_audio,
            replace: self.replace,
            direction,
            device: self.device,
            precision: self.precision,
            options: TranslateOptions {
                strength: self.strength,
                inference_size: self.size,
            },
        })
    }
}

fn main() -> ExitCode {
    program::run_beside_others("munit-translate", |arguments: Arguments| {
        let json = arguments.json;
        let done = translate(&arguments.request()?)?;
        program::print_line(&match json {
            true => serde_json::to_string_pretty(&done)?,
            false => done.to_string(),
        })?;
        done.require_whole()
    })
}
