//! Whether other programs want the processor on which libtorch computes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use munit::runtime::tame_spinning;

/// A window for runs of hours, in which a crowd that soon goes away does not matter.
pub const LONG_WINDOW: Duration = Duration::from_secs(2);
/// A window for work of seconds or minutes.
pub const SHORT_WINDOW: Duration = Duration::from_millis(250);

/// Of the time, in which the watched thread could have computed but had to wait for a processor.
const MUCH: f64 = 0.1;

/// Sees when a thread that computes has to share the processor, and lets libtorch behave accordingly, until
/// this is dropped.
///
/// libtorch's threads spin where they wait for one another. Alone on a machine that is the fastest way: where
/// they sleep instead, an iteration takes some 8 % longer. But where another program takes the place of one
/// of them, the others spin for it, and an iteration can take ten times as long and more. So they spin no more
/// from the first time on that much of a window was spent waiting, for the rest of the process.
#[derive(Debug)]
pub struct Crowding {
    /// Whoever watches ends with it.
    _watcher: Option<Sender<()>>,
}

impl Crowding {
    /// Watches the calling thread, and judges after each `window`. Nothing is watched where the system does
    /// not say how long a thread has waited.
    pub fn watch(window: Duration) -> Self {
        let (sender, dropped) = channel();
        let watched = Waiting::of_this_thread().map(|mut waiting| {
            thread::Builder::new()
                .name("munit-crowding".to_owned())
                .spawn(move || {
                    while dropped.recv_timeout(window) == Err(RecvTimeoutError::Timeout) {
                        match waiting.share() {
                            Some(share) if share > MUCH => return tame_spinning(),
                            Some(_) => {}
                            None => return,
                        }
                    }
                })
        });
        Self {
            _watcher: watched.and_then(Result::ok).map(|_| sender),
        }
    }
}

/// How long a thread waits for a processor.
struct Waiting {
    /// The second number in it is the time for which the thread has been ready to run without a processor to
    /// run on, in nanoseconds.
    schedstat: File,
    since: Instant,
    by_then: Duration,
}

impl Waiting {
    /// Of the calling thread; `None` if the system does not say.
    fn of_this_thread() -> Option<Self> {
        // Whoever reads it, it stays that of the thread that has opened it.
        let schedstat = File::open("/proc/thread-self/schedstat").ok()?;
        Some(Self {
            since: Instant::now(),
            by_then: waited(&schedstat)?,
            schedstat,
        })
    }

    /// Share of the time since this was last asked; `None` if the system does not say any more.
    fn share(&mut self) -> Option<f64> {
        let (elapsed, now) = (self.since.elapsed(), waited(&self.schedstat)?);
        let waited = now.saturating_sub(self.by_then);
        (self.since, self.by_then) = (Instant::now(), now);
        Some(waited.as_secs_f64() / elapsed.as_secs_f64())
    }
}

fn waited(schedstat: &File) -> Option<Duration> {
    let mut text = [0; 64];
    let length = schedstat.read_at(&mut text, 0).ok()?;
    let text = str::from_utf8(text.get(..length)?).ok()?;
    let nanoseconds = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn waiting_for_a_processor_is_noticed_from_another_thread() {
        let Some(mut waiting) = Waiting::of_this_thread() else {
            // This system does not say.
            return;
        };
        let processors = thread::available_parallelism().unwrap().get();
        let done = &AtomicBool::new(false);
        let spin = || {
            while !done.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        thread::scope(|scope| {
            // So many that the fairest of systems has none left for each.
            for _ in 0..3 * processors {
                scope.spawn(spin);
            }
            let watcher = scope.spawn(move || {
                thread::sleep(Duration::from_secs(1));
                let crowded = waiting.share();
                done.store(true, Ordering::Relaxed);
                (crowded, waiting)
            });
            spin();
            let (crowded, mut waiting) = watcher.join().unwrap();
            let crowded = crowded.unwrap();
            assert!(crowded > MUCH, "{crowded}");
            // Who sleeps does not wait.
            waiting.share().unwrap();
            thread::sleep(Duration::from_millis(500));
            assert!(waiting.share().unwrap() < crowded / 2.0);
        });
    }
}
