//! A sheet of pictures that shows styles: the pictures in the first row, one style a row below.

use std::iter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use munit::picture_file::{MINIMUM_SIDE, PictureError};
use munit::runtime::{DeviceChoice, Precision, TranslateOptions, Translator};
use munit::{Direction, StyleCode};

use crate::data::Source;
use crate::named_styles::NamedStyles;
use crate::prepare::folder::resized;
use crate::report::Sheet;
use crate::translate::picture::{open, translated};

/// Height of the pictures if the model does not say at which it was trained.
const USUAL_SIZE: u32 = 256;

/// What a sheet shows.
#[derive(Clone, Debug)]
pub struct SheetRequest {
    /// Pictures of the source domain; a folder stands for the pictures in it.
    pub pictures: Vec<PathBuf>,
    /// At most so many of them, spread evenly.
    pub columns: usize,
    /// Named styles; none: all, each code once.
    pub names: Vec<String>,
    /// So many draws from the prior, seeds 0, 1, 2, …
    pub draws: u64,
    /// Height of the pictures; `None`: the size that the model was trained at.
    pub size: Option<u32>,
}

/// A sheet that is drawn.
pub struct StyleSheet {
    /// The sheet.
    pub sheet: Sheet,
    /// What stands beside its rows of translations: a style's name, its names with equals signs between
    /// where there are several, or a draw's seed.
    pub rows: Vec<String>,
}

/// Draws the sheet of `styles` in `direction`.
///
/// # Errors
/// A picture that cannot be read, a name that the model does not have, nothing to show.
pub fn style_sheet(
    styles: &NamedStyles,
    direction: Direction,
    request: &SheetRequest,
) -> Result<StyleSheet> {
    let metadata = styles.metadata();
    let rows = rows(styles, direction, request)?;
    ensure!(
        !rows.is_empty(),
        "this model has no named styles for {}; add --draws 8 to see draws",
        direction.name()
    );
    let size = request
        .size
        .or(metadata.recommended_size)
        .unwrap_or(USUAL_SIZE);
    let pictures = pictures(request)?
        .iter()
        .map(|path| of_height(open(path)?, size).with_context(|| path.display().to_string()))
        .collect::<Result<Vec<RgbImage>>>()?;
    let mut translator = Translator::new(
        styles.model(),
        direction,
        DeviceChoice::Auto,
        Precision::Auto,
    )?;
    let mut sheet = Sheet::new();
    let name = |domain| metadata.domain_name(domain);
    let (source, target) = (name(direction.source()), name(direction.target()));
    sheet.section(&format!("{source} to {target}"));
    sheet.pictures("", pictures.clone());
    let options = TranslateOptions::default();
    for (label, style) in &rows {
        let row = pictures
            .iter()
            .map(|picture| Ok(translated(&mut translator, picture, style, &options)?))
            .collect::<Result<_>>()?;
        sheet.pictures(label, row);
    }
    let rows = rows.into_iter().map(|(label, _)| label).collect();
    Ok(StyleSheet { sheet, rows })
}

/// Labels and codes of the styles to show.
fn rows(
    styles: &NamedStyles,
    direction: Direction,
    request: &SheetRequest,
) -> Result<Vec<(String, StyleCode)>> {
    let metadata = styles.metadata();
    let target = direction.target();
    for name in &request.names {
        let style = metadata.styles.get(name);
        ensure!(
            style.is_some_and(|style| style.domain == target),
            "this model has no style {name} for {}; munit-style list shows those that it has",
            direction.name()
        );
    }
    let shown: Vec<(String, &[f32])> = if request.names.is_empty() {
        let distinct = metadata.distinct_styles(direction).into_iter();
        distinct
            .map(|(first, code)| {
                let others = metadata.styles.iter().filter(|(name, style)| {
                    *name != first && style.domain == target && style.code == code
                });
                let names = iter::once(first).chain(others.map(|(name, _)| name.as_str()));
                (names.collect::<Vec<_>>().join(" = "), code)
            })
            .collect()
    } else {
        let asked_for = metadata.styles.iter();
        asked_for
            .filter(|(name, _)| request.names.contains(name))
            .map(|(name, style)| (name.clone(), style.code.as_slice()))
            .collect()
    };
    let style_dim = metadata.architecture.style_dim() as usize;
    let named = shown
        .into_iter()
        .map(|(name, code)| Ok((name, StyleCode::new(code.to_vec(), style_dim)?)));
    let draws = (0..request.draws)
        .map(|seed| Ok((format!("seed {seed}"), StyleCode::sample(seed, style_dim))));
    named.chain(draws).collect()
}

/// The pictures of the first row.
fn pictures(request: &SheetRequest) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in &request.pictures {
        if path.is_dir() {
            let (pictures, _) = Source::Folder(path.clone()).candidates()?;
            ensure!(
                !pictures.is_empty(),
                "{}: no pictures in this folder",
                path.display()
            );
            found.extend(pictures);
        } else {
            found.push(path.clone());
        }
    }
    Ok(spread(&found, request.columns))
}

/// Pictures of one height make an even row, however they are cut.
fn of_height(picture: RgbImage, height: u32) -> Result<RgbImage, PictureError> {
    let narrow = f64::from(picture.width()) / f64::from(picture.height()) * f64::from(height);
    let shorter = height.min(narrow.round() as u32).max(MINIMUM_SIDE);
    resized(picture, shorter)
}

/// At most `count` of `paths`, evenly spread over all of them.
fn spread<P: AsRef<Path>>(paths: &[P], count: usize) -> Vec<PathBuf> {
    let count = count.min(paths.len());
    (0..count)
        .filter_map(|index| paths.get(index * paths.len() / count))
        .map(|path| path.as_ref().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pictures_are_spread_over_many() {
        let paths: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        let chosen = |count| {
            spread(&paths, count)
                .iter()
                .map(|path| path.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(chosen(3), "0 3 6");
        assert_eq!(chosen(20), "0 1 2 3 4 5 6 7 8 9");
        assert_eq!(spread(&Vec::<PathBuf>::new(), 4), Vec::<PathBuf>::new());
    }
}
