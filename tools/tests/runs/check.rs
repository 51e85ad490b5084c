//! `munit-train --check` from outside, and what a run says of its pictures before it begins.

use std::fs;
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::common::{MUNIT_TRAIN, Place, assert_says, config, failed, succeeded, text};

/// The standard output of a check that has ended well.
fn checked(place: &Place, arguments: &str) -> String {
    let output = place.train(&format!("--check {arguments}"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Copies a picture to another place, at another size and with other compression.
fn copy(from: &Path, to: &Path) {
    let picture = image::open(from).unwrap().into_rgb8();
    imageops::resize(&picture, 66, 57, FilterType::Triangle)
        .save(to)
        .unwrap();
}

#[test]
fn a_check_tells_all_and_trains_nothing() {
    let place = Place::new();
    let [train_a, train_b, test_b] =
        ["trainA", "trainB", "testB"].map(|name| place.path("datasets/shapes").join(name));
    fs::write(train_a.join("broken.jpg"), "no picture").unwrap();
    RgbImage::from_pixel(40, 40, Rgb([255; 3]))
        .save(train_a.join("white.png"))
        .unwrap();
    // Another kind of file, a repeat, a picture of both domains, and a test picture trained on.
    let first = image::open(train_a.join("1.png")).unwrap().into_rgb8();
    imageops::flip_horizontal(&first)
        .save(train_a.join("repeat.bmp"))
        .unwrap();
    copy(&train_a.join("2.png"), &train_b.join("of-a.png"));
    copy(&train_b.join("3.png"), &test_b.join("seen.png"));
    copy(&train_a.join("4.png"), &test_b.join("of-a.png"));
    // Two of grey among five in colour.
    for number in [1, 3] {
        let path = train_b.join(format!("{number}.png"));
        let grey = image::open(&path).unwrap().grayscale();
        grey.into_rgb8().save(path).unwrap();
    }

    let said = checked(&place, "--out run");
    assert_says(
        &said,
        &[
            "domain a: 6 pictures in ./datasets/shapes/trainA\n  1 BMP, 5 PNG; shorter side 38 pixels\n",
            "  left out: ./datasets/shapes/trainA/broken.jpg: it is not a JPEG",
            "  left out: ./datasets/shapes/trainA/white.png: it is blank",
            "domain b: 5 pictures in ",
            "  5 PNG; shorter side 38 to 57 pixels, half of them up to 38\n",
            "test pictures of domain a: 2 pictures in ",
            "test pictures of domain b: 4 pictures in ",
            "memory: about 0.2 GB of ",
            "what the network will see: run/inputs.png\n",
            "note: domain a has only 6 pictures",
            "trainA/1.png and ./datasets/shapes/trainA/repeat.bmp; such pictures are learnt by heart",
            "pictures of domain b nearly repeat pictures of domain a, for example \
             ./datasets/shapes/trainB/of-a.png and ./datasets/shapes/trainA/2.png",
            "test pictures of domain b nearly repeat pictures that are trained on, for example \
             ./datasets/shapes/testB/",
            "test pictures of domain b nearly repeat pictures of domain a that are trained on, for example \
             ./datasets/shapes/testB/",
            "note: 2 of 5 pictures of domain b are mostly without colour",
        ],
    );
    let files: Vec<_> = fs::read_dir(place.path("run"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(files, ["inputs.png"]);
    let sheet = image::open(place.path("run/inputs.png")).unwrap();
    assert!(sheet.width() > 8 * 32 && sheet.height() > 4 * 32);
    // What discriminators see changed is shown changed, a row for each domain.
    checked(&place, "--out augmented --augment colour,cutout");
    let augmented = image::open(place.path("augmented/inputs.png")).unwrap();
    assert!(augmented.height() >= sheet.height() + 2 * 32);
    // The same as JSON; and the folder is still free for a run.
    let json: Value = serde_json::from_str(&checked(&place, "--out run --json")).unwrap();
    assert_eq!(json["data"]["sets"][0]["pictures"], 6);
    assert_eq!(json["data"]["sets"][0]["formats"]["BMP"], 1);
    assert_eq!(
        json["data"]["sets"][0]["left_out"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(json["data"]["sets"][0]["near_duplicates"], 1);
    assert_eq!(json["data"]["complete"], true);
    assert!(json["memory"]["needed"].as_u64().unwrap() > 100_000_000);
    assert_eq!(json["inputs"], "run/inputs.png");

    // A run says the same and begins all the same.
    let errors = succeeded(place.train("--out run"));
    assert_says(
        &errors,
        &[
            "domain a: 6 pictures",
            "left out: ./datasets/shapes/trainA/white.png: it is blank",
            "munit-train: domain a has only 6 pictures",
            "are trained on, for example",
        ],
    );
    assert!(!errors.contains("from now on"), "{errors}");
    let errors = succeeded(place.train("--resume run --iterations 3"));
    assert!(!errors.contains("munit-train:"), "{errors}");
}

#[test]
fn a_run_in_the_folder_of_its_pictures_learns_nothing_from_its_own_sheets() {
    let place = Place::new();
    let pictures = "--a datasets/shapes --b datasets/shapes/trainB --samples-every 1";
    // Another folder's name may begin with that of the run.
    place.pictures("datasets/shapes/run-of-others", |number, x, y| {
        Rgb([(40 * number + x) as u8, (6 * y) as u8, 90])
    });
    let (arguments, trained) = (
        format!("{pictures} --out datasets/shapes/run"),
        "domain a: 18 pictures in datasets/shapes\n",
    );
    for _ in 0..2 {
        assert_says(&checked(&place, &arguments), &[trained]);
    }
    assert!(place.path("datasets/shapes/run/inputs.png").is_file());
    assert_says(&succeeded(place.train(&arguments)), &[trained]);
    assert!(place.path("datasets/shapes/run/samples.png").is_file());
    let resumed = "--resume datasets/shapes/run";
    assert_says(&checked(&place, resumed), &["domain a: 18 pictures in "]);
    let errors = succeeded(place.train(&format!("{resumed} --iterations 3")));
    assert_says(&errors, &["domain a: 18 pictures in "]);
    assert!(!errors.contains("have changed"), "{errors}");
    // Who names the sheets means them.
    let samples = "--a datasets/shapes/run/samples --b datasets/shapes/trainB";
    let said = checked(
        &place,
        &format!("{samples} --out datasets/shapes/run/again"),
    );
    assert_says(&said, &["domain a: 3 pictures in "]);
}

#[test]
fn a_check_needs_no_folder_and_refuses_what_a_run_would_refuse() {
    let place = Place::new();
    let said = checked(&place, "");
    assert!(!said.contains("inputs.png"), "{said}");

    for (arguments, parts) in [
        ("--check --a missing --b missing", &["missing"][..]),
        ("--check --size 30", &["--size is 30"]),
        (
            "--check --vgg-weights missing",
            &["missing: there is no such file", "--vgg-weights"],
        ),
        (
            "--out run --vgg-weights missing",
            &["missing: there is no such file"],
        ),
        ("--check --resume nothing", &["no run of munit-train"]),
        ("--check --out datasets", &["not of a run"]),
        (
            "--check --out datasets/shapes/list_trainA.txt",
            &["list_trainA.txt: this is a file", "--out"],
        ),
        (
            "--out datasets/shapes/list_trainA.txt",
            &["list_trainA.txt: this is a file", "--out"],
        ),
    ] {
        assert_says(&failed(place.train(arguments)), parts);
    }
    let output = place.train("--out run --json");
    assert_eq!(output.status.code(), Some(1));
    assert_says(&text(&output.stderr), &["--check"]);
    let output = place.train("--out run --seed -3");
    assert_eq!(output.status.code(), Some(1));
    assert_says(
        &text(&output.stderr),
        &["'-3' for '--seed <N>': a seed is a whole number from 0 on"],
    );

    // A file that is there, but that nothing asks for.
    let unused = "--vgg-weights datasets/shapes/list_trainA.txt";
    let note = "is not used, since no loss is computed in it; give one a weight with --perceptual,";
    assert_says(&checked(&place, unused), &["note: the network ", note]);
    let errors = succeeded(place.train(&format!("--out unused {unused}")));
    assert_says(&errors, &["munit-train: the network datasets/", note]);
    let domain = |given: &str, sentence: &str| {
        let given = format!("{given} datasets/shapes/trainA --check");
        assert_says(&failed(place.run(MUNIT_TRAIN, &given)), &[sentence]);
    };
    domain("--a", "no pictures of domain b: give --b FOLDER");
    domain("--b", "no pictures of domain a: give --a FOLDER");

    let blank = place.path("blank");
    fs::create_dir(&blank).unwrap();
    RgbImage::new(32, 32).save(blank.join("black.png")).unwrap();
    let b = "--b datasets/shapes/trainB";
    for check in ["--check", "--out run"] {
        let sentence = failed(place.train(&format!("{check} --a blank {b}")));
        assert_says(
            &sentence,
            &[
                "the only picture in blank cannot be used: ",
                "black.png: it is blank",
            ],
        );
    }

    succeeded(place.train("--out begun"));
    let sentence = failed(place.train("--check --out begun"));
    assert_says(&sentence, &["begun: holds a run of 2 iterations"]);
    checked(&place, "--resume begun");
    let sentence = failed(place.train("--check --resume begun --lr 0.5"));
    assert_says(&sentence, &["lr"]);
    let sentence = failed(place.train("--check --resume begun --iterations 1"));
    assert_says(&sentence, &["begun: has 2 iterations already"]);
}

#[test]
fn what_is_wrong_with_the_sets_as_a_whole_is_noted() {
    let place = Place::new();
    let folder = place.path("many");
    fs::create_dir(&folder).unwrap();
    for number in 0..60u32 {
        let picture = RgbImage::from_fn(20, 24, |x, y| {
            let value = (x * (number % 10 + 1) + y * (number / 10 + 1)) * 6 % 256;
            Rgb([value as u8, (x * 12) as u8, 90])
        });
        picture.save(folder.join(format!("{number}.png"))).unwrap();
    }
    // Left out only when it is decoded; all counts are without it.
    RgbImage::from_pixel(20, 24, Rgb([255; 3]))
        .save(folder.join("white.png"))
        .unwrap();
    let said = checked(&place, "--a many --b datasets/shapes/trainB --size 32");
    assert_says(
        &said,
        &[
            "note: domain a has 15 times as many pictures as domain b",
            "domain a: 60 pictures in many\n",
            "note: 60 of 60 pictures of domain a are much smaller than the 36 pixels",
            "note: domain b has only 4 pictures",
        ],
    );
}

#[test]
fn the_memory_that_is_foreseen_is_that_which_a_run_takes() {
    let place = Place::new();
    let arguments = "--a datasets/shapes/trainA --b datasets/shapes/trainB --size 64 --dim 16 \
                     --batch-size 6 --iterations 2 --device cpu --threads 1";
    let output = place.run(MUNIT_TRAIN, &format!("{arguments} --check --json"));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let foreseen = said["memory"]["needed"].as_f64().unwrap();

    let mut running = place.start(MUNIT_TRAIN, &format!("{arguments} --out run"));
    let peak = running.peak_memory();
    let (status, errors) = running.wait();
    assert_eq!(status, Some(0), "{errors}");
    assert_says(&errors, &["\nmemory: about ", " GB that are free\n"]);
    let ratio = foreseen / peak;
    assert!((0.75..1.3).contains(&ratio), "{foreseen} for {peak}");
}

#[test]
fn a_run_that_will_not_fit_is_warned() {
    let place = Place::new();
    let config = config("folder.yaml");
    let said = place.run(
        MUNIT_TRAIN,
        &format!("--config {config} --device cpu --check --size 4096 --dim 64 --batch-size 64"),
    );
    let said = text(&said.stdout);
    assert_says(&said, &["memory: about ", "but only ", "--batch-size 1 --"]);
}

#[test]
fn a_configuration_of_unit_that_would_train_munit_is_told_of() {
    let place = Place::new();
    let published = fs::read_to_string(config("folder.yaml")).unwrap();
    let text = format!("{published}\nrecon_kl_w: 0.01\n");
    fs::write(place.path("unit.yaml"), &text).unwrap();
    fs::write(place.path("said.yaml"), format!("{text}trainer: MUNIT\n")).unwrap();
    let note = "unit.yaml: recon_kl_w and recon_kl_cyc_w are UNIT's";
    let told = |given: &str| succeeded(place.run(MUNIT_TRAIN, &format!("{given} --check")));
    assert_says(&told("--config unit.yaml"), &[note, "--trainer UNIT"]);
    for given in ["--config unit.yaml --trainer UNIT", "--config said.yaml"] {
        assert!(!told(given).contains("are UNIT's"), "{given}");
    }
}
