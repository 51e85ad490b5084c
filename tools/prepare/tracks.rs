//! The tracks of files, as demuxers find them.

use gst::prelude::*;

/// Has `look` look at the pad of every track that a demuxer within `bin` will find.
pub fn look_at_tracks(
    bin: &impl IsA<gst::Bin>,
    look: impl Fn(&gst::Pad) + Clone + Send + Sync + 'static,
) {
    bin.connect_deep_element_added(move |_, _, element| {
        if is_demuxer(element) {
            let look = look.clone();
            element.connect_pad_added(move |_, pad| look(pad));
        }
    });
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
