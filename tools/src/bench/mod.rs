//! Measurements: of the network, of the element in a pipeline, of starting up, of training. Every
//! result can be written as one JSON object; the figures are milliseconds, one for each frame.

pub mod compare;
pub mod network;
pub mod peers;
pub mod pipeline;
pub mod random_model;
pub mod size;
pub mod start;
pub mod statistics;
pub mod subject;
