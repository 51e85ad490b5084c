//! Batches, made ahead of time on background threads.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, bail};
use munit::Domain;
use munit::picture_file::{panic_text, read_picture};
use tch::Tensor;

use super::augment::{Framing, Resized};
use super::order::{self, Order};
use super::picture_set::{PictureSet, Skipped};
use super::tensor::write_tensor;
use super::unusable::{self, Unusable};
use crate::ranks::Share;

/// Memory for resized pictures, in bytes, so that a small set is decoded only once.
pub(crate) const CACHE_BYTES: usize = 1 << 30;

const MAXIMUM_BATCH_SIZE: usize = 4096;

/// More iterations than any run has, and few enough that draws can be counted in 64 bits.
const LAST_ITERATION: u64 = 1 << 48;

/// How batches are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderSettings {
    /// Pictures of each domain in one batch.
    pub batch_size: usize,
    /// The part of it that is made here.
    pub share: Share,
    /// Length of the shorter side after resizing, in pixels, for domains a and b.
    pub new_size: [usize; 2],
    /// Height of the crop, in pixels.
    pub crop_height: usize,
    /// Width of the crop, in pixels.
    pub crop_width: usize,
    /// 3 for RGB, 1 for grey, for domains a and b.
    pub channels: [i64; 2],
    /// Whether the picture of domain b is always the partner of that of domain a, in the same crop: the
    /// one at the same place of its set, see [`PictureSet::pair`].
    pub paired: bool,
    /// Whether half of the pictures, drawn at random, are mirrored left to right.
    pub flip: bool,
    /// Decides the order of the pictures, their crops and their flips.
    pub seed: u64,
    /// Number of background threads; 0 counts as 1. Changes no result.
    pub workers: usize,
}

impl LoaderSettings {
    /// How the pictures of one domain are resized and cropped.
    pub fn framing(&self, domain: Domain) -> Framing {
        Framing {
            new_size: self.new_size[domain as usize],
            crop_height: self.crop_height,
            crop_width: self.crop_width,
            channels: self.channels[domain as usize],
        }
    }
}

/// What one iteration trains on.
#[derive(Debug)]
pub struct Batch {
    /// Number of the iteration, from 0.
    pub iteration: u64,
    /// Pictures of domain a, `[B, C, H, W]` in [-1, 1], single precision, on the CPU; B is the length
    /// of the share.
    pub a: Tensor,
    /// Pictures of domain b, likewise.
    pub b: Tensor,
}

