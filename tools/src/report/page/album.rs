//! The pictures of a report, kept beside it so that a run that goes on has them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use munit::Direction;
use munit::atomic_file;

use super::mosaic::Mosaic;

/// The folder's name in a run's folder.
pub const ALBUM_NAME: &str = ".report";

/// Sheets of each direction, at most.
const MOST_SHEETS: usize = 40;

/// Bytes of the sheets of each direction, at most; with both, as text, 5 MB of the report.
const MOST_BYTES: usize = 2_000_000;

/// What a mosaic shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Inputs, reconstructions and translations after so many iterations.
    Sheet(u64),
    /// Several contents in several styles.
    Styles,
    /// From style to style.
    Between,
}

/// The mosaics of a run.
#[derive(Debug)]
pub struct Album {
    folder: PathBuf,
    mosaics: Vec<(Subject, Direction, Mosaic)>,
}

impl Album {
    /// Opens the album of the run in `folder`; see [`Self::forget_after`]. Files that are damaged are
    /// passed over.
    ///
    /// # Errors
    /// A folder that cannot be made or read.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = folder.join(ALBUM_NAME);
        let cannot = || {
            format!(
                "{}: cannot read the pictures of the report",
                folder.display()
            )
        };
        fs::create_dir_all(&folder).with_context(cannot)?;
        atomic_file::remove_leftovers(&folder)?;
        let mut mosaics = Vec::new();
        for entry in fs::read_dir(&folder).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let name = entry.file_name();
            if let Some((subject, direction, (columns, rows))) = name.to_str().and_then(parse_name)
            {
                let Ok(jpeg) = fs::read(entry.path()) else {
                    continue;
                };
                let Ok((width, height)) = size_of_jpeg(&jpeg) else {
                    continue;
                };
                let tile = (width / columns, height / rows);
                let mosaic = Mosaic {
                    columns,
                    rows,
                    tile,
                    jpeg,
                };
                mosaics.push((subject, direction, mosaic));
            }
        }
        mosaics.sort_by_key(|(subject, direction, _)| (*subject, direction.name()));
        Ok(Self { folder, mosaics })
    }

    /// The sheets in `direction` with their iterations, oldest first.
    pub fn sheets(&self, direction: Direction) -> Vec<(u64, &Mosaic)> {
        let of_direction = self.mosaics.iter().filter(|mosaic| mosaic.1 == direction);
        of_direction
            .filter_map(|(subject, _, mosaic)| match subject {
                Subject::Sheet(iteration) => Some((*iteration, mosaic)),
                _ => None,
            })
            .collect()
    }

    /// The mosaic of `subject` in `direction`, if there is one.
    pub fn get(&self, subject: Subject, direction: Direction) -> Option<&Mosaic> {
        let mut mosaics = self.mosaics.iter();
        mosaics
            .find(|mosaic| (mosaic.0, mosaic.1) == (subject, direction))
            .map(|(.., mosaic)| mosaic)
    }

    /// Puts a mosaic in, in the place of the one of the same subject. Where there are too many sheets,
    /// one goes, so that the others stay spread over the run.
    ///
    /// # Errors
    /// A file that cannot be written or removed.
    pub fn put(&mut self, subject: Subject, direction: Direction, mosaic: Mosaic) -> Result<()> {
        self.remove_where(|known, way| (known, way) == (subject, direction))?;
        let name = file_name(subject, direction, &mosaic);
        atomic_file::write(&self.folder.join(name), |file| file.write_all(&mosaic.jpeg))?;
        self.mosaics.push((subject, direction, mosaic));
        self.mosaics
            .sort_by_key(|(subject, direction, _)| (*subject, direction.name()));
        while let Some(iteration) = self.one_too_many(direction) {
            self.remove_where(|known, way| (known, way) == (Subject::Sheet(iteration), direction))?;
        }
        Ok(())
    }

    /// A sheet that has to go.
    fn one_too_many(&self, direction: Direction) -> Option<u64> {
        let sheets = self.sheets(direction);
        let bytes: usize = sheets.iter().map(|(_, mosaic)| mosaic.jpeg.len()).sum();
        let iterations: Vec<u64> = sheets.iter().map(|(iteration, _)| *iteration).collect();
        match sheets.len() > MOST_SHEETS || bytes > MOST_BYTES {
            true => most_crowded(&iterations),
            false => None,
        }
    }

    /// Removes all sheets of later iterations.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn forget_after(&mut self, iteration: u64) -> Result<()> {
        self.remove_where(|subject, _| matches!(subject, Subject::Sheet(of) if of > iteration))
    }

    /// Removes everything.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn clear(&mut self) -> Result<()> {
        self.remove_where(|_, _| true)
    }

    fn remove_where(&mut self, unwanted: impl Fn(Subject, Direction) -> bool) -> Result<()> {
        let (gone, kept) = std::mem::take(&mut self.mosaics)
            .into_iter()
            .partition(|(subject, direction, _)| unwanted(*subject, *direction));
        self.mosaics = kept;
        for (subject, direction, mosaic) in &gone {
            let path = self.folder.join(file_name(*subject, *direction, mosaic));
            fs::remove_file(&path).with_context(|| format!("{}: cannot remove", path.display()))?;
        }
        Ok(())
    }
}

