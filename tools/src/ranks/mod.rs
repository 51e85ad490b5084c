//! Several processes that train one model together: each computes on its share of every batch, and
//! gradients and losses are averaged over all of them.
//!
//! A process that trains alone is the only one of its kind; nothing here then costs anything. More
//! than one need the feature `mpi`.

mod averaging;
mod launch;
mod share;
#[cfg(feature = "mpi")]
mod world;
#[cfg(not(feature = "mpi"))]
#[path = "no_world.rs"]
mod world;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use munit::config::Norm;
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind, Tensor};

use crate::config::TrainConfig;
use crate::program::sentence;
pub use averaging::Averaging;
pub use share::Share;
use world::World;

/// How long a process waits for the first one to say what keeps all of them from their work.
const FIRST_SPEAKS: Duration = Duration::from_secs(1);

/// What the first process, which alone decides, has the others do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// One iteration.
    Train,
    /// To take over its state, which follows.
    Take {
        /// The run's configuration.
        config: Box<TrainConfig>,
        /// Iterations done.
        iteration: u64,
        /// Fingerprints of the two sets of training pictures.
        pictures: [u32; 2],
    },
    /// To end, all being done.
    Leave,
}

/// The processes that train together, and which of them this one is.
#[derive(Clone)]
pub struct Ranks {
    /// `None` in a process that trains alone.
    world: Option<Arc<World>>,
}

impl fmt::Debug for Ranks {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "Ranks({} of {})", self.rank(), self.count())
    }
}

impl Ranks {
    /// A process that trains alone.
    pub fn alone() -> Self {
        Self { world: None }
    }

    /// Joins the processes that `mpirun` or `srun` has started together with this one; alone if
    /// there are none.
    ///
    /// # Errors
    /// Several processes where this program was built without MPI; processes that MPI does not
    /// bring together.
    pub fn join() -> Result<Self> {
        let Some(launch) = launch::detect(|name| std::env::var(name).ok()) else {
            return Ok(Self::alone());
        };
        let world = World::join(&launch)?;
        ensure!(
            world.count() == launch.processes,
            "{} has started {} processes, but MPI knows of {}; with srun add --mpi=pmix, and use the \
             mpirun that belongs to the MPI that this program is linked with",
            launch.launcher,
            launch.processes,
            world.count()
        );
        Ok(Self {
            world: Some(Arc::new(world)),
        })
    }

