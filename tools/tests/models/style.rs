//! `munit-style` from outside.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use munit::model_file::NamedStyle;
use munit::{Domain, Family, Model, StyleCode};
use munit_tools::translate::picture_tensor;
use serde_json::Value;
use tch::Kind;

use crate::tiny::{STYLE_DIM, Tiny, Workplace, read};

fn workplace(model: &Model) -> Workplace {
    Workplace::new(model, env!("CARGO_BIN_EXE_munit-style"))
}

/// Name, domain, place and code of every style of `model`, as the program lists them.
fn listed(place: &Workplace, model: &str) -> Vec<(String, String, String, Vec<f32>)> {
    let text = place.succeed(&format!("list {model} --json"));
    let styles: Vec<Value> = serde_json::from_str(&text).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    styles
        .iter()
        .map(|style| {
            let code = style["code"].as_array().unwrap().iter();
            let code = code.map(|number| number.as_f64().unwrap() as f32);
            let [name, domain, kept] = ["name", "domain", "kept"].map(|key| text(&style[key]));
            (name, domain, kept, code.collect())
        })
        .collect()
}

fn code(place: &Workplace, model: &str, name: &str) -> Vec<f32> {
    let listed = listed(place, model);
    let found = listed.into_iter().find(|style| style.0 == name);
    found.unwrap_or_else(|| panic!("no style {name}")).3
}

#[track_caller]
fn assert_near(left: &[f32], right: &[f32]) {
    let near = left.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(left.len() == right.len() && near, "{left:?} {right:?}");
}

#[test]
fn a_style_is_taken_from_a_picture_or_the_mean_of_several() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    let pictures = [
        ("a.png", 40, 32),
        ("more/b.png", 48, 48),
        ("more/c.png", 32, 64),
    ];
    let encoded = |domain: Domain, picture| {
        let code = tch::no_grad(|| {
            tiny.generators[domain as usize]
                .encode_style(&picture)
                .unwrap()
        });
        Vec::<f32>::try_from(code.reshape(-1)).unwrap()
    };
    let pictures = pictures
        .map(|(name, width, height)| picture_tensor(&place.picture(name, width, height)).unwrap());
    let codes = pictures.map(|picture| {
        (
            encoded(Domain::B, picture.shallow_clone()),
            encoded(Domain::A, picture),
        )
    });

    let said = place.succeed("add model.safetensors one a.png");
    assert!(said.contains("model.styles.json  one  1 picture"), "{said}");
    assert_near(&code(&place, "model.safetensors", "one"), &codes[0].0);
    place.succeed("add model.safetensors source a.png --domain a");
    assert_near(&code(&place, "model.safetensors", "source"), &codes[0].1);

    // A folder is as good as the pictures in it, and what is broken there is passed over.
    std::fs::write(place.path("more/broken.jpg"), b"not a picture").unwrap();
    let output = place.run("add model.safetensors mean a.png more");
    assert!(output.status.success());
    let remark = String::from_utf8(output.stderr).unwrap();
    assert!(remark.contains("skipped more/broken.jpg"), "{remark}");
    let mean: Vec<f32> = (0..STYLE_DIM)
        .map(|index| codes.iter().map(|(code, _)| code[index]).sum::<f32>() / 3.0)
        .collect();
    assert_near(&code(&place, "model.safetensors", "mean"), &mean);
    let listed = listed(&place, "model.safetensors");
    let summary: Vec<_> = listed
        .iter()
        .map(|(name, domain, kept, _)| format!("{name} {domain} {kept}"))
        .collect();
    assert_eq!(
        summary,
        [
            "mean b beside",
            "one b beside",
            "pencil a model",
            "source a beside",
            "warm b model"
        ]
    );
}

#[test]
fn styles_are_drawn_or_given_and_reported_as_json() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    let text = place.succeed("add model.safetensors drawn --seed 4 --json");
    let added: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(added["name"], "drawn");
    assert_eq!(added["domain"], "b");
    assert_eq!(added["file"], "model.styles.json");
    let expected = StyleCode::sample(4, STYLE_DIM);
    assert_near(
        &code(&place, "model.safetensors", "drawn"),
        expected.values(),
    );
    place.succeed("add model.safetensors given --code -1,0.5,2");
    assert_near(
        &code(&place, "model.safetensors", "given"),
        &[-1.0, 0.5, 2.0],
    );
}

