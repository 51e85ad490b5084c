//! Model files from outside: what is written comes back, and what is damaged, foreign or hostile
//! is refused with a sentence.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use munit::config::{Activation, GeneratorConfig};
use munit::layout::expected_weights;
use munit::model_file::{FORMAT_VERSION, NamedStyle};
use munit::networks::{Generator, Initialisation, ParameterStore};
use munit::{Architecture, Direction, Domain, Error, Family, Model, ModelFile, ModelMetadata};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

fn architecture(family: Family) -> Architecture {
    Architecture {
        family,
        input_dim_a: 3,
        input_dim_b: 1,
        generator: GeneratorConfig {
            dim: 4,
            mlp_dim: 6,
            style_dim: 3,
            n_downsample: 1,
            n_res: 1,
            ..GeneratorConfig::default()
        },
    }
}

fn model(architecture: Architecture, directions: &[Direction]) -> Model {
    let code = |seed: usize| -> Vec<f32> {
        let numbers = 0..architecture.style_dim();
        numbers
            .map(|index| (seed as f32 + 0.1) / (index + 3) as f32)
            .collect()
    };
    let style = |domain, seed| NamedStyle {
        domain,
        code: code(seed),
    };
    let weights = expected_weights(&architecture, directions)
        .into_iter()
        .enumerate();
    let weights = weights.map(|(index, (name, shape))| {
        let count: i64 = shape.iter().product();
        let values = Tensor::arange(count, (Kind::Float, Device::Cpu)) + index as f64;
        (name, values.sin().reshape(shape))
    });
    Model {
        weights: weights.collect(),
        metadata: ModelMetadata {
            format_version: FORMAT_VERSION,
            directions: directions.to_vec(),
            domain_a: "sketch".to_owned(),
            domain_b: "garment".to_owned(),
            iterations: 12_345,
            data: "Drawings of garments.\nTwo lines.".to_owned(),
            licence: "CC0-1.0".to_owned(),
            recommended_size: Some(128),
            styles: BTreeMap::from([
                ("dark «blue»".to_owned(), style(Domain::B, 1)),
                ("pencil".to_owned(), style(Domain::A, 2)),
            ]),
            mean_styles: BTreeMap::from([(Domain::A, code(3)), (Domain::B, code(4))]),
            architecture,
        },
    }
}

fn small() -> Model {
    model(architecture(Family::Munit), &Direction::ALL)
}

/// A folder for one test, with a place for a model file.
struct Workplace {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn workplace() -> Workplace {
    let folder = tempfile::tempdir().unwrap();
    Workplace {
        path: folder.path().join("model.safetensors"),
        _folder: folder,
    }
}

/// A model file in pieces that a test can change.
struct Pieces {
    header: Value,
    data: Vec<u8>,
}

impl Pieces {
    fn of(bytes: &[u8]) -> Self {
        let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        Self {
            header: serde_json::from_slice(header).unwrap(),
            data: data.to_vec(),
        }
    }

    fn of_small(place: &Workplace) -> Self {
        small().write(&place.path, Kind::Float).unwrap();
        Self::of(&std::fs::read(&place.path).unwrap())
    }

    fn change_metadata(&mut self, change: impl FnOnce(&mut Value)) {
        let text = self.header["__metadata__"]["munit"].as_str().unwrap();
        let mut metadata: Value = serde_json::from_str(text).unwrap();
        change(&mut metadata);
        self.header["__metadata__"]["munit"] = metadata.to_string().into();
    }

    /// The file as it would be, were it written so on purpose: with the right checksum.
    fn bytes(&mut self) -> Vec<u8> {
        if let Some(text) = self.header["__metadata__"]["munit"].as_str() {
            let checksum = crc32c::crc32c_append(crc32c::crc32c(text.as_bytes()), &self.data);
            self.header["__metadata__"]["munit.crc32c"] = format!("{checksum:08x}").into();
        }
        let header = self.header.to_string();
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], header.as_bytes(), &self.data].concat()
    }
}

