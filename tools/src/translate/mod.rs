//! Translates pictures: one, a folder of them, the frames of a video, or float tensors from a file.

mod exact;
mod input;
mod output;
pub mod picture;
mod style;

use std::collections::BTreeSet;
use std::fmt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use image::{GrayImage, RgbImage};
use indicatif::{ProgressBar, ProgressStyle};
use munit::runtime::{DeviceChoice, Precision, TranslateOptions, Translator};
use munit::{Direction, Model, ModelMetadata, StyleCode, style_file};
use serde::Serialize;

use crate::data::{is_picture, tensor_to_rgb};
use crate::named_styles::own_styles;
use crate::program::{counted, sentence, sentence_about, tell};
use crate::report::Progress;
use crate::result_file::refuse_existing;
use crate::video::{
    Carried, Frame, FrameFormat, VideoReader, VideoWriter, has_video_name, stopped_early,
};
pub use exact::{ExactTranslator, exact_generator, picture_tensor};
use input::{Folder, numbered_result};
pub use input::{Input, refuse_to_replace};
pub use output::{RAW_NAME, RawOutput, save_picture};
use picture::{open, open_with_alpha};
pub use style::StyleChoice;

/// Pictures that wait between reading, translating and writing.
const PICTURES_IN_FLIGHT: usize = 2;

const NO_RAW_VIDEO: &str = "the float output of a video would not fit into memory; leave --raw out, or \
                            cut the video into pictures (munit-prepare frames)";

/// What `munit-translate` is asked to do.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model file.
    pub model: PathBuf,
    /// A picture, a video, a folder of them, or `FILE.safetensors` with or without `#NAME`.
    pub input: PathBuf,
    /// Where the translated picture or video goes; a folder where there are several. `None`: nowhere.
    pub output: Option<PathBuf>,
    /// A safetensors file for the network's float output.
    pub raw: Option<PathBuf>,
    /// The look of the translation; `None`: the model's mean style, or zeros if it has none.
    pub style: Option<StyleChoice>,
    /// In every named style instead, each into a file or folder of its name in `output`.
    pub all_styles: bool,
    /// Puts the original on the left of each translation.
    pub side_by_side: bool,
    /// Whether what is transparent in a picture becomes opaque: as if it lay on white.
    pub opaque: bool,
    /// Gives a translated video the sound of the original.
    pub audio: bool,
    /// Replaces results of the same names that are in a folder already. A single file that `output`
    /// names is replaced in any case.
    pub replace: bool,
    /// `None`: the first direction that the model has.
    pub direction: Option<Direction>,
    /// Where to compute.
    pub device: DeviceChoice,
    /// In which number format to compute.
    pub precision: Precision,
    /// Strength and inference size.
    pub options: TranslateOptions,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct Translated {
    /// The picture or video, or the folder of results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// The file of float output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<PathBuf>,
    /// From which domain to which.
    pub direction: Direction,
    /// The style code; empty for a model without styles, `None` where there were several styles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub style: Option<Vec<f32>>,
    /// The names of the styles, each with a result of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub styles: Vec<String>,
    /// What was translated, in each style.
    #[serde(flatten)]
    pub work: Work,
    /// How long it took.
    pub seconds: f64,
}

/// What was translated.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Work {
    /// One picture, of this size in pixels.
    Picture {
        /// Across.
        width: u32,
        /// Down.
        height: u32,
    },
    /// A video.
    Video(Video),
    /// A folder.
    Folder {
        /// Pictures that were translated.
        translated: u64,
        /// Videos that were translated.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        videos: Vec<VideoFile>,
        /// Pictures and videos that could not be.
        skipped: Vec<LeftOut>,
    },
    /// Float pictures of this shape, [N, C, H, W].
    Tensor {
        /// The shape.
        shape: Vec<i64>,
    },
}

/// What was translated of a video.
#[derive(Clone, Debug, Serialize)]
pub struct Video {
    /// Frames.
    pub frames: u64,
    /// Of a frame, in pixels.
    pub width: u32,
    /// Of a frame, in pixels.
    pub height: u32,
    /// How the sound of the original gets into the translation.
    pub audio: Carried,
    /// What is not as it should be, in sentences.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub problems: BTreeSet<String>,
    /// That of them which says what is missing of a video that breaks off.
    #[serde(skip)]
    pub breaks_off: Option<String>,
}

/// A video of a folder.
#[derive(Clone, Debug, Serialize)]
pub struct VideoFile {
    /// Its file.
    pub file: PathBuf,
    /// What was translated of it.
    #[serde(flatten)]
    pub video: Video,
}

