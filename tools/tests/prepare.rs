//! munit-prepare from outside.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use serde_json::Value;
use walkdir::WalkDir;

fn prepare(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_munit-prepare"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("munit-prepare starts")
}

/// Runs and expects success; returns what was written to stderr.
fn succeed(arguments: &[&str], folder: &Path) -> String {
    let output = prepare(arguments, folder);
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {complaints}");
    complaints
}

/// Runs and expects exit code 1 with one line on stderr, which is returned.
fn fail(arguments: &[&str], folder: &Path) -> String {
    let output = prepare(arguments, folder);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.starts_with("munit-prepare: "), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    complaint
}

/// A disc whose place and shade depend on `number`.
fn photo(number: u32) -> RgbImage {
    RgbImage::from_fn(120, 90, |x, y| {
        let (dx, dy) = (x as f32 - 40.0 - number as f32, y as f32 - 45.0);
        Rgb(if dx.hypot(dy) < 25.0 {
            [40, 60, 20 * (number % 10) as u8]
        } else {
            [235, 230, 220]
        })
    })
}

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.expect("the folder can be listed"))
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(folder).unwrap().to_owned())
        .collect()
}

fn paths<const N: usize>(names: [&str; N]) -> BTreeSet<PathBuf> {
    names.map(PathBuf::from).into()
}

/// A folder with `photos/`: pictures of several formats, one below another folder, one broken.
fn mixed_set() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    fs::create_dir_all(photos.join("more")).unwrap();
    photo(1).save(photos.join("one.png")).unwrap();
    photo(2).save(photos.join("two.bmp")).unwrap();
    photo(3).save(photos.join("three.ppm")).unwrap();
    photo(4).save(photos.join("more/four.jpg")).unwrap();
    fs::rename(photos.join("more/four.jpg"), photos.join("more/FOUR.JPG")).unwrap();
    fs::write(photos.join("broken.jpg"), b"\xff\xd8\xff\xe0 not a picture").unwrap();
    fs::write(photos.join("notes.txt"), "no picture either").unwrap();
    folder
}

/// A folder with `photos/image_00.png` … of `count` pictures.
fn numbered_set(count: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("photos")).unwrap();
    for number in 0..count {
        let name = format!("photos/image_{number:02}.png");
        photo(number).save(folder.path().join(name)).unwrap();
    }
    folder
}

#[test]
fn edges_draws_a_folder_and_lists_what_is_broken() {
    let set = mixed_set();
    let complaints = succeed(&["edges", "photos", "drawings"], set.path());
    assert!(
        complaints.contains("skipped photos/broken.jpg: "),
        "{complaints}"
    );
    assert_eq!(
        files(&set.path().join("drawings")),
        paths(["one.png", "two.png", "three.png", "more/FOUR.png"])
    );
    let drawing = image::open(set.path().join("drawings/one.png"))
        .unwrap()
        .into_rgb8();
    assert_eq!(drawing.dimensions(), (120, 90));
    assert_eq!(drawing.get_pixel(41, 45).0, [255; 3], "inside the disc");
    assert!(
        (63..69).any(|x| drawing.get_pixel(x, 45)[0] < 150),
        "the disc's rim"
    );
}

#[test]
fn edges_draws_as_much_as_is_asked_for() {
    let set = tempfile::tempdir().unwrap();
    let stripes = RgbImage::from_fn(160, 160, |x, _| {
        Rgb([match x {
            0..50 => 30,
            50..110 => 230,
            _ => 215,
        }; 3])
    });
    stripes.save(set.path().join("stripes.png")).unwrap();
    for (detail, expected) in [("0", [true, false]), ("1", [true, true])] {
        let arguments = ["edges", "stripes.png", detail, "--detail", detail];
        succeed(&arguments, set.path());
        let drawing = image::open(set.path().join(detail).join("stripes.png"));
        let drawing = drawing.unwrap().into_rgb8();
        let drawn = [50, 110].map(|x| (x - 2..x + 2).any(|x| drawing.get_pixel(x, 80)[0] < 150));
        assert_eq!(drawn, expected, "--detail {detail}");
    }
}

