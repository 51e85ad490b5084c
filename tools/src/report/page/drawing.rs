//! The pictures of a report, translated by the networks as they are now.

use anyhow::Result;
use image::RgbImage;
use munit::config::{Direction, Family};
use munit::networks::Generator;
use munit::{Domain, StyleCode};
use tch::Tensor;

use super::album::{Album, Subject};
use super::mosaic::Mosaic;
use crate::data::tensor_to_rgb;
use crate::samples::Samples;
use crate::trainer::{Pair, Trainer};

/// Longer side of a picture, in pixels.
const LONGEST: u32 = 128;
/// The same in sheets, of which a report holds many.
const LONGEST_IN_SHEET: u32 = 96;
/// Pictures in a row of a sheet.
const SHEET_COLUMNS: i64 = 5;
/// Contents in a grid of styles, and pictures of the target domain whose styles it shows.
const GRID_CONTENTS: i64 = 4;
const GRID_EXAMPLES: i64 = 3;
/// Contents in a strip from style to style.
const STRIP_CONTENTS: i64 = 3;
/// Steps from each style to the next.
const STRIP_STEPS: usize = 4;

/// Labels of the rows of a sheet of this family.
pub fn sheet_rows(family: Family) -> &'static [&'static str] {
    match family {
        Family::Munit => &["input", "reconstruction", "style 1", "style 2", "style 3"],
        Family::Unit => &["input", "reconstruction", "translation"],
    }
}

/// Draws all that a report shows of `trainer`'s averaged networks into `album`.
///
/// # Errors
/// libtorch's, for instance out of memory; files that cannot be written.
pub fn draw(trainer: &Trainer, samples: &Samples, album: &mut Album) -> Result<()> {
    in_each_direction(trainer, samples, |artist| {
        artist.put_sheet(trainer.iteration, album)?;
        if artist.family == Family::Munit {
            album.put(Subject::Styles, artist.direction, artist.styles()?)?;
            album.put(Subject::Between, artist.direction, artist.between()?)?;
        }
        Ok(())
    })
}

/// Draws only the sheets of this iteration, for a report that is written later.
///
/// # Errors
/// As [`draw`].
pub fn draw_sheets(trainer: &Trainer, samples: &Samples, album: &mut Album) -> Result<()> {
    in_each_direction(trainer, samples, |artist| {
        artist.put_sheet(trainer.iteration, album)
    })
}

fn in_each_direction(
    trainer: &Trainer,
    samples: &Samples,
    mut work: impl FnMut(&Artist) -> Result<()>,
) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let generators = trainer.averaged_generators()?;
    let family = trainer.config().architecture().family;
    Direction::ALL.into_iter().try_for_each(|direction| {
        work(&Artist {
            generators: &generators,
            samples,
            direction,
            family,
        })
    })
}

/// The sheets of both directions, one above the other, as a JPEG file.
///
/// # Errors
/// libtorch's, for instance out of memory.
pub fn both_sheets(trainer: &Trainer, samples: &Samples) -> Result<Vec<u8>> {
    let mut rows = Vec::new();
    in_each_direction(trainer, samples, |artist| {
        rows.extend(artist.sheet_pictures()?);
        Ok(())
    })?;
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    for row in &mut rows {
        row.resize(columns, None);
    }
    Ok(Mosaic::new(&rows, LONGEST)?.jpeg)
}

struct Artist<'d> {
    generators: &'d Pair<Generator>,
    samples: &'d Samples,
    direction: Direction,
    family: Family,
}

