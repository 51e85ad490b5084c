//! Models that nobody has trained: speed does not depend on the weights.

use anyhow::Result;
use munit::config::GeneratorConfig;
use munit::layout::expected_weights;
use munit::model_file::FORMAT_VERSION;
use munit::networks::normal;
use munit::{Architecture, Direction, Family, Model, ModelMetadata};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use crate::trainer::noise_generator;

/// A MUNIT model from domain a to domain b, of the published architecture but for its width and its
/// number of residual blocks. The same sizes give the same weights.
///
/// # Errors
/// Sizes that no network has; no memory.
pub fn random_model(dim: i64, n_res: i64) -> Result<Model> {
    let architecture = Architecture {
        family: Family::Munit,
        input_dim_a: 3,
        input_dim_b: 3,
        generator: GeneratorConfig {
            dim,
            n_res,
            ..GeneratorConfig::default()
        },
    };
    architecture.check()?;
    // Not libtorch's own generator: to set that is to ask libtorch about CUDA, whose answer it keeps,
    // though CUDA may not have been loaded yet.
    let mut random = noise_generator(0, 0);
    let directions = vec![Direction::A2b];
    let weights = expected_weights(&architecture, &directions)
        .into_iter()
        .map(|(name, shape)| Ok((name, random_weights(&mut random, &shape)?)))
        .collect::<Result<_>>()?;
    Ok(Model {
        weights,
        metadata: ModelMetadata {
            format_version: FORMAT_VERSION,
            architecture,
            directions,
            domain_a: "a".to_owned(),
            domain_b: "b".to_owned(),
            iterations: 0,
            data: "nothing: the weights are random".to_owned(),
            licence: String::new(),
            recommended_size: None,
            styles: Default::default(),
            mean_styles: Default::default(),
        },
    })
}

/// Normal, with a variance that keeps the scale of the maps: 2 / fan-in.
fn random_weights(random: &mut ChaCha8Rng, shape: &[i64]) -> Result<Tensor> {
    let fan_in: i64 = shape[1..].iter().product();
    let deviation = match shape {
        [_] => 0.1,
        _ => (2.0 / fan_in as f64).sqrt(),
    };
    Ok(normal(random, shape)?.f_mul_scalar(deviation)?)
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn a_random_model_is_a_model_and_always_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["first", "second"].map(|name| folder.path().join(name));
        for file in &files {
            random_model(4, 1)
                .unwrap()
                .write(file, Kind::Float)
                .unwrap();
        }
        let [first, second] = files.map(|file| std::fs::read(file).unwrap());
        assert!(first == second);
        let error = random_model(0, 4).unwrap_err().to_string();
        assert!(error.contains("gen.dim is 0"), "{error}");
    }
}
