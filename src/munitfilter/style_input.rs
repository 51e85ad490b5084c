//! The pad `style_sink`: a second video, whose pictures give their style.
//!
//! Its frames are never queued. Only the newest is kept, and one that lies ahead of the main video
//! waits here, so that a file plays beside the main video and does not race through.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gst::subclass::prelude::*;
use gst_video::VideoInfo;

use super::imp::MunitFilter;
use super::{CAT, live};

/// How far ahead of the main video a picture may come without waiting. Where one thread feeds both
/// pads in turn, waiting would be for ever.
const LEAD: gst::ClockTime = gst::ClockTime::from_mseconds(250);
/// Time in the stream from one encoded picture to the next.
const ENCODE_INTERVAL: Duration = Duration::from_millis(200);

/// A picture whose style is to be taken.
pub(super) struct StylePicture {
    pub buffer: gst::Buffer,
    pub info: VideoInfo,
}

#[derive(Default)]
struct State {
    /// The pad exists and is active and not flushing.
    open: bool,
    info: Option<VideoInfo>,
    segment: gst::FormattedSegment<gst::ClockTime>,
    newest: Option<gst::Buffer>,
    /// Running time that the main video has reached; none before its first frame.
    main_time: Option<gst::ClockTime>,
    /// The main video has ended: nothing is waited for.
    main_ended: bool,
    /// Stream time at which a picture was taken last.
    taken_at: Option<Duration>,
}

/// What has arrived on the pad.
#[derive(Default)]
pub(super) struct StyleInput {
    state: Mutex<State>,
    changed: Condvar,
}

impl StyleInput {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The main video has reached this running time.
    pub fn advance(&self, running_time: Option<gst::ClockTime>) {
        self.state().main_time = running_time;
        self.changed.notify_all();
    }

    /// The main video has ended, or (`false`) begins anew.
    pub fn set_main_ended(&self, ended: bool) {
        let mut state = self.state();
        state.main_ended = ended;
        if !ended {
            state.main_time = None;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The newest picture, if one has come since the last and enough stream time has passed.
    pub fn take(&self, stream_time: Option<Duration>) -> Option<StylePicture> {
        let mut state = self.state();
        let is_early = stream_time
            .zip(state.taken_at)
            .and_then(|(now, then)| now.checked_sub(then))
            .is_some_and(|passed| passed < ENCODE_INTERVAL);
        if is_early {
            return None;
        }
        let picture = StylePicture {
            info: state.info.clone()?,
            buffer: state.newest.take()?,
        };
        state.taken_at = stream_time;
        Some(picture)
    }

    fn set_open(&self, open: bool) {
        let mut state = self.state();
        state.open = open;
        if !open {
            state.newest = None;
        }
        drop(state);
        self.changed.notify_all();
    }

    fn offer(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = self.state();
        if state.info.is_none() {
            return Err(gst::FlowError::NotNegotiated);
        }
        let running_time = buffer
            .pts()
            .and_then(|time| state.segment.to_running_time(time));
        loop {
            if !state.open {
                return Err(gst::FlowError::Flushing);
            }
            let reached = state.main_time.map_or(LEAD, |time| time + LEAD);
            if state.main_ended || running_time.is_none_or(|time| time <= reached) {
                break;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.newest = Some(buffer);
        Ok(gst::FlowSuccess::Ok)
    }
}

/// The pad's functions.
impl MunitFilter {
    pub(super) fn style_activate_mode(
        &self,
        mode: gst::PadMode,
        active: bool,
    ) -> Result<(), gst::LoggableError> {
        if mode != gst::PadMode::Push {
            return Err(gst::loggable_error!(CAT, "only push mode is supported"));
        }
        self.style_input.set_open(active);
        Ok(())
    }

    pub(super) fn style_chain(
        &self,
        buffer: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.style_input.offer(buffer)
    }

    /// Events end here: the main video has its own.
    pub(super) fn style_event(&self, pad: &gst::Pad, event: &gst::Event) -> bool {
        match event.view() {
            gst::EventView::Caps(caps) => match VideoInfo::from_caps(caps.caps()) {
                Ok(info) => self.style_input.state().info = Some(info),
                Err(error) => {
                    gst::error!(CAT, obj = pad, "{error}");
                    return false;
                }
            },
            gst::EventView::Segment(segment) => {
                let segment = segment.segment().downcast_ref::<gst::ClockTime>();
                self.style_input.state().segment = segment.cloned().unwrap_or_default();
            }
            gst::EventView::FlushStart(_) => self.style_input.set_open(false),
            gst::EventView::FlushStop(_) => self.style_input.set_open(true),
            _ => {}
        }
        true
    }

    pub(super) fn style_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Allocation(allocation) => live::propose_allocation(allocation, 1),
            gst::QueryViewMut::Caps(_) | gst::QueryViewMut::AcceptCaps(_) => {
                gst::Pad::query_default(pad, Some(&*self.obj()), query)
            }
            _ => false,
        }
    }
}