/// A picture or a video that could not be translated.
#[derive(Clone, Debug, Serialize)]
pub struct LeftOut {
    /// Its file.
    pub file: PathBuf,
    /// What is wrong, in a sentence that names it.
    pub reason: String,
}

/// So many pictures and videos in words; videos only where there are any, pictures where there are any or
/// nothing else.
fn files(pictures: u64, videos: u64) -> String {
    match (pictures, videos) {
        (_, 0) => counted(pictures, "picture"),
        (0, _) => counted(videos, "video"),
        _ => format!(
            "{}, {}",
            counted(pictures, "picture"),
            counted(videos, "video")
        ),
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Picture { width, height } => write!(f, "{width}×{height}"),
            Self::Video(Video {
                frames,
                width,
                height,
                audio,
                ..
            }) => {
                write!(f, "{} of {width}×{height}", counted(*frames, "frame"))?;
                match audio {
                    Carried::Copied | Carried::Encoded => f.write_str(" with sound"),
                    Carried::Nothing | Carried::LeftOut => Ok(()),
                }
            }
            Self::Folder {
                translated,
                videos,
                skipped,
            } => {
                f.write_str(&files(*translated, videos.len() as u64))?;
                match skipped.len() {
                    0 => Ok(()),
                    skipped => write!(f, ", {skipped} skipped"),
                }
            }
            Self::Tensor { shape } => write!(f, "{shape:?}"),
        }
    }
}

impl fmt::Display for Translated {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if let Some(place) = self.output.as_ref().or(self.raw.as_ref()) {
            write!(f, "{}  ", place.display())?;
        }
        write!(f, "{}", self.work)?;
        if !self.styles.is_empty() {
            write!(f, " in {}", counted(self.styles.len() as u64, "style"))?;
        }
        write!(f, "  {}", self.direction.name())?;
        match self.style.as_deref() {
            None | Some([]) => Ok(()),
            Some(style) => {
                let numbers: Vec<String> = style.iter().map(f32::to_string).collect();
                write!(f, "  --style {}", numbers.join(","))
            }
        }
    }
}

impl Translated {
    /// The translation of a video that breaks off is good, and so are those beside a video that is broken,
    /// but whoever relies on all of it is to know.
    ///
    /// # Errors
    /// A sentence that says what is missing of videos, and names those of a folder that are missing.
    pub fn require_whole(&self) -> Result<()> {
        let (videos, skipped): (Vec<&Video>, &[LeftOut]) = match &self.work {
            Work::Video(video) => (vec![video], &[]),
            Work::Folder {
                videos, skipped, ..
            } => (videos.iter().map(|one| &one.video).collect(), skipped),
            Work::Picture { .. } | Work::Tensor { .. } => return Ok(()),
        };
        let broken = skipped.iter().map(|one| &one.file);
        let broken = broken
            .filter(|file| has_video_name(file))
            .map(|file| format!("{}: could not be translated", file.display()));
        let missing = videos
            .iter()
            .filter_map(|video| video.breaks_off.as_deref());
        let missing = missing.map(stopped_early);
        let problems: Vec<String> = broken.chain(missing).collect();
        ensure!(problems.is_empty(), "{}", problems.join("; "));
        Ok(())
    }
}

