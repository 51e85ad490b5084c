//! SECTION:element-munitfilter
//!
//! Translates video into another visual domain with a MUNIT or UNIT generator: what the picture
//! shows stays, what it looks like is a style code, a short vector that can be written down, drawn
//! from a seed, taken from an example picture or called by its name, and that glides to a new one
//! while the video plays.
//!
//! ## Example launch lines
//!
//! A camera as an illustration, with the shipped model:
//! ```text
//! gst-launch-1.0 v4l2src ! videoconvertscale ! munitfilter inference-size=256 ! videoconvert ! autovideosink
//! ```
//! A file in the style of a picture:
//! ```text
//! gst-launch-1.0 filesrc location=walk.mp4 ! decodebin ! videoconvert ! deinterlace ! videoconvert ! munitfilter style-image=print.png ! videoconvert ! x264enc ! mp4mux ! filesink location=print.mp4
//! ```
//! Without a camera, in a style drawn from a seed:
//! ```text
//! gst-launch-1.0 videotestsrc num-buffers=30 ! video/x-raw,width=160,height=120 ! munitfilter style-seed=3 ! videoconvert ! x264enc ! mp4mux ! filesink location=pattern.mp4
//! ```
//!
//! ## Models
//! The property `model` is the path of a model file, or the name of a model that lies in one of
//! these folders (with or without `.safetensors`): `models` and `munitfilter/models` beside the
//! plugin, `models` two folders above it (a plugin in `target/release`),
//! `share/munitfilter/models` of the prefix that the plugin is installed under (what its `lib` lies
//! in), and `munitfilter/models` in `$XDG_DATA_HOME` and each of `$XDG_DATA_DIRS`. Without it,
//! `photo2illustration` is used.
//! A missing or broken model is an error on the way from READY to PAUSED.
//!
//! ## Styles
//! `style-mode` says where the style comes from: `fixed` is `style` or `style-name` (if neither is
//! set, the model's style named `default`, or its mean style), `random` is drawn from `style-seed`
//! (anew every `style-interval`), `drift` walks smoothly through all styles, `tour` visits the
//! named ones, `example` is taken from the picture `style-image`, `follow` from the video on the
//! request pad `style_sink`. Setting one of the four style properties switches the mode to its own,
//! so the one set last counts; setting `style` clears `style-name` and the other way round. A
//! change glides: with `style-smoothing=T`, after T milliseconds of stream time the way that is
//! left is 1/e, at any frame rate. `style-mix` goes from there to a second style, `style-mix-with`.
//!
//! The action signals `next-style`, `sample-style` and `save-style` change, draw and keep styles;
//! those kept lie in `MODEL.styles.json` beside the model.
//!
//! ## Changes while playing
//! All properties can be changed in every state. A new model, direction, device or precision loads
//! in the background and then cross-fades over `style-smoothing`. A value that cannot be used posts
//! a warning message, and the property goes back to the one in use. GLib itself refuses a number
//! outside its property's range, with a warning in the log, and the property stays as it was.
//!
//! ## Live and not
//! When upstream is live, a frame that still waits for the network gives way to a newer one, and
//! QOS messages count what was dropped. With `quality=auto` the network runs at the largest size
//! that keeps the frame rate. The element answers the LATENCY query with what it measures. It posts
//! a LATENCY message when that changes, to which a program answers with
//! `gst_bin_recalculate_latency()`, as gst-launch does. Without a live upstream every frame is
//! translated.
//!
//! ## Formats
//! RGB and BGR in three bytes, in four with padding or alpha on either side, and in three planes;
//! 16×16 to 8192×8192 pixels, progressive. Alpha, colorimetry and all metas are kept.

use gst::prelude::*;
use std::sync::LazyLock;

mod engine;
mod fade;
mod governor;
mod imp;
mod live;
mod loaded_model;
mod model_search;
mod pads;
mod picture;
mod preparer;
mod problem;
mod report;
mod settings;
mod static_input;
mod stats;
mod style_actions;
mod style_choice;
mod style_director;
mod style_input;
mod style_path;

/// What `GST_DEBUG=munitfilter:LEVEL` shows.
static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "munitfilter",
        gst::DebugColorFlags::empty(),
        Some("Image translation with MUNIT"),
    )
});

