//! The properties: what they are called, their ranges, and what a new value changes.

use std::sync::LazyLock;
use std::time::Duration;

use gst::prelude::*;
use munit::runtime::TranslateOptions;

use super::{Direction, Precision, Quality, StyleMode};

/// What decides which networks run where. A change means loading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EngineSettings {
    pub model: Option<String>,
    pub direction: Direction,
    pub device: String,
    pub precision: Precision,
}

/// What decides the style code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StyleSettings {
    pub mode: StyleMode,
    pub code: Option<String>,
    pub name: Option<String>,
    pub seed: u64,
    pub image: Option<String>,
    /// Time from one style to the next; zero stays at the first.
    pub interval: Duration,
    /// The style at the other end of the mix.
    pub mix_with: Option<String>,
    /// Styles of a tour that have been skipped.
    pub skipped: usize,
}

/// What may differ from frame to frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FrameSettings {
    pub strength: f64,
    pub style_mix: f64,
    pub style_smoothing: u32,
    pub quality: Quality,
    pub inference_size: u32,
    pub min_inference_size: u32,
    pub max_inference_size: u32,
    pub skip_static: bool,
    pub split: bool,
    pub split_position: f64,
    pub threads: u32,
    pub max_in_flight: u32,
    pub stats_interval: u32,
    pub debug_work: u32,
}

impl FrameSettings {
    /// The time constant of a style's glide.
    pub fn style_time_constant(&self) -> Duration {
        Duration::from_millis(self.style_smoothing.into())
    }

    /// Time from one message of statistics to the next; `None` posts none.
    pub fn stats_interval(&self) -> Option<Duration> {
        (self.stats_interval > 0).then(|| Duration::from_millis(self.stats_interval.into()))
    }

    /// What the translator has to know to run at `size` on frames of this width and height.
    pub fn options(&self, (width, height): (usize, usize), size: u32) -> TranslateOptions {
        let own = width.min(height);
        TranslateOptions {
            strength: self.strength as f32,
            inference_size: (size as usize != own).then_some(size),
        }
    }

    /// Artificial work added to each frame.
    pub fn debug_work(&self) -> Duration {
        Duration::from_millis(self.debug_work.into())
    }
}

/// Seeds end here so that a negative one, which GStreamer reads as a number of the upper half, is not
/// taken.
pub(super) const LARGEST_SEED: u64 = i64::MAX as u64;

/// The values of all properties.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub engine: EngineSettings,
    pub style: StyleSettings,
    pub frame: FrameSettings,
    /// Milliseconds to report; negative: what was measured.
    pub latency: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            engine: EngineSettings {
                model: None,
                direction: Direction::default(),
                device: "auto".to_owned(),
                precision: Precision::default(),
            },
            style: StyleSettings::default(),
            frame: FrameSettings {
                strength: 1.0,
                style_mix: 0.0,
                style_smoothing: 500,
                quality: Quality::default(),
                inference_size: 0,
                min_inference_size: 128,
                max_inference_size: 8192,
                skip_static: false,
                split: false,
                split_position: 0.5,
                threads: 0,
                max_in_flight: 0,
                stats_interval: 0,
                debug_work: 0,
            },
            latency: -1,
        }
    }
}

/// Which part of the settings a property belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Engine,
    Style,
    Frame,
    Latency,
}

pub(super) static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let defaults = Settings::default();
    let mut properties = engine_properties(&defaults.engine);
    properties.extend(style_properties(&defaults));
    properties.extend(speed_properties(&defaults.frame));
    properties.extend(view_properties(&defaults));
    properties
});

fn engine_properties(defaults: &EngineSettings) -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecString::builder("model")
            .nick("Model")
            .blurb(
                "Model file (.safetensors), or the name of an installed model. Without one the \
                 shipped photo2illustration is used. A change while playing loads in the \
                 background and then cross-fades over style-smoothing",
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("direction", defaults.direction)
            .nick("Direction")
            .blurb("From which of the model's two domains to which frames are translated")
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("device")
            .nick("Device")
            .blurb(
                "Where the network runs: auto (a CUDA device if there is one, else the CPU), cpu, \
                 cuda or cuda:N (an error if it is not there)",
            )
            .default_value("auto")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("precision", defaults.precision)
            .nick("Precision")
            .blurb("Number format that the network computes in")
            .mutable_playing()
            .build(),
    ]
}

