//! The MUNIT paper's experiment on its domain-invariant distance (arXiv 1804.04732, section 5.1): with
//! pairs of pictures that show one scene in two domains, does the distance tell scenes apart
//! whatever the domain?

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use munit::backbone::{Activations, Backbone, Wanted};
use munit::runtime::DeviceChoice;
use rayon::prelude::*;
use serde::Serialize;
use tch::{Device, Tensor};

use super::direction::values;
use super::figure::{Figure, Histogram, figures};
use super::scores::{mean, share_below};
use crate::data::{Framing, Source, load_picture};
use crate::program::sentence;
use crate::report::Progress;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct PairsRequest {
    /// Two folders, whose pictures of one name show one scene.
    pub folders: [PathBuf; 2],
    /// Feature networks with content maps.
    pub backbones: Vec<PathBuf>,
    /// Pairs at most, evenly spread.
    pub pairs: usize,
    /// Side of the pictures.
    pub size: u32,
    /// Where to compute.
    pub device: DeviceChoice,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct PairsReport {
    /// The folders.
    pub folders: [PathBuf; 2],
    /// Pairs that were compared.
    pub pairs: usize,
    /// Side of the pictures.
    pub size: u32,
    /// The figures.
    pub figures: Vec<Figure>,
    /// The distances themselves.
    pub histograms: Vec<Histogram>,
    /// How long it took.
    pub seconds: f64,
}

/// Pairs that are held in memory at a time.
const BATCH: usize = 16;

/// Compares each pair, and each picture with another of its own domain.
///
/// # Errors
/// A sentence: fewer than two pairs, pictures or a backbone that cannot be read.
pub fn evaluate_pairs(request: &PairsRequest) -> Result<PairsReport> {
    let begin = Instant::now();
    let _no_grad = tch::no_grad_guard();
    let device = request.device.resolve()?;
    let names = request.folders.each_ref().map(|folder| named(folder));
    let [a, b] = names;
    let (a, mut b) = (a?, b?);
    let pairs: Vec<[PathBuf; 2]> = a
        .into_iter()
        .filter_map(|(name, path)| Some([path, b.remove(&name)?]))
        .collect();
    let [first, second] = request.folders.each_ref().map(|folder| folder.display());
    ensure!(
        pairs.len() > 1,
        "{first} and {second} have {} pictures of the same name; at least two pairs are needed, \
         each one scene in both domains",
        pairs.len()
    );
    let count = request.pairs.min(pairs.len());
    let chosen: Vec<_> = (0..count)
        .map(|index| &pairs[index * pairs.len() / count])
        .collect();
    let side = request.size as usize;
    let framing = Framing {
        new_size: side,
        crop_height: side,
        crop_width: side,
        channels: 3,
    };
    let load = |pair: &[PathBuf; 2]| -> Result<[Tensor; 2]> {
        let [a, b] = pair.each_ref().map(|path| load_picture(path, &framing));
        Ok([a?.f_unsqueeze(0)?, b?.f_unsqueeze(0)?])
    };
    let mut comparisons = request
        .backbones
        .iter()
        .map(|path| Comparison::with(path, device))
        .collect::<Result<Vec<_>>>()?;
    let mut read = 0;
    let mut progress = Progress::new(0, count as u64, 1);
    for (place, batch) in chosen.chunks(BATCH).enumerate() {
        let loaded: Vec<Result<[Tensor; 2]>> = batch.par_iter().map(|pair| load(pair)).collect();
        for pair in loaded {
            match pair {
                Ok(pair) => {
                    for comparison in &mut comparisons {
                        comparison.look(&pair).with_context(|| {
                            let name = comparison.backbone.name();
                            format!("{name}: pictures of {side} pixels")
                        })?;
                    }
                    read += 1;
                }
                Err(problem) => {
                    eprintln!("munit-evaluate: skipped this pair: {}", sentence(&problem));
                }
            }
        }
        progress.advance((place * BATCH + batch.len()) as u64);
    }
    progress.finish();
    ensure!(
        read > 1,
        "{first} and {second}: {read} of {count} pairs could be read; at least two are needed"
    );
    let mut report = PairsReport {
        folders: request.folders.clone(),
        pairs: read,
        size: request.size,
        figures: Vec::new(),
        histograms: Vec::new(),
        seconds: 0.0,
    };
    for comparison in comparisons {
        comparison.report(&mut report)?;
    }
    report.seconds = begin.elapsed().as_secs_f64();
    Ok(report)
}

/// The pictures below a folder by their relative names without extensions.
fn named(folder: &Path) -> Result<BTreeMap<OsString, PathBuf>> {
    let (pictures, unreadable) = Source::Folder(folder.to_owned()).candidates()?;
    for skipped in unreadable {
        eprintln!("munit-evaluate: skipped {skipped}");
    }
    Ok(pictures
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(folder).unwrap_or(&path);
            (relative.with_extension("").into_os_string(), path)
        })
        .collect())
}

