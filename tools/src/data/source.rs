//! Where pictures come from: folders, list files, and the layout of the published data sets.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use munit::picture_file::{PictureError, looks_like_picture};
use walkdir::{DirEntry, WalkDir};

use super::picture_set::Skipped;

/// Files with these endings, in any case, are meant as pictures, whatever they contain.
const EXTENSIONS: [&str; 16] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "ppm", "pgm", "pbm", "pnm", "gif", "tif",
    "tiff", "heic", "avif",
];

/// How many first bytes tell the format of a picture.
const SIGNATURE_BYTES: u64 = 32;

/// Where the pictures of one domain come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// All pictures in a folder and in the folders below it. Hidden files and folders, whose names
    /// begin with a dot, are passed over.
    Folder(PathBuf),
    /// The pictures that a text file names, one a line, relative to a folder.
    List {
        /// The folder that the names are relative to.
        root: PathBuf,
        /// The text file. Empty lines are passed over.
        list: PathBuf,
    },
}

impl Source {
    /// The folder that the pictures lie in.
    pub fn root(&self) -> &Path {
        match self {
            Self::Folder(root) | Self::List { root, .. } => root,
        }
    }

    /// The paths of all files that are meant as pictures, and what could not be looked at.
    ///
    /// # Errors
    /// A missing folder or list file, in a sentence that names it.
    pub fn candidates(&self) -> Result<(Vec<PathBuf>, Vec<Skipped>)> {
        self.candidates_outside(None)
    }

    /// The same without what lies in the folder `results` or below it, if that lies below this one: what
    /// is made of pictures must not be taken for some of them. What a list names is meant.
    ///
    /// # Errors
    /// A missing folder or list file, in a sentence that names it.
    pub fn candidates_outside(
        &self,
        results: Option<&Path>,
    ) -> Result<(Vec<PathBuf>, Vec<Skipped>)> {
        check_folder(self.root(), "a folder of pictures")?;
        match self {
            Self::Folder(root) => Ok(files_outside(root, results, is_picture)),
            Self::List { root, list } => {
                let text = fs::read_to_string(list).with_context(|| {
                    format!(
                        "cannot read the list {}; it must be a text file with one picture name a line",
                        list.display()
                    )
                })?;
                let names = text.trim_start_matches('\u{feff}').lines();
                let names = names.map(str::trim).filter(|name| !name.is_empty());
                Ok((names.map(|name| root.join(name)).collect(), Vec::new()))
            }
        }
    }
}

/// The folders of a published data set: `trainA`, `trainB`, `testA` and `testB` below one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataLayout {
    /// Pictures of domain a to train on.
    pub train_a: Source,
    /// Pictures of domain b to train on.
    pub train_b: Source,
    /// Pictures of domain a kept back for looking at, if there are any.
    pub test_a: Option<Source>,
    /// Pictures of domain b kept back for looking at, if there are any.
    pub test_b: Option<Source>,
}

impl DataLayout {
    /// The layout below `root`.
    ///
    /// # Errors
    /// When it, `trainA` or `trainB` is missing.
    pub fn from_root(root: &Path) -> Result<Self> {
        check_folder(root, "a folder with trainA and trainB")?;
        let folder = |name| {
            let folder = root.join(name);
            folder.is_dir().then_some(Source::Folder(folder))
        };
        let (Some(train_a), Some(train_b)) = (folder("trainA"), folder("trainB")) else {
            bail!(
                "the data folder {} must hold the folders trainA and trainB, and may hold testA and testB",
                root.display()
            );
        };
        Ok(Self {
            train_a,
            train_b,
            test_a: folder("testA"),
            test_b: folder("testB"),
        })
    }
}