fn style_properties(defaults: &Settings) -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecString::builder("style")
            .nick("Style code")
            .blurb(
                "Style code for style-mode fixed: as many numbers as the model's codes have, with \
                 commas between them, e.g. 0.5,-1.2,0,0,0.3,0,0,1. Replaces style-name; without \
                 either the model's style named default is used, or its mean style",
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("style-name")
            .nick("Style name")
            .blurb(
                "Name of a style that the model knows in this direction, for style-mode fixed; \
                 munit-info lists them. Replaces style",
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("style-seed")
            .nick("Style seed")
            .blurb(
                "Seed from which style-mode random and drift draw their styles; the same seed gives \
                 the same styles",
            )
            .maximum(LARGEST_SEED)
            .default_value(defaults.style.seed)
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("style-image")
            .nick("Style image")
            .blurb("Picture file whose style is taken in style-mode example")
            .mutable_playing()
            .build(),
        // After the four that switch it, because a preset sets its properties in this order.
        glib::ParamSpecEnum::builder_with_default("style-mode", defaults.style.mode)
            .nick("Style mode")
            .blurb(
                "Where the style comes from. Setting style, style-name, style-seed or style-image \
                 switches to its mode, so the one set last counts (style-seed leaves drift as it is)",
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("style-interval")
            .nick("Style interval")
            .blurb(
                "Milliseconds of stream time from one style to the next in style-mode random and \
                 tour, and in which a drift loses its likeness to itself; 0 keeps the first draw of \
                 random and takes 5000 for the others",
            )
            .maximum(86_400_000)
            .default_value(0)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("style-smoothing")
            .nick("Style smoothing")
            .blurb(
                "Time constant, in milliseconds of stream time, with which the picture glides to a \
                 new style, and length of the cross-fade to a new model; 0 jumps",
            )
            .maximum(600_000)
            .default_value(defaults.frame.style_smoothing)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("style-mix")
            .nick("Style mix")
            .blurb("Way from the style of style-mode (0) to that of style-mix-with (1)")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(defaults.frame.style_mix)
            .controllable()
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("style-mix-with")
            .nick("Style to mix with")
            .blurb(
                "The style at the far end of style-mix: the name of a style that the model knows, or \
                 a style code; none draws one from style-seed + 1",
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("strength")
            .nick("Strength")
            .blurb("Mix with the original: 0 shows the input, 1 the translation")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(defaults.frame.strength)
            .controllable()
            .mutable_playing()
            .build(),
    ]
}

fn speed_properties(defaults: &FrameSettings) -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecEnum::builder_with_default("quality", defaults.quality)
            .nick("Quality")
            .blurb("Whether a live stream keeps its frame rate by lowering the inference size")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("inference-size")
            .nick("Inference size")
            .blurb(
                "Shorter side, in pixels, at which the network runs at most; the result is scaled \
                 back. Smaller is faster. 0 (auto) runs at the size of the frame, as do all larger \
                 values; sizes too small for the model are raised to its smallest",
            )
            .maximum(8192)
            .default_value(defaults.inference_size)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("min-inference-size")
            .nick("Least inference size")
            .blurb("Shorter side below which quality=auto does not go")
            .minimum(16)
            .maximum(8192)
            .default_value(defaults.min_inference_size)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("max-inference-size")
            .nick("Largest inference size")
            .blurb("Shorter side above which inference-size=0 does not go")
            .minimum(16)
            .maximum(8192)
            .default_value(defaults.max_inference_size)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("skip-static")
            .nick("Skip static frames")
            .blurb(
                "Show the last translation again while the input and the style stay as they were, \
                 but for noise",
            )
            .default_value(defaults.skip_static)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("threads")
            .nick("Threads")
            .blurb(
                "Processor threads that the network uses; 0 (auto) takes one for each core, less one \
                 for the rest of the pipeline where there are more than four",
            )
            .maximum(1024)
            .default_value(defaults.threads)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("max-in-flight")
            .nick("Frames in flight")
            .blurb(
                "Frames that are translated at the same time; on the CPU they share the threads. The \
                 pictures are the same with any number. 0 (auto) takes two on a CUDA device; on the \
                 CPU one in a live pipeline, and in others one or several, up to four as far as threads \
                 and memory reach, whichever its first frames show to be quicker",
            )
            .maximum(16)
            .default_value(defaults.max_in_flight)
            .mutable_playing()
            .build(),
    ]
}

