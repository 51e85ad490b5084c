//! The networks, losses and updates against numbers made by the published ones.
//!
//! Runs over every `NAME.json` in the folder that the environment variable `MUNIT_REFERENCE`
//! names (default: the fixtures in `tests/reference`); see the README there for what they hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use munit::config::{Architecture, DiscriminatorConfig, Domain, Family, Norm};
use munit::networks::{Discriminator, Generator, Initialisation, Parameter, ParameterStore, Vgg16};
use munit_tools::config::{TrainConfig, TrainerKind};
use munit_tools::perceptual::PerceptualNetwork;
use munit_tools::trainer::{Pair, Trainer};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

type Tensors = BTreeMap<String, Tensor>;

/// One set of vectors.
struct Reference {
    name: String,
    facts: Value,
    tensors: Tensors,
    config: TrainConfig,
    generators: Tensors,
    discriminators: Tensors,
}

fn folder() -> PathBuf {
    match std::env::var_os("MUNIT_REFERENCE") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference"),
    }
}

fn references() -> Vec<Reference> {
    let folder = folder();
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            (path.extension()? == "json").then(|| path.file_stem()?.to_str().map(str::to_owned))?
        })
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no references in {}", folder.display());
    names
        .iter()
        .map(|name| Reference::read(&folder, name))
        .collect()
}

fn read_safetensors(path: &Path) -> Tensors {
    Tensor::read_safetensors(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into_iter()
        .collect()
}

/// The two state dicts of a checkpoint, `a.` and `b.` before their names; zip file or, where
/// there is none, legacy stream.
fn read_checkpoint(folder: &Path, name: &str) -> Tensors {
    let path = ["zip", "legacy"]
        .map(|form| folder.join(format!("{name}_{form}.pt")))
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| {
            panic!(
                "{}: no {name}_zip.pt and no {name}_legacy.pt",
                folder.display()
            )
        });
    let mut tensors = Tensors::new();
    for domain in Domain::ALL {
        let reader = pytorch_reader::PytorchReader::with_top_level_key(&path, domain.name())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for (name, tensor) in reader.tensors() {
            let shape: Vec<i64> = tensor.shape().iter().map(|&side| side as i64).collect();
            let kind = match tensor.dtype() {
                pytorch_reader::DType::F32 => Kind::Float,
                _ => Kind::Int64,
            };
            let bytes = tensor.read().unwrap();
            let values = Tensor::f_from_data_size(&bytes, &shape, kind).unwrap();
            tensors.insert(format!("{}.{name}", domain.name()), values);
        }
    }
    tensors
}

impl Reference {
    fn read(folder: &Path, name: &str) -> Self {
        let path = folder.join(format!("{name}.json"));
        let facts: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let tensors = read_safetensors(&folder.join(format!("{name}.safetensors")));
        let mut config: TrainConfig =
            serde_json::from_value(facts["hyperparameters"].clone()).unwrap();
        config.trainer = match facts["trainer"].as_str() {
            Some("MUNIT") => TrainerKind::Munit,
            Some("UNIT") => TrainerKind::Unit,
            other => panic!("{name}: trainer {other:?}"),
        };
        let size = tensors["x_a"].size();
        (config.crop_image_height, config.crop_image_width) = (size[2] as usize, size[3] as usize);
        config.batch_size = size[0] as usize;
        Self {
            name: name.to_owned(),
            facts,
            tensors,
            config,
            generators: read_checkpoint(folder, &format!("{name}_gen")),
            discriminators: read_checkpoint(folder, &format!("{name}_dis")),
        }
    }

    fn architecture(&self) -> Architecture {
        self.config.architecture()
    }

    fn generator(&self, domain: Domain) -> Generator {
        let prefix = format!("{}.", domain.name());
        let store = ParameterStore::given(&self.generators, &prefix, Device::Cpu);
        Generator::new(&self.architecture(), domain, store).unwrap()
    }

    fn discriminator(&self, domain: Domain) -> Discriminator {
        let prefix = format!("{}.", domain.name());
        let store = ParameterStore::given(&self.discriminators, &prefix, Device::Cpu);
        let channels = self.architecture().channels(domain);
        Discriminator::new(&self.config.discriminator, channels, store).unwrap()
    }

