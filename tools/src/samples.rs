//! What a run's models make of a fixed handful of pictures, as a sheet to look at.

use anyhow::Result;
use munit::config::{Direction, Domain, Family};
use munit::networks::{Generator, normal};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use crate::report::Sheet;
use crate::trainer::{Pair, noise_generator};

/// Rows with the same styles in every sheet of a run.
const FIXED_STYLES: usize = 3;
/// Rows with styles that change from sheet to sheet.
const RANDOM_STYLES: usize = 2;
/// Keeps the preview's styles apart from the training noise of the same seed.
const PREVIEW_STREAM: u64 = u64::MAX;

/// The pictures of the sheets and the styles that stay the same.
pub struct Samples {
    pictures: Pair<Tensor>,
    names: Pair<String>,
    fixed_styles: Vec<Tensor>,
    style_dim: i64,
    seed: u64,
}

impl Samples {
    /// `pictures`: [N, C, H, W] in [-1, 1] for each domain; `names`: what they show.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(
        pictures: Pair<Tensor>,
        names: Pair<String>,
        style_dim: i64,
        seed: u64,
    ) -> Result<Self> {
        let mut random = noise_generator(seed, PREVIEW_STREAM);
        let fixed_styles = (0..FIXED_STYLES)
            .map(|_| Ok(normal(&mut random, &[1, style_dim])?))
            .collect::<Result<_>>()?;
        Ok(Self {
            pictures,
            names,
            fixed_styles,
            style_dim,
            seed,
        })
    }

    /// The pictures, [N, C, H, W] in [-1, 1] for each domain.
    pub fn pictures(&self) -> &Pair<Tensor> {
        &self.pictures
    }

    /// What the domains show.
    pub fn names(&self) -> &Pair<String> {
        &self.names
    }

    /// The styles that stay the same, [1, style_dim] each.
    pub fn fixed_styles(&self) -> &[Tensor] {
        &self.fixed_styles
    }

    /// The sheet after `iteration` iterations: for each direction inputs, reconstructions and
    /// translations with fixed and with random styles; for UNIT one translation.
    ///
    /// # Errors
    /// libtorch's.
    pub fn sheet(
        &self,
        generators: &Pair<Generator>,
        family: Family,
        iteration: u64,
    ) -> Result<Sheet> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed ^ iteration.rotate_left(32));
        let random_styles = (0..RANDOM_STYLES)
            .map(|_| Ok(normal(&mut random, &[1, self.style_dim])?))
            .collect::<Result<Vec<_>>>()?;
        let mut sheet = Sheet::new();
        let _no_grad = tch::no_grad_guard();
        for direction in Direction::ALL {
            let (source, target) = (direction.source(), direction.target());
            let pictures = self.pictures.get(source);
            let own = generators.get(source);
            let other = generators.get(target);
            sheet.section(&format!(
                "{} to {}",
                self.names.get(source),
                self.names.get(target)
            ));
            sheet.row("input", pictures)?;
            let content = each(pictures, |picture| Ok(own.encode_content(picture)?))?;
            if family == Family::Unit {
                sheet.row(
                    "reconstruction",
                    &each(&content, |code| Ok(own.decode(code, None)?))?,
                )?;
                sheet.row(
                    "translation",
                    &each(&content, |code| Ok(other.decode(code, None)?))?,
                )?;
                continue;
            }
            let styles = each(pictures, |picture| Ok(own.encode_style(picture)?))?;
            let reconstructions = (0..pictures.size()[0])
                .map(|index| {
                    let style = styles.f_narrow(0, index, 1)?;
                    Ok(own.decode(&content.f_narrow(0, index, 1)?, Some(&style))?)
                })
                .collect::<Result<Vec<_>>>()?;
            sheet.row("reconstruction", &Tensor::f_cat(&reconstructions, 0)?)?;
            let rows = (1..)
                .zip(&self.fixed_styles)
                .map(|(number, style)| (format!("fixed style {number}"), style))
                .chain(
                    (1..)
                        .zip(&random_styles)
                        .map(|(number, style)| (format!("random style {number}"), style)),
                );
            for (label, style) in rows {
                let style = style.f_to_device(content.device())?;
                let row = each(&content, |code| Ok(other.decode(code, Some(&style))?))?;
                sheet.row(&label, &row)?;
            }
        }
        Ok(sheet)
    }
}

/// `f` of each sample alone, stacked: memory stays that of one picture.
fn each(batch: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let results = (0..batch.size()[0])
        .map(|index| f(&batch.f_narrow(0, index, 1)?))
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::f_cat(&results, 0)?)
}

/// What pictures of a domain show, in words.
pub fn domain_name(given: Option<&str>, domain: Domain) -> String {
    given.map_or_else(|| format!("domain {}", domain.name()), str::to_owned)
}
