//! Who may use CUDA devices when: recording a graph bears nothing beside it.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Of this process.
pub(in crate::runtime) static TURNS: Turns = Turns::new();

/// Recording fails where other threads load kernels, try convolutions, or allocate meanwhile. Work
/// outside of recorded graphs therefore holds a turn together with others of its kind until the device
/// is done with it, recording holds one alone, and launching a recorded graph needs none.
///
/// A thread that holds a turn must not ask for another.
pub(in crate::runtime) struct Turns(RwLock<()>);

impl Turns {
    const fn new() -> Self {
        Self(RwLock::new(()))
    }

    /// For work outside of recorded graphs, its wait included.
    pub(in crate::runtime) fn together(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For recording.
    pub(in crate::runtime) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recording_and_other_work_exclude_each_other() {
        let turns = Turns::new();
        let first = turns.together();
        let second = turns.0.try_read().unwrap();
        assert!(turns.0.try_write().is_err());
        drop((first, second));
        let alone = turns.alone();
        assert!(turns.0.try_read().is_err() && turns.0.try_write().is_err());
        drop(alone);
        assert!(turns.0.try_read().is_ok());
    }

    #[test]
    fn a_panic_leaves_the_turns_to_others() {
        let turns = Turns::new();
        let panicked = std::thread::scope(|scope| {
            let recording = scope.spawn(|| {
                let _turn = turns.alone();
                panic!("while recording");
            });
            recording.join().is_err()
        });
        assert!(panicked);
        drop(turns.together());
        drop(turns.alone());
    }
}
