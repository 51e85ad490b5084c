//! The network beside other engines, in turns, so that ratios hold on a machine that has other things
//! to do.

use std::fmt;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::matrix_product::matrix_product_teraflops;
use super::network::Network;
use super::peers::{LeftOut, PeerProgram, PeerTimes, Peers};
use super::statistics::Spread;
use super::subject::{ModelChoice, RunOptions, Subject};

/// Frames before those that are timed: of ours at the start, and of everyone in every turn.
const WARM_UP: usize = 3;

/// Times of the same network in several engines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompareResult {
    /// What was measured.
    #[serde(flatten)]
    pub subject: Subject,
    /// Our milliseconds of each frame, from frame bytes to frame bytes.
    pub ms: Vec<f64>,
    /// What a large matrix product reaches on a CUDA device, in the same format and run.
    #[serde(default)]
    pub matrix_product_teraflops: Option<f64>,
    /// The other engines.
    pub peers: Vec<PeerTimes>,
    /// Those that could not be measured.
    pub left_out: Vec<LeftOut>,
}

/// Times `frames` frames of each engine in `rounds` rounds. `wanted`: the engines, by what the program
/// of the others calls them; all where none is named. `tell` is told who is being started.
///
/// # Errors
/// When our own network cannot be measured, or the program of the others not be run at all; one of
/// them that fails is left out.
pub fn compare(
    model: &ModelChoice,
    options: &RunOptions,
    program: &PeerProgram,
    wanted: &[String],
    rounds: usize,
    frames: usize,
    tell: &dyn Fn(&str),
) -> Result<CompareResult> {
    let ModelChoice::Random { n_res, .. } = *model else {
        bail!("only networks with random weights are compared; give --dim");
    };
    let mut network = Network::load(model, options)?;
    let subject = network.subject().clone();
    let flags = [
        ("--dim", subject.dim.to_string()),
        ("--n-res", n_res.to_string()),
        ("--size", subject.size.to_string()),
        ("--threads", subject.threads.to_string()),
        ("--device", subject.device.clone()),
    ];
    let mut peers = Peers::start(program, &subject.device, wanted, &flags, tell)?;
    let (device, precision) = network.place();
    let matrix_product_teraflops = matrix_product_teraflops(device, precision)?;
    network.measure(WARM_UP)?;
    let mut ms = Vec::new();
    for round in 1..=rounds {
        tell(&format!("round {round} of {rounds}"));
        network.measure(1)?;
        ms.extend(network.measure(frames)?);
        peers.take_turns(frames);
    }
    let (peers, left_out) = peers.finish();
    Ok(CompareResult {
        subject,
        ms,
        matrix_product_teraflops,
        peers,
        left_out,
    })
}

impl fmt::Display for CompareResult {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        writeln!(formatter, "{}", self.subject)?;
        let Some(ours) = Spread::of(&self.ms) else {
            return Ok(());
        };
        let mut rows: Vec<_> = self
            .peers
            .iter()
            .filter_map(|peer| Some((peer.name.as_str(), Spread::of(&peer.ms)?)))
            .collect();
        rows.push(("munitfilter", ours));
        rows.sort_by(|(_, left), (_, right)| left.median.total_cmp(&right.median));
        for (name, spread) in rows {
            let ratio = spread.median / ours.median;
            writeln!(formatter, "{name:<46} {spread}, {ratio:.2} times ours")?;
        }
        if let Some(most) = self.matrix_product_teraflops {
            let reached = self.subject.teraflops(ours.median);
            writeln!(
                formatter,
                "{reached:.0} TFLOP/s; a large matrix product reaches {most:.0}"
            )?;
        }
        for one in &self.left_out {
            writeln!(formatter, "left out: {}: {}", one.name, one.reason)?;
        }
        Ok(())
    }
}