/// The one of the iterations, in order, whose neighbours are nearest to each other; never the
/// first or the last.
fn most_crowded(iterations: &[u64]) -> Option<u64> {
    let mut neighbours = iterations.windows(3);
    let mut crowded: Option<(u64, u64)> = None;
    while let Some(&[before, iteration, after]) = neighbours.next() {
        let room = after - before;
        if crowded.is_none_or(|(least, _)| room < least) {
            crowded = Some((room, iteration));
        }
    }
    crowded.map(|(_, iteration)| iteration)
}

/// For example `sheet-000012000-a2b-5x4.jpg`: five columns, four rows.
fn file_name(subject: Subject, direction: Direction, mosaic: &Mosaic) -> String {
    let subject = match subject {
        Subject::Sheet(iteration) => format!("sheet-{iteration:09}"),
        Subject::Styles => "styles".to_owned(),
        Subject::Between => "between".to_owned(),
    };
    let Mosaic { columns, rows, .. } = mosaic;
    format!("{subject}-{}-{columns}x{rows}.jpg", direction.name())
}

fn parse_name(name: &str) -> Option<(Subject, Direction, (u32, u32))> {
    let (rest, size) = name.strip_suffix(".jpg")?.rsplit_once('-')?;
    let (columns, rows) = size.split_once('x')?;
    let size = (columns.parse().ok()?, rows.parse().ok()?);
    let (subject, direction) = rest.rsplit_once('-')?;
    let direction = Direction::ALL
        .into_iter()
        .find(|known| known.name() == direction)?;
    let subject = match subject {
        "styles" => Subject::Styles,
        "between" => Subject::Between,
        _ => Subject::Sheet(subject.strip_prefix("sheet-")?.parse().ok()?),
    };
    (size.0 > 0 && size.1 > 0).then_some((subject, direction, size))
}

fn size_of_jpeg(jpeg: &[u8]) -> Result<(u32, u32)> {
    let reader =
        image::ImageReader::with_format(std::io::Cursor::new(jpeg), image::ImageFormat::Jpeg);
    Ok(reader.into_dimensions()?)
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    fn mosaic(grey: u8) -> Mosaic {
        let picture = RgbImage::from_pixel(16, 32, Rgb([grey; 3]));
        Mosaic::new(&[vec![Some(picture); 3]], 96).unwrap()
    }

    fn iterations(album: &Album) -> Vec<u64> {
        let sheets = album.sheets(Direction::A2b);
        sheets.iter().map(|(iteration, _)| *iteration).collect()
    }

    #[test]
    fn an_album_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut album = Album::open(folder.path()).unwrap();
        for (subject, direction, grey) in [
            (Subject::Sheet(20), Direction::A2b, 1),
            (Subject::Sheet(5), Direction::A2b, 2),
            (Subject::Sheet(5), Direction::B2a, 3),
            (Subject::Styles, Direction::B2a, 4),
            (Subject::Between, Direction::A2b, 5),
            (Subject::Between, Direction::A2b, 6),
        ] {
            album.put(subject, direction, mosaic(grey)).unwrap();
        }
        let foreign = folder.path().join(ALBUM_NAME).join("styles-a2b-0x1.jpg");
        fs::write(&foreign, "no picture").unwrap();
        let mut again = Album::open(folder.path()).unwrap();
        assert_eq!(again.mosaics, album.mosaics);
        assert_eq!(iterations(&again), [5, 20]);
        assert_eq!(
            again.get(Subject::Between, Direction::A2b),
            Some(&mosaic(6))
        );
        assert_eq!(again.get(Subject::Styles, Direction::A2b), None);
        again.forget_after(10).unwrap();
        assert_eq!(iterations(&Album::open(folder.path()).unwrap()), [5]);
        again.clear().unwrap();
        assert_eq!(Album::open(folder.path()).unwrap().mosaics, []);
        assert!(foreign.exists());
    }

    #[test]
    fn old_sheets_are_thinned_evenly() {
        let folder = tempfile::tempdir().unwrap();
        let mut album = Album::open(folder.path()).unwrap();
        for iteration in 1..=100 {
            let subject = Subject::Sheet(iteration);
            album.put(subject, Direction::A2b, mosaic(9)).unwrap();
        }
        let kept = iterations(&album);
        assert_eq!(kept.len(), MOST_SHEETS);
        assert_eq!((kept[0], kept[MOST_SHEETS - 1]), (1, 100));
        let gaps = kept.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.max().unwrap() <= 8, "{kept:?}");
        let files = fs::read_dir(folder.path().join(ALBUM_NAME)).unwrap();
        assert_eq!(files.count(), MOST_SHEETS);
    }
}
