//! How steady a model's translation of a clip is, and what it keeps of its content.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::{Rgb, RgbImage};
use munit::backbone::{Activations, Backbone, Wanted};
use munit::runtime::Translator;
use munit::{Direction, Family, Model, StyleCode};
use serde::Serialize;
use tch::{Kind, Tensor};

use super::Request;
use super::direction::{as_shown, save_translations, values};
use super::figure::{Figure, LeftOut, figures, left_out};
use super::frames::Frames;
use super::motion::{Motion, flicker};
use super::scores::mean;
use crate::program::counted;
use crate::report::{Progress, Sheet};
use crate::translate::picture_tensor;

/// With fewer pixels that can be seen in both frames, the clip has been cut between them.
const CUT: f64 = 0.3;
/// Frames that the sheet shows.
const SHEET_COLUMNS: usize = 6;
/// For pixels that are not compared.
const UNSEEN: Rgb<u8> = Rgb([213, 94, 0]);

/// What was found about one clip.
#[derive(Clone, Debug, Serialize)]
pub struct VideoReport {
    /// The video file, or the folder of frames.
    pub clip: PathBuf,
    /// Where the pictures were written, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<PathBuf>,
    /// Which direction.
    pub direction: Direction,
    /// Frames that were translated.
    pub frames: usize,
    /// Of a frame, in pixels.
    pub width: u32,
    /// Of a frame, in pixels.
    pub height: u32,
    /// Translations of each.
    pub styles: usize,
    /// The figures.
    pub figures: Vec<Figure>,
    /// What could not be had.
    pub left_out: Vec<LeftOut>,
    /// Each frame and its successor, but for cuts.
    pub pairs: Vec<PairFigures>,
    /// What is missing of a clip that breaks off before its end, in a sentence that names it.
    #[serde(skip)]
    pub breaks_off: Option<String>,
    /// Some frames and their translations.
    #[serde(skip)]
    pub sheet: Option<RgbImage>,
}

/// A frame and the next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairFigures {
    /// The first one's place in the clip, from 0.
    pub frame: usize,
    /// Share of pixels that can be seen in both.
    pub visible: f64,
    /// Warping error of the translations, mean over the styles.
    pub warping_error: f64,
    /// That of the clip itself.
    pub warping_error_of_clip: f64,
    /// Flicker of the translations, mean over the styles.
    pub flicker: f64,
    /// That of the clip itself.
    pub flicker_of_clip: f64,
}

/// A model that is judged by its translation of clips.
pub(super) struct VideoRun<'a> {
    pub request: &'a Request,
    pub model: &'a Model,
    pub backbones: &'a [Backbone],
    pub direction: Direction,
    pub size: u32,
}

/// A frame with its translations.
struct Seen {
    picture: RgbImage,
    /// [1, C, H, W] in [-1, 1].
    frame: Tensor,
    /// [N, C', H, W].
    translations: Tensor,
}

/// What one backbone saw of the content.
#[derive(Default)]
struct Content {
    distances: Vec<f64>,
    first: Option<Activations>,
    last: Option<Activations>,
}