/// The sentence with which `bytes` are refused, without the file's name, which comes first.
#[track_caller]
fn refusal(place: &Workplace, bytes: &[u8]) -> String {
    std::fs::write(&place.path, bytes).unwrap();
    refusal_of(&place.path)
}

#[track_caller]
fn refusal_of(path: &Path) -> String {
    let error = Model::read(path).expect_err("the file should be refused");
    assert!(matches!(error, Error::ModelFile { .. }), "{error:?}");
    let text = error.to_string();
    let problem = text.strip_prefix(&format!("{}: ", path.display()));
    problem.expect("the file's name comes first").to_owned()
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text:?} should say {part:?}");
    }
}

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference")
}

#[test]
fn a_model_comes_back_as_it_was_written() {
    let place = workplace();
    for family in [Family::Munit, Family::Unit] {
        for directions in [&[Direction::A2b][..], &[Direction::B2a], &Direction::ALL] {
            let written = model(architecture(family), directions);
            written.write(&place.path, Kind::Float).unwrap();
            let read = Model::read(&place.path).unwrap();
            assert_eq!(read.metadata, written.metadata);
            assert!(read.weights.keys().eq(written.weights.keys()));
            for (name, tensor) in &read.weights {
                assert_eq!(tensor, &written.weights[name], "{name}");
            }
            for direction in Direction::ALL {
                assert_eq!(read.has(direction), directions.contains(&direction));
            }
        }
    }
}

#[test]
fn half_precision_is_rounded_once_and_read_as_fp32() {
    let place = workplace();
    let written = small();
    let count = written
        .weights
        .values()
        .map(|tensor| tensor.numel() as u64)
        .sum();
    for kind in [Kind::Half, Kind::BFloat16] {
        written.write(&place.path, kind).unwrap();
        let file = ModelFile::open(&place.path).unwrap();
        assert_eq!(file.precisions(), [(kind, count)]);
        assert_eq!(file.parameters(), count);
        for (name, tensor) in &file.into_model().unwrap().weights {
            let rounded = written.weights[name].to_kind(kind).to_kind(Kind::Float);
            assert_eq!(tensor.kind(), Kind::Float);
            assert_eq!(tensor, &rounded, "{name}");
        }
    }
}

#[test]
fn learned_slopes_and_any_memory_layout_survive() {
    let place = workplace();
    let mut architecture = architecture(Family::Munit);
    architecture.generator.activation = Activation::Prelu;
    let mut written = model(architecture, &Direction::ALL);
    let name = "a.dec.model.2.conv.weight";
    let plain = written.weights[name].copy();
    let strided = plain
        .permute([3, 2, 1, 0])
        .contiguous()
        .permute([3, 2, 1, 0]);
    assert!(!strided.is_contiguous());
    written
        .weights
        .insert(name.to_owned(), strided.set_requires_grad(true));
    written.write(&place.path, Kind::Float).unwrap();
    let read = Model::read(&place.path).unwrap();
    assert_eq!(read.weights[name], plain);
    assert!(read.weights.contains_key("a.mlp.model.1.activation.weight"));
}

#[test]
fn the_same_model_gives_the_same_bytes_and_other_programs_can_read_them() {
    let place = workplace();
    small().write(&place.path, Kind::Half).unwrap();
    let first = std::fs::read(&place.path).unwrap();
    small().write(&place.path, Kind::Half).unwrap();
    assert_eq!(first, std::fs::read(&place.path).unwrap());
    let other_reader = safetensors::SafeTensors::deserialize(&first).unwrap();
    assert_eq!(
        other_reader
            .tensor("a.mlp.model.0.fc.weight")
            .unwrap()
            .shape(),
        [6, 3]
    );
    assert_eq!(Pieces::of(&first).header["__metadata__"]["format"], "pt");
}

