//! A model that is brought to its device, ready to translate.

use gst_video::VideoInfo;
use std::path::PathBuf;
use std::sync::Arc;

use munit::model_file::ModelMetadata;
use munit::runtime::{DeviceChoice, Translator};
use munit::{Direction, style_file};

use super::loaded_model::LoadedModel;
use super::model_search::find_model;
use super::picture;
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

    /// Translates a frame like those of `info`, so that the first one is not late.
    pub fn warm_up(
        &mut self,
        info: &VideoInfo,
        size: u32,
        settings: &FrameSettings,
    ) -> Result<(), Problem> {
        warm_up(&mut self.translator, info, size, settings)
            .map_err(|error| Problem::with_model(&self.model.path, &error))
    }
}

/// Warms a translator up for frames like those of `info`, the network running at `size`.
pub(super) fn warm_up(
    translator: &mut Translator,
    info: &VideoInfo,
    size: u32,
    settings: &FrameSettings,
) -> munit::Result<()> {
    let (width, height) = picture::frame_size(info);
    let options = settings.options((width, height), size);
    let format = picture::picture_format(info.format())?;
    translator.warm_up(format, width, height, &options)
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