#[test]
fn pictures_of_one_thing_on_a_plain_background_can_be_taken_alone() {
    let set = numbered_set(2);
    let scene = RgbImage::from_fn(120, 90, |x, y| Rgb([(2 * x) as u8, (x ^ y) as u8, y as u8]));
    scene.save(set.path().join("photos/scene.png")).unwrap();
    photo(20)
        .save(set.path().join("photos/image_01.png"))
        .unwrap();
    photo(21)
        .save(set.path().join("photos/image_00.png"))
        .unwrap();
    let of_one_thing = paths(["image_00.png", "image_01.png"]);
    for command in ["edges", "illustrate"] {
        for (output, flag) in [("all", None), ("some", Some("--plain-background"))] {
            let output = format!("{command}-{output}");
            let arguments = [command, "photos", &output].into_iter().chain(flag);
            succeed(&arguments.collect::<Vec<_>>(), set.path());
        }
        let [all, some] = ["all", "some"].map(|name| {
            let folder = format!("{command}-{name}");
            files(&set.path().join(folder))
        });
        assert_eq!(all.len(), 3, "{command}");
        assert_eq!(some, of_one_thing, "{command}");
    }
    let arguments = ["split", "photos", "one", "other", "--plain-background"];
    succeed(&arguments, set.path());
    let [mut one, other] = ["one", "other"].map(|name| files(&set.path().join(name)));
    one.extend(other);
    assert_eq!(one, of_one_thing);
}

#[test]
fn illustrate_repeats_a_seed_and_gives_each_picture_its_own_style() {
    let set = numbered_set(2);
    photo(0)
        .save(set.path().join("photos/image_01.png"))
        .unwrap();
    for (seed, output) in [("5", "a"), ("5", "b"), ("6", "c")] {
        succeed(
            &["illustrate", "photos", output, "--seed", seed],
            set.path(),
        );
    }
    let print = |name: &str| fs::read(set.path().join(name)).unwrap();
    assert_eq!(print("a/image_00.png"), print("b/image_00.png"));
    assert_ne!(print("a/image_00.png"), print("c/image_00.png"));
    // The same photograph under two names.
    assert_ne!(print("a/image_00.png"), print("a/image_01.png"));
}

#[test]
fn cut_out_puts_things_on_white_squares_and_leaves_scenes_out() {
    let set = tempfile::tempdir().unwrap();
    fs::create_dir(set.path().join("photos")).unwrap();
    let save = |picture: &RgbImage, name: &str| {
        picture.save(set.path().join("photos").join(name)).unwrap();
    };
    save(&photo(20), "disc.png");
    let scene = RgbImage::from_fn(120, 90, |x, y| Rgb([(2 * x) as u8, (x ^ y) as u8, y as u8]));
    save(&scene, "scene.png");
    succeed(&["cut-out", "photos", "things", "--size", "64"], set.path());
    let things = set.path().join("things");
    assert_eq!(files(&things), paths(["disc.png"]));
    let disc = image::open(things.join("disc.png")).unwrap().to_rgb8();
    assert_eq!(disc.dimensions(), (64, 64));
    assert_eq!(disc.get_pixel(2, 2).0, [255; 3]);
    assert_eq!(disc.get_pixel(32, 32).0, [40, 60, 0]);

    let white = |folder: &str| {
        let disc = image::open(set.path().join(folder).join("disc.png")).unwrap();
        let disc = disc.to_rgb8();
        assert_eq!(disc.dimensions(), (64, 64));
        disc.pixels().filter(|pixel| pixel.0 == [255; 3]).count()
    };
    for (seed, folder) in [("1", "small"), ("2", "smaller")] {
        let arguments = [
            "cut-out",
            "photos",
            folder,
            "--size",
            "64",
            "--smallest",
            "30",
            "--seed",
            seed,
        ];
        succeed(&arguments, set.path());
    }
    assert!(white("things") < white("small") && white("small") != white("smaller"));

    fs::remove_file(set.path().join("photos/disc.png")).unwrap();
    let complaint = fail(&["cut-out", "photos", "others"], set.path());
    assert!(complaint.contains("stands out"), "{complaint}");
}

#[test]
fn one_picture_is_a_set_too_and_size_and_format_are_obeyed() {
    let set = numbered_set(1);
    let arguments = [
        "illustrate",
        "photos/image_00.png",
        "prints",
        "--size",
        "60",
        "--format",
        "jpg",
    ];
    succeed(&arguments, set.path());
    let written = set.path().join("prints/image_00.jpg");
    assert_eq!(
        image::open(written).unwrap().into_rgb8().dimensions(),
        (80, 60)
    );
}

