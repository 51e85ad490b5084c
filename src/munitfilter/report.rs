//! What the element tells: statistics, messages, and marks on the frames that it has translated.

use std::sync::Arc;
use std::time::{Duration, Instant};

use munit::StyleCode;
use munit::runtime::{DeviceChoice, device_memory};
use tch::Device;

use super::loaded_model::LoadedModel;
use super::stats::{Spread, Stage, Statistics};
use super::style_choice::code_text;

/// Name of the custom meta on translated frames; its structure has `model`, `direction` and `style`.
pub const META_NAME: &str = "GstMunitFilterMeta";
/// Name of the structure of the property `stats` and of the message that carries it.
pub const STATS_NAME: &str = "munitfilter-stats";
/// Name of the message that says that quality=auto has changed the inference size.
pub const SIZE_MESSAGE_NAME: &str = "munitfilter-inference-size";

/// What is in use.
#[derive(Clone)]
pub(super) struct InUse {
    pub model: Arc<LoadedModel>,
    /// Shorter side at which the network runs; 0 before the first frame.
    pub inference_size: u32,
}

/// The structure of the property `stats`.
pub(super) fn stats_structure(
    statistics: &mut Statistics,
    translated: u64,
    in_use: Option<&InUse>,
) -> gst::Structure {
    let now = Instant::now();
    let (rate_in, rate_out) = statistics.rates(now);
    let mut builder = gst::Structure::builder(STATS_NAME)
        .field("frames-in", statistics.frames_in)
        .field("translated", translated)
        .field("frames-out", statistics.frames_out)
        .field("dropped-replaced", statistics.replaced)
        .field("dropped-failed", statistics.failed)
        .field("repeated", statistics.repeated)
        .field("fps-in", rate_in)
        .field("fps-out", rate_out)
        .field("memory", resident_bytes());
    for stage in Stage::ALL {
        let spread = statistics.spread(now, stage);
        builder = builder.field(stage.name(), spread_structure(stage, spread));
    }
    if let Some(in_use) = in_use {
        builder = builder
            .field("model", in_use.model.name())
            .field("device", device_name(in_use.model.device))
            .field("precision", in_use.model.precision.to_string())
            .field("inference-size", in_use.inference_size);
        if let Some(bytes) = device_memory(in_use.model.device) {
            builder = builder.field("device-memory", bytes);
        }
        if let Some(hash) = in_use.model.hash() {
            builder = builder.field("model-sha256", hash);
        }
    }
    builder.build()
}

/// `cpu` or `cuda:N`.
fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(number) => DeviceChoice::Cuda(number),
        _ => DeviceChoice::Cpu,
    }
    .to_string()
}

/// Times in microseconds.
fn spread_structure(stage: Stage, spread: Spread) -> gst::Structure {
    let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    gst::Structure::builder(stage.name())
        .field("p50", microseconds(spread.median))
        .field("p95", microseconds(spread.p95))
        .field("max", microseconds(spread.max))
        .build()
}

/// Memory of the whole process that is in RAM; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let kilobytes = std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
    kilobytes.unwrap_or(0) * 1024
}

/// Makes the meta known to GStreamer.
pub(super) fn register_meta() {
    static REGISTERED: std::sync::Once = std::sync::Once::new();
    REGISTERED.call_once(|| gst::meta::CustomMeta::register(META_NAME, &[]));
}

/// Marks a frame as translated.
pub(super) fn mark(buffer: &mut gst::BufferRef, model: &LoadedModel, style: &StyleCode) {
    if let Ok(mut meta) = gst::meta::CustomMeta::add(buffer, META_NAME) {
        let structure = meta.mut_structure();
        structure.set("model", model.name());
        structure.set("direction", model.direction.name());
        structure.set("style", code_text(style));
    }
}

/// What the stream's tags say of the translation.
pub(super) fn comment(model: &LoadedModel) -> String {
    format!(
        "translated by munitfilter with {} ({})",
        model.name(),
        model.direction.name()
    )
}

/// Upstream's tags and the translation's.
pub(super) fn tags_with_comment(tags: Option<&gst::TagListRef>, comment: &str) -> gst::TagList {
    let mut merged = tags.map(gst::TagListRef::to_owned).unwrap_or_default();
    merged
        .make_mut()
        .add::<gst::tags::Comment>(&comment, gst::TagMergeMode::Append);
    merged
}
