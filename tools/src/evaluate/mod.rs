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

use std::ffi::OsString;
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
pub use pictures::Pictures;
use pictures::Told;
use video::VideoRun;
pub use video::{PairFigures, VideoReport};

use crate::info::file_hash;
use crate::program::sentence_about;
use crate::video::stopped_early;

/// The side of pictures if a model does not say at which it was trained.
const USUAL_SIZE: u32 = 256;

/// What `munit-evaluate` is asked to do.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model file.
    pub model: PathBuf,
    /// The pictures; `None`: only clips.
    pub pictures: Option<Pictures>,
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
    /// Its SHA-256, by which the same model is known under another name.
    pub sha256: String,
    /// Iterations that it was trained for, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u64>,
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
    /// Why others could not be measured, in sentences that name them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmeasured: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl Evaluation {
    /// What to keep in mind about the pictures, once for all directions: what is an input in the one is
    /// compared with in the other.
    fn cautions(&self) -> Vec<&str> {
        let mut cautions: Vec<&str> = Vec::new();
        for caution in self.directions.iter().flat_map(|report| &report.cautions) {
            if !cautions.contains(&caution.as_str()) {
                cautions.push(caution);
            }
        }
        cautions
    }

    /// What was measured of a clip that breaks off is good, and so is what was measured beside one that cannot
    /// be read, but whoever relies on all of it is to know.
    ///
    /// # Errors
    /// A sentence that says what is missing of clips.
    pub fn require_whole(&self) -> Result<()> {
        let missing = self
            .videos
            .iter()
            .filter_map(|one| one.breaks_off.as_deref());
        let missing = missing.map(stopped_early);
        let missing: Vec<String> = self.unmeasured.iter().cloned().chain(missing).collect();
        ensure!(missing.is_empty(), "{}", missing.join("; "));
        Ok(())
    }
}

/// Computes every figure that can be had from what is given.
///
/// # Errors
/// A sentence: a model, a backbone or pictures that cannot be read, a direction that is not there.
pub fn evaluate(request: &Request) -> Result<Evaluation> {
    let begin = Instant::now();
    let model = Model::read(&request.model)?;
    let (_, sha256) = file_hash(&request.model)?;
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
        request.pictures.is_some() || !request.clips.is_empty(),
        "give a folder of pictures, --video or both"
    );
    let (mut videos, mut unmeasured) = (Vec::new(), Vec::new());
    if let Some(&direction) = directions.first() {
        let run = VideoRun {
            request,
            model: &model,
            backbones: &backbones,
            direction,
            size,
        };
        let names = clip_names(&request.clips);
        for (clip, name) in request.clips.iter().zip(&names) {
            match run.run(clip, name) {
                Ok(report) => videos.push(report),
                Err(error) => unmeasured.push(sentence_about(clip, &error)),
            }
        }
    }
    ensure!(
        request.pictures.is_some() || !videos.is_empty(),
        "{}",
        unmeasured.join("; ")
    );
    let told = Told::default();
    let directions = match &request.pictures {
        Some(pictures) => directions
            .into_iter()
            .map(|direction| {
                let run = DirectionRun {
                    request,
                    model: &model,
                    backbones: &backbones,
                    direction,
                    size: size as usize,
                    told: &told,
                };
                run.run(pictures)
            })
            .collect::<Result<_>>()?,
        None => Vec::new(),
    };
    Ok(Evaluation {
        model: request.model.clone(),
        sha256,
        iterations: Some(model.metadata.iterations).filter(|iterations| *iterations > 0),
        size,
        seed: request.seed,
        precision: precision.to_string(),
        directions,
        videos,
        unmeasured,
        seconds: begin.elapsed().as_secs_f64(),
    })
}

/// Names of folders for the pictures of clips: their own without extensions, numbered where several
/// have the same.
fn clip_names(clips: &[PathBuf]) -> Vec<OsString> {
    let mut names: Vec<OsString> = Vec::new();
    for clip in clips {
        let stem = clip.file_stem().unwrap_or(clip.as_os_str());
        let mut name = stem.to_owned();
        let mut number = 1;
        while names.contains(&name) {
            number += 1;
            name = stem.to_owned();
            name.push(format!("-{number}"));
        }
        names.push(name);
    }
    names
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
        if let Some(iterations) = self.iterations {
            write!(formatter, ", {iterations} iterations")?;
        }
        writeln!(
            formatter,
            ", {} pixels, {}, {:.0} s",
            self.size, self.precision, self.seconds
        )?;
        for caution in self.cautions() {
            writeln!(formatter, "caution: {caution}")?;
        }
        writeln!(formatter)?;
        let directions = self.directions.iter().map(ToString::to_string);
        let videos = self.videos.iter().map(ToString::to_string);
        let parts: Vec<String> = directions.chain(videos).collect();
        formatter.write_str(&parts.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_of_one_name_get_folders_of_their_own() {
        let clips = [
            "a/street.mp4",
            "street-2",
            "b/street.mkv",
            "c/street",
            "walk.mp4",
        ];
        assert_eq!(
            clip_names(&clips.map(PathBuf::from)),
            ["street", "street-2", "street-3", "street-4", "walk"]
        );
    }
}
