//! `munit-import` and `munit-info` from outside: real checkpoints, checkpoints of other kinds
//! and hostile files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use munit::config::{Activation, GeneratorConfig, Padding};
use munit::layout::expected_weights;
use munit::networks::{Generator, ParameterStore};
use munit::runtime::{DeviceChoice, Precision, Translator};
use munit::{Architecture, Direction, Domain, Family, Model, StyleCode};
use munit_tools::import::{Unwritten, import};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/reference")
        .join(name)
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text:?} should say {part:?}");
    }
}

/// The sentence with which a checkpoint is refused.
#[track_caller]
fn refusal(path: &Path) -> String {
    let error = import(path, &Unwritten::default()).expect_err("it should be refused");
    let text = format!("{error:#}");
    let problem = text.strip_prefix(&format!("{}: ", path.display()));
    problem.expect("the file's name comes first").to_owned()
}

fn program(name: &str, arguments: &[&str]) -> Output {
    let path = match name {
        "munit-import" => env!("CARGO_BIN_EXE_munit-import"),
        _ => env!("CARGO_BIN_EXE_munit-info"),
    };
    Command::new(path).args(arguments).output().unwrap()
}

#[track_caller]
fn succeeds(output: Output) -> String {
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    assert_eq!(error, "");
    String::from_utf8(output.stdout).unwrap()
}

/// The single line that the program leaves behind.
#[track_caller]
fn fails(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

/// Writes checkpoints as PyTorch did before 1.6, for the kinds of which there is no real one here.
mod stream {
    /// A value in a checkpoint.
    #[derive(Clone)]
    pub enum Value {
        Dict(Vec<(String, Value)>),
        Number(i32),
        Tensor(Storage),
    }

    /// A contiguous tensor.
    #[derive(Clone)]
    pub struct Storage {
        pub class: &'static str,
        pub shape: Vec<i64>,
        pub data: Vec<u8>,
    }

    impl Value {
        pub fn floats(shape: &[i64], values: impl IntoIterator<Item = f32>) -> Self {
            Value::Tensor(Storage {
                class: "FloatStorage",
                shape: shape.to_vec(),
                data: values.into_iter().flat_map(f32::to_le_bytes).collect(),
            })
        }

        pub fn dict(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
            let entries = entries.into_iter();
            Value::Dict(
                entries
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect(),
            )
        }
    }

    /// The checkpoint with `root`, whose tensors lay on `location` (`cpu`, `cuda:0`).
    pub fn bytes(root: &Value, location: &str) -> Vec<u8> {
        let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
        bytes.extend(b"\x80\x02M\xe9\x03.");
        bytes.extend(b"\x80\x02}(");
        text(&mut bytes, "little_endian");
        bytes.extend(b"\x88u.\x80\x02");
        let mut storages = Vec::new();
        value(&mut bytes, root, location, &mut storages);
        bytes.extend(b".\x80\x02](");
        for index in 0..storages.len() {
            text(&mut bytes, &index.to_string());
        }
        bytes.extend(b"e.");
        for storage in storages {
            bytes.extend(storage.shape.iter().product::<i64>().to_le_bytes());
            bytes.extend(&storage.data);
        }
        bytes
    }

    fn value(bytes: &mut Vec<u8>, one: &Value, location: &str, storages: &mut Vec<Storage>) {
        match one {
            Value::Number(number) => integer(bytes, *number),
            Value::Dict(entries) => {
                bytes.extend(b"}(");
                for (key, entry) in entries {
                    text(bytes, key);
                    value(bytes, entry, location, storages);
                }
                bytes.push(b'u');
            }
            Value::Tensor(storage) => {
                let sizes = &storage.shape;
                bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
                text(bytes, "storage");
                bytes.extend(format!("ctorch\n{}\n", storage.class).bytes());
                text(bytes, &storages.len().to_string());
                text(bytes, location);
                integer(bytes, sizes.iter().product::<i64>() as i32);
                bytes.extend(b"NtQ");
                integer(bytes, 0);
                tuple(bytes, sizes.iter().map(|&size| size as i32));
                tuple(
                    bytes,
                    (1..=sizes.len()).map(|axis| sizes[axis..].iter().product::<i64>() as i32),
                );
                bytes.extend(b"\x89ccollections\nOrderedDict\n)RtR");
                storages.push(storage.clone());
            }
        }
    }

    fn text(bytes: &mut Vec<u8>, text: &str) {
        bytes.push(b'X');
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.bytes());
    }

    fn integer(bytes: &mut Vec<u8>, number: i32) {
        bytes.push(b'J');
        bytes.extend(number.to_le_bytes());
    }

    fn tuple(bytes: &mut Vec<u8>, numbers: impl Iterator<Item = i32>) {
        bytes.push(b'(');
        numbers.for_each(|number| integer(bytes, number));
        bytes.push(b't');
    }
}