#[test]
fn halves_share_no_picture_and_are_those_of_split() {
    let set = numbered_set(11);
    succeed(&["split", "photos", "first", "second"], set.path());
    succeed(&["edges", "photos", "drawn", "--half", "first"], set.path());
    succeed(
        &["illustrate", "photos", "printed", "--half", "second"],
        set.path(),
    );
    let [first, second, drawn, printed] =
        ["first", "second", "drawn", "printed"].map(|name| files(&set.path().join(name)));
    assert!(first.is_disjoint(&second));
    assert_eq!(first.len() + second.len(), 11);
    assert!(first.len().abs_diff(second.len()) <= 1);
    assert_eq!(first, drawn);
    assert_eq!(second, printed);
    let name = first.first().unwrap();
    assert_eq!(
        fs::read(set.path().join("first").join(name)).unwrap(),
        fs::read(set.path().join("photos").join(name)).unwrap(),
        "split copies files as they are"
    );
}

#[test]
fn both_parts_of_a_split_get_pictures() {
    let set = numbered_set(3);
    for share in ["0", "100", "-1", "some"] {
        let share = format!("--share={share}");
        let output = prepare(&["split", "photos", "first", "second", &share], set.path());
        assert_eq!(output.status.code(), Some(1));
        let sentence = String::from_utf8(output.stderr).unwrap();
        assert!(sentence.contains("between 0 and 100"), "{sentence}");
        assert!(!set.path().join("first").exists());
    }
    let output = prepare(
        &["split", "photos", "first", "second", "--share", "1"],
        set.path(),
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "1 file copied to first\n2 files copied to second\n");
}

#[test]
fn pictures_that_are_enlarged_are_counted_once_for_all() {
    let set = numbered_set(2);
    let large = image::imageops::resize(&photo(5), 480, 360, image::imageops::FilterType::Nearest);
    large.save(set.path().join("photos/large.png")).unwrap();
    let small = image::open(set.path().join("photos/image_00.png")).unwrap();
    let side = small.width().min(small.height());
    let told = |arguments: &[&str]| {
        let output = prepare(arguments, set.path());
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        (told, String::from_utf8(output.stdout).unwrap())
    };
    let size = (2 * side).to_string();
    let (said, json) = told(&["resize", "photos", "twice", "--size", &size, "--json"]);
    assert_eq!(said.matches("enlarged").count(), 1, "{said}");
    assert!(
        said.contains("2 of 3 pictures enlarged, up to 2.0 times"),
        "{said}"
    );
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json["enlarged"],
        serde_json::json!({"pictures": 2, "most": 2.0})
    );
    let crop = format!("16x{}", 3 * small.height());
    let (said, _) = told(&["resize", "photos", "high", "--crop", &crop]);
    assert!(
        said.contains("2 of 3 pictures enlarged, up to 3.0 times"),
        "{said}"
    );
    let (said, _) = told(&["resize", "photos", "half", "--crop", "20x20"]);
    assert!(!said.contains("enlarged"), "{said}");
}

#[test]
fn split_keeps_clips_together_and_scales_on_request() {
    let set = tempfile::tempdir().unwrap();
    fs::create_dir(set.path().join("frames")).unwrap();
    for clip in ["walk", "run", "jump", "sit"] {
        for frame in 1..=3 {
            let name = format!("frames/{clip}-{frame:06}.png");
            photo(frame).save(set.path().join(name)).unwrap();
        }
    }
    let arguments = [
        "split",
        "frames",
        "train",
        "test",
        "--share",
        "75",
        "--keep-clips",
        "--size",
        "45",
    ];
    succeed(&arguments, set.path());
    let (train, test) = (
        files(&set.path().join("train")),
        files(&set.path().join("test")),
    );
    assert_eq!((train.len(), test.len()), (9, 3));
    let clip = |name: &Path| name.to_string_lossy().split('-').next().map(str::to_owned);
    assert_eq!(
        test.iter()
            .map(|name| clip(name))
            .collect::<BTreeSet<_>>()
            .len(),
        1
    );
    let one = set.path().join("test").join(test.first().unwrap());
    assert_eq!(image::open(one).unwrap().into_rgb8().dimensions(), (60, 45));
}

