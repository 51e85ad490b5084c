//! Makes what properties ask for while playing, beside the stream: loads models, reads pictures.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use gst::subclass::prelude::*;
use munit::StyleCode;
use munit::model_file::ModelMetadata;

use super::engine::Engine;
use super::imp;
use super::problem::Problem;
use super::settings::{EngineSettings, StyleSettings};
use super::style_choice::{self, StyleTarget};
use super::{CAT, StyleMode};

/// What the worker takes over before its next frame.
#[derive(Default)]
pub(super) struct Mailbox {
    /// A new model on a device and the style to start it with.
    pub engine: Option<Box<(Engine, StyleCode)>>,
    /// A style to glide to.
    pub style: Option<StyleChange>,
}

/// A wanted style that differs from the one in use.
pub(super) struct StyleChange {
    pub target: StyleTarget,
    wanted: StyleSettings,
    in_use: StyleSettings,
}

/// The settings that the worker's engine and style were made from.
#[derive(Clone, Debug)]
struct Applied {
    engine: EngineSettings,
    style: StyleSettings,
    metadata: Arc<ModelMetadata>,
}

/// Brings the worker to the wanted settings, and the settings back to what is in use if that
/// fails.
pub(super) struct Preparer {
    applied: Mutex<Applied>,
    mailbox: Mutex<Mailbox>,
}

/// The preparer's thread; it leaves when this is dropped or told to finish.
pub(super) struct PreparerThread {
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    /// For a worker that starts with these settings.
    pub fn new(engine: EngineSettings, style: StyleSettings, metadata: Arc<ModelMetadata>) -> Self {
        Self {
            applied: Mutex::new(Applied {
                engine,
                style,
                metadata,
            }),
            mailbox: Mutex::default(),
        }
    }

    fn applied(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was prepared since the last call.
    pub fn collect(&self) -> Mailbox {
        std::mem::take(&mut *self.mail())
    }

    fn mail(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread for what takes long.
    pub fn spawn(
        self: &Arc<Self>,
        element: glib::WeakRef<super::MunitFilter>,
    ) -> std::io::Result<PreparerThread> {
        let (wake, woken) = mpsc::channel();
        let preparer = self.clone();
        let thread = std::thread::Builder::new()
            .name("munit-preparer".to_owned())
            .spawn(move || preparer.run(&element, &woken))?;
        Ok(PreparerThread {
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    fn run(&self, element: &glib::WeakRef<super::MunitFilter>, woken: &Receiver<()>) {
        while woken.recv().is_ok() {
            // Changes that came together are made together.
            while woken.try_recv().is_ok() {}
            let Some(element) = element.upgrade() else {
                return;
            };
            let filter = element.imp();
            filter.catch_panic(
                || (),
                |filter| {
                    self.prepare_engine(filter);
                    self.prepare_style(filter);
                },
            );
        }
    }

    /// Makes a style change that takes no time at once, so that the next frame has it; false if
    /// the thread has to do it.
    pub fn change_style_at_once(&self, filter: &imp::MunitFilter) -> bool {
        let (engine, style) = filter.wanted();
        if style.mode == StyleMode::Example || engine != self.applied().engine {
            return false;
        }
        self.prepare_style(filter);
        true
    }

    fn prepare_engine(&self, filter: &imp::MunitFilter) {
        let (wanted, style) = filter.wanted();
        let in_use = self.applied().engine.clone();
        if wanted == in_use {
            return;
        }
        gst::info!(CAT, imp = filter, "loading {wanted:?}");
        let loaded = Engine::load(&wanted, &filter.model_folders()).and_then(|mut engine| {
            if let Some(size) = filter.frame_size() {
                engine.warm_up(size, &filter.frame_settings())?;
            }
            Ok(engine)
        });
        match loaded {
            Ok(mut engine) => {
                let (style, code) = style_for(&mut engine, style, filter);
                *self.applied() = Applied {
                    engine: wanted,
                    style,
                    metadata: engine.metadata.clone(),
                };
                let mut mail = self.mail();
                mail.style = None;
                mail.engine = Some(Box::new((engine, code)));
            }
            Err(problem) => {
                filter.restore_engine(&wanted, &in_use);
                filter.warn(&problem);
            }
        }
    }

    fn prepare_style(&self, filter: &imp::MunitFilter) {
        let (_, wanted) = filter.wanted();
        let applied = self.applied().clone();
        if wanted == applied.style {
            return;
        }
        match style_choice::resolve(&wanted, &applied.metadata, applied.engine.direction.into()) {
            Ok(target) => {
                self.applied().style = wanted.clone();
                self.mail().style = Some(StyleChange {
                    target,
                    wanted,
                    in_use: applied.style,
                });
            }
            Err(problem) => {
                filter.restore_style(&wanted, &applied.style);
                filter.warn(&problem);
            }
        }
    }

    /// The worker could not make a code of a style: the one in use stays.
    pub fn reject_style(&self, filter: &imp::MunitFilter, change: &StyleChange, problem: &Problem) {
        let mut applied = self.applied();
        if applied.style == change.wanted {
            applied.style = change.in_use.clone();
        }
        drop(applied);
        filter.restore_style(&change.wanted, &change.in_use);
        filter.warn(problem);
    }
}

/// The code of `style` for a new engine. A style of the old model need not be one of the new;
/// then the stream goes on in the new model's own style.
fn style_for(
    engine: &mut Engine,
    style: StyleSettings,
    filter: &imp::MunitFilter,
) -> (StyleSettings, StyleCode) {
    let code = style_choice::resolve(&style, &engine.metadata, engine.direction)
        .and_then(|target| engine.style_code(&target));
    match code {
        Ok(code) => (style, code),
        Err(problem) => {
            let default = StyleSettings {
                mode: StyleMode::Fixed,
                code: None,
                name: None,
                ..style.clone()
            };
            filter.restore_style(&style, &default);
            filter.warn(&problem);
            let code = style_choice::default_code(&engine.metadata, engine.direction);
            (default, code)
        }
    }
}

impl PreparerThread {
    /// Tells the thread that settings have changed.
    pub fn wake(&self) {
        if let Some(wake) = &self.wake {
            // It cannot have left: it leaves when `wake` is dropped.
            let _ = wake.send(());
        }
    }

    /// Waits until the thread has finished what it is at.
    pub fn finish(mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // Panics are caught inside, where the bus hears of them.
            let _ = thread.join();
        }
    }
}
