//! The worker: the thread that owns the networks and translates frame after frame.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::{VideoFrameRef, VideoInfo};
use munit::StyleCode;

use super::exchange::{Exchange, Frame, Job, Work};
use crate::munitfilter::engine::Engine;
use crate::munitfilter::preparer::{Mailbox, Preparer};
use crate::munitfilter::problem::Problem;
use crate::munitfilter::style_director::StyleDirector;
use crate::munitfilter::{CAT, imp, picture};

/// Owns the networks; lives from READY→PAUSED to PAUSED→READY.
pub(crate) struct Worker {
    element: glib::WeakRef<crate::munitfilter::MunitFilter>,
    exchange: Arc<Exchange>,
    preparer: Arc<Preparer>,
    engine: Engine,
    director: StyleDirector,
    info: Option<VideoInfo>,
    /// Frames that came before this waited for something that does not come again.
    stalled_until: Option<Instant>,
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
        Self::Flow(error)
    }
}

impl Worker {
    pub fn new(
        element: glib::WeakRef<crate::munitfilter::MunitFilter>,
        exchange: Arc<Exchange>,
        preparer: Arc<Preparer>,
        engine: Engine,
        style: StyleCode,
    ) -> Self {
        Self {
            element,
            exchange,
            preparer,
            engine,
            director: StyleDirector::new(style),
            info: None,
            stalled_until: None,
        }
    }

    /// Works until the exchange sends it away, or until something panics.
    pub fn run(mut self) {
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
                        self.exchange.deliver(buffer, epoch);
                    }
                    Err(Failure::Flow(error)) => {
                        gst::debug!(CAT, imp = filter, "frame given up: {error}");
                    }
                    Err(Failure::Frame(text)) => filter.warn_of_frame(&text),
                    Err(Failure::Fatal(problem)) => {
                        filter.post_error_message(problem.to_error_message());
                        self.exchange.stop_flow(gst::FlowError::Error);
                    }
                }
            }
        }
    }

    fn pass_event(&mut self, filter: &imp::MunitFilter, event: gst::Event, epoch: u64) {
        if let gst::EventView::Caps(caps) = event.view() {
            // Already checked when the event came.
            self.info = VideoInfo::from_caps(caps.caps()).ok();
            if self.exchange.is_live() {
                self.measure(filter);
            }
        }
        self.exchange.forward_event(event, epoch);
    }

    /// Finds out how long a frame takes before the first one comes.
    fn measure(&mut self, filter: &imp::MunitFilter) {
        self.take_mail(filter);
        let Some(size) = self.info.as_ref().map(frame_size) else {
            return;
        };
        let settings = filter.frame_settings();
        let work = self.engine.warm_up(size, &settings).and_then(|()| {
            let begin = Instant::now();
            self.engine.warm_up(size, &settings)?;
            Ok(begin.elapsed())
        });
        match work {
            Ok(work) => filter.start_latency(work + settings.debug_work()),
            // The first frame will meet it again, and say so on the bus.
            Err(problem) => gst::warning!(CAT, imp = filter, "warm-up: {}", problem.text),
        }
        self.stalled_until = Some(Instant::now());
    }

    /// Takes over a new model or style between two frames.
    fn take_mail(&mut self, filter: &imp::MunitFilter) {
        let Mailbox { engine, style } = self.preparer.collect();
        if let Some(prepared) = engine {
            let (engine, code) = *prepared;
            gst::info!(CAT, imp = filter, "now using {}", engine.path.display());
            self.engine = engine;
            self.director = StyleDirector::new(code);
        }
        if let Some(change) = style {
            match self.engine.style_code(&change.target) {
                Ok(code) => self.director.glide_to(code),
                Err(problem) => self.preparer.reject_style(filter, &change, &problem),
            }
        }
    }

    fn translate(
        &mut self,
        filter: &imp::MunitFilter,
        frame: &Frame,
        epoch: u64,
    ) -> Result<gst::Buffer, Failure> {
        let info = self.info.as_ref().ok_or(gst::FlowError::NotNegotiated)?;
        let size = frame_size(info);
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
        let settings = filter.frame_settings();
        let style = self.director.style_at(
            stream_time.map(Duration::from),
            settings.style_time_constant(),
        );

        let output_ref = output.make_mut();
        picture::copy_metadata(&frame.buffer, output_ref)
            .map_err(|error| Failure::Frame(error.to_string()))?;
        if frame.after_drop {
            output_ref.set_flags(gst::BufferFlags::DISCONT);
        }
        let unreadable =
            |_| Failure::Frame("a buffer does not hold a frame of the caps in use".to_owned());
        let input_frame =
            VideoFrameRef::from_buffer_ref_readable(&frame.buffer, info).map_err(unreadable)?;
        let mut output_frame =
            VideoFrameRef::from_buffer_ref_writable(output_ref, info).map_err(unreadable)?;
        let of_frame = |error: munit::Error| Failure::Frame(error.to_string());
        let input_view = picture::view(&input_frame).map_err(of_frame)?;
        let mut output_view = picture::view_mut(&mut output_frame).map_err(of_frame)?;
        self.engine
            .translator
            .translate(
                &input_view,
                &mut output_view,
                style,
                &self.engine.options(size, &settings),
            )
            .map_err(|error| Failure::Fatal(Problem::with_model(&self.engine.path, &error)))?;
        drop(output_frame);

        let debug_work = settings.debug_work();
        if !debug_work.is_zero() {
            std::thread::sleep(debug_work);
        }
        gst::trace!(
            CAT,
            imp = filter,
            "translated {:?} in {:?}",
            frame.buffer.pts(),
            begin.elapsed()
        );
        Ok(output)
    }
}
