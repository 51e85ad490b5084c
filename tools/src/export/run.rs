//! From a run to the model file that munitfilter loads.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use munit::config::{Direction, Domain, Family};
use munit::model_file::{FORMAT_VERSION, Model, ModelMetadata, NamedStyle};
use munit::networks::Generator;
use munit::{StyleCode, style_file};
use tch::{Device, Kind, Tensor};

use crate::checkpoint::Checkpoint;
use crate::config::TrainConfig;
use crate::data::{PictureSet, load_picture, load_training_picture};
use crate::program::sentence;
use crate::retention::Retention;
use crate::run::{RunFolder, data_layout, framing};
use crate::samples::domain_name;
use crate::trainer::{Pair, Trainer};

/// Pictures of each domain over which the mean style is taken.
const MEAN_STYLE_PICTURES: usize = 64;

/// A style to name in a model: `NAME=SEED`, `NAME=NUMBER,NUMBER,…` or `NAME=PICTURE`.
#[derive(Clone, Debug, PartialEq)]
pub struct StyleRequest {
    /// The name that the style gets.
    pub name: String,
    /// Where its code comes from.
    pub origin: StyleOrigin,
}

/// Where the code of a named style comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum StyleOrigin {
    /// A draw from the prior.
    Seed(u64),
    /// The code itself.
    Code(Vec<f32>),
    /// The style of a picture.
    Picture(PathBuf),
}

impl FromStr for StyleRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, origin) = text
            .split_once('=')
            .filter(|(name, origin)| !name.trim().is_empty() && !origin.trim().is_empty())
            .ok_or("write NAME=SEED, NAME=NUMBER,NUMBER,… or NAME=PICTURE")?;
        let numbers = || origin.split(',').map(|number| number.trim().parse::<f32>());
        let origin = if let Ok(seed) = origin.trim().parse() {
            StyleOrigin::Seed(seed)
        } else if numbers().all(|number| number.is_ok()) {
            StyleOrigin::Code(numbers().flatten().collect())
        } else {
            StyleOrigin::Picture(PathBuf::from(origin))
        };
        let name = name.trim().to_owned();
        style_file::check_new_name(&name).map_err(|error| error.to_string())?;
        Ok(Self { name, origin })
    }
}

impl fmt::Display for StyleRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

/// Which of a run's checkpoints is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The newest.
    Newest,
    /// The best by the figure of `keep_best`.
    Best,
}

/// The best checkpoint of the run in `folder`.
fn best(folder: &RunFolder) -> Result<Checkpoint> {
    let shown = folder.path().display();
    let config = folder.config()?;
    let figure = config.keep_best.as_ref().with_context(|| {
        format!(
            "{shown}: no figure says which checkpoint of this run is the best; name one as keep_best in \
             a configuration, or leave --best out"
        )
    })?;
    let best = Retention::new(&config).best_in(&folder.checkpoints())?;
    let (path, _) = best.with_context(|| {
        format!("{shown}: no checkpoint of this run has a value of {figure} yet; leave --best out")
    })?;
    Checkpoint::read(&path)
}

/// The averaged generators of the checkpoint at `run` (a run's folder, of which the `wanted` one is
/// taken, or a checkpoint file) as a model with the named `styles` of domain `domain`.
///
/// # Errors
/// A sentence that names the file: no checkpoint, a damaged one, a run that keeps no best one, a
/// style's picture that cannot be read.
pub fn from_run(
    run: &Path,
    wanted: Wanted,
    domain: Domain,
    styles: &[StyleRequest],
) -> Result<Model> {
    let checkpoint = if run.is_dir() && wanted == Wanted::Best {
        best(&RunFolder::new(run))?
    } else if run.is_dir() {
        let (checkpoint, problems) = RunFolder::new(run).newest_checkpoint()?;
        for problem in problems {
            eprintln!("munit-export: {problem}; taking the one before");
        }
        checkpoint
    } else {
        Checkpoint::read(run)?
    };
    let config = TrainConfig {
        // Nothing is trained, so the perceptual network is not needed.
        vgg_w: 0.0,
        vgg_style_w: 0.0,
        vgg_paired_w: 0.0,
        ..checkpoint.header.config.clone()
    };
    let mut trainer = Trainer::new(config, Device::Cpu, None)?;
    checkpoint.restore(&mut trainer)?;
    let folder = match run.is_dir() {
        true => Some(RunFolder::new(run)),
        false => RunFolder::of_checkpoint(run),
    };
    let pictures = training_pictures(trainer.config(), folder.as_ref());
    let mut model = model(&trainer, &pictures)?;
    let generators = trainer.averaged_generators()?;
    for style in styles {
        let code = code(style, trainer.config(), generators.get(domain), domain)?;
        let named = NamedStyle { domain, code };
        if model
            .metadata
            .styles
            .insert(style.name.clone(), named)
            .is_some()
        {
            bail!("the style {style} is named twice");
        }
    }
    Ok(model)
}

