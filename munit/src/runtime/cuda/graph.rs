//! Graphs: the work of a whole frame, recorded once and from then on set off at once.

use std::ffi::{c_char, c_void};
use std::sync::{Mutex, PoisonError};

use crate::Result;
use crate::runtime::stream::check;

unsafe extern "C" {
    fn munit_graph_begin(graph: *mut *mut c_void) -> *mut c_char;
    fn munit_graph_end(graph: *mut c_void, executable: *mut *mut c_void) -> *mut c_char;
    fn munit_graph_free(graph: *mut c_void) -> *mut c_char;
}

/// libtorch's bookkeeping for graphs is not made for several threads.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A recorded sequence of work, with the memory that libtorch has allocated meanwhile.
pub(super) struct Graph {
    recorded: *mut c_void,
    executable: *mut c_void,
}

// SAFETY: neither libtorch nor the driver ties a graph to a thread.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `work` sets off on the calling thread's current stream, which must not be the
    /// default one. Nothing is computed.
    ///
    /// # Errors
    /// Those of `work`; work that cannot be recorded; a libtorch without graphs.
    pub(super) fn record(work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recorded = std::ptr::null_mut();
        let mut executable = std::ptr::null_mut();
        // SAFETY: what is passed can be written; the graph is one that has begun.
        unsafe {
            check(munit_graph_begin(&mut recorded))?;
            let done = work();
            let ended = check(munit_graph_end(recorded, &mut executable));
            let graph = Self {
                recorded,
                executable,
            };
            if ended.is_err() {
                // libtorch still refers to it.
                std::mem::forget(graph);
            } else if done.is_err() {
                graph.free();
            } else {
                return Ok(graph);
            }
            done.and(ended)?;
        }
        Err(tch::TchError::Torch("a graph could not be recorded".to_owned()).into())
    }

    /// What the driver launches.
    pub(super) fn executable(&self) -> *mut c_void {
        self.executable
    }

    /// Without taking the lock, which the caller has.
    fn free(self) {
        let recorded = self.recorded;
        std::mem::forget(self);
        // SAFETY: it has been recorded and is not used again. A graph that cannot be freed is lost,
        // and nothing more can be done about it.
        let _ = check(unsafe { munit_graph_free(recorded) });
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as in `free`.
        let _ = check(unsafe { munit_graph_free(self.recorded) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_libtorch_without_cuda_records_nothing() {
        // Keeps the linker from dropping libtorch from this test program.
        assert!(tch::get_num_threads() > 0);
        if tch::utils::has_cuda() {
            return;
        }
        let error = Graph::record(|| panic!("nothing to record on"))
            .err()
            .unwrap();
        assert!(error.to_string().contains("graph"), "{error}");
    }
}
