//! Published feature networks, imported, against what their publishers' code computes:
//! `backbones.json`, which `backbones.py` wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use munit::backbone::{Backbone, Wanted};
use munit_tools::backbone_import::describe;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// Element i of tensor `number` is sin(0.37 i + number) · scale; see `backbones.py`.
fn rule(number: usize, shape: &[i64], scale: f64) -> Tensor {
    let count: i64 = shape.iter().product();
    let places = Tensor::arange(count, (Kind::Double, Device::Cpu));
    ((places * 0.37 + number as f64).sin() * scale).reshape(shape)
}

/// The tensors of a network of `backbones.json`.
fn tensors(network: &Value) -> BTreeMap<String, Tensor> {
    let shapes = network["shapes"].as_object().unwrap();
    let mut names: Vec<&String> = shapes.keys().collect();
    names.sort();
    let tensor = |(number, name): (usize, &String)| {
        let shape: Vec<i64> = serde_json::from_value(shapes[name].clone()).unwrap();
        let values = match shape.as_slice() {
            [_, inputs @ ..] if !inputs.is_empty() => {
                let fan_in: i64 = inputs.iter().product();
                rule(number, &shape, 2.0 / (fan_in as f64).sqrt())
            }
            _ if name.ends_with("bias") || name.ends_with("running_mean") => {
                rule(number, &shape, 0.05)
            }
            _ => rule(number, &shape, 0.2) + 1.0,
        };
        (name.clone(), values.to_kind(Kind::Float))
    };
    (1..).zip(names).map(tensor).collect()
}

fn references() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backbones.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Asserts that the network computes what its reference says, for pictures of this side.
fn check(name: &str, lpips: Option<&str>, side: i64, expected_name: &str) {
    tch::set_num_threads(1);
    let references = references();
    let reference = &references[name];
    let published = tensors(reference);
    let lpips = lpips.map(|name| tensors(&references[name]));
    let (description, weights) = describe(&published, lpips.as_ref(), None).unwrap();
    assert_eq!(description.name, expected_name);
    let backbone = Backbone::new(description, &weights, Device::Cpu).unwrap();
    let mut pictures = rule(0, &[2, 3, side, side], 1.0);
    if name == "inception" {
        pictures = ((pictures + 1.0) * 127.5).round() / 127.5 - 1.0;
    }
    let found = backbone.activations(&pictures, backbone.can()).unwrap();
    let select = |place: i64| found.select(&[place]).unwrap();
    let mut compared = 0;
    for (what, found) in [
        (
            "features",
            found.features.as_ref().map(Tensor::shallow_clone),
        ),
        ("logits", found.logits.as_ref().map(Tensor::shallow_clone)),
        ("perceptual", select(0).perceptual_distance(&select(1)).ok()),
    ] {
        let Some(expected) = reference[what].as_array() else {
            continue;
        };
        let expected: Vec<f64> = expected
            .iter()
            .map(|number| number.as_f64().unwrap())
            .collect();
        let found = found.unwrap().to_kind(Kind::Double).reshape(-1);
        let length = found.square().sum(Kind::Double).sqrt().double_value(&[]);
        let (last, first) = expected.split_last().unwrap();
        for (place, expected) in first.iter().enumerate() {
            let found = found.double_value(&[place as i64]);
            // Deep networks with such weights enlarge what rounding leaves.
            assert!(
                (found - expected).abs() < 3e-4 * last,
                "{what}: {found} {expected}"
            );
        }
        assert!(
            (length - last).abs() < 3e-4 * last,
            "{what}: {length} {last}"
        );
        compared += 1;
    }
    assert!(compared > 0);
}

#[test]
fn alexnet_and_its_lpips() {
    check(
        "alexnet",
        Some("lpips_alex"),
        64,
        "AlexNet with LPIPS weights",
    );
}

#[test]
fn vgg_and_its_lpips() {
    check("vgg16", Some("lpips_vgg"), 32, "VGG-16 with LPIPS weights");
}

#[test]
fn both_squeezenets_and_their_lpips() {
    let name = "SqueezeNet 1.1 with LPIPS weights";
    check("squeezenet1_1", Some("lpips_squeeze"), 64, name);
    check("squeezenet1_0", None, 64, "SqueezeNet 1.0");
}

#[test]
fn residual_networks_of_both_kinds() {
    check("resnet18", None, 224, "ResNet-18");
    check("resnet50", None, 224, "ResNet-50");
}

#[test]
fn the_inception_network_of_the_frechet_inception_distance() {
    check("inception", None, 80, "Inception-v3 (FID)");
}