#[test]
fn split_lists_and_leaves_out_what_is_broken() {
    let set = mixed_set();
    for more in [&[][..], &["--size", "45"]] {
        let _ = fs::remove_dir_all(set.path().join("first"));
        let _ = fs::remove_dir_all(set.path().join("second"));
        let arguments = [&["split", "photos", "first", "second"], more].concat();
        let complaints = succeed(&arguments, set.path());
        let skipped: Vec<_> = complaints
            .lines()
            .filter(|line| line.contains("skipped"))
            .collect();
        assert_eq!(skipped.len(), 1, "{complaints}");
        assert!(
            skipped[0].contains("skipped photos/broken.jpg: "),
            "{complaints}"
        );
        let parts = ["first", "second"].map(|name| files(&set.path().join(name)).len());
        assert_eq!(parts.iter().sum::<usize>(), 4, "{parts:?}");
    }
}

#[test]
fn split_writes_nothing_into_its_input() {
    let set = numbered_set(4);
    std::os::unix::fs::symlink(set.path().join("photos"), set.path().join("link")).unwrap();
    for outputs in [
        ["photos/x", "photos/y"],
        ["elsewhere", "photos/deep/er"],
        ["link/x", "elsewhere"],
    ] {
        let sentence = fail(&["split", "photos", outputs[0], outputs[1]], set.path());
        assert!(
            sentence.contains("lies inside the input folder"),
            "{sentence}"
        );
        assert_eq!(files(set.path()).len(), 4, "{outputs:?}");
    }
    // Beside the input is not inside it.
    succeed(
        &["split", "photos", "photos/../x", "photos of y"],
        set.path(),
    );
}

#[test]
fn results_below_the_input_are_not_taken_for_sources() {
    let set = numbered_set(2);
    for _ in 0..2 {
        succeed(
            &["edges", "photos", "photos/drawings", "--replace"],
            set.path(),
        );
        assert_eq!(files(&set.path().join("photos/drawings")).len(), 2);
    }
}

#[test]
fn mistakes_get_one_sentence() {
    let set = numbered_set(1);
    fs::create_dir(set.path().join("empty")).unwrap();
    fs::create_dir(set.path().join("bad")).unwrap();
    fs::write(set.path().join("bad/a.png"), "text").unwrap();
    let complaint = |arguments: &[&str]| fail(arguments, set.path());
    assert!(complaint(&["edges", "nowhere", "out"]).contains("nowhere"));
    assert!(complaint(&["edges", "empty", "out"]).contains("no pictures in empty"));
    assert!(complaint(&["illustrate", "bad", "out"]).contains("bad/a.png"));
    assert!(complaint(&["edges", "photos", "photos"]).contains("a folder of its own"));
    assert!(complaint(&["split", "photos", "out", "out"]).contains("a folder of its own"));
    assert!(complaint(&["split", "photos", "out", "photos"]).contains("photos"));
    assert!(complaint(&["split", "photos", "out", "other"]).contains("only one picture"));
    assert!(complaint(&["edges", "photos", "bad/a.png"]).contains("bad/a.png"));
}

#[test]
fn pictures_are_scaled_and_their_middles_cut_out() {
    let folder = mixed_set();
    succeed(
        &["resize", "photos", "small", "--size", "45"],
        folder.path(),
    );
    let small = folder.path().join("small");
    let names = ["more/FOUR.png", "one.png", "three.png", "two.png"];
    assert_eq!(files(&small), paths(names));
    let open = |path: PathBuf| image::open(path).unwrap().into_rgb8();
    assert_eq!(open(small.join("one.png")).dimensions(), (60, 45));

    // The disc lies around (41, 45) of 120×90; the middle square is 90 wide and begins at 15.
    succeed(
        &["resize", "photos", "square", "--crop", "90x90"],
        folder.path(),
    );
    let square = open(folder.path().join("square/one.png"));
    let expected = image::imageops::crop_imm(&photo(1), 15, 0, 90, 90).to_image();
    assert_eq!(square, expected);
    let crop = [
        "resize", "photos", "wide", "--crop", "80x20", "--format", "jpg",
    ];
    succeed(&crop, folder.path());
    let wide = open(folder.path().join("wide/one.jpg"));
    assert_eq!(wide.dimensions(), (80, 20));
    // Scaled by two thirds, the disc's middle is at (27, 10).
    let [r, g, _] = wide.get_pixel(27, 10).0;
    assert!(r < 90 && g < 110, "{r} {g}");
    let [r, ..] = wide.get_pixel(70, 10).0;
    assert!(r > 200, "{r}");

    // A part is bright or dark where the picture is, and another seed gives another.
    let part = |seed: &str, out: &str| {
        let arguments = [
            "resize",
            "photos",
            out,
            "--crop",
            "40x40",
            "--smallest",
            "30",
            "--seed",
            seed,
        ];
        succeed(&arguments, folder.path());
        open(folder.path().join(out).join("one.png"))
    };
    let parts: Vec<RgbImage> = (0..6)
        .map(|seed| part(&seed.to_string(), &format!("parts-{seed}")))
        .collect();
    assert!(parts.iter().all(|part| part.dimensions() == (40, 40)));
    assert_eq!(part("3", "again"), parts[3]);
    let dark = |part: &RgbImage| part.pixels().filter(|pixel| pixel[0] < 90).count();
    let shares: HashSet<usize> = parts.iter().map(dark).collect();
    assert!(shares.len() >= 5, "{shares:?}");
    let without = ["resize", "photos", "out", "--size", "9", "--smallest", "30"];
    assert_eq!(prepare(&without, folder.path()).status.code(), Some(1));

    let complaint = prepare(&["resize", "photos", "out"], folder.path());
    assert_eq!(complaint.status.code(), Some(1));
    let both = ["resize", "photos", "out", "--size", "9", "--crop", "9x9"];
    assert_eq!(prepare(&both, folder.path()).status.code(), Some(1));
}

