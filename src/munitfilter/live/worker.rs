//! The workers: threads that translate the frames that the planner has planned.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use gst::subclass::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFrameRef, VideoInfo};
use munit::StyleCode;
use munit::runtime::Timings;

use super::Exchange;
use super::course::{Course, PlannedFade};
use super::departures::Place;
use super::exchange::Frame;
use super::in_flight::share_of_threads;
use crate::munitfilter::fade::{self, Before};
use crate::munitfilter::imp::lock;
use crate::munitfilter::loaded_model::LoadedModel;
use crate::munitfilter::problem::Problem;
use crate::munitfilter::settings::FrameSettings;
use crate::munitfilter::stats::{Drop, Stage};
use crate::munitfilter::{CAT, imp, log_libtorch_warnings, picture, report};

/// How a frame is to be made. Nothing of it depends on when, or by which worker.
pub(crate) struct Plan {
    pub frame: Box<Frame>,
    pub info: VideoInfo,
    pub model: Arc<LoadedModel>,
    pub style: StyleCode,
    pub size: u32,
    pub settings: FrameSettings,
    pub fade: Option<PlannedFade>,
    /// An earlier frame that looks the same.
    pub same_as: Option<Arc<Translated>>,
}

/// A frame for a worker.
pub(crate) struct Task {
    pub plan: Plan,
    /// Where the translation goes.
    pub output: gst::Buffer,
    /// For later frames that look the same.
    pub promise: Option<Promise>,
    /// The governor wants to know how long it takes.
    pub is_governed: bool,
    /// Threads for all workers together, and the number of these.
    pub threads: usize,
    pub workers: usize,
}

/// A translated frame once it is finished; none if it failed.
pub(crate) type Translated = OnceLock<Option<gst::Buffer>>;

/// Is kept at the latest when it is dropped, so that nobody waits for ever.
pub(crate) struct Promise(Arc<Translated>);

impl Promise {
    pub fn new() -> (Self, Arc<Translated>) {
        let translated = Arc::new(Translated::new());
        (Self(translated.clone()), translated)
    }

    fn keep(&self, buffer: &gst::Buffer) {
        let _ = self.0.set(Some(buffer.clone()));
    }
}

impl std::ops::Drop for Promise {
    fn drop(&mut self) {
        let _ = self.0.set(None);
    }
}

/// Why a frame was not translated.
pub(super) enum Failure {
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

impl Failure {
    /// One frame that cannot be used.
    pub fn of_frame(error: munit::Error) -> Self {
        Self::Frame(error.to_string())
    }

    /// A buffer that is not what its caps say.
    pub fn unreadable<E>(_: E) -> Self {
        Self::Frame("a buffer does not hold a frame of the caps in use".to_owned())
    }

    /// Tells whom it concerns.
    pub fn tell(self, filter: &imp::MunitFilter, exchange: &Exchange) {
        match self {
            Self::Flow(error) => {
                gst::debug!(CAT, imp = filter, "frame given up: {error}");
            }
            Self::Frame(text) => {
                lock(&filter.statistics).count_drop(Drop::Failed);
                filter.warn_of_frame(&text);
            }
            Self::Fatal(problem) => {
                filter.post_error_message(problem.to_error_message());
                exchange.stop_flow(gst::FlowError::Error);
            }
        }
    }
}

/// Translates frames; lives from the first that needs it to PAUSED→READY.
pub(super) struct Worker {
    number: usize,
    element: glib::WeakRef<crate::munitfilter::MunitFilter>,
    exchange: Arc<Exchange>,
    course: Arc<Course>,
    /// Threads that libtorch was told to use on this thread.
    threads: usize,
}

impl Worker {
    /// The worker `number`; see [`Exchange::begin`].
    pub fn new(
        number: usize,
        element: glib::WeakRef<crate::munitfilter::MunitFilter>,
        exchange: Arc<Exchange>,
        course: Arc<Course>,
    ) -> Self {
        Self {
            number,
            element,
            exchange,
            course,
            threads: 0,
        }
    }

