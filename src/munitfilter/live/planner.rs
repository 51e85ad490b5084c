//! The planner: the thread that decides, frame by frame and in their order, how each is to be made.
//!
//! Whatever depends on the frames before (the style and its glide, cross-fades, what is static, the
//! inference size, a new model) is decided here. What is left for the workers gives the same picture
//! whichever of them does it, and when.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::{VideoFrameRef, VideoInfo};
use munit::StyleCode;
use munit::runtime::{Precision, free_memory};

use super::Exchange;
use super::course::Course;
use super::exchange::{Frame, Job, Work};
use super::in_flight::{Situation, Trial, share_of_threads, working_memory};
use super::worker::{Failure, Plan, Promise, Task, Translated, Worker};
use crate::munitfilter::engine::{Engine, warm_up};
use crate::munitfilter::governor::Governor;
use crate::munitfilter::picture::frame_size;
use crate::munitfilter::preparer::{Mailbox, Preparer, StyleUpdate};
use crate::munitfilter::problem::Problem;
use crate::munitfilter::report;
use crate::munitfilter::settings::FrameSettings;
use crate::munitfilter::static_input::StaticInput;
use crate::munitfilter::style_director::StyleDirector;
use crate::munitfilter::style_input::StylePicture;
use crate::munitfilter::style_path::StylePath;
use crate::munitfilter::{CAT, Quality, imp, log_libtorch_warnings, picture};

/// Plans frames for its workers; lives from READY→PAUSED to PAUSED→READY.
pub(crate) struct Planner {
    element: glib::WeakRef<crate::munitfilter::MunitFilter>,
    exchange: Arc<Exchange>,
    preparer: Arc<Preparer>,
    course: Arc<Course>,
    crew: Vec<JoinHandle<()>>,
    director: StyleDirector,
    /// The style at the other end of `style-mix`.
    other_style: StyleDirector,
    /// The style comes from the pad `style_sink`.
    follows: bool,
    /// It has been told that no video is there to be followed.
    told_unlinked: bool,
    /// The frame planned last, to be shown again, and what it is made with.
    last: Option<LastFrame>,
    static_input: StaticInput,
    info: Option<VideoInfo>,
    /// The value of `threads`, and the threads that it means.
    threads: Option<(u32, usize)>,
    /// Frames in flight for the value 0 of `max-in-flight`, and what that was chosen for.
    automatic: Option<(AutomaticFor, Trial)>,
    /// Frames that came before this waited for something that does not come again.
    stalled_until: Option<Instant>,
    stats_posted: Instant,
    /// Upstream's tags of the stream.
    tags: Option<gst::TagList>,
    /// The tags that were pushed speak of another model.
    tags_are_old: bool,
    /// The size that was told last.
    told_size: u32,
}

/// A planned frame, and what decides how it looks besides the input.
struct LastFrame {
    translated: Arc<Translated>,
    style: StyleCode,
    settings: FrameSettings,
    size: u32,
}

/// What the automatic number of frames in flight depends on and may change.
#[derive(Clone, Copy, PartialEq, Eq)]
struct AutomaticFor {
    frame: (usize, usize),
    size: u32,
    live: bool,
    on_cpu: bool,
    threads: usize,
}

/// Threads for all workers together, and the number of these.
#[derive(Clone, Copy)]
struct Staff {
    threads: usize,
    workers: usize,
}

/// Getting an output frame takes longer than this only if none is free.
const POOL_IS_DRY: Duration = Duration::from_millis(1);

impl Planner {
    pub fn new(
        element: glib::WeakRef<crate::munitfilter::MunitFilter>,
        exchange: Arc<Exchange>,
        preparer: Arc<Preparer>,
        engine: Engine,
        style: StyleUpdate,
    ) -> Self {
        let model = engine.model;
        let start = || StylePath::Still(model.metadata.default_style(model.direction));
        Self {
            element,
            exchange,
            preparer,
            crew: Vec::new(),
            follows: style.path.is_none(),
            told_unlinked: false,
            director: StyleDirector::new(style.path.unwrap_or_else(start)),
            other_style: StyleDirector::new(StylePath::Still(style.other)),
            course: Arc::new(Course::new(model)),
            last: None,
            static_input: StaticInput::default(),
            info: None,
            threads: None,
            automatic: None,
            stalled_until: None,
            stats_posted: Instant::now(),
            tags: None,
            tags_are_old: false,
            told_size: 0,
        }
    }

