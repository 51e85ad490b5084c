//! `munit-translate` from outside: the real program on models and pictures made here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use munit::runtime::{DeviceChoice, Precision, Translator};
use munit::{Direction, Domain, Family, Model, StyleCode};
use munit_tools::translate::picture_tensor;
use tch::{Device, Kind, Tensor};

use crate::tiny::{STYLE_DIM, Tiny, Workplace, difference, read, steps};

const TRANSLATE: &str = env!("CARGO_BIN_EXE_munit-translate");

fn workplace(model: &Model) -> Workplace {
    Workplace::new(model, TRANSLATE)
}

#[test]
fn raw_output_is_what_the_networks_compute() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    let picture = picture_tensor(&place.picture("in.png", 40, 32)).unwrap();
    let code = [0.5, -1.25, 2.0];
    for direction in Direction::ALL {
        place.succeed(&format!(
            "model.safetensors in.png out.png --{} --style=0.5,-1.25,2 --raw raw.safetensors",
            direction.name()
        ));
        let expected = tiny.expected(&picture, direction, &code);
        let raw = place.output("raw.safetensors");
        assert!(difference(&raw, &expected) < 1e-6);
        let shown = picture_tensor(&read(&place.path("out.png"))).unwrap();
        assert!(difference(&shown, &raw) <= 0.51 / 127.5);
    }
}

#[test]
fn float_pictures_are_translated_from_a_tensor_file() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    let pictures = Tensor::rand([2, 3, 32, 48], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
    let other = Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu));
    Tensor::write_safetensors(
        &[("x_a", &pictures), ("other", &other)],
        place.path("in.safetensors"),
    )
    .unwrap();
    place.succeed("model.safetensors in.safetensors#x_a out --seed 4 --raw raw.safetensors");
    let raw = place.output("raw.safetensors");
    assert_eq!(raw.size(), [2, 3, 32, 48]);
    let style = StyleCode::sample(4, STYLE_DIM);
    for index in 0..2 {
        let picture = pictures.narrow(0, index, 1);
        let expected = tiny.expected(&picture, Direction::A2b, style.values());
        assert!(difference(&raw.narrow(0, index, 1), &expected) < 1e-6);
        let shown = read(&place.path(&format!("out/{index}.png")));
        assert_eq!(shown.dimensions(), (48, 32));
    }
    // The one tensor of the result needs no name.
    place.succeed("model.safetensors raw.safetensors again --b2a --raw again.safetensors");
    let message = place.fail("model.safetensors in.safetensors out");
    assert!(
        message.contains("2 tensors") && message.contains("#other"),
        "{message}"
    );
    let message = place.fail("model.safetensors in.safetensors#x_b out");
    assert!(message.contains("no tensor \"x_b\""), "{message}");
}

#[test]
fn the_fast_path_shows_what_the_networks_compute() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    place.picture("in.png", 61, 45);
    place.succeed("model.safetensors in.png exact.png --seed 3 --raw raw.safetensors");
    place.succeed("model.safetensors in.png fast.png --seed 3 --precision fp32");
    assert_eq!(place.output("raw.safetensors").size(), [1, 3, 45, 61]);
    let exact = read(&place.path("exact.png"));
    assert!(steps(&exact, &read(&place.path("fast.png"))) <= 1);
    // Another style is another picture: the test above compares something.
    place.succeed("model.safetensors in.png other.png --seed 4 --precision fp32");
    assert!(steps(&exact, &read(&place.path("other.png"))) > 8);
}

#[test]
fn strength_mixes_and_size_scales_back() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    let original = place.picture("in.png", 64, 48);
    let run = |arguments: &str| {
        place.succeed(&format!(
            "model.safetensors in.png out.png --precision fp32 {arguments}"
        ));
        read(&place.path("out.png"))
    };
    assert_eq!(steps(&run("--strength 0"), &original), 0);
    let (half, whole) = (run("--strength 0.5"), run(""));
    for ((half, whole), original) in half.iter().zip(whole.iter()).zip(original.iter()) {
        let middle = (f32::from(*whole) + f32::from(*original)) / 2.0;
        assert!((f32::from(*half) - middle).abs() <= 1.01);
    }
    let small = run("--size 24");
    assert_eq!(small.dimensions(), (64, 48));
    assert!(steps(&small, &whole) > 8);
    // The float output is the network's, whatever is mixed with it afterwards.
    run("--strength 0.5 --raw half.safetensors");
    run("--raw whole.safetensors");
    let [half, whole] = ["half.safetensors", "whole.safetensors"].map(|name| place.output(name));
    assert_eq!(difference(&half, &whole), 0.0);
}

