//! The action signals: styles at the press of a key.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use glib::subclass::Signal;
use gst::prelude::*;
use gst::subclass::prelude::*;
use munit::model_file::NamedStyle;
use munit::{StyleCode, style_file};

use super::StyleMode;
use super::imp::MunitFilter;
use super::problem::Problem;
use super::settings::LARGEST_SEED;
use super::style_choice::code_text;

/// `next-style`, `sample-style` and `save-style`.
pub(super) fn signals() -> &'static [Signal] {
    static SIGNALS: LazyLock<Vec<Signal>> = LazyLock::new(|| {
        let element = |arguments: &[glib::Value]| {
            arguments
                .first()
                .and_then(|value| value.get::<super::MunitFilter>().ok())
        };
        vec![
            Signal::builder("next-style")
                .run_last()
                .action()
                .return_type::<bool>()
                .class_handler(move |arguments| {
                    let changed =
                        element(arguments).is_some_and(|filter| filter.imp().next_style());
                    Some(changed.to_value())
                })
                .build(),
            Signal::builder("sample-style")
                .run_last()
                .action()
                .return_type::<Option<String>>()
                .class_handler(move |arguments| {
                    let code = element(arguments).and_then(|filter| filter.imp().sample_style());
                    Some(code.to_value())
                })
                .build(),
            Signal::builder("save-style")
                .run_last()
                .action()
                .param_types([String::static_type()])
                .return_type::<bool>()
                .class_handler(move |arguments| {
                    let name = arguments
                        .get(1)
                        .and_then(|value| value.get::<String>().ok());
                    let saved = element(arguments)
                        .zip(name)
                        .is_some_and(|(filter, name)| filter.imp().save_style(&name));
                    Some(saved.to_value())
                })
                .build(),
        ]
    });
    &SIGNALS
}

impl MunitFilter {
    /// Goes to the next style of the mode in use: the next name, the next seed. False where there is
    /// none: in the modes example and follow, and among names while the element is stopped.
    fn next_style(&self) -> bool {
        let (_, settings) = self.wanted();
        match settings.mode {
            StyleMode::Random | StyleMode::Drift => {
                let seed = (settings.seed + 1) % (LARGEST_SEED + 1);
                self.obj().set_property("style-seed", seed);
                true
            }
            StyleMode::Fixed => {
                let Some(preparer) = self.preparer() else {
                    return false;
                };
                let (model, metadata) = preparer.model();
                let styles = metadata.distinct_styles(model.direction);
                let names: Vec<&str> = styles.into_iter().map(|(name, _)| name).collect();
                let current = settings.name.as_deref();
                let next = match names.iter().position(|name| Some(*name) == current) {
                    Some(position) => names.get((position + 1) % names.len()),
                    None => names.first(),
                };
                if let Some(next) = next {
                    self.obj().set_property("style-name", next);
                }
                next.is_some()
            }
            StyleMode::Tour => {
                self.skip_tour();
                true
            }
            StyleMode::Example | StyleMode::Follow => false,
        }
    }

    /// Draws a style from the prior, shows it and returns it as the property `style` has it then.
    /// None while the element is stopped.
    fn sample_style(&self) -> Option<String> {
        let (model, _) = self.preparer()?.model();
        let style_dim = model.metadata.architecture.style_dim() as usize;
        // The hash of nothing with the standard library's random keys.
        let seed = RandomState::new().build_hasher().finish();
        let code = code_text(&StyleCode::sample(seed, style_dim));
        self.obj().set_property("style", &code);
        Some(code)
    }

    /// Keeps the style of the last frame under `name` in the file of styles next to the model. False,
    /// with a warning message, if there is none or the file cannot be written.
    fn save_style(&self, name: &str) -> bool {
        let saved = self.try_to_save_style(name);
        if let Err(problem) = &saved {
            self.warn(problem);
        }
        saved.is_ok()
    }

    fn try_to_save_style(&self, name: &str) -> Result<(), Problem> {
        let not_saved = |reason: &str| Problem::setting(format!("save-style: {reason}"));
        let name = name.trim();
        if name.is_empty() {
            return Err(not_saved("a style needs a name"));
        }
        let (Some(preparer), Some(code)) = (self.preparer(), self.shown_style()) else {
            return Err(not_saved("no frame has been translated yet"));
        };
        let (model, _) = preparer.model();
        let style = NamedStyle {
            domain: model.direction.target(),
            code: code.values().to_vec(),
        };
        style_file::add(&style_file::path_for(&model.path), name, style)
            .map_err(|error| {
                not_saved(&match error {
                    munit::Error::Io { .. } => format!(
                        "{error}; if the model's folder is not yours to write in, copy the model into one \
                         that is and name the copy as model"
                    ),
                    other => other.to_string(),
                })
            })?;
        preparer.refresh_styles(self);
        Ok(())
    }
}
