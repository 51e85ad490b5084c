//! The fast path: a model on a device; a picture goes in, a picture comes out, no autograd.

pub mod device;
pub mod picture;
pub mod translator;

mod border;
mod cuda;
mod device_memory;
#[cfg(target_arch = "x86_64")]
mod direct;
mod free_memory;
mod generator;
mod kernels;
mod layers;
mod memory;
mod parallel;
mod pixels;
#[cfg(target_arch = "x86_64")]
mod products;
mod ring;
mod stream;
mod team;
#[cfg(target_arch = "x86_64")]
mod tile_convolution;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod vector;
mod warnings;
mod weights;
#[cfg(target_arch = "x86_64")]
mod winograd;

use crate::{element, simd};

pub use crate::openmp::tame_spinning;
pub use device::{DeviceChoice, Precision};
pub use device_memory::{device_memory, release_device_memory};
pub use free_memory::free_memory;
pub use parallel::use_threads;
pub use picture::{PictureFormat, PictureMut, PictureRef};
pub use translator::{Timings, TranslateOptions, Translator};
pub use warnings::forward_warnings;

pub(crate) use warnings::warn;
