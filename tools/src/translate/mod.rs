//! Translates still pictures: one, a folder of them, or float tensors from a file.

mod exact;
mod input;
mod output;
mod style;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use munit::runtime::{
    DeviceChoice, PictureFormat, PictureMut, PictureRef, Precision, TranslateOptions, Translator,
};
use munit::{Direction, Model, StyleCode};

use crate::data::{read_picture, tensor_to_rgb};
use crate::report::Progress;
pub use exact::{ExactTranslator, Translation, picture_tensor};
pub use input::Input;
pub use output::{RAW_NAME, RawOutput};
pub use style::StyleChoice;

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
    if let Some(output) = &request.output {
        input.check_output(output)?;
    }
    let model = Model::read(&request.model)?;
    let direction = direction(&model, request)?;
    let engine = Engine::new(&model, direction, &input, request)?;
    let mut job = Job {
        style: StyleCode::default(),
        engine,
        raw: request.raw.is_some().then(RawOutput::default),
        request,
    };
    job.style = style::resolve(request.style.as_ref(), &model, direction, |path| {
        job.engine.encode_style(path)
    })?;

    let done = match &input {
        Input::Picture(path) => job.picture(path, request.output.as_deref(), RAW_NAME)?,
        Input::Tensor(tensors) => job.tensors(tensors)?,
        Input::Folder { root, pictures } => job.folder(root, pictures)?,
    };
    if let (Some(raw), Some(path)) = (job.raw, &request.raw) {
        raw.save(path)?;
    }
    let mut summary = format!("{done}  {}", direction.name());
    if !job.style.values().is_empty() {
        let numbers: Vec<String> = job.style.values().iter().map(f32::to_string).collect();
        summary += &format!("  --style {}", numbers.join(","));
    }
    Ok(summary)
}

fn direction(model: &Model, request: &Request) -> Result<Direction> {
    let present = &model.metadata.directions;
    match request.direction {
        Some(direction) if !model.has(direction) => bail!(
            "{}: this model translates {} only; leave --{} out",
            request.model.display(),
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
            .with_context(|| format!("{}: this model has no direction", request.model.display())),
    }
}

/// The fast path for pictures; the networks as they are written down for float results.
enum Engine {
    Fast(Translator),
    Exact(ExactTranslator),
}

impl Engine {
    fn new(model: &Model, direction: Direction, input: &Input, request: &Request) -> Result<Self> {
        let (device, precision) = (request.device, request.precision);
        if request.raw.is_none() && !matches!(input, Input::Tensor(_)) {
            return Ok(Self::Fast(Translator::new(
                model, direction, device, precision,
            )?));
        }
        ensure!(
            matches!(precision, Precision::Auto | Precision::Fp32),
            "--raw and tensor inputs are computed in fp32; leave --precision {precision} out"
        );
        Ok(Self::Exact(ExactTranslator::new(model, direction, device)?))
    }

    fn encode_style(&mut self, path: &Path) -> Result<StyleCode> {
        let picture = open(path)?;
        match self {
            Self::Fast(translator) => Ok(translator.encode_style(&view(&picture)?)?),
            Self::Exact(translator) => translator.encode_style(&picture_tensor(&picture)?),
        }
        .with_context(|| format!("{}: cannot take its style", path.display()))
    }
}

struct Job<'a> {
    request: &'a Request,
    engine: Engine,
    style: StyleCode,
    raw: Option<RawOutput>,
}

