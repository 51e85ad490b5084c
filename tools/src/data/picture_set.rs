//! The usable pictures of one domain.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::picture::{self, PictureError, read_picture};
use super::source::Source;

/// A picture that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file, or the folder that could not be entered.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: PictureError,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// The usable pictures of one domain, and what was left out and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureSet {
    /// The folder that the pictures lie in.
    pub root: PathBuf,
    /// The usable pictures, sorted.
    pub paths: Vec<PathBuf>,
    /// What was left out, sorted by path.
    pub skipped: Vec<Skipped>,
}

impl PictureSet {
    /// Finds the pictures of a source and decodes each of them once, on all cores, to leave out
    /// those that are broken, tiny or blank.
    ///
    /// `progress` is called with the number of pictures looked at and the number of all, after
    /// each picture, from several threads.
    ///
    /// # Errors
    /// A missing folder, a folder without pictures, and one in which no picture is usable, in a
    /// sentence that names the folder.
    pub fn scan(source: &Source, progress: impl Fn(usize, usize) + Sync) -> Result<Self> {
        let root = source.root();
        let (mut candidates, mut skipped) = source.candidates()?;
        candidates.sort();
        if candidates.is_empty() {
            match source {
                Source::Folder(_) => bail!(
                    "there are no pictures in {}; put JPEG, PNG, WebP, BMP or PNM files there",
                    root.display()
                ),
                Source::List { list, .. } => bail!(
                    "the list {} names no pictures; write one name a line, relative to {}",
                    list.display(),
                    root.display()
                ),
            }
        }

        let total = candidates.len();
        let looked_at = AtomicUsize::new(0);
        let checked: Vec<Result<PathBuf, Skipped>> = candidates
            .into_par_iter()
            .map(|path| {
                let usable = check(&path);
                progress(looked_at.fetch_add(1, Ordering::Relaxed) + 1, total);
                match usable {
                    Ok(()) => Ok(path),
                    Err(reason) => Err(Skipped { path, reason }),
                }
            })
            .collect();

        let mut paths = Vec::with_capacity(total);
        for picture in checked {
            match picture {
                Ok(path) => paths.push(path),
                Err(picture) => skipped.push(picture),
            }
        }
        skipped.sort_by(|one, other| one.path.cmp(&other.path));
        match skipped.first() {
            Some(first) if paths.is_empty() => bail!(
                "none of the {total} pictures in {} can be used; the first is {first}",
                root.display()
            ),
            _ => Ok(Self {
                root: root.to_path_buf(),
                paths,
                skipped,
            }),
        }
    }

    /// A checksum of the names of the usable pictures, relative to the folder.
    ///
    /// A run that goes on with another set than it began with draws other pictures; this tells.
    pub fn fingerprint(&self) -> u32 {
        self.paths.iter().fold(0, |checksum, path| {
            let name = path.strip_prefix(&self.root).unwrap_or(path);
            let checksum = crc32c::crc32c_append(checksum, name.as_os_str().as_encoded_bytes());
            crc32c::crc32c_append(checksum, b"\n")
        })
    }
}

fn check(path: &Path) -> Result<(), PictureError> {
    if picture::is_blank(&read_picture(path)?) {
        return Err(PictureError::Blank);
    }
    Ok(())
}
