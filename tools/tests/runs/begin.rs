//! Runs that begin from a model.

use std::fs;
use std::path::Path;

use tch::Tensor;

use crate::common::{
    MUNIT_EXPORT, MUNIT_TRAIN, Place, assert_says, config, failed, succeeded, text,
};

const FLAGS: &str = "--data datasets/shapes --size 32 --device cpu --threads 1";
const FROM: &str = "--from first/model.safetensors";

/// A place with a run of tiny networks in `first` that has learnt a little.
fn place() -> Place {
    let place = Place::new();
    succeeded(place.train("--out first --iterations 60 --lr 0.002"));
    place
}

fn weights(model: &Path) -> Vec<(String, Tensor)> {
    let mut weights = Tensor::read_safetensors(model).unwrap();
    weights.sort_by(|one, other| one.0.cmp(&other.0));
    weights
}

#[test]
fn a_run_begins_with_the_weights_of_a_model() {
    let place = place();
    // A step of no length, after which a run exports what it began with.
    let small = "dis: {n_layer: 2, num_scales: 2}";
    fs::write(place.path("small.yaml"), small).unwrap();
    let still = format!("{FLAGS} --iterations 1 --lr 0");
    let small = "--config small.yaml";
    succeeded(place.run(MUNIT_TRAIN, &format!("{FROM} {small} {still} --out second")));
    let [first, second] = ["first", "second"].map(|run| place.path(run).join("model.safetensors"));
    assert_eq!(weights(&first), weights(&second));
    let written = fs::read_to_string(place.path("second/config.yaml")).unwrap();
    let named = format!("from_model: {}\n", first.display());
    let digest = "from_model_sha256: ";
    let sizes = "gen:\n  dim: 4\n  mlp_dim: 8\n  style_dim: 3\n";
    assert_says(&written, &[&named, digest, sizes, "dis:\n  dim: 4\n"]);
    let page = fs::read_to_string(place.path("second/report.html")).unwrap();
    assert_says(&page, &["Begun from", "model.safetensors"]);

    // It has learnt something already.
    let logged = format!("--config {} {FLAGS} --iterations 2", config("folder.yaml"));
    succeeded(place.run(MUNIT_TRAIN, &format!("{FROM} {logged} --out knowing")));
    succeeded(place.run(MUNIT_TRAIN, &format!("{logged} --out random")));
    for name in ["gen_recon_x_a", "gen_recon_x_b"] {
        let first = |run: &str| place.whole_column(run, name)[0];
        let (knowing, random) = (first("knowing"), first("random"));
        assert!(knowing < 0.8 * random, "{name}: {knowing}, {random}");
    }

    // A configuration that names the model begins another run with it, as long as it is the same.
    let named = format!("--config second/config.yaml {still}");
    succeeded(place.run(MUNIT_TRAIN, &format!("{named} --out third")));
    assert_eq!(
        weights(&first),
        weights(&place.path("third/model.safetensors"))
    );
    fs::copy(place.path("random/model.safetensors"), &first).unwrap();
    let sentence = failed(place.run(MUNIT_TRAIN, &format!("{named} --out fourth")));
    assert_says(
        &sentence,
        &["first/model.safetensors: not the model that from_model_sha256 is of"],
    );

    // A run that has begun needs it no more.
    fs::remove_file(first).unwrap();
    let on = "--iterations 3 --device cpu --threads 1";
    succeeded(place.run(MUNIT_TRAIN, &format!("--resume knowing {on}")));
    assert_eq!(place.losses("knowing").len(), 4);
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_the_first_difference() {
    let place = place();
    fs::write(place.path("deep.yaml"), "gen: {n_res: 2}").unwrap();
    fs::write(place.path("grey.yaml"), "input_dim_b: 1\ngen: {n_res: 2}").unwrap();
    let model = "in first/model.safetensors";
    for (flags, parts) in [
        ("--dim 8", ["--dim is 8, but", model, "it is 4"]),
        ("--style-dim 8", ["--style-dim is 8, but", model, "it is 3"]),
        (
            "--trainer UNIT",
            ["trainer is UNIT, but", model, "it is MUNIT"],
        ),
        (
            "--config deep.yaml",
            ["gen.n_res is 2, but", model, "it is 1"],
        ),
        (
            "--config grey.yaml",
            ["input_dim_b is 1, but", model, "it is 3"],
        ),
    ] {
        let arguments = format!("{FROM} {FLAGS} --out refused {flags}");
        assert_says(&failed(place.run(MUNIT_TRAIN, &arguments)), &parts);
    }
    let export = "first one.safetensors --directions a2b";
    let output = place.run(MUNIT_EXPORT, export);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let half = format!("--from one.safetensors {FLAGS} --out refused");
    let sentence = failed(place.run(MUNIT_TRAIN, &half));
    assert_says(
        &sentence,
        &[
            "one.safetensors: holds direction a2b alone",
            "both directions",
        ],
    );
    let sentence = failed(place.run(
        MUNIT_TRAIN,
        &format!("--from nothing {FLAGS} --out refused"),
    ));
    assert_says(
        &sentence,
        &["nothing: there is no such file and no model named nothing"],
    );
    assert!(!place.path("refused").exists());
    let output = place.run(MUNIT_TRAIN, &format!("--resume first {FROM}"));
    assert_ne!(output.status.code(), Some(0));
    assert_says(&text(&output.stderr), &["--resume", "--from"]);
}