    /// Works until the exchange sends it away, or until something panics.
    pub fn run(mut self) {
        log_libtorch_warnings();
        let exchange = self.exchange.clone();
        while let Some((place, plan)) = exchange.begin(self.number) {
            let Some(element) = self.element.upgrade() else {
                return;
            };
            let unharmed = element.imp().catch_panic(
                || false,
                |filter| {
                    self.process(filter, place, plan);
                    true
                },
            );
            if !unharmed {
                exchange.stop_flow(gst::FlowError::Error);
                return;
            }
        }
    }

    fn process(&mut self, filter: &imp::MunitFilter, place: Place, task: Task) {
        let Task {
            plan,
            mut output,
            promise,
            ..
        } = task;
        self.use_threads(share_of_threads(task.threads, task.workers, self.number));
        let translated = match self.translate(filter, &plan, &mut output, task.is_governed) {
            Ok(()) => Some(output),
            Err(failure) => {
                failure.tell(filter, &self.exchange);
                None
            }
        };
        if let Some((promise, buffer)) = promise.zip(translated.as_ref()) {
            promise.keep(buffer);
        }
        let delayed_since = self.exchange.finish(place, translated);
        if let Some(since) = delayed_since
            && self.exchange.is_live()
        {
            filter.observe_delay(since.elapsed());
        }
    }

    fn use_threads(&mut self, threads: usize) {
        if self.threads != threads {
            self.threads = threads;
            munit::runtime::use_threads(threads);
        }
    }

    fn translate(
        &self,
        filter: &imp::MunitFilter,
        plan: &Plan,
        output: &mut gst::Buffer,
        is_governed: bool,
    ) -> Result<(), Failure> {
        let begin = Instant::now();
        let output = output.make_mut();
        picture::copy_metadata(&plan.frame.buffer, output)
            .map_err(|error| Failure::Frame(error.to_string()))?;
        if plan.frame.after_drop {
            output.set_flags(gst::BufferFlags::DISCONT);
        }
        report::mark(output, &plan.model, &plan.style);
        let input = VideoFrameRef::from_buffer_ref_readable(&plan.frame.buffer, &plan.info)
            .map_err(Failure::unreadable)?;
        let mut output = VideoFrameRef::from_buffer_ref_writable(output, &plan.info)
            .map_err(Failure::unreadable)?;
        lock(&filter.statistics).time(Instant::now(), Stage::Map, begin.elapsed());

        let same = plan.same_as.as_ref().and_then(|same| same.wait().as_ref());
        if let Some(same) = same {
            let same = VideoFrameRef::from_buffer_ref_readable(same, &plan.info)
                .map_err(Failure::unreadable)?;
            picture::for_each_row(&mut output, &same, |row, same| row.copy_from_slice(same))
                .map_err(Failure::of_frame)?;
            lock(&filter.statistics).repeated += 1;
        } else {
            let size = self.make(filter, plan, &input, &mut output)?;
            if is_governed && plan.fade.is_none() {
                self.govern(filter, size, [begin, Instant::now()]);
            }
        }
        gst::debug!(
            CAT,
            imp = filter,
            "{} {:?} in {:?}",
            if same.is_some() {
                "repeated"
            } else {
                "translated"
            },
            plan.frame.buffer.pts(),
            begin.elapsed()
        );
        Ok(())
    }