    /// Number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.world.as_ref().map_or(0, |world| world.rank())
    }

    /// Number of processes.
    pub fn count(&self) -> usize {
        self.world.as_ref().map_or(1, |world| world.count())
    }

    /// Whether this is the process that writes the run's folder and says what is going on.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// This process's part of each batch.
    pub fn share(&self) -> Share {
        Share {
            index: self.rank(),
            count: self.count(),
        }
    }

    /// The device for this process, where `chosen` is the one for all: with several CUDA devices,
    /// the processes of a machine take them in turn.
    pub fn device(&self, chosen: Device) -> Device {
        match (&self.world, chosen) {
            (Some(world), Device::Cuda(0)) => Device::Cuda(world.local_rank() % cuda_devices()),
            _ => chosen,
        }
    }

    /// How many processes share `device`, which is this one's.
    pub fn sharing(&self, device: Device) -> usize {
        let Some(world) = &self.world else {
            return 1;
        };
        match device {
            Device::Cuda(_) => world.local_count().div_ceil(cuda_devices()),
            _ => world.local_count(),
        }
    }

    /// Threads for each process, so that those of a machine do not fight over its cores; `None` for
    /// a process that trains alone.
    pub fn threads(&self) -> Option<i32> {
        let world = self.world.as_ref()?;
        // What mpirun has bound this process to.
        let allowed = std::thread::available_parallelism().map_or(1, usize::from);
        // SAFETY: reads a number.
        let cores = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        let cores = usize::try_from(cores).unwrap_or(allowed);
        let share = (cores / world.local_count()).clamp(1, allowed);
        i32::try_from(share).ok()
    }

    /// Refuses what several processes cannot compute as one would.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self, config: &TrainConfig) -> Result<()> {
        let count = self.count();
        if count == 1 {
            return Ok(());
        }
        ensure!(
            config.discriminator.norm != Norm::Batch,
            "dis.norm is bn, whose statistics are those of the whole batch, but each of the {count} \
             processes sees only its share; take none, in, ln or sn, or train in one process"
        );
        ensure!(
            config.batch_size.is_multiple_of(count),
            "the run's batch of {} pictures cannot be shared evenly by {count} processes; start a \
             number of processes that divides it",
            config.batch_size
        );
        Ok(())
    }

    /// Makes each of `values`, of which all processes have equally many, its mean over all of them.
    /// Whether `stop` is true in any.
    ///
    /// # Errors
    /// Processes that are gone.
    pub fn agree(&self, values: &mut [f64], stop: bool) -> Result<bool> {
        let Some(world) = &self.world else {
            return Ok(stop);
        };
        let sums = world.sum([&*values, &[f64::from(stop)]].concat())?;
        for (value, sum) in values.iter_mut().zip(&sums) {
            *value = sum / self.count() as f64;
        }
        Ok(sums.last().is_some_and(|stops| *stops > 0.0))
    }

    /// Tells the other processes what to do next, if there are any.
    ///
    /// # Errors
    /// Processes that are gone.
    pub fn lead(&self, order: Order) -> Result<()> {
        if let Some(world) = &self.world {
            world.broadcast(Some(serde_yaml_ng::to_string(&order)?.into_bytes()))?;
        }
        Ok(())
    }

    /// What the first process wants this one to do next; in a process that trains alone, nothing.
    ///
    /// # Errors
    /// Another version of this program there; processes that are gone.
    pub fn follow(&self) -> Result<Order> {
        let Some(world) = &self.world else {
            return Ok(Order::Leave);
        };
        serde_yaml_ng::from_slice(&world.broadcast(None)?)
            .context("the first process is another version of munit-train")
    }

    /// Gives `tensors`, float32, the values that they have in the first process.
    ///
    /// # Errors
    /// Tensors of other shapes there; processes that are gone; libtorch's.
    pub fn synchronise(&self, tensors: &mut [Tensor]) -> Result<()> {
        let Some(world) = &self.world else {
            return Ok(());
        };
        for tensor in tensors {
            let size = tensor.size();
            if self.is_first() {
                let values = tensor.f_contiguous()?.f_view([-1])?;
                world.broadcast(Some(bytes_of(&values)?))?;
                continue;
            }
            let bytes = world.broadcast(None)?;
            if bytes.len() != size_of::<f32>() * tensor.numel() {
                bail!("the first process has another network; start all with the same options");
            }
            let values = Tensor::f_from_data_size(&bytes, &size, Kind::Float)?;
            tch::no_grad(|| tensor.f_copy_(&values))?;
        }
        Ok(())
    }

    /// Averages the gradients of `parameters`, named by `names`, over all processes from now on;
    /// `None` for a process that trains alone.
    ///
    /// # Errors
    /// libtorch's.
    pub fn averaging(&self, parameters: &[Tensor], names: &[&str]) -> Result<Option<Averaging>> {
        self.world
            .as_ref()
            .map(|world| Averaging::new(Arc::clone(world), parameters, names))
            .transpose()
    }

    /// Ends all processes after `error` in this one, which is told on standard error under the name
    /// of the `program`. Comes back in a process that trains alone.
    pub fn fail(&self, program: &str, error: &anyhow::Error) {
        let Some(world) = &self.world else {
            return;
        };
        // What keeps all from their work is said once.
        if !self.is_first() {
            std::thread::sleep(FIRST_SPEAKS);
        }
        let (rank, count) = (self.rank(), self.count());
        // In one piece: what mpirun says itself goes between the pieces.
        let line = format!(
            "{program}: process {rank} of {count}: {}\n",
            sentence(error)
        );
        // Nobody is left to be told where not even this can be written.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        world.abort();
    }

    /// Takes leave of the other processes, after the work; waits until all do.
    pub fn leave(self) {
        if let Some(world) = self.world {
            world.leave();
        }
    }
}

fn cuda_devices() -> usize {
    usize::try_from(Cuda::device_count()).unwrap_or(1).max(1)
}

fn bytes_of(values: &Tensor) -> Result<Vec<u8>> {
    let count = values.numel();
    let mut bytes = vec![0; count * size_of::<f32>()];
    values
        .f_to_device(Device::Cpu)?
        .f_copy_data_u8(&mut bytes, count)?;
    Ok(bytes)
}
