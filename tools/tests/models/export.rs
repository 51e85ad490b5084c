//! `munit-export` of model files: what other programs get computes what the model computes.

use std::path::Path;

use munit::config::{Activation, GeneratorConfig, Padding};
use munit::{Direction, Family, Model};
use munit_tools::export::onnx::OnnxNetwork;
use serde_json::Value;
use tch::{CModule, Device, Kind, Tensor};

use crate::tiny::{Tiny, Workplace, difference};

fn workplace(model: &Model) -> Workplace {
    Workplace::new(model, env!("CARGO_BIN_EXE_munit-export"))
}

/// Pictures [2, C, H, W] and styles [2, style_dim].
fn inputs(channels: i64, height: i64, width: i64) -> (Tensor, Tensor) {
    let count = 2 * channels * height * width;
    let places = Tensor::arange(count, (Kind::Float, Device::Cpu));
    let pictures = (places * 0.37).sin().reshape([2, channels, height, width]);
    let styles = Tensor::from_slice(&[0.5f32, -1.0, 2.0, 0.1, 0.7, -0.3]).reshape([2, -1]);
    (pictures, styles)
}

/// What the networks make of each of several pictures, whose sides must be divisible.
fn expected(tiny: &Tiny, pictures: &Tensor, styles: &Tensor, direction: Direction) -> Tensor {
    let family = tiny.model.metadata.architecture.family;
    let each: Vec<Tensor> = (0..pictures.size()[0])
        .map(|index| {
            let style = match family {
                Family::Munit => Vec::<f32>::try_from(styles.get(index)).unwrap(),
                Family::Unit => Vec::new(),
            };
            tiny.expected(&pictures.narrow(0, index, 1), direction, &style)
        })
        .collect();
    Tensor::cat(&each, 0)
}

fn options(activation: Activation, padding: Padding, n_downsample: i64) -> GeneratorConfig {
    GeneratorConfig {
        activation,
        padding,
        n_downsample,
        ..GeneratorConfig::default()
    }
}

/// Both families, and every option that changes what is computed.
fn models() -> Vec<Tiny> {
    use Activation::{Lrelu, None, Prelu, Relu, Selu, Tanh};
    let colours = [3, 3];
    let mut models = vec![
        Tiny::new(Family::Unit),
        Tiny::of(Family::Munit, [1, 3], GeneratorConfig::default()),
        Tiny::of(
            Family::Munit,
            colours,
            options(Lrelu, Padding::Replicate, 1),
        ),
        Tiny::of(Family::Munit, colours, options(Prelu, Padding::Zero, 2)),
        Tiny::of(Family::Unit, colours, options(Relu, Padding::Reflect, 0)),
    ];
    for activation in [Selu, Tanh, None] {
        let options = options(activation, Padding::Reflect, 2);
        models.push(Tiny::of(Family::Munit, colours, options));
    }
    models
}

fn torchscript(place: &Workplace, name: &str) -> CModule {
    CModule::load(place.path(name)).unwrap()
}

#[test]
fn torchscript_translates_pictures_of_any_size_in_batches() {
    for tiny in models() {
        let place = workplace(&tiny.model);
        let said = place.succeed("model.safetensors model.pt");
        assert!(said.contains("TorchScript, fp32, a2b and b2a"), "{said}");
        let module = torchscript(&place, "model.pt");
        let architecture = &tiny.model.metadata.architecture;
        for direction in Direction::ALL {
            let (pictures, styles) = inputs(architecture.channels(direction.source()), 24, 36);
            let mut arguments = vec![pictures.shallow_clone()];
            if architecture.family == Family::Munit {
                arguments.push(styles.shallow_clone());
            }
            let found = module.method_ts(direction.name(), &arguments).unwrap();
            let expected = expected(&tiny, &pictures, &styles, direction);
            assert!(difference(&found, &expected) < 1e-4, "{architecture:?}");
            if direction == Direction::A2b {
                assert_eq!(module.forward_ts(&arguments).unwrap(), found);
            }
        }
        // Sides that no stride divides keep their length.
        let (pictures, styles) = inputs(architecture.input_dim_a, 25, 35);
        let arguments = match architecture.family {
            Family::Munit => vec![pictures, styles],
            Family::Unit => vec![pictures],
        };
        let found = module.method_ts("a2b", &arguments).unwrap();
        assert_eq!(found.size(), [2, architecture.input_dim_b, 25, 35]);
    }
}