use stream::Value;

fn architecture(family: Family) -> Architecture {
    let defaults = GeneratorConfig::default();
    let of_munit = |munit, otherwise| {
        if family == Family::Munit {
            munit
        } else {
            otherwise
        }
    };
    Architecture {
        family,
        input_dim_a: 3,
        input_dim_b: 1,
        generator: GeneratorConfig {
            dim: 2,
            mlp_dim: of_munit(7, defaults.mlp_dim),
            style_dim: of_munit(3, defaults.style_dim),
            n_downsample: 3,
            n_res: 1,
            ..defaults
        },
    }
}

/// State dicts of both generators, by full tensor name.
fn weights(architecture: &Architecture) -> BTreeMap<String, Value> {
    let weights = expected_weights(architecture, &Direction::ALL)
        .into_iter()
        .enumerate();
    let value = |index: usize, shape: &[i64]| {
        let count = shape.iter().product::<i64>();
        Value::floats(shape, (0..count).map(|i| (i as f32 + index as f32).sin()))
    };
    weights
        .map(|(index, (name, shape))| (name, value(index, &shape)))
        .collect()
}

/// `{"a": …, "b": …}`.
fn by_domain(weights: &BTreeMap<String, Value>) -> Value {
    Value::dict(["a", "b"].map(|domain| {
        let start = format!("{domain}.");
        let entries = weights.iter().filter_map(|(name, value)| {
            Some((name.strip_prefix(&start)?.to_owned(), value.clone()))
        });
        (domain, Value::Dict(entries.collect()))
    }))
}

/// A folder for one test with a checkpoint in it.
fn checkpoint(root: &Value, location: &str) -> (tempfile::TempDir, PathBuf) {
    file("gen_00012000.pt", &stream::bytes(root, location))
}

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// A vector of a reference file.
fn vector(vectors: &SafeTensors, name: &str) -> Tensor {
    let view = vectors.tensor(name).unwrap();
    let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
    Tensor::from_data_size(view.data(), &shape, Kind::Float)
}

/// `picture` through the file's networks.
fn translate(
    model: &Model,
    direction: Direction,
    picture: &Tensor,
    style: Option<&Tensor>,
) -> Tensor {
    let generator = |domain: Domain| {
        let prefix = format!("{}.", domain.name());
        let store = ParameterStore::given(&model.weights, &prefix, Device::Cpu);
        Generator::new(&model.metadata.architecture, domain, store).unwrap()
    };
    let content = generator(direction.source())
        .encode_content(picture)
        .unwrap();
    generator(direction.target())
        .decode(&content, style)
        .unwrap()
}

#[test]
fn a_munitfilter_model_is_told_of() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/photo2illustration.safetensors");
    assert_says(
        &refusal(&path),
        &["is a munitfilter model already", "give it to munitfilter"],
    );
}

#[test]
fn published_kinds_of_checkpoints_translate_as_the_reference_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let _no_grad = tch::no_grad_guard();
    for (name, containers, styled) in [
        ("munit_tiny", &["legacy", "zip"][..], true),
        ("munit_vgg", &["zip"], true),
        ("unit_tiny", &["legacy", "zip"], false),
    ] {
        let bytes = std::fs::read(reference(&format!("{name}.safetensors"))).unwrap();
        let vectors = SafeTensors::deserialize(&bytes).unwrap();
        for container in containers {
            let checkpoint = reference(&format!("{name}_gen_{container}.pt"));
            let said = program(
                "munit-import",
                &[checkpoint.to_str().unwrap(), path.to_str().unwrap()],
            );
            assert_says(&succeeds(said), &["model.safetensors", "a2b and b2a"]);
            let model = Model::read(&path).unwrap();
            for (direction, input, style, output) in [
                (Direction::A2b, "x_a", "fwd.s_b", "fwd.x_ab"),
                (Direction::B2a, "x_b", "fwd.s_a", "fwd.x_ba"),
            ] {
                let style = styled.then(|| vector(&vectors, style));
                let picture = vector(&vectors, input);
                let translated = translate(&model, direction, &picture, style.as_ref());
                let difference = (translated - vector(&vectors, output)).abs().max();
                let difference = difference.double_value(&[]);
                assert!(
                    difference < 3e-5,
                    "{name} {container} {output}: {difference}"
                );
            }
        }
    }
}

