//! Folders of pictures in, folders of pictures out: listing, dividing, reading, writing.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use fast_image_resize::{ResizeOptions, Resizer};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, RgbImage};
use indicatif::{ProgressBar, ProgressStyle};
use munit::atomic_file;
use munit::picture_file::{MAXIMUM_SIDE, PictureError, read_picture};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::data::{Likeness, NearDuplicates, PictureFacts, Skipped, Source};
use crate::result_file::refuse_existing;

/// A picture file and its place in the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureFile {
    /// Where the file is.
    pub path: PathBuf,
    /// Its path relative to the set's folder.
    pub name: PathBuf,
}

impl PictureFile {
    /// A number that depends on the name and `seed` alone, the same at each run.
    pub fn hash(&self, seed: u64) -> u64 {
        hash(&self.name.to_string_lossy(), seed)
    }

    /// The name of the clip that a video frame belongs to: the relative path without extension and
    /// without the number at its end. Pictures without such a number are their own clip.
    fn clip(&self) -> String {
        let stem = self.name.with_extension("").to_string_lossy().into_owned();
        let clip = stem.trim_end_matches(|c: char| c.is_ascii_digit());
        clip.trim_end_matches(['-', '_', '.', ' ']).to_owned()
    }
}

/// FNV-1a over the text, stirred so that names that differ in their last digit land far apart.
fn hash(text: &str, seed: u64) -> u64 {
    let mut value = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in text.bytes() {
        value = (value ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    value = (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^ (value >> 33)
}

/// The pictures in a folder and its subfolders, sorted by name, or the one picture at `input`; and
/// what could not be looked at. Files below one of `outputs` are left out, so that a result is never
/// taken for a source.
///
/// # Errors
/// When there is nothing at `input`, or no picture, or when `outputs` name the input's own folder or
/// one folder twice.
pub fn pictures(input: &Path, outputs: &[&Path]) -> Result<(Vec<PictureFile>, Vec<Skipped>)> {
    let input_itself = input
        .canonicalize()
        .with_context(|| format!("cannot read {}", input.display()))?;
    let own_folder = if input_itself.is_dir() {
        Some(input_itself.as_path())
    } else {
        input_itself.parent()
    };
    let mut results: Vec<PathBuf> = Vec::new();
    for output in outputs {
        let result = std::path::absolute(output)
            .with_context(|| format!("{} is no folder name", output.display()))?;
        let result = result.canonicalize().unwrap_or(result);
        if own_folder == Some(&result) || results.contains(&result) {
            bail!(
                "{} is used already; each result needs a folder of its own",
                output.display()
            );
        }
        results.push(result);
    }
    if !input_itself.is_dir() {
        let file = PictureFile {
            path: input.to_owned(),
            name: input.file_name().unwrap_or(input.as_os_str()).into(),
        };
        return Ok((vec![file], Vec::new()));
    }

    let (candidates, skipped) = Source::Folder(input.to_owned()).candidates()?;
    let is_result = |path: &Path| {
        path.canonicalize()
            .is_ok_and(|path| results.iter().any(|result| path.starts_with(result)))
    };
    let mut files = candidates
        .into_iter()
        .filter(|path| !is_result(path))
        .map(|path| {
            let name = path.strip_prefix(input)?.to_owned();
            Ok(PictureFile { path, name })
        })
        .collect::<Result<Vec<_>>>()?;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    if files.is_empty() {
        bail!(
            "there are no pictures in {}; put JPEG, PNG, WebP, BMP or PNM files there",
            input.display()
        );
    }
    Ok((files, skipped))
}

/// Those of `files` whose picture `wanted` says yes to, and those that cannot be read, which are told
/// of where they are used.
pub fn select(
    files: Vec<PictureFile>,
    wanted: impl Fn(&RgbImage) -> bool + Sync,
) -> Vec<PictureFile> {
    files
        .into_par_iter()
        .filter(|file| read_picture(&file.path).map_or(true, |picture| wanted(&picture)))
        .collect()
}

/// Divides a set into two parts that share no picture; the first gets `share` (0 to 1) of it.
///
/// Which picture goes where depends on the names alone, and the parts keep the order. With
/// `keep_clips` the frames of one video (`NAME-000001`, `NAME-000002`, …) stay together. With two
/// pictures (or clips) or more, neither part is empty.
pub fn split(files: Vec<PictureFile>, share: f32, keep_clips: bool) -> [Vec<PictureFile>; 2] {
    let group = |file: &PictureFile| {
        if keep_clips {
            file.clip()
        } else {
            file.name.to_string_lossy().into_owned()
        }
    };
    let mut sizes = BTreeMap::<String, usize>::new();
    for file in &files {
        *sizes.entry(group(file)).or_default() += 1;
    }
    let mut groups: Vec<(String, usize)> = sizes.into_iter().collect();
    groups.sort_by_cached_key(|(name, _)| hash(name, 0));

    let wanted = share.clamp(0.0, 1.0) * files.len() as f32;
    let last = groups.len().saturating_sub(1);
    let mut before = 0.0;
    let mut first_part = HashMap::new();
    for (i, (name, size)) in groups.into_iter().enumerate() {
        // A clip goes to the side on which its middle falls.
        let in_first = match i {
            0 => true,
            i if i == last => false,
            _ => before + 0.5 * size as f32 <= wanted,
        };
        before += size as f32;
        first_part.insert(name, in_first);
    }
    let (first, second) = files.into_iter().partition(|file| first_part[&group(file)]);
    [first, second]
}

/// The picture scaled so that its shorter side is `side` pixels.
///
/// # Errors
/// [`PictureError::TooLarge`] when the result would be.
pub fn resized(picture: RgbImage, side: u32) -> Result<RgbImage, PictureError> {
    let (width, height) = picture.dimensions();
    let shorter = width.min(height);
    if shorter == side || shorter == 0 {
        return Ok(picture);
    }
    let proportional = |length: u32| {
        let exact = f64::from(length) * f64::from(side) / f64::from(shorter);
        exact.round() as u32
    };
    let (width, height) = (proportional(width), proportional(height));
    scaled(picture, width, height, &ResizeOptions::new())
}

/// What size pictures are brought to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// None but their own.
    AsTheyAre,
    /// The shorter side to so many pixels.
    ShorterSide(u32),
    /// Scaled to cover so many pixels across and down, and the middle cut out.
    Crop([u32; 2]),
    /// A part somewhere in each picture, scaled to so many pixels across and down.
    Part {
        /// Width and height of the results.
        size: [u32; 2],
        /// The smallest part, as a share (0 to 1) of the largest of this shape that fits; each has a size
        /// between the two.
        smallest: f32,
        /// Seed of sizes and places, each of which depends on the picture's name, too.
        seed: u64,
    },
}

impl From<Option<u32>> for Scaling {
    /// The shorter side, if there is a size.
    fn from(size: Option<u32>) -> Self {
        size.map_or(Self::AsTheyAre, Self::ShorterSide)
    }
}

impl Scaling {
    /// By how much a picture of `width` and `height` pixels is enlarged: below 1 where it is made smaller, and
    /// for parts at least by so much.
    fn factor(self, (width, height): (u32, u32)) -> f64 {
        let covering = |[across, down]: [u32; 2]| {
            let [across, down] = [(across, width), (down, height)]
                .map(|(wanted, own)| f64::from(wanted) / f64::from(own));
            across.max(down)
        };
        match self {
            Self::AsTheyAre => 1.0,
            Self::ShorterSide(side) => f64::from(side) / f64::from(width.min(height)),
            Self::Crop(size) | Self::Part { size, .. } => covering(size),
        }
    }

    /// The picture that `file` holds, at this size.
    ///
    /// # Errors
    /// [`PictureError::TooLarge`] when the result would be.
    fn apply(self, file: &PictureFile, picture: RgbImage) -> Result<RgbImage, PictureError> {
        match self {
            Self::AsTheyAre => Ok(picture),
            Self::ShorterSide(side) => resized(picture, side),
            Self::Crop(size) if <[u32; 2]>::from(picture.dimensions()) == size => Ok(picture),
            Self::Crop([width, height]) => {
                let covering = ResizeOptions::new().fit_into_destination(None);
                scaled(picture, width, height, &covering)
            }
            Self::Part {
                size: [width, height],
                smallest,
                seed,
            } => {
                let mut random = ChaCha8Rng::seed_from_u64(file.hash(seed));
                let own: [f64; 2] = <[u32; 2]>::from(picture.dimensions()).map(f64::from);
                let shape = [width, height].map(f64::from);
                // A hair less than fits, so that rounding puts no part beyond the edges.
                let largest = (1.0 - 1e-9) * (own[0] / shape[0]).min(own[1] / shape[1]);
                let scale = largest * f64::from(random.random_range(smallest..=1.0));
                let part = shape.map(|side| scale * side);
                let [left, top] =
                    [0, 1].map(|axis| random.random_range(0.0..=1.0) * (own[axis] - part[axis]));
                let part = ResizeOptions::new().crop(left, top, part[0], part[1]);
                scaled(picture, width, height, &part)
            }
        }
    }
}

fn scaled(
    picture: RgbImage,
    width: u32,
    height: u32,
    options: &ResizeOptions,
) -> Result<RgbImage, PictureError> {
    if width.max(height) > MAXIMUM_SIDE {
        return Err(PictureError::TooLarge);
    }
    let mut result = DynamicImage::new_rgb8(width, height);
    Resizer::new()
        .resize(&DynamicImage::from(picture), &mut result, options)
        .map_err(|problem| PictureError::Broken(problem.to_string()))?;
    Ok(result.into_rgb8())
}

/// Pictures that nearly repeat another that comes before them: (earlier, later), by their places
/// among `files`. Those that cannot be read repeat none.
pub fn repetitions(files: &[PictureFile]) -> Vec<(usize, usize)> {
    let likenesses: Vec<Option<Likeness>> = files
        .par_iter()
        .map(|file| {
            let picture = read_picture(&file.path).ok()?;
            Some(PictureFacts::of(&picture).likeness)
        })
        .collect();
    let found = NearDuplicates::find(&[likenesses], || false);
    found.map_or(Vec::new(), |found| found.within(0))
}

/// The format of the files that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// PNG.
    Png,
    /// JPEG at quality 92.
    Jpeg,
}

impl Format {
    /// The extension of files in this format.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Jpeg => "jpg",
        }
    }

    /// Writes a picture, which is there as a whole or not at all; folders on the way are made.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(self, picture: &RgbImage, path: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        match self {
            Format::Png => picture.write_with_encoder(PngEncoder::new(&mut bytes)),
            Format::Jpeg => {
                picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 92))
            }
        }
        .with_context(|| format!("{}: cannot encode", path.display()))?;
        make_parent(path)?;
        Ok(atomic_file::write(path, |file| file.write_all(&bytes))?)
    }
}