#[test]
fn a_model_can_be_cut_down_to_one_direction() {
    let place = workplace();
    let cut = small().restrict(&[Direction::A2b]).unwrap();
    cut.write(&place.path, Kind::Float).unwrap();
    let read = Model::read(&place.path).unwrap();
    assert!(read.has(Direction::A2b) && !read.has(Direction::B2a));
    assert!(read.metadata.styles.keys().eq(["dark «blue»"]));
    assert!(read.metadata.mean_styles.keys().eq(&[Domain::B]));
    let error = read.restrict(&[Direction::B2a]).unwrap_err().to_string();
    assert_says(&error, &["no weights for direction b2a"]);
    assert!(small().restrict(&[]).is_err());
}

#[test]
fn each_style_code_is_listed_once_and_default_gives_way() {
    let mut model = small();
    model.metadata.styles.clear();
    let distinct = |model: &Model| {
        let styles = model.metadata.distinct_styles(Direction::A2b);
        let names: Vec<&str> = styles.iter().map(|(name, _)| *name).collect();
        names.join(" ")
    };
    let mut add = |name: &str, domain, number| {
        let code = vec![number, 1.0, 2.0, 3.0];
        let style = NamedStyle { domain, code };
        model.metadata.styles.insert(name.to_owned(), style);
        distinct(&model)
    };
    assert_eq!(add("default", Domain::B, 0.5), "default");
    assert_eq!(add("dusk", Domain::B, 0.5), "dusk");
    assert_eq!(add("amber", Domain::B, 0.25), "amber dusk");
    assert_eq!(add("evening", Domain::B, 0.5), "amber dusk");
    assert_eq!(add("pencil", Domain::A, 0.75), "amber dusk");
    // One that no other name means is as good as any.
    assert_eq!(add("default", Domain::B, 0.0), "amber default dusk");
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let place = workplace();
    let refused = |model: Model, kind: Kind, parts: &[&str]| {
        let error = model.write(&place.path, kind).unwrap_err();
        assert!(matches!(error, Error::ModelFile { .. }), "{error:?}");
        assert_says(
            &error.to_string(),
            &["model.safetensors: cannot be written"],
        );
        assert_says(&error.to_string(), parts);
        assert!(!place.path.exists());
    };
    let name = "b.dec.model.3.conv.bias";
    let with = |values: &[f32]| {
        let mut model = small();
        model
            .weights
            .insert(name.to_owned(), Tensor::from_slice(values));
        model
    };
    refused(with(&[f32::NAN]), Kind::Float, &[name, "not finite"]);
    refused(with(&[f32::NAN]), Kind::BFloat16, &[name, "not finite"]);
    refused(with(&[1e6]), Kind::Half, &[name, "1000000", "bf16"]);
    refused(with(&[1.0, 2.0]), Kind::Float, &[name, "[2]", "[1]"]);
    refused(small(), Kind::Double, &["fp32, fp16 or bf16"]);
    let mut missing = small();
    missing.weights.remove(name);
    refused(missing, Kind::Float, &[name, "missing"]);
    let mut version = small();
    version.metadata.format_version = 2;
    refused(version, Kind::Float, &["format version 2"]);
    let mut style = small();
    style
        .metadata
        .mean_styles
        .insert(Domain::B, vec![f32::INFINITY; 3]);
    refused(style, Kind::Float, &["mean style of domain b", "inf"]);
}

#[test]
fn files_that_cannot_be_read_or_written_are_named() {
    let place = workplace();
    let error = small()
        .write(&place.path.join("x"), Kind::Float)
        .unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    assert_says(&error.to_string(), &["model.safetensors/x: cannot write"]);
    let error = Model::read(&place.path).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    assert_says(&error.to_string(), &["model.safetensors: cannot read"]);
}

