//! Translates pictures: one, a folder of them, the frames of a video, or float tensors from a file.

mod exact;
mod input;
mod output;
pub mod picture;
mod style;

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use indicatif::{ProgressBar, ProgressStyle};
use munit::runtime::{DeviceChoice, Precision, TranslateOptions, Translator};
use munit::{Direction, Model, ModelMetadata, StyleCode};

use crate::data::tensor_to_rgb;
use crate::named_styles::own_styles;
use crate::program::sentence;
use crate::report::Progress;
use crate::video::{Frame, FrameFormat, VideoReader, VideoWriter};
pub use exact::{ExactTranslator, exact_generator, picture_tensor};
pub use input::{Input, refuse_to_replace};
pub use output::{RAW_NAME, RawOutput, save_picture};
use picture::open;
pub use style::StyleChoice;

/// Pictures that wait between reading, translating and writing.
const PICTURES_IN_FLIGHT: usize = 2;

/// What `munit-translate` is asked to do.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model file.
    pub model: PathBuf,
    /// A picture, a video, a folder of pictures, or `FILE.safetensors` with or without `#NAME`.
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
    /// `None`: the first direction that the model has.
    pub direction: Option<Direction>,
    /// Where to compute.
    pub device: DeviceChoice,
    /// In which number format to compute.
    pub precision: Precision,
    /// Strength and inference size.
    pub options: TranslateOptions,
}

