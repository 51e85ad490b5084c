//! How frames pass through the element: threads with hand-overs between them.
//!
//! ```text
//! upstream's thread ──▶ slot ──▶ planner ──▶ workers ──▶ line ──▶ output task ──▶ downstream
//!   (chain, events)    1 frame  (decides)  (translate)  (in order) (pushes, waits for the sink's clock)
//! ```
//!
//! The workers never wait for a clock and the output never waits for the network, so each can go
//! at its own pace. When upstream is live, a newer frame replaces the one in the slot; otherwise
//! upstream waits until the slot is free and every frame is translated. The planner takes a frame from
//! the slot when a worker is free for it, and keeps its place in line. Events take their places there
//! between the frames.

mod allocation;
mod course;
mod departures;
mod exchange;
mod in_flight;
mod latency;
mod output;
mod planner;
mod worker;

pub(super) use allocation::propose_allocation;
pub(super) use departures::Output;
pub(super) use exchange::{Frame, LARGEST_BACKLOG};
pub(super) use latency::LatencyEstimator;
pub(super) use output::push;
pub(super) use planner::Planner;

/// The hand-overs, for the frames that this element translates.
pub(super) type Exchange = exchange::Exchange<worker::Task>;