#[test]
fn results_that_are_there_are_replaced_on_demand_only() {
    let set = numbered_set(2);
    for number in 0..2 {
        let name = format!("photos/image_{number:02}.png");
        photo(20 + number).save(set.path().join(name)).unwrap();
    }
    for command in [
        &["edges", "photos", "out"][..],
        &["illustrate", "photos", "out"],
        &["cut-out", "photos", "out"],
        &["resize", "photos", "out", "--size", "45"],
        &["dedupe", "photos", "out"],
    ] {
        let out = set.path().join("out");
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).unwrap();
        fs::write(out.join("image_00.png"), "somebody's").unwrap();
        let sentence = fail(command, set.path());
        assert!(
            sentence.contains("out/image_00.png is there already; "),
            "{sentence}"
        );
        assert_eq!(files(&out), paths(["image_00.png"]));
        succeed(&[command, &["--replace"]].concat(), set.path());
        image::open(out.join("image_00.png")).unwrap();
        // Nothing unfinished lies about.
        assert!(files(&out).is_subset(&paths(["image_00.png", "image_01.png"])));
    }
}

#[test]
fn what_was_done_is_told_as_json() {
    let set = mixed_set();
    let done = |arguments: &[&str]| -> Value {
        let output = prepare(&[arguments, &["--json"]].concat(), set.path());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let scene = RgbImage::from_fn(120, 90, |x, y| Rgb([(2 * x) as u8, (x ^ y) as u8, y as u8]));
    scene.save(set.path().join("photos/one.png")).unwrap();
    for (command, left_out) in [
        (&["edges", "photos", "drawings"][..], false),
        (&["illustrate", "photos", "prints"], false),
        (&["resize", "photos", "small", "--size", "45"], false),
        (&["cut-out", "photos", "things"], true),
    ] {
        let done = done(command);
        assert_eq!(done["folder"], command[2]);
        let [written, others] = ["written", "left_out"].map(|key| done[key].as_u64().unwrap());
        assert_eq!(written as usize, files(&set.path().join(command[2])).len());
        assert_eq!((written + others, others > 0), (4, left_out));
        assert_eq!(done["skipped"][0]["file"], "photos/broken.jpg");
        assert!(!done["skipped"][0]["reason"].as_str().unwrap().is_empty());
        assert!(done["seconds"].as_f64().unwrap() > 0.0);
    }
    let done = done(&["split", "photos", "first", "second"]);
    let parts = done["parts"].as_array().unwrap();
    let written: u64 = parts
        .iter()
        .map(|part| part["written"].as_u64().unwrap())
        .sum();
    assert_eq!((parts.len(), written), (2, 4));
    assert_eq!(done["skipped"].as_array().unwrap().len(), 1);
}

#[test]
fn repetitions_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    fs::create_dir(&photos).unwrap();
    let bars = |width: u32| {
        RgbImage::from_fn(96, 64, |x, y| {
            let light = (x / width + y / (2 * width)).is_multiple_of(2);
            Rgb(if light { [200, 180, 160] } else { [20, 30, 40] })
        })
    };
    bars(16).save(photos.join("a.png")).unwrap();
    bars(23).save(photos.join("b.png")).unwrap();
    // A copy of another size and quality, and a mirror image.
    let half = image::imageops::resize(&bars(16), 48, 32, image::imageops::FilterType::Triangle);
    half.save(photos.join("c.jpg")).unwrap();
    image::imageops::flip_horizontal(&bars(23))
        .save(photos.join("d.png"))
        .unwrap();
    fs::write(photos.join("e.png"), "no picture").unwrap();

    let output = prepare(&["dedupe", "photos"], folder.path());
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "c.jpg repeats a.png\nd.png repeats b.png\n");

    let output = prepare(&["dedupe", "photos", "once", "--json"], folder.path());
    assert!(output.status.success(), "{output:?}");
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = serde_json::json!([
        {"picture": "c.jpg", "repeats": "a.png"},
        {"picture": "d.png", "repeats": "b.png"},
    ]);
    assert_eq!(listed, expected);
    let once = folder.path().join("once");
    assert_eq!(files(&once), paths(["a.png", "b.png"]));
    let bytes = |folder: &Path| fs::read(folder.join("a.png")).unwrap();
    assert_eq!(bytes(&once), bytes(&photos));
    assert!(fail(&["dedupe", "nowhere"], folder.path()).contains("nowhere"));
}