#[test]
fn distilled_vgg_is_continued_by_reflection() {
    tch::set_num_threads(1);
    let mut published = BTreeMap::new();
    let mut put = |name: &str, shape: [i64; 4]| {
        let number = published.len() + 1;
        let fan_in = shape[1] * shape[2] * shape[3];
        let scale = 2.0 / (fan_in as f64).sqrt();
        let weight = rule(number, &shape, scale).to_kind(Kind::Float);
        let bias = rule(number + 1, &shape[..1], 0.05).to_kind(Kind::Float);
        published.insert(format!("{name}.weight"), weight);
        published.insert(format!("{name}.bias"), bias);
    };
    put("conv0", [3, 3, 1, 1]);
    put("conv11", [4, 3, 3, 3]);
    put("conv12", [4, 4, 3, 3]);
    put("conv21", [6, 4, 3, 3]);
    put("conv21_aux", [12, 6, 1, 1]);
    let folder = tempfile::tempdir().unwrap();
    let [source, made] =
        ["2SE.safetensors", "made.safetensors"].map(|name| folder.path().join(name));
    let list: Vec<_> = published.iter().collect();
    Tensor::write_safetensors(&list, &source).unwrap();
    let run = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_munit-import"))
            .args(["backbone".as_ref(), source.as_os_str(), made.as_os_str()])
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    };
    let told: serde_json::Value = serde_json::from_slice(&run(&["--json"]).stdout).unwrap();
    assert_eq!(told["name"], "VGG-19 distilled to 1/16, up to relu2_1");
    assert_eq!(told["uses"][0], "perceptual distance");
    let output = run(&[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("VGG-19 distilled to 1/16, up to relu2_1; for perceptual"),
        "{said}"
    );

    let backbone = Backbone::read(&made, Device::Cpu).unwrap();
    let pictures = rule(0, &[1, 3, 16, 24], 1.0).to_kind(Kind::Float);
    let found = backbone
        .activations(&pictures, backbone.can())
        .unwrap()
        .features
        .unwrap();
    let convolve = |x: &Tensor, name: &str| {
        let [weight, bias] = ["weight", "bias"].map(|kind| &published[&format!("{name}.{kind}")]);
        x.conv2d(weight, Some(bias), [1, 1], [0, 0], [1, 1], 1)
    };
    let around = |x: &Tensor| x.reflection_pad2d([1, 1, 1, 1]);
    let x = convolve(&((pictures + 1.0) / 2.0), "conv0");
    let x = convolve(&around(&x), "conv11").relu();
    let x = convolve(&around(&x), "conv12").relu();
    let x = x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
    let x = convolve(&around(&x), "conv21").relu();
    let expected = x.mean_dim([2i64, 3].as_slice(), false, Kind::Float);
    let difference = f64::try_from((found - expected).abs().max()).unwrap();
    assert!(difference < 1e-5, "{difference}");
    let wanted = Wanted {
        logits: true,
        ..Wanted::default()
    };
    let nothing = backbone.activations(
        &Tensor::zeros([1, 3, 8, 8], (Kind::Float, Device::Cpu)),
        wanted,
    );
    assert!(nothing.unwrap().logits.is_none());
}

#[test]
fn what_is_no_known_network_gets_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let fail = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_munit-import"))
            .current_dir(folder.path())
            .arg("backbone")
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let tensor = Tensor::zeros([4, 3, 3, 3], (Kind::Float, Device::Cpu));
    Tensor::write_safetensors(&[("layer.weight", &tensor)], path("x.safetensors")).unwrap();
    let colour = Tensor::zeros([64, 3, 11, 11], (Kind::Float, Device::Cpu));
    Tensor::write_safetensors(&[("features.0.weight", &colour)], path("alex.safetensors")).unwrap();
    std::fs::write(path("x.npz"), b"no zip").unwrap();
    std::fs::write(path("x.pth"), b"no checkpoint").unwrap();
    for (arguments, expected) in [
        (
            &["missing.pth", "out.safetensors"][..],
            "missing.pth: there is no such file",
        ),
        (
            &["x.safetensors", "out.safetensors"],
            "none of the networks that are known",
        ),
        (&["x.npz", "out.safetensors"], "x.npz: cannot be read"),
        (
            &["x.pth", "out.safetensors"],
            "x.pth: cannot be read as a PyTorch checkpoint",
        ),
        (
            &["alex.safetensors", "out.safetensors"],
            "lacks the tensor features.3.weight",
        ),
        (
            &["x.safetensors", "./x.safetensors"],
            "replace the checkpoint itself",
        ),
        (
            &[
                "alex.safetensors",
                "out.safetensors",
                "--lpips",
                "missing.pth",
            ],
            "missing.pth: there is no such file",
        ),
    ] {
        let message = fail(arguments);
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(!message.contains("panicked") && !path("out.safetensors").exists());
    }
}