/// Paths of the pictures that the run in `folder` was trained on, or the one of a checkpoint that lies in no run's
/// folder; none, and a warning, where they are gone.
fn training_pictures(config: &TrainConfig, folder: Option<&RunFolder>) -> Pair<Vec<PathBuf>> {
    let none = || Pair {
        a: Vec::new(),
        b: Vec::new(),
    };
    if config.architecture().family == Family::Unit {
        return none();
    }
    let scan = || {
        let layout = data_layout(config)?;
        Pair::try_new(|domain| {
            let source = match domain {
                Domain::A => &layout.train_a,
                Domain::B => &layout.train_b,
            };
            anyhow::Ok(PictureSet::scan_outside(source, folder.map(RunFolder::path))?.paths)
        })
    };
    scan().unwrap_or_else(|problem| {
        eprintln!(
            "munit-export: {}; without its training pictures the model gets no mean style",
            sentence(&problem)
        );
        none()
    })
}

fn code(
    style: &StyleRequest,
    config: &TrainConfig,
    generator: &Generator,
    domain: Domain,
) -> Result<Vec<f32>> {
    let architecture = config.architecture();
    let style_dim = architecture.style_dim() as usize;
    if architecture.family == Family::Unit {
        bail!("the run is a UNIT run, which has no styles; leave --style out");
    }
    Ok(match &style.origin {
        StyleOrigin::Seed(seed) => StyleCode::sample(*seed, style_dim).values().to_vec(),
        StyleOrigin::Code(code) => StyleCode::written(code.clone(), style_dim)
            .with_context(|| format!("style {style}"))?
            .values()
            .to_vec(),
        StyleOrigin::Picture(path) => {
            let picture = load_picture(path, &framing(config, domain))
                .with_context(|| format!("style {style}"))?;
            encoded_style(generator, &picture.f_unsqueeze(0)?)?
        }
    })
}

/// The averaged generators of `trainer` as a model, with the mean styles of the training
/// `pictures`. Pictures that have gone are passed over; a domain without any gets no mean style.
///
/// # Errors
/// libtorch's, for instance out of memory.
pub fn model(trainer: &Trainer, pictures: &Pair<Vec<PathBuf>>) -> Result<Model> {
    let config = trainer.config();
    let architecture = config.architecture();
    let mut mean_styles = BTreeMap::new();
    if architecture.family == Family::Munit {
        let generators = trainer.averaged_generators()?;
        for domain in Domain::ALL {
            let mean = mean_style(trainer, &generators, pictures.get(domain), domain)?;
            mean_styles.extend(mean.map(|mean| (domain, mean)));
        }
    }
    let weights = trainer
        .averaged_weights()?
        .into_iter()
        .map(|(name, tensor)| {
            let tensor = tensor
                .f_to_device(Device::Cpu)?
                .f_to_dtype(Kind::Float, false, true)?;
            Ok((name, tensor))
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

/// Mean of the encoded styles of readable pictures spread over `pictures`, if there are any.
fn mean_style(
    trainer: &Trainer,
    generators: &Pair<Generator>,
    pictures: &[PathBuf],
    domain: Domain,
) -> Result<Option<Vec<f32>>> {
    let framing = framing(trainer.config(), domain);
    let count = MEAN_STYLE_PICTURES.min(pictures.len());
    let mut sum = vec![0.0; trainer.config().architecture().style_dim() as usize];
    let mut read = 0;
    for index in 0..count {
        let path = &pictures[index * pictures.len() / count];
        let Ok(picture) = load_training_picture(path, &framing) else {
            continue;
        };
        let picture = picture.f_unsqueeze(0)?.f_to_device(trainer.device())?;
        for (sum, value) in sum
            .iter_mut()
            .zip(encoded_style(generators.get(domain), &picture)?)
        {
            *sum += value;
        }
        read += 1;
    }
    Ok((read > 0).then(|| sum.iter().map(|sum| sum / read as f32).collect()))
}

/// Style code of `picture` [1, C, H, W].
fn encoded_style(generator: &Generator, picture: &Tensor) -> Result<Vec<f32>> {
    let _no_grad = tch::no_grad_guard();
    let code = generator.encode_style(picture)?.f_reshape([-1])?;
    Ok(Vec::<f32>::try_from(code.f_to_device(Device::Cpu)?)?)
}
