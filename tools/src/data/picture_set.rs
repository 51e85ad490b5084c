//! The usable pictures of one domain.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, bail};
use munit::picture_file::read_picture;
use rayon::prelude::*;

use super::source::Source;
use super::unusable::{self, Unusable};

/// A picture that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file, or the folder that could not be entered.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Unusable,
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
    /// those that are broken, tiny, blank or strips.
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

fn check(path: &Path) -> Result<(), Unusable> {
    unusable::check(&read_picture(path)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use image::{Rgb, RgbImage};
    use munit::picture_file::PictureError;

    use super::*;
    use crate::data::test_pictures::{picture, write_pictures};

    fn scan(source: &Source) -> Result<PictureSet> {
        PictureSet::scan(source, |_, _| ())
    }

    fn names(set: &PictureSet) -> Vec<String> {
        let names = set.paths.iter().map(|path| path.strip_prefix(&set.root));
        names
            .map(|name| name.unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn unusable_pictures_are_listed_and_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write_pictures(&root.join("deep/er"), 2);
        picture(20, 20, 1).save(root.join("B.PNG")).unwrap();
        picture(20, 20, 2).save(root.join("a.png")).unwrap();
        fs::rename(root.join("a.png"), root.join("without ending")).unwrap();
        picture(8, 8, 1).save(root.join("tiny.png")).unwrap();
        picture(17, 273, 1).save(root.join("strip.png")).unwrap();
        let white = RgbImage::from_pixel(20, 20, Rgb([255; 3]));
        white.save(root.join("white.bmp")).unwrap();
        fs::write(root.join("broken.jpg"), "\u{0}").unwrap();
        fs::write(root.join("notes.txt"), "not meant as a picture").unwrap();
        fs::write(root.join(".hidden.jpg"), "left behind by a file manager").unwrap();

        let set = scan(&Source::Folder(root.to_path_buf())).unwrap();
        let usable = [
            "B.PNG",
            "deep/er/00.png",
            "deep/er/01.png",
            "without ending",
        ];
        assert_eq!(names(&set), usable);
        let tiny = PictureError::TooSmall {
            width: 8,
            height: 8,
        };
        let strip = Unusable::Strip {
            width: 17,
            height: 273,
        };
        let skipped = [
            ("broken.jpg", PictureError::NotAPicture.into()),
            ("strip.png", strip),
            ("tiny.png", tiny.into()),
            ("white.bmp", Unusable::Blank),
        ];
        let skipped = skipped.map(|(name, reason)| Skipped {
            path: root.join(name),
            reason,
        });
        assert_eq!(set.skipped, skipped);
    }

    #[test]
    fn progress_counts_every_picture() {
        let folder = tempfile::tempdir().unwrap();
        write_pictures(folder.path(), 5);
        let seen = Mutex::new(Vec::new());
        PictureSet::scan(&Source::Folder(folder.path().to_path_buf()), |done, all| {
            seen.lock().unwrap().push((done, all));
        })
        .unwrap();
        let mut seen = seen.into_inner().unwrap();
        seen.sort();
        assert_eq!(seen, [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_not_in_circles() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let root = folder.path();
        write_pictures(&root.join("own"), 1);
        write_pictures(elsewhere.path(), 1);
        symlink(root, root.join("own/up")).unwrap();
        symlink(elsewhere.path(), root.join("more")).unwrap();
        symlink(elsewhere.path(), root.join("more again")).unwrap();
        symlink(root.join("own/00.png"), root.join("link.png")).unwrap();
        symlink(root.join("gone"), root.join("dangling.png")).unwrap();

        let set = scan(&Source::Folder(root.to_path_buf())).unwrap();
        assert_eq!(names(&set), ["link.png", "more/00.png", "own/00.png"]);
        assert_eq!(
            set.skipped,
            [Skipped {
                path: root.join("dangling.png"),
                reason: PictureError::Missing.into(),
            }]
        );
    }

    #[test]
    fn a_list_names_pictures_relative_to_its_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("pictures");
        write_pictures(&root.join("deep"), 3);
        let list = folder.path().join("list.txt");
        fs::write(
            &list,
            "\u{feff}deep/02.png\r\n\r\n deep/00.png \r\ngone.png",
        )
        .unwrap();

        let source = Source::List {
            root: root.clone(),
            list,
        };
        let set = scan(&source).unwrap();
        assert_eq!(names(&set), ["deep/00.png", "deep/02.png"]);
        assert_eq!(set.skipped.len(), 1);
        let sentence = set.skipped[0].to_string();
        assert!(sentence.ends_with("pictures/gone.png: there is no such file"));
    }

    #[test]
    fn errors_name_the_folder_and_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let error = |source| format!("{:#}", scan(&source).unwrap_err());
        let of_folder = |path: &Path| error(Source::Folder(path.to_path_buf()));

        let missing = of_folder(&root.join("missing"));
        assert!(missing.contains("missing") && missing.contains("give a folder"));

        let empty = of_folder(root);
        assert!(empty.contains(root.to_str().unwrap()) && empty.contains("no pictures"));

        fs::write(root.join("broken.png"), "").unwrap();
        let broken = of_folder(root);
        assert!(broken.contains("none of the 1 pictures") && broken.contains("broken.png"));

        let file = of_folder(&root.join("broken.png"));
        assert!(file.contains("broken.png is a file"));

        let list = root.join("list.txt");
        let of_list = |list: &Path| {
            error(Source::List {
                root: root.to_path_buf(),
                list: list.to_path_buf(),
            })
        };
        assert!(of_list(&list).contains("list.txt; it must be a text file"));
        fs::write(&list, "\n\n").unwrap();
        assert!(of_list(&list).contains("list.txt names no pictures"));
        fs::write(&list, [0xFF, 0xD8, 0xFF]).unwrap();
        assert!(of_list(&list).contains("list.txt; it must be a text file"));
    }

    #[test]
    fn the_fingerprint_follows_the_names_not_the_place() {
        let set = |count| {
            let folder = tempfile::tempdir().unwrap();
            write_pictures(folder.path(), count);
            scan(&Source::Folder(folder.path().to_path_buf())).unwrap()
        };
        assert_eq!(set(3).fingerprint(), set(3).fingerprint());
        assert_ne!(set(3).fingerprint(), set(2).fingerprint());
    }
}