#[test]
fn foreign_files_are_told_apart() {
    let place = workplace();
    assert_says(&refusal(&place, b""), &["is empty"]);
    assert_says(&refusal(&place, b"MUN"), &["only 3 bytes"]);
    let text = b"# a text that somebody wrote\n";
    assert_says(&refusal(&place, text), &["not a munitfilter model"]);
    assert_says(
        &refusal(&place, &[0x5a; 4096]),
        &["not a munitfilter model"],
    );
    // Of a folder with several models that of a run is named.
    let folder = place.path.parent().unwrap();
    std::fs::write(folder.join("a.safetensors"), b"").unwrap();
    let model = format!("for example {} in it", place.path.display());
    assert_says(&refusal_of(folder), &["is a folder", &model]);
    for checkpoint in ["munit_tiny_gen_legacy.pt", "munit_tiny_gen_zip.pt"] {
        let text = refusal_of(&reference().join(checkpoint));
        assert_says(&text, &["PyTorch checkpoint", "munit-import"]);
    }
    let other = refusal_of(&reference().join("munit_tiny.safetensors"));
    assert_says(&other, &["safetensors file, but not a munitfilter model"]);
    #[cfg(unix)]
    assert_says(
        &refusal_of(Path::new("/dev/null")),
        &["not an ordinary file"],
    );
}

#[test]
fn headers_that_lie_are_refused() {
    let place = workplace();
    let good = Pieces::of_small(&place).bytes();
    let (whole, tail) = (good.len() as u64, &good[8..]);
    for (length, expected) in [
        (u64::MAX, "not a munitfilter model"),
        (u64::MAX - 7, "not a munitfilter model"),
        (17 << 20, "not a munitfilter model"),
        (whole, "truncated"),
        (100, "damaged header"),
        (0, "damaged header"),
    ] {
        let bytes = [&length.to_le_bytes()[..], tail].concat();
        assert_says(&refusal(&place, &bytes), &[expected]);
    }
    assert_says(&refusal(&place, &good[..good.len() - 1]), &["truncated"]);
    assert_says(&refusal(&place, &good[..500]), &["truncated"]);
    let longer = [&good[..], b"tail"].concat();
    assert_says(&refusal(&place, &longer), &["4 bytes too many"]);
    let nested = [
        &1_000_005u64.to_le_bytes()[..],
        b"{\"a\":",
        &b"[".repeat(1_000_000),
    ]
    .concat();
    assert_says(&refusal(&place, &nested), &["damaged header"]);

    let name = "a.dec.model.2.conv.bias";
    let end = u64::MAX;
    for (field, value) in [
        // Overlapping another tensor, backwards, beyond all memory.
        ("data_offsets", json!([0, 16])),
        ("data_offsets", json!([16, 0])),
        ("data_offsets", json!([0, end])),
        ("data_offsets", json!([end - 15, end])),
        ("shape", json!([5])),
        ("shape", json!([end, 2])),
        ("shape", json!([-4])),
        ("dtype", json!("F33")),
    ] {
        let mut pieces = Pieces::of_small(&place);
        assert_ne!(pieces.header[name][field], value);
        pieces.header[name][field] = value;
        assert_says(&refusal(&place, &pieces.bytes()), &["damaged header"]);
    }
}

