//! Threads that share the loops of one thread.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a thread spins before it sleeps: longer than the gaps between the loops of a network,
/// shorter than anyone who needs the core notices.
const SPIN: Duration = Duration::from_micros(50);

/// The thread that has started the team, and its helpers. Dropping it ends these.
pub(super) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// A [`State`].
    state: AtomicU64,
    /// The loop to share; written only while the state is closed and no helper is inside.
    job: UnsafeCell<Option<Job>>,
    members: Vec<Member>,
    owner: Thread,
    stop: AtomicBool,
}

// SAFETY: `job` is written by the owner before it opens the state and after the last helper has
// left, and read by helpers in between.
unsafe impl Sync for Shared {}
// SAFETY: the job's pointer is used only while `Team::run`, which holds what it points to, waits.
unsafe impl Send for Shared {}

/// One thread's part; a cache line of its own.
#[repr(align(64))]
#[derive(Default)]
struct Member {
    /// The next of its share of the job's parts that no one has taken.
    next: AtomicUsize,
    asleep: AtomicBool,
}

struct Job {
    body: *const (dyn Fn(usize) + Sync),
    parts: usize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Number of the loop, whether helpers may still join it, and how many of them have.
#[derive(Clone, Copy)]
struct State(u64);

impl State {
    const OPEN: u64 = 1 << 16;
    const NEXT_LOOP: u64 = 1 << 17;

    fn number(self) -> u64 {
        self.0 / Self::NEXT_LOOP
    }

    fn is_open(self) -> bool {
        self.0 & Self::OPEN != 0
    }

    fn inside(self) -> u64 {
        self.0 % Self::OPEN
    }
}

impl Team {
    /// A team of `threads` threads with the calling one, at least two and at most 65,536.
    pub(super) fn start(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            members: (0..threads).map(|_| Member::default()).collect(),
            owner: std::thread::current(),
            stop: AtomicBool::new(false),
        });
        let mut team = Self {
            shared: Arc::clone(&shared),
            helpers: vec![],
        };
        for member in 1..threads {
            let shared = Arc::clone(&shared);
            let helper = std::thread::Builder::new().name("munit-loop".to_owned());
            team.helpers
                .push(helper.spawn(move || shared.help(member))?);
        }
        Ok(team)
    }

    /// Threads, the owner's included.
    pub(super) fn threads(&self) -> usize {
        self.shared.members.len()
    }

    /// Calls `body` once with every number below `parts`; a panic in it goes on here.
    pub(super) fn run(&mut self, parts: usize, body: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        let body: *const (dyn Fn(usize) + Sync) = body;
        let job = Job {
            // SAFETY: only the lifetime changes; helpers use it before this function returns.
            body: unsafe {
                std::mem::transmute::<*const (dyn Fn(usize) + Sync), *const (dyn Fn(usize) + Sync)>(
                    body,
                )
            },
            parts,
            panic: Mutex::new(None),
        };
        for (number, member) in shared.members.iter().enumerate() {
            let first = shared.share(number, parts).start;
            member.next.store(first, Ordering::Relaxed);
        }
        // SAFETY: the state is closed and no helper is inside.
        unsafe { *shared.job.get() = Some(job) };
        let before = shared.state.load(Ordering::Relaxed);
        let state = before / State::NEXT_LOOP * State::NEXT_LOOP + State::NEXT_LOOP + State::OPEN;
        // Sequentially consistent, as is what a helper does before it sleeps: either it sees the
        // loop, or this thread sees it asleep.
        shared.state.store(state, Ordering::SeqCst);
        for (member, helper) in shared.members[1..].iter().zip(&self.helpers) {
            if member.asleep.swap(false, Ordering::SeqCst) {
                helper.thread().unpark();
            }
        }
        // SAFETY: the job was written above.
        unsafe { shared.work(0) };
        // Helpers that have not come yet need not.
        shared.state.fetch_and(!State::OPEN, Ordering::AcqRel);
        let all_left = || State(shared.state.load(Ordering::Acquire)).inside() == 0;
        if !spin_until(all_left) {
            while !all_left() {
                std::thread::park();
            }
        }
        // SAFETY: the state is closed and no helper is inside.
        let job = unsafe { (*shared.job.get()).take() };
        let panic = job.and_then(|job| {
            let slot = job.panic.into_inner();
            slot.unwrap_or_else(|poison| poison.into_inner())
        });
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper catches the panics of loop bodies, and has none of its own.
            let _ = helper.join();
        }
    }
}

