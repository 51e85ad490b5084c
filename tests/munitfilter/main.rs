//! The element from outside: real pipelines, real networks with random weights.

mod allocation;
mod citizen;
mod control;
mod errors;
mod in_flight;
mod live;
mod reports;
mod scenarios;
mod styles;
mod support;
mod translation;
