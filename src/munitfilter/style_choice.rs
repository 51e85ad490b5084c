//! From the style properties to a style code.

use std::path::Path;

use image::RgbImage;
use munit::model_file::ModelMetadata;
use munit::runtime::{PictureFormat, PictureRef};
use munit::{Direction, StyleCode};

use super::StyleMode;
use super::problem::Problem;
use super::settings::StyleSettings;

/// A picture whose style is to be taken.
#[derive(Clone, Debug)]
pub(super) struct ExamplePicture {
    path: String,
    pixels: RgbImage,
}

impl ExamplePicture {
    fn read(path: &str) -> Result<Self, Problem> {
        let unreadable = |reason: String| {
            Problem::setting(format!(
                "style-image {path}: {reason}. Use a picture in the format PNG, JPEG, WebP, BMP \
                 or PPM."
            ))
        };
        let picture = image::ImageReader::open(Path::new(path))
            .and_then(|reader| reader.with_guessed_format())
            .map_err(|error| unreadable(format!("cannot read the picture: {error}")))?
            .decode()
            .map_err(|error| unreadable(format!("cannot decode the picture: {error}")))?;
        Ok(Self {
            path: path.to_owned(),
            pixels: picture.into_rgb8(),
        })
    }

    /// The picture for [`munit::runtime::Translator::encode_style`].
    pub fn view(&self) -> munit::Result<PictureRef<'_>> {
        let (width, height) = self.pixels.dimensions();
        PictureRef::new(
            PictureFormat::Rgb,
            width as usize,
            height as usize,
            &[(self.pixels.as_raw(), width as usize * 3)],
        )
    }

    /// The problem with a picture that was read but could not be encoded.
    pub fn not_encoded(&self, error: &munit::Error) -> Problem {
        Problem::setting(format!("style-image {}: {error}", self.path))
    }
}

/// The wanted style: a code, or a picture that the translator has yet to encode.
#[derive(Clone, Debug)]
pub(super) enum StyleTarget {
    Code(StyleCode),
    Example(ExamplePicture),
}

/// What the style properties mean for a model.
pub(super) fn resolve(
    settings: &StyleSettings,
    metadata: &ModelMetadata,
    direction: Direction,
) -> Result<StyleTarget, Problem> {
    let style_dim = metadata.architecture.style_dim() as usize;
    match settings.mode {
        StyleMode::Fixed => match (&settings.code, &settings.name) {
            (Some(text), _) => parse_code(text, style_dim),
            (None, Some(name)) => named_code(name, metadata, direction),
            (None, None) => Ok(default_code(metadata, direction)),
        }
        .map(StyleTarget::Code),
        StyleMode::Random => Ok(StyleTarget::Code(StyleCode::sample(
            settings.seed,
            style_dim,
        ))),
        StyleMode::Example => match &settings.image {
            Some(_) if style_dim == 0 => Err(Problem::setting(
                "style-mode is example, but this is a UNIT model, which has no style; use fixed",
            )),
            Some(path) => ExamplePicture::read(path).map(StyleTarget::Example),
            None => Err(Problem::setting(
                "style-mode is example, but there is no example; set style-image to a picture",
            )),
        },
    }
}

/// The style of a model when nothing is said: the mean style of the target domain, or zeros, the
/// prior's mean.
pub(super) fn default_code(metadata: &ModelMetadata, direction: Direction) -> StyleCode {
    let style_dim = metadata.architecture.style_dim() as usize;
    metadata
        .mean_styles
        .get(&direction.target())
        .and_then(|mean| StyleCode::new(mean.clone(), style_dim).ok())
        .unwrap_or_else(|| StyleCode::zeros(style_dim))
}

fn parse_code(text: &str, style_dim: usize) -> Result<StyleCode, Problem> {
    let numbers = text
        .split([',', ' ', '\t', '\n'])
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.parse::<f32>().map_err(|_| {
                Problem::setting(format!(
                    "style: \"{word}\" is not a number; write {style_dim} numbers with commas \
                     between them, for example 0.5,-1.2"
                ))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    StyleCode::new(numbers, style_dim).map_err(|error| Problem::setting(format!("style: {error}")))
}

fn named_code(
    name: &str,
    metadata: &ModelMetadata,
    direction: Direction,
) -> Result<StyleCode, Problem> {
    let style_dim = metadata.architecture.style_dim() as usize;
    let fitting = || {
        metadata
            .styles
            .iter()
            .filter(|(_, style)| style.domain == direction.target())
    };
    match fitting().find(|(known, _)| *known == name) {
        Some((_, style)) => StyleCode::new(style.code.clone(), style_dim)
            .map_err(|error| Problem::setting(format!("style-name {name}: {error}"))),
        None => {
            let known: Vec<&str> = fitting().map(|(known, _)| known.as_str()).collect();
            let hint = if known.is_empty() {
                "it has none; use style, style-seed or style-image".to_owned()
            } else {
                format!("it has {}", known.join(", "))
            };
            Err(Problem::setting(format!(
                "style-name: this model has no style named {name} for direction {}; {hint}",
                direction.name()
            )))
        }
    }
}
