//! The other processes by way of MPI.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::Equivalence;
use mpi::request::{Request, Scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};

use super::launch::Launch;

/// MPI counts in 32 bits.
const LONGEST_MESSAGE: usize = 1 << 30;

/// For so long a thread asks without pause whether the others are there.
const IMPATIENCE: Duration = Duration::from_micros(100);

/// Pause between later questions. MPI's own waiting keeps a core busy, which is better used by the
/// networks.
const PAUSE: Duration = Duration::from_micros(50);

type Job = Box<dyn FnOnce(&Messages) + Send>;

/// All processes. One thread of each speaks for it, job after job, so that messages are on their way
/// while others compute; all processes must ask for the same in the same order.
pub struct World {
    place: Place,
    aborting: Arc<AtomicBool>,
    /// Taken when there is nothing more to say.
    speaker: Mutex<Option<(Sender<Job>, JoinHandle<()>)>>,
}

#[derive(Clone, Copy)]
struct Place {
    rank: usize,
    count: usize,
    local_rank: usize,
    local_count: usize,
}

impl World {
    pub fn join(_: &Launch) -> Result<Self> {
        let (jobs, received) = channel::<Job>();
        let (tell, told) = channel();
        let aborting = Arc::new(AtomicBool::new(false));
        let asked_to_abort = Arc::clone(&aborting);
        let speaker = thread::Builder::new()
            .name("mpi".to_owned())
            .spawn(move || {
                // This thread alone calls MPI, from here to the end.
                let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled)
                else {
                    return;
                };
                let messages = Messages {
                    world: universe.world(),
                    aborting: asked_to_abort,
                };
                if tell.send(messages.place()).is_err() {
                    return;
                }
                for job in received {
                    job(&messages);
                }
            })
            .context("cannot start a thread for MPI")?;
        Ok(Self {
            place: told.recv().context("MPI cannot be started")?,
            aborting,
            speaker: Mutex::new(Some((jobs, speaker))),
        })
    }

    pub fn rank(&self) -> usize {
        self.place.rank
    }

    pub fn count(&self) -> usize {
        self.place.count
    }

    /// Number of this process among those on its machine.
    pub fn local_rank(&self) -> usize {
        self.place.local_rank
    }

    /// Number of processes on this machine.
    pub fn local_count(&self) -> usize {
        self.place.local_count
    }

    /// The sum over all processes of each of `values`.
    pub fn sum(&self, values: Vec<f64>) -> Result<Vec<f64>> {
        let sums = self.submit(move |messages| {
            let mut sums = vec![0.0; values.len()];
            messages.sum(&values, &mut sums);
            sums
        });
        sums.recv().context(GONE)
    }

    /// Begins to sum up `values` over all processes; gives them back, and then the sums, for which
    /// `sums` is the space.
    pub fn begin_sum(&self, values: Vec<f32>, mut sums: Vec<f32>) -> Receiver<[Vec<f32>; 2]> {
        self.submit(move |messages| {
            messages.sum(&values, &mut sums);
            [values, sums]
        })
    }

    /// What the first process, which alone has any, gives.
    pub fn broadcast(&self, given: Option<Vec<u8>>) -> Result<Vec<u8>> {
        let bytes = self.submit(move |messages| {
            let mut length = [given.as_ref().map_or(0, Vec::len) as u64];
            messages.broadcast(&mut length);
            let mut bytes = given.unwrap_or_else(|| vec![0; length[0] as usize]);
            for part in bytes.chunks_mut(LONGEST_MESSAGE) {
                messages.broadcast(part);
            }
            bytes
        });
        bytes.recv().context(GONE)
    }

    /// Ends all processes.
    pub fn abort(&self) -> ! {
        self.aborting.store(true, Ordering::Relaxed);
        // Where the thread has nothing to do.
        let _ = self.submit(Messages::abort_if_asked);
        loop {
            thread::park();
        }
    }

    /// Waits until all processes have said all that they have to say.
    pub fn leave(&self) {
        let speaker = self.speaker().take();
        if let Some((jobs, thread)) = speaker {
            drop(jobs);
            // Its panic has been reported.
            let _ = thread.join();
        }
    }

    /// Its answer comes when all jobs before are done.
    fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Messages) -> T + Send + 'static,
    ) -> Receiver<T> {
        let (answer, answered) = channel();
        if let Some((jobs, _)) = self.speaker().as_ref() {
            // Fails only where the thread has ended; then the answer fails, too.
            let _ = jobs.send(Box::new(move |messages| {
                let _ = answer.send(job(messages));
            }));
        }
        answered
    }

    fn speaker(&self) -> std::sync::MutexGuard<'_, Option<(Sender<Job>, JoinHandle<()>)>> {
        self.speaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const GONE: &str = "the other processes cannot be reached any more";

/// What the thread does.
struct Messages {
    world: SimpleCommunicator,
    aborting: Arc<AtomicBool>,
}

impl Messages {
    fn place(&self) -> Place {
        let number = |value: i32| usize::try_from(value).unwrap_or_default();
        let local = self.world.split_shared(self.world.rank());
        Place {
            rank: number(self.world.rank()),
            count: number(self.world.size()),
            local_rank: number(local.rank()),
            local_count: number(local.size()),
        }
    }

    fn sum<T: Equivalence>(&self, values: &[T], sums: &mut [T]) {
        let sum = SystemOperation::sum();
        let parts = values
            .chunks(LONGEST_MESSAGE)
            .zip(sums.chunks_mut(LONGEST_MESSAGE));
        for (values, sums) in parts {
            mpi::request::scope(|scope| {
                let request = self
                    .world
                    .immediate_all_reduce_into(scope, values, sums, sum);
                self.finish(request);
            });
        }
    }

    fn broadcast<T: Equivalence>(&self, values: &mut [T]) {
        mpi::request::scope(|scope| {
            let first = self.world.process_at_rank(0);
            self.finish(first.immediate_broadcast_into(scope, values));
        });
    }

    fn finish<'a, D: ?Sized, S: Scope<'a>>(&self, mut request: Request<'a, D, S>) {
        let begun = Instant::now();
        while let Err(unfinished) = request.test() {
            request = unfinished;
            self.abort_if_asked();
            if begun.elapsed() > IMPATIENCE {
                thread::sleep(PAUSE);
            }
        }
    }

    fn abort_if_asked(&self) {
        if self.aborting.load(Ordering::Relaxed) {
            self.world.abort(1);
        }
    }
}