#[test]
fn every_way_to_name_a_style() {
    let mut tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    let picture = picture_tensor(&place.picture("in.png", 32, 32)).unwrap();
    let example = picture_tensor(&place.picture("print.png", 48, 40)).unwrap();
    let check = |arguments: &str, tiny: &Tiny, expected: &[f32]| {
        let summary = place.succeed(&format!(
            "model.safetensors in.png --raw raw.safetensors {arguments}"
        ));
        let raw = place.output("raw.safetensors");
        let expected = tiny.expected(&picture, Direction::A2b, expected);
        assert!(difference(&raw, &expected) < 1e-5, "{arguments}");
        // The style that was used is printed so that it can be given again.
        let (_, style) = summary.trim_end().split_once("  --style ").unwrap();
        place.succeed(&format!(
            "model.safetensors in.png --raw again.safetensors --style={style}"
        ));
        assert!(
            difference(&place.output("again.safetensors"), &raw) < 1e-6,
            "{arguments}"
        );
    };
    check("", &tiny, &[0.0; STYLE_DIM]);
    check("--style-name warm", &tiny, &[1.5, -0.5, 0.25]);
    check("--style -1,2,-3", &tiny, &[-1.0, 2.0, -3.0]);
    check(
        "--seed 11",
        &tiny,
        StyleCode::sample(11, STYLE_DIM).values(),
    );
    let encoded = tch::no_grad(|| tiny.generators[1].encode_style(&example).unwrap());
    let encoded = Vec::<f32>::try_from(encoded.reshape(-1)).unwrap();
    check("--style-image print.png", &tiny, &encoded);
    place.succeed("model.safetensors in.png out.png --style-image print.png --precision fp32");

    let mean = vec![0.75, 0.5, -2.0];
    tiny.model
        .metadata
        .mean_styles
        .insert(Domain::B, mean.clone());
    tiny.model
        .write(&place.path("model.safetensors"), Kind::Float)
        .unwrap();
    check("", &tiny, &mean);
}

#[test]
fn unit_translates_and_leaves_a_style_out_with_a_remark() {
    let tiny = Tiny::new(Family::Unit);
    let place = workplace(&tiny.model);
    let picture = picture_tensor(&place.picture("in.png", 32, 32)).unwrap();
    let output = place.run("model.safetensors in.png out.png --seed 5 --raw raw.safetensors");
    assert!(output.status.success());
    let remark = String::from_utf8(output.stderr).unwrap();
    assert!(
        remark.contains("UNIT model, which has no style"),
        "{remark}"
    );
    let expected = tiny.expected(&picture, Direction::A2b, &[]);
    assert!(difference(&place.output("raw.safetensors"), &expected) < 1e-6);
    let output = place.run("model.safetensors in.png out.png");
    assert!(output.status.success() && output.stderr.is_empty());
}

#[test]
fn a_model_of_one_direction_is_enough() {
    let tiny = Tiny::new(Family::Munit);
    let both = workplace(&tiny.model);
    both.picture("in.png", 32, 32);
    both.succeed("model.safetensors in.png --b2a --raw raw.safetensors --seed 1");
    let one = workplace(&tiny.model.restrict(&[Direction::B2a]).unwrap());
    one.picture("in.png", 32, 32);
    one.succeed("model.safetensors in.png --raw raw.safetensors --seed 1");
    let outputs = [&both, &one].map(|place| place.output("raw.safetensors"));
    assert!(difference(&outputs[0], &outputs[1]) < 1e-7);
    one.succeed("model.safetensors in.png out.png --seed 1");
    let message = one.fail("model.safetensors in.png out.png --a2b");
    assert!(message.contains("translates b2a only"), "{message}");
}

#[test]
fn a_strip_is_translated_and_gives_its_style_like_any_picture() {
    let tiny = Tiny::new(Family::Munit);
    let place = workplace(&tiny.model);
    let strip = picture_tensor(&place.picture("strip.png", 16, 320)).unwrap();
    let encoded = tch::no_grad(|| tiny.generators[1].encode_style(&strip).unwrap());
    let encoded = Vec::<f32>::try_from(encoded.reshape(-1)).unwrap();
    place.succeed(
        "model.safetensors strip.png out.png --raw raw.safetensors --style-image strip.png",
    );
    let expected = tiny.expected(&strip, Direction::A2b, &encoded);
    assert!(difference(&place.output("raw.safetensors"), &expected) < 1e-5);
    assert_eq!(read(&place.path("out.png")).dimensions(), (16, 320));
}

