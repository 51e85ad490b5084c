//! Where the time of a frame goes.

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::network::Network;
use super::statistics::Spread;
use super::subject::{ModelChoice, RunOptions, Subject};

/// Times of a frame's steps, each of which was waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepsResult {
    /// What was measured.
    #[serde(flatten)]
    pub subject: Subject,
    /// The steps in their order.
    pub steps: Vec<Step>,
}

/// Steps of the same kind, which a frame may have many of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What is done.
    pub name: String,
    /// How often in a frame.
    pub times: usize,
    /// Milliseconds of all of them together, in each frame.
    pub ms: Vec<f64>,
}

/// Measures `frames` frames after `warm_up` others.
///
/// # Errors
/// Those of [`Network::load`] and [`Network::measure`].
pub fn measure_steps(
    model: &ModelChoice,
    options: &RunOptions,
    warm_up: usize,
    frames: usize,
) -> Result<StepsResult> {
    let mut network = Network::load(model, options)?;
    network.measure(warm_up)?;
    let mut steps: Vec<Step> = vec![];
    for frame in 0..frames {
        for (name, duration) in network.steps()? {
            let ms = duration.as_secs_f64() * 1e3;
            let place = steps.iter().position(|step| step.name == name);
            let step = match place {
                Some(place) => &mut steps[place],
                None => {
                    steps.push(Step {
                        name,
                        times: 0,
                        ms: vec![0.0; frames],
                    });
                    let last = steps.len() - 1;
                    &mut steps[last]
                }
            };
            step.ms[frame] += ms;
            step.times += usize::from(frame == 0);
        }
    }
    Ok(StepsResult {
        subject: network.subject().clone(),
        steps,
    })
}

impl fmt::Display for StepsResult {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        writeln!(formatter, "{}", self.subject)?;
        let mut all = 0.0;
        for Step { name, times, ms } in &self.steps {
            let median = Spread::of(ms).map_or(0.0, |spread| spread.median);
            all += median;
            writeln!(formatter, "{times:>4} times {name:<52} {median:>9.3} ms")?;
        }
        writeln!(
            formatter,
            "{:<63}{all:>9.3} ms",
            "all, each step waited for"
        )
    }
}
