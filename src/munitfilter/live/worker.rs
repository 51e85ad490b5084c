//! The worker: the thread that owns the networks and translates frame after frame.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFrameRef, VideoInfo};
use munit::StyleCode;
use munit::runtime::DeviceChoice;

use super::exchange::{Exchange, Frame, Job, Work};
use crate::munitfilter::engine::Engine;
use crate::munitfilter::fade::{self, Before, Fade};
use crate::munitfilter::governor::Governor;
use crate::munitfilter::imp::lock;
use crate::munitfilter::preparer::{Mailbox, Preparer, StyleUpdate};
use crate::munitfilter::problem::Problem;
use crate::munitfilter::report::{self, InUse};
use crate::munitfilter::settings::FrameSettings;
use crate::munitfilter::static_input::StaticInput;
use crate::munitfilter::stats::{Drop, Stage};
use crate::munitfilter::style_director::StyleDirector;
use crate::munitfilter::style_input::StylePicture;
use crate::munitfilter::style_path::StylePath;
use crate::munitfilter::{CAT, Quality, imp, log_libtorch_warnings, picture};

/// Owns the networks; lives from READY→PAUSED to PAUSED→READY.
pub(crate) struct Worker {
    element: glib::WeakRef<crate::munitfilter::MunitFilter>,
    exchange: Arc<Exchange>,
    preparer: Arc<Preparer>,
    engine: Engine,
    director: StyleDirector,
    /// The style at the other end of `style-mix`.
    other_style: StyleDirector,
    /// The style comes from the pad `style_sink`.
    follows: bool,
    /// The size at which the network runs; none before the first caps.
    governor: Option<Governor>,
    fade: Option<Fade>,
    /// The frame shown last, to be shown again, and what it was made with.
    last: Option<LastFrame>,
    static_input: StaticInput,
    info: Option<VideoInfo>,
    /// Threads that libtorch was told to use on this thread.
    threads: Option<u32>,
    /// Frames that came before this waited for something that does not come again.
    stalled_until: Option<Instant>,
    stats_posted: Instant,
    /// Upstream's tags of the stream.
    tags: Option<gst::TagList>,
    /// The tags that were pushed speak of another model.
    tags_are_old: bool,
    /// The size that was told last; see [`Self::tell_in_use`].
    told_size: u32,
}

/// A translated frame, and what else decides how it looks.
struct LastFrame {
    buffer: gst::Buffer,
    style: StyleCode,
    settings: FrameSettings,
    size: u32,
}

/// Getting an output frame takes longer than this only if none is free.
const POOL_IS_DRY: Duration = Duration::from_millis(1);

fn frame_size(info: &VideoInfo) -> (usize, usize) {
    (info.width() as usize, info.height() as usize)
}

/// Why a frame was not translated.
enum Failure {
    /// The stream is flushing, stopping or refused; it knows already.
    Flow(gst::FlowError),
    /// This one frame cannot be read or written.
    Frame(String),
    /// Nothing will work any more.
    Fatal(Problem),
}

impl From<gst::FlowError> for Failure {
    fn from(error: gst::FlowError) -> Self {
        match error {
            gst::FlowError::Error => Self::Fatal(Problem {
                code: gst::ResourceError::NoSpaceLeft,
                text: "no memory for an output frame".to_owned(),
            }),
            other => Self::Flow(other),
        }
    }
}

fn of_frame(error: munit::Error) -> Failure {
    Failure::Frame(error.to_string())
}

impl Worker {
    pub fn new(
        element: glib::WeakRef<crate::munitfilter::MunitFilter>,
        exchange: Arc<Exchange>,
        preparer: Arc<Preparer>,
        engine: Engine,
        style: StyleUpdate,
    ) -> Self {
        let start =
            || StylePath::Still(engine.model.metadata.default_style(engine.model.direction));
        Self {
            element,
            exchange,
            preparer,
            follows: style.path.is_none(),
            director: StyleDirector::new(style.path.unwrap_or_else(start)),
            other_style: StyleDirector::new(StylePath::Still(style.other)),
            engine,
            governor: None,
            fade: None,
            last: None,
            static_input: StaticInput::default(),
            info: None,
            threads: None,
            stalled_until: None,
            stats_posted: Instant::now(),
            tags: None,
            tags_are_old: false,
            told_size: 0,
        }
    }

