//! GStreamer plugin `munit`: the element [`munitfilter`](munitfilter), which translates live video
//! into another visual domain with a MUNIT generator.

use gst::glib;

pub mod munitfilter;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    munitfilter::register(plugin)
}

gst::plugin_define!(
    munit,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
