//! Graphs: the work of a whole frame, recorded once and from then on set off at once.

use std::ffi::{c_char, c_void};
use std::sync::{Mutex, PoisonError};

use super::turns::TURNS;
use crate::Result;
use crate::runtime::stream::check;

unsafe extern "C" {
    fn munit_graph_begin(graph: *mut *mut c_void) -> *mut c_char;
    fn munit_graph_end(graph: *mut c_void, executable: *mut *mut c_void) -> *mut c_char;
    fn munit_graph_abandon(stream: *mut c_void);
    fn munit_graph_free(graph: *mut c_void) -> *mut c_char;
}

/// libtorch's bookkeeping for graphs is not made for several threads.
static FREEING: Mutex<()> = Mutex::new(());

/// A recorded sequence of work, with the memory that libtorch has allocated meanwhile. Whoever drops it
/// holds a turn.
pub(super) struct Graph {
    recorded: *mut c_void,
    executable: *mut c_void,
}

// SAFETY: neither libtorch nor the driver ties a graph to a thread.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `work` sets off on `stream`, the calling thread's current one, on which nothing is
    /// under way, and which must not be the default one. Nothing is computed. The calling thread holds
    /// no turn.
    ///
    /// # Errors
    /// Those of `work`; work that cannot be recorded; a libtorch without graphs. The stream should not
    /// be used any more.
    pub(super) fn record(stream: *mut c_void, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let _turn = TURNS.alone();
        let graph = Self::record_alone(work);
        if graph.is_err() {
            // SAFETY: the caller's stream, of which no more is asked than whether it is recorded.
            unsafe { munit_graph_abandon(stream) };
        }
        graph
    }

    fn record_alone(work: impl FnOnce() -> Result<()>) -> Result<Self> {
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
            if let Err(ended) = ended {
                // libtorch still refers to it.
                std::mem::forget(graph);
                return Err(done.err().unwrap_or(ended));
            }
            done.map(|()| graph)
        }
    }

    /// What the driver launches.
    pub(super) fn executable(&self) -> *mut c_void {
        self.executable
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _one = FREEING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: it has been recorded and is not used again. A graph that cannot be freed is lost,
        // and nothing more can be done about it.
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
        let error = Graph::record(std::ptr::null_mut(), || panic!("nothing to record on"))
            .err()
            .unwrap();
        assert!(error.to_string().contains("graph"), "{error}");
    }
}
