//! Models with random weights, and pictures to translate with them.

use munit::config::{Activation, GeneratorConfig, Padding};
use munit::layout::expected_weights;
use munit::model_file::FORMAT_VERSION;
use munit::networks::{Generator, Initialisation, ParameterStore};
use munit::{Architecture, Direction, Domain, Family, Model, ModelMetadata, StyleCode};
use tch::{Device, Kind, Tensor};

/// A small network of two downsamplings and two residual blocks.
pub fn small(family: Family) -> Architecture {
    Architecture {
        family,
        input_dim_a: 3,
        input_dim_b: 3,
        generator: GeneratorConfig {
            dim: 8,
            mlp_dim: 16,
            style_dim: 4,
            n_downsample: 2,
            n_res: 2,
            activation: Activation::Relu,
            padding: Padding::Reflect,
        },
    }
}

/// A model of both directions whose weights and biases are all random; norms keep the maps'
/// scale, so that pictures come out with a full range of values.
pub fn random_model(architecture: &Architecture, seed: u64) -> Model {
    let mut weights = std::collections::BTreeMap::new();
    tch::manual_seed(seed as i64);
    for domain in Domain::ALL {
        let store = ParameterStore::random(Initialisation::Kaiming, seed, Device::Cpu);
        let generator = Generator::new(architecture, domain, store).unwrap();
        for parameter in generator.parameters() {
            let tensor = parameter.tensor.detach();
            let noise = 0.1 * tensor.randn_like();
            let tensor = if tensor.dim() == 1 {
                tensor + noise
            } else {
                tensor
            };
            weights.insert(format!("{}.{}", domain.name(), parameter.name), tensor);
        }
    }
    assert_eq!(
        weights.keys().collect::<Vec<_>>(),
        expected_weights(architecture, &Direction::ALL)
            .keys()
            .collect::<Vec<_>>()
    );
    Model {
        weights,
        metadata: ModelMetadata {
            format_version: FORMAT_VERSION,
            architecture: architecture.clone(),
            directions: Direction::ALL.to_vec(),
            domain_a: "noise".to_owned(),
            domain_b: "noise".to_owned(),
            iterations: 0,
            data: "none".to_owned(),
            licence: "CC0-1.0".to_owned(),
            recommended_size: None,
            styles: Default::default(),
            mean_styles: Default::default(),
        },
    }
}

/// The differentiable network's translation of `picture` `[1, C, H, W]`.
pub fn exact(model: &Model, direction: Direction, picture: &Tensor, style: &StyleCode) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    let generator = |domain: Domain| {
        let prefix = format!("{}.", domain.name());
        let store = ParameterStore::given(&model.weights, &prefix, Device::Cpu);
        Generator::new(&model.metadata.architecture, domain, store).unwrap()
    };
    let content = generator(direction.source())
        .encode_content(picture)
        .unwrap();
    let style = Tensor::from_slice(style.values()).unsqueeze(0);
    let style = (model.metadata.architecture.family == Family::Munit).then_some(&style);
    generator(direction.target())
        .decode(&content, style)
        .unwrap()
}

/// A picture `[1, channels, height, width]` of uniform noise in [-1, 1] over a slope.
pub fn picture(channels: i64, height: i64, width: i64) -> Tensor {
    let options = (Kind::Float, Device::Cpu);
    let noise = Tensor::rand([1, channels, height, width], options) * 0.6 - 0.3;
    noise + Tensor::linspace(-0.7, 0.7, width, options)
}

/// Largest absolute difference.
pub fn difference(left: &Tensor, right: &Tensor) -> f64 {
    assert_eq!(left.size(), right.size());
    (left - right).abs().max().double_value(&[])
}