#[cfg(not(feature = "video"))]
#[test]
fn frames_says_that_video_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    assert!(fail(&["frames", "clip.mp4", "out"], folder.path()).contains("without video"));
}

#[cfg(feature = "video")]
mod frames {
    use super::*;
    use gst::prelude::*;

    /// Runs a pipeline in gst-launch's language to its end.
    fn launch(description: &str) {
        gst::init().unwrap();
        let pipeline = gst::parse::launch(description).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let end = pipeline.bus().unwrap().timed_pop_filtered(
            gst::ClockTime::from_seconds(60),
            &[gst::MessageType::Eos, gst::MessageType::Error],
        );
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(
            end.map(|message| message.type_()),
            Some(gst::MessageType::Eos)
        );
    }

    /// A folder with `clip.avi`: 2 seconds of red at 10 frames per second, 64×48, Motion JPEG.
    fn clip() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        record("avimux", &folder.path().join("clip.avi"));
        folder
    }

    fn record(muxer: &str, file: &Path) {
        record_with(muxer, file, "");
    }

    /// With what is to follow in the line, for example sound on its way to the muxer `m`.
    fn record_with(muxer: &str, file: &Path, line: &str) {
        launch(&format!(
            "videotestsrc num-buffers=20 pattern=red \
             ! video/x-raw,width=64,height=48,framerate=10/1 ! jpegenc ! queue ! {muxer} name=m \
             ! filesink location={} {line}",
            file.display()
        ));
    }

    #[test]
    fn all_frames_are_written_in_their_colours() {
        let folder = clip();
        succeed(&["frames", "clip.avi", "out"], folder.path());
        let expected: BTreeSet<PathBuf> = (1..=20)
            .map(|number| format!("clip-{number:06}.jpg").into())
            .collect();
        assert_eq!(files(&folder.path().join("out")), expected);
        let picture = image::open(folder.path().join("out/clip-000020.jpg"))
            .unwrap()
            .into_rgb8();
        assert_eq!(picture.dimensions(), (64, 48));
        let [r, g, b] = picture.get_pixel(32, 24).0;
        assert!(r > 230 && g < 25 && b < 25, "{r} {g} {b}");
    }

    #[test]
    fn some_frames_are_chosen_by_number_or_time() {
        let folder = clip();
        let count = |arguments: &[&str], output: &str| {
            let arguments = [&["frames", "clip.avi", output], arguments].concat();
            succeed(&arguments, folder.path());
            files(&folder.path().join(output)).len()
        };
        assert_eq!(count(&["--every", "3"], "a"), 7);
        assert_eq!(count(&["--fps", "2.5"], "b"), 5);
        assert_eq!(count(&["--fps", "100"], "c"), 20);
        assert_eq!(count(&["--every", "2", "--max", "4"], "d"), 4);
        assert_eq!(
            count(&["--max", "1", "--size", "24", "--format", "png"], "e"),
            1
        );
        let picture = image::open(folder.path().join("e/clip-000001.png")).unwrap();
        assert_eq!((picture.width(), picture.height()), (32, 24));
    }

    #[test]
    fn a_video_that_is_cut_off_gives_the_frames_that_are_left() {
        let folder = tempfile::tempdir().unwrap();
        for (name, muxer) in [
            ("clip.mkv", "matroskamux"),
            ("clip.avi", "avimux"),
            ("clip.mov", "qtmux faststart=true"),
        ] {
            let file = folder.path().join(name);
            record(muxer, &file);
            let content = fs::read(&file).unwrap();
            fs::write(&file, &content[..content.len() * 3 / 5]).unwrap();
            let output = prepare(
                &["frames", name, "out", "--replace", "--json"],
                folder.path(),
            );
            let count = files(&folder.path().join("out")).len();
            assert!((3..15).contains(&count), "{name}: {count}");
            // What is missing is told by the exit code, too.
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let done: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(done["written"], count);
            let problem = format!(
                "{name}: only the first {:.1} s of the 2.0 s that it says it lasts could be read: the \
                 file seems to have been cut off",
                count as f64 / 10.0
            );
            assert_eq!(done["problem"], problem);
            let message = String::from_utf8(output.stderr).unwrap();
            assert!(message.contains("before the end of the video"), "{message}");
        }
    }

    #[test]
    fn sound_that_lasts_longer_or_shorter_than_the_picture_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        for tenths in [7, 35] {
            for (name, muxer) in [
                ("clip.mkv", "matroskamux"),
                ("clip.avi", "avimux"),
                ("clip.mov", "qtmux"),
            ] {
                let sound = format!(
                    "audiotestsrc num-buffers={tenths} samplesperbuffer=4800 \
                     ! audio/x-raw,format=S16LE,rate=48000,channels=1 ! queue ! m."
                );
                record_with(muxer, &folder.path().join(name), &sound);
                succeed(&["frames", name, "out", "--replace"], folder.path());
                assert_eq!(files(&folder.path().join("out")).len(), 20, "{name}");
            }
        }
    }

    #[test]
    fn frames_that_are_there_are_replaced_on_demand_only() {
        let folder = clip();
        succeed(&["frames", "clip.avi", "out"], folder.path());
        let out = folder.path().join("out");
        photo(1).save(out.join("clip-x.jpg")).unwrap();
        photo(1).save(out.join("other-000001.jpg")).unwrap();
        let sentence = fail(
            &["frames", "clip.avi", "out", "--every", "5"],
            folder.path(),
        );
        assert!(
            sentence.contains("out/clip-000001.jpg is there already, and 19 other results"),
            "{sentence}"
        );
        assert_eq!(files(&out).len(), 22);
        let arguments = ["frames", "clip.avi", "out", "--every", "5", "--replace"];
        succeed(&arguments, folder.path());
        // None of the earlier ones is left among them.
        let mut expected = paths(["clip-x.jpg", "other-000001.jpg"]);
        expected.extend((1..=4).map(|number| PathBuf::from(format!("clip-{number:06}.jpg"))));
        assert_eq!(files(&out), expected);
    }

    #[test]
    fn mistakes_get_one_sentence() {
        let folder = clip();
        let write = |name: &str, content: &[u8]| {
            fs::write(folder.path().join(name), content).unwrap();
        };
        write("text.mp4", b"This is no video.");
        write("empty.mp4", b"");
        launch(&format!(
            "audiotestsrc num-buffers=10 ! wavenc ! filesink location={}",
            folder.path().join("sound.wav").display()
        ));
        let content = fs::read(folder.path().join("clip.avi")).unwrap();
        let mut unknown = content.clone();
        for at in 0..unknown.len() - 4 {
            if &unknown[at..at + 4] == b"MJPG" {
                unknown[at..at + 4].copy_from_slice(b"XQZW");
            }
        }
        write("unknown.avi", &unknown);

        let complaint = |video: &str| fail(&["frames", video, "out"], folder.path());
        assert!(complaint("missing.mp4").contains("cannot read missing.mp4"));
        assert!(complaint(".").contains("is not a file"));
        for name in ["text.mp4", "empty.mp4", "sound.wav"] {
            let sentence = complaint(name);
            assert!(sentence.contains(name), "{sentence}");
            assert!(sentence.contains("is not a video"), "{sentence}");
        }
        let sentence = complaint("unknown.avi");
        assert!(
            sentence.contains("video/x-avi-unknown decoder"),
            "{sentence}"
        );
        assert!(sentence.contains("gstreamer1.0-libav"), "{sentence}");
    }
}
