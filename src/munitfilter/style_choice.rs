//! From the style properties to a style.

use std::path::Path;

use image::RgbImage;
use munit::model_file::ModelMetadata;
use munit::picture_file::read_picture;
use munit::runtime::{PictureFormat, PictureRef, Translator};
use munit::{Direction, StyleCode};

use super::StyleMode;
use super::problem::Problem;
use super::settings::StyleSettings;
use super::style_path::StylePath;

/// What the style properties mean for a model.
#[derive(Clone, Debug)]
pub(super) struct StyleChoice {
    pub source: StyleSource,
    /// The style at the other end of `style-mix`.
    pub other: StyleCode,
}

/// Where the style comes from.
#[derive(Clone, Debug)]
pub(super) enum StyleSource {
    /// From stream time alone.
    Path(StylePath),
    /// From a picture file that has still to be read.
    Example(String),
    /// From the pictures that arrive on the pad `style_sink`.
    Follow,
}

/// How long a drift or a tour takes from style to style when no interval is set.
const DEFAULT_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);

/// What `settings` mean for a model with this metadata.
pub(super) fn resolve(
    settings: &StyleSettings,
    metadata: &ModelMetadata,
    direction: Direction,
) -> Result<StyleChoice, Problem> {
    let style_dim = metadata.architecture.style_dim() as usize;
    let interval = if settings.interval.is_zero() {
        DEFAULT_INTERVAL
    } else {
        settings.interval
    };
    let without_style = |mode: &str| {
        Problem::setting(format!(
            "style-mode is {mode}, but this is a UNIT model, which has no style; use fixed"
        ))
    };
    let source = match settings.mode {
        StyleMode::Fixed => match (&settings.code, &settings.name) {
            (Some(text), _) => parse_code("style", text, style_dim)?,
            (None, Some(name)) => named_code("style-name", name, metadata, direction)?,
            (None, None) => metadata.default_style(direction),
        }
        .into(),
        StyleMode::Random if settings.interval.is_zero() => {
            StyleCode::sample(settings.seed, style_dim).into()
        }
        StyleMode::Random => StyleSource::Path(StylePath::Draws {
            seed: settings.seed,
            style_dim,
            interval,
        }),
        StyleMode::Drift => StyleSource::Path(StylePath::Drift {
            seed: settings.seed,
            style_dim,
            correlation_time: interval,
        }),
        StyleMode::Tour => {
            let mut styles: Vec<StyleCode> = metadata
                .distinct_styles(direction)
                .into_iter()
                .filter_map(|(_, code)| StyleCode::new(code.to_vec(), style_dim).ok())
                .collect();
            if styles.is_empty() {
                return Err(Problem::setting(
                    "style-mode is tour, but this model has no named styles; save some with \
                     save-style or use drift",
                ));
            }
            let skipped = settings.skipped % styles.len();
            styles.rotate_left(skipped);
            StyleSource::Path(StylePath::Tour { styles, interval })
        }
        StyleMode::Example if style_dim == 0 => return Err(without_style("example")),
        StyleMode::Example => match &settings.image {
            Some(path) => StyleSource::Example(path.clone()),
            None => {
                return Err(Problem::setting(
                    "style-mode is example, but there is no example; set style-image to a picture",
                ));
            }
        },
        StyleMode::Follow if style_dim == 0 => return Err(without_style("follow")),
        StyleMode::Follow => StyleSource::Follow,
    };
    let other = match &settings.mix_with {
        Some(text) if known_code(text, metadata, direction).is_some() || !is_numbers(text) => {
            named_code("style-mix-with", text, metadata, direction)?
        }
        Some(text) => parse_code("style-mix-with", text, style_dim)?,
        None => StyleCode::sample(settings.seed.wrapping_add(1), style_dim),
    };
    Ok(StyleChoice { source, other })
}

impl From<StyleCode> for StyleSource {
    fn from(code: StyleCode) -> Self {
        Self::Path(StylePath::Still(code))
    }
}

/// The numbers of a code as a person writes them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t', '\n'])
        .filter(|word| !word.is_empty())
}

fn is_numbers(text: &str) -> bool {
    words(text).all(|word| word.parse::<f32>().is_ok())
}

fn parse_code(property: &str, text: &str, style_dim: usize) -> Result<StyleCode, Problem> {
    let numbers = words(text)
        .map(|word| {
            word.parse::<f32>().map_err(|_| {
                Problem::setting(format!(
                    "{property}: \"{word}\" is not a number; write {style_dim} numbers with commas \
                     between them, for example 0.5,-1.2"
                ))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    StyleCode::written(numbers, style_dim)
        .map_err(|error| Problem::setting(format!("{property}: {error}")))
}

/// The numbers of a code as the property `style` takes them.
pub(super) fn code_text(code: &StyleCode) -> String {
    let numbers: Vec<String> = code.values().iter().map(f32::to_string).collect();
    numbers.join(",")
}

/// The named styles of the domain that `direction` translates into, by name.
fn named_styles(
    metadata: &ModelMetadata,
    direction: Direction,
) -> impl Iterator<Item = (&str, &[f32])> {
    metadata
        .styles
        .iter()
        .filter(move |(_, style)| style.domain == direction.target())
        .map(|(name, style)| (name.as_str(), style.code.as_slice()))
}

fn known_code<'a>(
    name: &str,
    metadata: &'a ModelMetadata,
    direction: Direction,
) -> Option<&'a [f32]> {
    named_styles(metadata, direction).find_map(|(known, code)| (known == name).then_some(code))
}

fn named_code(
    property: &str,
    name: &str,
    metadata: &ModelMetadata,
    direction: Direction,
) -> Result<StyleCode, Problem> {
    let style_dim = metadata.architecture.style_dim() as usize;
    match known_code(name, metadata, direction) {
        Some(code) => StyleCode::new(code.to_vec(), style_dim)
            .map_err(|error| Problem::setting(format!("{property} {name}: {error}"))),
        None => {
            let known: Vec<&str> = named_styles(metadata, direction)
                .map(|(known, _)| known)
                .collect();
            let hint = if known.is_empty() {
                "it has none; use style, style-seed or style-image".to_owned()
            } else {
                format!("it has {}", known.join(", "))
            };
            Err(Problem::setting(format!(
                "{property}: this model has no style named {name} for direction {}; {hint}",
                direction.name()
            )))
        }
    }
}

/// Pictures are shrunk to this shorter side before they are encoded: style codes are means over
/// the picture, and the memory of a camera's full picture is better used otherwise.
const LARGEST_EXAMPLE: u32 = 1024;

/// The style of the picture at `path`.
pub(super) fn encode_example(
    path: &str,
    translator: &mut Translator,
) -> Result<StyleCode, Problem> {
    let picture = read_picture(Path::new(path))
        .map(shrunk)
        .map_err(|error| Problem::setting(format!("style-image {path}: {error}")))?;
    let (width, height) = picture.dimensions();
    PictureRef::new(
        PictureFormat::Rgb,
        width as usize,
        height as usize,
        &[(picture.as_raw(), width as usize * 3)],
    )
    .and_then(|view| translator.encode_style(&view))
    .map_err(|error| Problem::setting(format!("style-image {path}: {error}")))
}

/// Shrinks a picture whose shorter side is longer than [`LARGEST_EXAMPLE`] to that.
fn shrunk(picture: RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let shorter = width.min(height);
    if shorter <= LARGEST_EXAMPLE {
        return picture;
    }
    let side =
        |length: u32| (u64::from(length) * u64::from(LARGEST_EXAMPLE) / u64::from(shorter)) as u32;
    image::imageops::thumbnail(&picture, side(width), side(height))
}