#[test]
fn own_styles_go_before_the_models_and_are_renamed_and_deleted() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    let model = std::fs::read(place.path("model.safetensors")).unwrap();
    let remark = |arguments: &str| {
        let output = place.run(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let replaced = "warm now stands in the place of the model's own style";
    let said = remark("add model.safetensors warm --code 1,2,3");
    assert!(said.contains(replaced), "{said}");
    assert_near(&code(&place, "model.safetensors", "warm"), &[1.0, 2.0, 3.0]);
    let table = place.succeed("list model.safetensors");
    assert!(table.contains("beside it, in the model's place"), "{table}");

    let message = place.fail("add model.safetensors warm --code 4,5,6");
    assert!(message.contains("add --replace"), "{message}");
    place.succeed("add model.safetensors warm --code 4,5,6 --replace");
    let said = place.succeed("rename model.safetensors warm hot --json");
    let renamed: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        renamed,
        serde_json::json!(
            {"file": "model.styles.json", "name": "hot", "was": "warm", "replaces": false}
        )
    );
    assert_near(&code(&place, "model.safetensors", "hot"), &[4.0, 5.0, 6.0]);
    assert_near(
        &code(&place, "model.safetensors", "warm"),
        &[1.5, -0.5, 0.25],
    );

    assert_eq!(remark("add model.safetensors cold --seed 1"), "");
    let said = remark("rename model.safetensors cold warm");
    assert!(said.contains(replaced), "{said}");
    // In a new model there is one style of a name.
    let new = "add model.safetensors warm --seed 2 --replace --into-model new.safetensors";
    assert_eq!(remark(new), "");
    assert_eq!(remark("rename model.safetensors warm cold"), "");
    let message = place.fail("rename model.safetensors hot cold");
    assert!(message.contains("cold already"), "{message}");
    let message = place.fail("delete model.safetensors hot lukewarm");
    assert!(
        message.contains("no style lukewarm; it holds cold"),
        "{message}"
    );
    assert!(place.succeed("list model.safetensors").contains("hot"));
    let said = place.succeed("delete model.safetensors hot cold --json");
    let deleted: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(deleted["deleted"], serde_json::json!(["hot", "cold"]));
    assert!(!place.path("model.styles.json").exists());
    assert_eq!(
        std::fs::read(place.path("model.safetensors")).unwrap(),
        model
    );
}

#[test]
fn a_name_that_cannot_be_a_file_s_is_refused() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    for name in ["a/b", "..", "../../escape", "a\\b", ".hidden"] {
        for arguments in [
            format!("add model.safetensors {name} --seed 1"),
            format!("add model.safetensors {name} --seed 1 --into-model new.safetensors"),
            format!("rename model.safetensors warm {name} --into-model new.safetensors"),
        ] {
            let message = place.fail(&arguments);
            assert!(
                message.contains("cannot be called"),
                "{arguments}: {message}"
            );
        }
    }
    assert!(!place.path("model.styles.json").exists());
    assert!(!place.path("new.safetensors").exists());
    // A file of former times may have one, which can be renamed.
    let saved = r#"{"a/b": {"domain": "b", "code": [1, 2, 3]}}"#;
    std::fs::write(place.path("model.styles.json"), saved).unwrap();
    place.succeed("add model.safetensors dusk --seed 1");
    place.succeed("rename model.safetensors a/b a-b");
    assert_near(&code(&place, "model.safetensors", "a-b"), &[1.0, 2.0, 3.0]);
}