fn view_properties(defaults: &Settings) -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecBoolean::builder("split")
            .nick("Split")
            .blurb("Show the original on the left of split-position")
            .default_value(defaults.frame.split)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("split-position")
            .nick("Split position")
            .blurb("Share of the picture's width that split leaves to the original")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(defaults.frame.split_position)
            .controllable()
            .mutable_playing()
            .build(),
        glib::ParamSpecInt::builder("latency")
            .nick("Latency")
            .blurb("Latency to report in a live pipeline, in milliseconds; -1 reports what is measured")
            .minimum(-1)
            .maximum(10_000)
            .default_value(defaults.latency)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Counts since the stream began, and times and rates of the last five seconds")
            .read_only()
            .build(),
        glib::ParamSpecUInt::builder("stats-interval")
            .nick("Statistics interval")
            .blurb(
                "Milliseconds from one element message munitfilter-stats, which carries stats, to \
                 the next; 0 posts none",
            )
            .maximum(86_400_000)
            .default_value(defaults.frame.stats_interval)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("debug-work")
            .nick("Debug work")
            .blurb("Debugging: milliseconds of artificial work per frame")
            .maximum(1000)
            .default_value(defaults.frame.debug_work)
            .mutable_playing()
            .build(),
    ]
}

/// What cannot happen: GObject checks names and types before it asks us.
const CHECKED: &str = "GObject checks the type of a property's value";

impl Settings {
    /// Takes over a property's new value.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> Part {
        let text = || -> Option<String> {
            let text: Option<String> = value.get().expect(CHECKED);
            text.filter(|text| !text.trim().is_empty())
        };
        match name {
            "model" => self.engine.model = text(),
            "direction" => self.engine.direction = value.get().expect(CHECKED),
            "device" => self.engine.device = text().unwrap_or_else(|| "auto".to_owned()),
            "precision" => self.engine.precision = value.get().expect(CHECKED),
            "style-mode" => self.style.mode = value.get().expect(CHECKED),
            "style" => {
                self.style.code = text();
                if self.style.code.is_some() {
                    self.style.mode = StyleMode::Fixed;
                    self.style.name = None;
                }
            }
            "style-name" => {
                self.style.name = text();
                if self.style.name.is_some() {
                    self.style.mode = StyleMode::Fixed;
                    self.style.code = None;
                }
            }
            "style-seed" => {
                self.style.seed = value.get().expect(CHECKED);
                if self.style.mode != StyleMode::Drift {
                    self.style.mode = StyleMode::Random;
                }
            }
            "style-image" => {
                self.style.image = text();
                if self.style.image.is_some() {
                    self.style.mode = StyleMode::Example;
                }
            }
            "style-interval" => {
                let milliseconds: u32 = value.get().expect(CHECKED);
                self.style.interval = Duration::from_millis(milliseconds.into());
            }
            "style-smoothing" => self.frame.style_smoothing = value.get().expect(CHECKED),
            "style-mix" => self.frame.style_mix = value.get().expect(CHECKED),
            "style-mix-with" => self.style.mix_with = text(),
            "strength" => self.frame.strength = value.get().expect(CHECKED),
            "quality" => self.frame.quality = value.get().expect(CHECKED),
            "inference-size" => self.frame.inference_size = value.get().expect(CHECKED),
            "min-inference-size" => self.frame.min_inference_size = value.get().expect(CHECKED),
            "max-inference-size" => self.frame.max_inference_size = value.get().expect(CHECKED),
            "skip-static" => self.frame.skip_static = value.get().expect(CHECKED),
            "threads" => self.frame.threads = value.get().expect(CHECKED),
            "max-in-flight" => self.frame.max_in_flight = value.get().expect(CHECKED),
            "split" => self.frame.split = value.get().expect(CHECKED),
            "split-position" => self.frame.split_position = value.get().expect(CHECKED),
            "stats-interval" => self.frame.stats_interval = value.get().expect(CHECKED),
            "latency" => self.latency = value.get().expect(CHECKED),
            "debug-work" => self.frame.debug_work = value.get().expect(CHECKED),
            _ => unreachable!("GObject knows only the properties of PROPERTIES, not {name}"),
        }
        part_of(name)
    }

    /// The value of a property.
    pub fn get(&self, name: &str) -> glib::Value {
        match name {
            "model" => self.engine.model.to_value(),
            "direction" => self.engine.direction.to_value(),
            "device" => self.engine.device.to_value(),
            "precision" => self.engine.precision.to_value(),
            "style-mode" => self.style.mode.to_value(),
            "style" => self.style.code.to_value(),
            "style-name" => self.style.name.to_value(),
            "style-seed" => self.style.seed.to_value(),
            "style-image" => self.style.image.to_value(),
            "style-interval" => {
                let milliseconds = self.style.interval.as_millis();
                u32::try_from(milliseconds).unwrap_or(u32::MAX).to_value()
            }
            "style-smoothing" => self.frame.style_smoothing.to_value(),
            "style-mix" => self.frame.style_mix.to_value(),
            "style-mix-with" => self.style.mix_with.to_value(),
            "strength" => self.frame.strength.to_value(),
            "quality" => self.frame.quality.to_value(),
            "inference-size" => self.frame.inference_size.to_value(),
            "min-inference-size" => self.frame.min_inference_size.to_value(),
            "max-inference-size" => self.frame.max_inference_size.to_value(),
            "skip-static" => self.frame.skip_static.to_value(),
            "threads" => self.frame.threads.to_value(),
            "max-in-flight" => self.frame.max_in_flight.to_value(),
            "split" => self.frame.split.to_value(),
            "split-position" => self.frame.split_position.to_value(),
            "stats-interval" => self.frame.stats_interval.to_value(),
            "latency" => self.latency.to_value(),
            "debug-work" => self.frame.debug_work.to_value(),
            _ => unreachable!("GObject knows only the properties of PROPERTIES, not {name}"),
        }
    }

    /// Names of the properties that differ between `self` and `other`.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let mut names = Vec::new();
        let (engine, other_engine) = (&self.engine, &other.engine);
        let (style, other_style) = (&self.style, &other.style);
        for (name, differs) in [
            ("model", engine.model != other_engine.model),
            ("direction", engine.direction != other_engine.direction),
            ("device", engine.device != other_engine.device),
            ("precision", engine.precision != other_engine.precision),
            ("style-mode", style.mode != other_style.mode),
            ("style", style.code != other_style.code),
            ("style-name", style.name != other_style.name),
            ("style-seed", style.seed != other_style.seed),
            ("style-image", style.image != other_style.image),
            ("style-interval", style.interval != other_style.interval),
            ("style-mix-with", style.mix_with != other_style.mix_with),
        ] {
            if differs {
                names.push(name);
            }
        }
        names
    }
}

