//! GStreamer plugin `munit`: the element [`munitfilter`], which translates live video
//! into another visual domain with a MUNIT generator.

pub mod munitfilter;

pub use plugin::plugin_register_static;

#[allow(
    missing_docs,
    reason = "plugin_define! makes public items and documents none"
)]
mod plugin {

    fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
        crate::munitfilter::register(plugin)
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
}
