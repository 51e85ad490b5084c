//! The GObject side of the element: properties, states, messages. The work is done elsewhere.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::CAT;
use super::engine::Engine;
use super::live::{Exchange, LatencyEstimator, Worker};
use super::model_search::model_folders;
use super::pads::Stream;
use super::picture;
use super::preparer::{Preparer, PreparerThread};
use super::problem::Problem;
use super::settings::{EngineSettings, FrameSettings, PROPERTIES, Part, Settings, StyleSettings};
use super::style_choice;

/// The threads between READY→PAUSED and PAUSED→READY.
struct Threads {
    worker: JoinHandle<()>,
    preparer: Arc<Preparer>,
    preparer_thread: PreparerThread,
}

pub struct MunitFilter {
    pub(super) sink_pad: gst::Pad,
    pub(super) src_pad: gst::Pad,
    settings: Mutex<Settings>,
    pub(super) stream: Mutex<Stream>,
    latency: Mutex<LatencyEstimator>,
    pub(super) exchange: Arc<Exchange>,
    threads: Mutex<Option<Threads>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MunitFilter {
    // For the worker and the preparer.

    /// What the networks and the style should be made from.
    pub(super) fn wanted(&self) -> (EngineSettings, StyleSettings) {
        let settings = lock(&self.settings);
        (settings.engine.clone(), settings.style.clone())
    }

    pub(super) fn frame_settings(&self) -> FrameSettings {
        lock(&self.settings).frame
    }

    /// Width and height of the frames, once known.
    pub(super) fn frame_size(&self) -> Option<(usize, usize)> {
        lock(&self.stream).frame_size()
    }

    pub(super) fn model_folders(&self) -> Vec<PathBuf> {
        let plugin_file = self
            .obj()
            .factory()
            .and_then(|factory| factory.plugin())
            .and_then(|plugin| plugin.filename());
        model_folders(plugin_file.as_deref())
    }

    /// Tells the person that a value cannot be used and the old one stays.
    pub(super) fn warn(&self, problem: &Problem) {
        gst::element_imp_warning!(self, problem.code, ("{}", problem.text));
    }

    /// Tells the person that one frame was left out.
    pub(super) fn warn_of_frame(&self, text: &str) {
        gst::element_imp_warning!(
            self,
            gst::StreamError::Decode,
            ("A frame was left out: {text}")
        );
    }

    /// Goes back to the engine settings in use if `rejected` have not been replaced meanwhile.
    pub(super) fn restore_engine(&self, rejected: &EngineSettings, in_use: &EngineSettings) {
        self.change_settings(|settings| {
            if settings.engine == *rejected {
                settings.engine = in_use.clone();
            }
        });
    }

    /// As [`Self::restore_engine`], for the style.
    pub(super) fn restore_style(&self, rejected: &StyleSettings, in_use: &StyleSettings) {
        self.change_settings(|settings| {
            if settings.style == *rejected {
                settings.style = in_use.clone();
            }
        });
    }

    /// Changes settings and notifies of the properties that this has changed.
    fn change_settings(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = lock(&self.settings);
        let before = settings.clone();
        change(&mut settings);
        let changed = settings.differences(&before);
        drop(settings);
        for name in changed {
            self.obj().notify(name);
        }
    }

    /// Takes the measured time of one frame's work, before the first frame.
    pub(super) fn start_latency(&self, work: Duration) {
        let interval = lock(&self.stream).frame_interval();
        lock(&self.latency).start(work, interval);
        gst::info!(CAT, imp = self, "a frame takes {work:?}");
        self.post_latency();
    }

    /// Takes the time that a frame has spent in the element.
    pub(super) fn observe_delay(&self, delay: Duration) {
        let changed = lock(&self.latency).observe(Instant::now(), delay);
        if let Some(latency) = changed {
            gst::info!(
                CAT,
                imp = self,
                "latency is now {latency:?}, after a delay of {delay:?}"
            );
            self.post_latency();
        }
    }

    /// Asks the pipeline to set its latency anew.
    fn post_latency(&self) {
        let element = self.obj();
        let _ = element.post_message(gst::message::Latency::builder().src(&*element).build());
    }

    /// The latency to report: the one set, else the one measured.
    pub(super) fn reported_latency(&self) -> Duration {
        match u64::try_from(lock(&self.settings).latency) {
            Ok(milliseconds) => Duration::from_millis(milliseconds),
            Err(_) => lock(&self.latency).reported(),
        }
    }

    // States.

    /// Loads the model and starts the threads.
    fn start(&self) -> Result<(), Problem> {
        let (engine_settings, style_settings) = self.wanted();
        let mut engine = Engine::load(&engine_settings, &self.model_folders())?;
        let style = style_choice::resolve(&style_settings, &engine.metadata, engine.direction)
            .and_then(|target| engine.style_code(&target))?;
        gst::info!(
            CAT,
            imp = self,
            "{} on {:?} in {:?}",
            engine.path.display(),
            engine.translator.device(),
            engine.translator.precision()
        );
        *lock(&self.stream) = Stream::default();
        *lock(&self.latency) = LatencyEstimator::default();

        let no_thread = |error: std::io::Error| Problem {
            code: gst::ResourceError::Failed,
            text: format!("cannot start a thread: {error}"),
        };
        let element = self.obj().downgrade();
        let metadata = engine.metadata.clone();
        let preparer = Arc::new(Preparer::new(engine_settings, style_settings, metadata));
        let preparer_thread = preparer.spawn(element.clone()).map_err(no_thread)?;
        self.exchange.start();
        let worker = Worker::new(
            element,
            self.exchange.clone(),
            preparer.clone(),
            engine,
            style,
        );
        let worker = std::thread::Builder::new()
            .name("munitfilter".to_owned())
            .spawn(move || worker.run())
            .map_err(no_thread)?;
        // Properties may have changed while the model was loading.
        preparer_thread.wake();
        *lock(&self.threads) = Some(Threads {
            worker,
            preparer,
            preparer_thread,
        });
        Ok(())
    }

    /// Ends the threads and forgets the stream.
    fn stop(&self) {
        self.exchange.stop();
        let threads = lock(&self.threads).take();
        if let Some(threads) = threads {
            threads.preparer_thread.finish();
            if threads.worker.join().is_err() {
                gst::error!(CAT, imp = self, "the worker has panicked");
            }
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for MunitFilter {
    const NAME: &'static str = "GstMunitFilter";
    type Type = super::MunitFilter;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let template = |name| {
            class
                .pad_template(name)
                .unwrap_or_else(|| unreachable!("the class has a template for its pad {name}"))
        };
        let sink_pad = gst::Pad::builder_from_template(&template("sink"))
            .chain_function(|_, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |filter| filter.sink_chain(buffer),
                )
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(
                    parent,
                    || false,
                    |filter| filter.sink_event(pad, event),
                )
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(
                    parent,
                    || false,
                    |filter| filter.sink_query(pad, query),
                )
            })
            .flags(gst::PadFlags::PROXY_CAPS)
            .build();
        let src_pad = gst::Pad::builder_from_template(&template("src"))
            .activatemode_function(|pad, parent, mode, active| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::loggable_error!(CAT, "panicked")),
                    |filter| filter.src_activate_mode(pad, mode, active),
                )
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(
                    parent,
                    || false,
                    |filter| filter.src_event(pad, event),
                )
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(
                    parent,
                    || false,
                    |filter| filter.src_query(pad, query),
                )
            })
            .flags(gst::PadFlags::PROXY_CAPS)
            .build();
        Self {
            sink_pad,
            src_pad,
            settings: Mutex::default(),
            stream: Mutex::default(),
            latency: Mutex::default(),
            exchange: Arc::default(),
            threads: Mutex::default(),
        }
    }
}

