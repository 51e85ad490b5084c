//! Built without MPI: there are no other processes.

use std::convert::Infallible;
use std::sync::mpsc::Receiver;

use anyhow::{Result, bail};

use super::launch::Launch;

/// Never there.
pub struct World(Infallible);

impl World {
    pub fn join(launch: &Launch) -> Result<Self> {
        bail!(
            "{} has started this program {} times, but it was built without MPI; build it with \
             --features munit-tools/mpi, or start it once",
            launch.launcher,
            launch.processes
        )
    }

    pub fn rank(&self) -> usize {
        match self.0 {}
    }

    pub fn count(&self) -> usize {
        match self.0 {}
    }

    pub fn local_rank(&self) -> usize {
        match self.0 {}
    }

    pub fn local_count(&self) -> usize {
        match self.0 {}
    }

    pub fn sum(&self, _: Vec<f64>) -> Result<Vec<f64>> {
        match self.0 {}
    }

    pub fn begin_sum(&self, _: Vec<f32>, _: Vec<f32>) -> Receiver<[Vec<f32>; 2]> {
        match self.0 {}
    }

    pub fn broadcast(&self, _: Option<Vec<u8>>) -> Result<Vec<u8>> {
        match self.0 {}
    }

    pub fn abort(&self) -> ! {
        match self.0 {}
    }

    pub fn leave(&self) {
        match self.0 {}
    }
}
