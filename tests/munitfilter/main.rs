//! The element from outside: real pipelines, real networks with random weights.

mod allocation;
mod control;
mod errors;
mod live;
mod support;
mod translation;
