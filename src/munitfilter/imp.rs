//! The GObject side of the element: pads, properties, states. The work is done elsewhere.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::VideoInfo;

use super::CAT;
use super::engine::Engine;
use super::live::{self, Exchange, Frame, LARGEST_BACKLOG, LatencyEstimator, Worker};
use super::model_search::model_folders;
use super::picture;
use super::preparer::{Preparer, PreparerThread};
use super::problem::Problem;
use super::settings::{EngineSettings, FrameSettings, PROPERTIES, Part, Settings, StyleSettings};
use super::style_choice;

/// What upstream and downstream have said about the stream.
#[derive(Default)]
struct Stream {
    segment: gst::FormattedSegment<gst::ClockTime>,
    info: Option<VideoInfo>,
    /// How old live frames are at least when they come.
    upstream_latency: Duration,
}

impl Stream {
    fn frame_interval(&self) -> Option<Duration> {
        let fps = self.info.as_ref()?.fps();
        let (frames, seconds) = (
            u32::try_from(fps.numer()).ok()?,
            u32::try_from(fps.denom()).ok()?,
        );
        (frames > 0).then(|| Duration::from_secs(seconds.into()) / frames)
    }
}

/// The threads between READY→PAUSED and PAUSED→READY.
struct Threads {
    worker: JoinHandle<()>,
    preparer: Arc<Preparer>,
    preparer_thread: PreparerThread,
}

