//! Makes what properties ask for while playing, beside the stream: loads models, reads pictures.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use gst::subclass::prelude::*;
use munit::StyleCode;
use munit::model_file::ModelMetadata;

use super::engine::{Engine, metadata_with_own_styles};
use super::loaded_model::LoadedModel;
use super::problem::Problem;
use super::settings::{EngineSettings, StyleSettings};
use super::style_choice::{self, StyleSource};
use super::style_path::StylePath;
use super::{CAT, StyleMode, imp, log_libtorch_warnings, picture};

/// What the planner takes over before its next frame.
#[derive(Default)]
pub(super) struct Mailbox {
    /// A new model on a device. Its style comes with it.
    pub engine: Option<Box<Engine>>,
    /// A style to glide to.
    pub style: Option<StyleUpdate>,
}

/// The style to show from now on.
#[derive(Clone, Debug)]
pub(super) struct StyleUpdate {
    /// None follows the pad `style_sink` and keeps the style shown until its first picture.
    pub path: Option<StylePath>,
    /// The style at the other end of `style-mix`.
    pub other: StyleCode,
}

/// What the planner's engine and style were made from, and what waits for it.
struct Desk {
    engine: EngineSettings,
    style: StyleSettings,
    model: Arc<LoadedModel>,
    metadata: Arc<ModelMetadata>,
    mailbox: Mailbox,
}

/// Brings the planner to the wanted settings, and the settings back to what is in use if that
/// fails.
pub(super) struct Preparer {
    desk: Mutex<Desk>,
}

/// The preparer's thread; it leaves when this is dropped or told to finish.
pub(super) struct PreparerThread {
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    /// For a planner that starts with these settings.
    pub fn new(
        engine: EngineSettings,
        style: StyleSettings,
        model: Arc<LoadedModel>,
        metadata: Arc<ModelMetadata>,
    ) -> Self {
        Self {
            desk: Mutex::new(Desk {
                engine,
                style,
                model,
                metadata,
                mailbox: Mailbox::default(),
            }),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was prepared since the last call.
    pub fn collect(&self) -> Mailbox {
        std::mem::take(&mut self.desk().mailbox)
    }

    /// The model in use or about to be, with a person's own styles.
    pub fn model(&self) -> (Arc<LoadedModel>, Arc<ModelMetadata>) {
        let desk = self.desk();
        (desk.model.clone(), desk.metadata.clone())
    }

    /// Reads a person's own styles again.
    pub fn refresh_styles(&self, filter: &imp::MunitFilter) {
        let model = self.desk().model.clone();
        let (metadata, problem) = metadata_with_own_styles(&model);
        if let Some(problem) = problem {
            filter.warn(&problem);
        }
        let mut desk = self.desk();
        if Arc::ptr_eq(&desk.model, &model) {
            desk.metadata = metadata;
        }
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
        log_libtorch_warnings();
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
                    if let Err(error) = self.model().0.compute_hash() {
                        gst::debug!(CAT, imp = filter, "no hash of the model: {error}");
                    }
                },
            );
        }
    }

    /// Makes a style change that takes no time at once, so that the next frame has it; false if
    /// the thread has to do it.
    pub fn change_style_at_once(&self, filter: &imp::MunitFilter) -> bool {
        let (engine, style) = filter.wanted();
        if style.mode == StyleMode::Example || engine != self.desk().engine {
            return false;
        }
        self.prepare_style(filter);
        true
    }

    fn prepare_engine(&self, filter: &imp::MunitFilter) {
        let (wanted, _) = filter.wanted();
        let in_use = self.desk().engine.clone();
        if wanted == in_use {
            return;
        }
        gst::info!(CAT, imp = filter, "loading {wanted:?}");
        let loaded = Engine::load(&wanted, &filter.model_folders()).and_then(|mut engine| {
            if let Some(info) = filter.frame_info() {
                let settings = filter.frame_settings();
                let limits = engine
                    .model
                    .size_limits(picture::frame_size(&info), &settings);
                let size = filter.inference_size().min(limits.largest);
                engine.warm_up(&info, size, &settings)?;
            }
            Ok(engine)
        });
        match loaded {
            Ok(engine) => self.hand_over(filter, wanted, engine),
            Err(problem) => {
                filter.restore_engine(&wanted, &in_use);
                filter.warn(&problem);
            }
        }
    }

    /// Puts an engine and its style on the planner's desk, together.
    fn hand_over(&self, filter: &imp::MunitFilter, settings: EngineSettings, engine: Engine) {
        let (metadata, problem) = metadata_with_own_styles(&engine.model);
        if let Some(problem) = problem {
            filter.warn(&problem);
        }
        let (_, wanted) = filter.wanted();
        let (style, update) = match make_style(&wanted, &engine.model, &metadata) {
            Ok(update) => (wanted, update),
            // A style of the old model need not be one of the new; then the stream goes on in the
            // new model's own.
            Err(problem) => {
                let default = StyleSettings {
                    mode: StyleMode::Fixed,
                    code: None,
                    name: None,
                    mix_with: None,
                    ..wanted.clone()
                };
                filter.restore_style(&wanted, &default);
                filter.warn(&problem);
                let update = make_style(&default, &engine.model, &metadata);
                let Ok(update) = update else {
                    return;
                };
                (default, update)
            }
        };
        let mut desk = self.desk();
        desk.engine = settings;
        desk.style = style;
        desk.model = engine.model.clone();
        desk.metadata = metadata;
        desk.mailbox = Mailbox {
            engine: Some(Box::new(engine)),
            style: Some(update),
        };
    }

    /// Makes the wanted style; again if another one was wanted or another model came meanwhile.
    fn prepare_style(&self, filter: &imp::MunitFilter) {
        loop {
            let (_, wanted) = filter.wanted();
            let (in_use, model, metadata) = {
                let desk = self.desk();
                (
                    desk.style.clone(),
                    desk.model.clone(),
                    desk.metadata.clone(),
                )
            };
            if wanted == in_use {
                return;
            }
            let made = make_style(&wanted, &model, &metadata);
            let mut desk = self.desk();
            if filter.wanted().1 != wanted || !Arc::ptr_eq(&desk.model, &model) {
                continue;
            }
            match made {
                Ok(update) => {
                    desk.style = wanted;
                    desk.mailbox.style = Some(update);
                }
                Err(problem) => {
                    drop(desk);
                    filter.restore_style(&wanted, &in_use);
                    filter.warn(&problem);
                }
            }
            return;
        }
    }
}

/// The style that `settings` mean for a model; reads and encodes the example picture, if any.
pub(super) fn make_style(
    settings: &StyleSettings,
    model: &LoadedModel,
    metadata: &ModelMetadata,
) -> Result<StyleUpdate, Problem> {
    let choice = style_choice::resolve(settings, metadata, model.direction)?;
    let path = match choice.source {
        StyleSource::Path(path) => Some(path),
        StyleSource::Example(path) => {
            let code = style_choice::encode_example(&path, &mut model.translator())?;
            Some(StylePath::Still(code))
        }
        StyleSource::Follow => None,
    };
    Ok(StyleUpdate {
        path,
        other: choice.other,
    })
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