#[test]
fn a_folder_keeps_its_names_and_broken_pictures_are_skipped() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    place.picture("in/one.png", 32, 32);
    place.picture("in/deep/er/two.JPG", 33, 47);
    place.picture("in/three.pnm", 40, 32);
    place.picture("in/tiny.png", 8, 8);
    std::fs::write(place.path("in/broken.jpg"), b"not a picture").unwrap();
    std::fs::write(place.path("in/notes.txt"), b"not meant as a picture").unwrap();
    let output = place.run("model.safetensors in out --seed 1 --raw raw.safetensors");
    assert!(output.status.success(), "{output:?}");
    let remarks = String::from_utf8(output.stderr).unwrap();
    assert!(remarks.contains("skipped in/broken.jpg"), "{remarks}");
    assert!(remarks.contains("skipped in/tiny.png"), "{remarks}");
    assert!(!remarks.contains("notes.txt"), "{remarks}");
    let summary = String::from_utf8(output.stdout).unwrap();
    assert!(summary.contains("out  3 pictures, 2 skipped"), "{summary}");
    for (name, size) in [
        ("one.png", (32, 32)),
        ("deep/er/two.JPG", (33, 47)),
        ("three.pnm", (40, 32)),
    ] {
        let path = place.path("out").join(name);
        let reader = image::ImageReader::open(&path).unwrap();
        let named = reader.format();
        assert_eq!(reader.with_guessed_format().unwrap().format(), named);
        assert_eq!(read(&path).dimensions(), size);
    }
    assert_eq!(
        walkdir::WalkDir::new(place.path("out")).into_iter().count(),
        6
    );
    let names: Vec<_> = place.tensors("raw.safetensors").into_keys().collect();
    assert_eq!(names, ["deep/er/two.JPG", "one.png", "three.pnm"]);
}

#[test]
fn results_in_a_folder_are_replaced_on_demand_only() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    place.picture("in/one.png", 32, 32);
    place.picture("in/deep/two.png", 32, 32);
    for (what, standing) in [
        ("in out", ["out/one.png", "out/deep/two.png"]),
        (
            "in out --all-styles --a2b",
            ["out/warm/one.png", "out/warm/deep/two.png"],
        ),
        (
            "in/one.png styles --all-styles --b2a",
            ["styles/pencil.png"; 2],
        ),
    ] {
        let arguments = format!("model.safetensors {what}");
        for path in standing.map(|name| place.path(name)) {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "somebody's").unwrap();
        }
        let message = place.fail(&arguments);
        assert!(message.contains(" is there already"), "{message}");
        assert!(message.ends_with(", or give --replace\n"), "{message}");
        for name in standing {
            assert_eq!(std::fs::read(place.path(name)).unwrap(), b"somebody's");
        }
        place.succeed(&format!("{arguments} --replace"));
        for name in standing {
            read(&place.path(name));
        }
    }
    // A result that is named itself is replaced, as those of the other programs.
    for seed in [1, 2] {
        place.succeed(&format!(
            "model.safetensors in/one.png one.png --seed {seed}"
        ));
    }
    let batch = Tensor::zeros([2, 3, 32, 32], (Kind::Float, Device::Cpu));
    Tensor::write_safetensors(&[("x", batch)], place.path("in.safetensors")).unwrap();
    let tensors = "model.safetensors in.safetensors many";
    place.succeed(tensors);
    let message = place.fail(tensors);
    let expected = "many/0.png is there already, and one other result, too; ";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn what_was_done_is_told_as_json() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    place.picture("in/a.png", 40, 32);
    place.picture("in/b.png", 40, 32);
    std::fs::write(place.path("in/c.png"), b"no picture").unwrap();
    let done = |arguments: &str| -> serde_json::Value {
        let text = place.succeed(&format!("model.safetensors {arguments} --json"));
        serde_json::from_str(&text).unwrap()
    };
    let folder = done("in out --seed 3");
    assert_eq!(folder["kind"], "folder");
    assert_eq!(folder["output"], "out");
    assert_eq!(folder["direction"], "a2b");
    assert_eq!(folder["translated"], 2);
    assert_eq!(folder["skipped"][0]["file"], "in/c.png");
    assert!(!folder["skipped"][0]["reason"].as_str().unwrap().is_empty());
    assert!(folder["seconds"].as_f64().unwrap() > 0.0);
    // The code that it tells gives the same style again.
    let style: Vec<String> = folder["style"]
        .as_array()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    let picture = done(&format!("in/a.png again.png --style {}", style.join(",")));
    assert_eq!(
        (&picture["width"], &picture["height"]),
        (&40.into(), &32.into())
    );
    assert_eq!(
        read(&place.path("again.png")),
        read(&place.path("out/a.png"))
    );
    let styles = done("in/a.png styles --all-styles");
    let names = styles["styles"].as_array().unwrap();
    assert_eq!(
        std::fs::read_dir(place.path("styles")).unwrap().count(),
        names.len()
    );
    assert_eq!(styles.get("style"), None);
}

#[test]
fn a_folder_without_a_usable_picture_fails() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    std::fs::create_dir(place.path("in")).unwrap();
    assert!(
        place
            .fail("model.safetensors in out")
            .contains("no pictures in this folder")
    );
    std::fs::write(place.path("in/broken.jpg"), b"not a picture").unwrap();
    let message = place.fail("model.safetensors in out");
    assert!(
        message.contains("could be translated, of 1 picture\n"),
        "{message}"
    );
}