/// Does what is asked for and says what was done. Pictures that cannot be translated are listed on
/// standard error and skipped.
///
/// # Errors
/// A sentence, if not a single picture could be translated, if a result cannot be written, if
/// the model, the style or an option does not fit.
pub fn translate(request: &Request) -> Result<Translated> {
    let begin = Instant::now();
    ensure!(
        request.output.is_some() || request.raw.is_some(),
        "say where the result goes: give OUT, --raw FILE or both"
    );
    let mut input = Input::find(&request.input)?;
    if let (Input::Picture(path), Some(output)) = (&input, &request.output)
        && has_video_name(output)
        && !request.all_styles
    {
        // The result's name tells what an input is that neither its name nor its content tells of.
        ensure!(
            !is_picture(path),
            "{}: this names a video, but {} is a picture; end it in .png, .jpg, .webp, .bmp or .ppm",
            output.display(),
            path.display()
        );
        input = Input::Video(path.clone());
    }
    if let Some(raw) = &request.raw {
        refuse_to_replace(raw, &[&request.model, &input::file(&request.input)])?;
    }
    match &request.output {
        Some(output) if request.all_styles => {
            let is_file_name = output::has_picture_name(output) || has_video_name(output);
            ensure!(
                output.is_dir() || !(output.exists() || is_file_name),
                "{}: this names a file; translations in several styles go into a folder",
                output.display()
            );
        }
        Some(output) => {
            input.check_output(output)?;
            if !input.is_single() && !request.replace {
                refuse_existing(input.results(output).into_iter())?;
            }
        }
        None => ensure!(
            !request.all_styles && !request.side_by_side,
            "--all-styles and --side-by-side make pictures; give OUT"
        ),
    }
    match input {
        Input::Tensor(_) => ensure!(
            request.options == TranslateOptions::default() && !request.side_by_side,
            "tensors are translated as they are; leave --size, --strength and --side-by-side out"
        ),
        Input::Video(_) => ensure!(request.raw.is_none(), "{NO_RAW_VIDEO}"),
        Input::Folder(Folder { ref videos, .. }) => {
            if let (Some(video), Some(_)) = (videos.first(), &request.raw) {
                bail!("{}: {NO_RAW_VIDEO}", video.display());
            }
        }
        Input::Picture(_) => {}
    }
    let mut model = Model::read(&request.model)?;
    match own_styles(&request.model, &model.metadata) {
        Ok(own) => model.metadata.styles.extend(own),
        Err(error) => eprintln!("munit-translate: {error}; going on without these styles"),
    }
    let direction = chosen_direction(&model.metadata, &request.model, request.direction)?;
    let mut job = Job::new(request, &model, direction, &input)?;
    if request.all_styles {
        let (styles, work) = job.all_styles(&input, &model, direction)?;
        return Ok(Translated {
            output: request.output.clone(),
            raw: None,
            direction,
            style: None,
            styles,
            work,
            seconds: begin.elapsed().as_secs_f64(),
        });
    }
    job.style = style::resolve(request.style.as_ref(), &model, direction, |path| {
        job.encode_style(path)
    })?;
    let work = job.work(&input)?;
    if let Some(path) = &request.raw {
        job.raw.save(path)?;
    }
    Ok(Translated {
        output: request.output.clone(),
        raw: request.raw.clone(),
        direction,
        style: Some(job.style.values().to_vec()),
        styles: Vec::new(),
        work,
        seconds: begin.elapsed().as_secs_f64(),
    })
}

/// The direction that is asked for, or the first that the model at `path` has.
///
/// # Errors
/// A sentence, if the model does not translate in it.
pub fn chosen_direction(
    metadata: &ModelMetadata,
    path: &Path,
    wanted: Option<Direction>,
) -> Result<Direction> {
    let present = &metadata.directions;
    match wanted {
        Some(direction) if !present.contains(&direction) => bail!(
            "{}: this model translates {} only; leave --{} out",
            path.display(),
            present
                .iter()
                .map(|one| one.name())
                .collect::<Vec<_>>()
                .join(" and "),
            direction.name()
        ),
        Some(direction) => Ok(direction),
        None => present
            .first()
            .copied()
            .with_context(|| format!("{}: this model has no direction", path.display())),
    }
}

struct Job<'a> {
    request: &'a Request,
    /// Where the translations go.
    output: Option<PathBuf>,
    style: StyleCode,
    /// Makes the pictures, if any are wanted, and takes the style of an example picture.
    fast: Option<Translator>,
    /// Makes the float output, if it is wanted, and everything from tensors.
    exact: Option<ExactTranslator>,
    raw: RawOutput,
    /// What has been told to be wrong with files.
    told: BTreeSet<String>,
}

impl<'a> Job<'a> {
    fn new(
        request: &'a Request,
        model: &Model,
        direction: Direction,
        input: &Input,
    ) -> Result<Self> {
        let from_tensor = matches!(input, Input::Tensor(_));
        let from_example = matches!(request.style, Some(StyleChoice::Image(_)));
        let wants_pictures = request.output.is_some() && !from_tensor;
        let wants_exact = request.raw.is_some() || from_tensor;
        let precision = match request.precision {
            Precision::Auto if wants_exact => Precision::Fp32,
            precision => precision,
        };
        let device = request.device;
        Ok(Self {
            request,
            output: request.output.clone(),
            style: StyleCode::default(),
            fast: (wants_pictures || from_example)
                .then(|| Translator::new(model, direction, device, precision))
                .transpose()?,
            exact: wants_exact
                .then(|| ExactTranslator::new(model, direction, device))
                .transpose()?,
            raw: RawOutput::default(),
            told: BTreeSet::new(),
        })
    }

    fn encode_style(&mut self, path: &Path) -> Result<StyleCode> {
        let picture = open(path)?;
        let fast = self.fast.as_mut().context("no translator for this style")?;
        picture::encoded_style(fast, &picture)
            .with_context(|| format!("{}: cannot take its style", path.display()))
    }