    fn trainer(&self) -> Trainer {
        let perceptual = (self.config.vgg_w > 0.0).then(|| {
            PerceptualNetwork::Published(Vgg16::new(&made_up_vgg(), Device::Cpu).unwrap())
        });
        Trainer::with_networks(
            &self.config,
            Device::Cpu,
            perceptual,
            Pair {
                a: self.generator(Domain::A),
                b: self.generator(Domain::B),
            },
            Pair {
                a: self.discriminator(Domain::A),
                b: self.discriminator(Domain::B),
            },
        )
        .unwrap()
    }

    fn expect(&self, key: &str, actual: &Tensor) {
        let expected = &self.tensors[key];
        assert_eq!(expected.size(), actual.size(), "{}: {key}", self.name);
        let difference = f64::try_from((expected - actual).abs().max()).unwrap();
        assert!(
            difference <= FORWARD_TOLERANCE,
            "{}: {key} differs by {difference:e}",
            self.name
        );
    }

    /// The noise of one iteration, in the order in which it is drawn.
    fn noise(&self, step: usize) -> impl FnMut(&[i64]) -> anyhow::Result<Tensor> {
        let mut keys = ["dis", "gen"].into_iter().flat_map(move |update| {
            (0..)
                .map(move |number| format!("step{step}.{update}.noise{number}"))
                .take_while(|key| self.tensors.contains_key(key))
        });
        move |shape| {
            let key = keys
                .next()
                .expect("more noise drawn than the reference has");
            let noise = &self.tensors[&key];
            assert_eq!(noise.size(), shape, "{}: {key}", self.name);
            Ok(noise.shallow_clone())
        }
    }
}

/// VGG-16 with the weights that the reference README defines by a formula.
fn made_up_vgg() -> Tensors {
    let stages = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)];
    let mut tensors = Tensors::new();
    let (mut inputs, mut number) = (3i64, 0);
    for (stage, (outputs, count)) in (1..).zip(stages) {
        for layer in 1..=count {
            for (part, shape) in [
                ("weight", vec![outputs, inputs, 3, 3]),
                ("bias", vec![outputs]),
            ] {
                number += 1;
                let scale = match part {
                    "weight" => (2.0 / (9.0 * inputs as f64)).sqrt() * 2f64.sqrt(),
                    _ => 0.05,
                };
                let elements = shape.iter().product::<i64>();
                let values = Tensor::arange(elements, (Kind::Double, Device::Cpu));
                let values = ((values * 0.37 + f64::from(number)).sin() * scale)
                    .to_kind(Kind::Float)
                    .reshape(shape);
                tensors.insert(format!("conv{stage}_{layer}.{part}"), values);
            }
            inputs = outputs;
        }
    }
    tensors
}

/// Three times what two float32 builds of the published code differ by.
const FORWARD_TOLERANCE: f64 = 3e-5;
const WEIGHT_TOLERANCE: f64 = 3.6e-5;

fn loss_tolerance(config: &TrainConfig) -> f64 {
    if config.vgg_w > 0.0 { 3e-4 } else { 1.5e-4 }
}

fn gradient_tolerance(config: &TrainConfig) -> f64 {
    if config.vgg_w > 0.0 { 7.2e-2 } else { 2.7e-3 }
}