#[test]
fn every_named_style_gets_a_file_or_a_folder() {
    let tiny = Tiny::new(Family::Munit);
    let mut model = tiny.model;
    let mut cold = model.metadata.styles["warm"].clone();
    cold.code = vec![-1.0, 0.5, 0.0];
    model.metadata.styles.insert("cold".to_owned(), cold);
    // The same style by another name, which is left out.
    let warm = model.metadata.styles["warm"].clone();
    model.metadata.styles.insert("default".to_owned(), warm);
    let place = workplace(&model);
    place.picture("in.jpg", 40, 32);
    let said = place.succeed("model.safetensors in.jpg out --all-styles");
    assert!(said.contains("out  40×32 in 2 styles  a2b"), "{said}");
    assert_eq!(std::fs::read_dir(place.path("out")).unwrap().count(), 2);
    for style in ["warm", "cold"] {
        place.succeed(&format!(
            "model.safetensors in.jpg {style}.jpg --style-name {style}"
        ));
        let single = std::fs::read(place.path(&format!("{style}.jpg"))).unwrap();
        assert_eq!(
            std::fs::read(place.path(&format!("out/{style}.jpg"))).unwrap(),
            single
        );
    }
    assert_ne!(
        std::fs::read(place.path("cold.jpg")).unwrap(),
        std::fs::read(place.path("warm.jpg")).unwrap()
    );

    place.picture("in/deep/one.png", 32, 32);
    place.succeed("model.safetensors in folders --all-styles --a2b");
    for style in ["warm", "cold"] {
        assert!(
            place
                .path(&format!("folders/{style}/deep/one.png"))
                .is_file()
        );
    }
    for (arguments, expected) in [
        ("in.jpg out --all-styles --seed 1", "cannot be used with"),
        (
            "in.jpg out --all-styles --raw x.safetensors",
            "cannot be used with",
        ),
        ("in.jpg in.jpg --all-styles", "go into a folder"),
        (
            "in.jpg out.png --all-styles",
            "out.png: this names a file; translations in several styles go into a folder",
        ),
        ("in.jpg out.mp4 --all-styles", "out.mp4: this names a file"),
        ("in in/out --all-styles", "inside the input folder"),
        ("in.jpg --all-styles", "give OUT"),
    ] {
        let message = place.fail(&format!("model.safetensors {arguments}"));
        assert!(message.contains(expected), "{arguments}: {message}");
    }
    model.metadata.styles.clear();
    let place = workplace(&model);
    place.picture("in.png", 32, 32);
    let message = place.fail("model.safetensors in.png out --all-styles");
    assert!(message.contains("no named styles for a2b"), "{message}");
}

#[test]
fn a_style_whose_name_cannot_be_a_file_s_does_not_stop_the_others() {
    let mut model = Tiny::new(Family::Munit).model;
    for (name, first) in [("../a b", 1.0), ("..", 2.0)] {
        let mut style = model.metadata.styles["warm"].clone();
        style.code[0] = first;
        model.metadata.styles.insert(name.to_owned(), style);
    }
    let place = workplace(&model);
    place.picture("in.png", 40, 32);
    place.picture("in/one.png", 32, 32);
    let output = place.run("model.safetensors in.png out --all-styles");
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    for part in [
        r#"the style "../a b" cannot be a file's name; what is translated in it goes to out/%2E.%2Fa%20b.png"#,
        r#"the style ".." cannot be a file's name"#,
    ] {
        assert!(told.contains(part), "{told}");
    }
    for name in ["warm.png", "%2E.%2Fa%20b.png", "%2E..png"] {
        assert!(place.path("out").join(name).is_file(), "{name}");
    }
    place.succeed("model.safetensors in folders --all-styles");
    assert!(place.path("folders/%2E.%2Fa%20b/one.png").is_file());
}

#[test]
fn what_is_transparent_stays_so() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    place.picture("plain.png", 40, 32);
    let plain = read(&place.path("plain.png"));
    let alpha = |x: u32, y: u32| if x < 12 { 0 } else { (6 * y) as u8 };
    let transparent = image::RgbaImage::from_fn(40, 32, |x, y| {
        let [r, g, b] = plain.get_pixel(x, y).0;
        image::Rgba([r, g, b, alpha(x, y)])
    });
    transparent.save(place.path("in.png")).unwrap();
    std::fs::create_dir(place.path("folder")).unwrap();
    transparent.save(place.path("folder/in.png")).unwrap();
    place.succeed("model.safetensors in.png out.png --size 16");
    place.succeed("model.safetensors in.png out.webp");
    place.succeed("model.safetensors folder out");
    place.succeed("model.safetensors in.png both.png --side-by-side");
    place.succeed("model.safetensors in.png out.jpg");
    place.succeed("model.safetensors plain.png opaque.png");
    place.succeed("model.safetensors in.png opaque-too.png --opaque");
    place.succeed("model.safetensors folder opaque-folder --opaque");
    let opened = |name: &str| image::open(place.path(name)).unwrap();
    for name in ["out.png", "out.webp", "out/in.png", "both.png"] {
        let result = opened(name);
        assert!(result.color().has_alpha(), "{name}");
        let result = result.into_rgba8();
        let width = if name == "both.png" { 80 } else { 40 };
        assert_eq!(result.dimensions(), (width, 32));
        for (x, y, pixel) in result.enumerate_pixels() {
            assert_eq!(pixel[3], alpha(x % 40, y), "{name} {x} {y}");
        }
    }
    for name in [
        "out.jpg",
        "opaque.png",
        "opaque-too.png",
        "opaque-folder/in.png",
    ] {
        assert!(!opened(name).color().has_alpha(), "{name}");
    }
}