    fn work(&mut self, input: &Input) -> Result<Work> {
        match input {
            Input::Picture(path) => self.picture(path),
            Input::Video(path) => {
                let output = self.output.clone().context("no file for the video")?;
                Ok(Work::Video(self.video(path, &output)?))
            }
            Input::Tensor(tensors) => self.tensors(tensors),
            Input::Folder(folder) => self.folder(folder),
        }
    }

    /// The same in every named style of the target domain, each code once; gives their names.
    fn all_styles(
        &mut self,
        input: &Input,
        model: &Model,
        direction: Direction,
    ) -> Result<(Vec<String>, Work)> {
        let styles = style::named(model, direction)?;
        let folder = self.output.clone().context("no folder for the styles")?;
        let outputs = styles
            .iter()
            .map(|(name, _)| {
                let output = input.output_in_style(&folder, name)?;
                input.check_output(&output)?;
                Ok(output)
            })
            .collect::<Result<Vec<_>>>()?;
        for ((name, _), output) in styles.iter().zip(&outputs) {
            if style_file::check_new_name(name).is_err() {
                self.tell_once(Some(&format!(
                    "the style {name:?} cannot be a file's name; what is translated in it goes to {}",
                    output.display()
                )));
            }
        }
        if !self.request.replace {
            refuse_existing(outputs.iter().flat_map(|output| input.results(output)))?;
        }
        let mut names = Vec::new();
        let mut work = None;
        for ((name, code), output) in styles.into_iter().zip(outputs) {
            self.style = code;
            self.output = Some(output);
            work = Some(self.work(input)?);
            names.push(name);
        }
        Ok((names, work.context("no styles")?))
    }

