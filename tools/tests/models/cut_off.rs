//! Videos of which a part is missing.

use munit::Family;
use serde_json::Value;

use crate::media::{FRAME_RATE, heard, record, shown};
use crate::tiny::{Tiny, Workplace};

/// A workplace with a video of 2 seconds, whole as `whole.ENDING` and three fifths of it as `cut.ENDING`.
fn workplace(program: &'static str, ending: &str, muxer: &str, codecs: [&str; 2]) -> Workplace {
    let place = Workplace::new(&Tiny::new(Family::Munit).model, program);
    let [picture, sound] = codecs;
    let whole = place.path(&format!("whole.{ending}"));
    let always = |_| true;
    let length = (0.0, 2.0);
    record(
        &whole,
        muxer,
        (picture, length, always),
        (sound, length, always),
    );
    let content = std::fs::read(whole).unwrap();
    let cut = &content[..content.len() * 3 / 5];
    std::fs::write(place.path(&format!("cut.{ending}")), cut).unwrap();
    place
}

const TRANSLATE: &str = env!("CARGO_BIN_EXE_munit-translate");
const AVI: [&str; 2] = ["jpegenc", "audio/x-raw,format=S16LE"];
// Frames that are predicted from later ones would be missing before the cut.
const MP4: [&str; 2] = ["x264enc bframes=0", "avenc_aac"];

#[test]
fn what_is_there_is_translated_and_what_was_promised_is_told() {
    for (ending, muxer, codecs) in [
        ("avi", "avimux", AVI),
        ("mp4", "mp4mux faststart=true", MP4),
        ("mkv", "matroskamux", ["vp8enc", "vorbisenc"]),
    ] {
        let place = workplace(TRANSLATE, ending, muxer, codecs);
        let translated = |name: &str| {
            let output = place.run(&format!(
                "model.safetensors {name}.{ending} {name}.webm --json"
            ));
            let done: Value = serde_json::from_slice(&output.stdout).unwrap();
            let told = String::from_utf8(output.stderr).unwrap();
            (done, told, output.status.code())
        };
        let (done, told, code) = translated("whole");
        assert_eq!(
            (&done["frames"], told.as_str(), code),
            (&50.into(), "", Some(0)),
            "{ending}"
        );

        let (done, told, code) = translated("cut");
        // What is missing is told by the exit code, too, as munit-prepare does it.
        assert_eq!(code, Some(1), "{ending}");
        let frames = done["frames"].as_u64().unwrap();
        assert!((5..45).contains(&frames), "{ending}: {frames}");
        assert_eq!(done["problems"].as_array().unwrap().len(), 1, "{done}");
        let problem = done["problems"][0].as_str().unwrap();
        let stopped = "munit-translate: stopped before the end of the video";
        assert_eq!(told, format!("{stopped}: {problem}\n"));
        let seconds = frames as f64 / FRAME_RATE as f64;
        let expected = format!(
            "cut.{ending}: only the first {seconds:.1} s of the 2.0 s that it says it lasts could be read: \
             the file seems to have been cut off"
        );
        assert_eq!(problem, expected);
        let picture = shown(&place.path("cut.webm")).whole;
        assert!((picture.1 - seconds).abs() < 0.05, "{picture:?}");
        let sound = heard(&place.path("cut.webm")).whole;
        assert!((0.1..1.9).contains(&sound.1), "{ending}: {sound:?}");
    }
}

#[test]
fn a_video_without_its_index_gets_a_sentence() {
    let place = workplace(TRANSLATE, "mp4", "mp4mux", MP4);
    let message = place.fail("model.safetensors cut.mp4 out.webm");
    let expected = "munit-translate: cut.mp4: its index (the box moov) is missing, ";
    assert!(message.starts_with(expected), "{message}");
    assert!(!place.path("out.webm").exists());
}

#[test]
fn figures_say_how_much_of_a_clip_they_are_about() {
    let place = workplace(env!("CARGO_BIN_EXE_munit-evaluate"), "avi", "avimux", AVI);
    let told = |arguments: &str| {
        let output = place.run(&format!(
            "model.safetensors --size 32 --video-styles 1 {arguments} --json --page page.html"
        ));
        let evaluation: Value = serde_json::from_slice(&output.stdout).unwrap();
        let videos = evaluation["videos"].as_array().unwrap().iter();
        let left_out = videos.flat_map(|video| video["left_out"].as_array().unwrap());
        let rest = left_out.filter(|one| one["what"] == "the rest of the clip");
        let why: Vec<_> = rest
            .map(|one| one["why"].as_str().unwrap().to_owned())
            .collect();
        std::fs::remove_file(place.path("page.html")).unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        (why, message, output.status.code())
    };
    let stopped = "stopped before the end of the video";
    // Beside a clip that is whole, too.
    for arguments in ["--video cut.avi", "--video whole.avi --video cut.avi"] {
        let (why, message, code) = told(arguments);
        assert_eq!(code, Some(1), "{message}");
        assert_eq!(why.len(), 1);
        assert!(why[0].starts_with("cut.avi: only the first "), "{why:?}");
        let end = format!("munit-evaluate: {stopped}: {}\n", why[0]);
        assert!(message.ends_with(&end), "{message}");
    }
    for arguments in ["--video whole.avi", "--video cut.avi --frames 10"] {
        let (why, message, code) = told(arguments);
        assert_eq!(code, Some(0), "{message}");
        assert!(
            why.is_empty() && !message.contains("only"),
            "{arguments}: {message}"
        );
    }
}

#[test]
fn a_clip_that_cannot_be_read_leaves_the_others_their_figures() {
    let place = workplace(env!("CARGO_BIN_EXE_munit-evaluate"), "avi", "avimux", AVI);
    std::fs::write(place.path("text.avi"), "no video").unwrap();
    let output = place.run(
        "model.safetensors --size 32 --video-styles 1 --frames 10 --video text.avi --video whole.avi --json",
    );
    let evaluation: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(evaluation["videos"].as_array().unwrap().len(), 1);
    let unmeasured = evaluation["unmeasured"][0].as_str().unwrap();
    assert!(
        unmeasured.starts_with("text.avi is not a video"),
        "{unmeasured}"
    );
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.ends_with(&format!("munit-evaluate: {unmeasured}\n")),
        "{message}"
    );
    assert_eq!(output.status.code(), Some(1));

    let message = place.fail("model.safetensors --size 32 --video text.avi");
    assert_eq!(message, format!("munit-evaluate: {unmeasured}\n"));
}