/// What libtorch has to say: `GST_DEBUG=munitfilter-libtorch:LEVEL`.
static LIBTORCH_CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "munitfilter-libtorch",
        gst::DebugColorFlags::empty(),
        Some("Warnings of libtorch on munitfilter's threads"),
    )
});

/// Takes libtorch's warnings on the calling thread into the debug log.
fn log_libtorch_warnings() {
    munit::runtime::forward_warnings(|text| gst::warning!(LIBTORCH_CAT, "{text}"));
}

glib::wrapper! {
    /// The element `munitfilter`.
    pub struct MunitFilter(ObjectSubclass<imp::MunitFilter>) @extends gst::Element, gst::Object, @implements gst::Preset;
}

/// From which of a model's two domains to which frames are translated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstMunitFilterDirection")]
pub enum Direction {
    /// From domain a to domain b.
    #[default]
    #[enum_value(name = "From domain a to domain b", nick = "a2b")]
    A2b,
    /// From domain b to domain a.
    #[enum_value(name = "From domain b to domain a", nick = "b2a")]
    B2a,
}

impl From<Direction> for munit::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::A2b => Self::A2b,
            Direction::B2a => Self::B2a,
        }
    }
}

/// Number format that the network computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstMunitFilterPrecision")]
pub enum Precision {
    /// The fastest that the device computes well.
    #[default]
    #[enum_value(name = "The fastest that the device computes well", nick = "auto")]
    Auto,
    /// 32-bit floating point.
    #[enum_value(name = "32-bit floating point", nick = "fp32")]
    Fp32,
    /// 16-bit brain floating point.
    #[enum_value(name = "16-bit brain floating point", nick = "bf16")]
    Bf16,
    /// 16-bit IEEE floating point, on CUDA devices.
    #[enum_value(name = "16-bit floating point, on CUDA devices", nick = "fp16")]
    Fp16,
}

impl From<Precision> for munit::runtime::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Auto => Self::Auto,
            Precision::Fp32 => Self::Fp32,
            Precision::Bf16 => Self::Bf16,
            Precision::Fp16 => Self::Fp16,
        }
    }
}

/// Where the style comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstMunitFilterStyleMode")]
pub enum StyleMode {
    /// The properties `style` or `style-name`, else the model's own style.
    #[default]
    #[enum_value(
        name = "The property style or style-name, else the model's own",
        nick = "fixed"
    )]
    Fixed,
    /// Drawn from the property `style-seed`, anew every `style-interval`.
    #[enum_value(
        name = "Drawn from style-seed, anew every style-interval",
        nick = "random"
    )]
    Random,
    /// A smooth random walk through the styles.
    #[enum_value(
        name = "A smooth random walk from style-seed through all styles",
        nick = "drift"
    )]
    Drift,
    /// Through the model's named styles, each for `style-interval`.
    #[enum_value(
        name = "Through the named styles, each for style-interval",
        nick = "tour"
    )]
    Tour,
    /// Taken from the picture `style-image`.
    #[enum_value(name = "Taken from the picture style-image", nick = "example")]
    Example,
    /// Taken from the video that arrives on the pad `style_sink`.
    #[enum_value(name = "Taken from the video on the pad style_sink", nick = "follow")]
    Follow,
}

/// Whether the size at which the network runs may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstMunitFilterQuality")]
pub enum Quality {
    /// A live stream keeps its frame rate; others run at the full size.
    #[default]
    #[enum_value(
        name = "In a live pipeline the largest size that keeps the frame rate",
        nick = "auto"
    )]
    Auto,
    /// Always the full size.
    #[enum_value(name = "Always inference-size", nick = "fixed")]
    Fixed,
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    for api in [
        Direction::static_type(),
        Precision::static_type(),
        StyleMode::static_type(),
        Quality::static_type(),
    ] {
        api.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    report::register_meta();
    let folders = model_search::model_folders(plugin.filename().as_deref());
    model_search::offer_presets(&folders);
    gst::Element::register(
        Some(plugin),
        "munitfilter",
        gst::Rank::NONE,
        MunitFilter::static_type(),
    )
}