impl Job<'_> {
    /// Translates one picture file; its float output is called `name`.
    fn picture(&mut self, path: &Path, output: Option<&Path>, name: &str) -> Result<String> {
        let translated = self
            .translate(&open(path)?, name)
            .with_context(|| format!("{}: cannot translate", path.display()))?;
        let (width, height) = translated.dimensions();
        if let Some(output) = output {
            output::save_picture(output, &translated).map_err(WriteFailure)?;
        }
        let place = output.or(self.request.raw.as_deref()).unwrap_or(path);
        Ok(format!("{}  {width}×{height}", place.display()))
    }

    fn translate(&mut self, picture: &RgbImage, name: &str) -> Result<RgbImage> {
        let (style, options) = (&self.style, &self.request.options);
        match &mut self.engine {
            Engine::Fast(translator) => {
                let mut translated = RgbImage::new(picture.width(), picture.height());
                let (width, height) = (picture.width() as usize, picture.height() as usize);
                let plane = (translated.as_mut(), 3 * width);
                let mut target = PictureMut::new(PictureFormat::Rgb, width, height, vec![plane])?;
                translator.translate(&view(picture)?, &mut target, style, options)?;
                Ok(translated)
            }
            Engine::Exact(translator) => {
                let Translation { raw, mixed } =
                    translator.translate(&picture_tensor(picture)?, style, options)?;
                if let Some(output) = &mut self.raw {
                    output.add(name, &raw)?;
                }
                tensor_to_rgb(&mixed)
            }
        }
    }

    /// Translates pictures [N, C, H, W], one after the other as their number may be large.
    fn tensors(&mut self, pictures: &tch::Tensor) -> Result<String> {
        let Engine::Exact(translator) = &self.engine else {
            bail!("tensors are translated by the exact path");
        };
        let count = pictures.size()[0];
        let mut raws = Vec::new();
        for index in 0..count {
            let picture = pictures.f_narrow(0, index, 1)?;
            let Translation { raw, mixed } = translator
                .translate(&picture, &self.style, &self.request.options)
                .with_context(|| format!("{}: cannot translate", self.request.input.display()))?;
            if let Some(output) = &self.request.output {
                let path = match count {
                    1 => output.clone(),
                    _ => output.join(format!("{index}.png")),
                };
                output::save_picture(&path, &tensor_to_rgb(&mixed)?)?;
            }
            raws.push(raw);
        }
        if let Some(output) = &mut self.raw {
            output.add(RAW_NAME, &tch::Tensor::f_cat(&raws, 0)?)?;
        }
        let place = self.request.output.as_ref().or(self.request.raw.as_ref());
        let place = place.unwrap_or(&self.request.input);
        Ok(format!("{}  {count} tensors", place.display()))
    }

    fn folder(&mut self, root: &Path, pictures: &[PathBuf]) -> Result<String> {
        let total = pictures.len() as u64;
        let mut progress = Progress::new(0, total, 1);
        let mut skipped = 0;
        for (index, path) in pictures.iter().enumerate() {
            let relative = path.strip_prefix(root).unwrap_or(path);
            let output = self
                .request
                .output
                .as_ref()
                .map(|output| output.join(relative));
            let output = output.map(output::writable_name);
            match self.picture(path, output.as_deref(), &relative.to_string_lossy()) {
                Err(error) if !error.is::<WriteFailure>() => {
                    progress.log_line(&format!("skipped {error:#}"));
                    skipped += 1;
                }
                result => drop(result?),
            }
            progress.advance(index as u64 + 1);
        }
        progress.finish();
        let translated = total - skipped;
        ensure!(
            translated > 0,
            "{}: none of its {total} pictures could be translated",
            root.display()
        );
        let place = self.request.output.as_ref().or(self.request.raw.as_ref());
        let place = place.map_or(root, PathBuf::as_path);
        let mut done = format!("{}  {translated} pictures", place.display());
        if skipped > 0 {
            done += &format!(", {skipped} skipped");
        }
        Ok(done)
    }
}

/// A result that could not be written: the next one could not either, so a folder ends here.
#[derive(Debug)]
struct WriteFailure(anyhow::Error);

impl std::fmt::Display for WriteFailure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "{:#}", self.0)
    }
}

impl std::error::Error for WriteFailure {}

fn open(path: &Path) -> Result<RgbImage> {
    read_picture(path).map_err(|problem| anyhow::anyhow!("{}: {problem}", path.display()))
}

fn view(picture: &RgbImage) -> Result<PictureRef<'_>> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let plane = (picture.as_raw().as_slice(), 3 * width);
    Ok(PictureRef::new(
        PictureFormat::Rgb,
        width,
        height,
        &[plane],
    )?)
}
