//! What a training run shows: a progress bar, loss curves, sample sheets.

pub mod progress;
pub mod scalars;
pub mod sheet;
pub mod tensorboard;

pub use progress::Progress;
pub use scalars::ScalarLog;
pub use sheet::Sheet;
pub use tensorboard::EventWriter;
