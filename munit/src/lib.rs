//! MUNIT and UNIT image translation on libtorch: the networks, their model files and a fast
//! runtime. Knows nothing of GStreamer.

pub mod atomic_file;
pub mod backbone;
pub mod config;
pub mod error;
pub mod instruction_set;
pub mod layout;
pub mod model_file;
pub mod model_search;
pub mod networks;
pub mod picture_file;
pub mod runtime;
pub mod style_code;
pub mod style_file;

mod element;
mod moments;
mod openmp;
mod processors;
mod simd;
mod vector_math;

pub use config::{Architecture, Direction, Domain, Family};
pub use error::{Error, Result};
pub use model_file::{Model, ModelFile, ModelMetadata};
pub use style_code::StyleCode;

// The helpers of the tests in tests/ serve unit tests, too.
#[cfg(test)]
extern crate self as munit;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod test_models;
