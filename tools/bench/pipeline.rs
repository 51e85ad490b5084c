//! The element in a pipeline and the network by itself, in turns, so that a ratio holds on a machine
//! that has other things to do.

use anyhow::Result;
use gst::prelude::*;
use munit_tools::bench::network::Network;
use munit_tools::bench::pipeline::PipelineResult;
use munit_tools::bench::subject::{ModelChoice, RunOptions};

use crate::line::{Line, munitfilter, start_gstreamer};

/// Frames that are not timed after each rest: those that were on their way, and the first ones.
const SKIPPED: usize = 4;

/// Frames with the first of which the element finds out how many to translate at once, where that is its
/// own choice: four turns of 19 frames where it may take four, see `munitfilter/live/in_flight.rs`.
const UNSETTLED: usize = 80;

/// Times `frames` frames each in `rounds` rounds; the element translates up to `max_in_flight` at
/// once, 0 is its own choice.
///
/// # Errors
/// A model that cannot be read; GStreamer's and the network's.
pub fn measure(
    model: &ModelChoice,
    options: &RunOptions,
    max_in_flight: u32,
    rounds: usize,
    frames: usize,
) -> Result<PipelineResult> {
    start_gstreamer()?;
    let mut network = Network::load(model, options)?;
    let file = model.file()?;
    let element = munitfilter(file.path(), options)?;
    element.set_property("max-in-flight", max_in_flight);
    let pipeline = Line::new(Some(element), options.size)?;
    let source = Line::new(None, options.size)?;
    let mut result = PipelineResult {
        subject: network.subject().clone(),
        max_in_flight,
        turn: frames,
        ms: vec![],
        network_ms: vec![],
        source_ms: vec![],
    };
    if max_in_flight == 0 {
        pipeline.measure(UNSETTLED, 1)?;
    }
    for _ in 0..rounds {
        result.source_ms.extend(source.measure(SKIPPED, frames)?);
        network.measure(SKIPPED)?;
        result.network_ms.extend(network.measure(frames)?);
        result.ms.extend(pipeline.measure(SKIPPED, frames)?);
    }
    Ok(result)
}