#[test]
fn where_nothing_can_be_written_beside_a_model_it_is_said_what_to_do() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    // No file can be made in this folder, not even by root.
    let output = Command::new(place.program)
        .args(["add", "/proc/self/fd/0", "dusk", "--seed", "1"])
        .stdin(File::open(place.path("model.safetensors")).unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let message = String::from_utf8(output.stderr).unwrap();
    for part in [
        "/proc/self/fd/0.styles.json: cannot write: ",
        "copy the model",
        "--into-model FILE",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_new_model_is_written_only_when_asked_for() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    tiny.model
        .write(&place.path("half.safetensors"), Kind::BFloat16)
        .unwrap();
    let before = std::fs::read(place.path("half.safetensors")).unwrap();
    for (arguments, expected) in [
        (
            "rename half.safetensors warm hot",
            "the model stays as it is",
        ),
        ("delete half.safetensors warm", "--into-model"),
        (
            "delete half.safetensors warm --into-model ./half.safetensors",
            "replace the original",
        ),
        (
            "delete half.safetensors cold --into-model new.safetensors",
            "no style cold; it holds pencil, warm",
        ),
        (
            "add half.safetensors cold --into-model new.safetensors",
            "no style cold to put into a model",
        ),
    ] {
        let message = place.fail(arguments);
        assert!(message.contains(expected), "{arguments}: {message}");
        assert!(!place.path("new.safetensors").exists());
    }

    place.succeed("add half.safetensors cold --code 3,2,1");
    place.succeed("add half.safetensors cold --into-model one.safetensors");
    place.succeed("rename one.safetensors warm hot --into-model two.safetensors");
    place.succeed("delete two.safetensors pencil --into-model three.safetensors");
    let style = |code: [f32; 3]| NamedStyle {
        domain: Domain::B,
        code: code.to_vec(),
    };
    let expected = [("cold", [3.0, 2.0, 1.0]), ("hot", [1.5, -0.5, 0.25])];
    let three = Model::read(&place.path("three.safetensors")).unwrap();
    assert_eq!(
        three.metadata.styles,
        expected
            .map(|(name, code)| (name.to_owned(), style(code)))
            .into()
    );
    // All but the names is as it was, down to the last bit of the weights.
    let half = Model::read(&place.path("half.safetensors")).unwrap();
    assert_eq!(three.weights, half.weights);
    let size = |name: &str| std::fs::metadata(place.path(name)).unwrap().len();
    assert!(size("three.safetensors").abs_diff(size("half.safetensors")) < 1000);
    assert_eq!(
        std::fs::read(place.path("half.safetensors")).unwrap(),
        before
    );
    let message = place.fail("delete half.safetensors cold --into-model four.safetensors");
    assert!(message.contains("kept beside the model"), "{message}");
}

#[test]
fn what_is_kept_beside_a_model_is_found_by_its_users() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    place.picture("in.png", 32, 32);
    place.succeed("add model.safetensors dusk --code 1,-2,0.5");
    let translate = Workplace {
        program: env!("CARGO_BIN_EXE_munit-translate"),
        ..place
    };
    let said = translate.succeed("model.safetensors in.png out.png --style-name dusk");
    assert!(said.contains("--style 1,-2,0.5"), "{said}");
    // Someone else's file of this name is no reason to stop.
    std::fs::write(translate.path("model.styles.json"), b"[]").unwrap();
    let output = translate.run("model.safetensors in.png out.png --seed 1");
    assert!(output.status.success());
    let remark = String::from_utf8(output.stderr).unwrap();
    assert!(
        remark.contains("model.styles.json is not a file of styles"),
        "{remark}"
    );
}

