//! A run that begins with the weights of a model instead of random ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use munit::config::{Architecture, Family};
use munit::model_file::Model;
use serde_yaml_ng::Value;
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

use super::problem::explain;
use crate::config::TrainConfig;
use crate::model_name::find_model;
use crate::perceptual::PerceptualNetwork;
use crate::trainer::Trainer;

/// A model whose generators a run begins with.
#[derive(Debug)]
pub struct Beginning {
    /// As it was asked for: a path, or the name of a shipped or installed model.
    model: PathBuf,
    architecture: Architecture,
    weights: BTreeMap<String, Tensor>,
    sha256: String,
}

impl Beginning {
    /// Reads `model`, the path of a model file or the name of a shipped or installed one.
    ///
    /// # Errors
    /// A sentence: there is no such model, it is damaged, it holds one direction only.
    pub fn read(model: &Path) -> Result<Self> {
        let path = find_model(model)?;
        let Model { metadata, weights } = Model::read(&path)?;
        if let [direction] = metadata.directions[..] {
            bail!(
                "{}: holds direction {} alone, half of the weights that a run needs; give a model of \
                 both directions",
                model.display(),
                direction.name()
            );
        }
        let bytes = fs::read(&path).with_context(|| format!("{}: cannot read", path.display()))?;
        let digest = Sha256::digest(&bytes);
        Ok(Self {
            model: model.to_owned(),
            architecture: metadata.architecture,
            weights,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Shapes of its generators.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Makes a run with `config` begin with this model.
    ///
    /// # Errors
    /// A configuration of other generators: a sentence that names the first difference. One that names
    /// this model, but with another digest.
    pub fn begin(&self, config: &mut TrainConfig) -> Result<()> {
        let wanted = config.architecture();
        if let Some((key, wanted, own)) = difference(&wanted, &self.architecture)? {
            bail!(
                "{key} is {wanted}, but in {}, which the run is to begin with, it is {own}; leave it out",
                self.model.display()
            );
        }
        if config.from_model.as_ref() == Some(&self.model)
            && let Some(expected) = &config.from_model_sha256
        {
            ensure!(
                *expected == self.sha256,
                "{}: not the model that from_model_sha256 is of; the file has changed, or another one is \
                 found by this name. Leave from_model_sha256 out to begin with it all the same",
                self.model.display()
            );
        }
        config.from_model = Some(self.model.clone());
        config.from_model_sha256 = Some(self.sha256.clone());
        Ok(())
    }
}

/// The first key in which the generators that are wanted differ, its value, and that of `own`.
fn difference(
    wanted: &Architecture,
    own: &Architecture,
) -> Result<Option<(String, String, String)>> {
    let family = |family| match family {
        Family::Munit => "MUNIT".to_owned(),
        Family::Unit => "UNIT".to_owned(),
    };
    let mut keys = vec![
        (
            "trainer".to_owned(),
            family(wanted.family),
            family(own.family),
        ),
        (
            "input_dim_a".to_owned(),
            wanted.input_dim_a.to_string(),
            own.input_dim_a.to_string(),
        ),
        (
            "input_dim_b".to_owned(),
            wanted.input_dim_b.to_string(),
            own.input_dim_b.to_string(),
        ),
    ];
    let group = |architecture: &Architecture| -> Result<Vec<(String, String)>> {
        let Value::Mapping(group) = serde_yaml_ng::to_value(&architecture.generator)? else {
            bail!("the generators' keys are no group");
        };
        let text = |value: &Value| -> Result<String> {
            Ok(serde_yaml_ng::to_string(value)?.trim_end().to_owned())
        };
        group
            .iter()
            .map(|(key, value)| Ok((format!("gen.{}", text(key)?), text(value)?)))
            .collect()
    };
    for ((key, wanted), (_, own)) in group(wanted)?.into_iter().zip(group(own)?) {
        keys.push((key, wanted, own));
    }
    // UNIT has no styles, whatever stands there.
    let counts =
        |key: &str| own.family == Family::Munit || !["gen.mlp_dim", "gen.style_dim"].contains(&key);
    Ok(keys
        .into_iter()
        .find(|(key, wanted, own)| wanted != own && counts(key)))
}

/// The trainer of a run with `config`, whose perceptual network is `perceptual`, before its first
/// iteration.
///
/// # Errors
/// A model to begin with that is gone or not what it was; what [`Trainer::new`] says.
pub(super) fn first_trainer(
    config: &TrainConfig,
    device: Device,
    perceptual: Option<PerceptualNetwork>,
) -> Result<Trainer> {
    let trainer = match &config.from_model {
        None => Trainer::new(config.clone(), device, perceptual),
        Some(model) => {
            let beginning = Beginning::read(model)?;
            let mut config = config.clone();
            beginning.begin(&mut config)?;
            Trainer::with_weights(&config, device, perceptual, &beginning.weights)
        }
    };
    trainer.map_err(|error| explain(error, config))
}
