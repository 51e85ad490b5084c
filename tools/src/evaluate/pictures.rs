//! The pictures that a model is evaluated on.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use munit::Domain;
use rayon::prelude::*;
use tch::Tensor;

use crate::data::{Framing, Source, load_picture};
use crate::program::sentence;

/// Pictures of one domain, in the order of their names.
pub struct PictureFolder {
    /// Where they lie.
    pub folder: PathBuf,
    paths: Vec<PathBuf>,
}

impl PictureFolder {
    /// The pictures of `domain` below `data`: those kept back for tests, `testA` or `testB`, or, where
    /// there are none, those of training.
    ///
    /// # Errors
    /// A sentence that names the folder.
    pub fn find(data: &Path, domain: Domain) -> Result<Self> {
        let letter = match domain {
            Domain::A => "A",
            Domain::B => "B",
        };
        let candidates = [format!("test{letter}"), format!("train{letter}")];
        let folders = candidates.each_ref().map(|name| data.join(name));
        let Some(folder) = folders.iter().find(|folder| folder.is_dir()) else {
            bail!(
                "{}: there is neither {} nor {}; give a folder with testA and testB, as munit-train \
                 has them",
                data.display(),
                candidates[0],
                candidates[1]
            );
        };
        let (mut paths, unreadable) = Source::Folder(folder.clone()).candidates()?;
        for skipped in unreadable {
            eprintln!("munit-evaluate: skipped {skipped}");
        }
        paths.sort();
        ensure!(
            !paths.is_empty(),
            "{}: no pictures in this folder",
            folder.display()
        );
        Ok(Self {
            folder: folder.clone(),
            paths,
        })
    }

    /// How many there are, readable or not.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// At most `count` of them, evenly spread, [C, H, W] in [-1, 1]: shorter side resized to the
    /// framing's size, the middle cut out. What cannot be read is told and passed over.
    ///
    /// # Errors
    /// A sentence that names the folder, if none can be read.
    pub fn load(&self, count: usize, framing: &Framing) -> Result<Vec<Tensor>> {
        let count = count.min(self.paths.len());
        let chosen: Vec<&PathBuf> = (0..count)
            .map(|index| &self.paths[index * self.paths.len() / count])
            .collect();
        let loaded: Vec<Result<Tensor>> = chosen
            .par_iter()
            .map(|path| load_picture(path, framing))
            .collect();
        let mut pictures = Vec::new();
        for picture in loaded {
            match picture {
                Ok(picture) => pictures.push(picture),
                Err(problem) => eprintln!("munit-evaluate: skipped: {}", sentence(&problem)),
            }
        }
        ensure!(
            !pictures.is_empty(),
            "{}: none of {count} pictures could be read",
            self.folder.display()
        );
        Ok(pictures)
    }
}
