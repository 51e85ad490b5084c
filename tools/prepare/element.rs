//! Elements of pipelines.

use anyhow::{Result, anyhow};

/// A new element.
///
/// # Errors
/// A sentence that says what to install, if GStreamer has none of this name here.
pub fn made(factory: &str) -> Result<gst::Element> {
    gst::ElementFactory::make(factory).build().map_err(|_| {
        anyhow!(
            "GStreamer has no element {factory}; install its base and good plugins (Debian: \
             gstreamer1.0-plugins-base, gstreamer1.0-plugins-good)"
        )
    })
}
