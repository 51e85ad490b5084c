//! What the planner and the workers share: which model translates at which size, on what.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use munit::StyleCode;
use munit::runtime::Translator;

use crate::munitfilter::fade::{Before, Fade};
use crate::munitfilter::governor::{Governor, SizeLimits};
use crate::munitfilter::imp;
use crate::munitfilter::loaded_model::LoadedModel;
use crate::munitfilter::problem::Problem;
use crate::munitfilter::report::InUse;

/// What a frame fades from, and the share of the new in it.
pub(super) type PlannedFade = (Before, f64);

/// How a frame is tried again for which there was no memory.
pub(super) struct WayOut {
    pub model: Arc<LoadedModel>,
    pub size: u32,
    /// What the person should hear of it; nothing if they have heard it.
    pub warning: Option<Problem>,
}

struct State {
    /// What frames are translated with from now on.
    model: Arc<LoadedModel>,
    /// The size at which the network runs; none before the first caps.
    governor: Option<Governor>,
    fade: Option<Fade>,
    /// Those that no worker uses at the moment.
    translators: Vec<(Arc<LoadedModel>, Translator)>,
    most_in_flight: usize,
    /// Memory does not hold more than one frame.
    one_at_a_time: bool,
    /// When a frame was finished last.
    finished: Option<Instant>,
}

impl State {
    /// Whether frames are still made with this model.
    fn shows(&self, model: &Arc<LoadedModel>) -> bool {
        let before = self.fade.as_ref().map(|fade| &fade.before);
        Arc::ptr_eq(&self.model, model)
            || matches!(before, Some(Before::Model(before, _)) if Arc::ptr_eq(before, model))
    }

    /// How long a frame may be worked on, if one comes in each `interval`. On the CPU each of those in
    /// flight has threads of its own; a CUDA device works on one after another.
    fn budget(&self, interval: Duration) -> Duration {
        let frames = if self.model.is_on_cpu() {
            u32::try_from(self.most_in_flight).unwrap_or(1)
        } else {
            1
        };
        interval * frames
    }

    /// Drops the translators of models that are no longer shown.
    fn tidy_up(&mut self) {
        let mut translators = std::mem::take(&mut self.translators);
        translators.retain(|(model, _)| self.shows(model));
        self.translators = translators;
    }
}

/// The model, the size and the translators in use.
pub(super) struct Course {
    state: Mutex<State>,
    /// Held together by those who translate; alone by one that has run out of memory.
    room: RwLock<()>,
}