/// Does what is asked for and returns a line that says what was done. Pictures that cannot be
/// translated are listed on standard error and skipped.
///
/// # Errors
/// A sentence, if not a single picture could be translated, if a result cannot be written, if
/// the model, the style or an option does not fit.
pub fn translate(request: &Request) -> Result<String> {
    ensure!(
        request.output.is_some() || request.raw.is_some(),
        "say where the result goes: give OUT, --raw FILE or both"
    );
    let input = Input::find(&request.input)?;
    if let Some(raw) = &request.raw {
        refuse_to_replace(raw, &[&request.model, &input::file(&request.input)])?;
    }
    match &request.output {
        Some(output) if request.all_styles => ensure!(
            !output.is_file(),
            "{}: this is a file; translations in several styles go into a folder",
            output.display()
        ),
        Some(output) => input.check_output(output)?,
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
        Input::Video(_) => ensure!(
            request.raw.is_none(),
            "the float output of a video would not fit into memory; leave --raw out, or cut the video \
             into pictures (munit-prepare frames)"
        ),
        _ => {}
    }
    let mut model = Model::read(&request.model)?;
    match own_styles(&request.model, &model.metadata) {
        Ok(own) => model.metadata.styles.extend(own),
        Err(error) => eprintln!("munit-translate: {error}; going on without these styles"),
    }
    let direction = chosen_direction(&model.metadata, &request.model, request.direction)?;
    let mut job = Job::new(request, &model, direction, &input)?;
    if request.all_styles {
        return job.all_styles(&input, &model, direction);
    }
    job.style = style::resolve(request.style.as_ref(), &model, direction, |path| {
        job.encode_style(path)
    })?;
    let done = job.work(&input)?;
    if let Some(path) = &request.raw {
        job.raw.save(path)?;
    }
    let place = request.output.as_ref().or(request.raw.as_ref());
    let place = place.unwrap_or(&request.input).display();
    let mut summary = format!("{place}  {done}  {}", direction.name());
    if !job.style.values().is_empty() {
        let numbers: Vec<String> = job.style.values().iter().map(f32::to_string).collect();
        summary += &format!("  --style {}", numbers.join(","));
    }
    Ok(summary)
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
        })
    }

    fn encode_style(&mut self, path: &Path) -> Result<StyleCode> {
        let picture = open(path)?;
        let fast = self.fast.as_mut().context("no translator for this style")?;
        picture::encoded_style(fast, &picture)
            .with_context(|| format!("{}: cannot take its style", path.display()))
    }

    fn work(&mut self, input: &Input) -> Result<String> {
        match input {
            Input::Picture(path) => self.picture(path),
            Input::Video(path) => self.video(path),
            Input::Tensor(tensors) => self.tensors(tensors),
            Input::Folder { root, pictures } => self.folder(root, pictures),
        }
    }

    /// The same in every named style of the target domain.
    fn all_styles(&mut self, input: &Input, model: &Model, direction: Direction) -> Result<String> {
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
        let mut done = String::new();
        let count = styles.len();
        for ((_, code), output) in styles.into_iter().zip(outputs) {
            self.style = code;
            self.output = Some(output);
            done = self.work(input)?;
        }
        Ok(format!(
            "{}  {done} in {count} styles  {}",
            folder.display(),
            direction.name()
        ))
    }

    /// Decoding and encoding are done by programs of their own, at the same time.
    fn video(&mut self, path: &Path) -> Result<String> {
        let output = self.output.clone().context("no file for the video")?;
        let mut reader = VideoReader::open(path)?;
        let format = reader.format();
        let width = match self.request.side_by_side {
            true => 2 * format.width,
            false => format.width,
        };
        let mut writer = VideoWriter::create(&output, FrameFormat { width, ..format })?;
        let bar = ProgressBar::no_length().with_style(ProgressStyle::with_template(
            "{spinner} {pos} frames, {per_sec}",
        )?);
        while let Some(frame) = reader.next_frame()? {
            let translated = self
                .translate(&frame.picture, RAW_NAME)
                .with_context(|| format!("{}: cannot translate", path.display()))?;
            let picture = translated.context("no translator for a video")?;
            writer.write(&Frame { picture, ..frame })?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        writer.finish()?;
        let count = bar.position();
        Ok(format!(
            "{count} frames of {}×{}",
            format.width, format.height
        ))
    }

    fn picture(&mut self, path: &Path) -> Result<String> {
        let picture = open(path)?;
        let translated = self
            .translate(&picture, RAW_NAME)
            .with_context(|| format!("{}: cannot translate", path.display()))?;
        if let (Some(output), Some(translated)) = (&self.output, translated) {
            output::save_picture(output, &translated)?;
        }
        Ok(format!("{}×{}", picture.width(), picture.height()))
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
    fn tensors(&mut self, pictures: &tch::Tensor) -> Result<String> {
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
                    _ => output.join(format!("{index}.png")),
                };
                output::save_picture(&path, &tensor_to_rgb(&translated)?)?;
            }
            translations.push(translated);
        }
        self.raw
            .add(RAW_NAME, &tch::Tensor::f_cat(&translations, 0)?)?;
        Ok(format!("{:?}", pictures.size()))
    }

    /// Pictures are read ahead and written behind on threads of their own: the network does not
    /// wait for files.
    fn folder(&mut self, root: &Path, pictures: &[PathBuf]) -> Result<String> {
        let total = pictures.len() as u64;
        let output_folder = self.output.clone();
        let mut progress = Progress::new(0, total, 1);
        let mut skipped = 0;
        let (read_sender, read) = sync_channel(PICTURES_IN_FLIGHT);
        let (write_sender, to_write) = sync_channel::<(PathBuf, RgbImage)>(PICTURES_IN_FLIGHT);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut paths = pictures.iter();
                paths.try_for_each(|path| read_sender.send((path, open(path))))
            });
            let writer = scope.spawn(move || {
                let mut pictures = to_write.iter();
                pictures.try_for_each(|(path, picture)| output::save_picture(&path, &picture))
            });
            for (done, (path, picture)) in (1..).zip(read) {
                let relative = path.strip_prefix(root).unwrap_or(path);
                let name = relative.to_string_lossy();
                let translated = picture.and_then(|picture| {
                    self.translate(&picture, &name)
                        .with_context(|| format!("{}: cannot translate", path.display()))
                });
                match (translated, &output_folder) {
                    (Ok(Some(picture)), Some(folder)) => {
                        let output = output::writable_name(folder.join(relative));
                        if write_sender.send((output, picture)).is_err() {
                            // The writer has failed and says why below.
                            break;
                        }
                    }
                    (Ok(_), _) => {}
                    (Err(error), _) => {
                        progress.log_line(&format!("skipped {}", sentence(&error)));
                        skipped += 1;
                    }
                }
                progress.advance(done);
            }
            drop(write_sender);
            progress.finish();
            writer.join().unwrap_or_else(|panic| resume_unwind(panic))
        })?;
        ensure!(
            skipped < total,
            "{}: none of its {total} pictures could be translated",
            root.display()
        );
        Ok(match skipped {
            0 => format!("{total} pictures"),
            _ => format!("{} pictures, {skipped} skipped", total - skipped),
        })
    }
}
