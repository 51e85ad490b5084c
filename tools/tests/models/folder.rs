//! Videos in a folder, beside pictures.

use std::path::Path;

use munit::Family;
use serde_json::Value;

use crate::media::{launch, shown, tracks};
use crate::tiny::{Tiny, Workplace, read};

/// A workplace with a folder of two videos of 6 and 8 frames, one in a format that is not written, and a
/// picture.
fn workplace() -> Workplace {
    let model = Tiny::new(Family::Munit).model;
    let place = Workplace::new(&model, env!("CARGO_BIN_EXE_munit-translate"));
    place.picture("in/one.png", 32, 32);
    std::fs::create_dir(place.path("in/deep")).unwrap();
    for (name, frames, encode) in [
        ("in/clip.avi", 6, "jpegenc ! avimux"),
        ("in/deep/walk.webm", 8, "vp8enc ! webmmux"),
    ] {
        record(&place.path(name), frames, encode);
    }
    place
}

fn record(file: &Path, frames: usize, encode: &str) {
    launch(&format!(
        "videotestsrc num-buffers={frames} pattern=white \
         ! video/x-raw,width=64,height=48,framerate=25/1 ! {encode} ! filesink location={}",
        file.display()
    ));
}

/// Where its results are.
const RESULTS: [&str; 3] = ["one.png", "clip.avi.mp4", "deep/walk.webm"];

#[test]
fn a_folder_s_videos_are_translated_under_their_names() {
    let place = workplace();
    let said = place.succeed("model.safetensors in out --seed 1");
    assert!(said.contains("out  1 picture, 2 videos  a2b"), "{said}");
    let files = walkdir::WalkDir::new(place.path("out")).into_iter();
    let files = files.filter(|entry| entry.as_ref().unwrap().file_type().is_file());
    assert_eq!(files.count(), 3);
    for (name, seconds) in [("clip.avi.mp4", 0.24), ("deep/walk.webm", 0.32)] {
        let whole = shown(&place.path("out").join(name)).whole;
        assert!((whole.1 - seconds).abs() < 0.01, "{name}: {whole:?}");
    }
    assert_eq!(tracks(&place.path("out/clip.avi.mp4")), ["video/x-h264"]);

    let message = place.fail("model.safetensors in out");
    assert!(
        message.contains(" is there already, and 2 other results"),
        "{message}"
    );
    let said = place.succeed("model.safetensors in out --replace --json");
    let done: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(done["translated"], 1);
    assert_eq!(done["skipped"].as_array().unwrap().len(), 0);
    let videos = done["videos"].as_array().unwrap();
    let told = videos
        .iter()
        .map(|video| (video["file"].as_str().unwrap(), &video["frames"]));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [("in/clip.avi", &6.into()), ("in/deep/walk.webm", &8.into())]
    );
}

#[test]
fn a_folder_s_videos_come_in_all_styles_and_beside_their_originals() {
    let place = workplace();
    std::fs::remove_file(place.path("in/one.png")).unwrap();
    let said =
        place.succeed("model.safetensors in out --all-styles --a2b --side-by-side --strength 0");
    assert!(said.contains("out  2 videos in 1 style  a2b"), "{said}");
    for (name, frames) in [("clip.avi.mp4", 6), ("deep/walk.webm", 8)] {
        let video = place.path("out/warm").join(name);
        let frame = place.path("frame.png");
        launch(&format!(
            "filesrc location={} ! decodebin ! videoconvert ! pngenc snapshot=true ! filesink location={}",
            video.display(),
            frame.display()
        ));
        assert_eq!(read(&frame).dimensions(), (128, 48), "{name}");
        // Both halves are the white original.
        let whole = shown(&video).striking;
        assert!((whole.1 - frames as f64 / 25.0).abs() < 0.01, "{whole:?}");
    }
}

#[test]
fn of_a_folder_the_rest_is_translated_where_a_video_is_broken() {
    let place = workplace();
    std::fs::write(place.path("in/broken.mp4"), b"no video").unwrap();
    record(&place.path("long.avi"), 50, "jpegenc ! avimux");
    let whole = std::fs::read(place.path("long.avi")).unwrap();
    std::fs::write(place.path("in/cut.avi"), &whole[..whole.len() * 3 / 5]).unwrap();
    let output = place.run("model.safetensors in out --json");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["videos"].as_array().unwrap().len(), 3, "{done}");
    assert_eq!(done["skipped"].as_array().unwrap().len(), 1, "{done}");
    assert_eq!(done["skipped"][0]["file"], "in/broken.mp4");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("skipped in/broken.mp4 is not a video"),
        "{told}"
    );
    let reason = told.lines().last().unwrap();
    let expected = "munit-translate: in/broken.mp4: could not be translated; stopped before the end of \
                    the video: in/cut.avi: only the first ";
    assert!(reason.starts_with(expected), "{reason}");
    for name in RESULTS {
        assert!(place.path("out").join(name).is_file(), "{name}");
    }
    assert!(place.path("out/cut.avi.mp4").is_file());
    assert!(!place.path("out/broken.mp4").exists());
}

#[test]
fn what_cannot_be_done_with_a_folder_of_videos_is_told_before_the_work() {
    let place = workplace();
    let message = place.fail("model.safetensors in out --raw raw.safetensors");
    assert!(
        message.contains("in/clip.avi: the float output of a video would not fit"),
        "{message}"
    );
    std::fs::write(place.path("in/clip.avi.mp4"), b"").unwrap();
    let message = place.fail("model.safetensors in out");
    let expected =
        "out/clip.avi.mp4: two files of in have this result; give one of them another name";
    assert!(message.contains(expected), "{message}");
    assert!(!place.path("out").exists());
}