#[test]
fn forward_passes_equal_the_published_networks() {
    for reference in references() {
        let (gen_a, gen_b) = (
            reference.generator(Domain::A),
            reference.generator(Domain::B),
        );
        let (x_a, x_b) = (&reference.tensors["x_a"], &reference.tensors["x_b"]);
        let _guard = tch::no_grad_guard();
        let (c_a, c_b) = (
            gen_a.encode_content(x_a).unwrap(),
            gen_b.encode_content(x_b).unwrap(),
        );
        match reference.architecture().family {
            Family::Munit => {
                reference.expect("fwd.c_a", &c_a);
                reference.expect("fwd.c_b", &c_b);
                let (s_a, s_b) = (&reference.tensors["fwd.s_a"], &reference.tensors["fwd.s_b"]);
                let s_a_prime = gen_a.encode_style(x_a).unwrap();
                let s_b_prime = gen_b.encode_style(x_b).unwrap();
                reference.expect("fwd.s_a_prime", &s_a_prime);
                reference.expect("fwd.s_b_prime", &s_b_prime);
                reference.expect("fwd.adain_params_b", &gen_b.adain_parameters(s_b).unwrap());
                reference.expect(
                    "fwd.x_a_recon",
                    &gen_a.decode(&c_a, Some(&s_a_prime)).unwrap(),
                );
                reference.expect(
                    "fwd.x_b_recon",
                    &gen_b.decode(&c_b, Some(&s_b_prime)).unwrap(),
                );
                reference.expect("fwd.x_ab", &gen_b.decode(&c_a, Some(s_b)).unwrap());
                reference.expect("fwd.x_ba", &gen_a.decode(&c_b, Some(s_a)).unwrap());
                if let Some(wide) = reference.tensors.get("fwd.wide.x_a") {
                    let content = gen_a.encode_content(wide).unwrap();
                    let translated = gen_b.decode(&content, Some(&s_b.narrow(0, 0, 1))).unwrap();
                    reference.expect("fwd.wide.x_ab", &translated);
                }
            }
            Family::Unit => {
                reference.expect("fwd.h_a", &c_a);
                reference.expect("fwd.h_b", &c_b);
                reference.expect("fwd.x_a_recon", &gen_a.decode(&c_a, None).unwrap());
                reference.expect("fwd.x_ab", &gen_b.decode(&c_a, None).unwrap());
                reference.expect("fwd.x_ba", &gen_a.decode(&c_b, None).unwrap());
            }
        }
        let scores = reference.discriminator(Domain::A).forward(x_a).unwrap();
        assert_eq!(
            scores.len() as i64,
            reference.config.discriminator.num_scales
        );
        for (scale, score) in scores.iter().enumerate() {
            reference.expect(&format!("fwd.dis_a.{scale}"), score);
        }
    }
}

#[test]
fn losses_gradients_and_weights_follow_the_published_updates() {
    for reference in references() {
        let mut trainer = reference.trainer();
        let steps = reference.facts["steps"].as_u64().unwrap() as usize;
        let (x_a, x_b) = (&reference.tensors["x_a"], &reference.tensors["x_b"]);
        for step in 0..steps {
            let rate = reference.facts["lr_per_step"][step].as_f64().unwrap();
            let [generator_rate, _] = reference.config.learning_rates(step as u64);
            assert!(
                (generator_rate / rate - 1.0).abs() < 1e-9,
                "learning rate of step {step}"
            );

            let losses = trainer.step(x_a, x_b, &mut reference.noise(step)).unwrap();
            compare_losses(&reference, step, &losses.read().unwrap());
            if step == 0 {
                compare_gradients(&reference, &trainer);
            }
        }
        compare_weights(&reference, &trainer, steps);
    }
}

fn compare_losses(reference: &Reference, step: usize, losses: &[(&str, f64)]) {
    let expected = reference.facts["losses"][step].as_object().unwrap();
    for (name, actual) in losses {
        let expected = expected[&format!("loss_{name}")].as_f64().unwrap();
        let difference = (actual - expected).abs() / expected.abs().max(1e-6);
        assert!(
            difference <= loss_tolerance(&reference.config),
            "{}: step {step}: {name} is {actual}, expected {expected}",
            reference.name
        );
    }
    for (name, value) in expected {
        let known = losses
            .iter()
            .any(|(known, _)| name == &format!("loss_{known}"));
        assert!(
            known || value.as_f64() == Some(0.0),
            "{}: no loss {name}",
            reference.name
        );
    }
}

fn compare_gradients(reference: &Reference, trainer: &Trainer) {
    let parameters = &trainer.generator_parameters;
    let norms = reference.facts["grad_norm_step0"].as_object().unwrap();
    let mut compared = 0;
    for span in parameters.spans() {
        let gradient = span.view(parameters.gradient()).unwrap();
        let expected = norms[&span.name].as_f64().unwrap();
        // Smaller norms are rounding noise in the published code, too.
        if expected <= 1e-3 {
            continue;
        }
        let actual = f64::try_from(gradient.norm()).unwrap();
        assert!(
            (actual / expected - 1.0).abs() <= gradient_tolerance(&reference.config),
            "{}: gradient of {} has norm {actual}, expected {expected}",
            reference.name,
            span.name
        );
        compared += 1;
    }
    assert!(
        compared > norms.len() / 2,
        "{}: few gradients to compare",
        reference.name
    );
}

