//! The output task: pushes what the worker has finished, and waits for the sink.

use gst::prelude::*;

use super::allocation::decide_allocation;
use super::{Exchange, Output};

/// Pushes one frame or event. The error says why nothing more can be pushed.
pub(crate) fn push(
    exchange: &Exchange,
    src_pad: &gst::Pad,
    output: Output,
) -> Result<(), gst::FlowError> {
    match output {
        Output::Event(event) => {
            gst::log!(super::super::CAT, obj = src_pad, "pushing {event:?}");
            let caps = match event.view() {
                gst::EventView::Caps(event) => Some(event.caps_owned()),
                _ => None,
            };
            // A refused sticky event comes back as the next frame's error.
            src_pad.push_event(event);
            if let Some(caps) = caps {
                src_pad.check_reconfigure();
                negotiate_pool(exchange, src_pad, &caps)?;
            }
        }
        Output::Frame(buffer) => {
            if src_pad.check_reconfigure()
                && let Some(caps) = src_pad.current_caps()
            {
                negotiate_pool(exchange, src_pad, &caps)?;
            }
            gst::debug!(
                super::super::CAT,
                obj = src_pad,
                "pushing {:?}",
                buffer.pts()
            );
            src_pad.push(buffer)?;
        }
    }
    Ok(())
}

fn negotiate_pool(
    exchange: &Exchange,
    src_pad: &gst::Pad,
    caps: &gst::Caps,
) -> Result<(), gst::FlowError> {
    match decide_allocation(src_pad, caps, exchange.most_places()) {
        Ok(pool) => {
            exchange.set_pool(pool);
            Ok(())
        }
        Err(_) if src_pad.pad_flags().contains(gst::PadFlags::FLUSHING) => {
            Err(gst::FlowError::Flushing)
        }
        Err(error) => {
            gst::error!(
                super::super::CAT,
                obj = src_pad,
                "no output frames for {caps}: {error}"
            );
            Err(gst::FlowError::NotNegotiated)
        }
    }
}
