//! A model on a device, with what the element needs to know of it.

use std::path::PathBuf;
use std::sync::Arc;

use munit::model_file::ModelMetadata;
use munit::runtime::{DeviceChoice, TranslateOptions, Translator};
use munit::{Direction, style_file};

use super::governor::SizeLimits;
use super::loaded_model::LoadedModel;
use super::model_search::find_model;
use super::problem::Problem;
use super::settings::{EngineSettings, FrameSettings};

/// Ready to translate.
pub(super) struct Engine {
    pub model: Arc<LoadedModel>,
    pub translator: Translator,
}

impl Engine {
    /// Brings the model that `settings` mean to its device.
    pub fn load(settings: &EngineSettings, model_folders: &[PathBuf]) -> Result<Self, Problem> {
        let device: DeviceChoice = settings
            .device
            .parse()
            .map_err(|error: munit::Error| Problem::setting(format!("device: {error}")))?;
        let path = find_model(settings.model.as_deref(), model_folders)?;
        let direction = Direction::from(settings.direction);
        let model = LoadedModel::load(&path, direction, device, settings.precision.into())?;
        Ok(Self {
            translator: model.translator(),
            model,
        })
    }

    /// Sizes between which the network may run on frames of this size.
    ///
    /// It runs at the frame's own size at most, so that no value of a property can take all memory,
    /// and at its own smallest size at least, so that every frame is translated.
    pub fn size_limits(
        &self,
        (width, height): (usize, usize),
        settings: &FrameSettings,
    ) -> SizeLimits {
        let least = self.model.metadata.architecture.smallest_side() as u32;
        let own = u32::try_from(width.min(height)).unwrap_or(u32::MAX);
        let wanted = match settings.inference_size {
            0 => settings.max_inference_size,
            size => size,
        };
        let largest = wanted.min(own).max(least);
        SizeLimits {
            smallest: settings.min_inference_size.clamp(least, largest),
            largest,
        }
    }

    /// What the translator has to know to run at `size` on frames of this size.
    pub fn options(
        (width, height): (usize, usize),
        size: u32,
        settings: &FrameSettings,
    ) -> TranslateOptions {
        let own = width.min(height);
        TranslateOptions {
            strength: settings.strength as f32,
            inference_size: (size as usize != own).then_some(size),
        }
    }

    /// Translates a frame of this width and height, so that the first one is not late.
    pub fn warm_up(
        &mut self,
        frame: (usize, usize),
        size: u32,
        settings: &FrameSettings,
    ) -> Result<(), Problem> {
        let (width, height) = frame;
        self.translator
            .warm_up(width, height, &Self::options(frame, size, settings))
            .map_err(|error| Problem::with_model(&self.model.path, &error))
    }
}

/// What is known of a model, with the styles that a person has saved beside it, which go before
/// the model's own of the same name.
pub(super) fn metadata_with_own_styles(
    model: &LoadedModel,
) -> (Arc<ModelMetadata>, Option<Problem>) {
    let mut metadata = model.metadata.clone();
    let style_dim = metadata.architecture.style_dim() as usize;
    let read = style_file::read(&style_file::path_for(&model.path), style_dim);
    let problem = match read {
        Ok(styles) => {
            metadata.styles.extend(styles);
            None
        }
        Err(error) => Some(Problem::setting(error.to_string())),
    };
    (Arc::new(metadata), problem)
}
