//! What a training run shows: a progress bar, loss curves, sample sheets, a page.

pub mod budget;
pub mod history;
pub mod page;
pub mod progress;
pub mod scalars;
pub mod sheet;
pub mod tensorboard;

pub use budget::Budget;
pub use history::History;
pub use progress::Progress;
pub use scalars::ScalarLog;
pub use sheet::Sheet;
pub use tensorboard::EventWriter;
