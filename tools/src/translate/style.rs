//! How a person says which look is wanted.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use munit::{Direction, Family, Model, StyleCode};

/// The look of a translation.
#[derive(Clone, Debug, PartialEq)]
pub enum StyleChoice {
    /// The style code itself.
    Code(Vec<f32>),
    /// A named style of the model.
    Name(String),
    /// The style of a picture of the target domain.
    Image(PathBuf),
    /// A draw from the prior.
    Seed(u64),
}

/// The named styles of the target domain, in the order of their names; one name for each code.
///
/// # Errors
/// A model without any.
pub(super) fn named(model: &Model, direction: Direction) -> Result<Vec<(String, StyleCode)>> {
    let metadata = &model.metadata;
    let style_dim = metadata.architecture.style_dim() as usize;
    let styles = metadata
        .distinct_styles(direction)
        .into_iter()
        .map(|(name, code)| Ok((name.to_owned(), StyleCode::new(code.to_vec(), style_dim)?)))
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        !styles.is_empty(),
        "this model has no named styles for {}; munit-style add gives a style a name",
        direction.name()
    );
    Ok(styles)
}

/// The style code for `choice`, or the model's mean style of the target domain, or zeros.
/// `encode` takes a picture's style. UNIT has none; a choice is left out with a remark.
pub(super) fn resolve(
    choice: Option<&StyleChoice>,
    model: &Model,
    direction: Direction,
    encode: impl FnOnce(&Path) -> Result<StyleCode>,
) -> Result<StyleCode> {
    let metadata = &model.metadata;
    if metadata.architecture.family == Family::Unit {
        if choice.is_some() {
            eprintln!(
                "munit-translate: this is a UNIT model, which has no style; the style given is left out"
            );
        }
        return Ok(StyleCode::default());
    }
    let style_dim = metadata.architecture.style_dim() as usize;
    let target = direction.target();
    match choice {
        Some(StyleChoice::Code(values)) => Ok(StyleCode::written(values.clone(), style_dim)?),
        Some(StyleChoice::Image(path)) => encode(path),
        Some(StyleChoice::Seed(seed)) => Ok(StyleCode::sample(*seed, style_dim)),
        Some(StyleChoice::Name(name)) => match metadata.styles.get(name) {
            Some(style) if style.domain == target => {
                Ok(StyleCode::new(style.code.clone(), style_dim)?)
            }
            _ => {
                let names = metadata.styles.iter();
                let names = names.filter(|(_, style)| style.domain == target);
                let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
                if names.is_empty() {
                    bail!("this model has no named styles for {}", direction.name());
                }
                bail!(
                    "this model has no style \"{name}\" for {}; it has {}",
                    direction.name(),
                    names.join(", ")
                )
            }
        },
        None => Ok(metadata.default_style(direction)),
    }
}
