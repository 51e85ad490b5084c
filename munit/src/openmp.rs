//! libtorch's OpenMP runtime: loops on its threads, and what keeps these from spinning.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use libloading::os::unix::{Library, RTLD_LAZY};

use crate::processors::processors;

type GompParallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, u32, u32);

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
        let Some(parallel) = entry_point() else {
            return;
        };
        // Those that OpenMP counts, even where a container's share of the time is less.
        let processors = processors().len().max(1);
        let (started, has_started) = std::sync::mpsc::channel();
        let parked = std::thread::Builder::new().name("munit-parked".to_owned());
        let spawned = parked.spawn(move || {
            // SAFETY: `do_nothing` reads nothing, so null will do for its argument.
            unsafe {
                let threads = u32::try_from(processors + 1).unwrap_or(2);
                parallel(do_nothing, std::ptr::null_mut(), threads, 0);
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

/// A loop that OpenMP's threads share.
struct Job<'a> {
    next: AtomicUsize,
    parts: usize,
    body: &'a (dyn Fn(usize) + Sync),
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
}

/// Calls `body` with every number below `parts` on the threads that libtorch's own loops run on, of
/// which the calling thread is one. Between libtorch's operations these are awake, others would have
/// to be woken.
///
/// # Panics
/// With the first panic of `body`.
pub(crate) fn for_each_part(parts: usize, body: &(dyn Fn(usize) + Sync)) {
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
    let parallel = (threads > 1 && parts > 1).then(entry_point).flatten();
    let Some(parallel) = parallel else {
        (0..parts).for_each(body);
        return;
    };
    let job = Job {
        next: AtomicUsize::new(0),
        parts,
        body,
        panic: Mutex::new(None),
    };
    let threads = u32::try_from(threads.min(parts)).unwrap_or(1);
    // SAFETY: `take_part` gets a job that lives until all threads are done, which is when this
    // returns.
    unsafe { parallel(take_part, (&raw const job).cast_mut().cast(), threads, 0) };
    let panic = job
        .panic
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

/// Gives each item, with its number, to one call of `body`; otherwise as [`for_each_part`].
pub(crate) fn for_each_item<I: Send>(items: Vec<I>, body: &(dyn Fn(usize, I) + Sync)) {
    let items: Vec<_> = items
        .into_iter()
        .map(|item| Mutex::new(Some(item)))
        .collect();
    for_each_part(items.len(), &|number| {
        let mut item = items[number].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(item) = item.take() {
            body(number, item);
        }
    });
}

/// What each thread does: takes the parts that no other has taken.
extern "C" fn take_part(job: *mut c_void) {
    // SAFETY: the pointer is that of `for_each_part`, which waits for this.
    let job = unsafe { &*job.cast::<Job>() };
    // No panic may cross into OpenMP.
    let work = catch_unwind(AssertUnwindSafe(|| {
        loop {
            let part = job.next.fetch_add(1, Ordering::Relaxed);
            if part >= job.parts {
                break;
            }
            (job.body)(part);
        }
    }));
    if let Err(panic) = work {
        let mut first = job.panic.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(panic);
    }
}

/// What compilers call at the beginning of a parallel region; `None` if libtorch was built without
/// OpenMP.
fn entry_point() -> Option<GompParallel> {
    static ENTRY_POINT: OnceLock<Option<GompParallel>> = OnceLock::new();
    *ENTRY_POINT.get_or_init(find_entry_point)
}

fn find_entry_point() -> Option<GompParallel> {
    // What libtorch itself calls: another library of this process may have brought a runtime of its
    // own. LLVM's, too, exports the entry points of GNU's.
    let path = loaded_library("libtorch_cpu.so")?;
    // SAFETY: the library is already part of this process, so no initialiser runs; the type is that
    // of GNU's application binary interface.
    unsafe {
        let library = Library::open(Some(path), RTLD_LAZY).ok()?;
        let parallel = *library.get(b"GOMP_parallel").ok()?;
        // The pointer stays valid for as long as the process lives.
        std::mem::forget(library);
        Some(parallel)
    }
}

/// Path of a library of this process whose file name begins with `name`.
pub(crate) fn loaded_library(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines()
        .filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])))
        .find(|path| {
            path.file_name()
                .and_then(|file| file.to_str())
                .is_some_and(|file| file.starts_with(name))
        })
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_s_openmp_is_found() {
        assert!(tch::get_num_threads() > 0);
        assert!(entry_point().is_some());
        tame_spinning();
    }

    #[test]
    fn every_part_runs_once_and_on_several_threads() {
        tch::set_num_threads(2);
        for parts in [0, 1, 2, 3, 17] {
            let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
            for_each_part(parts, &|part| {
                counts[part].fetch_add(1, Ordering::Relaxed);
            });
            let each_once = counts
                .iter()
                .all(|count| count.load(Ordering::Relaxed) == 1);
            assert!(each_once, "{parts}");
        }
        let both = std::sync::Barrier::new(2);
        for_each_part(2, &|_| {
            both.wait();
        });
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        tch::set_num_threads(2);
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
