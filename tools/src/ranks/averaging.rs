//! Gradients averaged over all processes while the backward pass goes on.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::{Context, Result, bail};
use munit::networks::on_gradient;
use tch::{Device, Kind, Tensor};

use super::world::World;
use crate::adam::flatten;

/// Numbers that travel together: enough for a message to be worth its while, few enough that the
/// first is on its way early.
const BUCKET: usize = 1 << 20;

/// Averages the gradients of some parameters over all processes.
///
/// Gradients are gathered in buckets in the order in which a backward pass completes them, which the
/// first pass shows. A full bucket is summed up over all processes while the pass goes on; what is
/// left to wait for at its end is the last bucket, and whatever the network is too slow for.
#[derive(Clone)]
pub struct Averaging(Arc<Shared>);

struct Shared {
    world: Arc<World>,
    names: Vec<String>,
    lengths: Vec<usize>,
    device: Device,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether gradients that come are to be averaged.
    collecting: bool,
    /// How the gradients are gathered, after the first pass.
    plan: Option<Plan>,
    /// In the first pass: the parameters whose gradients have come, and these, each as a row.
    arrived: Vec<(usize, Tensor)>,
    failure: Option<anyhow::Error>,
}

struct Plan {
    buckets: Vec<Bucket>,
    /// For each parameter its bucket and its first element there.
    places: Vec<(usize, usize)>,
    /// The bucket that is summed up next: all processes must have the same order.
    next: usize,
}

#[derive(Default)]
struct Bucket {
    parameters: usize,
    length: usize,
    missing: usize,
    gathered: Vec<f32>,
    sums: Vec<f32>,
    pending: Option<Receiver<[Vec<f32>; 2]>>,
}

impl std::fmt::Debug for Averaging {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "Averaging({} parameters)", self.0.lengths.len())
    }
}

impl Averaging {
    pub(super) fn new(world: Arc<World>, parameters: &[Tensor], names: &[&str]) -> Result<Self> {
        let shared = Arc::new(Shared {
            world,
            names: names.iter().map(|&name| name.to_owned()).collect(),
            lengths: parameters.iter().map(Tensor::numel).collect(),
            device: parameters.first().map_or(Device::Cpu, Tensor::device),
            state: Mutex::default(),
        });
        for (index, parameter) in parameters.iter().enumerate() {
            // A parameter would else keep all others.
            let shared: Weak<Shared> = Arc::downgrade(&shared);
            on_gradient(parameter, move |gradient| {
                if let Some(shared) = shared.upgrade() {
                    shared.take(index, gradient);
                }
            })?;
        }
        Ok(Self(shared))
    }

    /// The means over all processes of the gradients that `backward` computes, each as a row, in the
    /// order of [`Span::view`](crate::adam::Span::view) on the parameters' device.
    ///
    /// # Errors
    /// Those of `backward`; a parameter that the loss does not depend on; processes that are gone.
    pub fn average(&self, backward: impl FnOnce() -> Result<()>) -> Result<Vec<Tensor>> {
        self.0.state().begin();
        let passed = backward();
        let mut state = self.0.state();
        state.collecting = false;
        passed?;
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        if state.plan.is_none() {
            self.0.make_plan(&mut state)?;
        }
        tch::no_grad(|| self.0.means(&mut state))
    }
}

