//! The GObject side of the element: properties, states, messages. The work is done elsewhere.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::VideoInfo;
use munit::StyleCode;

use super::engine::{Engine, metadata_with_own_styles};
use super::live::{Exchange, LatencyEstimator, Planner};
use super::loaded_model::LoadedModel;
use super::model_search::model_folders;
use super::pads::Stream;
use super::preparer::{Preparer, PreparerThread, make_style};
use super::problem::Problem;
use super::report::{InUse, SIZE_MESSAGE_NAME, stats_structure};
use super::settings::{EngineSettings, FrameSettings, PROPERTIES, Part, Settings, StyleSettings};
use super::stats::Statistics;
use super::style_input::StyleInput;
use super::{CAT, picture, style_actions};

/// The threads between READY→PAUSED and PAUSED→READY.
struct Threads {
    planner: JoinHandle<()>,
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
    pub(super) style_input: StyleInput,
    pub(super) statistics: Mutex<Statistics>,
    /// What translates the frames; none while stopped.
    in_use: Mutex<Option<InUse>>,
    /// The style of the last frame.
    shown_style: Mutex<Option<StyleCode>>,
    threads: Mutex<Option<Threads>>,
}

/// The pad for a second video, whose style is followed.
const STYLE_PAD: &str = "style_sink";

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MunitFilter {
    // For the planner, the workers and the preparer.

    /// What the networks and the style should be made from.
    pub(super) fn wanted(&self) -> (EngineSettings, StyleSettings) {
        let settings = lock(&self.settings);
        (settings.engine.clone(), settings.style.clone())
    }

    pub(super) fn frame_settings(&self) -> FrameSettings {
        lock(&self.settings).frame
    }

    /// The shorter side at which the network runs now; as large as can be before the first frame.
    pub(super) fn inference_size(&self) -> u32 {
        let in_use = lock(&self.in_use);
        match in_use.as_ref().map_or(0, |in_use| in_use.inference_size) {
            0 => u32::MAX,
            size => size,
        }
    }

    /// Time from one frame to the next, if it is known and constant.
    pub(super) fn frame_interval(&self) -> Option<Duration> {
        lock(&self.stream).frame_interval()
    }

    /// A model brought to the CPU, if the device was left to us and is another one.
    pub(super) fn engine_on_cpu(&self, model: &LoadedModel) -> Option<Engine> {
        let (settings, _) = self.wanted();
        if settings.device != "auto" || model.is_on_cpu() {
            return None;
        }
        let settings = EngineSettings {
            device: "cpu".to_owned(),
            model: Some(model.path.to_string_lossy().into_owned()),
            ..settings
        };
        Engine::load(&settings, &[]).ok()
    }

    /// Posts the statistics.
    pub(super) fn post_stats(&self) {
        self.post_element_message(self.stats());
    }

    /// Tells that the inference size has changed.
    pub(super) fn post_size(&self, size: u32, before: u32) {
        let structure = gst::Structure::builder(SIZE_MESSAGE_NAME)
            .field("inference-size", size)
            .field("previous", before)
            .build();
        self.post_element_message(structure);
    }

    fn post_element_message(&self, structure: gst::Structure) {
        let element = self.obj();
        let message = gst::message::Element::builder(structure).src(&*element);
        let _ = element.post_message(message.build());
    }

    /// Tells what translates the frames from now on.
    pub(super) fn set_in_use(&self, in_use: InUse) {
        *lock(&self.in_use) = Some(in_use);
    }

    /// Tells the style of the last frame.
    pub(super) fn set_shown_style(&self, style: &StyleCode) {
        *lock(&self.shown_style) = Some(style.clone());
    }

    /// The style of the last frame.
    pub(super) fn shown_style(&self) -> Option<StyleCode> {
        lock(&self.shown_style).clone()
    }

    /// The preparer, while there is a model.
    pub(super) fn preparer(&self) -> Option<Arc<Preparer>> {
        lock(&self.threads)
            .as_ref()
            .map(|threads| threads.preparer.clone())
    }

    /// The value of the property `stats`.
    pub(super) fn stats(&self) -> gst::Structure {
        let in_use = lock(&self.in_use).clone();
        let translated = self.exchange.counts().processed;
        stats_structure(&mut lock(&self.statistics), translated, in_use.as_ref())
    }

    /// What the frames are, once known.
    pub(super) fn frame_info(&self) -> Option<VideoInfo> {
        lock(&self.stream).info()
    }

    /// Whether a second video is linked, whose style can be followed.
    pub(super) fn has_style_video(&self) -> bool {
        let pad = self.obj().static_pad(STYLE_PAD);
        pad.is_some_and(|pad| pad.is_linked())
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

    /// Goes back to the engine settings in use where the wanted ones are still the rejected ones.
    pub(super) fn restore_engine(&self, rejected: &EngineSettings, in_use: &EngineSettings) {
        self.change_settings(|settings| {
            let engine = &mut settings.engine;
            restore(&mut engine.model, &rejected.model, &in_use.model);
            restore(
                &mut engine.direction,
                &rejected.direction,
                &in_use.direction,
            );
            restore(&mut engine.device, &rejected.device, &in_use.device);
            restore(
                &mut engine.precision,
                &rejected.precision,
                &in_use.precision,
            );
        });
    }

    /// Goes back to the style settings in use if `rejected` have not been replaced meanwhile.
    pub(super) fn restore_style(&self, rejected: &StyleSettings, in_use: &StyleSettings) {
        self.change_settings(|settings| restore(&mut settings.style, rejected, in_use));
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

    /// Goes on with the next style of a tour.
    pub(super) fn skip_tour(&self) {
        self.change_settings(|settings| settings.style.skipped += 1);
        if let Some(preparer) = self.preparer() {
            preparer.change_style_at_once(self);
        }
    }

    // States.

    /// Loads the model and starts the threads.
    fn start(&self) -> Result<(), Problem> {
        munit::runtime::tame_spinning();
        let (engine_settings, style_settings) = self.wanted();
        let engine = Engine::load(&engine_settings, &self.model_folders())?;
        let (metadata, problem) = metadata_with_own_styles(&engine.model);
        if let Some(problem) = problem {
            self.warn(&problem);
        }
        let style = make_style(&style_settings, &engine.model, &metadata)?;
        gst::info!(
            CAT,
            imp = self,
            "{} on {:?} in {:?}",
            engine.model.path.display(),
            engine.model.device,
            engine.model.precision
        );
        *lock(&self.stream) = Stream::default();
        *lock(&self.latency) = LatencyEstimator::default();
        *lock(&self.statistics) = Statistics::default();
        *lock(&self.shown_style) = None;
        self.style_input.set_main_ended(false);

        let element = self.obj().downgrade();
        let preparer = Arc::new(Preparer::new(
            engine_settings,
            style_settings,
            engine.model.clone(),
            metadata,
        ));
        let preparer_thread = preparer
            .spawn(element.clone())
            .map_err(|error| Problem::without_thread(&error))?;
        self.exchange.start();
        let planner = Planner::new(
            element,
            self.exchange.clone(),
            preparer.clone(),
            engine,
            style,
        );
        let planner = std::thread::Builder::new()
            .name("munit-planner".to_owned())
            .spawn(move || planner.run())
            .map_err(|error| Problem::without_thread(&error))?;
        // Properties may have changed while the model was loading.
        preparer_thread.wake();
        *lock(&self.threads) = Some(Threads {
            planner,
            preparer,
            preparer_thread,
        });
        Ok(())
    }

    /// Ends the threads and forgets the stream.
    fn stop(&self) {
        self.exchange.stop();
        self.style_input.set_main_ended(true);
        let threads = lock(&self.threads).take();
        if let Some(threads) = threads {
            threads.preparer_thread.finish();
            if threads.planner.join().is_err() {
                gst::error!(CAT, imp = self, "the planner has panicked");
            }
        }
        *lock(&self.in_use) = None;
    }
}

/// Takes `in_use` for a value that is still the rejected one.
fn restore<T: Clone + PartialEq>(value: &mut T, rejected: &T, in_use: &T) {
    if value == rejected {
        value.clone_from(in_use);
    }
}

#[glib::object_subclass]
impl ObjectSubclass for MunitFilter {
    const NAME: &'static str = "GstMunitFilter";
    type Type = super::MunitFilter;
    type ParentType = gst::Element;
    type Interfaces = (gst::Preset,);

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
            .event_full_function(|pad, parent, event| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
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
            .event_function(|_, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |filter| filter.src_event(event))
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
            style_input: StyleInput::default(),
            statistics: Mutex::default(),
            in_use: Mutex::default(),
            shown_style: Mutex::default(),
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
                if let Some(preparer) = self.preparer()
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
        match property.name() {
            "stats" => self.stats().to_value(),
            name => lock(&self.settings).get(name),
        }
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        style_actions::signals()
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

impl PresetImpl for MunitFilter {}

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
            use gst::{PadDirection, PadPresence};

            let caps = picture::template_caps();
            [
                ("sink", PadDirection::Sink, PadPresence::Always),
                ("src", PadDirection::Src, PadPresence::Always),
                (STYLE_PAD, PadDirection::Sink, PadPresence::Request),
            ]
            .into_iter()
            .filter_map(|(name, direction, presence)| {
                gst::PadTemplate::new(name, direction, presence, &caps).ok()
            })
            .collect()
        });
        &TEMPLATES
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        _name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        let element = self.obj();
        if element.static_pad(STYLE_PAD).is_some() {
            gst::warning!(CAT, imp = self, "there is only one pad {STYLE_PAD}");
            return None;
        }
        let pad = gst::Pad::builder_from_template(template)
            .name(STYLE_PAD)
            .activatemode_function(|_, parent, mode, active| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::loggable_error!(CAT, "panicked")),
                    |filter| filter.style_activate_mode(mode, active),
                )
            })
            .chain_function(|_, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |filter| filter.style_chain(buffer),
                )
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(
                    parent,
                    || false,
                    |filter| filter.style_event(pad, &event),
                )
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(
                    parent,
                    || false,
                    |filter| filter.style_query(pad, query),
                )
            })
            .build();
        // The element activates it if its state asks for that.
        element.add_pad(&pad).ok()?;
        Some(pad)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        let _ = pad.set_active(false);
        if let Err(error) = self.obj().remove_pad(pad) {
            gst::warning!(CAT, imp = self, "{error}");
        }
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
