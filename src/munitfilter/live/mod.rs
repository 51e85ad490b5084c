//! How frames pass through the element: three threads with two hand-overs between them.
//!
//! ```text
//! upstream's thread ──▶ slot ──▶ worker ──▶ queue ──▶ output task ──▶ downstream
//!   (chain, events)    1 frame  (translates)         (pushes, waits for the sink's clock)
//! ```
//!
//! The worker never waits for a clock and the output never waits for the network, so each can go
//! at its own pace. When upstream is live, a newer frame replaces the one in the slot; otherwise
//! upstream waits until the slot is free and every frame is translated. Events travel in the same
//! line as the frames.

mod allocation;
mod exchange;
mod latency;
mod output;
mod worker;

pub(super) use allocation::propose_allocation;
pub(super) use exchange::{Exchange, Frame, LARGEST_BACKLOG, Output};
pub(super) use latency::LatencyEstimator;
pub(super) use output::push;
pub(super) use worker::Worker;