impl VideoRun<'_> {
    /// Evaluates `clip`, whose pictures go into a folder called `name`.
    pub fn run(&self, clip: &Path, name: &OsStr) -> Result<VideoReport> {
        let _no_grad = tch::no_grad_guard();
        let mut frames = Frames::open(clip, self.size)?;
        let request = self.request;
        let outputs = request.outputs.as_ref();
        let outputs = outputs.map(|folder| folder.join("video").join(name));
        let mut translator = Translator::new(
            self.model,
            self.direction,
            request.device,
            request.precision,
        )?;
        let styles = match self.model.metadata.architecture.family {
            Family::Munit => request.video_styles,
            Family::Unit => 1,
        };
        let codes: Vec<StyleCode> = (0..styles as u64)
            .map(|number| {
                let seed = request.seed.wrapping_add(number);
                StyleCode::sample(seed, translator.style_dim())
            })
            .collect();
        let mut contents: Vec<Content> = Vec::new();
        contents.resize_with(self.backbones.len(), Content::default);
        let mut shown = Shown::new(request.frames);
        let mut pairs = Vec::new();
        let (mut count, mut cuts) = (0, 0);
        let mut before: Option<Seen> = None;
        let mut progress = Progress::new(0, request.frames as u64, styles as u64);
        while count < request.frames
            && let Some(picture) = frames.next_frame()?
        {
            let seen = self.translate(picture, &mut translator, &codes)?;
            if let Some(folder) = &outputs {
                save_translations(folder, count, &seen.frame, &seen.translations)?;
            }
            for (backbone, content) in self.backbones.iter().zip(&mut contents) {
                content.look(backbone, &seen)?;
            }
            let mut visible = None;
            if let Some(before) = &before {
                let motion = Motion::between(&before.picture, &seen.picture, translator.device())?;
                if motion.visible_share() < CUT {
                    cuts += 1;
                } else {
                    pairs.push(pair(count - 1, before, &seen, &motion)?);
                }
                visible = Some(motion.visible);
            }
            if let Some(before) = before.replace(seen) {
                shown.keep(count - 1, &before, visible.as_deref())?;
            }
            count += 1;
            progress.advance(count as u64);
        }
        progress.finish();
        let last = before.with_context(|| format!("{}: this clip is empty", clip.display()))?;
        ensure!(
            !pairs.is_empty(),
            "{}: there are no two frames in it that show the same; a clip of one take is needed",
            clip.display()
        );
        let (width, height) = last.picture.dimensions();
        let mut report = VideoReport {
            clip: clip.to_owned(),
            outputs,
            direction: self.direction,
            frames: count,
            width,
            height,
            styles,
            figures: steadiness(&pairs, cuts),
            left_out: Vec::new(),
            pairs,
            breaks_off: None,
            sheet: Some(shown.sheet()?),
        };
        for (backbone, content) in self.backbones.iter().zip(contents) {
            report.figures.extend(content.figure(backbone)?);
        }
        if let Some(remark) = frames.remark() {
            report.breaks_off = Some(remark.to_owned());
            report.left_out.push(LeftOut {
                what: "the rest of the clip",
                why: remark.to_owned(),
            });
        }
        if !self.backbones.iter().any(|one| one.can().content) {
            report.left_out.push(LeftOut {
                what: "content distance",
                why:
                    "it needs a --backbone; without it a model that shows nothing is the steadiest"
                        .to_owned(),
            });
        }
        Ok(report)
    }

    fn translate(
        &self,
        picture: RgbImage,
        translator: &mut Translator,
        codes: &[StyleCode],
    ) -> Result<Seen> {
        let frame = picture_tensor(&picture)?;
        let channels = self
            .model
            .metadata
            .architecture
            .channels(self.direction.source());
        let input = match channels {
            1 => {
                let luma = Tensor::f_from_slice(&[0.299f32, 0.587, 0.114])?;
                let luma = frame.f_mul(&luma.f_view([1, 3, 1, 1])?)?;
                luma.f_sum_dim_intlist(1, true, Kind::Float)?
            }
            _ => frame.shallow_clone(),
        };
        let translations = as_shown(&translator.translate_in_styles(&input, codes)?)?;
        Ok(Seen {
            picture,
            frame: frame.f_to_device(translator.device())?,
            translations,
        })
    }
}

fn pair(index: usize, before: &Seen, after: &Seen, motion: &Motion) -> Result<PairFigures> {
    let mean_of = |values: Vec<f64>| mean(values).unwrap_or_default();
    let warping = |one: &Tensor, other: &Tensor| -> Result<f64> {
        Ok(mean_of(motion.warping_error(one, other)?))
    };
    let flickers =
        |one: &Tensor, other: &Tensor| -> Result<f64> { Ok(mean_of(flicker(one, other)?)) };
    Ok(PairFigures {
        frame: index,
        visible: motion.visible_share(),
        warping_error: warping(&before.translations, &after.translations)?,
        warping_error_of_clip: warping(&before.frame, &after.frame)?,
        flicker: flickers(&before.translations, &after.translations)?,
        flicker_of_clip: flickers(&before.frame, &after.frame)?,
    })
}

