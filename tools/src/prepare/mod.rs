//! Pictures to train on, made from photographs: line drawings, illustrations,
//! things cut out of their background, halves of a set.

pub mod background;
pub mod cutout;
pub mod edges;
pub mod filters;
pub mod folder;
pub mod illustrate;
