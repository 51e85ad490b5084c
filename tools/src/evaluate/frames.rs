//! Frames of a clip, in order, from a video file or a folder of pictures.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use image::RgbImage;

use crate::data::Source;
use crate::prepare::folder::resized;
use crate::translate::picture::open;
use crate::video::VideoReader;

/// A clip that is being read.
pub struct Frames {
    path: PathBuf,
    source: Pictures,
    /// Shorter side to which frames are brought.
    size: u32,
    /// Of the frames before.
    dimensions: Option<(u32, u32)>,
}

enum Pictures {
    Video(Box<VideoReader>),
    Folder(std::vec::IntoIter<PathBuf>),
}

impl Frames {
    /// Begins to read the clip at `path`, the frames brought to a shorter side of `size` pixels.
    ///
    /// # Errors
    /// A sentence that names the clip: nothing there, no pictures, no video.
    pub fn open(path: &Path, size: u32) -> Result<Self> {
        let source = if path.is_dir() {
            let (mut pictures, unreadable) = Source::Folder(path.to_owned()).candidates()?;
            for skipped in unreadable {
                eprintln!("munit-evaluate: skipped {skipped}");
            }
            pictures.sort();
            ensure!(
                pictures.len() > 1,
                "{}: a clip has two frames or more; put them there as pictures, named in order",
                path.display()
            );
            Pictures::Folder(pictures.into_iter())
        } else {
            Pictures::Video(Box::new(VideoReader::open(path)?))
        };
        Ok(Self {
            path: path.to_owned(),
            source,
            size,
            dimensions: None,
        })
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// A frame that cannot be read, or has another size than those before.
    pub fn next_frame(&mut self) -> Result<Option<RgbImage>> {
        let picture = match &mut self.source {
            Pictures::Video(video) => video.next_frame()?.map(|frame| frame.picture),
            Pictures::Folder(paths) => paths.next().map(|path| open(&path)).transpose()?,
        };
        let Some(picture) = picture else {
            return Ok(None);
        };
        let picture = resized(picture, self.size)?;
        match self.dimensions {
            Some(before) if before != picture.dimensions() => bail!(
                "{}: its frames have different sizes, or shapes; cut them to one",
                self.path.display()
            ),
            _ => self.dimensions = Some(picture.dimensions()),
        }
        Ok(Some(picture))
    }

    /// What is to be told of a clip that has been read to its end: that there is more of it that could not be
    /// read.
    pub fn remark(&self) -> Option<&str> {
        match &self.source {
            Pictures::Video(video) => video.remark(),
            Pictures::Folder(_) => None,
        }
    }
}