    /// Makes a frame; returns the inference size at which that was possible.
    fn make(
        &self,
        filter: &imp::MunitFilter,
        plan: &Plan,
        input: &VideoFrameRef<&gst::BufferRef>,
        output: &mut VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<u32, Failure> {
        let (size, timings) = self.run_network(filter, plan, input, output)?;
        if let Some((before, share)) = &plan.fade {
            self.fade_in(filter, plan, (before, *share), input, output)?;
        }
        if plan.settings.split {
            picture::split(output, input, plan.settings.split_position)
                .map_err(Failure::of_frame)?;
        }
        let debug_work = plan.settings.debug_work();
        if !debug_work.is_zero() {
            std::thread::sleep(debug_work);
        }
        let mut statistics = lock(&filter.statistics);
        let now = Instant::now();
        statistics.time(now, Stage::Upload, timings.upload);
        statistics.time(now, Stage::Network, timings.network);
        statistics.time(now, Stage::Download, timings.download);
        Ok(size)
    }

    /// Runs the network on a frame. Where it has no memory for that, it is tried again as
    /// [`Course::way_out`] says.
    fn run_network(
        &self,
        filter: &imp::MunitFilter,
        plan: &Plan,
        input: &VideoFrameRef<&gst::BufferRef>,
        output: &mut VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<(u32, Timings), Failure> {
        let (mut model, mut size) = (plan.model.clone(), plan.size);
        let mut ran = {
            let _together = self.course.together();
            self.run_once(&model, size, &plan.style, plan, input, output)
        };
        let mut alone = None;
        loop {
            let error = match ran {
                Ok(timings) => return Ok((size, timings)),
                Err(error) => error,
            };
            if matches!(error, munit::Error::Picture(_) | munit::Error::Style(_)) {
                return Err(Failure::of_frame(error));
            }
            let problem = Problem::with_model(&model.path, &error);
            if !error.is_out_of_memory() {
                return Err(Failure::Fatal(problem));
            }
            alone.get_or_insert_with(|| self.course.alone());
            let frame = (input.width() as usize, input.height() as usize);
            let limits = model.size_limits(frame, &plan.settings);
            let way_out = self
                .course
                .way_out(filter, &model, size, limits, problem)
                .map_err(Failure::Fatal)?;
            if let Some(warning) = way_out.warning {
                filter.warn(&warning);
            }
            filter.set_in_use(self.course.in_use());
            (model, size) = (way_out.model, way_out.size);
            ran = self.run_once(&model, size, &plan.style, plan, input, output);
        }
    }

    /// Mixes what is being left into a frame.
    fn fade_in(
        &self,
        filter: &imp::MunitFilter,
        plan: &Plan,
        (before, share): (&Before, f64),
        input: &VideoFrameRef<&gst::BufferRef>,
        output: &mut VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<(), Failure> {
        let mut buffer = gst::Buffer::with_size(plan.info.size())
            .map_err(|_| Failure::from(gst::FlowError::Error))?;
        let mut faded = VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), &plan.info)
            .map_err(Failure::unreadable)?;
        let (model, style, size) = match before {
            Before::Model(model, style) => (model, style, plan.size),
            Before::Size(size) => (&plan.model, &plan.style, *size),
        };
        let ran = {
            let _together = self.course.together();
            self.run_once(model, size, style, plan, input, &mut faded)
        };
        drop(faded);
        match ran {
            Ok(_) => {
                let faded = VideoFrameRef::from_buffer_ref_readable(&buffer, &plan.info)
                    .map_err(Failure::unreadable)?;
                fade::mix(output, &faded, share).map_err(Failure::of_frame)?;
            }
            // The new picture is complete without the old.
            Err(error) => {
                gst::info!(CAT, imp = filter, "no cross-fade: {error}");
                self.course.end_fade();
            }
        }
        Ok(())
    }

    fn run_once(
        &self,
        model: &Arc<LoadedModel>,
        size: u32,
        style: &StyleCode,
        plan: &Plan,
        input: &VideoFrameRef<&gst::BufferRef>,
        output: &mut VideoFrameRef<&mut gst::BufferRef>,
    ) -> munit::Result<Timings> {
        let frame = (input.width() as usize, input.height() as usize);
        let options = plan.settings.options(frame, size);
        let mut translator = self.course.borrow(model);
        let mut output = picture::view_mut(output)?;
        translator.translate(&picture::view(input)?, &mut output, style, &options)?;
        let timings = translator.timings();
        self.course.give_back(model, translator);
        Ok(timings)
    }

    /// Lets the governor see what a frame took, and tells when it changes the size.
    fn govern(&self, filter: &imp::MunitFilter, before: u32, work: [Instant; 2]) {
        if let Some(interval) = filter.frame_interval()
            && let Some(size) = self.course.observe(before, work, interval)
        {
            gst::info!(
                CAT,
                imp = filter,
                "inference size {before} → {size}: a frame took {:?}",
                work[1] - work[0]
            );
            filter.post_size(size, before);
            filter.set_in_use(self.course.in_use());
        }
    }
}