/// What translates frames, with each set of instructions, against what the authors' networks gave.
#[test]
fn frames_are_those_of_the_reference() {
    let this = "frames_are_those_of_the_reference";
    const SET: &str = "MUNIT_MAX_CPU_ISA";
    if std::env::var_os(SET).is_none() {
        for maximum in ["none", "avx2", "avx512", "avx512-bf16"] {
            let tests = Command::new(std::env::current_exe().unwrap())
                .args([this, "--exact"])
                .env(SET, maximum)
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&tests.stdout);
            let passed = tests.status.success() && told.contains("1 passed");
            assert!(passed, "{maximum}: {told}");
        }
    }
    for name in ["munit_tiny", "munit_vgg", "unit_tiny"] {
        let bytes = std::fs::read(reference(&format!("{name}.safetensors"))).unwrap();
        let vectors = SafeTensors::deserialize(&bytes).unwrap();
        let checkpoint = reference(&format!("{name}_gen_zip.pt"));
        let model = import(&checkpoint, &Unwritten::default()).unwrap();
        let mut cases = vec![
            (Direction::A2b, "x_a", "fwd.s_b", "fwd.x_ab"),
            (Direction::B2a, "x_b", "fwd.s_a", "fwd.x_ba"),
        ];
        if model.metadata.architecture.family == Family::Munit {
            cases.push((Direction::A2b, "fwd.wide.x_a", "fwd.s_b", "fwd.wide.x_ab"));
        }
        for (direction, input, style, output) in cases {
            let (pictures, expected) = (vector(&vectors, input), vector(&vectors, output));
            for precision in [Precision::Fp32, Precision::Bf16] {
                let mut translator =
                    Translator::new(&model, direction, DeviceChoice::Cpu, precision).unwrap();
                for number in 0..pictures.size()[0] {
                    let code = match translator.style_dim() {
                        0 => vec![],
                        _ => Vec::try_from(vector(&vectors, style).get(number).flatten(0, -1))
                            .unwrap(),
                    };
                    let style = StyleCode::new(code, translator.style_dim()).unwrap();
                    let translated = translator
                        .translate_tensor(&pictures.narrow(0, number, 1), &style)
                        .unwrap();
                    let error = translated - expected.narrow(0, number, 1);
                    let largest = error.abs().max().double_value(&[]);
                    let square = error.square().mean(Kind::Float).double_value(&[]);
                    let psnr = 10.0 * (4.0 / square).log10();
                    let is_close = match precision {
                        Precision::Fp32 => largest < 3e-5,
                        _ => psnr > 40.0 && largest > 3e-5,
                    };
                    assert!(
                        is_close,
                        "{name} {output} {precision}: {largest}, {psnr} dB"
                    );
                }
            }
        }
    }
}

#[test]
fn every_size_is_read_off_the_shapes() {
    for family in [Family::Munit, Family::Unit] {
        for activation in [Activation::Relu, Activation::Prelu] {
            let mut architecture = architecture(family);
            architecture.generator.activation = activation;
            let weights = weights(&architecture);
            let (_folder, path) = checkpoint(&by_domain(&weights), "cpu");
            let model = import(&path, &Unwritten::default()).unwrap();
            assert_eq!(model.metadata.architecture, architecture);
            assert_eq!(model.metadata.iterations, 12_000);
            for (name, tensor) in &model.weights {
                let Value::Tensor(stored) = &weights[name] else {
                    unreachable!()
                };
                let expected = Tensor::from_data_size(&stored.data, &stored.shape, Kind::Float);
                assert_eq!(tensor, &expected, "{name}");
            }
        }
    }
}

#[test]
fn the_device_and_the_buffers_of_2018_do_not_matter() {
    let mut weights = weights(&architecture(Family::Unit));
    for layer in [
        "enc.model.0",
        "enc.model.4.model.0.model.1",
        "dec.model.0.model.0.model.0",
    ] {
        let count = stream::Storage {
            class: "LongStorage",
            shape: vec![1],
            data: 7i64.to_le_bytes().to_vec(),
        };
        weights.extend([
            (
                format!("a.{layer}.norm.running_mean"),
                Value::floats(&[2], [0.5, f32::NAN]),
            ),
            (
                format!("a.{layer}.norm.running_var"),
                Value::floats(&[2], [1.0, 2.0]),
            ),
            (
                format!("b.{layer}.norm.num_batches_tracked"),
                Value::Tensor(count),
            ),
        ]);
    }
    let (_folder, path) = checkpoint(&by_domain(&weights), "cuda:3");
    let model = import(&path, &Unwritten::default()).unwrap();
    assert_eq!(model.metadata.architecture, architecture(Family::Unit));
    assert!(!model.weights.keys().any(|name| name.contains("running")));
}