#[test]
fn torchscript_has_the_parts_of_the_networks_as_methods() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    place.succeed("model.safetensors model.pt --directions a2b");
    let module = torchscript(&place, "model.pt");
    let (pictures, styles) = inputs(3, 32, 32);
    let content = module.method_ts("encode_content_a", &[&pictures]).unwrap();
    let generator = &tiny.generators[0];
    assert!(difference(&content, &generator.encode_content(&pictures).unwrap()) < 1e-4);
    let style = module.method_ts("encode_style_b", &[&pictures]).unwrap();
    let generator = &tiny.generators[1];
    let expected = generator.encode_style(&pictures).unwrap().reshape([2, -1]);
    assert!(difference(&style, &expected) < 1e-4);
    let decoded = module.method_ts("decode_b", &[&content, &styles]).unwrap();
    assert!(
        difference(
            &decoded,
            &generator.decode(&content, Some(&styles)).unwrap()
        ) < 1e-4
    );
    assert!(module.method_ts("b2a", &[&pictures, &styles]).is_err());
    let names: Vec<String> = module
        .named_parameters()
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(
        names.contains(&"b_mlp_model_0_fc_weight".to_owned()),
        "{names:?}"
    );
    assert!(
        !names.iter().any(|name| name.starts_with("b_enc_content")),
        "{names:?}"
    );
}

#[test]
fn sixteen_bits_halve_a_file_and_are_computed_in() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    let size = |name: &str| std::fs::metadata(place.path(name)).unwrap().len();
    for (ending, kept) in [("pt", "both"), ("onnx", "a2b")] {
        place.succeed(&format!(
            "model.safetensors whole.{ending} --directions {kept}"
        ));
        for precision in ["fp16", "bf16"] {
            let name = format!("{precision}.{ending}");
            let arguments = format!("--precision {precision} --directions {kept}");
            place.succeed(&format!("model.safetensors {name} {arguments}"));
            // The text of a tiny model weighs more than its weights.
            let saved = size(&format!("whole.{ending}")) - size(&name);
            // ONNX holds what a direction needs of two generators, without the style encoders.
            let has = |name: &str| {
                let parts = ["a.enc_content.", "b.dec.", "b.mlp."];
                kept == "both" || parts.iter().any(|part| name.starts_with(part))
            };
            let weights = tiny.model.weights.iter().filter(|(name, _)| has(name));
            let kept: usize = weights.map(|(_, tensor)| tensor.numel()).sum();
            let halves = (kept as f64 * 1.7) as u64..(kept as f64 * 2.1) as u64;
            assert!(
                halves.contains(&saved),
                "{name}: {saved} bytes of {kept} weights"
            );
        }
    }
    let module = torchscript(&place, "bf16.pt");
    let (pictures, styles) = inputs(3, 32, 32);
    let found = module.forward_ts(&[&pictures, &styles]).unwrap();
    let expected = expected(&tiny, &pictures, &styles, Direction::A2b);
    assert_eq!(found.kind(), Kind::Float);
    let error = difference(&found, &expected);
    assert!((1e-5..0.2).contains(&error), "{error}");
}

#[test]
fn onnx_translates_pictures_of_any_size_in_batches() {
    for tiny in models() {
        let place = workplace(&tiny.model);
        for direction in Direction::ALL {
            let name = format!("{}.onnx", direction.name());
            let arguments = format!("--directions {}", direction.name());
            let said = place.succeed(&format!("model.safetensors {name} {arguments}"));
            assert!(said.contains("ONNX, fp32, "), "{said}");
            let network = OnnxNetwork::read(&place.path(&name)).unwrap();
            let architecture = &tiny.model.metadata.architecture;
            let (pictures, styles) = inputs(architecture.channels(direction.source()), 24, 36);
            let found = network.translate(&pictures, Some(&styles)).unwrap();
            let expected = expected(&tiny, &pictures, &styles, direction);
            assert!(difference(&found, &expected) < 1e-4, "{architecture:?}");
            let (pictures, styles) = inputs(architecture.channels(direction.source()), 25, 35);
            let found = network.translate(&pictures, Some(&styles)).unwrap();
            assert_eq!(&found.size()[2..], [25, 35]);
        }
    }
    let place = workplace(&Tiny::new(Family::Munit).model);
    assert!(
        place
            .succeed("model.safetensors first.onnx")
            .contains(", a2b\n")
    );
}