    /// Works until the exchange sends it away, or until something panics.
    pub fn run(mut self) {
        log_libtorch_warnings();
        let exchange = self.exchange.clone();
        while let Some(job) = exchange.take() {
            let Some(element) = self.element.upgrade() else {
                return;
            };
            let filter = element.imp();
            let unharmed = filter.catch_panic(
                || false,
                |filter| {
                    self.process(filter, job);
                    true
                },
            );
            if !unharmed {
                exchange.stop_flow(gst::FlowError::Error);
                return;
            }
        }
    }

    fn process(&mut self, filter: &imp::MunitFilter, job: Job) {
        let Job { work, epoch } = job;
        match work {
            Work::Event(event) => self.pass_event(filter, event, epoch),
            Work::Frame { frame, since } => {
                self.take_mail(filter);
                match self.translate(filter, &frame, epoch) {
                    Ok(buffer) => {
                        let since = self.stalled_until.map_or(since, |until| since.max(until));
                        if self.exchange.is_live() {
                            filter.observe_delay(since.elapsed());
                        }
                        if std::mem::take(&mut self.tags_are_old) {
                            self.exchange.forward_event(self.tag_event(), epoch);
                        }
                        self.exchange.deliver(buffer, epoch);
                    }
                    Err(Failure::Flow(error)) => {
                        gst::debug!(CAT, imp = filter, "frame given up: {error}");
                    }
                    Err(Failure::Frame(text)) => {
                        lock(&filter.statistics).count_drop(Drop::Failed);
                        filter.warn_of_frame(&text);
                    }
                    Err(Failure::Fatal(problem)) => {
                        filter.post_error_message(problem.to_error_message());
                        self.exchange.stop_flow(gst::FlowError::Error);
                    }
                }
                self.post_stats(filter);
            }
        }
    }

    fn pass_event(&mut self, filter: &imp::MunitFilter, event: gst::Event, epoch: u64) {
        let event = match event.view() {
            gst::EventView::Caps(caps) => {
                // Already checked when the event came.
                self.info = VideoInfo::from_caps(caps.caps()).ok();
                self.governor = None;
                self.fade = None;
                self.last = None;
                self.static_input.forget();
                self.start_size(filter);
                event
            }
            gst::EventView::StreamStart(_) => {
                self.tags = None;
                event
            }
            gst::EventView::Tag(tags) if tags.tag().scope() == gst::TagScope::Stream => {
                self.tags = Some(tags.tag_owned());
                self.tag_event()
            }
            _ => event,
        };
        let begins = event.type_() == gst::EventType::Segment;
        self.exchange.forward_event(event, epoch);
        if begins {
            self.exchange.forward_event(self.tag_event(), epoch);
        }
    }

    /// Upstream's tags, and what is done to the stream here.
    fn tag_event(&self) -> gst::Event {
        let comment = report::comment(&self.engine.model);
        gst::event::Tag::new(report::tags_with_comment(self.tags.as_deref(), &comment))
    }

    // The size at which the network runs.

    /// Whether the size follows the load.
    fn is_governed(&self, settings: &FrameSettings) -> bool {
        settings.quality == Quality::Auto && self.exchange.is_live()
    }

    /// Chooses the size for frames of the caps in use; in a live stream by a measurement, before
    /// the first frame comes.
    fn start_size(&mut self, filter: &imp::MunitFilter) {
        self.take_mail(filter);
        let Some(frame) = self.info.as_ref().map(frame_size) else {
            return;
        };
        let settings = filter.frame_settings();
        self.use_threads(settings.threads);
        let mut governor = Governor::new(self.engine.size_limits(frame, &settings));
        if self.exchange.is_live() {
            if self.is_governed(&settings)
                && let Some(budget) = filter.frame_interval()
            {
                // Small sizes tell the cost of a large one without its wait.
                let measured = governor
                    .probe_sizes()
                    .map(|size| self.measure(filter, frame, size, &settings));
                if let [Some(small), Some(medium)] = measured {
                    let work = [small, medium].map(|work| work + settings.debug_work());
                    governor.start_with(work, budget);
                }
            }
            if let Some(work) = self.measure(filter, frame, governor.size(), &settings) {
                filter.start_latency(work + settings.debug_work());
            }
            self.stalled_until = Some(Instant::now());
        }
        self.governor = Some(governor);
        self.tell_in_use(filter);
    }