fn part_of(name: &str) -> Part {
    match name {
        "model" | "direction" | "device" | "precision" => Part::Engine,
        "style-mode" | "style" | "style-name" | "style-seed" | "style-image" | "style-interval"
        | "style-mix-with" => Part::Style,
        "latency" => Part::Latency,
        _ => Part::Frame,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_property_set_last_decides_the_mode() {
        let mut settings = Settings::default();
        settings.set("style-name", &"violet".to_value());
        assert_eq!(settings.style.mode, StyleMode::Fixed);
        settings.set("style-seed", &7u64.to_value());
        assert_eq!(settings.style.mode, StyleMode::Random);
        settings.set("style-image", &"/pictures/print.png".to_value());
        assert_eq!(settings.style.mode, StyleMode::Example);
        settings.set("style", &"0.5,1".to_value());
        assert_eq!(settings.style.mode, StyleMode::Fixed);
        assert_eq!(settings.style.name, None, "the code replaces the name");
        settings.set("style-mode", &StyleMode::Random.to_value());
        assert_eq!(settings.style.mode, StyleMode::Random);
        assert_eq!(settings.style.seed, 7);
    }

    #[test]
    fn clearing_a_style_property_does_not_change_the_mode() {
        let mut settings = Settings::default();
        settings.set("style-seed", &7u64.to_value());
        for name in ["style", "style-name", "style-image"] {
            settings.set(name, &None::<String>.to_value());
            assert_eq!(settings.style.mode, StyleMode::Random);
        }
    }

    #[test]
    fn every_property_reads_back_what_was_set() {
        let mut settings = Settings::default();
        let writable =
            |property: &&glib::ParamSpec| property.flags().contains(glib::ParamFlags::WRITABLE);
        for property in PROPERTIES.iter().filter(writable) {
            let value = match property.name() {
                "model" | "device" | "style" | "style-name" | "style-image" | "style-mix-with" => {
                    "x".to_value()
                }
                "direction" => Direction::B2a.to_value(),
                "precision" => Precision::Bf16.to_value(),
                "style-mode" => StyleMode::Random.to_value(),
                "style-seed" => 11u64.to_value(),
                "strength" | "style-mix" | "split-position" => 0.25f64.to_value(),
                "quality" => Quality::Fixed.to_value(),
                "skip-static" | "split" => true.to_value(),
                "latency" => 12i32.to_value(),
                _ => 13u32.to_value(),
            };
            settings.set(property.name(), &value);
            let read = settings.get(property.name());
            assert_eq!(
                format!("{read:?}"),
                format!("{value:?}"),
                "{}",
                property.name()
            );
        }
    }
}