    /// Plans until the exchange sends it away, or until something panics; then waits for the workers.
    pub fn run(mut self) {
        log_libtorch_warnings();
        let exchange = self.exchange.clone();
        while let Some(job) = exchange.take() {
            let Some(element) = self.element.upgrade() else {
                break;
            };
            let unharmed = element.imp().catch_panic(
                || false,
                |filter| {
                    self.process(filter, job);
                    true
                },
            );
            if !unharmed {
                exchange.stop_flow(gst::FlowError::Error);
                break;
            }
        }
        for worker in self.crew {
            // Panics are caught inside, where the bus hears of them.
            let _ = worker.join();
        }
    }

    fn process(&mut self, filter: &imp::MunitFilter, job: Job) {
        let Job { work, epoch } = job;
        match work {
            Work::Event(event) => self.pass_event(filter, event, epoch),
            Work::Frame { frame, since } => {
                self.take_mail(filter);
                if let Err(failure) = self.plan(filter, frame, since, epoch) {
                    failure.tell(filter, &self.exchange);
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
                self.last = None;
                self.static_input.forget();
                if let Err(failure) = self.start_size(filter) {
                    failure.tell(filter, &self.exchange);
                }
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
        let comment = report::comment(&self.course.model());
        gst::event::Tag::new(report::tags_with_comment(self.tags.as_deref(), &comment))
    }

    // The size at which the network runs.

    /// Whether the size follows the load.
    fn is_governed(&self, settings: &FrameSettings) -> bool {
        settings.quality == Quality::Auto && self.exchange.is_live()
    }

    /// Chooses the size for frames of the caps in use; in a live stream by a measurement, before
    /// the first frame comes.
    fn start_size(&mut self, filter: &imp::MunitFilter) -> Result<(), Failure> {
        self.take_mail(filter);
        let Some(info) = self.info.clone() else {
            return Ok(());
        };
        let frame = frame_size(&info);
        let settings = filter.frame_settings();
        let limits = self.course.model().size_limits(frame, &settings);
        self.course.begin(Governor::new(limits));
        let Staff { threads, workers } = self.staff(frame, limits.largest, &settings)?;
        if self.exchange.is_live() {
            munit::runtime::use_threads(share_of_threads(threads, workers, 0));
            let mut governor = Governor::new(limits);
            if self.is_governed(&settings)
                && let Some(interval) = filter.frame_interval()
            {
                // Small sizes tell the cost of a large one without its wait.
                let measured = governor
                    .probe_sizes()
                    .map(|size| self.measure(filter, &info, size, &settings));
                if let [Some(small), Some(medium)] = measured {
                    let work = [small, medium].map(|work| work + settings.debug_work());
                    governor.start_with(work, self.course.budget(interval));
                }
            }
            if let Some(work) = self.measure(filter, &info, governor.size(), &settings) {
                filter.start_latency(work + settings.debug_work());
                let warmed = self
                    .course
                    .warm_up(workers.saturating_sub(1), |translator| {
                        warm_up(translator, &info, governor.size(), &settings)
                    });
                if let Err(error) = warmed {
                    gst::warning!(CAT, imp = filter, "warm-up: {error}");
                }
            }
            self.stalled_until = Some(Instant::now());
            self.course.begin(governor);
        }
        self.tell_in_use(filter);
        Ok(())
    }

    /// How long a frame takes at a size, without the first time, which is always slow.
    fn measure(
        &self,
        filter: &imp::MunitFilter,
        info: &VideoInfo,
        size: u32,
        settings: &FrameSettings,
    ) -> Option<Duration> {
        let model = self.course.model();
        let mut translator = self.course.borrow(&model);
        let mut run = || warm_up(&mut translator, info, size, settings);
        let work = run().and_then(|()| {
            let begin = Instant::now();
            run()?;
            Ok(begin.elapsed())
        });
        match work {
            Ok(work) => {
                self.course.give_back(&model, translator);
                Some(work)
            }
            // The first frame will meet the same, and say so on the bus.
            Err(error) => {
                gst::warning!(CAT, imp = filter, "warm-up: {error}");
                None
            }
        }
    }

    fn tell_in_use(&mut self, filter: &imp::MunitFilter) {
        let in_use = self.course.in_use();
        self.told_size = in_use.inference_size;
        filter.set_in_use(in_use);
    }

    // Who translates.

    /// Sees to it that as many workers as should be are there for frames of this size.
    fn staff(
        &mut self,
        frame: (usize, usize),
        size: u32,
        settings: &FrameSettings,
    ) -> Result<Staff, Failure> {
        let threads = self.threads(settings.threads);
        let wanted = match settings.max_in_flight {
            0 => self.automatic(frame, size, threads),
            frames => frames as usize,
        };
        let allowed = self.course.allow_in_flight(wanted);
        while self.crew.len() < allowed {
            let worker = Worker::new(
                self.crew.len(),
                self.element.clone(),
                self.exchange.clone(),
                self.course.clone(),
            );
            let thread = std::thread::Builder::new()
                .name("munitfilter".to_owned())
                .spawn(move || worker.run());
            match thread {
                Ok(thread) => self.crew.push(thread),
                Err(error) if self.crew.is_empty() => {
                    return Err(Failure::Fatal(Problem::without_thread(&error)));
                }
                Err(_) => break,
            }
        }
        let workers = allowed.min(self.crew.len());
        let to_come = match &self.automatic {
            Some((_, trial)) if settings.max_in_flight == 0 => trial.most(),
            _ => workers,
        };
        self.exchange.set_most_in_flight(workers, to_come);
        Ok(Staff { threads, workers })
    }

    /// The threads that a value of the property `threads` means.
    fn threads(&mut self, wanted: u32) -> usize {
        match self.threads {
            Some((known, threads)) if known == wanted => threads,
            _ => {
                munit::runtime::use_threads(wanted as usize);
                let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1);
                self.threads = Some((wanted, threads));
                threads
            }
        }
    }

    /// The number of frames in flight where none is set.
    fn automatic(&mut self, frame: (usize, usize), size: u32, threads: usize) -> usize {
        let model = self.course.model();
        let wanted_for = AutomaticFor {
            frame,
            size,
            live: self.exchange.is_live(),
            on_cpu: model.is_on_cpu(),
            threads,
        };
        match self.automatic {
            Some((known, ref trial)) if known == wanted_for => trial.in_flight(),
            _ => {
                let shorter = frame.0.min(frame.1).max(1);
                let side = |length: usize| length * size as usize / shorter;
                let number_size = match model.precision {
                    Precision::Bf16 | Precision::Fp16 => 2,
                    Precision::Auto | Precision::Fp32 => 4,
                };
                let situation = Situation {
                    on_cpu: wanted_for.on_cpu,
                    live: wanted_for.live,
                    threads,
                    frame_memory: working_memory(
                        &model.metadata.architecture,
                        (side(frame.1), side(frame.0)),
                        number_size,
                    ),
                    free_memory: free_memory(tch::Device::Cpu).unwrap_or(0),
                };
                let most = situation.most_in_flight();
                // A GPU has its own ways to overlap frames, and a live stream no choice.
                let trial = if situation.on_cpu {
                    Trial::new(most)
                } else {
                    Trial::settled(most)
                };
                gst::info!(CAT, "at most {most} in flight: {situation:?}");
                let frames = trial.in_flight();
                self.automatic = Some((wanted_for, trial));
                frames
            }
        }
    }

    // Between two frames.

    /// Takes over a new model or style.
    fn take_mail(&mut self, filter: &imp::MunitFilter) {
        let Mailbox { engine, style } = self.preparer.collect();
        if let Some(engine) = engine {
            let Engine { model, translator } = *engine;
            gst::info!(CAT, imp = filter, "now using {}", model.path.display());
            let code = model.metadata.default_style(model.direction);
            self.director = StyleDirector::new(StylePath::Still(code));
            self.static_input.forget();
            self.automatic = None;
            self.tags_are_old = true;
            let length = filter.frame_settings().style_time_constant();
            self.course
                .adopt(model, translator, filter.shown_style(), length);
            self.tell_in_use(filter);
        }
        if let Some(update) = style {
            self.follows = update.path.is_none();
            self.told_unlinked &= self.follows;
            if let Some(path) = update.path {
                self.director.glide_to(path);
            }
            self.other_style.glide_to(StylePath::Still(update.other));
        }
    }

    /// Heads for the style of the newest picture on the pad `style_sink`.
    fn follow(&mut self, filter: &imp::MunitFilter, stream_time: Option<Duration>) {
        let Some(StylePicture { buffer, info }) = filter.style_input.take(stream_time) else {
            if !self.told_unlinked && !filter.has_style_video() {
                self.told_unlinked = true;
                filter.warn(&Problem::setting(
                    "style-mode is follow, but nothing is linked to the pad style_sink; the style \
                     stays as it is until a video is",
                ));
            }
            return;
        };
        let model = self.course.model();
        let mut translator = self.course.borrow(&model);
        let encoded = VideoFrameRef::from_buffer_ref_readable(&buffer, &info)
            .map_err(|_| "a buffer does not hold a frame of its caps".to_owned())
            .and_then(|frame| {
                picture::view(&frame)
                    .and_then(|view| translator.encode_style(&view))
                    .map_err(|error| error.to_string())
            });
        self.course.give_back(&model, translator);
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

    fn plan(
        &mut self,
        filter: &imp::MunitFilter,
        frame: Box<Frame>,
        since: Instant,
        epoch: u64,
    ) -> Result<(), Failure> {
        let info = self.info.clone().ok_or(gst::FlowError::NotNegotiated)?;
        let asked = Instant::now();
        let output = self.exchange.acquire(epoch)?;
        if asked.elapsed() > POOL_IS_DRY {
            // As long as the sink holds its frames; see `Exchange::take`.
            self.stalled_until = Some(Instant::now());
        }
        let since = self.stalled_until.map_or(since, |until| since.max(until));

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
        let is_governed = self.is_governed(&settings);
        let model = self.course.model();
        let limits = model.size_limits(frame_size(&info), &settings);
        let size = self.course.next_size(limits, is_governed);
        if size != self.told_size {
            self.tell_in_use(filter);
        }
        let Staff { threads, workers } = self.staff(frame_size(&info), size, &settings)?;
        let style = self.style(filter, stream_time, &settings);
        filter.set_shown_style(&style);
        let fade = self.course.next_fade(stream_time);

        let is_static = settings.skip_static && self.is_static(&frame, &info)?;
        let same_as = self
            .last
            .as_ref()
            .filter(|last| {
                is_static
                    && fade.is_none()
                    && last.style == style
                    && last.settings == settings
                    && last.size == size
            })
            .map(|last| last.translated.clone());
        let (promise, translated) = settings.skip_static.then(Promise::new).unzip();
        self.last = translated.map(|translated| LastFrame {
            translated,
            style: style.clone(),
            settings,
            size,
        });

        if same_as.is_none()
            && settings.max_in_flight == 0
            && let Some((_, trial)) = &mut self.automatic
            && trial.plan(Instant::now())
        {
            gst::info!(CAT, imp = filter, "{} in flight", trial.in_flight());
        }

        if std::mem::take(&mut self.tags_are_old) {
            self.exchange.forward_event(self.tag_event(), epoch);
        }
        let task = Task {
            plan: Plan {
                frame,
                info,
                model,
                style,
                size,
                settings,
                fade,
                same_as,
            },
            output,
            promise,
            is_governed,
            threads,
            workers,
        };
        self.exchange.submit(task, since, epoch);
        Ok(())
    }

    fn is_static(&mut self, frame: &Frame, info: &VideoInfo) -> Result<bool, Failure> {
        let input = VideoFrameRef::from_buffer_ref_readable(&frame.buffer, info)
            .map_err(Failure::unreadable)?;
        self.static_input
            .is_unchanged(&input)
            .map_err(Failure::of_frame)
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
}