    /// How long a frame takes at a size, without the first time, which is always slow.
    fn measure(
        &mut self,
        filter: &imp::MunitFilter,
        frame: (usize, usize),
        size: u32,
        settings: &FrameSettings,
    ) -> Option<Duration> {
        let work = self.engine.warm_up(frame, size, settings).and_then(|()| {
            let begin = Instant::now();
            self.engine.warm_up(frame, size, settings)?;
            Ok(begin.elapsed())
        });
        // The first frame will meet the same, and say so on the bus.
        work.inspect_err(|problem| gst::warning!(CAT, imp = filter, "warm-up: {}", problem.text))
            .ok()
    }

    /// The size for the next frame.
    fn size(&mut self, frame: (usize, usize), settings: &FrameSettings) -> u32 {
        let limits = self.engine.size_limits(frame, settings);
        let governed = self.is_governed(settings);
        let governor = self.governor.get_or_insert_with(|| Governor::new(limits));
        governor.set_limits(limits);
        if !governed {
            governor.use_largest();
        }
        governor.size()
    }

    /// Lets the governor see what a frame took, and tells when it changes the size.
    fn govern(&mut self, filter: &imp::MunitFilter, work: Duration, settings: &FrameSettings) {
        // A frame of a fade is made twice and says nothing.
        if !self.is_governed(settings) || self.fade.is_some() {
            return;
        }
        let Some(governor) = &mut self.governor else {
            return;
        };
        let before = governor.size();
        if let Some(budget) = filter.frame_interval()
            && let Some(size) = governor.observe(Instant::now(), work, budget)
        {
            gst::info!(
                CAT,
                imp = filter,
                "inference size {before} → {size}: a frame took {work:?}"
            );
            self.fade = Some(Fade::between_sizes(before));
            filter.post_size(size, before);
            self.tell_in_use(filter);
        }
    }

    fn tell_in_use(&mut self, filter: &imp::MunitFilter) {
        self.told_size = self.governor.as_ref().map_or(0, Governor::size);
        filter.set_in_use(InUse {
            model: self.engine.model.clone(),
            device: match self.engine.translator.device() {
                tch::Device::Cuda(number) => DeviceChoice::Cuda(number).to_string(),
                _ => DeviceChoice::Cpu.to_string(),
            },
            precision: self.engine.translator.precision(),
            inference_size: self.told_size,
        });
    }

    fn use_threads(&mut self, wanted: u32) {
        if self.threads == Some(wanted) {
            return;
        }
        self.threads = Some(wanted);
        munit::runtime::use_threads(wanted as usize);
    }

    // Between two frames.

    /// Takes over a new model or style.
    fn take_mail(&mut self, filter: &imp::MunitFilter) {
        let Mailbox { engine, style } = self.preparer.collect();
        if let Some(engine) = engine {
            gst::info!(
                CAT,
                imp = filter,
                "now using {}",
                engine.model.path.display()
            );
            let length = filter.frame_settings().style_time_constant();
            let shown = filter.shown_style();
            let before = std::mem::replace(&mut self.engine, *engine);
            self.fade = shown.map(|shown| Fade::between_models(before, shown, length));
            let model = &self.engine.model;
            let code = model.metadata.default_style(model.direction);
            self.director = StyleDirector::new(StylePath::Still(code));
            self.static_input.forget();
            self.tags_are_old = true;
            self.tell_in_use(filter);
        }
        if let Some(update) = style {
            self.follows = update.path.is_none();
            if let Some(path) = update.path {
                self.director.glide_to(path);
            }
            self.other_style.glide_to(StylePath::Still(update.other));
        }
    }

    /// Heads for the style of the newest picture on the pad `style_sink`.
    fn follow(&mut self, filter: &imp::MunitFilter, stream_time: Option<Duration>) {
        let Some(StylePicture { buffer, info }) = filter.style_input.take(stream_time) else {
            return;
        };
        let encoded = VideoFrameRef::from_buffer_ref_readable(&buffer, &info)
            .map_err(|_| "a buffer does not hold a frame of its caps".to_owned())
            .and_then(|frame| {
                picture::view(&frame)
                    .and_then(|view| self.engine.translator.encode_style(&view))
                    .map_err(|error| error.to_string())
            });
        match encoded {
            Ok(code) => self.director.glide_to(StylePath::Still(code)),
            Err(text) => filter.warn_of_frame(&format!("style_sink: {text}")),
        }
    }

