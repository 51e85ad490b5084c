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
    /// The element's `max-in-flight`: frames that it translates at once; 0 is its own choice.
    #[serde(default)]
    pub max_in_flight: u32,
    /// Frames that were timed in each turn.
    pub turn: usize,
    /// Milliseconds from frame to frame behind `videotestsrc ! munitfilter`.
    pub ms: Vec<f64>,
    /// Milliseconds of each frame through the network by itself.
    pub network_ms: Vec<f64>,
    /// Milliseconds from frame to frame behind `videotestsrc` alone.
    pub source_ms: Vec<f64>,
}

/// Milliseconds a frame, by turns.
pub struct PerFrame {
    /// Behind `videotestsrc ! munitfilter`.
    pub pipeline: Spread,
    /// Through the network by itself.
    pub network: Spread,
    /// Behind `videotestsrc` alone.
    pub source: Spread,
    /// How many times as long as in the network by itself a frame takes in the pipeline, the two turns
    /// of each round held against each other.
    pub ratio: f64,
}

impl PipelineResult {
    /// `None` without frames.
    ///
    /// A turn's time is divided by its frames: where several are translated at once, they come in
    /// bursts, and the time from one to the next says nothing.
    pub fn per_frame(&self) -> Option<PerFrame> {
        let turns = |ms: &[f64]| -> Vec<f64> {
            let turns = ms.chunks(self.turn.max(1));
            turns
                .map(|turn| turn.iter().sum::<f64>() / turn.len() as f64)
                .collect()
        };
        let (pipeline, network) = (turns(&self.ms), turns(&self.network_ms));
        let rounds = pipeline.iter().zip(&network);
        let ratios: Vec<f64> = rounds
            .map(|(pipeline, network)| pipeline / network)
            .collect();
        Some(PerFrame {
            pipeline: Spread::of(&pipeline)?,
            network: Spread::of(&network)?,
            source: Spread::of(&turns(&self.source_ms))?,
            ratio: Spread::of(&ratios)?.median,
        })
    }
}

impl fmt::Display for PipelineResult {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        writeln!(formatter, "{}", self.subject)?;
        let Some(per_frame) = self.per_frame() else {
            return Ok(());
        };
        for (name, spread) in [
            ("videotestsrc ! munitfilter ! fakesink", per_frame.pipeline),
            ("the network by itself", per_frame.network),
            ("videotestsrc ! fakesink", per_frame.source),
        ] {
            let rate = 1e3 / spread.median;
            writeln!(
                formatter,
                "{name:<38} {spread}, {rate:.1} frames per second"
            )?;
        }
        writeln!(
            formatter,
            "{:<38} {:.3}",
            "pipeline to network", per_frame.ratio
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::size::FrameSize;

    #[test]
    fn frames_that_come_in_bursts_are_counted_by_their_turn() {
        let result = PipelineResult {
            subject: Subject {
                model: "dim 8".to_owned(),
                dim: 8,
                size: FrameSize {
                    width: 64,
                    height: 64,
                },
                device: "cpu".to_owned(),
                precision: "fp32".to_owned(),
                threads: 2,
                multiply_adds_per_pixel: 1.0,
            },
            max_in_flight: 2,
            turn: 4,
            // Two at a time; the machine is half as fast in the second round.
            ms: vec![8.0, 0.0, 8.0, 0.0, 16.0, 0.0, 16.0, 0.0],
            network_ms: vec![4.0, 4.0, 4.0, 4.0, 8.0, 8.0, 8.0, 8.0],
            source_ms: vec![0.1; 8],
        };
        let per_frame = result.per_frame().unwrap();
        assert_eq!(per_frame.ratio, 1.0);
        assert_eq!(per_frame.pipeline.median, 6.0);
        assert_eq!(per_frame.network.median, 6.0);
    }
}