/// ONNX Runtime itself, where the Python that `MUNIT_ONNX_PYTHON` names has it.
#[test]
fn onnx_runtime_computes_the_same() {
    let Some(python) = std::env::var_os("MUNIT_ONNX_PYTHON") else {
        eprintln!("not compared with ONNX Runtime: MUNIT_ONNX_PYTHON names no Python that has it");
        return;
    };
    for tiny in models() {
        let place = workplace(&tiny.model);
        place.succeed("model.safetensors model.onnx --directions b2a");
        let architecture = &tiny.model.metadata.architecture;
        let network = OnnxNetwork::read(&place.path("model.onnx")).unwrap();
        for (height, width) in [(24, 36), (25, 35)] {
            let (pictures, styles) = inputs(architecture.input_dim_b, height, width);
            pictures.write_npy(place.path("picture.npy")).unwrap();
            styles.write_npy(place.path("style.npy")).unwrap();
            let output = std::process::Command::new(&python)
                .current_dir(place.folder.path())
                .args(["-c", RUN_ONNX])
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            let found = Tensor::read_npy(place.path("translation.npy")).unwrap();
            let expected = network.translate(&pictures, Some(&styles)).unwrap();
            assert!(difference(&found, &expected) < 1e-4, "{architecture:?}");
        }
    }
}

const RUN_ONNX: &str = "
import numpy, onnxruntime
session = onnxruntime.InferenceSession('model.onnx')
names = [value.name for value in session.get_inputs()]
given = {name: numpy.load(name + '.npy') for name in names}
numpy.save('translation.npy', session.run(['translation'], given)[0])
";

#[test]
fn the_comparison_is_told_in_json() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    let told: Value =
        serde_json::from_str(&place.succeed("model.safetensors model.pt --json")).unwrap();
    assert_eq!(told["format"], "torchscript");
    assert_eq!(told["precision"], "fp32");
    assert_eq!(told["directions"], serde_json::json!(["a2b", "b2a"]));
    let parity = told["parity"].as_array().unwrap();
    assert_eq!(parity.len(), 2);
    for one in parity {
        let difference = one["largest_difference"].as_f64().unwrap();
        assert!((0.0..1e-4).contains(&difference), "{told}");
        assert_eq!(one["size"], serde_json::json!([83, 69]));
    }
}

#[test]
fn a_model_becomes_a_smaller_model() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    place.succeed("model.safetensors small.safetensors --precision fp16 --directions b2a");
    let small = Model::read(&place.path("small.safetensors")).unwrap();
    assert_eq!(small.metadata.directions, [Direction::B2a]);
    assert_eq!(small.metadata.styles.keys().collect::<Vec<_>>(), ["pencil"]);
    let size = |name: &str| std::fs::metadata(place.path(name)).unwrap().len();
    assert!(size("small.safetensors") < size("model.safetensors") / 2);
}

#[test]
fn mistakes_get_a_sentence_and_leave_no_file() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    for (arguments, expected) in [
        (
            "model.safetensors out.onnx --directions both",
            "one direction",
        ),
        ("model.safetensors out.pt --style new=3", "munit-style"),
        ("missing.safetensors out.pt", "missing.safetensors"),
        (
            "model.safetensors model.safetensors",
            "replace the original",
        ),
        (
            "model.safetensors model.safetensors/out.pt",
            "model.safetensors is a file, not a folder",
        ),
        ("missing.safetensors .", "this is a folder"),
        (
            "model.safetensors out.foo",
            "end it in .safetensors for a model, .pt for TorchScript or .onnx for ONNX",
        ),
        ("model.safetensors out", "cannot tell from this name"),
        (
            "model.safetensors out.pt --format png",
            "invalid value 'png'",
        ),
    ] {
        let message = place.fail(arguments);
        assert!(message.contains(expected), "{arguments}: {message}");
        assert!(!place.path("out.pt").exists() && !place.path("out.onnx").exists());
    }
    // Weights that are too large for 16 bits: no translation is right, and an older file stays.
    let mut large = Tiny::new(Family::Munit).model;
    let bias = large
        .weights
        .get_mut("b.dec.model.0.model.0.model.0.conv.bias");
    let _ = bias.unwrap().fill_(1e6);
    large
        .write(&place.path("large.safetensors"), Kind::Float)
        .unwrap();
    for older in ["older.pt", "older.onnx"] {
        std::fs::write(place.path(older), "older").unwrap();
        let message = place.fail(&format!("large.safetensors {older} --precision fp16"));
        assert!(
            message.contains(&format!("{older}: its translation would differ")),
            "{message}"
        );
        assert_eq!(std::fs::read(place.path(older)).unwrap(), b"older");
    }
    for made in ["new/deep/out.onnx", "new/model/out.SAFETENSORS"] {
        place.succeed(&format!("model.safetensors {made}"));
        assert!(place.path(made).is_file());
    }
    // What is asked for counts, not the name.
    place.succeed("model.safetensors out.bin --format onnx");
    OnnxNetwork::read(&place.path("out.bin")).unwrap();
    let error = OnnxNetwork::read(Path::new(&place.path("model.safetensors")))
        .err()
        .unwrap();
    let error = format!("{error:#}");
    assert!(
        error.contains("model.safetensors: not an ONNX file"),
        "{error}"
    );
}