    fn post_stats(&mut self, filter: &imp::MunitFilter) {
        if let Some(interval) = filter.frame_settings().stats_interval()
            && self.stats_posted.elapsed() >= interval
        {
            self.stats_posted = Instant::now();
            filter.post_stats();
        }
    }

    // A frame.

    fn translate(
        &mut self,
        filter: &imp::MunitFilter,
        frame: &Frame,
        epoch: u64,
    ) -> Result<gst::Buffer, Failure> {
        let info = self.info.clone().ok_or(gst::FlowError::NotNegotiated)?;
        let asked = Instant::now();
        let mut output = self.exchange.acquire(epoch)?;
        let begin = Instant::now();
        if begin.duration_since(asked) > POOL_IS_DRY {
            // As long as the sink holds its frames; see `Exchange::take`.
            self.stalled_until = Some(begin);
        }

        let stream_time = frame
            .buffer
            .pts()
            .and_then(|time| frame.segment.to_stream_time(time));
        if let Some(stream_time) = stream_time
            && let Err(error) = filter.obj().sync_values(stream_time)
        {
            gst::debug!(CAT, imp = filter, "controllers: {error}");
        }
        let stream_time = stream_time.map(Duration::from);
        let settings = filter.frame_settings();
        self.use_threads(settings.threads);
        let style = self.style(filter, stream_time, &settings);
        let size = self.size(frame_size(&info), &settings);
        if size != self.told_size {
            self.tell_in_use(filter);
        }

        let output_ref = output.make_mut();
        picture::copy_metadata(&frame.buffer, output_ref)
            .map_err(|error| Failure::Frame(error.to_string()))?;
        if frame.after_drop {
            output_ref.set_flags(gst::BufferFlags::DISCONT);
        }
        report::mark(output_ref, &self.engine.model, &style);
        let unreadable =
            |_| Failure::Frame("a buffer does not hold a frame of the caps in use".to_owned());
        let input =
            VideoFrameRef::from_buffer_ref_readable(&frame.buffer, &info).map_err(unreadable)?;
        let mut frame_out =
            VideoFrameRef::from_buffer_ref_writable(output_ref, &info).map_err(unreadable)?;
        let mapped = Instant::now();

        let is_static =
            settings.skip_static && self.static_input.is_unchanged(&input).map_err(of_frame)?;
        let repeats = self.fade.is_none()
            && is_static
            && self.last.as_ref().is_some_and(|last| {
                last.style == style && last.settings == settings && last.size == size
            });
        if repeats && let Some(last) = &self.last {
            let last =
                VideoFrameRef::from_buffer_ref_readable(&last.buffer, &info).map_err(unreadable)?;
            picture::for_each_row(&mut frame_out, &last, |row, last| row.copy_from_slice(last))
                .map_err(of_frame)?;
            lock(&filter.statistics).repeated += 1;
        } else {
            self.compute(filter, &input, &mut frame_out, &style, size, &settings)?;
            self.fade_in(
                filter,
                &input,
                &mut frame_out,
                stream_time,
                &style,
                size,
                &settings,
            )?;
            if settings.split {
                picture::split(&mut frame_out, &input, settings.split_position)
                    .map_err(of_frame)?;
            }
            let debug_work = settings.debug_work();
            if !debug_work.is_zero() {
                std::thread::sleep(debug_work);
            }
        }
        drop(frame_out);

        let end = Instant::now();
        {
            let mut statistics = lock(&filter.statistics);
            statistics.time(end, Stage::Map, mapped - begin);
            if !repeats {
                let timings = self.engine.translator.timings();
                statistics.time(end, Stage::Upload, timings.upload);
                statistics.time(end, Stage::Network, timings.network);
                statistics.time(end, Stage::Download, timings.download);
            }
        }
        if !repeats {
            self.govern(filter, end - begin, &settings);
        }
        filter.set_shown_style(&style);
        if settings.skip_static {
            self.last = Some(LastFrame {
                buffer: output.clone(),
                style,
                settings,
                size,
            });
        } else {
            self.last = None;
        }
        gst::debug!(
            CAT,
            imp = filter,
            "{} {:?} at {size} in {:?}",
            if repeats { "repeated" } else { "translated" },
            frame.buffer.pts(),
            end - begin
        );
        Ok(output)
    }

