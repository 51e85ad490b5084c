//! `munit-export` from outside: model files from real runs.

use std::fs;

use image::{Rgb, RgbImage};

use crate::common::{MUNIT_EXPORT, MUNIT_INFO, Place, assert_says, failed, succeeded, text};
use munit::config::{Direction, Domain, Family};
use munit::model_file::{Model, NamedStyle};
use munit::networks::{Generator, ParameterStore};
use munit::{StyleCode, layout};
use munit_tools::data::{Framing, load_picture};
use tch::Device;

/// A place with a run of four iterations in `run`, checkpoints at 2 and 4.
fn trained(more: &str) -> Place {
    let place = Place::new();
    let run = format!("--out run --iterations 4 --checkpoint-every 2 {more}");
    succeeded(place.train(&run));
    place
}

fn export(place: &Place, arguments: &str) -> Model {
    succeeded(place.run(MUNIT_EXPORT, &format!("run model.safetensors {arguments}")));
    Model::read(&place.path("model.safetensors")).unwrap()
}

fn refused(place: &Place, arguments: &str) -> String {
    let sentence = failed(place.run(MUNIT_EXPORT, arguments));
    assert!(!place.path("model.safetensors").exists(), "{sentence}");
    sentence
}

#[test]
fn a_run_gives_the_model_that_it_wrote_and_a_checkpoint_its_own() {
    let place = trained("");
    let model = export(&place, "");
    let read = |name: &str| fs::read(place.path(name)).unwrap();
    assert!(read("model.safetensors") == read("run/model.safetensors"));
    assert_eq!(model.metadata.iterations, 4);
    assert_eq!(model.metadata.mean_styles.len(), 2);
    assert_eq!(model.metadata.recommended_size, Some(32));

    let checkpoint = place.checkpoint("run", 2);
    let arguments = format!("{} early.safetensors", checkpoint.display());
    succeeded(place.run(MUNIT_EXPORT, &arguments));
    let early = Model::read(&place.path("early.safetensors")).unwrap();
    assert_eq!(early.metadata.iterations, 2);
    assert_ne!(early.weights, model.weights);
}

#[test]
fn named_styles_are_drawn_given_or_taken_from_a_picture() {
    let place = trained("");
    let picture = "datasets/shapes/testB/1.png";
    let model = export(
        &place,
        &format!("--style violet=12 --style given=0.5,-1,2 --style like-this={picture}"),
    );
    let generator = Generator::new(
        &model.metadata.architecture,
        Domain::B,
        ParameterStore::given(&model.weights, "b.", Device::Cpu),
    )
    .unwrap();
    let framing = Framing {
        new_size: 36,
        crop_height: 32,
        crop_width: 32,
        channels: 3,
    };
    let picture = load_picture(&place.path(picture), &framing).unwrap();
    let encoded = generator.encode_style(&picture.unsqueeze(0)).unwrap();
    let encoded = Vec::<f32>::try_from(encoded.detach().view(-1)).unwrap();
    let expected = [
        ("given", vec![0.5, -1.0, 2.0]),
        ("like-this", encoded),
        ("violet", StyleCode::sample(12, 3).values().to_vec()),
    ]
    .map(|(name, code)| {
        let domain = Domain::B;
        (name.to_owned(), NamedStyle { domain, code })
    });
    assert_eq!(model.metadata.styles, expected.into());

    let model = export(&place, "--directions b2a --style violet=12");
    assert_eq!(model.metadata.styles["violet"].domain, Domain::A);
}

#[test]
fn the_style_of_a_strip_can_be_named() {
    let place = trained("");
    let strip = RgbImage::from_fn(20, 400, |x, y| Rgb([x as u8, (y / 2) as u8, 90]));
    strip.save(place.path("strip.png")).unwrap();
    let model = export(&place, "--style long=strip.png");
    assert!(model.metadata.styles.contains_key("long"));
}

#[test]
fn precision_and_directions_make_a_file_smaller() {
    let place = trained("");
    let whole = fs::metadata(place.path("run/model.safetensors")).unwrap();
    let model = export(&place, "--precision bf16 --directions a2b");
    assert_eq!(model.metadata.directions, [Direction::A2b]);
    let expected = layout::expected_weights(&model.metadata.architecture, &[Direction::A2b]);
    assert!(model.weights.keys().eq(expected.keys()));
    let file = fs::metadata(place.path("model.safetensors")).unwrap();
    assert!(file.len() < whole.len() / 3);
    let info = place.run(MUNIT_INFO, "model.safetensors --json");
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    let precisions: Vec<_> = info["precision"].as_object().unwrap().keys().collect();
    assert_eq!(precisions, ["bf16"]);
}

#[test]
fn a_run_becomes_a_file_for_other_programs() {
    let place = trained("");
    for name in ["model.pt", "model.onnx"] {
        succeeded(place.run(MUNIT_EXPORT, &format!("run {name}")));
        assert!(place.path(name).is_file());
    }
}

#[test]
fn a_unit_run_has_no_styles() {
    let place = trained("--trainer UNIT");
    let sentence = refused(&place, "run model.safetensors --style violet=12");
    assert_says(&sentence, &["UNIT", "leave --style out"]);
    let model = export(&place, "");
    assert_eq!(model.metadata.architecture.family, Family::Unit);
    assert!(model.metadata.mean_styles.is_empty());
}

#[test]
fn a_model_can_be_had_when_the_pictures_are_gone() {
    let place = trained("");
    fs::remove_dir_all(place.path("datasets")).unwrap();
    let errors = succeeded(place.run(MUNIT_EXPORT, "run model.safetensors"));
    assert_says(&errors, &["datasets/shapes", "no mean style"]);
    let model = Model::read(&place.path("model.safetensors")).unwrap();
    let whole = Model::read(&place.path("run/model.safetensors")).unwrap();
    assert!(model.metadata.mean_styles.is_empty());
    assert_eq!(model.weights, whole.weights);
}

#[test]
fn what_cannot_be_exported_is_refused_in_one_sentence() {
    let place = trained("");
    fs::create_dir(place.path("empty")).unwrap();
    for (arguments, parts) in [
        (
            "missing model.safetensors",
            &["missing", "no such file and no model"][..],
        ),
        (
            "empty model.safetensors",
            &["empty", "no run of munit-train"],
        ),
        (
            "run/losses.csv model.safetensors",
            &["run/losses.csv", "is not a munitfilter model"],
        ),
        (
            "run/model.safetensors model.safetensors --style violet=1",
            &["run/model.safetensors", "munit-style"],
        ),
        (
            "run model.safetensors --style short=1,2",
            &["style short", "3"],
        ),
        (
            "run model.safetensors --style far=1,2,1e38",
            &["style far", "number 3"],
        ),
        (
            "run model.safetensors --style gone=missing.png",
            &["style gone", "missing.png"],
        ),
        (
            "run model.safetensors --style one=1 --style one=2",
            &["style one", "twice"],
        ),
        (
            "run model.safetensors --style one=1 --style-domain b --directions b2a",
            &["domain b", "--directions"],
        ),
    ] {
        assert_says(&refused(&place, arguments), parts);
    }
    assert_eq!(
        refused(&place, "run empty"),
        "munit-export: empty: this is a folder; give the name of a file"
    );
    assert_eq!(
        refused(&place, "run /proc/model.safetensors"),
        "munit-export: /proc/model.safetensors: cannot write: No such file or directory (os error 2)"
    );
    let output = place.run(MUNIT_EXPORT, "run model.safetensors --style violet");
    assert_eq!(output.status.code(), Some(1));
    assert_says(&text(&output.stderr), &["violet", "NAME=SEED"]);
}
