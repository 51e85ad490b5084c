//! What can go wrong in this package, in sentences for the person in front of the screen.

use std::path::PathBuf;

/// Result with this package's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of this package; its `Display` is a complete sentence that can be shown as is.
///
/// The causes are part of the sentence, so that none is given as its `source()`: a program that
/// prints the whole chain would say it twice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An architecture or option that no network can have.
    #[error("{0}")]
    Config(String),
    /// A file that could not be read or written.
    #[error("{}: {action}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done, for example "cannot read".
        action: &'static str,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// A model file that is truncated, foreign, damaged or made for another network.
    #[error("{}: {problem}", path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// A tensor that a network needs and its weights lack, or that has another shape.
    #[error("{0}")]
    Weights(String),
    /// A style code that does not fit the model.
    #[error("{0}")]
    Style(String),
    /// A device that is not there or not usable.
    #[error("{0}")]
    Device(String),
    /// A picture whose size or format cannot be translated.
    #[error("{0}")]
    Picture(String),
    /// libtorch refused; carries its first line.
    #[error("libtorch: {}", first_line(.0))]
    Torch(tch::TchError),
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error)
    }
}

impl Error {
    /// Whether libtorch failed because the device has no memory left.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Error::Torch(error) if {
            let text = error.to_string();
            // libtorch's, C++'s, and those of cuDNN and cuBLAS.
            ["out of memory", "can't allocate memory", "bad_alloc", "_ALLOC_FAILED"]
                .iter()
                .any(|part| text.contains(part))
        })
    }
}

/// libtorch appends a C++ back trace to its messages, which helps nobody here.
fn first_line(error: &tch::TchError) -> String {
    let text = match error {
        tch::TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}
