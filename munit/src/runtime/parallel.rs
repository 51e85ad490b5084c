//! Loops on several threads.
//!
//! They do not run on OpenMP's threads, of which libtorch makes use: those either spin for
//! milliseconds after each loop, on cores that the rest of a pipeline needs, or are woken by the
//! system for each, which takes as long as a loop; and a loop is only as fast as the slowest of
//! them. Those of a [`Team`] spin for microseconds and take each other's work.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Mutex;

use super::team::Team;
use crate::processors::processors;

/// Number of threads that the calling thread's loops use: as many as its libtorch operations.
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
    // libtorch gives a thread that it has not met the number that any thread set last.
    tch::get_num_threads();
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
}

/// Cores that this process may use, not counting their second threads.
fn physical_cores() -> usize {
    // A container's share of the time may be less than the processors that it may use.
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    // Two processors of one core name the same siblings; one that is switched off has none.
    let siblings = |processor: usize| {
        std::fs::read_to_string(format!(
            "/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list"
        ))
        .ok()
    };
    let cores: BTreeSet<String> = processors().into_iter().filter_map(siblings).collect();
    match cores.len() {
        0 => allowed,
        cores => cores.min(allowed),
    }
}

thread_local! {
    /// Started with the first loop.
    static TEAM: RefCell<Option<Team>> = const { RefCell::new(None) };
}

/// Parts for each thread: the last of them to finish is waited for no longer than one takes.
const PARTS: usize = 4;

/// Calls `body` with every number below `parts`, on the calling thread and its team; neighbouring
/// numbers on the same thread, as long as none is idle. A loop inside a loop is not spread.
pub(super) fn for_each_part(parts: usize, body: &(dyn Fn(usize) + Sync)) {
    let threads = threads();
    let spread = threads > 1
        && parts > 1
        && TEAM.with(|team| {
            let Ok(mut team) = team.try_borrow_mut() else {
                return false;
            };
            let fitting = team.take().filter(|team| team.threads() == threads);
            match fitting.or_else(|| Team::start(threads).ok()) {
                Some(started) => {
                    let team = team.insert(started);
                    team.run(parts, body);
                    true
                }
                None => false,
            }
        });
    if !spread {
        (0..parts).for_each(body);
    }
}

/// Calls `body` with ranges that together make up `0..count`.
pub(super) fn for_each_range(count: usize, parts: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
    for_each_part(parts, &|part| {
        body(count * part / parts..count * (part + 1) / parts);
    });
}

/// Gives each item, with its number, to one call of `body`.
pub(super) fn for_each_item<I: Send>(items: Vec<I>, body: &(dyn Fn(usize, I) + Sync)) {
    let items: Vec<_> = items
        .into_iter()
        .map(|item| Mutex::new(Some(item)))
        .collect();
    for_each_part(items.len(), &|number| {
        let item = items[number].lock().map(|mut item| item.take());
        if let Ok(Some(item)) = item {
            body(number, item);
        }
    });
}

/// Cuts `rows`, which are `row_length` elements long, into a few bands for each thread and calls
/// `body` with the number of each band's first row and its elements.
pub(super) fn for_each_band<T: Send>(
    rows: &mut [T],
    row_length: usize,
    body: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    let count = rows.len() / row_length;
    let band = match threads() {
        1 => count,
        threads => count.div_ceil(PARTS * threads),
    };
    let band = band.max(1);
    let bands = rows.chunks_mut(band * row_length).collect();
    for_each_item(bands, &|number, elements| body(number * band, elements));
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, resume_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_thread_keeps_its_own_number() {
        let here = std::thread::spawn(|| {
            use_threads(3);
            std::thread::spawn(|| use_threads(1)).join().unwrap();
            threads()
        });
        assert_eq!(here.join().unwrap(), 3);
    }

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
            for_each_range(count, 7.min(count), &|range| {
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
    fn several_threads_take_part() {
        if threads() < 2 {
            return;
        }
        let names = Mutex::new(std::collections::HashSet::new());
        let both = std::sync::Barrier::new(2);
        for_each_part(2, &|_| {
            names.lock().unwrap().insert(std::thread::current().id());
            both.wait();
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
