//! Why a pipeline has stopped.

use std::cell::{Cell, RefCell};

use anyhow::{Context, Result, anyhow};
use gst::prelude::*;

/// Looks out for what stops a pipeline.
pub struct Watch {
    bus: gst::Bus,
    /// What GStreamer has said to be missing, for example "H.264 (High Profile) decoder".
    missing: RefCell<Option<String>>,
    /// Whether all sinks have all that there is.
    ended: Cell<bool>,
}

impl Watch {
    /// Over all of `pipeline`.
    ///
    /// # Errors
    /// Something that has no bus.
    pub fn over(pipeline: &gst::Pipeline) -> Result<Self> {
        Ok(Self {
            bus: pipeline.bus().context("the pipeline has no bus")?,
            missing: RefCell::default(),
            ended: Cell::default(),
        })
    }

    /// Waits at most so long until the pipeline has stopped or all sinks have all that there is.
    pub fn wait_for_end(&self, patience: gst::ClockTime) {
        if !self.ended.get() {
            let ends = [gst::MessageType::Eos, gst::MessageType::Error];
            let end = self.bus.timed_pop_filtered(patience, &ends);
            self.ended.set(end.is_some());
        }
    }

    /// What has stopped the pipeline, if something has. A missing decoder is the more telling reason
    /// where something else is told, too.
    pub fn failure(&self) -> Option<Failure> {
        use gst::MessageType as Kind;
        let kinds = [Kind::Error, Kind::Element, Kind::Eos];
        while let Some(message) = self.bus.pop_filtered(&kinds) {
            match message.view() {
                gst::MessageView::Element(element) => {
                    let missing = element.structure().and_then(missing_plugin);
                    self.missing
                        .replace_with(|before| before.take().or(missing));
                }
                gst::MessageView::Error(error) => {
                    self.ended.set(true);
                    return Some(Failure {
                        missing: self.missing.take(),
                        error: error.error(),
                    });
                }
                _ => self.ended.set(true),
            }
        }
        None
    }
}

/// What stopped a pipeline.
pub struct Failure {
    missing: Option<String>,
    error: gst::glib::Error,
}

impl Failure {
    /// Whether the file is of another kind than was expected.
    pub fn is_of_another_kind(&self) -> bool {
        use gst::StreamError as Stream;
        let kind = self.error.kind::<Stream>();
        self.missing.is_none() && matches!(kind, Some(Stream::TypeNotFound | Stream::WrongType))
    }

    /// That `what` cannot be decoded, and why.
    pub fn sentence(&self, what: &str) -> anyhow::Error {
        match &self.missing {
            Some(missing) => anyhow!(
                "{what} cannot be decoded without this, which GStreamer lacks here: {missing}; \
                 install the plugin that holds it (Debian: gstreamer1.0-libav, \
                 gstreamer1.0-plugins-good, -bad or -ugly)"
            ),
            None => anyhow!(
                "{what} cannot be decoded: {}",
                self.error.message().trim_end_matches('.')
            ),
        }
    }
}

fn missing_plugin(structure: &gst::StructureRef) -> Option<String> {
    if structure.name() != "missing-plugin" {
        return None;
    }
    structure.get::<String>("name").ok()
}
