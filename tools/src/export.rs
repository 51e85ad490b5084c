//! From a run to the model file that munitfilter loads.

use std::collections::BTreeMap;

use anyhow::Result;
use munit::config::{Direction, Domain, Family};
use munit::model_file::{FORMAT_VERSION, Model, ModelMetadata};
use munit::networks::Generator;
use tch::{Device, Kind, Tensor};

use crate::config::TrainConfig;
use crate::data::{DataLayout, PictureSet, Source};
use crate::run::{evenly_spaced, framing};
use crate::samples::domain_name;
use crate::trainer::{Pair, Trainer};

/// Pictures of each domain over which the mean style is taken.
const MEAN_STYLE_PICTURES: usize = 64;

/// Training pictures of each domain, [N, C, H, W] in [-1, 1], to take the mean style of.
///
/// # Errors
/// Pictures that cannot be read.
pub fn style_pictures(config: &TrainConfig, layout: &DataLayout) -> Result<Pair<Tensor>> {
    Pair::try_new(|domain| {
        let source: &Source = match domain {
            Domain::A => &layout.train_a,
            Domain::B => &layout.train_b,
        };
        let set = PictureSet::scan(source, |_, _| {})?;
        evenly_spaced(&set.paths, MEAN_STYLE_PICTURES, &framing(config, domain))
    })
}

/// The averaged generators of `trainer` as a model.
///
/// # Errors
/// libtorch's.
pub fn model(trainer: &Trainer, style_pictures: &Pair<Tensor>) -> Result<Model> {
    let config = trainer.config();
    let architecture = config.architecture();
    let mut mean_styles = BTreeMap::new();
    if architecture.family == Family::Munit {
        let generators = trainer.averaged_generators()?;
        for domain in Domain::ALL {
            let mean = mean_style(generators.get(domain), style_pictures.get(domain))?;
            mean_styles.insert(domain, mean);
        }
    }
    let weights = trainer
        .averaged_weights()?
        .into_iter()
        .map(|(name, tensor)| {
            Ok((
                name,
                tensor
                    .f_to_device(Device::Cpu)?
                    .f_to_dtype(Kind::Float, false, true)?,
            ))
        })
        .collect::<Result<_>>()?;
    Ok(Model {
        metadata: ModelMetadata {
            format_version: FORMAT_VERSION,
            architecture,
            directions: Direction::ALL.to_vec(),
            domain_a: domain_name(config.domain_a.as_deref(), Domain::A),
            domain_b: domain_name(config.domain_b.as_deref(), Domain::B),
            iterations: trainer.iteration,
            data: config.data_description.clone().unwrap_or_default(),
            licence: config.licence.clone().unwrap_or_default(),
            recommended_size: u32::try_from(config.crop_image_height.min(config.crop_image_width))
                .ok(),
            styles: BTreeMap::new(),
            mean_styles,
        },
        weights,
    })
}

/// Mean of the encoded styles of `pictures` [N, C, H, W], one at a time.
fn mean_style(generator: &Generator, pictures: &Tensor) -> Result<Vec<f32>> {
    let _no_grad = tch::no_grad_guard();
    let pictures = pictures.f_to_device(generator.parameters()[0].tensor.device())?;
    let codes = (0..pictures.size()[0])
        .map(|index| Ok(generator.encode_style(&pictures.f_narrow(0, index, 1)?)?))
        .collect::<Result<Vec<_>>>()?;
    let mean = Tensor::f_cat(&codes, 0)?
        .f_mean_dim([0i64].as_slice(), false, Kind::Float)?
        .f_reshape([-1])?;
    Ok(Vec::<f32>::try_from(mean)?)
}
