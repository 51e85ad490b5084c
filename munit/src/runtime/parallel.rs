//! Loops on libtorch's own threads.
//!
//! A second thread pool would fight with OpenMP's for the same cores, so the loops of this
//! package run as OpenMP parallel regions, through the entry point that compilers call.

use std::any::Any;
use std::ffi::c_void;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, OnceLock};

use libloading::os::unix::{Library, RTLD_NOW};

use super::device::loaded_library;

type GompParallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, u32, u32);
type GetNumber = unsafe extern "C" fn() -> i32;

/// The functions of the OpenMP runtime that libtorch runs on.
struct OpenMp {
    parallel: GompParallel,
    thread_number: GetNumber,
    thread_count: GetNumber,
}

impl OpenMp {
    /// `None` if libtorch was built without OpenMP.
    fn get() -> Option<&'static Self> {
        static FOUND: OnceLock<Option<OpenMp>> = OnceLock::new();
        FOUND.get_or_init(Self::find).as_ref()
    }

    fn find() -> Option<Self> {
        // Both export the entry points of GNU's runtime.
        let path = loaded_library("libgomp").or_else(|| loaded_library("libiomp5"))?;
        // SAFETY: the library is already part of this process, so no initialiser runs; the types
        // are those of the OpenMP specification and of GNU's application binary interface.
        unsafe {
            let library = Library::open(Some(path), RTLD_NOW).ok()?;
            let found = Self {
                parallel: *library.get(b"GOMP_parallel").ok()?,
                thread_number: *library.get(b"omp_get_thread_num").ok()?,
                thread_count: *library.get(b"omp_get_num_threads").ok()?,
            };
            // The pointers stay valid for as long as the process lives.
            std::mem::forget(library);
            Some(found)
        }
    }
}

/// What the threads of one region share.
struct Region<'a> {
    openmp: &'a OpenMp,
    parts: usize,
    body: &'a (dyn Fn(usize) + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Number of threads that [`for_each_part`] uses: libtorch's.
pub(super) fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

/// Lets the calling thread's networks run on so many threads; 0 takes one for each core, less one
/// for the rest of a pipeline where there are more than four. Other threads are not concerned until
/// they begin to compute.
pub fn use_threads(threads: usize) {
    let threads = match threads {
        0 => match physical_cores() {
            cores @ 0..=4 => cores.max(1),
            cores => cores - 1,
        },
        threads => threads,
    };
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
}

/// Cores that this process may use, not counting their second threads.
fn physical_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    // Two processors of one core name the same siblings.
    let siblings = |processor: usize| {
        std::fs::read_to_string(format!(
            "/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list"
        ))
        .ok()
    };
    let cores: std::collections::BTreeSet<String> = (0..).map_while(siblings).collect();
    if cores.is_empty() {
        allowed
    } else {
        cores.len().min(allowed)
    }
}

