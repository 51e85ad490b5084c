//! Signals that ask a run to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// A signal that comes this soon after the first is the same wish: `timeout` signals the program and
/// then its group, and a wrapper passes on what the terminal has sent to both.
const SAME: Duration = Duration::from_secs(1);

/// Exit code of a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// Set once by Ctrl-C, SIGTERM or SIGHUP; another Ctrl-C or SIGTERM later on ends the program at once, in
/// case the first is not heeded quickly enough.
pub(super) fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    // Milliseconds after `begin`; 0: none has come yet.
    let first = Arc::new(AtomicU64::new(0));
    for signal in [SIGINT, SIGTERM] {
        let (stop, first) = (Arc::clone(&stop), Arc::clone(&first));
        let heed = move || {
            let now = begin.elapsed().as_millis() as u64 + 1;
            match first.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => stop.store(true, Ordering::SeqCst),
                // A signal on another thread may have come in between.
                Err(first) if u128::from(now.saturating_sub(first)) > SAME.as_millis() => {
                    low_level::exit(INTERRUPTED)
                }
                Err(_) => {}
            }
        };
        // SAFETY: it reads the clock and changes atomic numbers, or ends the process without cleaning up,
        // all of which a signal's handler may do.
        unsafe { low_level::register(signal, heed) }.context("cannot watch for Ctrl-C")?;
    }
    // A terminal that is closed may send it several times.
    if !is_ignored(SIGHUP) {
        flag::register(SIGHUP, Arc::clone(&stop)).context("cannot watch for SIGHUP")?;
    }
    Ok(stop)
}

/// Whether this process was started to ignore `signal`, as nohup does with SIGHUP.
fn is_ignored(signal: i32) -> bool {
    // SAFETY: the action is a plain structure, and is only read into.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}
