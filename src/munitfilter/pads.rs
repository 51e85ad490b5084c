//! What the pads do: frames, events and queries on their way through the element.

use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::VideoInfo;

use super::CAT;
use super::imp::{MunitFilter, lock};
use super::live::{self, Frame, LARGEST_BACKLOG};
use super::stats::{Drop, Stage};

/// What upstream has said about the stream.
#[derive(Default)]
pub(super) struct Stream {
    segment: gst::FormattedSegment<gst::ClockTime>,
    info: Option<VideoInfo>,
    /// The person has been told that interlaced video is not translated; upstream tries again
    /// with every event and frame.
    refused_interlaced: bool,
    /// How old live frames are at least when they come.
    upstream_latency: Duration,
}

impl Stream {
    /// What the frames are, once known.
    pub fn info(&self) -> Option<VideoInfo> {
        self.info.clone()
    }

    /// Time from one frame to the next, if the frame rate is known and constant.
    pub fn frame_interval(&self) -> Option<Duration> {
        let fps = self.info.as_ref()?.fps();
        let (frames, seconds) = (
            u32::try_from(fps.numer()).ok()?,
            u32::try_from(fps.denom()).ok()?,
        );
        (frames > 0).then(|| Duration::from_secs(seconds.into()) / frames)
    }
}

/// QOS messages give the quality in parts of this: the inference size's share of the frame's own
/// size.
const FULL_QUALITY: f64 = 1_000_000.0;

/// What an event function says of an event that it took or (false) could not.
fn taken(taken: bool) -> Result<gst::FlowSuccess, gst::FlowError> {
    taken
        .then_some(gst::FlowSuccess::Ok)
        .ok_or(gst::FlowError::Error)
}

/// The sink pad.
impl MunitFilter {
    pub(super) fn sink_chain(
        &self,
        buffer: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let segment = {
            let stream = lock(&self.stream);
            if stream.info.is_none() {
                return Err(gst::FlowError::NotNegotiated);
            }
            stream.segment.clone()
        };
        gst::debug!(CAT, imp = self, "{:?} came", buffer.pts());
        let running_time = buffer.pts().and_then(|time| segment.to_running_time(time));
        self.style_input.advance(running_time);
        lock(&self.statistics).count_in(Instant::now());
        let replaced = self.exchange.offer_frame(Frame {
            buffer,
            segment,
            arrived: Instant::now(),
            after_drop: false,
        })?;
        if let Some(frame) = replaced {
            lock(&self.statistics).count_drop(Drop::Replaced);
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
        let own = self
            .frame_info()
            .map_or(1, |info| info.width().min(info.height()));
        let share = f64::from(self.inference_size()) / own.max(1) as f64;
        let quality = (FULL_QUALITY * share.min(1.0)) as i32;
        gst::debug!(CAT, imp = self, "{pts:?} gives way to a newer frame");
        let message = gst::message::Qos::builder(true)
            .src(&*element)
            .running_time(pts.and_then(|time| frame.segment.to_running_time(time)))
            .stream_time(pts.and_then(|time| frame.segment.to_stream_time(time)))
            .timestamp(pts)
            .duration(frame.buffer.duration())
            .values(waited, proportion, quality)
            .stats(
                gst::format::Buffers::from_u64(counts.processed),
                gst::format::Buffers::from_u64(counts.dropped),
            )
            .build();
        let _ = element.post_message(message);
    }

    /// The error says why an event was refused: upstream must not take a stop for caps that do not
    /// fit.
    pub(super) fn sink_event(
        &self,
        pad: &gst::Pad,
        event: gst::Event,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        gst::log!(CAT, obj = pad, "{event:?}");
        match event.view() {
            gst::EventView::FlushStart(_) => {
                let pushed = self.src_pad.push_event(event);
                self.exchange.start_flush();
                self.pause_output();
                return taken(pushed);
            }
            gst::EventView::FlushStop(_) => {
                let pushed = self.src_pad.push_event(event);
                lock(&self.stream).segment = gst::FormattedSegment::new();
                self.exchange.stop_flush();
                return taken(self.start_output() && pushed);
            }
            gst::EventView::Caps(caps) if !self.set_caps(caps.caps()) => {
                return Err(gst::FlowError::NotNegotiated);
            }
            gst::EventView::Segment(segment) => {
                let segment = segment.segment().downcast_ref::<gst::ClockTime>();
                lock(&self.stream).segment = segment.cloned().unwrap_or_default();
            }
            _ => {}
        }
        if !event.is_serialized() {
            return taken(gst::Pad::event_default(pad, Some(&*self.obj()), event));
        }
        let is_eos = event.type_() == gst::EventType::Eos;
        match event.type_() {
            gst::EventType::Eos => self.style_input.set_main_ended(true),
            gst::EventType::StreamStart | gst::EventType::Segment => {
                self.style_input.set_main_ended(false);
            }
            _ => {}
        }
        match self.exchange.offer_event(event) {
            Ok(()) => Ok(gst::FlowSuccess::Ok),
            Err(error) => {
                gst::debug!(CAT, obj = pad, "event refused: {error}");
                // Whoever ended the stream downstream waits for its end all the same.
                if is_eos && !self.post_flow_error(error) && error == gst::FlowError::Eos {
                    return taken(self.src_pad.push_event(gst::event::Eos::new()));
                }
                Err(error)
            }
        }
    }

    fn set_caps(&self, caps: &gst::CapsRef) -> bool {
        let Ok(info) = VideoInfo::from_caps(caps) else {
            gst::error!(CAT, imp = self, "{caps} are not complete video caps");
            return false;
        };
        if info.is_interlaced() {
            let told = std::mem::replace(&mut lock(&self.stream).refused_interlaced, true);
            if !told {
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Format,
                    ("munitfilter translates progressive video only; put deinterlace before it")
                );
            }
            return false;
        }
        lock(&self.stream).info = Some(info);
        let mut query = gst::query::Latency::new();
        if self.sink_pad.peer_query(&mut query) {
            self.exchange.set_live(query.result().0);
        }
        true
    }