impl Course {
    pub fn new(model: Arc<LoadedModel>) -> Self {
        Self {
            state: Mutex::new(State {
                model,
                governor: None,
                fade: None,
                translators: Vec::new(),
                most_in_flight: 1,
                one_at_a_time: false,
                finished: None,
            }),
            room: RwLock::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model in use.
    pub fn model(&self) -> Arc<LoadedModel> {
        self.state().model.clone()
    }

    /// The model and the size in use.
    pub fn in_use(&self) -> InUse {
        let state = self.state();
        InUse {
            model: state.model.clone(),
            inference_size: state.governor.as_ref().map_or(0, Governor::size),
        }
    }

    // For the planner.

    /// Uses another model from the next frame on. It fades in from the style that is `shown` now.
    pub fn adopt(
        &self,
        model: Arc<LoadedModel>,
        warm: Translator,
        shown: Option<StyleCode>,
        length: Duration,
    ) {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.model, model.clone());
        state.fade = shown.map(|shown| Fade::between_models(before, shown, length));
        state.translators.push((model, warm));
        state.tidy_up();
    }

    /// How long a frame may be worked on, if one comes in each `interval`.
    pub fn budget(&self, interval: Duration) -> Duration {
        self.state().budget(interval)
    }

    /// Takes over the governor for frames of new caps.
    pub fn begin(&self, governor: Governor) {
        let mut state = self.state();
        state.governor = Some(governor);
        state.fade = None;
        state.one_at_a_time = false;
        state.finished = None;
    }

    /// The size for the next frame.
    pub fn next_size(&self, limits: SizeLimits, governed: bool) -> u32 {
        let mut state = self.state();
        let governor = state.governor.get_or_insert_with(|| Governor::new(limits));
        governor.set_limits(limits);
        if !governed {
            governor.use_largest();
        }
        governor.size()
    }

    /// What the frame at `time` in the stream fades from.
    pub fn next_fade(&self, time: Option<Duration>) -> Option<PlannedFade> {
        let mut state = self.state();
        let fade = state.fade.as_mut()?;
        match fade.share_of_new(time) {
            Some(share) => Some((fade.before.clone(), share)),
            None => {
                state.fade = None;
                state.tidy_up();
                None
            }
        }
    }

    /// Takes the number of frames that should be translated at once; returns how many may be.
    pub fn allow_in_flight(&self, wanted: usize) -> usize {
        let mut state = self.state();
        state.most_in_flight = if state.one_at_a_time { 1 } else { wanted };
        state.most_in_flight
    }

    /// Has so many more translators of the model in use, beside the one used last, warmed up.
    ///
    /// # Errors
    /// The first that one meets; those before it are kept.
    pub fn warm_up(
        &self,
        more: usize,
        warm_up: impl Fn(&mut Translator) -> munit::Result<()>,
    ) -> munit::Result<()> {
        let model = self.model();
        let mut warm = vec![self.borrow(&model)];
        let mut done = Ok(());
        while done.is_ok() && warm.len() <= more {
            let mut translator = self.borrow(&model);
            done = warm_up(&mut translator);
            if done.is_ok() {
                warm.push(translator);
            }
        }
        for translator in warm.into_iter().rev() {
            self.give_back(&model, translator);
        }
        done
    }

    // For the workers.

    /// While this is held, frames are translated beside each other.
    pub fn together(&self) -> RwLockReadGuard<'_, ()> {
        self.room.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other frame is being translated, and keeps them waiting.
    pub fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.room.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A translator of a model, the one used last if there is one.
    pub fn borrow(&self, model: &Arc<LoadedModel>) -> Translator {
        let mut state = self.state();
        let last = state
            .translators
            .iter()
            .rposition(|(other, _)| Arc::ptr_eq(other, model));
        match last {
            Some(position) => state.translators.remove(position).1,
            None => {
                drop(state);
                model.translator()
            }
        }
    }

    /// Takes back a translator, with its working memory, if it will be of use.
    pub fn give_back(&self, model: &Arc<LoadedModel>, translator: Translator) {
        let mut state = self.state();
        let free = state.translators.iter();
        let alike = free.filter(|(other, _)| Arc::ptr_eq(other, model)).count();
        if state.shows(model) && alike < state.most_in_flight {
            state.translators.push((model.clone(), translator));
        }
    }

    /// Lets the governor see that a frame at `size` was worked on from `begin` to `end`; `interval` is
    /// the time from one frame to the next. Returns the new size when it changes.
    pub fn observe(
        &self,
        size: u32,
        [begin, end]: [Instant; 2],
        interval: Duration,
    ) -> Option<u32> {
        let mut state = self.state();
        let previous = state.finished.replace(end);
        let budget = state.budget(interval);
        let begin = match previous {
            // While the device was at the frame before, this one only waited.
            Some(previous) if !state.model.is_on_cpu() => begin.max(previous),
            _ => begin,
        };
        let governor = state.governor.as_mut()?;
        if governor.size() != size {
            // Planned before the last change.
            return None;
        }
        let chosen = governor.observe(end, end.saturating_duration_since(begin), budget)?;
        state.fade = Some(Fade::between_sizes(size));
        Some(chosen)
    }

    /// Shows the new alone from now on: there is no memory for what is left.
    pub fn end_fade(&self) {
        let mut state = self.state();
        state.fade = None;
        state.tidy_up();
    }

    /// What to do about a frame for which there was no memory with `model` at `size`, as `problem`
    /// says: let it have the memory of the others, translate smaller frames from now on, or go on on
    /// the CPU, if the device is for us to choose. To be called alone.
    pub fn way_out(
        &self,
        filter: &imp::MunitFilter,
        model: &Arc<LoadedModel>,
        size: u32,
        limits: SizeLimits,
        problem: Problem,
    ) -> Result<WayOut, Problem> {
        let state = &mut *self.state();
        state.fade = None;
        state.translators.clear();
        let governor = state.governor.get_or_insert_with(|| Governor::new(limits));
        let in_use = governor.size();
        let going_on = |how: &str| Problem {
            text: format!("{}; going on {how}", problem.text),
            ..problem.clone()
        };
        let (size, warning) = if in_use < size || !Arc::ptr_eq(&state.model, model) {
            // Another frame was first.
            (in_use, None)
        } else if state.most_in_flight > 1 && !state.one_at_a_time {
            state.one_at_a_time = true;
            (size, Some(going_on("with one frame at a time")))
        } else if governor.retreat() {
            let size = governor.size();
            (
                size,
                Some(going_on(&format!("at the inference size {size}"))),
            )
        } else if let Some(engine) = filter.engine_on_cpu(model) {
            state.model = engine.model;
            state.governor = None;
            (limits.largest, Some(going_on("on the CPU")))
        } else {
            return Err(problem);
        };
        Ok(WayOut {
            model: state.model.clone(),
            size,
            warning,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use munit::Direction;
    use munit::runtime::{DeviceChoice, Precision};

    use super::*;
    use crate::munitfilter::model_search::DEFAULT_MODEL;

    #[test]
    fn all_that_work_at_once_are_warmed_up() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("models")
            .join(DEFAULT_MODEL);
        let (direction, device) = (Direction::A2b, DeviceChoice::Cpu);
        let model = LoadedModel::load(&shipped, direction, device, Precision::Fp32)
            .unwrap_or_else(|problem| panic!("{}", problem.text));
        let course = Course::new(model);
        assert_eq!(course.allow_in_flight(3), 3);
        let warmed = std::cell::Cell::new(0);
        let count = |_: &mut Translator| {
            warmed.set(warmed.get() + 1);
            Ok(())
        };
        course.warm_up(2, count).unwrap();
        assert_eq!((warmed.get(), course.state().translators.len()), (2, 3));
        let refuse = |_: &mut Translator| Err(munit::Error::Picture(String::new()));
        assert!(course.warm_up(2, refuse).is_err());
        course.warm_up(0, refuse).unwrap();
    }
}
