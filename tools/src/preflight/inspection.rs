//! Every picture decoded once: at once while somebody waits, then aside while a run trains.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use munit::picture_file::{PictureError, panic_text, read_picture};

use crate::data::{
    FactsCache, FileState, NearDuplicates, PictureFacts, PictureSet, Source, Unusable, check_usable,
};

/// What was found out about the pictures of several sets.
#[derive(Debug)]
pub struct Findings {
    /// For each set and each picture of it what it is like, or why it cannot be used.
    pub facts: Vec<Vec<Result<PictureFacts, Unusable>>>,
    /// Which usable pictures nearly repeat others.
    pub near_duplicates: NearDuplicates,
}

/// Pictures that are being looked at, on threads of their own.
pub struct Inspection {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// How hard the threads work.
const HURRIED: u8 = 0;
/// A single thread, of the lowest priority.
const ASIDE: u8 = 1;
const STOPPED: u8 = 2;

struct Shared {
    sets: Vec<(Source, PictureSet)>,
    cache_folder: Option<PathBuf>,
    pace: AtomicU8,
    /// Pictures that have been looked at.
    done: AtomicUsize,
    findings: Mutex<Option<Findings>>,
    finished: Condvar,
}

/// A picture that must be decoded: its set, its place in it, and its file's state before.
type Task = (usize, usize, Option<FileState>);

impl Inspection {
    /// Begins to look at all pictures, on all cores. What is known from former times is taken from
    /// `cache_folder`.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn start(sets: Vec<(Source, PictureSet)>, cache_folder: Option<PathBuf>) -> Result<Self> {
        let shared = Arc::new(Shared {
            sets,
            cache_folder,
            pace: AtomicU8::new(HURRIED),
            done: AtomicUsize::new(0),
            findings: Mutex::new(None),
            finished: Condvar::new(),
        });
        let thread = thread::Builder::new()
            .name("inspection".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.inspect()
            })
            .context("cannot start a thread for looking at the pictures")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Number of pictures looked at so far, and of all.
    pub fn progress(&self) -> (usize, usize) {
        let total = self.shared.sets.iter().map(|(_, set)| set.paths.len());
        (self.shared.done.load(Ordering::Relaxed), total.sum())
    }

