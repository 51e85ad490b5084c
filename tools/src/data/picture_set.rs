//! The pictures of one domain.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result, anyhow, bail};
use munit::picture_file::{PictureHeader, read_header};
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

/// The pictures of one domain that can be used as far as their headers tell, and what was left out
/// and why.
///
/// A picture that turns out to be broken or blank when it is decoded stays in the set: another one
/// stands in whenever it is drawn. So the order of the pictures is known at once, and does not
/// depend on how many of them have been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureSet {
    /// The folder that the pictures lie in.
    pub root: PathBuf,
    /// The pictures, sorted.
    pub paths: Vec<PathBuf>,
    /// What each of them says about itself.
    pub headers: Vec<PictureHeader>,
    /// What was left out, sorted by path.
    pub skipped: Vec<Skipped>,
}

impl PictureSet {
    /// Finds the pictures of a source and reads the header of each, on all cores, to leave out those
    /// that are tiny, strips or no pictures.
    ///
    /// # Errors
    /// A missing folder, a folder without pictures, and one in which no picture is usable, in a
    /// sentence that names the folder.
    pub fn scan(source: &Source) -> Result<Self> {
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

        let checked: Vec<Result<(PathBuf, PictureHeader), Skipped>> = candidates
            .into_par_iter()
            .map(|path| match check(&path) {
                Ok(header) => Ok((path, header)),
                Err(reason) => Err(Skipped { path, reason }),
            })
            .collect();
        let mut set = Self {
            root: root.to_path_buf(),
            paths: Vec::with_capacity(checked.len()),
            headers: Vec::with_capacity(checked.len()),
            skipped: Vec::new(),
        };
        for picture in checked {
            match picture {
                Ok((path, header)) => {
                    set.paths.push(path);
                    set.headers.push(header);
                }
                Err(picture) => skipped.push(picture),
            }
        }
        set.skipped = skipped;
        set.skipped.sort_by(|one, other| one.path.cmp(&other.path));
        match set.skipped.first() {
            Some(first) if set.paths.is_empty() => Err(none_usable(set.skipped.len(), root, first)),
            _ => Ok(set),
        }
    }

    /// A checksum of the names of the pictures, relative to the folder, and of the sizes of their files.
    /// Not of their times, so that a copy of the folder is as good.
    ///
    /// A run that goes on with another set than it began with draws other pictures; this tells.
    pub fn fingerprint(&self) -> u32 {
        let pictures = self.paths.iter().zip(&self.headers);
        pictures.fold(0, |checksum, (path, header)| {
            let name = path.strip_prefix(&self.root).unwrap_or(path);
            let checksum = crc32c::crc32c_append(checksum, name.as_os_str().as_encoded_bytes());
            let checksum = crc32c::crc32c_append(checksum, b"\n");
            crc32c::crc32c_append(checksum, &header.file_bytes.to_le_bytes())
        })
    }
}

/// The sentence on a folder without a usable picture.
pub(crate) fn none_usable(count: usize, root: &Path, first: &dyn fmt::Display) -> Error {
    let root = root.display();
    match count {
        1 => anyhow!("the only picture in {root} cannot be used: {first}"),
        _ => anyhow!("none of the {count} pictures in {root} can be used; the first is {first}"),
    }
}

fn check(path: &Path) -> Result<PictureHeader, Unusable> {
    let header = read_header(path)?;
    unusable::check_header(&header)?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};
    use munit::picture_file::PictureError;
    use std::fs;

    use super::*;
    use crate::data::test_pictures::{picture, write_pictures};

    fn scan(source: &Source) -> Result<PictureSet> {
        PictureSet::scan(source)
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
            "white.bmp",
            "without ending",
        ];
        assert_eq!(names(&set), usable);
        let sizes: Vec<_> = set.headers.iter().map(|header| header.width).collect();
        assert_eq!(sizes, [20, 40, 40, 20, 20]);
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
        ];
        let skipped = skipped.map(|(name, reason)| Skipped {
            path: root.join(name),
            reason,
        });
        assert_eq!(set.skipped, skipped);
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

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_set_and_back_brings_in_neither_it_nor_its_neighbour() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        write_pictures(&a.join("deep"), 2);
        write_pictures(&b, 3);
        symlink("..", a.join("loop")).unwrap();
        symlink("../../..", a.join("deep/far loop")).unwrap();
        let names_of = |root: &Path| names(&scan(&Source::Folder(root.to_owned())).unwrap());
        assert_eq!(names_of(&a), ["deep/00.png", "deep/01.png"]);
        // By way of another folder that leads back.
        symlink(&a, b.join("a")).unwrap();
        assert_eq!(names_of(&b).len(), 5);
        // A neighbour that is asked for is taken, without the way back from it.
        symlink(&b, a.join("more")).unwrap();
        assert_eq!(names_of(&a).len(), 5);
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
        assert!(broken.contains("the only picture in") && broken.contains("broken.png"));

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