fn check_folder(root: &Path, wanted: &str) -> Result<()> {
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => bail!("{} is a file; give {wanted}", root.display()),
        Err(error) if root.is_relative() => bail!(
            "cannot open the folder {}: {error}; give {wanted}, relative to the current folder, {}",
            root.display(),
            std::env::current_dir().unwrap_or_default().display()
        ),
        Err(error) => bail!(
            "cannot open the folder {}: {error}; give {wanted}",
            root.display()
        ),
    }
}

/// Whether `path`, which need not exist yet, is `folder` or lies in it or in a folder below it.
pub fn lies_inside(path: &Path, folder: &Path) -> bool {
    let (Ok(path), Ok(folder)) = (std::path::absolute(path), folder.canonicalize()) else {
        return false;
    };
    path.ancestors()
        .find_map(|existing| existing.canonicalize().ok())
        .is_some_and(|existing| existing.starts_with(folder))
}

/// The files in `root` and in the folders below it that are `wanted`, sorted, and what could not be looked
/// at. Hidden files and folders, whose names begin with a dot, are passed over.
pub(crate) fn files_below(
    root: &Path,
    wanted: impl Fn(&Path) -> bool,
) -> (Vec<PathBuf>, Vec<Skipped>) {
    files_outside(root, None, wanted)
}

/// The same without those in the folder `results` and below it, unless `root` itself lies there.
fn files_outside(
    root: &Path,
    results: Option<&Path>,
    wanted: impl Fn(&Path) -> bool,
) -> (Vec<PathBuf>, Vec<Skipped>) {
    let mut files = Vec::new();
    let mut skipped = Vec::new();
    // Links may lead to one folder by many ways; each is entered once. A link to a folder around this
    // one is not followed: it would bring in this one again, and what lies beside it.
    let itself = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let mut entered = HashSet::new();
    let results = results
        .and_then(|results| fs::canonicalize(results).ok())
        .filter(|results| !itself.starts_with(results));
    let mut enter = |folder: &Path| {
        fs::canonicalize(folder).is_ok_and(|folder| {
            let is_result = |results| folder.starts_with(results);
            !itself.starts_with(&folder)
                && !results.as_ref().is_some_and(is_result)
                && entered.insert(folder)
        })
    };
    let entries = WalkDir::new(root)
        .follow_links(true)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| {
            entry.depth() == 0
                || (!is_hidden(entry) && (!entry.file_type().is_dir() || enter(entry.path())))
        });
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_type().is_file() && wanted(entry.path()) => {
                files.push(entry.into_path());
            }
            Ok(_) => {}
            // A link to a folder above it: all that it leads to is found in its own place.
            Err(error) if error.loop_ancestor().is_some() => {}
            Err(error) => {
                let path = error.path().unwrap_or(root).to_path_buf();
                let reason = error
                    .into_io_error()
                    .map_or(PictureError::Missing, PictureError::from);
                skipped.push(Skipped {
                    path,
                    reason: reason.into(),
                });
            }
        }
    }
    (files, skipped)
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// Whether a file is meant as a picture, by name, or else by content.
pub(crate) fn is_picture(path: &Path) -> bool {
    let named_as_picture = path
        .extension()
        .and_then(OsStr::to_str)
        .is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()));
    named_as_picture || {
        let mut first_bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(SIGNATURE_BYTES).read_to_end(&mut first_bytes))
            .is_ok_and(|_| looks_like_picture(&first_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_layout_needs_both_training_folders() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("trainA")).unwrap();
        let error = DataLayout::from_root(root).unwrap_err().to_string();
        assert!(error.contains("trainA and trainB") && error.contains(root.to_str().unwrap()));

        fs::create_dir(root.join("trainB")).unwrap();
        fs::create_dir(root.join("testB")).unwrap();
        let layout = DataLayout::from_root(root).unwrap();
        assert_eq!(layout.train_a, Source::Folder(root.join("trainA")));
        assert_eq!(layout.train_b, Source::Folder(root.join("trainB")));
        assert_eq!(layout.test_a, None);
        assert_eq!(layout.test_b, Some(Source::Folder(root.join("testB"))));
    }
}
