//! Measurements: of the network, of the element in a pipeline, of starting up, of training. Every
//! result can be written as one JSON object, a [`record::Record`]; [`page`] makes a page of them.

pub mod chart;
pub mod compare;
pub mod matrix_product;
pub mod network;
pub mod page;
pub mod peers;
pub mod pipeline;
pub mod random_model;
pub mod record;
pub mod size;
pub mod start;
pub mod statistics;
pub mod steps;
pub mod subject;
pub mod train;
pub mod verify;