/// Makes OpenMP's threads sleep soon after a loop has ended, for the rest of the process.
///
/// By default each of them spins for milliseconds in the hope of another loop, and keeps the cores
/// from whatever else a pipeline has to do there. GNU's runtime reads `GOMP_SPINCOUNT` before any of
/// our code runs, but it spins a thousandth of that long once it has more threads than the machine
/// has processors. So this starts a team on a thread that then sleeps for ever: it costs nothing but
/// its place in that count. A person's own `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT` is left alone.
pub fn tame_spinning() {
    static DONE: std::sync::Once = std::sync::Once::new();
    DONE.call_once(|| {
        let set_by_hand = |name| {
            std::env::var_os(name).is_some_and(|value: std::ffi::OsString| !value.is_empty())
        };
        if ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"]
            .into_iter()
            .any(set_by_hand)
        {
            return;
        }
        let Some(openmp) = OpenMp::get() else {
            return;
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let (started, has_started) = std::sync::mpsc::channel();
        let parked = std::thread::Builder::new().name("munit-parked".to_owned());
        let spawned = parked.spawn(move || {
            // SAFETY: `do_nothing` reads nothing, so null will do for its argument.
            unsafe {
                let threads = u32::try_from(processors + 1).unwrap_or(2);
                (openmp.parallel)(do_nothing, std::ptr::null_mut(), threads, 0);
            }
            let _ = started.send(());
            loop {
                std::thread::park();
            }
        });
        if spawned.is_ok() {
            let _ = has_started.recv();
        }
    });
}

extern "C" fn do_nothing(_: *mut c_void) {}

/// Calls `body` with every number below `parts`, each on one of libtorch's threads. The same
/// number lands on the same thread each time, so that a part stays in its core's cache.
pub(super) fn for_each_part(parts: usize, body: &(dyn Fn(usize) + Sync)) {
    let threads = threads().min(parts);
    let Some(openmp) = OpenMp::get().filter(|_| threads > 1) else {
        (0..parts).for_each(body);
        return;
    };
    let region = Region {
        openmp,
        parts,
        body,
        panic: Mutex::new(None),
    };
    // SAFETY: `run_region` reads the region only inside this call, which returns after the last
    // thread has left it.
    unsafe {
        (openmp.parallel)(
            run_region,
            (&raw const region).cast_mut().cast(),
            u32::try_from(threads).unwrap_or(1),
            0,
        );
    }
    let panic = region
        .panic
        .into_inner()
        .unwrap_or_else(|poison| poison.into_inner());
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

/// Calls `body` with ranges that together make up `0..count`, one for each thread.
pub(super) fn for_each_range(count: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
    let parts = threads().min(count);
    for_each_part(parts, &|part| {
        body(count * part / parts..count * (part + 1) / parts);
    });
}

/// Gives each item, with its number, to one call of `body`; neighbours go to the same thread.
pub(super) fn for_each_item<I: Send>(items: Vec<I>, body: &(dyn Fn(usize, I) + Sync)) {
    let count = items.len();
    let parts = threads().min(count);
    let mut items = items.into_iter().enumerate();
    let shares: Vec<Mutex<Vec<(usize, I)>>> = (0..parts)
        .map(|part| {
            let length = count * (part + 1) / parts - count * part / parts;
            Mutex::new(items.by_ref().take(length).collect())
        })
        .collect();
    for_each_part(parts, &|part| {
        let share = shares[part]
            .lock()
            .map(|mut share| std::mem::take(&mut *share));
        for (number, item) in share.into_iter().flatten() {
            body(number, item);
        }
    });
}

/// Cuts `rows`, which are `row_length` elements long, into one band for each thread and calls
/// `body` with the number of each band's first row and its elements.
pub(super) fn for_each_band<T: Send>(
    rows: &mut [T],
    row_length: usize,
    body: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    let count = rows.len() / row_length;
    let band = count.div_ceil(threads()).max(1);
    let bands = rows.chunks_mut(band * row_length).collect();
    for_each_item(bands, &|number, elements| body(number * band, elements));
}

extern "C" fn run_region(region: *mut c_void) {
    // SAFETY: `for_each_part` passes a region that outlives this call; it is only shared, never
    // changed. The queries are made from a thread of the region, as OpenMP asks.
    let (region, first, step) = unsafe {
        let region = &*region.cast::<Region>();
        let openmp = region.openmp;
        (region, (openmp.thread_number)(), (openmp.thread_count)())
    };
    let (first, step) = (first.max(0) as usize, step.max(1) as usize);
    // No panic may cross the C frames of the OpenMP runtime.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        (first..region.parts).step_by(step).for_each(region.body);
    }));
    if let Err(panic) = outcome
        && let Ok(mut slot) = region.panic.lock()
    {
        *slot = Some(panic);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_part_runs_once() {
        for parts in [0, 1, 2, 3, 17] {
            let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
            for_each_part(parts, &|part| {
                counts[part].fetch_add(1, Ordering::Relaxed);
            });
            assert!(
                counts
                    .iter()
                    .all(|count| count.load(Ordering::Relaxed) == 1)
            );
        }
    }

    #[test]
    fn items_and_bands_are_handed_out_once() {
        for count in [0_usize, 1, 5, 1000] {
            let sum = AtomicUsize::new(0);
            for_each_range(count, &|range| {
                sum.fetch_add(range.len(), Ordering::Relaxed);
            });
            assert_eq!(sum.swap(0, Ordering::Relaxed), count);

            for_each_item((0..count).collect(), &|number, item: usize| {
                assert_eq!(number, item);
                sum.fetch_add(item, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), (0..count).sum::<usize>());

            let mut rows = vec![0; 3 * count];
            for_each_band(&mut rows, 3, &|first, band| {
                for (row, elements) in band.chunks_exact_mut(3).enumerate() {
                    elements.fill(first + row);
                }
            });
            assert!(
                rows.into_iter()
                    .enumerate()
                    .all(|(index, row)| row == index / 3)
            );
        }
    }

    #[test]
    fn libtorch_s_threads_are_used() {
        if threads() < 2 {
            return;
        }
        assert!(OpenMp::get().is_some());
        let names = Mutex::new(std::collections::HashSet::new());
        for_each_part(2, &|_| {
            names.lock().unwrap().insert(std::thread::current().id());
        });
        assert_eq!(names.into_inner().unwrap().len(), 2);
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let panic = catch_unwind(|| {
            for_each_part(4, &|part| {
                if part == 3 {
                    resume_unwind(Box::new(part));
                }
            });
        });
        assert_eq!(*panic.unwrap_err().downcast::<usize>().unwrap(), 3);
    }
}