pub struct MunitFilter {
    sink_pad: gst::Pad,
    src_pad: gst::Pad,
    settings: Mutex<Settings>,
    stream: Mutex<Stream>,
    latency: Mutex<LatencyEstimator>,
    exchange: Arc<Exchange>,
    threads: Mutex<Option<Threads>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MunitFilter {
    // For the worker and the preparer.

    /// The settings as they are now, part by part.
    pub(super) fn wanted(&self) -> (EngineSettings, StyleSettings, FrameSettings) {
        let settings = lock(&self.settings);
        (
            settings.engine.clone(),
            settings.style.clone(),
            settings.frame,
        )
    }

    pub(super) fn frame_settings(&self) -> FrameSettings {
        lock(&self.settings).frame
    }

    /// Width and height of the frames, once known.
    pub(super) fn frame_size(&self) -> Option<(usize, usize)> {
        let stream = lock(&self.stream);
        let info = stream.info.as_ref()?;
        Some((info.width() as usize, info.height() as usize))
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
    fn reported_latency(&self) -> Duration {
        match u64::try_from(lock(&self.settings).latency) {
            Ok(milliseconds) => Duration::from_millis(milliseconds),
            Err(_) => lock(&self.latency).reported(),
        }
    }

    // States.

    /// Loads the model and starts the threads.
    fn start(&self) -> Result<(), Problem> {
        let (engine_settings, style_settings, _) = self.wanted();
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

    // The sink pad.

    fn sink_chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let segment = {
            let stream = lock(&self.stream);
            if stream.info.is_none() {
                return Err(gst::FlowError::NotNegotiated);
            }
            stream.segment.clone()
        };
        let replaced = self.exchange.offer_frame(Frame {
            buffer,
            segment,
            arrived: Instant::now(),
            after_drop: false,
        })?;
        if let Some(frame) = replaced {
            self.report_drop(&frame);
        }
        Ok(gst::FlowSuccess::Ok)
    }

    fn report_drop(&self, frame: &Frame) {
        let element = self.obj();
        let counts = self.exchange.counts();
        let pts = frame.buffer.pts();
        let waited = i64::try_from(frame.arrived.elapsed().as_nanos()).unwrap_or(i64::MAX);
        // How many frames come for each one that the network manages.
        let proportion =
            (counts.processed + counts.dropped) as f64 / counts.processed.max(1) as f64;
        gst::debug!(CAT, imp = self, "{pts:?} gives way to a newer frame");
        let message = gst::message::Qos::builder(true)
            .src(&*element)
            .running_time(pts.and_then(|time| frame.segment.to_running_time(time)))
            .stream_time(pts.and_then(|time| frame.segment.to_stream_time(time)))
            .timestamp(pts)
            .duration(frame.buffer.duration())
            .values(waited, proportion, FULL_QUALITY)
            .stats(
                gst::format::Buffers::from_u64(counts.processed),
                gst::format::Buffers::from_u64(counts.dropped),
            )
            .build();
        let _ = element.post_message(message);
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        gst::log!(CAT, obj = pad, "{event:?}");
        match event.view() {
            gst::EventView::FlushStart(_) => {
                let pushed = self.src_pad.push_event(event);
                self.exchange.start_flush();
                self.pause_output();
                return pushed;
            }
            gst::EventView::FlushStop(_) => {
                let pushed = self.src_pad.push_event(event);
                lock(&self.stream).segment = gst::FormattedSegment::new();
                self.exchange.stop_flush();
                return self.start_output() && pushed;
            }
            gst::EventView::Caps(caps) if !self.set_caps(caps.caps()) => return false,
            gst::EventView::Segment(segment) => {
                let segment = segment.segment().downcast_ref::<gst::ClockTime>();
                lock(&self.stream).segment = segment.cloned().unwrap_or_default();
            }
            _ => {}
        }
        if !event.is_serialized() {
            return gst::Pad::event_default(pad, Some(&*self.obj()), event);
        }
        let is_eos = event.type_() == gst::EventType::Eos;
        match self.exchange.offer_event(event) {
            Ok(()) => true,
            Err(error) => {
                gst::debug!(CAT, obj = pad, "event refused: {error}");
                if is_eos {
                    self.post_flow_error(error);
                }
                false
            }
        }
    }

    fn set_caps(&self, caps: &gst::CapsRef) -> bool {
        let Ok(info) = VideoInfo::from_caps(caps) else {
            gst::error!(CAT, imp = self, "{caps} are not complete video caps");
            return false;
        };
        if info.is_interlaced() {
            gst::element_imp_error!(
                self,
                gst::StreamError::Format,
                ("munitfilter translates progressive video only; put deinterlace before it")
            );
            return false;
        }
        lock(&self.stream).info = Some(info);
        let mut query = gst::query::Latency::new();
        if self.sink_pad.peer_query(&mut query) {
            self.exchange.set_live(query.result().0);
        }
        true
    }

    fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Allocation(allocation) = query.view_mut() {
            return live::propose_allocation(allocation);
        }
        if query.is_serialized() {
            // Its place in line is after everything that came before it; once that has left,
            // this thread can ask downstream by itself.
            return self.exchange.drain() && self.src_pad.peer_query(query);
        }
        gst::Pad::query_default(pad, Some(&*self.obj()), query)
    }

    // The source pad.

    fn src_activate_mode(
        &self,
        pad: &gst::Pad,
        mode: gst::PadMode,
        active: bool,
    ) -> Result<(), gst::LoggableError> {
        if mode != gst::PadMode::Push {
            return Err(gst::loggable_error!(CAT, "only push mode is supported"));
        }
        if active {
            self.exchange.stop_flush();
            if !self.start_output() {
                return Err(gst::loggable_error!(CAT, "cannot start the output task"));
            }
        } else {
            self.exchange.start_flush();
            pad.stop_task()
                .map_err(|_| gst::loggable_error!(CAT, "cannot stop the output task"))?;
        }
        Ok(())
    }

    fn start_output(&self) -> bool {
        let element = self.obj().downgrade();
        let started = self.src_pad.start_task(move || {
            if let Some(element) = element.upgrade() {
                element.imp().push_output();
            }
        });
        if let Err(error) = &started {
            gst::error!(CAT, imp = self, "{error}");
        }
        started.is_ok()
    }

    fn pause_output(&self) {
        if let Err(error) = self.src_pad.pause_task() {
            gst::error!(CAT, imp = self, "{error}");
        }
    }

    /// One round of the output task.
    fn push_output(&self) {
        let Some(output) = self.exchange.next_output() else {
            self.pause_output();
            return;
        };
        if let Err(error) = live::push(&self.exchange, &self.src_pad, output) {
            gst::debug!(CAT, imp = self, "downstream: {error}");
            // Upstream hears of it with its next frame, if one is to come.
            let eos_was_received = self.exchange.stop_flow(error);
            if eos_was_received && self.post_flow_error(error) {
                self.src_pad.push_event(gst::event::Eos::new());
            }
        }
    }

    /// Posts an error for a flow that ends for a bad reason; whether it was one.
    fn post_flow_error(&self, error: gst::FlowError) -> bool {
        let is_bad = !matches!(error, gst::FlowError::Flushing | gst::FlowError::Eos);
        if is_bad {
            gst::element_imp_error!(
                self,
                gst::StreamError::Failed,
                ("Internal data stream error."),
                ["streaming stopped, reason {error}"]
            );
        }
        is_bad
    }

    fn src_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Latency(latency) => {
                let stream = lock(&self.stream);
                let stay =
                    Duration::from(latency.latency()).saturating_sub(stream.upstream_latency);
                let interval = stream.frame_interval();
                drop(stream);
                self.exchange.set_stay(stay, interval);
            }
            gst::EventView::Reconfigure(_) => {
                self.exchange.restart_flow(gst::FlowError::NotLinked);
            }
            _ => {}
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }

    fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Latency(query) = query.view_mut() {
            return self.answer_latency(query);
        }
        gst::Pad::query_default(pad, Some(&*self.obj()), query)
    }

    fn answer_latency(&self, query: &mut gst::query::Latency) -> bool {
        let mut upstream = gst::query::Latency::new();
        if !self.sink_pad.peer_query(&mut upstream) {
            return false;
        }
        let (live, mut least, mut most) = upstream.result();
        self.exchange.set_live(live);
        if live {
            let own =
                gst::ClockTime::try_from(self.reported_latency()).unwrap_or(gst::ClockTime::ZERO);
            let mut stream = lock(&self.stream);
            // What can wait between the worker and the output task.
            let backlog = stream.frame_interval().and_then(|interval| {
                gst::ClockTime::try_from(interval * LARGEST_BACKLOG as u32).ok()
            });
            stream.upstream_latency = least.into();
            least = least.saturating_add(own);
            most = most
                .zip(backlog)
                .map(|(most, backlog)| most.saturating_add(own).saturating_add(backlog));
        }
        gst::debug!(
            CAT,
            imp = self,
            "latency: live {live}, least {least}, most {most:?}"
        );
        query.set(live, least, most);
        true
    }
}

/// QOS messages give the quality in parts of this; every translated frame has all of it.
const FULL_QUALITY: i32 = 1_000_000;

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
