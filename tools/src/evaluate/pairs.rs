//! The MUNIT paper's experiment on its domain-invariant distance (arXiv 1804.04732, section 5.1): with
//! pairs of pictures that show one scene in two domains, does the distance tell scenes apart
//! whatever the domain?

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use munit::backbone::{Activations, Backbone, Wanted};
use munit::runtime::DeviceChoice;
use serde::Serialize;
use tch::Tensor;

use super::direction::values;
use super::figure::{Figure, Histogram, figures};
use super::scores::{mean, share_below};
use crate::data::{Framing, Source, load_picture};

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
}

/// Compares each pair, and each picture with another of its own domain.
///
/// # Errors
/// A sentence: fewer than two pairs, pictures or a backbone that cannot be read.
pub fn evaluate_pairs(request: &PairsRequest) -> Result<PairsReport> {
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
    let chosen = (0..count).map(|index| &pairs[index * pairs.len() / count]);
    let side = request.size as usize;
    let framing = Framing {
        new_size: side,
        crop_height: side,
        crop_width: side,
        channels: 3,
    };
    let pictures = chosen
        .map(|pair| {
            let [a, b] = pair.each_ref().map(|path| load_picture(path, &framing));
            Ok([a?.f_unsqueeze(0)?, b?.f_unsqueeze(0)?])
        })
        .collect::<Result<Vec<[Tensor; 2]>>>()?;
    let mut report = PairsReport {
        folders: request.folders.clone(),
        pairs: count,
        size: request.size,
        figures: Vec::new(),
        histograms: Vec::new(),
    };
    for path in &request.backbones {
        let backbone = Backbone::read(path, device)?;
        ensure!(
            backbone.can().content,
            "{}: this backbone has no layer for the content distance",
            path.display()
        );
        compare(&backbone, &pictures, &mut report)
            .with_context(|| format!("{}: pictures of {side} pixels", backbone.name()))?;
    }
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

fn compare(backbone: &Backbone, pictures: &[[Tensor; 2]], report: &mut PairsReport) -> Result<()> {
    let wanted = Wanted {
        content: true,
        ..Wanted::default()
    };
    let device = backbone.device();
    let look = |picture: &Tensor| -> Result<Activations> {
        Ok(backbone.activations(&picture.f_to_device(device)?, wanted)?)
    };
    let looked = |[a, b]: &[Tensor; 2]| -> Result<[Activations; 2]> { Ok([look(a)?, look(b)?]) };
    let mut same: [Vec<f64>; 2] = Default::default();
    let mut other: [Vec<f64>; 2] = Default::default();
    let first = pictures.first().context("no pairs")?;
    let mut own = looked(first)?;
    for index in 0..pictures.len() {
        // The last one's other scene is the first's.
        let next = looked(&pictures[(index + 1) % pictures.len()])?;
        for (place, normalised) in [false, true].into_iter().enumerate() {
            let [a, b] = &own;
            same[place].extend(values(&a.content_distance(b, normalised)?)?);
            // The two of one pair are one scene between two pairs, too.
            if pictures.len() > 2 || index == 0 {
                for (own, next) in own.iter().zip(&next) {
                    other[place].extend(values(&own.content_distance(next, normalised)?)?);
                }
            }
        }
        own = next;
    }
    for (place, normalised) in [(1, true), (0, false)] {
        let (same, other) = (&same[place], &other[place]);
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

impl fmt::Display for PairsReport {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let [a, b] = self.folders.each_ref().map(|folder| folder.display());
        writeln!(
            formatter,
            "{a} and {b}: {} pairs, {} pixels",
            self.pairs, self.size
        )?;
        figures(formatter, &self.figures)
    }
}