impl Shared {
    /// The parts that a member begins with.
    fn share(&self, member: usize, parts: usize) -> std::ops::Range<usize> {
        let members = self.members.len();
        parts * member / members..parts * (member + 1) / members
    }

    /// Takes parts until none is left: first of its own share, then of the others'.
    ///
    /// # Safety
    /// There is a job, and the owner waits for this to return.
    unsafe fn work(&self, member: usize) {
        // SAFETY: the caller's promise.
        let Some(job) = (unsafe { &*self.job.get() }) else {
            return;
        };
        // SAFETY: the owner holds what it points to.
        let body = unsafe { &*job.body };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let members = self.members.len();
            for other in (0..members).map(|offset| (member + offset) % members) {
                let end = self.share(other, job.parts).end;
                loop {
                    let part = self.members[other].next.fetch_add(1, Ordering::Relaxed);
                    if part >= end {
                        break;
                    }
                    body(part);
                }
            }
        }));
        if let Err(panic) = outcome
            && let Ok(mut slot) = job.panic.lock()
        {
            *slot = Some(panic);
        }
    }

    /// What a helper does until the team ends.
    fn help(&self, member: usize) {
        let mut done = 0;
        loop {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let state = State(self.state.load(Ordering::Acquire));
            if state.is_open() && state.number() != done {
                let joined = self.state.compare_exchange_weak(
                    state.0,
                    state.0 + 1,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                if joined.is_ok() {
                    done = state.number();
                    // SAFETY: the owner has opened the state, and waits for this to leave.
                    unsafe { self.work(member) };
                    let before = State(self.state.fetch_sub(1, Ordering::AcqRel));
                    if before.inside() == 1 && !before.is_open() {
                        self.owner.unpark();
                    }
                }
                continue;
            }
            let wanted = || {
                let state = State(self.state.load(Ordering::SeqCst));
                state.is_open() && state.number() != done || self.stop.load(Ordering::SeqCst)
            };
            if spin_until(wanted) {
                continue;
            }
            let asleep = &self.members[member].asleep;
            asleep.store(true, Ordering::SeqCst);
            while !wanted() && asleep.load(Ordering::SeqCst) {
                std::thread::park();
            }
            asleep.store(false, Ordering::SeqCst);
        }
    }
}

/// Whether `condition` came true within [`SPIN`].
fn spin_until(condition: impl Fn() -> bool) -> bool {
    /// Looking at the clock takes longer than looking at the condition.
    const LOOKS: usize = 32;

    let start = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if condition() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_follow_each_other() {
        let mut team = Team::start(4).unwrap();
        for parts in (0..40).chain([1000, 1, 0, 3]) {
            for pause in [0, 1] {
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                team.run(parts, &|part| {
                    counts[part].fetch_add(1, Ordering::Relaxed);
                });
                let once = |count: &AtomicUsize| count.load(Ordering::Relaxed) == 1;
                assert!(counts.iter().all(once), "{parts}");
                // Long enough for helpers to fall asleep now and then.
                std::thread::sleep(SPIN * 2 * pause);
            }
        }
    }

    #[test]
    fn what_one_thread_does_not_begin_another_does() {
        let mut team = Team::start(2).unwrap();
        let others = AtomicUsize::new(0);
        let owner = std::thread::current().id();
        team.run(100, &|part| {
            if std::thread::current().id() != owner {
                others.fetch_add(1, Ordering::Relaxed);
            } else if part == 0 {
                // The owner's first part ends only when all parts but its own are done.
                while others.load(Ordering::Relaxed) < 99 {
                    std::thread::yield_now();
                }
            }
        });
        assert_eq!(others.into_inner(), 99);
    }

    #[test]
    fn a_team_outlives_a_panic() {
        let mut team = Team::start(3).unwrap();
        let panic = catch_unwind(AssertUnwindSafe(|| {
            team.run(30, &|part| assert_ne!(part, 17, "seventeen"));
        }));
        let panic = panic.unwrap_err();
        assert!(
            panic
                .downcast_ref::<String>()
                .unwrap()
                .contains("seventeen")
        );
        let count = AtomicUsize::new(0);
        team.run(30, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 30);
    }
}
