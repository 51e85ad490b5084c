//! The element in a pipeline, beside the network by itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::statistics::Spread;
use super::subject::Subject;

/// Times of frames, measured in turns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineResult {
    /// What was measured.
    #[serde(flatten)]
    pub subject: Subject,
    /// Milliseconds from frame to frame behind `videotestsrc ! munitfilter`.
    pub ms: Vec<f64>,
    /// Milliseconds of each frame through the network by itself.
    pub network_ms: Vec<f64>,
    /// Milliseconds from frame to frame behind `videotestsrc` alone.
    pub source_ms: Vec<f64>,
}

impl PipelineResult {
    /// How many times as long as in the network by itself a frame takes in the pipeline, by the
    /// medians.
    pub fn ratio(&self) -> Option<f64> {
        let (pipeline, network) = (Spread::of(&self.ms)?, Spread::of(&self.network_ms)?);
        Some(pipeline.median / network.median)
    }
}

impl fmt::Display for PipelineResult {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        writeln!(formatter, "{}", self.subject)?;
        for (name, ms) in [
            ("videotestsrc ! munitfilter ! fakesink", &self.ms),
            ("the network by itself", &self.network_ms),
            ("videotestsrc ! fakesink", &self.source_ms),
        ] {
            if let Some(spread) = Spread::of(ms) {
                let rate = 1e3 / spread.median;
                writeln!(
                    formatter,
                    "{name:<38} {spread}, {rate:.1} frames per second"
                )?;
            }
        }
        match self.ratio() {
            Some(ratio) => writeln!(formatter, "{:<38} {ratio:.3}", "pipeline to network"),
            None => Ok(()),
        }
    }
}