    /// Decoding and encoding are done by programs of their own, at the same time.
    fn video(&mut self, path: &Path, output: &Path) -> Result<Video> {
        let mut reader = VideoReader::open(path)?;
        let format = reader.format();
        let width = match self.request.side_by_side {
            true => 2 * format.width,
            false => format.width,
        };
        let audio_of = self.request.audio.then_some(path);
        let mut writer = VideoWriter::create(output, FrameFormat { width, ..format }, audio_of)?;
        // Before an hour of work is done for it.
        let expected = writer.audio().problem.clone();
        self.tell_once(expected.as_deref());
        let bar = ProgressBar::no_length().with_style(ProgressStyle::with_template(
            "{spinner} {pos} frames, {per_sec}  {msg}",
        )?);
        bar.set_message(path.display().to_string());
        while let Some(frame) = reader.next_frame()? {
            let translated = self
                .translate(&frame.picture, RAW_NAME)
                .with_context(|| format!("{}: cannot translate", path.display()))?;
            let picture = translated.context("no translator for a video")?;
            writer.write(&Frame { picture, ..frame })?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        let audio = writer.finish()?;
        self.tell_once(audio.problem.as_deref());
        let breaks_off = reader.remark().map(str::to_owned);
        let problems = [expected, audio.problem, breaks_off.clone()];
        Ok(Video {
            frames: bar.position(),
            width: format.width,
            height: format.height,
            audio: audio.carried,
            problems: problems.into_iter().flatten().collect(),
            breaks_off,
        })
    }

    /// Tells what is wrong with a file, once for all styles.
    fn tell_once(&mut self, problem: Option<&str>) {
        if let Some(problem) = problem
            && self.told.insert(problem.to_owned())
        {
            tell(&format!("munit-translate: {problem}"));
        }
    }

    fn picture(&mut self, path: &Path) -> Result<Work> {
        let (picture, alpha) = open_with_alpha(path)?;
        let alpha = alpha.filter(|_| !self.request.opaque);
        let translated = self
            .translate(&picture, RAW_NAME)
            .with_context(|| format!("{}: cannot translate", path.display()))?;
        if let (Some(output), Some(translated)) = (&self.output, translated) {
            output::save_translation(output, &translated, alpha.as_ref())?;
        }
        let (width, height) = picture.dimensions();
        Ok(Work::Picture { width, height })
    }

    /// The translated picture, if pictures are wanted; the float output, if that is wanted, is
    /// kept as `name`.
    fn translate(&mut self, picture: &RgbImage, name: &str) -> Result<Option<RgbImage>> {
        if let Some(exact) = &self.exact {
            let raw = exact.translate(&picture_tensor(picture)?, &self.style)?;
            self.raw.add(name, &raw)?;
        }
        let Some(fast) = &mut self.fast else {
            return Ok(None);
        };
        let options = &self.request.options;
        let translated = picture::translated(fast, picture, &self.style, options)?;
        Ok(Some(match self.request.side_by_side {
            true => picture::side_by_side(picture, &translated),
            false => translated,
        }))
    }

    /// Translates pictures [N, C, H, W], one after the other as there may be many.
    fn tensors(&mut self, pictures: &tch::Tensor) -> Result<Work> {
        let exact = self.exact.as_ref().context("no translator for tensors")?;
        let count = pictures.size()[0];
        let mut translations = Vec::new();
        for index in 0..count {
            let translated = exact
                .translate(&pictures.f_narrow(0, index, 1)?, &self.style)
                .with_context(|| format!("{}: cannot translate", self.request.input.display()))?;
            if let Some(output) = &self.output {
                let path = match count {
                    1 => output.clone(),
                    _ => numbered_result(output, index),
                };
                output::save_picture(&path, &tensor_to_rgb(&translated)?)?;
            }
            translations.push(translated);
        }
        self.raw
            .add(RAW_NAME, &tch::Tensor::f_cat(&translations, 0)?)?;
        Ok(Work::Tensor {
            shape: pictures.size(),
        })
    }

    fn folder(&mut self, folder: &Folder) -> Result<Work> {
        let mut skipped = self.pictures(folder)?;
        let translated = folder.pictures.len() - skipped.len();
        let mut videos = Vec::new();
        for file in &folder.videos {
            let output = self.output.as_ref().context("no folder for the videos")?;
            let output = folder.result(output, file);
            let file = file.clone();
            match self.video(&file, &output) {
                Ok(video) => videos.push(VideoFile { file, video }),
                Err(error) => {
                    let reason = sentence_about(&file, &error);
                    tell(&format!("skipped {reason}"));
                    skipped.push(LeftOut { file, reason });
                }
            }
        }
        ensure!(
            translated + videos.len() > 0,
            "{}: nothing in it could be translated, of {}",
            folder.root.display(),
            files(folder.pictures.len() as u64, folder.videos.len() as u64)
        );
        Ok(Work::Folder {
            translated: translated as u64,
            videos,
            skipped,
        })
    }

    /// Translates the pictures of a folder; gives those that could not be.
    ///
    /// They are read ahead and written behind on threads of their own: the network does not wait for
    /// files.
    fn pictures(&mut self, folder: &Folder) -> Result<Vec<LeftOut>> {
        let mut skipped = Vec::new();
        if folder.pictures.is_empty() {
            return Ok(skipped);
        }
        let output_folder = self.output.clone();
        let mut progress = Progress::new(0, folder.pictures.len() as u64, 1);
        let (read_sender, read) = sync_channel(PICTURES_IN_FLIGHT);
        let (write_sender, to_write) =
            sync_channel::<(PathBuf, RgbImage, Option<GrayImage>)>(PICTURES_IN_FLIGHT);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut paths = folder.pictures.iter();
                paths.try_for_each(|path| read_sender.send((path, open_with_alpha(path))))
            });
            let writer = scope.spawn(move || {
                let mut pictures = to_write.iter();
                pictures.try_for_each(|(path, picture, alpha)| {
                    output::save_translation(&path, &picture, alpha.as_ref())
                })
            });
            for (done, (path, picture)) in (1..).zip(read) {
                let relative = path.strip_prefix(&folder.root).unwrap_or(path);
                let name = relative.to_string_lossy();
                let translated = picture.and_then(|(picture, alpha)| {
                    let translated = self
                        .translate(&picture, &name)
                        .with_context(|| format!("{}: cannot translate", path.display()))?;
                    let alpha = alpha.filter(|_| !self.request.opaque);
                    Ok(translated.map(|translated| (translated, alpha)))
                });
                match (translated, &output_folder) {
                    (Ok(Some((picture, alpha))), Some(output)) => {
                        let output = folder.result(output, path);
                        if write_sender.send((output, picture, alpha)).is_err() {
                            // The writer has failed and says why below.
                            break;
                        }
                    }
                    (Ok(_), _) => {}
                    (Err(error), _) => {
                        let reason = sentence(&error);
                        progress.log_line(&format!("skipped {reason}"));
                        let file = path.clone();
                        skipped.push(LeftOut { file, reason });
                    }
                }
                progress.advance(done);
            }
            drop(write_sender);
            progress.finish();
            writer.join().unwrap_or_else(|panic| resume_unwind(panic))
        })?;
        Ok(skipped)
    }
}