/// An endless row of batches.
///
/// Each domain goes through its pictures in epochs of its own, freshly shuffled each time. The
/// batch of an iteration depends on the settings, the pictures and the number of the iteration
/// alone, not on the number of threads, on timing, or on where the row began.
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Loader {
    /// Begins to make batches, `first_iteration` first.
    ///
    /// # Errors
    /// Empty sets, settings that make no sense, and threads that cannot be started.
    pub fn new(
        a: PictureSet,
        b: PictureSet,
        settings: LoaderSettings,
        first_iteration: u64,
    ) -> Result<Self> {
        if !(1..=MAXIMUM_BATCH_SIZE).contains(&settings.batch_size) {
            bail!(
                "batch_size is {}; it must lie between 1 and {MAXIMUM_BATCH_SIZE}",
                settings.batch_size
            );
        }
        if !settings.batch_size.is_multiple_of(settings.share.count) {
            bail!(
                "batch_size is {}, which {} processes cannot share evenly",
                settings.batch_size,
                settings.share.count
            );
        }
        if first_iteration > LAST_ITERATION {
            bail!("there is no iteration {first_iteration}; the number must be damaged");
        }
        let workers = settings.workers.max(1);
        Self::start(Shared {
            domains: [
                DomainPictures::new(a, Domain::A, &settings)?,
                DomainPictures::new(b, Domain::B, &settings)?,
            ],
            cache_bytes: AtomicUsize::new(0),
            // One batch for each thread to work at, and two in store.
            ahead: workers as u64 + 2,
            settings,
            queue: Mutex::new(Queue::new(first_iteration)),
            wanted: Condvar::new(),
            made: Condvar::new(),
        })
    }

    fn start(shared: Shared) -> Result<Self> {
        let workers = shared.settings.workers.max(1);
        // From here on, dropping the loader stops the threads that were started.
        let mut loader = Self {
            shared: Arc::new(shared),
            threads: Vec::with_capacity(workers),
        };
        for number in 0..workers {
            let shared = Arc::clone(&loader.shared);
            let thread = thread::Builder::new()
                .name(format!("pictures-{number}"))
                .spawn(move || shared.work())
                .context("cannot start a thread for loading pictures")?;
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// The batch of the next iteration; waits only where it is not ready yet.
    ///
    /// A picture that cannot be read or is blank is replaced by the next one of its epoch, see
    /// [`take_warnings`](Self::take_warnings).
    ///
    /// # Errors
    /// When not one picture of a domain can be read any more, and when making the batch failed.
    pub fn next_batch(&mut self) -> Result<Batch> {
        let mut queue = self.shared.lock();
        let iteration = queue.given;
        loop {
            if let Some(batch) = queue.ready.remove(&iteration) {
                queue.given += 1;
                self.shared.wanted.notify_all();
                return batch;
            }
            queue = wait(&self.shared.made, queue);
        }
    }

    /// The pictures that could not be used since this was last asked; each is reported once.
    pub fn take_warnings(&mut self) -> Vec<Skipped> {
        std::mem::take(&mut self.shared.lock().warnings)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.wanted.notify_all();
        for thread in self.threads.drain(..) {
            // Panics were caught where they arose.
            let _ = thread.join();
        }
    }
}

/// What the threads share.
struct Shared {
    settings: LoaderSettings,
    domains: [DomainPictures; 2],
    /// Bytes of all cached pictures.
    cache_bytes: AtomicUsize,
    /// How many batches may be begun and not given yet.
    ahead: u64,
    queue: Mutex<Queue>,
    /// Signals that another batch may be begun, or that all must stop.
    wanted: Condvar,
    /// Signals that a batch is ready.
    made: Condvar,
}

struct Queue {
    /// The iteration that is begun next.
    begun: u64,
    /// The iteration that is given next.
    given: u64,
    ready: BTreeMap<u64, Result<Batch>>,
    /// Pictures that have been warned of.
    failed: HashSet<PathBuf>,
    warnings: Vec<Skipped>,
    stopping: bool,
}

impl Queue {
    fn new(first_iteration: u64) -> Self {
        Self {
            begun: first_iteration,
            given: first_iteration,
            ready: BTreeMap::new(),
            failed: HashSet::new(),
            warnings: Vec::new(),
            stopping: false,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each thread does.
    fn work(&self) {
        let mut orders = Domain::ALL.map(|domain| {
            let count = self.domains[domain as usize].paths.len();
            Order::new(self.settings.seed, domain, count)
        });
        while let Some(iteration) = self.begin() {
            let batch = panic::catch_unwind(AssertUnwindSafe(|| self.make(iteration, &mut orders)))
                .unwrap_or_else(|panic| {
                    let text = panic_text(panic.as_ref());
                    Err(anyhow!("loading pictures failed unexpectedly: {text}"))
                });
            self.lock().ready.insert(iteration, batch);
            self.made.notify_all();
        }
    }

    /// Waits until a batch is wanted; `None` when it is time to stop.
    fn begin(&self) -> Option<u64> {
        let mut queue = self.lock();
        loop {
            if queue.stopping {
                return None;
            }
            if queue.begun < queue.given + self.ahead {
                let iteration = queue.begun;
                queue.begun += 1;
                return Some(iteration);
            }
            queue = wait(&self.wanted, queue);
        }
    }

    fn make(&self, iteration: u64, orders: &mut [Order; 2]) -> Result<Batch> {
        let [order_a, order_b] = orders;
        if self.settings.paired {
            let [a, b] = self.make_pairs(iteration, order_a)?;
            return Ok(Batch { iteration, a, b });
        }
        Ok(Batch {
            iteration,
            a: self.make_half(Domain::A, iteration, order_a)?,
            b: self.make_half(Domain::B, iteration, order_b)?,
        })
    }

    /// Partners of both domains in the same crops, `[B, C, H, W]` each.
    fn make_pairs(&self, iteration: u64, order: &mut Order) -> Result<[Tensor; 2]> {
        let settings = &self.settings;
        let mut pairs = Vec::new();
        for draw in self.draws(iteration) {
            let pair = order.draw(draw).find_map(|index| {
                let a = self.picture(Domain::A, index)?;
                Some([a, self.picture(Domain::B, index)?])
            });
            let pictures = pair.with_context(|| {
                let [a, b] = self
                    .domains
                    .each_ref()
                    .map(|pictures| pictures.root.display());
                format!("no pair of pictures in {a} and {b} can be read any more")
            })?;
            let mut random = order::augmentation(settings.seed, Domain::A, draw);
            let framing = settings.framing(Domain::A);
            let both = pictures.each_ref().map(AsRef::as_ref);
            let crop = framing.draw_crop(&both, settings.flip, &mut random);
            pairs.push((pictures, crop));
        }
        let half = |domain: Domain| {
            let framing = settings.framing(domain);
            let [channels, height, width] = framing.crop_shape();
            let shape = [pairs.len() as i64, channels, height, width];
            write_tensor(&shape, |samples| {
                let crops = samples.chunks_exact_mut(framing.crop_len());
                for ((pictures, crop), planes) in pairs.iter().zip(crops) {
                    framing.write_crop(&pictures[domain as usize], *crop, planes);
                }
                Ok(())
            })
        };
        Ok([half(Domain::A)?, half(Domain::B)?])
    }

    /// The numbers of the draws of an iteration that are made here, counted over the whole run.
    fn draws(&self, iteration: u64) -> Range<u64> {
        let LoaderSettings {
            batch_size, share, ..
        } = self.settings;
        let share = share.of(batch_size);
        let first = iteration * batch_size as u64;
        first + share.start as u64..first + share.end as u64
    }

    /// The pictures of one domain, `[B, C, H, W]`.
    fn make_half(&self, domain: Domain, iteration: u64, order: &mut Order) -> Result<Tensor> {
        let draws = self.draws(iteration);
        let framing = self.settings.framing(domain);
        let [channels, height, width] = framing.crop_shape();
        let shape = [(draws.end - draws.start) as i64, channels, height, width];
        write_tensor(&shape, |samples| {
            let crops = samples.chunks_exact_mut(framing.crop_len());
            for (draw, planes) in draws.zip(crops) {
                let picture = order
                    .draw(draw)
                    .find_map(|picture| self.picture(domain, picture))
                    .with_context(|| {
                        format!(
                            "no picture in {} can be read any more",
                            self.domains[domain as usize].root.display()
                        )
                    })?;
                let mut random = order::augmentation(self.settings.seed, domain, draw);
                let crop = framing.draw_crop(&[&picture], self.settings.flip, &mut random);
                framing.write_crop(&picture, crop, planes);
            }
            Ok(())
        })
    }

    /// A resized picture, from the cache or from its file; `None`, and a warning the first time,
    /// when it cannot be used.
    fn picture(&self, domain: Domain, index: usize) -> Option<Arc<Resized>> {
        let domain_pictures = &self.domains[domain as usize];
        let cached = &domain_pictures.cache[index];
        if let Some(picture) = cached.get() {
            return Some(Arc::clone(picture));
        }
        let path = &domain_pictures.paths[index];
        let framing = self.settings.framing(domain);
        let usable = || {
            let picture = read_picture(path)?;
            unusable::check(&picture)?;
            Ok(framing.resize(&picture)?)
        };
        match usable() {
            Ok(picture) => {
                let picture = Arc::new(picture);
                self.keep(cached, &picture);
                Some(picture)
            }
            Err(reason) => {
                self.warn(path.clone(), reason);
                None
            }
        }
    }

    /// Keeps a picture if there is room. None is ever thrown out for another: with each drawn once
    /// an epoch, no other choice would spare more decoding.
    fn keep(&self, cached: &OnceLock<Arc<Resized>>, picture: &Arc<Resized>) {
        let bytes = picture.bytes();
        if self.cache_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > CACHE_BYTES
            || cached.set(Arc::clone(picture)).is_err()
        {
            self.cache_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn warn(&self, path: PathBuf, reason: Unusable) {
        let mut queue = self.lock();
        if queue.failed.insert(path.clone()) {
            queue.warnings.push(Skipped { path, reason });
        }
    }
}

/// The pictures of one domain, and those of them that are kept in memory.
struct DomainPictures {
    root: PathBuf,
    paths: Vec<PathBuf>,
    cache: Vec<OnceLock<Arc<Resized>>>,
}

impl DomainPictures {
    fn new(set: PictureSet, domain: Domain, settings: &LoaderSettings) -> Result<Self> {
        let PictureSet { root, paths, .. } = set;
        if paths.is_empty() {
            bail!("there are no pictures in {}", root.display());
        }
        settings
            .framing(domain)
            .check()
            .map_err(|problem| anyhow!("domain {}: {problem}", domain.name()))?;
        let cache = paths.iter().map(|_| OnceLock::new()).collect();
        Ok(Self { root, paths, cache })
    }
}

fn wait<'a>(condition: &Condvar, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
    condition
        .wait(queue)
        .unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::RgbImage;
    use munit::picture_file::PictureError;
    use tch::Kind;
    use tempfile::TempDir;

    use super::*;
    use crate::data::test_pictures::write_pictures;
    use crate::data::{Source, load_picture};

    /// Five pictures of domain a and three of domain b.
    fn pictures() -> (TempDir, PictureSet, PictureSet) {
        let folder = tempfile::tempdir().unwrap();
        let set = |name: &str, count| {
            let root = folder.path().join(name);
            write_pictures(&root, count);
            PictureSet::scan(&Source::Folder(root)).unwrap()
        };
        let (a, b) = (set("a", 5), set("b", 3));
        (folder, a, b)
    }

    fn settings() -> LoaderSettings {
        LoaderSettings {
            batch_size: 2,
            share: Share::WHOLE,
            new_size: [24, 20],
            crop_height: 18,
            crop_width: 16,
            channels: [3, 1],
            paired: false,
            flip: true,
            seed: 1,
            workers: 2,
        }
    }

    /// No chance but the order: the middle of each picture is all of it.
    fn without_augmentation() -> LoaderSettings {
        LoaderSettings {
            batch_size: 1,
            new_size: [32, 32],
            crop_height: 32,
            crop_width: 40,
            channels: [3, 3],
            flip: false,
            ..settings()
        }
    }

    fn batches(
        sets: (&PictureSet, &PictureSet),
        settings: &LoaderSettings,
        first: u64,
        count: u64,
    ) -> Vec<Batch> {
        let (a, b) = (sets.0.clone(), sets.1.clone());
        let mut loader = Loader::new(a, b, settings.clone(), first).unwrap();
        (0..count).map(|_| loader.next_batch().unwrap()).collect()
    }

    fn assert_same(one: &[Batch], other: &[Batch]) {
        assert_eq!(one.len(), other.len());
        for (one, other) in one.iter().zip(other) {
            assert_eq!(one.iteration, other.iteration);
            assert_eq!(one.a, other.a);
            assert_eq!(one.b, other.b);
        }
    }

    /// Which of the pictures at `paths` fills each batch of one.
    fn shown(halves: &[&Tensor], paths: &[PathBuf]) -> Vec<usize> {
        let framing = without_augmentation().framing(Domain::A);
        let known: Vec<_> = paths
            .iter()
            .map(|path| load_picture(path, &framing).unwrap().unsqueeze(0))
            .collect();
        halves
            .iter()
            .map(|half| known.iter().position(|picture| picture == *half).unwrap())
            .collect()
    }

    #[test]
    fn batches_have_the_shape_and_range_that_networks_expect() {
        let (_folder, a, b) = pictures();
        for (batch, iteration) in batches((&a, &b), &settings(), 0, 3).iter().zip(0..) {
            assert_eq!(batch.iteration, iteration);
            assert_eq!(batch.a.size(), [2, 3, 18, 16]);
            assert_eq!(batch.b.size(), [2, 1, 18, 16]);
            for half in [&batch.a, &batch.b] {
                assert_eq!(half.kind(), Kind::Float);
                assert!(half.min().double_value(&[]) >= -1.0);
                assert!(half.max().double_value(&[]) <= 1.0);
                assert!(half.std(true).double_value(&[]) > 0.05);
            }
        }
    }

    #[test]
    fn neither_threads_nor_the_beginning_change_a_batch() {
        let (_folder, a, b) = pictures();
        let one_worker = LoaderSettings {
            workers: 1,
            ..settings()
        };
        let four_workers = LoaderSettings {
            workers: 4,
            ..settings()
        };
        let all = batches((&a, &b), &one_worker, 0, 20);
        assert_same(&all, &batches((&a, &b), &four_workers, 0, 20));
        assert_same(&all[13..], &batches((&a, &b), &four_workers, 13, 7));
        assert_ne!(all[0].a, all[5].a);
    }

    #[test]
    fn shares_are_parts_of_the_batch() {
        let (_folder, a, b) = pictures();
        let whole = LoaderSettings {
            batch_size: 6,
            ..settings()
        };
        let shares = [0, 1, 2].map(|index| {
            let share = Share { index, count: 3 };
            let settings = LoaderSettings {
                share,
                ..whole.clone()
            };
            batches((&a, &b), &settings, 2, 4)
        });
        for (number, batch) in batches((&a, &b), &whole, 2, 4).iter().enumerate() {
            let parts = shares.each_ref().map(|share| &share[number]);
            assert_eq!(Tensor::cat(&parts.map(|part| &part.a), 0), batch.a);
            assert_eq!(Tensor::cat(&parts.map(|part| &part.b), 0), batch.b);
        }
    }

    /// The second set shows what the first does, with red and blue exchanged.
    fn pairs() -> (TempDir, PictureSet, PictureSet) {
        let folder = tempfile::tempdir().unwrap();
        let set = |name: &str, exchanged: bool| {
            let root = folder.path().join(name);
            for path in write_pictures(&root, 5) {
                let mut picture = image::open(&path).unwrap().into_rgb8();
                if exchanged {
                    picture.pixels_mut().for_each(|pixel| pixel.0.reverse());
                }
                picture.save(path).unwrap();
            }
            PictureSet::scan(&Source::Folder(root)).unwrap()
        };
        let (a, b) = (set("a", false), set("b", true));
        (folder, a, b)
    }

    fn paired_settings() -> LoaderSettings {
        LoaderSettings {
            new_size: [24, 24],
            channels: [3, 3],
            paired: true,
            ..settings()
        }
    }

    #[test]
    fn partners_come_together_in_one_crop() {
        let (_folder, a, b) = pairs();
        let settings = paired_settings();
        let batches = batches((&a, &b), &settings, 0, 10);
        for batch in &batches {
            assert_eq!(batch.a.flip([1]), batch.b);
        }
        // Domain a is drawn as ever; it is b that follows.
        let unpaired = LoaderSettings {
            paired: false,
            ..settings
        };
        let apart = self::batches((&a, &b), &unpaired, 0, 10);
        for (batch, apart) in batches.iter().zip(&apart) {
            assert_eq!(batch.a, apart.a);
        }
        assert!(apart.iter().any(|batch| batch.a.flip([1]) != batch.b));
    }

    #[test]
    fn a_pair_of_which_one_picture_is_gone_is_replaced_by_the_next_pair() {
        let (_folder, a, b) = pairs();
        fs::remove_file(&a.paths[1]).unwrap();
        fs::remove_file(&b.paths[2]).unwrap();
        let batches = batches((&a, &b), &paired_settings(), 0, 10);
        assert!(batches.iter().all(|batch| batch.a.flip([1]) == batch.b));
        for path in &b.paths[3..] {
            fs::remove_file(path).unwrap();
        }
        fs::remove_file(&b.paths[0]).unwrap();
        let mut loader = Loader::new(a.clone(), b.clone(), paired_settings(), 0).unwrap();
        let error = loader.next_batch().unwrap_err().to_string();
        for set in [&a, &b] {
            assert!(error.contains(set.root.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn the_seed_changes_the_batches() {
        let (_folder, a, b) = pictures();
        let other_seed = LoaderSettings {
            seed: 2,
            ..settings()
        };
        let one = batches((&a, &b), &settings(), 0, 1);
        let other = batches((&a, &b), &other_seed, 0, 1);
        assert_ne!(one[0].a, other[0].a);
        assert_ne!(one[0].b, other[0].b);
    }

    #[test]
    fn each_domain_goes_through_its_own_epochs() {
        let (_folder, a, b) = pictures();
        let batches = batches((&a, &b), &without_augmentation(), 0, 30);
        let halves_a: Vec<_> = batches.iter().map(|batch| &batch.a).collect();
        let halves_b: Vec<_> = batches.iter().map(|batch| &batch.b).collect();
        for (halves, paths) in [(halves_a, &a.paths), (halves_b, &b.paths)] {
            for epoch in shown(&halves, paths).chunks(paths.len()) {
                let mut epoch = epoch.to_vec();
                epoch.sort();
                assert_eq!(epoch, (0..paths.len()).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_picture_that_disappears_or_turns_blank_is_replaced_by_the_next() {
        let (_folder, a, b) = pictures();
        let settings = without_augmentation();
        let before = batches((&a, &b), &settings, 0, 10);
        let before = shown(
            &before.iter().map(|batch| &batch.a).collect::<Vec<_>>(),
            &a.paths,
        );

        fs::remove_file(&a.paths[1]).unwrap();
        RgbImage::new(40, 32).save(&a.paths[3]).unwrap();
        let mut loader = Loader::new(a.clone(), b, settings, 0).unwrap();
        let after: Vec<_> = (0..10).map(|_| loader.next_batch().unwrap().a).collect();
        let left: Vec<_> = [0, 2, 4].map(|index| a.paths[index].clone()).into();
        let after: Vec<_> = shown(&after.iter().collect::<Vec<_>>(), &left)
            .into_iter()
            .map(|position| position * 2)
            .collect();
        for (draw, &picture) in after.iter().enumerate() {
            let epoch = &before[draw / 5 * 5..][..5];
            let expected = epoch.iter().cycle().skip(draw % 5);
            let expected = expected.copied().find(|picture| picture % 2 == 0);
            assert_eq!(Some(picture), expected, "draw {draw}");
        }

        let mut warnings = loader.take_warnings();
        warnings.sort_by(|one, other| one.path.cmp(&other.path));
        let expected = [(1, PictureError::Missing.into()), (3, Unusable::Blank)];
        let expected = expected.map(|(index, reason)| Skipped {
            path: a.paths[index].clone(),
            reason,
        });
        assert_eq!(warnings, expected);
        for _ in 0..10 {
            loader.next_batch().unwrap();
        }
        assert_eq!(loader.take_warnings(), []);
    }

    #[test]
    fn when_no_picture_is_left_the_error_names_the_folder() {
        let (folder, a, b) = pictures();
        fs::remove_dir_all(folder.path().join("b")).unwrap();
        let mut loader = Loader::new(a, b, settings(), 0).unwrap();
        let error = loader.next_batch().unwrap_err().to_string();
        assert!(
            error.contains(folder.path().join("b").to_str().unwrap()),
            "{error}"
        );
    }

    #[test]
    fn a_set_in_memory_outlives_its_files() {
        let (folder, a, b) = pictures();
        let settings = settings();
        let expected = batches((&a, &b), &settings, 0, 30);
        let mut loader = Loader::new(a, b, settings, 0).unwrap();
        let mut seen: Vec<_> = (0..10).map(|_| loader.next_batch().unwrap()).collect();
        fs::remove_dir_all(folder.path()).unwrap();
        seen.extend((0..20).map(|_| loader.next_batch().unwrap()));
        assert_same(&seen, &expected);
    }

    #[test]
    fn dropping_the_loader_stops_its_threads() {
        let (_folder, a, b) = pictures();
        let loader = Loader::new(a, b, settings(), 0).unwrap();
        let shared = Arc::downgrade(&loader.shared);
        drop(loader);
        assert!(shared.upgrade().is_none());
    }

    #[test]
    fn a_panic_in_a_thread_becomes_an_error() {
        let (_folder, a, b) = pictures();
        let loader = Loader::new(a, b, settings(), 0).unwrap();
        let shared = Arc::clone(&loader.shared);
        drop(loader);
        let mut shared = Arc::into_inner(shared).unwrap();
        shared.queue = Mutex::new(Queue::new(0));
        shared.domains[1].cache.clear();
        let mut loader = Loader::start(shared).unwrap();
        for _ in 0..5 {
            let error = loader.next_batch().unwrap_err().to_string();
            assert!(error.contains("out of bounds"), "{error}");
        }
    }

    #[test]
    fn senseless_settings_are_refused() {
        let (_folder, a, b) = pictures();
        let error = |settings| {
            let loader = Loader::new(a.clone(), b.clone(), settings, 0);
            loader.err().unwrap().to_string()
        };
        let no_batch = LoaderSettings {
            batch_size: 0,
            ..settings()
        };
        assert!(error(no_batch).contains("batch_size"));
        let two_channels = LoaderSettings {
            channels: [3, 2],
            ..settings()
        };
        assert!(error(two_channels).contains("domain b: 2 channels"));

        let empty = PictureSet {
            paths: Vec::new(),
            ..a.clone()
        };
        let error = Loader::new(empty, b.clone(), settings(), 0).err().unwrap();
        assert!(error.to_string().contains("no pictures"));

        let error = Loader::new(a, b, settings(), u64::MAX).err().unwrap();
        assert!(error.to_string().contains("no iteration"));
    }
}