/// Refuses to go on where a result that [`convert`] makes of `files` in `format`, or [`copy`] without
/// one, is in `output` already.
///
/// # Errors
/// A sentence that names the first such result.
pub fn refuse_to_replace(
    files: &[PictureFile],
    output: &Path,
    format: Option<Format>,
) -> Result<()> {
    let names = match format {
        Some(format) => output_names(files, format),
        None => files.iter().map(|file| file.name.clone()).collect(),
    };
    let results = names.into_iter().map(|name| output.join(name));
    refuse_existing(results)
}

/// Reads each picture, brings it to its size, and writes what `draw` makes of it below `output` under
/// the source's name, with the format's extension; of pictures of which it makes nothing, nothing is
/// written. Works on all cores and shows a bar.
///
/// # Errors
/// When a result cannot be written, or not one picture could be read.
pub fn convert(
    files: &[PictureFile],
    output: &Path,
    format: Format,
    scaling: Scaling,
    draw: impl Fn(&PictureFile, RgbImage) -> Option<RgbImage> + Sync,
) -> Result<Converted> {
    let names = output_names(files, format);
    let written = AtomicUsize::new(0);
    let (skipped, enlarged) = for_each_picture(files, names, scaling, |file, name, picture| {
        if let Some(result) = draw(file, picture) {
            format.write(&result, &output.join(name))?;
            written.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })?;
    Ok(Converted {
        written: written.into_inner(),
        skipped,
        enlarged,
    })
}

/// What [`convert`] has done.
#[derive(Debug)]
pub struct Converted {
    /// Pictures that were written.
    pub written: usize,
    /// Files that could not be read; they do not stop the work.
    pub skipped: Vec<Skipped>,
    /// Pictures that were smaller than they were wanted, if there are any.
    pub enlarged: Option<Enlarged>,
}

/// Pictures that had to be enlarged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Enlarged {
    /// How many.
    pub pictures: usize,
    /// By how much at most: the factor of their sides.
    pub most: f64,
}

