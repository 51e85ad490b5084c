//! Two folders of pictures in, batches out: finding, checking, decoding, augmenting, ahead of time.
//!
//! - [`Source`] and [`DataLayout`] say where the pictures are;
//! - [`PictureSet`] holds those that can be used, and says why the others cannot;
//! - [`Loader`] turns two sets into an endless row of batches, on background threads.
//!
//! A batch is a pure function of the settings, the pictures and the number of the iteration. To go
//! on with a run, its number is all that must be remembered.

mod augment;
mod facts_cache;
mod likeness;
mod loader;
mod near_duplicates;
mod order;
mod picture_set;
mod source;
mod tensor;
#[cfg(test)]
mod test_pictures;
mod unusable;

pub use augment::Framing;
pub(crate) use facts_cache::{FactsCache, FileState, cache_folder};
pub use likeness::{Likeness, PictureFacts};
pub(crate) use loader::CACHE_BYTES;
pub use loader::{Batch, Loader, LoaderSettings};
pub use near_duplicates::NearDuplicates;
pub(crate) use picture_set::none_usable;
pub use picture_set::{PictureSet, Skipped};
pub use source::{DataLayout, Source, lies_inside};
pub(crate) use source::{files_below, is_picture};
pub use tensor::{load_picture, load_training_picture, tensor_to_rgb};
pub use unusable::Unusable;
pub(crate) use unusable::check as check_usable;