#[test]
fn tensors_that_do_not_belong_or_do_not_fit_are_named() {
    let place = workplace();
    let name = "a.dec.model.2.conv.bias";
    let mut renamed = Pieces::of_small(&place);
    let info = renamed
        .header
        .as_object_mut()
        .unwrap()
        .remove(name)
        .unwrap();
    renamed.header["a.dec.model.2.conv.offset"] = info;
    assert_says(
        &refusal(&place, &renamed.bytes()),
        &[name, "[4]", "is missing"],
    );

    let mut extra = Pieces::of_small(&place);
    let end = extra.data.len();
    extra.header["more"] = json!({"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]});
    extra.data.extend(1f32.to_le_bytes());
    assert_says(
        &refusal(&place, &extra.bytes()),
        &["\"more\"", "does not belong"],
    );

    let mut reshaped = Pieces::of_small(&place);
    reshaped.header[name]["shape"] = json!([2, 2]);
    assert_says(
        &refusal(&place, &reshaped.bytes()),
        &[name, "[2, 2]", "expected [4]"],
    );

    let mut retyped = Pieces::of_small(&place);
    retyped.header[name]["dtype"] = "I32".into();
    let text = refusal(&place, &retyped.bytes());
    assert_says(&text, &[name, "I32", "expected F32, F16 or BF16"]);

    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut diverged = Pieces::of_small(&place);
        let start = diverged.header[name]["data_offsets"][0].as_u64().unwrap() as usize + 8;
        diverged.data[start..start + 4].copy_from_slice(&value.to_le_bytes());
        let text = refusal(&place, &diverged.bytes());
        assert_says(&text, &[name, "element 2", "not finite"]);
    }
}

#[test]
fn metadata_is_checked() {
    let place = workplace();
    let long = "x".repeat(101);
    let cases: &[(&str, Value, &[&str])] = &[
        (
            "/format_version",
            json!(7),
            &["newer munitfilter", "version 7", "version 1"],
        ),
        ("/format_version", json!("one"), &["no format version"]),
        ("/format_version", json!(0), &["format version 0"]),
        (
            "/architecture/generator/dim",
            json!(5),
            &[
                "a.dec.model.0.model.0.model.0.conv.bias",
                "[8]",
                "expected [10]",
            ],
        ),
        (
            "/architecture/generator/dim",
            json!(i64::MAX),
            &["gen.dim", "between"],
        ),
        (
            "/architecture/generator/n_res",
            json!(-1),
            &["gen.n_res", "between"],
        ),
        ("/architecture/input_dim_a", json!(4), &["input_dim_a is 4"]),
        (
            "/architecture/family",
            json!("stargan"),
            &["damaged metadata", "stargan"],
        ),
        ("/directions", json!([]), &["no direction"]),
        ("/directions", json!(["a2b"]), &["does not belong"]),
        ("/directions", json!(["a2b", "a2b"]), &["more than once"]),
        ("/directions", json!(["a2c"]), &["damaged metadata", "a2c"]),
        ("/recommended_size", json!(2), &["recommended size is 2"]),
        ("/domain_a", json!("  "), &["name of domain a"]),
        ("/domain_b", json!(long), &["name of domain b"]),
        (
            "/licence",
            json!("\u{1b}[2J"),
            &["licence", "control characters"],
        ),
        (
            "/styles/pencil/code",
            json!([1, 2]),
            &["pencil", "2 numbers", "expected 3"],
        ),
        (
            "/styles/pencil/code",
            json!([1, 2, 1e39]),
            &["pencil", "inf"],
        ),
        (
            "/styles/pencil/code",
            json!([1, 2, null]),
            &["damaged metadata"],
        ),
        ("/styles/pencil/domain", json!("c"), &["damaged metadata"]),
        (
            "/mean_styles/b",
            json!([]),
            &["mean style of domain b", "0 numbers"],
        ),
        ("", json!([1]), &["no format version"]),
    ];
    for (field, value, parts) in cases {
        let mut pieces = Pieces::of_small(&place);
        pieces.change_metadata(|metadata| *metadata.pointer_mut(field).unwrap() = value.clone());
        assert_says(&refusal(&place, &pieces.bytes()), parts);
    }

    let mut without = Pieces::of_small(&place);
    without.header["__metadata__"] = json!({"format": "pt"});
    assert_says(
        &refusal(&place, &without.bytes()),
        &["not a munitfilter model"],
    );
    let mut broken = Pieces::of_small(&place);
    broken.header["__metadata__"]["munit"] = "{".into();
    assert_says(&refusal(&place, &broken.bytes()), &["damaged metadata"]);
}

#[test]
fn fields_that_a_later_build_adds_are_no_obstacle() {
    let place = workplace();
    let mut pieces = Pieces::of_small(&place);
    pieces.change_metadata(|metadata| metadata["mood"] = "cheerful".into());
    std::fs::write(&place.path, pieces.bytes()).unwrap();
    assert_eq!(Model::read(&place.path).unwrap().metadata, small().metadata);
}

#[test]
fn a_flipped_bit_in_the_weights_or_the_metadata_is_noticed() {
    let place = workplace();
    small().write(&place.path, Kind::Float).unwrap();
    let good = std::fs::read(&place.path).unwrap();
    let domain = good
        .windows(6)
        .position(|window| window == b"sketch")
        .unwrap();
    for position in [good.len() - 1, good.len() / 2, domain] {
        let mut bytes = good.clone();
        bytes[position] ^= 1;
        assert_says(&refusal(&place, &bytes), &["is damaged", "checksum"]);
    }
}

#[test]
fn random_damage_gives_a_sentence_and_never_a_panic() {
    let place = workplace();
    small().write(&place.path, Kind::BFloat16).unwrap();
    let good = std::fs::read(&place.path).unwrap();
    let header_length = u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for round in 0..1500 {
        let mut bytes = good.clone();
        // Most damage goes to the header, where there is more to get wrong.
        let end = if round % 4 == 0 {
            bytes.len()
        } else {
            8 + header_length
        };
        for _ in 0..random.random_range(1..4) {
            bytes[random.random_range(0..end)] = random.random();
        }
        if round % 5 == 0 {
            bytes.truncate(random.random_range(0..bytes.len()));
        }
        std::fs::write(&place.path, &bytes).unwrap();
        match Model::read(&place.path) {
            Err(error) => assert_says(&error.to_string(), &["model.safetensors: "]),
            // Only the padding and the entry `format` say nothing about the model.
            Ok(read) => assert_eq!(read.metadata, small().metadata),
        }
    }
}

/// The reference checkpoints' weights after training have just these names and shapes.
#[test]
fn the_layout_is_that_of_the_published_networks() {
    for (name, family, steps) in [
        ("munit_tiny", Family::Munit, 3),
        ("munit_vgg", Family::Munit, 1),
        ("unit_tiny", Family::Unit, 3),
    ] {
        let text = std::fs::read(reference().join(format!("{name}.json"))).unwrap();
        let json: Value = serde_json::from_slice(&text).unwrap();
        let options = &json["hyperparameters"];
        let architecture = Architecture {
            family,
            input_dim_a: options["input_dim_a"].as_i64().unwrap(),
            input_dim_b: options["input_dim_b"].as_i64().unwrap(),
            generator: serde_json::from_value(options["gen"].clone()).unwrap(),
        };
        let bytes = std::fs::read(reference().join(format!("{name}.safetensors"))).unwrap();
        let vectors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let prefix = format!("after{steps}.gen_");
        let found: BTreeMap<String, Vec<i64>> = vectors
            .iter()
            .filter_map(|(name, tensor)| {
                let shape = tensor.shape().iter().map(|&size| size as i64).collect();
                Some((name.strip_prefix(&prefix)?.to_owned(), shape))
            })
            .collect();
        assert_eq!(
            found,
            expected_weights(&architecture, &Direction::ALL),
            "{name}"
        );
    }
}

/// The networks make just the tensors that model files are checked against.
#[test]
fn the_layout_is_that_of_this_packages_networks() {
    for family in [Family::Munit, Family::Unit] {
        for (n_downsample, n_res) in [(0, 1), (1, 3), (3, 1)] {
            for activation in [Activation::Relu, Activation::Prelu] {
                let mut architecture = architecture(family);
                architecture.generator.n_downsample = n_downsample;
                architecture.generator.n_res = n_res;
                architecture.generator.activation = activation;
                let mut made = BTreeMap::new();
                for domain in Domain::ALL {
                    let store = ParameterStore::random(Initialisation::Kaiming, 1, Device::Cpu);
                    let generator = Generator::new(&architecture, domain, store).unwrap();
                    made.extend(generator.parameters().iter().map(|parameter| {
                        let name = format!("{}.{}", domain.name(), parameter.name);
                        (name, parameter.tensor.size())
                    }));
                }
                assert_eq!(made, expected_weights(&architecture, &Direction::ALL));
            }
        }
    }
}
