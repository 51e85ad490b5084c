//! The pictures that a model is evaluated on.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use munit::Domain;
use rayon::prelude::*;
use tch::Tensor;

use crate::data::{Framing, Source, load_picture};
use crate::program::{counted, sentence, tell};
use crate::run::{RunFolder, data_layout};

/// Pictures that are held in memory at a time.
const BATCH: usize = 16;

/// Where the pictures of an evaluation lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pictures {
    /// A folder with `testA` and `testB`; where one is missing, `trainA` or `trainB` is taken.
    Root(PathBuf),
    /// One folder for each domain, a and b.
    Folders([PathBuf; 2]),
}

/// What has been told of pictures, each thing once: the inputs of one direction are what is compared with in
/// the other.
#[derive(Default)]
pub struct Told(RefCell<BTreeSet<String>>);

impl Told {
    /// Tells why a picture is passed over.
    fn skipped(&self, problem: String) {
        if self.0.borrow_mut().insert(problem.clone()) {
            tell(&format!("munit-evaluate: skipped {problem}"));
        }
    }
}

/// Pictures of one domain, in the order of their names.
pub struct PictureFolder {
    /// Where they lie.
    pub folder: PathBuf,
    /// Why figures on them may promise too much: the model has been trained on them.
    pub caution: Option<String>,
    paths: Vec<PathBuf>,
}

impl PictureFolder {
    /// The pictures of `domain` on which `model` is evaluated. What cannot be looked at is `told`.
    ///
    /// # Errors
    /// A sentence that names the folder.
    pub fn find(pictures: &Pictures, domain: Domain, model: &Path, told: &Told) -> Result<Self> {
        let letter = match domain {
            Domain::A => "A",
            Domain::B => "B",
        };
        let (folder, stands_in) = match pictures {
            Pictures::Folders([a, b]) => match domain {
                Domain::A => (a.clone(), false),
                Domain::B => (b.clone(), false),
            },
            Pictures::Root(root) => {
                let [test, train] =
                    ["test", "train"].map(|kind| root.join(kind.to_owned() + letter));
                if test.is_dir() {
                    (test, false)
                } else if train.is_dir() {
                    (train, true)
                } else {
                    bail!(
                        "{}: there is neither test{letter} nor train{letter}; give a folder with testA \
                         and testB, or a folder of each domain with --a and --b",
                        root.display()
                    );
                }
            }
        };
        let (mut paths, unreadable) = Source::Folder(folder.clone()).candidates()?;
        for skipped in unreadable {
            told.skipped(skipped.to_string());
        }
        paths.sort();
        ensure!(
            !paths.is_empty(),
            "{}: no pictures in this folder",
            folder.display()
        );
        let caution = if is_trained_on(&folder, domain, model) {
            Some(format!(
                "the model was trained on the pictures of {}; keep some back for tests, or the \
                 figures say what it remembers",
                folder.display()
            ))
        } else {
            stands_in.then(|| {
                format!(
                    "there is no test{letter}, so {} stands in, on which the model may have been \
                     trained; the figures may then say what it remembers",
                    folder.display()
                )
            })
        };
        Ok(Self {
            folder,
            caution,
            paths,
        })
    }

    /// How many there are, readable or not.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Shows at most `count` of them, evenly spread, to `look`, some at a time, each [C, H, W] in
    /// [-1, 1]: shorter side resized to the framing's size, the middle cut out. What cannot be read
    /// is `told`, and the next that is not chosen stands in for it. Returns how many could be read.
    ///
    /// # Errors
    /// Those of `look`; a sentence that names the folder, if none can be read.
    pub fn for_each_batch(
        &self,
        count: usize,
        framing: &Framing,
        told: &Told,
        mut look: impl FnMut(&[Tensor]) -> Result<()>,
    ) -> Result<usize> {
        let all = self.paths.len();
        let count = count.min(all);
        let chosen: Vec<usize> = (0..count).map(|index| index * all / count).collect();
        let mut taken: BTreeSet<usize> = chosen.iter().copied().collect();
        let load = |index: usize| load_picture(&self.paths[index], framing);
        let readable = |picture: Result<Tensor>| {
            picture
                .map_err(|problem| told.skipped(sentence(&problem)))
                .ok()
        };
        let mut read = 0;
        for batch in chosen.chunks(BATCH) {
            let loaded: Vec<Result<Tensor>> = batch.par_iter().map(|&index| load(index)).collect();
            let mut pictures = Vec::new();
            for (&index, picture) in batch.iter().zip(loaded) {
                let mut picture = readable(picture);
                let mut others = (index..all).chain(0..index);
                while picture.is_none() {
                    let Some(other) = others.find(|other| taken.insert(*other)) else {
                        break;
                    };
                    picture = readable(load(other));
                }
                pictures.extend(picture);
            }
            if !pictures.is_empty() {
                look(&pictures)?;
                read += pictures.len();
            }
        }
        ensure!(
            read > 0,
            "{}: nothing in it could be read, of {}",
            self.folder.display(),
            counted(all as u64, "picture")
        );
        Ok(read)
    }
}

/// Whether the run in whose folder `model` lies was trained on the pictures of `folder`; of a model
/// elsewhere nothing is known.
fn is_trained_on(folder: &Path, domain: Domain, model: &Path) -> bool {
    let run = model.parent().map(RunFolder::new);
    let layout = run
        .and_then(|run| run.config().ok())
        .and_then(|config| data_layout(&config).ok());
    let trained_on = layout.map(|layout| match domain {
        Domain::A => layout.train_a,
        Domain::B => layout.train_b,
    });
    trained_on.is_some_and(|source| {
        let [one, other] = [source.root(), folder].map(|folder| folder.canonicalize().ok());
        one.is_some() && one == other
    })
}
