//! Keeps the threads of libtorch's OpenMP runtime from spinning.

use std::ffi::c_void;

use libloading::os::unix::{Library, RTLD_NOW};

use super::device::loaded_library;

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
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
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

/// What compilers call at the beginning of a parallel region; `None` if libtorch was built without
/// OpenMP.
fn entry_point() -> Option<GompParallel> {
    // Both export the entry points of GNU's runtime.
    let path = loaded_library("libgomp").or_else(|| loaded_library("libiomp5"))?;
    // SAFETY: the library is already part of this process, so no initialiser runs; the type is that
    // of GNU's application binary interface.
    unsafe {
        let library = Library::open(Some(path), RTLD_NOW).ok()?;
        let parallel = *library.get(b"GOMP_parallel").ok()?;
        // The pointer stays valid for as long as the process lives.
        std::mem::forget(library);
        Some(parallel)
    }
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
}
