//! The tracks of files, as demuxers find them.

use anyhow::{Context, Result};
use gst::prelude::*;

/// What a demuxer has found.
pub enum Found<'a> {
    /// A track, which comes out of this pad.
    Track(&'a gst::Pad),
    /// That there are no more.
    All,
}

/// Tells `look` what demuxers within `bin` will find.
pub fn look_at_tracks(
    bin: &impl IsA<gst::Bin>,
    look: impl Fn(Found) + Clone + Send + Sync + 'static,
) {
    bin.connect_deep_element_added(move |_, _, element| {
        if is_demuxer(element) {
            let tell = look.clone();
            element.connect_pad_added(move |_, pad| tell(Found::Track(pad)));
            let tell = look.clone();
            element.connect_no_more_pads(move |_| tell(Found::All));
        }
    });
}

/// Lets what comes out of `pad`, a part of `source`, go nowhere, so that all else can go on.
///
/// # Errors
/// GStreamer's.
pub fn lead_nowhere(source: &gst::Element, pad: &gst::Pad) -> Result<()> {
    let nowhere = gst::ElementFactory::make("fakesink")
        .property("sync", false)
        .property("async", false)
        .property("enable-last-sample", false)
        .build()?;
    let pipeline = source.parent().and_downcast::<gst::Bin>();
    pipeline.context("no pipeline")?.add(&nowhere)?;
    nowhere.sync_state_with_parent()?;
    pad.link(&nowhere.static_pad("sink").context("no pad")?)?;
    Ok(())
}

/// The format of what comes out of a pad.
pub fn format(pad: &gst::Pad) -> gst::Caps {
    pad.current_caps().unwrap_or_else(|| pad.query_caps(None))
}

/// Whether a format's name begins so.
pub fn is_kind(caps: &gst::Caps, kind: &str) -> bool {
    let format = caps.structure(0);
    format.is_some_and(|format| format.name().starts_with(kind))
}

fn is_demuxer(element: &gst::Element) -> bool {
    let factory = element.factory();
    let kind = factory
        .as_ref()
        .and_then(|factory| factory.metadata("klass"));
    kind.is_some_and(|kind| kind.contains("Demux"))
}
