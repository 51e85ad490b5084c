//! The charts of the page of benchmarks.

mod bars;
mod dots;
mod lines;

pub use bars::{BarPanel, bar_panels};
pub use dots::{DotRow, dot_rows};
pub use lines::{Series, cost_by_pixels};