/// Copies each picture of the set, as its file is, below `output` under its name.
///
/// Returns the files that could not be read; they are not copied.
///
/// # Errors
/// When a file cannot be copied, or not one picture could be read.
pub fn copy(files: &[PictureFile], output: &Path) -> Result<Vec<Skipped>> {
    let names = files.iter().map(|file| file.name.clone()).collect();
    let (skipped, _) = for_each_picture(files, names, Scaling::AsTheyAre, |file, name, _| {
        let target = output.join(name);
        make_parent(&target)?;
        let copied = File::open(&file.path).map_err(anyhow::Error::from);
        let copied = copied.and_then(|mut source| {
            Ok(atomic_file::write(&target, |copy| {
                std::io::copy(&mut source, copy).map(drop)
            })?)
        });
        copied.with_context(|| {
            format!(
                "cannot copy {} to {}",
                file.path.display(),
                target.display()
            )
        })
    })?;
    Ok(skipped)
}

/// Reads each of `files`, brings it to its size, and lets `work` make the result of this name of it.
/// Works on all cores and shows a bar.
///
/// Returns the files that could not be read, and how many pictures were enlarged.
///
/// # Errors
/// The first of `work`, or when not one picture could be read.
fn for_each_picture(
    files: &[PictureFile],
    names: Vec<PathBuf>,
    scaling: Scaling,
    work: impl Fn(&PictureFile, PathBuf, RgbImage) -> Result<()> + Sync,
) -> Result<(Vec<Skipped>, Option<Enlarged>)> {
    let enlarged = Mutex::new(None::<Enlarged>);
    let bar = ProgressBar::new(files.len() as u64).with_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} pictures, {per_sec}, {eta} left",
    )?);
    let skipped: Vec<Skipped> = files
        .par_iter()
        .zip(names)
        .map(|(file, name)| {
            let picture = read_picture(&file.path).and_then(|picture| {
                let factor = scaling.factor(picture.dimensions());
                let picture = scaling.apply(file, picture)?;
                if factor > 1.0 {
                    let mut enlarged = enlarged.lock().unwrap_or_else(PoisonError::into_inner);
                    let (pictures, most) =
                        enlarged.map_or((0, factor), |one| (one.pictures, one.most));
                    *enlarged = Some(Enlarged {
                        pictures: pictures + 1,
                        most: most.max(factor),
                    });
                }
                Ok(picture)
            });
            let skipped = match picture {
                Ok(picture) => {
                    work(file, name, picture)?;
                    None
                }
                Err(reason) => Some(Skipped {
                    path: file.path.clone(),
                    reason: reason.into(),
                }),
            };
            bar.inc(1);
            Ok(skipped)
        })
        .filter_map(Result::transpose)
        .collect::<Result<_>>()?;
    bar.finish();
    if let Some(first) = skipped.first()
        && skipped.len() == files.len()
    {
        bail!("there is no picture to work on; {first}");
    }
    let enlarged = enlarged.into_inner();
    Ok((skipped, enlarged.unwrap_or_else(PoisonError::into_inner)))
}