impl State {
    fn begin(&mut self) {
        self.collecting = true;
        self.arrived.clear();
        self.failure = None;
        if let Some(plan) = &mut self.plan {
            plan.next = 0;
            for bucket in &mut plan.buckets {
                bucket.missing = bucket.parameters;
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gradient of parameter `index` has come.
    fn take(&self, index: usize, gradient: &Tensor) {
        let mut state = self.state();
        if state.collecting
            && let Err(error) = self.gather(&mut state, index, gradient)
        {
            state.failure.get_or_insert(error);
        }
    }

    fn gather(&self, state: &mut State, index: usize, gradient: &Tensor) -> Result<()> {
        let row = flatten(gradient)?;
        match &mut state.plan {
            None => state.arrived.push((index, row)),
            Some(plan) => plan.put(index, &row, &self.world)?,
        }
        Ok(())
    }

    /// After the first pass: buckets in the order in which gradients came to the first process.
    fn make_plan(&self, state: &mut State) -> Result<()> {
        let arrived = std::mem::take(&mut state.arrived);
        let mut counts = vec![0; self.lengths.len()];
        for (index, _) in &arrived {
            counts[*index] += 1;
        }
        if let Some(odd) = counts.iter().position(|&count| count != 1) {
            let name = &self.names[odd];
            match counts[odd] {
                0 => bail!("the loss does not depend on parameter {name}"),
                count => bail!("one pass has {count} gradients for parameter {name}"),
            }
        }
        let order: Vec<u64> = arrived.iter().map(|(index, _)| *index as u64).collect();
        let given = (self.world.rank() == 0).then(|| serde_json::to_vec(&order));
        let order: Vec<usize> = serde_json::from_slice(&self.world.broadcast(given.transpose()?)?)?;
        let mut plan = Plan::new(&order, &self.lengths);
        for (index, row) in &arrived {
            plan.put(*index, row, &self.world)?;
        }
        state.plan = Some(plan);
        Ok(())
    }

    fn means(&self, state: &mut State) -> Result<Vec<Tensor>> {
        let plan = state.plan.as_mut().context("no gradient has come")?;
        let late = |bucket: &Bucket| bucket.missing > 0;
        if plan.buckets.iter().any(late) {
            bail!("the loss does not depend on all parameters that it used to");
        }
        let factor = 1.0 / self.world.count() as f64;
        let mut rows = Vec::with_capacity(plan.buckets.len());
        for bucket in &mut plan.buckets {
            let pending = bucket
                .pending
                .take()
                .context("a bucket has not been sent")?;
            let [gathered, sums] = pending
                .recv()
                .context("the other processes cannot be reached any more")?;
            let means = Tensor::f_from_slice(&sums)?
                .f_to_device(self.device)?
                .f_mul_scalar_(factor)?;
            rows.push(means);
            (bucket.gathered, bucket.sums) = (gathered, sums);
        }
        let places = plan.places.iter().zip(&self.lengths);
        places
            .map(|((bucket, start), &length)| {
                Ok(rows[*bucket].f_narrow(0, *start as i64, length as i64)?)
            })
            .collect()
    }
}

impl Plan {
    fn new(order: &[usize], lengths: &[usize]) -> Self {
        let mut buckets = vec![Bucket::default()];
        let mut places = vec![(0, 0); lengths.len()];
        for &index in order {
            if buckets.last().is_some_and(|bucket| bucket.length >= BUCKET) {
                buckets.push(Bucket::default());
            }
            let number = buckets.len() - 1;
            let bucket = &mut buckets[number];
            places[index] = (number, bucket.length);
            bucket.length += lengths[index];
            bucket.parameters += 1;
        }
        for bucket in &mut buckets {
            bucket.missing = bucket.parameters;
            bucket.gathered = vec![0.0; bucket.length];
            bucket.sums = vec![0.0; bucket.length];
        }
        Self {
            buckets,
            places,
            next: 0,
        }
    }

    /// Puts a gradient into its bucket, and sends what is full.
    fn put(&mut self, index: usize, row: &Tensor, world: &World) -> Result<()> {
        let (number, start) = self.places[index];
        let bucket = &mut self.buckets[number];
        let length = row.numel();
        bucket.missing = bucket
            .missing
            .checked_sub(1)
            .context("a parameter has two gradients in one pass")?;
        row.f_to_kind(Kind::Float)?
            .f_copy_data(&mut bucket.gathered[start..start + length], length)?;
        while let Some(bucket) = self.buckets.get_mut(self.next)
            && bucket.missing == 0
        {
            let gathered = std::mem::take(&mut bucket.gathered);
            let sums = std::mem::take(&mut bucket.sums);
            bucket.pending = Some(world.begin_sum(gathered, sums));
            self.next += 1;
        }
        Ok(())
    }
}