#[test]
fn a_sheet_shows_every_style_below_the_pictures() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    let picture = place.picture("in.png", 64, 48);
    place.picture("more/in.png", 64, 48);
    place.succeed("add model.safetensors dusk --code 1,-2,0.5");
    // The same style by another name, which has no row of its own.
    place.succeed("add model.safetensors default --code 1,-2,0.5");
    let said =
        place.succeed("show model.safetensors sheet.png in.png more --size 48 --draws 1 --json");
    let shown: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        shown["rows"],
        serde_json::json!(["dusk = default", "warm", "seed 0"])
    );
    let sheet = read(&place.path("sheet.png"));
    // Rows: the pictures, dusk, warm, seed 0; columns: two pictures.
    let (width, height) = (2 * 64 + 4, 4 * 48 + 3 * 4);
    let left = sheet.width() - 20 - width;
    let top = sheet.height() - 20 - height;
    let shown = |column: u32, row: u32| {
        let (x, y) = (left + column * 68, top + row * 52);
        image::imageops::crop_imm(&sheet, x, y, 64, 48).to_image()
    };
    assert_eq!(shown(0, 0), picture);
    let translate = Workplace {
        program: env!("CARGO_BIN_EXE_munit-translate"),
        ..place
    };
    for (row, style) in [
        (1, "--style-name dusk"),
        (2, "--style-name warm"),
        (3, "--seed 0"),
    ] {
        translate.succeed(&format!("model.safetensors in.png out.png {style}"));
        let expected = read(&translate.path("out.png"));
        assert_eq!(shown(0, row), expected, "{style}");
        assert_eq!(shown(1, row), expected, "{style}");
    }
    let place = Workplace {
        program: env!("CARGO_BIN_EXE_munit-style"),
        ..translate
    };
    let said = place.succeed(
        "show model.safetensors one.png in.png more --b2a --style pencil --columns 1 --json",
    );
    let shown: Value = serde_json::from_str(&said).unwrap();
    let sheet = read(&place.path("one.png"));
    assert_eq!(
        (&shown["width"], &shown["height"]),
        (&sheet.width().into(), &sheet.height().into())
    );
    assert_eq!(
        (&shown["file"], &shown["direction"]),
        (&"one.png".into(), &"b2a".into())
    );
    let one = read(&place.path("one.png"));
    // A title, the picture and one style, at the usual size.
    assert_eq!(one.height(), 20 + 16 + 10 + 256 + 4 + 256 + 20);
}

#[test]
fn every_mistake_gets_a_sentence_that_names_it() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    place.picture("in.png", 32, 32);
    std::fs::create_dir(place.path("empty")).unwrap();
    for (arguments, expected) in [
        ("list missing.safetensors", "missing.safetensors"),
        ("add model.safetensors x", "required"),
        ("add model.safetensors x missing.png", "missing.png"),
        ("add model.safetensors x empty", "no picture"),
        (
            "add model.safetensors x in.png --seed 3",
            "cannot be used with",
        ),
        ("add model.safetensors x --code 1,2", "has 2 numbers"),
        ("add model.safetensors x --code 1,2,-1e38", "number 3"),
        ("delete model.safetensors", "required"),
        ("delete model.safetensors x", "no style x; it holds none"),
        (
            "show model.safetensors sheet.png missing.png",
            "missing.png",
        ),
        ("show model.safetensors sheet.gif in.png", "sheet.gif"),
        (
            "show model.safetensors in.png in.png",
            "replace the original",
        ),
        (
            "show model.safetensors sheet.png in.png --style x",
            "no style x for a2b",
        ),
        (
            "show model.safetensors sheet.png in.png --style pencil",
            "no style pencil for a2b",
        ),
    ] {
        let message = place.fail(arguments);
        assert!(message.contains(expected), "{arguments}: {message}");
        assert!(!message.contains("panicked"), "{arguments}: {message}");
    }
    let name = PathBuf::from("x").join("y".repeat(120));
    let message = place.fail(&format!(
        "add model.safetensors {} --seed 3",
        name.display()
    ));
    assert!(message.contains("longer than 100 characters"), "{message}");
    let unit = workplace(&Tiny::new(Family::Unit).model);
    assert!(unit.fail("list model.safetensors").contains("UNIT"));
    let one = Tiny::new(Family::Munit).model;
    let one = workplace(&one.restrict(&[munit::Direction::B2a]).unwrap());
    one.picture("in.png", 32, 32);
    let message = one.fail("add model.safetensors x in.png --domain b");
    assert!(
        message.contains("does not translate into domain b"),
        "{message}"
    );
    one.succeed("add model.safetensors x in.png");
    assert_eq!(listed(&one, "model.safetensors")[1].1, "a");
}
