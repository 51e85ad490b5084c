//! Pictures to train on, made from photographs: line drawings, illustrations, halves of a set.

pub mod edges;
pub mod filters;
pub mod folder;
pub mod illustrate;