fn make_parent(path: &Path) -> Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// The names of the results. Where two sources differ in their extension only, both keep it in
/// front of the new one.
fn output_names(files: &[PictureFile], format: Format) -> Vec<PathBuf> {
    let mut stems = HashMap::<PathBuf, usize>::new();
    for file in files {
        *stems.entry(file.name.with_extension("")).or_default() += 1;
    }
    files
        .iter()
        .map(|file| {
            let stem = file.name.with_extension("");
            let mut name = if stems[&stem] > 1 {
                file.name.clone().into_os_string()
            } else {
                stem.into_os_string()
            };
            name.push(".");
            name.push(format.extension());
            name.into()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn set(names: impl IntoIterator<Item = String>) -> Vec<PictureFile> {
        names
            .into_iter()
            .map(|name| PictureFile {
                path: Path::new("photos").join(&name),
                name: name.into(),
            })
            .collect()
    }

    #[test]
    fn parts_share_no_picture_and_lose_none() {
        let files = set((0..101).map(|i| format!("image_{i:04}.jpg")));
        for share in [0.0, 0.1, 0.5, 0.95, 1.0] {
            let [first, second] = split(files.clone(), share, false);
            let names: HashSet<_> = first.iter().chain(&second).map(|f| &f.name).collect();
            assert_eq!(names.len(), 101);
            assert_eq!(first.len() + second.len(), 101);
            let wanted = (share * 101.0).clamp(1.0, 100.0);
            assert!((first.len() as f32 - wanted).abs() <= 1.0, "{share}");
        }
    }

    #[test]
    fn parts_do_not_depend_on_the_order_of_the_set() {
        let files = set((0..40).map(|i| format!("{i}.png")));
        let [first, _] = split(files.clone(), 0.5, false);
        let [mut again, _] = split(files.into_iter().rev().collect(), 0.5, false);
        again.reverse();
        assert_eq!(first, again);
    }

    #[test]
    fn clips_stay_together() {
        let files = set((0..12).flat_map(|clip| {
            (1..=(3 + clip % 5)).map(move |frame| format!("day{clip}/walk-{frame:06}.jpg"))
        }));
        let parts = split(files, 0.5, true);
        let [first, second] = parts
            .each_ref()
            .map(|part| part.iter().map(PictureFile::clip).collect::<HashSet<_>>());
        assert_eq!(first.len() + second.len(), 12);
        assert!(first.is_disjoint(&second));
        assert!(parts.iter().all(|part| part.len() > 15));
    }

    #[test]
    fn one_picture_is_all_in_the_first_part() {
        let [first, second] = split(set(["a.png".to_owned()]), 0.5, false);
        assert_eq!((first.len(), second.len()), (1, 0));
    }

    #[test]
    fn results_of_like_named_sources_keep_apart() {
        let names = ["a.jpg", "a.png", "b.webp", "deep/a.jpg", "c"];
        assert_eq!(
            output_names(&set(names.map(str::to_owned)), Format::Png),
            ["a.jpg.png", "a.png.png", "b.png", "deep/a.png", "c.png"].map(PathBuf::from)
        );
    }

    #[test]
    fn the_shorter_side_is_scaled() {
        let picture = RgbImage::new(300, 200);
        assert_eq!(
            resized(picture.clone(), 100).unwrap().dimensions(),
            (150, 100)
        );
        assert_eq!(
            resized(picture.clone(), 400).unwrap().dimensions(),
            (600, 400)
        );
        assert_eq!(resized(picture, 30_000), Err(PictureError::TooLarge));
    }

    #[test]
    fn the_largest_part_of_any_picture_lies_within_it() {
        let file = &set(["a.png".to_owned()])[0];
        for width in 20..120 {
            for size in [[97, 131], [33, 77], [160, 120]] {
                let part = Scaling::Part {
                    size,
                    smallest: 1.0,
                    seed: u64::from(width),
                };
                let result = part.apply(file, RgbImage::new(width, 61));
                assert_eq!(result.unwrap().dimensions(), size.into(), "{width}");
            }
        }
    }

    #[test]
    fn names_of_one_seed_get_numbers_of_their_own() {
        let files = set((0..1000).map(|i| format!("{i}.jpg")));
        let numbers: HashSet<u64> = (0..3)
            .flat_map(|seed| files.iter().map(move |file| file.hash(seed)))
            .collect();
        assert_eq!(numbers.len(), 3000);
    }
}