    pub(super) fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Allocation(allocation) = query.view_mut() {
            return live::propose_allocation(allocation, self.exchange.most_places());
        }
        if query.is_serialized() {
            // Its place in line is after everything that came before it; once that has left,
            // this thread can ask downstream by itself.
            return self.exchange.drain() && self.src_pad.peer_query(query);
        }
        gst::Pad::query_default(pad, Some(&*self.obj()), query)
    }
}

/// The source pad.
impl MunitFilter {
    pub(super) fn src_activate_mode(
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
            let Some(element) = element.upgrade() else {
                return;
            };
            let filter = element.imp();
            let unharmed = filter.catch_panic(
                || false,
                |filter| {
                    filter.push_output();
                    true
                },
            );
            if !unharmed {
                filter.exchange.stop_flow(gst::FlowError::Error);
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
        let is_frame = matches!(output, live::Output::Frame(_));
        let begin = Instant::now();
        let pushed = live::push(&self.exchange, &self.src_pad, output);
        if is_frame && pushed.is_ok() {
            let mut statistics = lock(&self.statistics);
            let now = Instant::now();
            statistics.count_out(now);
            statistics.time(now, Stage::Push, now - begin);
        }
        if let Err(error) = pushed {
            gst::debug!(CAT, imp = self, "downstream: {error}");
            // Upstream hears of it with its next frame, if one is to come.
            let eos_was_received = self.exchange.stop_flow(error);
            if eos_was_received && (self.post_flow_error(error) || error == gst::FlowError::Eos) {
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

    pub(super) fn src_event(&self, event: gst::Event) -> bool {
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
        // Seeks, navigation and all else are for the main video.
        self.sink_pad.push_event(event)
    }

    pub(super) fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
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
            // What can wait between the workers and the output task.
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
