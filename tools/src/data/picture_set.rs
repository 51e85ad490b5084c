//! The pictures of one domain.

use std::collections::{BTreeMap, BTreeSet};
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
        Self::scan_outside(source, None)
    }

    /// The same without what lies in the folder `results`, see [`Source::candidates_outside`].
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub fn scan_outside(source: &Source, results: Option<&Path>) -> Result<Self> {
        let root = source.root();
        let (mut candidates, mut skipped) = source.candidates_outside(results)?;
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

    /// Leaves out of both sets what has no partner in the other: a picture of the same name, but for the
    /// ending, at the same place below the folder, and of the same shape. In what is left partners have
    /// the same index.
    ///
    /// # Errors
    /// Sets without any partners, in a sentence that names both folders.
    pub fn pair(a: &mut Self, b: &mut Self) -> Result<()> {
        let (names_a, names_b) = (a.names(), b.names());
        let mut partners: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
        for (name, &index) in &names_a {
            let Some(&partner) = names_b.get(name) else {
                continue;
            };
            if have_one_shape(&a.headers[index], &b.headers[partner]) {
                partners[0].push(index);
                partners[1].push(partner);
            } else {
                a.skip(
                    index,
                    Unusable::OtherShape {
                        partner: b.paths[partner].clone(),
                    },
                );
                b.skip(
                    partner,
                    Unusable::OtherShape {
                        partner: a.paths[index].clone(),
                    },
                );
            }
        }
        let [in_a, in_b] = partners;
        if in_a.is_empty() {
            bail!(
                "no picture in {} has a partner in {}: pictures that show the same must have the same \
                 name in both folders, and the same shape; leave paired_w out if there are no pairs",
                a.root.display(),
                b.root.display()
            );
        }
        let folders = [b.root.clone(), a.root.clone()];
        for ((set, kept), folder) in [(a, in_a), (b, in_b)].into_iter().zip(folders) {
            set.keep(&kept, &folder);
        }
        Ok(())
    }

    /// Where a picture is by its name, without the ending; of those with several endings the first.
    fn names(&self) -> BTreeMap<PathBuf, usize> {
        let mut names = BTreeMap::new();
        for (index, path) in self.paths.iter().enumerate() {
            let name = path.strip_prefix(&self.root).unwrap_or(path);
            names.entry(name.with_extension("")).or_insert(index);
        }
        names
    }

    fn skip(&mut self, index: usize, reason: Unusable) {
        let path = self.paths[index].clone();
        self.skipped.push(Skipped { path, reason });
    }

    /// Leaves out all but those at the places `kept`, in their order, as without a partner in `folder`.
    fn keep(&mut self, kept: &[usize], folder: &Path) {
        let mut known: BTreeSet<PathBuf> = self
            .skipped
            .iter()
            .map(|skipped| skipped.path.clone())
            .collect();
        known.extend(kept.iter().map(|&index| self.paths[index].clone()));
        for index in 0..self.paths.len() {
            if !known.contains(&self.paths[index]) {
                let folder = folder.to_path_buf();
                self.skip(index, Unusable::NoPartner { folder });
            }
        }
        self.paths = kept
            .iter()
            .map(|&index| self.paths[index].clone())
            .collect();
        self.headers = kept.iter().map(|&index| self.headers[index]).collect();
        self.skipped.sort_by(|one, other| one.path.cmp(&other.path));
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

/// Sides of partners may differ in proportion by this much, for what was rounded when they were made.
const SHAPE_TOLERANCE: f64 = 0.02;

fn have_one_shape(one: &PictureHeader, other: &PictureHeader) -> bool {
    let aspect = |header: &PictureHeader| f64::from(header.width) / f64::from(header.height);
    (aspect(one) / aspect(other)).ln().abs() <= SHAPE_TOLERANCE
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
    fn partners_have_one_name_and_one_shape() {
        let folder = tempfile::tempdir().unwrap();
        let root = |name: &str| folder.path().join(name);
        let save = |name: &str, width| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            picture(width, 32, 1).save(path).unwrap();
        };
        // Pictures of one shape at another size, and rounded.
        for (name, width) in [
            ("a/one.png", 40),
            ("a/deep/one.png", 40),
            ("a/two.png", 40),
            ("a/two.bmp", 40),
            ("a/lonely.png", 40),
            ("a/wide.png", 64),
            ("b/deep/one.bmp", 80),
            ("b/one.png", 41),
            ("b/other.png", 40),
            ("b/two.bmp", 40),
            ("b/wide.png", 40),
        ] {
            save(name, width);
        }
        picture(80, 64, 1).save(root("b/deep/one.bmp")).unwrap();
        picture(81, 64, 1).save(root("b/one.png")).unwrap();
        let set = |name: &str| scan(&Source::Folder(root(name))).unwrap();
        let (mut a, mut b) = (set("a"), set("b"));
        PictureSet::pair(&mut a, &mut b).unwrap();

        assert_eq!(names(&a), ["deep/one.png", "one.png", "two.bmp"]);
        assert_eq!(names(&b), ["deep/one.bmp", "one.png", "two.bmp"]);
        assert_eq!(b.headers[0].width, 80);
        let left_out = |set: &PictureSet| -> Vec<String> {
            set.skipped.iter().map(ToString::to_string).collect()
        };
        let path = |name: &str| root(name).display().to_string();
        let lonely = |name, other| {
            format!(
                "{}: it has no partner: there is no other picture of this name in {}",
                path(name),
                path(other)
            )
        };
        let shape = |name, other| {
            format!(
                "{}: its partner has another ratio of width to height: {}",
                path(name),
                path(other)
            )
        };
        assert_eq!(
            left_out(&a),
            [
                lonely("a/lonely.png", "b"),
                lonely("a/two.png", "b"),
                shape("a/wide.png", "b/wide.png")
            ]
        );
        assert_eq!(
            left_out(&b),
            [
                lonely("b/other.png", "a"),
                shape("b/wide.png", "a/wide.png")
            ]
        );
    }

    #[test]
    fn sets_without_pairs_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let set = |name: &str, file: &str| {
            let root = folder.path().join(name);
            fs::create_dir_all(&root).unwrap();
            picture(20, 20, 1).save(root.join(file)).unwrap();
            scan(&Source::Folder(root)).unwrap()
        };
        let (mut a, mut b) = (set("first", "one.png"), set("second", "two.png"));
        let error = PictureSet::pair(&mut a, &mut b).unwrap_err().to_string();
        for part in ["/first has a partner in ", "/second: ", "paired_w"] {
            assert!(error.contains(part), "{error}");
        }
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