    /// The style of the frame at this stream time.
    fn style(
        &mut self,
        filter: &imp::MunitFilter,
        stream_time: Option<Duration>,
        settings: &FrameSettings,
    ) -> StyleCode {
        if self.follows {
            self.follow(filter, stream_time);
        }
        let time_constant = settings.style_time_constant();
        let style = self.director.style_at(stream_time, time_constant);
        let other = self.other_style.style_at(stream_time, time_constant);
        if settings.style_mix > 0.0 && other.values().len() == style.values().len() {
            style.interpolate(&other, settings.style_mix as f32)
        } else {
            style
        }
    }

    /// Runs the network on a frame. Where it has no memory for that size, a smaller one is used from
    /// then on, and at the smallest the CPU, if the device was for us to choose.
    fn compute(
        &mut self,
        filter: &imp::MunitFilter,
        input: &VideoFrameRef<&gst::BufferRef>,
        output: &mut VideoFrameRef<&mut gst::BufferRef>,
        style: &StyleCode,
        mut size: u32,
        settings: &FrameSettings,
    ) -> Result<(), Failure> {
        loop {
            let error = match run(&mut self.engine, input, output, style, size, settings) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if matches!(error, munit::Error::Picture(_) | munit::Error::Style(_)) {
                return Err(of_frame(error));
            }
            let problem = Problem::with_model(&self.engine.model.path, &error);
            if !error.is_out_of_memory() {
                return Err(Failure::Fatal(problem));
            }
            let frame = (input.width() as usize, input.height() as usize);
            let limits = self.engine.size_limits(frame, settings);
            let governor = self.governor.get_or_insert_with(|| Governor::new(limits));
            self.fade = None;
            if governor.retreat() {
                filter.warn(&Problem {
                    text: format!(
                        "{}; going on at the inference size {}",
                        problem.text,
                        governor.size()
                    ),
                    ..problem
                });
                size = governor.size();
            } else if let Some(engine) = filter.engine_on_cpu(&self.engine) {
                filter.warn(&Problem {
                    text: format!("{}; going on on the CPU", problem.text),
                    ..problem
                });
                self.engine = engine;
                self.governor = None;
                size = limits.largest;
            } else {
                return Err(Failure::Fatal(problem));
            }
            self.tell_in_use(filter);
        }
    }

    /// Mixes what is being left into a frame, while something is.
    #[allow(clippy::too_many_arguments, reason = "all of a frame")]
    fn fade_in(
        &mut self,
        filter: &imp::MunitFilter,
        input: &VideoFrameRef<&gst::BufferRef>,
        output: &mut VideoFrameRef<&mut gst::BufferRef>,
        stream_time: Option<Duration>,
        style: &StyleCode,
        size: u32,
        settings: &FrameSettings,
    ) -> Result<(), Failure> {
        let Some(fade) = &mut self.fade else {
            return Ok(());
        };
        let Some(share) = fade.share_of_new(stream_time) else {
            self.fade = None;
            return Ok(());
        };
        let info = input.info();
        let mut buffer = gst::Buffer::with_size(info.size())
            .map_err(|_| Failure::from(gst::FlowError::Error))?;
        let buffer_ref = buffer.make_mut();
        let unwritable = |_| Failure::Frame("a frame to fade from cannot be written".to_owned());
        let mut before =
            VideoFrameRef::from_buffer_ref_writable(buffer_ref, info).map_err(unwritable)?;
        let ran = match &mut fade.before {
            Before::Engine(engine, style) => run(engine, input, &mut before, style, size, settings),
            Before::Size(size) => run(&mut self.engine, input, &mut before, style, *size, settings),
        };
        drop(before);
        match ran {
            Ok(()) => {
                let before = VideoFrameRef::from_buffer_ref_readable(&buffer, info)
                    .map_err(|_| Failure::from(gst::FlowError::Error))?;
                fade::mix(output, &before, share).map_err(of_frame)?;
            }
            // The new picture is complete without the old.
            Err(error) => {
                gst::info!(CAT, imp = filter, "no cross-fade: {error}");
                self.fade = None;
            }
        }
        Ok(())
    }
}

fn run(
    engine: &mut Engine,
    input: &VideoFrameRef<&gst::BufferRef>,
    output: &mut VideoFrameRef<&mut gst::BufferRef>,
    style: &StyleCode,
    size: u32,
    settings: &FrameSettings,
) -> munit::Result<()> {
    let frame = (input.width() as usize, input.height() as usize);
    let mut output = picture::view_mut(output)?;
    let options = Engine::options(frame, size, settings);
    engine
        .translator
        .translate(&picture::view(input)?, &mut output, style, &options)
}
