//! Batches, made ahead of time on background threads.

use std::collections::{BTreeMap, HashSet};
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, bail};
use munit::Domain;
use tch::Tensor;

use super::augment::{Framing, Resized};
use super::order::{self, Order};
use super::picture::{self, PictureError, read_picture};
use super::picture_set::{PictureSet, Skipped};

/// Memory for resized pictures, in bytes, so that a small set is decoded only once.
const CACHE_BYTES: usize = 1 << 30;

/// How batches are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderSettings {
    /// Pictures of each domain in one batch.
    pub batch_size: usize,
    /// Length of the shorter side after resizing, in pixels, for domains a and b.
    pub new_size: [usize; 2],
    /// Height of the crop, in pixels.
    pub crop_height: usize,
    /// Width of the crop, in pixels.
    pub crop_width: usize,
    /// 3 for RGB, 1 for grey, for domains a and b.
    pub channels: [i64; 2],
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
    /// Pictures of domain a, `[B, C, H, W]` in [-1, 1], single precision, on the CPU.
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
        if settings.batch_size == 0 {
            bail!("batch_size is 0; it must be at least 1");
        }
        let workers = settings.workers.max(1);
        let shared = Arc::new(Shared {
            domains: [
                DomainPictures::new(a, Domain::A, &settings)?,
                DomainPictures::new(b, Domain::B, &settings)?,
            ],
            cache_bytes: AtomicUsize::new(0),
            // One batch for each thread to work at, and two in store.
            ahead: workers as u64 + 2,
            settings,
            queue: Mutex::new(Queue {
                begun: first_iteration,
                given: first_iteration,
                ready: BTreeMap::new(),
                failed: HashSet::new(),
                warnings: Vec::new(),
                stopping: false,
            }),
            wanted: Condvar::new(),
            made: Condvar::new(),
        });
        // From here on, dropping the loader stops the threads that were started.
        let mut loader = Self {
            shared,
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
    /// A picture that has become unreadable is replaced by the next one of its epoch, see
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

    /// The pictures that could not be read since this was last asked; each is reported once.
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
                    let text = picture::panic_text(panic.as_ref());
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
        Ok(Batch {
            iteration,
            a: self.make_half(Domain::A, iteration, order_a)?,
            b: self.make_half(Domain::B, iteration, order_b)?,
        })
    }

    /// The pictures of one domain, `[B, C, H, W]`.
    fn make_half(&self, domain: Domain, iteration: u64, order: &mut Order) -> Result<Tensor> {
        let batch_size = self.settings.batch_size;
        let framing = self.settings.framing(domain);
        let mut samples = vec![0.0; batch_size * framing.crop_len()];
        let crops = samples.chunks_exact_mut(framing.crop_len());
        for (draw, planes) in (iteration * batch_size as u64..).zip(crops) {
            let picture = order
                .from_draw(draw)
                .find_map(|picture| self.picture(domain, picture))
                .with_context(|| {
                    format!(
                        "no picture in {} can be read any more",
                        self.domains[domain as usize].root.display()
                    )
                })?;
            let mut random = order::augmentation(self.settings.seed, domain, draw);
            let crop = framing.draw_crop(&picture, self.settings.flip, &mut random);
            framing.write_crop(&picture, crop, planes);
        }
        let shape = [
            batch_size as i64,
            framing.channels,
            framing.crop_height as i64,
            framing.crop_width as i64,
        ];
        Ok(Tensor::f_from_slice(&samples)?.f_view(shape)?)
    }

    /// A resized picture, from the cache or from its file; `None`, and a warning the first time,
    /// when it cannot be read.
    fn picture(&self, domain: Domain, index: usize) -> Option<Arc<Resized>> {
        let domain_pictures = &self.domains[domain as usize];
        let cached = &domain_pictures.cache[index];
        if let Some(picture) = cached.get() {
            return Some(Arc::clone(picture));
        }
        let path = &domain_pictures.paths[index];
        let framing = self.settings.framing(domain);
        match read_picture(path).and_then(|picture| framing.resize(&picture)) {
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

    fn warn(&self, path: PathBuf, reason: PictureError) {
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
