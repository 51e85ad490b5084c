//! The properties: what they are called, their ranges, and what a new value changes.

use std::sync::LazyLock;
use std::time::Duration;

use gst::prelude::*;

use super::{Direction, Precision, StyleMode};

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
}

/// What may differ from frame to frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FrameSettings {
    pub strength: f64,
    pub inference_size: u32,
    pub style_smoothing: u32,
    pub debug_work: u32,
}

impl FrameSettings {
    /// The time constant of a style's glide.
    pub fn style_time_constant(&self) -> Duration {
        Duration::from_millis(self.style_smoothing.into())
    }

    /// Artificial work added to each frame.
    pub fn debug_work(&self) -> Duration {
        Duration::from_millis(self.debug_work.into())
    }
}

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
                inference_size: 0,
                style_smoothing: 500,
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
    vec![
        glib::ParamSpecString::builder("model")
            .nick("Model")
            .blurb(
                "Model file (.safetensors), or the name of an installed model; none is the shipped \
                 photo2illustration. A change while playing loads in the background",
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("direction", defaults.engine.direction)
            .nick("Direction")
            .blurb("From which of the model's two domains to which frames are translated")
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("device")
            .nick("Device")
            .blurb("Where the network runs: auto (a CUDA device if there is one), cpu, cuda or cuda:N")
            .default_value("auto")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("precision", defaults.engine.precision)
            .nick("Precision")
            .blurb("Number format that the network computes in")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("style-mode", defaults.style.mode)
            .nick("Style mode")
            .blurb(
                "Where the style comes from. Setting style, style-name, style-seed or style-image \
                 switches to its mode, so the one set last counts",
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("style")
            .nick("Style code")
            .blurb(
                "Style code for style-mode fixed: as many numbers as the model's codes have, with \
                 commas between them, e.g. 0.5,-1.2,0,0,0.3,0,0,1. Replaces style-name; without \
                 either the model's mean style is used",
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("style-name")
            .nick("Style name")
            .blurb("Name of a style that the model knows, for style-mode fixed. Replaces style")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("style-seed")
            .nick("Style seed")
            .blurb("Seed from which style-mode random draws a style; the same seed gives the same style")
            .default_value(defaults.style.seed)
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("style-image")
            .nick("Style image")
            .blurb("Picture file whose style is taken in style-mode example")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("style-smoothing")
            .nick("Style smoothing")
            .blurb(
                "Time constant, in milliseconds of stream time, with which the picture glides to a \
                 new style; 0 jumps",
            )
            .maximum(600_000)
            .default_value(defaults.frame.style_smoothing)
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
        glib::ParamSpecUInt::builder("inference-size")
            .nick("Inference size")
            .blurb(
                "Shorter side, in pixels, at which the network runs; the result is scaled back. \
                 Smaller is faster. 0 (auto) runs at the size of the frame, as do all larger \
                 values; sizes too small for the model are raised to its smallest",
            )
            .maximum(8192)
            .default_value(defaults.frame.inference_size)
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
        glib::ParamSpecUInt::builder("debug-work")
            .nick("Debug work")
            .blurb("Milliseconds of artificial work per frame, to test live pipelines with")
            .maximum(1000)
            .default_value(defaults.frame.debug_work)
            .mutable_playing()
            .build(),
    ]
});

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
                self.style.mode = StyleMode::Random;
            }
            "style-image" => {
                self.style.image = text();
                if self.style.image.is_some() {
                    self.style.mode = StyleMode::Example;
                }
            }
            "style-smoothing" => self.frame.style_smoothing = value.get().expect(CHECKED),
            "strength" => self.frame.strength = value.get().expect(CHECKED),
            "inference-size" => self.frame.inference_size = value.get().expect(CHECKED),
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
            "style-smoothing" => self.frame.style_smoothing.to_value(),
            "strength" => self.frame.strength.to_value(),
            "inference-size" => self.frame.inference_size.to_value(),
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
        "style-mode" | "style" | "style-name" | "style-seed" | "style-image" => Part::Style,
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
        for property in PROPERTIES.iter() {
            let value = match property.name() {
                "model" | "device" | "style" | "style-name" | "style-image" => "x".to_value(),
                "direction" => Direction::B2a.to_value(),
                "precision" => Precision::Bf16.to_value(),
                "style-mode" => StyleMode::Random.to_value(),
                "style-seed" => 11u64.to_value(),
                "strength" => 0.25f64.to_value(),
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