fn steadiness(pairs: &[PairFigures], cuts: usize) -> Vec<Figure> {
    let all = |value: fn(&PairFigures) -> f64| -> Vec<f64> { pairs.iter().map(value).collect() };
    let clip = "the clip itself";
    let caution = match cuts {
        0 => None,
        1 => Some("without one pair of frames between which the clip is cut".to_owned()),
        cuts => Some(format!(
            "without {cuts} pairs of frames between which the clip is cut"
        )),
    };
    let warping = Figure::mean(
        "warping_error",
        "warping error",
        &all(|pair| pair.warping_error),
        "mean squared difference, for values in [0, 1], between a frame's translation and the next \
         one's along the clip's own motion, where that can be seen; lower is steadier, and lowest for \
         a model that shows nothing",
    );
    let flicker = Figure::mean(
        "flicker",
        "flicker",
        &all(|pair| pair.flicker),
        "mean absolute difference of successive translations, in steps of 8 bits; lower is steadier, \
         but what moves must change",
    );
    [
        warping.map(|figure| {
            let own = all(|pair| pair.warping_error_of_clip);
            figure.beside(clip, mean(own)).with_caution(caution)
        }),
        flicker.map(|figure| {
            let own = all(|pair| pair.flicker_of_clip);
            figure.beside(clip, mean(own)).in_unit("steps")
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Content {
    fn look(&mut self, backbone: &Backbone, seen: &Seen) -> Result<()> {
        if !backbone.can().content {
            return Ok(());
        }
        let wanted = Wanted {
            content: true,
            ..Wanted::default()
        };
        let device = backbone.device();
        let look = |pictures: &Tensor| backbone.activations(&pictures.f_to_device(device)?, wanted);
        let own = look(&seen.frame)?;
        let made = look(&seen.translations)?;
        let distances = values(&made.content_distance(&own, true)?)?;
        self.distances.extend(mean(distances));
        if self.first.is_none() {
            self.first = Some(own.select(&[0])?);
        }
        self.last = Some(own);
        Ok(())
    }

    fn figure(self, backbone: &Backbone) -> Result<Option<Figure>> {
        let figure = Figure::mean(
            "content_distance",
            "content distance",
            &self.distances,
            "perceptual distance between a frame and its translations on instance-normalised maps; \
             lower keeps more of what is shown",
        );
        let Some(figure) = figure else {
            return Ok(None);
        };
        let apart = match (&self.first, &self.last) {
            (Some(first), Some(last)) => mean(values(&last.content_distance(first, true)?)?),
            _ => None,
        };
        Ok(Some(
            figure
                .with_backbone(backbone.name())
                .beside("first and last frame", apart),
        ))
    }
}

/// Some frames for the sheet, evenly spread.
struct Shown {
    every: usize,
    frames: Vec<RgbImage>,
    compared: Vec<RgbImage>,
    translations: Vec<Tensor>,
}

impl Shown {
    fn new(frames: usize) -> Self {
        Self {
            every: frames.div_ceil(SHEET_COLUMNS).max(1),
            frames: Vec::new(),
            compared: Vec::new(),
            translations: Vec::new(),
        }
    }

    fn keep(&mut self, index: usize, seen: &Seen, visible: Option<&[bool]>) -> Result<()> {
        if !index.is_multiple_of(self.every) {
            return Ok(());
        }
        let mut compared = seen.picture.clone();
        let flags = visible.into_iter().flatten();
        for (pixel, _) in compared.pixels_mut().zip(flags).filter(|(_, seen)| !**seen) {
            *pixel = UNSEEN;
        }
        self.frames.push(seen.picture.clone());
        self.compared.push(compared);
        self.translations.push(seen.translations.f_narrow(0, 0, 1)?);
        Ok(())
    }

    fn sheet(self) -> Result<RgbImage> {
        let mut sheet = Sheet::new();
        sheet.pictures("clip", self.frames);
        if !self.translations.is_empty() {
            sheet.row("style 1", &Tensor::f_cat(&self.translations, 0)?)?;
        }
        sheet.pictures("compared", self.compared);
        Ok(sheet.render())
    }
}

impl std::fmt::Display for VideoReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        writeln!(
            formatter,
            "{} ({}): {} of {}×{} in {}",
            self.clip.display(),
            self.direction.name(),
            counted(self.frames as u64, "frame"),
            self.width,
            self.height,
            counted(self.styles as u64, "style")
        )?;
        figures(formatter, &self.figures)?;
        left_out(formatter, &self.left_out)
    }
}
