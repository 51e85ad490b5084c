//! Translates still pictures: one, a folder of them, or float tensors from a file.

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
use munit::runtime::{DeviceChoice, Precision, TranslateOptions, Translator};
use munit::{Direction, Model, ModelMetadata, StyleCode};

use crate::data::tensor_to_rgb;
use crate::named_styles::own_styles;
use crate::program::sentence;
use crate::report::Progress;
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
    /// A picture, a folder of pictures, or `FILE.safetensors` with or without `#NAME`.
    pub input: PathBuf,
    /// Where the translated picture goes; a folder where there are several. `None`: nowhere.
    pub output: Option<PathBuf>,
    /// A safetensors file for the network's float output.
    pub raw: Option<PathBuf>,
    /// The look of the translation; `None`: the model's mean style, or zeros if it has none.
    pub style: Option<StyleChoice>,
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
    if let Some(output) = &request.output {
        input.check_output(output)?;
    }
    if let Input::Tensor(_) = input {
        ensure!(
            request.options == TranslateOptions::default(),
            "tensors are translated as they are; leave --size and --strength out"
        );
    }
    let mut model = Model::read(&request.model)?;
    match own_styles(&request.model, &model.metadata) {
        Ok(own) => model.metadata.styles.extend(own),
        Err(error) => eprintln!("munit-translate: {error}; going on without these styles"),
    }
    let direction = chosen_direction(&model.metadata, &request.model, request.direction)?;
    let mut job = Job::new(request, &model, direction, &input)?;
    job.style = style::resolve(request.style.as_ref(), &model, direction, |path| {
        job.encode_style(path)
    })?;

    let done = match &input {
        Input::Picture(path) => job.picture(path)?,
        Input::Tensor(tensors) => job.tensors(tensors)?,
        Input::Folder { root, pictures } => job.folder(root, pictures)?,
    };
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

    fn picture(&mut self, path: &Path) -> Result<String> {
        let picture = open(path)?;
        let translated = self
            .translate(&picture, RAW_NAME)
            .with_context(|| format!("{}: cannot translate", path.display()))?;
        if let (Some(output), Some(translated)) = (&self.request.output, translated) {
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
        Ok(Some(translated))
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
            if let Some(output) = &self.request.output {
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
                match (translated, &self.request.output) {
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
