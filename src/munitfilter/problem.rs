//! What can be wrong with what a person has set, ready for the bus.

use std::path::Path;

/// What to do about a model that cannot be used.
pub(super) const NAME_A_MODEL: &str = "Set the property model to a model file, for example one \
                                       that munit-export or munit-import has written.";

/// A sentence for the person, and the code that a program sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub code: gst::ResourceError,
    pub text: String,
}

impl Problem {
    /// A property whose value cannot be used.
    pub fn setting(text: impl Into<String>) -> Self {
        Self {
            code: gst::ResourceError::Settings,
            text: text.into(),
        }
    }

    /// A model that cannot be used; the text names its file.
    pub fn with_model(path: &Path, error: &munit::Error) -> Self {
        use munit::Error;

        let code = match error {
            Error::Io { reason, .. } => match reason.kind() {
                std::io::ErrorKind::NotFound => gst::ResourceError::NotFound,
                _ => gst::ResourceError::OpenRead,
            },
            Error::ModelFile { .. } | Error::Weights(_) => gst::ResourceError::Read,
            error if error.is_out_of_memory() => gst::ResourceError::NoSpaceLeft,
            Error::Torch(_) => gst::ResourceError::Failed,
            _ => gst::ResourceError::Settings,
        };
        let mut text = error.to_string();
        let name = path.display().to_string();
        if !text.contains(&name) {
            text = format!("{name}: {text}");
        }
        if matches!(
            error,
            Error::Io { .. } | Error::ModelFile { .. } | Error::Weights(_)
        ) {
            text = format!("{text}. {NAME_A_MODEL}");
        }
        Self { code, text }
    }

    /// A thread that the system does not give.
    pub fn without_thread(error: &std::io::Error) -> Self {
        Self {
            code: gst::ResourceError::Failed,
            text: format!("cannot start a thread: {error}"),
        }
    }

    /// For an element error.
    pub fn to_error_message(&self) -> gst::ErrorMessage {
        gst::error_msg!(self.code, ("{}", self.text))
    }
}
