//! How far the data of a file reach, whatever becomes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gst::prelude::*;

/// The latest time of anything that has come out of some pads.
#[derive(Clone, Default)]
pub struct Reach(Arc<AtomicU64>);

impl Reach {
    /// Takes note of what comes out of `pad`.
    pub fn look_at(&self, pad: &gst::Pad) {
        let all = self.clone();
        let pieces = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        pad.add_probe(pieces, move |pad, info| {
            let latest = match &info.data {
                Some(gst::PadProbeData::Buffer(piece)) => end(pad, piece),
                Some(gst::PadProbeData::BufferList(pieces)) => {
                    pieces.iter().filter_map(|piece| end(pad, piece)).max()
                }
                _ => None,
            };
            if let Some(latest) = latest {
                all.0.fetch_max(latest.nseconds(), Ordering::SeqCst);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// The end of the latest piece so far, counted from the beginning of the file; zero if there was none.
    pub fn end(&self) -> gst::ClockTime {
        gst::ClockTime::from_nseconds(self.0.load(Ordering::SeqCst))
    }
}

fn end(pad: &gst::Pad, piece: &gst::BufferRef) -> Option<gst::ClockTime> {
    let end = piece.pts().or(piece.dts())? + piece.duration().unwrap_or_default();
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
    segment.to_running_time(end)
}