impl Artist<'_> {
    /// The first `count` pictures of `domain`, [1, C, H, W] each.
    fn pictures(&self, domain: Domain, count: i64) -> Result<Vec<Tensor>> {
        let pictures = self.samples.pictures().get(domain);
        (0..count.min(pictures.size()[0]))
            .map(|index| Ok(pictures.f_narrow(0, index, 1)?))
            .collect()
    }

    fn source(&self) -> &Generator {
        self.generators.get(self.direction.source())
    }

    fn target(&self) -> &Generator {
        self.generators.get(self.direction.target())
    }

    /// The styles that stay the same over a run, where the networks are.
    fn fixed_styles(&self, like: &Tensor) -> Result<Vec<Tensor>> {
        let styles = self.samples.fixed_styles().iter();
        styles
            .map(|style| Ok(style.f_to_device(like.device())?))
            .collect()
    }

    fn put_sheet(&self, iteration: u64, album: &mut Album) -> Result<()> {
        let sheet = Mosaic::new(&self.sheet_pictures()?, LONGEST_IN_SHEET)?;
        album.put(Subject::Sheet(iteration), self.direction, sheet)
    }

    /// A row for each of [`sheet_rows`], a column for each picture.
    fn sheet_pictures(&self) -> Result<Vec<Vec<Option<RgbImage>>>> {
        let mut rows: Vec<Vec<Option<RgbImage>>> = vec![vec![]; sheet_rows(self.family).len()];
        for picture in self.pictures(self.direction.source(), SHEET_COLUMNS)? {
            let content = self.source().encode_content(&picture)?;
            let mut column = vec![picture.shallow_clone()];
            match self.family {
                Family::Munit => {
                    let own = self.source().encode_style(&picture)?;
                    column.push(self.source().decode(&content, Some(&own))?);
                    for style in self.fixed_styles(&content)? {
                        column.push(self.target().decode(&content, Some(&style))?);
                    }
                }
                Family::Unit => {
                    column.push(self.source().decode(&content, None)?);
                    column.push(self.target().decode(&content, None)?);
                }
            }
            for (row, tensor) in rows.iter_mut().zip(&column) {
                row.push(Some(shown(tensor)?));
            }
        }
        Ok(rows)
    }

    /// Contents below each other; the fixed styles side by side, then those of pictures of the target
    /// domain, which stand in the first row.
    fn styles(&self) -> Result<Mosaic> {
        let contents = self.pictures(self.direction.source(), GRID_CONTENTS)?;
        let examples = self.pictures(self.direction.target(), GRID_EXAMPLES)?;
        let mut styles = self.fixed_styles(self.samples.pictures().get(self.direction.source()))?;
        let mut head = vec![None; 1 + styles.len()];
        for example in &examples {
            styles.push(self.target().encode_style(example)?);
            head.push(Some(shown(example)?));
        }
        let mut rows = vec![head];
        for picture in &contents {
            let content = self.source().encode_content(picture)?;
            let mut row = vec![Some(shown(picture)?)];
            for style in &styles {
                let translated = self.target().decode(&content, Some(style))?;
                row.push(Some(shown(&translated)?));
            }
            rows.push(row);
        }
        Mosaic::new(&rows, LONGEST)
    }

    /// Contents below each other, on the way that munitfilter glides from one fixed style to the next.
    fn between(&self) -> Result<Mosaic> {
        let contents = self.pictures(self.direction.source(), STRIP_CONTENTS)?;
        let styles = self
            .samples
            .fixed_styles()
            .iter()
            .map(|style| {
                let values = Vec::<f32>::try_from(style.f_reshape([-1])?)?;
                let length = values.len();
                Ok(StyleCode::new(values, length)?)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut path = Vec::new();
        for pair in styles.windows(2) {
            for step in 0..STRIP_STEPS {
                let fraction = step as f32 / STRIP_STEPS as f32;
                path.push(pair[0].interpolate(&pair[1], fraction));
            }
        }
        path.extend(styles.last().cloned());
        let mut rows = Vec::new();
        for picture in &contents {
            let content = self.source().encode_content(picture)?;
            let mut row = Vec::new();
            for style in &path {
                let style = Tensor::f_from_slice(style.values())?
                    .f_reshape([1, -1])?
                    .f_to_device(content.device())?;
                let translated = self.target().decode(&content, Some(&style))?;
                row.push(Some(shown(&translated)?));
            }
            rows.push(row);
        }
        Mosaic::new(&rows, LONGEST_IN_SHEET)
    }
}

/// A network that has run away must not end the report.
fn shown(picture: &Tensor) -> Result<RgbImage> {
    tensor_to_rgb(&picture.f_nan_to_num(-1.0, 1.0, -1.0)?)
}
