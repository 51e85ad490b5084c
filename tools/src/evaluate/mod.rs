//! Figures about a model: how various its translations are, how close to the real thing, and how much
//! of their inputs they keep.

mod direction;
pub mod figure;
mod flow;
mod frames;
mod frechet;
mod kernel;
mod motion;
mod page;
mod pairs;
mod pictures;
mod scores;
mod video;

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use munit::backbone::Backbone;
use munit::picture_file::MINIMUM_SIDE;
use munit::runtime::{DeviceChoice, Precision};
use munit::{Direction, Model};
use serde::Serialize;

use direction::DirectionRun;
use figure::DirectionReport;
pub use frechet::frechet_distance;
pub use kernel::kernel_distance;
pub use motion::Motion;
pub use page::{evaluation_page, pairs_page, write_page};
pub use pairs::{PairsReport, PairsRequest, evaluate_pairs};
use video::VideoRun;
pub use video::{PairFigures, VideoReport};

/// The side of pictures if a model does not say at which it was trained.
const USUAL_SIZE: u32 = 256;

/// What `munit-evaluate` is asked to do.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model file.
    pub model: PathBuf,
    /// A folder with `testA` and `testB`; `None`: only clips.
    pub data: Option<PathBuf>,
    /// Video files, or folders of frames, of the source domain.
    pub clips: Vec<PathBuf>,
    /// Frames of each clip, at most.
    pub frames: usize,
    /// Translations of each frame.
    pub video_styles: usize,
    /// Feature networks; each gives the figures that it can.
    pub backbones: Vec<PathBuf>,
    /// `None`: every direction that the model has, but for clips the first.
    pub direction: Option<Direction>,
    /// Pictures that are translated, at most.
    pub inputs: usize,
    /// Translations of each.
    pub styles: usize,
    /// Real pictures of the target domain to compare with, at most.
    pub real: usize,
    /// Side of the square pictures; `None`: the one that the model was trained at.
    pub size: Option<u32>,
    /// Styles are drawn from this number on.
    pub seed: u64,
    /// Where to compute.
    pub device: DeviceChoice,
    /// In which number format to translate.
    pub precision: Precision,
    /// A folder for the pictures that the figures are computed from.
    pub outputs: Option<PathBuf>,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// The model file.
    pub model: PathBuf,
    /// The folder of pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Side of the pictures.
    pub size: u32,
    /// The first style's number.
    pub seed: u64,
    /// Number format of the translations.
    pub precision: String,
    /// Each direction.
    pub directions: Vec<DirectionReport>,
    /// Each clip.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub videos: Vec<VideoReport>,
    /// How long it took.
    pub seconds: f64,
}

/// Computes every figure that can be had from what is given.
///
/// # Errors
/// A sentence: a model, a backbone or pictures that cannot be read, a direction that is not there.
pub fn evaluate(request: &Request) -> Result<Evaluation> {
    let begin = Instant::now();
    let model = Model::read(&request.model)?;
    let device = request.device.resolve()?;
    let precision = request.precision.resolve(device)?;
    let backbones = request
        .backbones
        .iter()
        .map(|path| Ok(Backbone::read(path, device)?))
        .collect::<Result<Vec<_>>>()?;
    let directions: Vec<Direction> = match request.direction {
        Some(direction) => {
            ensure!(
                model.has(direction),
                "{}: this model does not translate {}; leave --{0} out",
                request.model.display(),
                direction.name()
            );
            vec![direction]
        }
        None => model.metadata.directions.clone(),
    };
    let size = usable_size(&model, request.size);
    ensure!(
        request.data.is_some() || !request.clips.is_empty(),
        "give a folder of pictures, --video or both"
    );
    let videos = match directions.first() {
        Some(&direction) => {
            let run = VideoRun {
                request,
                model: &model,
                backbones: &backbones,
                direction,
                size,
            };
            let clips = request.clips.iter();
            clips.map(|clip| run.run(clip)).collect::<Result<_>>()?
        }
        None => Vec::new(),
    };
    let directions = match &request.data {
        Some(data) => directions
            .into_iter()
            .map(|direction| {
                let run = DirectionRun {
                    request,
                    model: &model,
                    backbones: &backbones,
                    direction,
                    size: size as usize,
                };
                run.run(data)
            })
            .collect::<Result<_>>()?,
        None => Vec::new(),
    };
    Ok(Evaluation {
        model: request.model.clone(),
        data: request.data.clone(),
        size,
        seed: request.seed,
        precision: precision.to_string(),
        directions,
        videos,
        seconds: begin.elapsed().as_secs_f64(),
    })
}

/// The side that is asked for, or the usual one, made a multiple of what the network divides by: its
/// codes then cover just the picture.
fn usable_size(model: &Model, wanted: Option<u32>) -> u32 {
    let architecture = &model.metadata.architecture;
    let size = wanted.or(model.metadata.recommended_size);
    let stride = architecture.stride() as u32;
    let least = (architecture.smallest_side() as u32).max(MINIMUM_SIDE);
    let whole = size.unwrap_or(USUAL_SIZE) / stride * stride;
    whole.max(least.next_multiple_of(stride))
}

impl fmt::Display for Evaluation {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}", self.model.display())?;
        if let Some(data) = &self.data {
            write!(formatter, " on {}", data.display())?;
        }
        writeln!(
            formatter,
            ", {} pixels, {}, {:.0} s\n",
            self.size, self.precision, self.seconds
        )?;
        let directions = self.directions.iter().map(ToString::to_string);
        let videos = self.videos.iter().map(ToString::to_string);
        let parts: Vec<String> = directions.chain(videos).collect();
        formatter.write_str(&parts.join("\n"))
    }
}
