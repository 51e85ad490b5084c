//! What a run's configuration is filled up with.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_yaml_ng::{Mapping, Value};

use crate::config::TrainConfig;

/// A set of defaults, each of which a key may override.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// As published.
    #[default]
    Classic,
    /// What has proved itself since: hinge loss, spectral norm and R1, two learning rates that fall at the
    /// end, bfloat16, augmented pictures for the discriminators, and terms for styles from pictures and
    /// for various styles.
    Modern,
}

impl Recipe {
    /// As in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Modern => "modern",
        }
    }
}

/// What translations may do to shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Everything stays where it is.
    KeepShapes,
    /// Shapes may change.
    ChangeShapes,
}

impl Task {
    /// The weight of the cycle that it means.
    pub fn cycle_weight(self) -> f64 {
        match self {
            Self::KeepShapes => 10.0,
            Self::ChangeShapes => 0.0,
        }
    }

    /// As in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeepShapes => "keep-shapes",
            Self::ChangeShapes => "change-shapes",
        }
    }
}

/// The configuration that the YAML `text` describes, with the values of `recipe` for keys that it
/// leaves out, also within groups; `published` are serde's defaults.
pub(crate) fn overlaid(
    text: &str,
    published: &TrainConfig,
    recipe: &TrainConfig,
) -> Result<TrainConfig> {
    let mut defaults = differences(
        &serde_yaml_ng::to_value(published)?,
        serde_yaml_ng::to_value(recipe)?,
    );
    let given: Value = serde_yaml_ng::from_str(text)?;
    overlay(&mut defaults, given);
    // The recipe may have been named elsewhere.
    let config: TrainConfig = serde_yaml_ng::from_value(defaults)?;
    Ok(TrainConfig {
        recipe: recipe.recipe,
        ..config
    })
}

/// The part of `recipe` in which it differs from `published`. A key that has a second name must be
/// alike in both, since it might be given by either.
fn differences(published: &Value, recipe: Value) -> Value {
    match (published, recipe) {
        (Value::Mapping(published), Value::Mapping(recipe)) => Value::Mapping(
            recipe
                .into_iter()
                .filter_map(|(key, value)| match published.get(&key) {
                    Some(same) if *same == value => None,
                    Some(other) => Some((key, differences(other, value))),
                    None => Some((key, value)),
                })
                .collect::<Mapping>(),
        ),
        (_, recipe) => recipe,
    }
}

fn overlay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Mapping(below), Value::Mapping(above)) => {
            for (key, value) in above {
                match below.get_mut(&key) {
                    Some(below) => overlay(below, value),
                    None => {
                        below.insert(key, value);
                    }
                }
            }
        }
        // An empty file describes nothing.
        (_, Value::Null) => {}
        (below, above) => *below = above,
    }
}