/// What one backbone has seen of the pairs so far.
struct Comparison {
    backbone: Backbone,
    pairs: usize,
    /// Of the first pair and of the newest.
    first: Option<[Activations; 2]>,
    newest: Option<[Activations; 2]>,
    /// Distances: not normalised, normalised.
    same: [Vec<f64>; 2],
    other: [Vec<f64>; 2],
}

impl Comparison {
    fn with(path: &Path, device: Device) -> Result<Self> {
        let backbone = Backbone::read(path, device)?;
        ensure!(
            backbone.can().content,
            "{}: this backbone has no layer for the content distance",
            path.display()
        );
        Ok(Self {
            backbone,
            pairs: 0,
            first: None,
            newest: None,
            same: Default::default(),
            other: Default::default(),
        })
    }

    /// Compares the pictures of a pair, each [1, C, H, W], with one another and with those of the
    /// pair before.
    fn look(&mut self, pair: &[Tensor; 2]) -> Result<()> {
        let wanted = Wanted {
            content: true,
            ..Wanted::default()
        };
        let device = self.backbone.device();
        let look = |picture: &Tensor| -> Result<Activations> {
            let picture = picture.f_to_device(device)?;
            Ok(self.backbone.activations(&picture, wanted)?)
        };
        let [a, b] = pair;
        let pair = [look(a)?, look(b)?];
        for (place, normalised) in [false, true].into_iter().enumerate() {
            let [a, b] = &pair;
            self.same[place].extend(values(&a.content_distance(b, normalised)?)?);
        }
        if let Some(before) = &self.newest {
            compare_scenes(&mut self.other, before, &pair)?;
        }
        if self.first.is_none() {
            let [a, b] = &pair;
            self.first = Some([a.select(&[0])?, b.select(&[0])?]);
        }
        self.newest = Some(pair);
        self.pairs += 1;
        Ok(())
    }

    fn report(mut self, report: &mut PairsReport) -> Result<()> {
        // The last one's other scene is the first's; but two pairs have been compared already.
        if let (Some(first), Some(newest), true) = (&self.first, &self.newest, self.pairs > 2) {
            compare_scenes(&mut self.other, newest, first)?;
        }
        let backbone = &self.backbone;
        for (place, normalised) in [(1, true), (0, false)] {
            let (same, other) = (&self.same[place], &self.other[place]);
            let (keys, names) = match normalised {
                true => (
                    ["same_scene_distance", "scenes_told_apart"],
                    ["distance of one scene", "scenes told apart"],
                ),
                false => (
                    ["same_scene_distance_plain", "scenes_told_apart_plain"],
                    ["distance, not normalised", "told apart, not normalised"],
                ),
            };
            let distance = Figure::mean(
                keys[0],
                names[0],
                same,
                "mean content distance between the two pictures of a pair",
            );
            let share = share_below(same, other);
            let share = share.map(|share| {
                Figure::new(
                    keys[1],
                    names[1],
                    share,
                    "how often a pair is closer than two scenes of one domain are; 1 is always, 0.5 is \
                     chance",
                )
            });
            let others = mean(other.iter().copied());
            let distance = distance.map(|figure| figure.beside("two scenes of one domain", others));
            let found = [distance, share].into_iter().flatten();
            report
                .figures
                .extend(found.map(|figure| figure.with_backbone(backbone.name())));
            report.histograms.push(Histogram {
                backbone: backbone.name().to_owned(),
                normalised,
                same_scene: same.clone(),
                other_scene: other.clone(),
            });
        }
        Ok(())
    }
}

/// Distances between the pictures of one domain in two pairs, for both domains.
fn compare_scenes(
    distances: &mut [Vec<f64>; 2],
    one: &[Activations; 2],
    other: &[Activations; 2],
) -> Result<()> {
    for (place, normalised) in [false, true].into_iter().enumerate() {
        for (one, other) in one.iter().zip(other) {
            distances[place].extend(values(&one.content_distance(other, normalised)?)?);
        }
    }
    Ok(())
}

impl fmt::Display for PairsReport {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let [a, b] = self.folders.each_ref().map(|folder| folder.display());
        writeln!(
            formatter,
            "{a} and {b}: {} pairs, {} pixels, {:.0} s",
            self.pairs, self.size, self.seconds
        )?;
        figures(formatter, &self.figures)
    }
}