    /// Waits until all pictures have been looked at, or for `at_most`; what was found is given
    /// once.
    pub fn wait(&self, at_most: Duration) -> Option<Findings> {
        let waited =
            self.shared
                .finished
                .wait_timeout_while(self.shared.lock(), at_most, |findings| findings.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }

    /// From now on leaves the machine to others.
    pub fn step_aside(&self) {
        self.shared.pace.store(ASIDE, Ordering::Relaxed);
    }
}

impl Drop for Inspection {
    fn drop(&mut self) {
        self.shared.pace.store(STOPPED, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Nothing that a run needs is lost when it has failed.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Findings>> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> u8 {
        self.pace.load(Ordering::Relaxed)
    }

    fn inspect(&self) {
        let mut caches: Vec<FactsCache> = self
            .sets
            .iter()
            .map(|(source, _)| FactsCache::open(self.cache_folder.as_deref(), source))
            .collect();
        let mut facts: Vec<Vec<Option<Result<PictureFacts, Unusable>>>> = Vec::new();
        let mut tasks = Vec::new();
        for (number, (_, set)) in self.sets.iter().enumerate() {
            let known = set.paths.iter().enumerate().map(|(index, path)| {
                let state = fs::metadata(path).ok().as_ref().and_then(FileState::of);
                let known = state.and_then(|state| caches[number].get(path, state));
                match known {
                    Some(facts) => {
                        self.done.fetch_add(1, Ordering::Relaxed);
                        Some(Ok(*facts))
                    }
                    None => {
                        tasks.push((number, index, state));
                        None
                    }
                }
            });
            facts.push(known.collect());
        }

        for ((number, index, state), found) in self.look_at(&tasks) {
            if let (Ok(facts), Some(state)) = (&found, state) {
                caches[number].insert(&self.sets[number].1.paths[index], state, *facts);
            }
            facts[number][index] = Some(found);
        }
        for (cache, (_, set)) in caches.iter_mut().zip(&self.sets) {
            cache.save(&set.paths);
        }

        let facts: Option<Vec<Vec<_>>> = facts
            .into_iter()
            .map(|set| set.into_iter().collect())
            .collect();
        // Without an answer for each picture, this was stopped.
        let Some(facts) = facts else { return };
        let likenesses: Vec<Vec<_>> = facts
            .iter()
            .map(|set| {
                let likeness = |found: &Result<PictureFacts, Unusable>| {
                    found.as_ref().ok().map(|facts| facts.likeness)
                };
                set.iter().map(likeness).collect()
            })
            .collect();
        if self.pace() == ASIDE {
            leave_the_processor_to_others();
        }
        let found = NearDuplicates::find(&likenesses, || self.pace() == STOPPED);
        if let Some(near_duplicates) = found {
            *self.lock() = Some(Findings {
                facts,
                near_duplicates,
            });
            self.finished.notify_all();
        }
    }

    /// Decodes pictures until all are done or it is stopped.
    fn look_at(&self, tasks: &[Task]) -> Vec<(Task, Result<PictureFacts, Unusable>)> {
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::with_capacity(tasks.len()));
        let work = |number: usize| {
            let mut aside = false;
            loop {
                match self.pace() {
                    STOPPED => break,
                    ASIDE if number > 0 => break,
                    ASIDE if !aside => {
                        leave_the_processor_to_others();
                        aside = true;
                    }
                    _ => {}
                }
                let Some(&task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    break;
                };
                let path = &self.sets[task.0].1.paths[task.1];
                let facts = panic::catch_unwind(|| look_at(path)).unwrap_or_else(|panic| {
                    Err(PictureError::Broken(panic_text(panic.as_ref())).into())
                });
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.push((task, facts));
                self.done.fetch_add(1, Ordering::Relaxed);
            }
        };
        let work = &work;
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for number in 1..threads.min(tasks.len()) {
                let thread = thread::Builder::new().name(format!("inspection-{number}"));
                // Where no more threads can be had, fewer do.
                let _ = thread.spawn_scoped(scope, move || work(number));
            }
            work(0);
        });
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_at(path: &Path) -> Result<PictureFacts, Unusable> {
    let picture = read_picture(path)?;
    check_usable(&picture)?;
    Ok(PictureFacts::of(&picture))
}

/// Lets every other thread of the machine go first.
fn leave_the_processor_to_others() {
    // Only Linux has priorities of single threads.
    #[cfg(target_os = "linux")]
    // SAFETY: the call changes nothing but the calling thread's priority. It cannot fail in a way
    // that matters: the pictures are looked at all the same.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use image::{Rgb, RgbImage};

    use super::*;

    /// Pictures that differ, then a blank and a broken one.
    fn write_pictures(root: &Path) {
        fs::create_dir_all(root).unwrap();
        for number in 0..6u32 {
            let picture = RgbImage::from_fn(32, 32, |x, y| {
                Rgb([(x * number) as u8, (y * y) as u8, 40 * number as u8])
            });
            picture.save(root.join(format!("{number}.png"))).unwrap();
        }
        RgbImage::new(32, 32).save(root.join("6.png")).unwrap();
        let mut broken = fs::read(root.join("5.png")).unwrap();
        broken.truncate(broken.len() - 40);
        fs::write(root.join("7.png"), broken).unwrap();
    }

    fn set(root: &Path) -> (Source, PictureSet) {
        let source = Source::Folder(root.to_owned());
        let set = PictureSet::scan(&source).unwrap();
        (source, set)
    }

    fn wait(inspection: &Inspection) -> Findings {
        inspection.wait(Duration::from_secs(300)).unwrap()
    }

    #[test]
    fn every_picture_is_looked_at_hurried_or_aside_and_known_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let roots = ["a", "b"].map(|name| folder.path().join(name));
        roots.iter().for_each(|root| write_pictures(root));
        let sets = || roots.iter().map(|root| set(root)).collect::<Vec<_>>();
        let mut known = Vec::new();
        for aside in [false, true] {
            let cache = folder.path().join(format!("cache {aside}"));
            let inspection = Inspection::start(sets(), Some(cache)).unwrap();
            if aside {
                inspection.step_aside();
            }
            let found = wait(&inspection);
            assert_eq!(inspection.progress(), (16, 16));
            for set in &found.facts {
                let usable: Vec<bool> = set.iter().map(Result::is_ok).collect();
                assert_eq!(usable, [[true; 6].as_slice(), &[false; 2]].concat());
                assert_eq!(set[6], Err(Unusable::Blank));
            }
            assert_eq!(found.near_duplicates.between(0, 1).len(), 6);
            known.push(found.facts);
        }
        assert_eq!(known[0], known[1]);

        // From the cache alone: what is in the files is not read again.
        let (sources, cache) = (sets(), folder.path().join("cache false"));
        let path = &sources[0].1.paths[0];
        let modified = fs::metadata(path).unwrap().modified().unwrap();
        let length = fs::metadata(path).unwrap().len() as usize;
        fs::write(path, vec![0; length]).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(modified).unwrap();
        let found = wait(&Inspection::start(sources, Some(cache)).unwrap());
        assert_eq!(found.facts, known[0]);
    }

    #[test]
    fn it_stops_when_nobody_wants_to_know_any_more() {
        let folder = tempfile::tempdir().unwrap();
        write_pictures(folder.path());
        let inspection = Inspection::start(vec![set(folder.path())], None).unwrap();
        let shared = Arc::downgrade(&inspection.shared);
        let started = Instant::now();
        drop(inspection);
        assert!(shared.upgrade().is_none());
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
