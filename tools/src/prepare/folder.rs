//! Folders of pictures in, folders of pictures out: listing, dividing, reading, writing.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fast_image_resize::{ResizeOptions, Resizer};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ImageDecoder, ImageReader, Rgb, RgbImage};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use walkdir::WalkDir;

/// Extensions of files that are taken for pictures, in lower case.
const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "ppm", "pgm", "pnm"];

/// A picture file and its place in the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where the file is.
    pub path: PathBuf,
    /// Its path relative to the set's folder.
    pub name: PathBuf,
}

impl Source {
    /// A number that depends on the name and `seed` alone, the same on every machine.
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

/// The pictures in a folder and its subfolders, sorted by name, or the one picture at `input`.
/// Files below one of `outputs` are left out, so that a result is never taken for a source.
///
/// # Errors
/// When there is nothing at `input`, or no picture.
pub fn pictures(input: &Path, outputs: &[&Path]) -> Result<Vec<Source>> {
    let kind = fs::metadata(input).with_context(|| format!("cannot read {}", input.display()))?;
    if !kind.is_dir() {
        let name = input.file_name().unwrap_or(input.as_os_str());
        return Ok(vec![Source {
            path: input.to_owned(),
            name: name.into(),
        }]);
    }
    let outputs: Vec<PathBuf> = outputs
        .iter()
        .filter_map(|output| output.canonicalize().ok())
        .filter(|output| input.canonicalize().is_ok_and(|input| *output != input))
        .collect();
    let is_output = |path: &Path| {
        path.canonicalize()
            .is_ok_and(|path| outputs.contains(&path))
    };
    let mut sources = Vec::new();
    let entries = WalkDir::new(input)
        .follow_links(true)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| !entry.file_type().is_dir() || !is_output(entry.path()));
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", input.display()))?;
        if !entry.file_type().is_file() || !has_picture_extension(entry.path()) {
            continue;
        }
        sources.push(Source {
            name: entry.path().strip_prefix(input)?.to_owned(),
            path: entry.into_path(),
        });
    }
    if sources.is_empty() {
        bail!(
            "{} holds no picture; files ending in {} are taken, in subfolders too",
            input.display(),
            EXTENSIONS.join(", ")
        );
    }
    Ok(sources)
}

fn has_picture_extension(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}

/// Divides a set into two parts that share no picture; the first gets `share` (0 to 1) of it.
///
/// Which picture goes where depends on the names alone, and the parts keep the order. With
/// `keep_clips` the frames of one video (`NAME-000001`, `NAME-000002`, …) stay together. With two
/// pictures (or clips) or more, neither part is empty.
pub fn split(sources: Vec<Source>, share: f32, keep_clips: bool) -> [Vec<Source>; 2] {
    let group = |source: &Source| {
        if keep_clips {
            source.clip()
        } else {
            source.name.to_string_lossy().into_owned()
        }
    };
    let mut sizes = BTreeMap::<String, usize>::new();
    for source in &sources {
        *sizes.entry(group(source)).or_default() += 1;
    }
    let mut groups: Vec<(String, usize)> = sizes.into_iter().collect();
    groups.sort_by_cached_key(|(name, _)| hash(name, 0));

    let wanted = share.clamp(0.0, 1.0) * sources.len() as f32;
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
    let (first, second) = sources
        .into_iter()
        .partition(|source| first_part[&group(source)]);
    [first, second]
}

/// Reads a picture as RGB, upright (Exif orientation applied), transparency on white.
///
/// # Errors
/// When the file cannot be read or is not a whole picture of a known format.
pub fn read(path: &Path) -> Result<RgbImage> {
    let mut decoder = ImageReader::open(path)?
        .with_guessed_format()?
        .into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    if !picture.color().has_alpha() {
        return Ok(picture.into_rgb8());
    }
    let picture = picture.into_rgba8();
    Ok(RgbImage::from_fn(
        picture.width(),
        picture.height(),
        |x, y| {
            let [r, g, b, a] = picture.get_pixel(x, y).0.map(u32::from);
            Rgb([r, g, b].map(|v| ((v * a + 255 * (255 - a) + 127) / 255) as u8))
        },
    ))
}