#[test]
fn half_and_double_precision_are_read() {
    let mut weights = weights(&architecture(Family::Unit));
    let store = |class, data| {
        Value::Tensor(stream::Storage {
            class,
            shape: vec![3],
            data,
        })
    };
    let numbers = [0.5f32, -1.25, 3.0];
    let half = [0x3800u16, 0xbd00, 0x4200]
        .into_iter()
        .flat_map(u16::to_le_bytes);
    let double = numbers.iter().flat_map(|n| f64::from(*n).to_le_bytes());
    let name = "a.dec.model.7.conv.bias";
    for value in [
        store("HalfStorage", half.collect()),
        store("DoubleStorage", double.collect()),
    ] {
        weights.insert(name.to_owned(), value);
        let (_folder, path) = checkpoint(&by_domain(&weights), "cpu");
        let model = import(&path, &Unwritten::default()).unwrap();
        assert_eq!(model.weights[name], Tensor::from_slice(&numbers));
    }
}

#[test]
fn the_programs_flags_reach_the_file_and_munit_info_tells_them() {
    let (folder, path) = checkpoint(&by_domain(&weights(&architecture(Family::Munit))), "cpu");
    let model_path = folder.path().join("edges2shoes.safetensors");
    let (path, model_path) = (path.to_str().unwrap(), model_path.to_str().unwrap());
    let said = succeeds(program(
        "munit-import",
        &[
            path,
            model_path,
            "--json",
            "--a-name=edges",
            "--b-name=shoes",
            "--directions=a2b",
            "--precision=fp16",
            "--activ=lrelu",
            "--pad-type=zero",
            "--iterations=1000000",
            "--size=256",
            "--data=50,000 pictures of shoes",
            "--licence=CC BY 4.0",
        ],
    ));
    let model = Model::read(Path::new(model_path)).unwrap();
    let metadata = &model.metadata;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["file"], model_path);
    assert_eq!(said["precision"], "fp16");
    assert_eq!(said["metadata"], serde_json::to_value(metadata).unwrap());
    assert_eq!(metadata.directions, [Direction::A2b]);
    assert_eq!(
        metadata.architecture.generator.activation,
        Activation::Lrelu
    );
    assert_eq!(metadata.architecture.generator.padding, Padding::Zero);
    assert_eq!(
        (metadata.iterations, metadata.recommended_size),
        (1_000_000, Some(256))
    );

    let json = succeeds(program("munit-info", &[model_path, "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["architecture"]["family"], "munit");
    assert_eq!(json["architecture"]["generator"]["activ"], "lrelu");
    assert_eq!(
        (&json["domain_a"], &json["domain_b"]),
        (&"edges".into(), &"shoes".into())
    );
    assert_eq!(json["directions"], serde_json::json!(["a2b"]));
    assert_eq!(json["data"], "50,000 pictures of shoes");
    assert_eq!(json["licence"], "CC BY 4.0");
    let bytes = std::fs::read(model_path).unwrap();
    assert_eq!(json["bytes"], bytes.len());
    assert_eq!(json["sha256"], format!("{:x}", Sha256::digest(&bytes)));
    let count: usize = model.weights.values().map(Tensor::numel).sum();
    assert_eq!(json["parameters"], count);
    assert_eq!(json["precision"], serde_json::json!({"fp16": count}));
    assert!(json["multiply_adds_per_pixel"]["a2b"].as_f64().unwrap() > 0.0);

    let table = succeeds(program("munit-info", &[model_path]));
    for (row, text) in [
        ("family", "MUNIT"),
        ("domains", "a = edges, b = shoes (grey)"),
        ("directions", "a2b (edges to shoes)"),
        (
            "network",
            "dim 2, n_downsample 3, n_res 1, style_dim 3, mlp_dim 7, activ lrelu, pad_type zero",
        ),
        ("precision", "fp16"),
        ("iterations", "1,000,000"),
        ("trained on", "50,000 pictures of shoes"),
        ("licence", "CC BY 4.0"),
        ("training size", "256 pixels"),
        ("named styles", "none"),
    ] {
        let line = table.lines().find(|line| line.starts_with(row));
        assert_eq!(line.unwrap()[row.len()..].trim(), text, "{row}");
    }
}

#[test]
fn the_programs_fail_with_one_sentence() {
    let checkpoint = reference("munit_tiny_dis_legacy.pt");
    let checkpoint = checkpoint.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.safetensors");
    let text = fails(program(
        "munit-import",
        &[checkpoint, model.to_str().unwrap()],
    ));
    assert_says(
        &text,
        &[
            "munit-import: ",
            "munit_tiny_dis_legacy.pt: holds discriminators",
        ],
    );
    assert!(!model.exists());
    let text = fails(program("munit-info", &[checkpoint]));
    assert_says(
        &text,
        &[
            "munit-info: ",
            "munit_tiny_dis_legacy.pt: looks like a PyTorch checkpoint",
        ],
    );
    let text = fails(program("munit-info", &["no such file"]));
    assert_says(
        &text,
        &["munit-info: no such file: there is no such file and no model named"],
    );

    let own = folder.path().join("gen.pt");
    std::fs::copy(reference("unit_tiny_gen_zip.pt"), &own).unwrap();
    let own = own.to_str().unwrap();
    assert_says(
        &fails(program("munit-import", &[own, own])),
        &["the checkpoint itself"],
    );
    let nowhere = format!("{own}/model.safetensors");
    assert_says(
        &fails(program("munit-import", &[own, &nowhere])),
        &["cannot write"],
    );
}

#[test]
fn other_checkpoints_are_told_what_they_are() {
    for name in [
        "munit_tiny_dis_legacy.pt",
        "munit_tiny_dis_zip.pt",
        "unit_tiny_dis_zip.pt",
    ] {
        assert_says(
            &refusal(&reference(name)),
            &["holds discriminators", "gen_*.pt"],
        );
    }
    let bias = || Value::floats(&[2], [0.5, 1.0]);
    let moments = Value::dict([(
        "state",
        Value::dict([(
            "0",
            Value::dict([("step", Value::Number(5)), ("exp_avg", bias())]),
        )]),
    )]);
    let munit = by_domain(&weights(&architecture(Family::Munit)));
    let Value::Dict(mut both) = munit else {
        unreachable!()
    };
    let (_, alone) = both.swap_remove(0);
    let layer = Value::dict([("weight", bias()), ("bias", bias())]);
    for (root, parts) in [
        (
            Value::dict([("gen", moments.clone()), ("dis", moments)]),
            &["optimiser"][..],
        ),
        (alone.clone(), &["one generator only"]),
        (Value::dict([("a", alone)]), &["one generator only"]),
        (
            Value::dict([("conv1", layer.clone()), ("fc", layer)]),
            &[
                "holds 4 tensors",
                "conv1.bias, conv1.weight, fc.bias, …",
                "enc_content",
            ],
        ),
        (
            Value::dict([("epoch", Value::Number(3))]),
            &["holds no tensors"],
        ),
    ] {
        let (_folder, path) = checkpoint(&root, "cpu");
        assert_says(&refusal(&path), parts);
    }
}

#[test]
fn other_files_are_told_what_they_are() {
    let zip = std::fs::read(reference("unit_tiny_gen_zip.pt")).unwrap();
    let stream = std::fs::read(reference("unit_tiny_gen_legacy.pt")).unwrap();
    for bytes in [
        &b""[..],
        b"# a text that somebody wrote\n",
        &[0x5a; 4096],
        &zip[..zip.len() / 2],
        &stream[..stream.len() / 2],
        &stream[..1000],
    ] {
        let (_folder, path) = file("gen.pt", bytes);
        assert_says(&refusal(&path), &["cannot be read as a PyTorch checkpoint"]);
    }
    let folder = tempfile::tempdir().unwrap();
    assert_says(&refusal(folder.path()), &["is a folder"]);
    assert_says(&refusal(&folder.path().join("gen.pt")), &["cannot read"]);
    assert_says(
        &refusal(&reference("munit_tiny.safetensors")),
        &["not a PyTorch checkpoint"],
    );
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let name = "b.dec.model.4.conv.bias";
    let with = |change: &dyn Fn(&mut BTreeMap<String, Value>)| {
        let mut weights = weights(&architecture(Family::Munit));
        change(&mut weights);
        let (_folder, path) = checkpoint(&by_domain(&weights), "cpu");
        refusal(&path)
    };
    let text = with(&|weights| {
        weights.remove(name);
    });
    let looks = "looks like a MUNIT generator of dim 2 with n_downsample 3 and n_res 1";
    assert_says(
        &text,
        &[
            looks,
            "lacks the tensor b.dec.model.4.conv.bias of shape [4]",
        ],
    );
    let text = with(&|weights| {
        weights.insert(name.to_owned(), Value::floats(&[2], [1.0, 2.0]));
    });
    assert_says(&text, &[looks, name, "shape [2] where [4] is expected"]);
    let text = with(&|weights| {
        weights.insert(
            "a.dec.attention.weight".to_owned(),
            Value::floats(&[1], [1.0]),
        );
    });
    assert_says(&text, &[looks, "has a tensor a.dec.attention.weight"]);
    let text = with(&|weights| {
        weights.insert(
            name.to_owned(),
            Value::floats(&[4], [1.0, f32::NAN, 1.0, 1.0]),
        );
    });
    assert_says(&text, &[name, "not finite"]);
    let text = with(&|weights| {
        let integers = stream::Storage {
            class: "IntStorage",
            shape: vec![4],
            data: vec![0; 16],
        };
        weights.insert(name.to_owned(), Value::Tensor(integers));
    });
    assert_says(&text, &[name, "not weights"]);
    let text = with(&|weights| {
        weights.remove("a.enc_content.model.0.conv.weight");
    });
    assert_says(
        &text,
        &["lacks the tensor a.enc_content.model.0.conv.weight"],
    );
    let text = with(&|weights| {
        let scalar = Value::floats(&[], [1.0]);
        weights.insert("a.enc_content.model.0.conv.weight".to_owned(), scalar);
    });
    assert_says(&text, &["a.enc_content.model.0.conv.weight", "shape []"]);
}

#[test]
fn an_activation_that_contradicts_the_weights_is_refused() {
    let mut learned = architecture(Family::Munit);
    learned.generator.activation = Activation::Prelu;
    for (architecture, claimed, said) in [
        (learned, Activation::Relu, "its activation is prelu"),
        (
            architecture(Family::Munit),
            Activation::Prelu,
            "is not prelu",
        ),
    ] {
        let (_folder, path) = checkpoint(&by_domain(&weights(&architecture)), "cpu");
        let unwritten = Unwritten {
            activation: Some(claimed),
            ..Unwritten::default()
        };
        let error = import(&path, &unwritten).unwrap_err();
        assert_says(&format!("{error:#}"), &[said]);
    }
}

#[test]
fn nothing_in_a_checkpoint_is_executed() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let call = format!("cos\nsystem\n(S'touch {}'\ntR", trace.display());
    let plain = format!("\u{80}\u{2}{call}.")
        .chars()
        .map(|one| one as u8)
        .collect();
    let mut within = stream::bytes(&by_domain(&weights(&architecture(Family::Unit))), "cpu");
    let key = within
        .windows(6)
        .position(|window| window == b"X\x01\0\0\0a")
        .unwrap();
    within.splice(key..key, format!("X\u{1}\0\0\0c{call}").into_bytes());
    for bytes in [plain, within] {
        let path = folder.path().join("gen.pt");
        std::fs::write(&path, bytes).unwrap();
        // Refused or read without the call: both are right.
        let _ = import(&path, &Unwritten::default());
        assert!(!trace.exists());
    }
}

#[test]
fn random_damage_gives_a_sentence_and_never_a_panic() {
    let small = stream::bytes(&by_domain(&weights(&architecture(Family::Unit))), "cpu");
    let zip = std::fs::read(reference("unit_tiny_gen_zip.pt")).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gen.pt");
    for (good, rounds) in [(small, 400), (zip, 60)] {
        for round in 0..rounds {
            let mut bytes = good.clone();
            // What describes the tensors stands at the beginning, a zip's index at the end.
            let described = bytes.len().min(20_000);
            for _ in 0..random.random_range(1..4) {
                let position = random.random_range(0..described);
                let from_end = round % 3 == 0;
                let position = if from_end {
                    bytes.len() - 1 - position
                } else {
                    position
                };
                bytes[position] = random.random();
            }
            if round % 5 == 0 {
                bytes.truncate(random.random_range(0..bytes.len()));
            }
            std::fs::write(&path, &bytes).unwrap();
            if let Err(error) = import(&path, &Unwritten::default()) {
                assert_says(&format!("{error:#}"), &["gen.pt: "]);
            }
        }
    }
}