#[test]
fn the_original_stands_on_the_left() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    let original = place.picture("in.png", 40, 32);
    place.succeed("model.safetensors in.png plain.png --seed 2");
    place.succeed("model.safetensors in.png both.png --seed 2 --side-by-side");
    let both = read(&place.path("both.png"));
    assert_eq!(both.dimensions(), (80, 32));
    let half = |left: u32| image::imageops::crop_imm(&both, left, 0, 40, 32).to_image();
    assert_eq!(half(0), original);
    assert_eq!(half(40), read(&place.path("plain.png")));
}

/// The frames of a video, cut into a new folder.
#[cfg(feature = "video")]
fn frames_of(place: &Workplace, video: &str, folder: &str) -> Vec<image::RgbImage> {
    let folder = place.path(folder);
    let cut = Command::new(env!("CARGO_BIN_EXE_munit-prepare"))
        .arg("frames")
        .args([&place.path(video), &folder])
        .args(["--format", "png"])
        .output()
        .unwrap();
    assert!(cut.status.success(), "{cut:?}");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

/// Writes `clip.avi` of so many frames, twelve a second, with sound as long.
#[cfg(feature = "video")]
fn make_clip(place: &Workplace, frames: u32, [width, height]: [u32; 2]) {
    crate::media::launch(&format!(
        "avimux name=muxer ! filesink location={} videotestsrc num-buffers={frames} \
         ! video/x-raw,width={width},height={height},framerate=12/1 ! jpegenc ! queue ! muxer. \
         audiotestsrc num-buffers={frames} samplesperbuffer=4000 \
         ! audio/x-raw,format=S16LE,rate=48000,channels=1 ! queue ! muxer.",
        place.path("clip.avi").display()
    ));
}

#[cfg(feature = "video")]
#[test]
fn a_run_that_is_killed_leaves_the_older_video() {
    use std::time::{Duration, Instant};
    let place = workplace(&Tiny::new(Family::Munit).model);
    make_clip(&place, 500, [160, 120]);
    let older = place.path("out/drawn.webm");
    std::fs::create_dir(place.path("out")).unwrap();
    std::fs::write(&older, b"older").unwrap();
    let files = || std::fs::read_dir(place.path("out")).unwrap().count();
    let wait_for = |count: usize| {
        let begun = Instant::now();
        while files() != count {
            assert!(begun.elapsed() < Duration::from_secs(120), "{count} files");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let mut run = Command::new(TRANSLATE)
        .args(["model.safetensors", "clip.avi", "out/drawn.webm"])
        .current_dir(place.folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // The encoder has begun, beside the older video.
    wait_for(2);
    run.kill().unwrap();
    let status = run.wait().unwrap();
    assert_eq!(status.code(), None, "it was done before it was killed");
    // It notices, and clears away what it has made.
    wait_for(1);
    assert_eq!(std::fs::read(&older).unwrap(), b"older");
}

#[cfg(feature = "video")]
#[test]
fn a_video_that_cannot_be_written_further_ends_with_a_sentence() {
    use std::time::{Duration, Instant};
    let place = workplace(&Tiny::new(Family::Munit).model);
    // So many frames that most are still to come when the encoder fails.
    make_clip(&place, 200, [160, 120]);
    std::fs::create_dir(place.path("out")).unwrap();
    for name in ["drawn.webm", "drawn.mkv"] {
        let older = place.path("out").join(name);
        std::fs::write(&older, b"older").unwrap();
        // Files may grow to 8 KiB.
        let script =
            format!("ulimit -f 16; exec {TRANSLATE} model.safetensors clip.avi out/{name}");
        let mut run = Command::new("sh")
            .args(["-c", &script])
            .current_dir(place.folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = run.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > Duration::from_secs(120) {
                run.kill().unwrap();
                panic!("{name}: it hangs");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let said = std::io::read_to_string(run.stderr.take().unwrap()).unwrap();
        assert_eq!(status.code(), Some(1), "{said}");
        let expected = format!("munit-translate: out/{name}: not written: ");
        assert!(said.starts_with(&expected), "{said}");
        assert_eq!(std::fs::read(&older).unwrap(), b"older");
        std::fs::remove_file(older).unwrap();
        let left = std::fs::read_dir(place.path("out")).unwrap().count();
        assert_eq!(left, 0, "{name}");
    }
}

#[cfg(feature = "video")]
#[test]
fn a_video_is_translated_frame_by_frame() {
    use gst::prelude::*;
    let place = workplace(&Tiny::new(Family::Munit).model);
    make_clip(&place, 8, [50, 34]);
    let patience = gst::ClockTime::from_seconds(60);

    let said = place.succeed("model.safetensors clip.avi new/out.webm --seed 3 --side-by-side");
    assert!(said.contains("8 frames of 50×34"), "{said}");
    // More words of GStreamer's than fit into a pipe stop nothing, and hide no reason.
    std::fs::write(place.path("text.mp4"), b"This is no video.").unwrap();
    for (clip, succeeds) in [("clip.avi", true), ("text.mp4", false)] {
        let output = std::process::Command::new(TRANSLATE)
            .args(["model.safetensors", clip, "talkative.webm"])
            .current_dir(place.folder.path())
            .env("GST_DEBUG", "6")
            .output()
            .unwrap();
        assert_eq!(output.status.success(), succeeds, "{output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        let expected = "munit-translate: text.mp4 is not a video that GStreamer knows\n";
        assert!(succeeds || message == expected, "{message}");
    }
    let frames = frames_of(&place, "new/out.webm", "translated");
    assert_eq!(frames.len(), 8);
    assert_eq!(frames[0].dimensions(), (100, 34));
    let line = format!(
        "filesrc location={} ! matroskademux ! fakesink",
        place.path("new/out.webm").display()
    );
    let pipeline = gst::parse::launch(&line).unwrap();
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.state(patience).0.unwrap();
    let length = gst::Element::query_duration::<gst::ClockTime>(&pipeline).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    // Seven or eight twelfths of a second, as the last frame's own time is counted or not.
    assert!((570..=680).contains(&length.mseconds()), "{length}");

    // The same frames as pictures, translated one by one.
    let original = frames_of(&place, "clip.avi", "original");
    original[0].save(place.path("first.png")).unwrap();
    place.succeed("model.safetensors first.png first-out.png --seed 3 --side-by-side");
    // Seen from afar, since the encoder keeps little of a random network's texture and colours.
    let afar = |picture: &image::RgbImage| {
        image::imageops::resize(picture, 20, 7, image::imageops::FilterType::Triangle)
    };
    let expected = afar(&read(&place.path("first-out.png")));
    let apart = steps(&expected, &afar(&frames[0]));
    assert!(apart < 25, "{apart}");

    for (arguments, expected) in [
        ("clip.avi out.png", "out.png: cannot tell the format"),
        ("clip.avi clip.avi", "replace the original"),
        ("clip.avi out.webm --raw raw.safetensors", "leave --raw out"),
        ("gone.avi out.webm", "gone.avi"),
    ] {
        let message = place.fail(&format!("model.safetensors {arguments}"));
        assert!(message.contains(expected), "{arguments}: {message}");
    }
    // Only the result's name says that this is a video.
    std::fs::copy(place.path("clip.avi"), place.path("clip")).unwrap();
    place.succeed("model.safetensors clip by-result.webm");
    assert!(place.path("by-result.webm").is_file());
    let message = place.fail("model.safetensors first.png out.mp4");
    assert!(
        message.contains("out.mp4: this names a video, but first.png is a picture"),
        "{message}"
    );
    let message = place.fail("model.safetensors text.mp4 out.webm");
    assert!(message.contains("text.mp4 is not a video"), "{message}");
    assert!(!place.path("out.webm").exists());
    std::fs::rename(place.path("new/out.webm"), place.path("out.webm")).unwrap();
    place.succeed("model.safetensors out.webm styles --all-styles");
    assert!(place.path("styles/warm.webm").is_file());
}

#[test]
fn originals_are_safe() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    place.picture("in.png", 32, 32);
    place.picture("in/a.png", 32, 32);
    let before = std::fs::read(place.path("in.png")).unwrap();
    assert!(
        place
            .fail("model.safetensors in.png ./in.png")
            .contains("replace the original")
    );
    for inside in ["in", "in/out", "in/new/deeper"] {
        let message = place.fail(&format!("model.safetensors in {inside}"));
        assert!(message.contains("inside the input folder"), "{message}");
    }
    assert!(
        place
            .fail("model.safetensors in in.png")
            .contains("this is a file")
    );
    let message = place.fail("model.safetensors in.png --raw model.safetensors");
    assert!(
        message.contains("model.safetensors: this would replace"),
        "{message}"
    );
    // A result that cannot be written ends the run; it is not a picture to skip.
    std::fs::create_dir_all(place.path("out/a.png")).unwrap();
    assert!(
        place
            .fail("model.safetensors in out --replace")
            .contains("out/a.png: cannot write")
    );
    assert_eq!(std::fs::read(place.path("in.png")).unwrap(), before);
}

#[test]
fn an_installed_model_is_found_by_its_name() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    place.picture("in.png", 32, 32);
    let installed = place.path("share/munitfilter/models/mine.safetensors");
    std::fs::create_dir_all(installed.parent().unwrap()).unwrap();
    std::fs::rename(place.path("model.safetensors"), &installed).unwrap();
    let run = |program: &str, arguments: &str, variable: &str| {
        Command::new(program)
            .current_dir(place.folder.path())
            .args(arguments.split_whitespace())
            .env("XDG_DATA_HOME", place.path("nowhere"))
            .env("XDG_DATA_DIRS", place.path("nowhere"))
            .env(variable, place.path("share"))
            .output()
            .unwrap()
    };
    let translate = env!("CARGO_BIN_EXE_munit-translate");
    let info = env!("CARGO_BIN_EXE_munit-info");
    for name in ["mine", "mine.safetensors"] {
        for variable in ["XDG_DATA_HOME", "XDG_DATA_DIRS"] {
            let output = run(translate, &format!("{name} in.png out.png"), variable);
            assert!(output.status.success(), "{output:?}");
            std::fs::remove_file(place.path("out.png")).unwrap();
            let output = run(info, &format!("{name} --json"), variable);
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains(installed.to_str().unwrap()), "{text}");
        }
    }

    // A file here goes before an installed one of the same name, as in the element.
    std::fs::write(place.path("mine.safetensors"), b"").unwrap();
    let output = run(info, "mine.safetensors", "XDG_DATA_HOME");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "munit-info: mine.safetensors: is empty\n"
    );
    // A folder does not, but is told of where there is no model of its name.
    std::fs::create_dir(place.path("mine")).unwrap();
    assert!(run(info, "mine", "XDG_DATA_HOME").status.success());
    for (program, arguments, expected) in [
        (translate, "share in.png out.png", "share: is a folder"),
        (info, "share", "share: there is no run of munit-train"),
    ] {
        let output = run(program, arguments, "XDG_DATA_HOME");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(expected), "{text}");
    }

    let output = run(translate, "yours in.png out.png", "XDG_DATA_HOME");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no model named yours"), "{text}");
    let looked_for = place.path("share/munitfilter/models/yours.safetensors");
    assert!(text.contains(looked_for.to_str().unwrap()), "{text}");
    assert!(text.contains("Give the path"), "{text}");
}

#[test]
fn the_programs_of_a_build_folder_or_a_prefix_find_the_models_there() {
    for (program, model) in [
        (
            "project/target/release/munit-info",
            "project/models/mine.safetensors",
        ),
        (
            "prefix/bin/munit-info",
            "prefix/share/munitfilter/models/mine.safetensors",
        ),
    ] {
        let place = workplace(&Tiny::new(Family::Munit).model);
        let [program, model] = [program, model].map(|name| place.path(name));
        for file in [&program, &model] {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        }
        std::fs::rename(place.path("model.safetensors"), model).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_munit-info"), &program).unwrap();
        let output = Command::new(program).arg("mine").output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn every_mistake_gets_a_sentence_that_names_it() {
    let place = workplace(&Tiny::new(Family::Munit).model);
    place.picture("in.png", 32, 32);
    place.picture("small.png", 20, 12);
    std::fs::write(place.path("broken.png"), b"\x89PNG\r\n\x1a\nand no more").unwrap();
    std::fs::write(
        place.path("broken.safetensors"),
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
    )
    .unwrap();
    let two_channels = Tensor::zeros([1, 2, 32, 32], (Kind::Float, Device::Cpu));
    Tensor::write_safetensors(&[("x", &two_channels)], place.path("float.safetensors")).unwrap();
    for (arguments, expected) in [
        ("in.png", "give OUT, --raw FILE or both"),
        ("missing.png out.png", "missing.png: cannot open"),
        ("broken.png out.png", "broken.png"),
        (
            "broken.safetensors out.png",
            "broken.safetensors: not a sound safetensors file",
        ),
        ("small.png out.png", "20×12"),
        ("in.png out.gif", "out.gif: cannot tell the format"),
        ("in.png out.png --style 1,2", "has 2 numbers"),
        ("in.png out.png --style 1,nan,2", "number 2"),
        ("in.png out.png --style 1,2,1e38", "number 3"),
        ("in.png out.png --style 1,x,2", "invalid value 'x'"),
        (
            "in.png out.png --style-name cold",
            "no style \"cold\" for a2b; it has warm",
        ),
        (
            "in.png out.png --style-name pencil",
            "no style \"pencil\" for a2b",
        ),
        ("in.png out.png --style-image missing.png", "missing.png"),
        (
            "in.png out.png --seed 1 --style 1,2,3",
            "cannot be used with",
        ),
        (
            "in.png out.png --seed -3",
            "'-3' for '--seed <N>': a seed is a whole number from 0 on",
        ),
        ("in.png out.png --a2b --b2a", "cannot be used with"),
        ("in.png out.png --strength 2", "from 0 to 1"),
        ("in.png out.png --device tpu", "\"tpu\" is not a device"),
        ("in.png out.png --device cuda:99", "device"),
        (
            "in.png out.png --precision fp8",
            "\"fp8\" is not a precision",
        ),
        (
            "in.png out.png --raw raw.safetensors --size 64",
            "cannot be used with",
        ),
        (
            "float.safetensors out.png --size 64",
            "leave --size, --strength and --side-by-side out",
        ),
        ("float.safetensors out.png", "has 2 channels"),
        ("in.png in.png/out.png", "in.png"),
    ] {
        let message = place.fail(&format!("model.safetensors {arguments}"));
        assert!(message.contains(expected), "{arguments}: {message}");
        assert!(!message.contains("panicked"), "{arguments}: {message}");
    }
    std::fs::write(place.path("model.safetensors"), b"truncated").unwrap();
    let message = place.fail("model.safetensors in.png out.png");
    assert!(
        message.starts_with("munit-translate: model.safetensors: "),
        "{message}"
    );
}

/// The runtime's networks, too, compute what the published ones do, in every format of the processor.
#[track_caller]
fn fast_path_gives(
    model: &Model,
    direction: Direction,
    picture: &Tensor,
    style: &StyleCode,
    expected: &Tensor,
) {
    for precision in [Precision::Fp32, Precision::Bf16] {
        let mut translator =
            Translator::new(model, direction, DeviceChoice::Cpu, precision).unwrap();
        let translated = translator.translate_tensor(picture, style).unwrap();
        let errors = translated - expected;
        let largest = errors.abs().max().double_value(&[]);
        // Of values from -1 to 1.
        let psnr = 10.0 * (4.0 / errors.square().mean(Kind::Float).double_value(&[])).log10();
        match precision {
            Precision::Fp32 => assert!(largest < 3e-5, "{largest}"),
            _ => assert!(psnr > 40.0, "{psnr}"),
        }
    }
}

/// Published checkpoint → `munit-import` → `munit-translate --raw` gives the published outputs,
/// for every reference in the folder that `MUNIT_REFERENCE` names (default: the fixtures).
#[test]
fn imported_checkpoints_give_the_reference_outputs() {
    let folder = match std::env::var_os("MUNIT_REFERENCE") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference"),
    };
    let mut compared = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let facts = entry.unwrap().path();
        if facts
            .extension()
            .is_none_or(|extension| extension != "json")
        {
            continue;
        }
        let vectors = facts.with_extension("safetensors");
        let facts_text = std::fs::read_to_string(&facts).unwrap();
        let facts_json: serde_json::Value = serde_json::from_str(&facts_text).unwrap();
        let generator = &facts_json["hyperparameters"]["gen"];
        let reference: BTreeMap<String, Tensor> = Tensor::read_safetensors(&vectors)
            .unwrap()
            .into_iter()
            .collect();
        let stem = facts.file_stem().unwrap().to_str().unwrap();
        for form in ["legacy", "zip"] {
            let checkpoint = folder.join(format!("{stem}_gen_{form}.pt"));
            if !checkpoint.exists() {
                continue;
            }
            let place = Workplace {
                folder: tempfile::tempdir().unwrap(),
                program: TRANSLATE,
            };
            let import = Command::new(env!("CARGO_BIN_EXE_munit-import"))
                .arg(&checkpoint)
                .arg(place.path("model.safetensors"))
                .args(["--activ", generator["activ"].as_str().unwrap()])
                .args(["--pad-type", generator["pad_type"].as_str().unwrap()])
                .output()
                .unwrap();
            assert!(import.status.success(), "{import:?}");
            for (input, direction, style, output) in [
                ("x_a", "a2b", "fwd.s_b", "fwd.x_ab"),
                ("x_b", "b2a", "fwd.s_a", "fwd.x_ba"),
                ("fwd.wide.x_a", "a2b", "fwd.s_b", "fwd.wide.x_ab"),
            ] {
                let Some(expected) = reference.get(output) else {
                    continue;
                };
                let code = reference.get(style).map(|styles| {
                    let code = Vec::<f32>::try_from(styles.get(0).reshape(-1)).unwrap();
                    let length = code.len();
                    StyleCode::new(code, length).unwrap()
                });
                let style = code.as_ref().map_or(String::new(), |code| {
                    let numbers: Vec<String> = code.values().iter().map(f32::to_string).collect();
                    format!("--style={}", numbers.join(","))
                });
                let vectors = vectors.canonicalize().unwrap();
                std::os::unix::fs::symlink(&vectors, place.path("in.safetensors")).ok();
                place.succeed(&format!(
                    "model.safetensors in.safetensors#{input} --{direction} {style} --raw raw.safetensors"
                ));
                // The style is that of the first sample.
                let raw = place.output("raw.safetensors").narrow(0, 0, 1);
                let difference = difference(&raw, &expected.narrow(0, 0, 1));
                assert!(difference < 3e-5, "{stem} {form} {output}: {difference}");
                fast_path_gives(
                    &Model::read(&place.path("model.safetensors")).unwrap(),
                    if direction == "a2b" {
                        Direction::A2b
                    } else {
                        Direction::B2a
                    },
                    &reference[input].narrow(0, 0, 1),
                    &code.unwrap_or_else(|| StyleCode::zeros(0)),
                    &expected.narrow(0, 0, 1),
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 0, "no reference in {}", folder.display());
}