/// Biases in front of an instance or batch norm get gradients of pure rounding noise, which Adam
/// turns into steps of ± the learning rate; those may differ by twice the sum of the rates.
fn compare_weights(reference: &Reference, trainer: &Trainer, steps: usize) {
    let norms = reference.facts["grad_norm_step0"].as_object().unwrap();
    let rates = (0..steps).map(|step| reference.config.learning_rates(step as u64));
    let [generator_rates, discriminator_rates] = rates.fold([0.0; 2], |sums, rates| {
        [sums[0] + rates[0], sums[1] + rates[1]]
    });
    let networks: [(&str, &[Parameter]); 4] = [
        ("gen_a", trainer.generators.a.parameters()),
        ("gen_b", trainer.generators.b.parameters()),
        ("dis_a", trainer.discriminators.a.parameters()),
        ("dis_b", trainer.discriminators.b.parameters()),
    ];
    for (network, parameters) in networks {
        for parameter in parameters {
            let name = format!("{network}.{}", parameter.name);
            let Some(expected) = reference.tensors.get(&format!("after{steps}.{name}")) else {
                assert!(
                    !parameter.trainable,
                    "{}: no weights of {name}",
                    reference.name
                );
                continue;
            };
            let difference =
                f64::try_from((expected - &parameter.tensor).abs().mean(Kind::Double)).unwrap();
            // The references hold norms of the generators' gradients only; which gradients of the
            // discriminators are noise follows from their layers.
            let noise = match norms.get(&name).and_then(Value::as_f64) {
                Some(norm) => (norm <= 1e-3).then_some(generator_rates),
                None => is_cancelled_bias(&name, &reference.config.discriminator)
                    .then_some(discriminator_rates),
            };
            let tolerance = noise.map_or(WEIGHT_TOLERANCE, |rates| 2.0 * rates);
            assert!(
                difference <= tolerance,
                "{}: {name} differs by {difference:e} after {steps} steps",
                reference.name
            );
        }
    }
}

/// Whether `name` is the bias of a discriminator's convolution whose norm subtracts the mean of each
/// channel, and with it the bias. The first block and the last convolution have no norm.
fn is_cancelled_bias(name: &str, config: &DiscriminatorConfig) -> bool {
    let layer = name
        .strip_prefix("dis_")
        .and_then(|name| name.strip_suffix(".conv.bias"))
        .and_then(|name| name.rsplit_once('.'))
        .and_then(|(_, layer)| layer.parse::<i64>().ok());
    matches!(config.norm, Norm::Instance | Norm::Batch)
        && layer.is_some_and(|layer| (1..config.n_layer).contains(&layer))
}

#[test]
fn only_biases_before_a_norm_over_each_channel_are_compared_loosely() {
    for (norm, cancels) in [
        (Norm::None, false),
        (Norm::Instance, true),
        (Norm::Layer, false),
        (Norm::Batch, true),
        (Norm::Spectral, false),
    ] {
        let config = DiscriminatorConfig {
            dim: 8,
            n_layer: 3,
            num_scales: 2,
            norm,
            ..DiscriminatorConfig::default()
        };
        let store = ParameterStore::random(Initialisation::Kaiming, 1, Device::Cpu);
        let discriminator = Discriminator::new(&config, 3, store).unwrap();
        let x = Tensor::arange(2 * 3 * 64 * 64, (Kind::Float, Device::Cpu))
            .sin()
            .view([2, 3, 64, 64]);
        let scores = discriminator.forward(&x).unwrap();
        let loss: Tensor = scores
            .iter()
            .map(|score| score.square().mean(Kind::Float))
            .sum();
        loss.backward();
        for parameter in discriminator.parameters() {
            let loose = is_cancelled_bias(&format!("dis_a.{}", parameter.name), &config);
            assert!(!loose || cancels, "{norm:?}: {}", parameter.name);
            if parameter.trainable && parameter.name.ends_with(".bias") {
                let gradient = parameter.tensor.grad().norm().double_value(&[]);
                assert_eq!(
                    loose,
                    gradient < 1e-5,
                    "{norm:?}: {}: {gradient}",
                    parameter.name
                );
            }
        }
    }
}