impl ObjectImpl for MunitFilter {
    fn properties() -> &'static [glib::ParamSpec] {
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, property: &glib::ParamSpec) {
        gst::info!(CAT, imp = self, "{} = {value:?}", property.name());
        let mut part = None;
        self.change_settings(|settings| part = Some(settings.set(property.name(), value)));
        match part {
            Some(Part::Engine) => {
                if let Some(threads) = &*lock(&self.threads) {
                    threads.preparer_thread.wake();
                }
            }
            Some(Part::Style) => {
                let preparer = lock(&self.threads)
                    .as_ref()
                    .map(|threads| threads.preparer.clone());
                if let Some(preparer) = preparer
                    && !preparer.change_style_at_once(self)
                    && let Some(threads) = &*lock(&self.threads)
                {
                    threads.preparer_thread.wake();
                }
            }
            Some(Part::Latency) => self.post_latency(),
            Some(Part::Frame) | None => {}
        }
    }

    fn property(&self, _id: usize, property: &glib::ParamSpec) -> glib::Value {
        lock(&self.settings).get(property.name())
    }

    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        for pad in [&self.sink_pad, &self.src_pad] {
            if let Err(error) = element.add_pad(pad) {
                gst::error!(CAT, imp = self, "{error}");
            }
        }
    }
}

impl GstObjectImpl for MunitFilter {}

impl ElementImpl for MunitFilter {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "MUNIT video translator",
                "Filter/Effect/Video",
                "Translates video into another visual domain with a MUNIT generator, in a style \
                 that can be fixed, drawn, taken from a picture and changed while playing",
                "munitfilter contributors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = picture::template_caps();
            [
                ("sink", gst::PadDirection::Sink),
                ("src", gst::PadDirection::Src),
            ]
            .into_iter()
            .filter_map(|(name, direction)| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
            })
            .collect()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::ReadyToPaused
            && let Err(problem) = self.start()
        {
            self.post_error_message(problem.to_error_message());
            self.stop();
            return Err(gst::StateChangeError);
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::PausedToReady => self.stop(),
            gst::StateChange::ReadyToPaused if result.is_err() => self.stop(),
            _ => {}
        }
        result
    }
}
