//! A model on a device, with what the element needs to know of it.

use std::path::PathBuf;
use std::sync::Arc;

use munit::model_file::{Model, ModelMetadata};
use munit::runtime::{DeviceChoice, TranslateOptions, Translator};
use munit::{Direction, StyleCode};

use super::model_search::find_model;
use super::problem::Problem;
use super::settings::{EngineSettings, FrameSettings};
use super::style_choice::StyleTarget;

/// Ready to translate.
pub(super) struct Engine {
    pub translator: Translator,
    pub metadata: Arc<ModelMetadata>,
    pub direction: Direction,
    pub path: PathBuf,
}

impl Engine {
    /// Reads the model that `settings` mean and puts it on its device. Takes from tens of
    /// milliseconds to seconds.
    pub fn load(settings: &EngineSettings, model_folders: &[PathBuf]) -> Result<Self, Problem> {
        let device: DeviceChoice = settings
            .device
            .parse()
            .map_err(|error: munit::Error| Problem::setting(format!("device: {error}")))?;
        let path = find_model(settings.model.as_deref(), model_folders)?;
        let direction = Direction::from(settings.direction);
        let engine = Model::read(&path).and_then(|model| {
            let translator = Translator::new(&model, direction, device, settings.precision.into())?;
            Ok((translator, Arc::new(model.metadata)))
        });
        match engine {
            Ok((translator, metadata)) => Ok(Self {
                translator,
                metadata,
                direction,
                path,
            }),
            Err(error) => Err(Problem::with_model(&path, &error)),
        }
    }

    /// What the translator has to know about the next frame.
    ///
    /// The network runs at the frame's own size at most, so that no value of `inference-size` can
    /// take all memory, and at its own smallest size at least, so that every frame is translated.
    pub fn options(
        &self,
        (width, height): (usize, usize),
        settings: &FrameSettings,
    ) -> TranslateOptions {
        let smallest = self.metadata.architecture.smallest_side() as u32;
        let own = u32::try_from(width.min(height)).unwrap_or(u32::MAX);
        let wanted = match settings.inference_size {
            0 => own,
            size => size.min(own),
        };
        let size = wanted.max(smallest);
        TranslateOptions {
            strength: settings.strength as f32,
            inference_size: (size != own).then_some(size),
        }
    }

    /// Translates a frame of this width and height, so that the first one is not late.
    pub fn warm_up(
        &mut self,
        (width, height): (usize, usize),
        settings: &FrameSettings,
    ) -> Result<(), Problem> {
        let options = self.options((width, height), settings);
        self.translator
            .warm_up(width, height, &options)
            .map_err(|error| Problem::with_model(&self.path, &error))
    }

    /// The code of a wanted style.
    pub fn style_code(&mut self, target: &StyleTarget) -> Result<StyleCode, Problem> {
        match target {
            StyleTarget::Code(code) => Ok(code.clone()),
            StyleTarget::Example(picture) => picture
                .view()
                .and_then(|view| self.translator.encode_style(&view))
                .map_err(|error| picture.not_encoded(&error)),
        }
    }
}