/// The picture resized so that its shorter side is `side` pixels.
///
/// # Errors
/// When the result would be too large to hold.
pub fn resized(picture: &RgbImage, side: u32) -> Result<RgbImage> {
    let (width, height) = picture.dimensions();
    let shorter = width.min(height);
    if shorter == side || shorter == 0 {
        return Ok(picture.clone());
    }
    let scaled = |length: u32| {
        let exact = f64::from(length) * f64::from(side) / f64::from(shorter);
        (exact.round() as u32).max(1)
    };
    let (width, height) = (scaled(width), scaled(height));
    if u64::from(width) * u64::from(height) > 1 << 28 {
        bail!("would become {width}×{height} pixels, which is too large");
    }
    let mut result = DynamicImage::new_rgb8(width, height);
    let source = DynamicImage::from(picture.clone());
    Resizer::new().resize(&source, &mut result, &ResizeOptions::new())?;
    Ok(result.into_rgb8())
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

    /// Writes a picture; folders on the way are made.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(self, picture: &RgbImage, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut file = BufWriter::new(file);
        match self {
            Format::Png => picture.write_with_encoder(PngEncoder::new(&mut file)),
            Format::Jpeg => {
                picture.write_with_encoder(JpegEncoder::new_with_quality(&mut file, 92))
            }
        }
        .map_err(anyhow::Error::from)
        .and_then(|()| Ok(file.flush()?))
        .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// What became of a set.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Number of pictures written.
    pub written: usize,
    /// Files that could not be read, and why, in the order of the set.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Reads each picture, scales its shorter side to `size` if given, and writes what `draw` makes of
/// it below `output` under the source's name, with the format's extension. Works on all cores and
/// shows a bar.
///
/// Files that are not pictures are listed in the outcome and do not stop the work.
///
/// # Errors
/// When a result cannot be written, or not one picture could be read.
pub fn convert(
    sources: &[Source],
    output: &Path,
    format: Format,
    size: Option<u32>,
    draw: impl Fn(&Source, RgbImage) -> RgbImage + Sync,
) -> Result<Outcome> {
    let bar = ProgressBar::new(sources.len() as u64);
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} pictures, {per_sec:.1}, {eta} left",
    )?);
    let skipped: Vec<(PathBuf, String)> = sources
        .par_iter()
        .zip(output_names(sources, format))
        .map(|(source, name)| {
            let picture = read(&source.path).and_then(|picture| match size {
                Some(side) => resized(&picture, side),
                None => Ok(picture),
            });
            bar.inc(1);
            match picture {
                Ok(picture) => {
                    format.write(&draw(source, picture), &output.join(name))?;
                    Ok(None)
                }
                Err(problem) => Ok(Some((source.path.clone(), format!("{problem:#}")))),
            }
        })
        .filter_map(Result::transpose)
        .collect::<Result<_>>()?;
    bar.finish();
    let written = sources.len() - skipped.len();
    if let (0, Some((path, problem))) = (written, skipped.first()) {
        bail!(
            "none of {} files could be read as a picture; the first is {}: {problem}",
            skipped.len(),
            path.display()
        );
    }
    Ok(Outcome { written, skipped })
}

/// Copies each file of the set below `output` under its name.
///
/// # Errors
/// When a file cannot be copied.
pub fn copy(sources: &[Source], output: &Path) -> Result<()> {
    for source in sources {
        let target = output.join(&source.name);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        fs::copy(&source.path, &target).with_context(|| {
            format!(
                "cannot copy {} to {}",
                source.path.display(),
                target.display()
            )
        })?;
    }
    Ok(())
}

/// The names of the results. Where two sources differ in their extension only, both keep it in
/// front of the new one.
fn output_names(sources: &[Source], format: Format) -> Vec<PathBuf> {
    let mut stems = HashMap::<PathBuf, usize>::new();
    for source in sources {
        *stems.entry(source.name.with_extension("")).or_default() += 1;
    }
    sources
        .iter()
        .map(|source| {
            let stem = source.name.with_extension("");
            let mut name = if stems[&stem] > 1 {
                source.name.clone().into_os_string()
            } else {
                stem.into_os_string()
            };
            name.push(".");
            name.push(format.extension());
            name.into()
        })
        .collect()
}
