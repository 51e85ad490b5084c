//! The sound of a translated video is that of the original.

use std::path::Path;
use std::process::Command;

use munit::Family;
use serde_json::Value;

use crate::media::{FRAME_RATE, Interval, heard, launch, record, shown, tracks};
use crate::tiny::{Tiny, Workplace};

const TRANSLATE: &str = env!("CARGO_BIN_EXE_munit-translate");
/// Seconds of a frame.
const FRAME: f64 = 1.0 / FRAME_RATE as f64;

/// Writes a video of 2.4 seconds in which a flash and a beep, from second 1 to second 1.4, go together.
fn record_flash(file: &Path, video: &str, audio: &str, muxer: &str) {
    let strikes = |time| (1.0..1.4).contains(&time);
    let whole = (0.0, 2.4);
    record(
        file,
        muxer,
        (video, whole, strikes),
        (audio, whole, strikes),
    );
}

const JPEG: &str = "jpegenc";
const PCM: &str = "audio/x-raw,format=S16LE";

fn workplace() -> Workplace {
    Workplace::new(&Tiny::new(Family::Munit).model, TRANSLATE)
}

/// Translates with these arguments; gives what is told as JSON.
#[track_caller]
fn translated(place: &Workplace, arguments: &str) -> Value {
    // What strikes stays striking: the picture is the original's.
    let said = place.succeed(&format!(
        "model.safetensors {arguments} --strength 0 --json"
    ));
    serde_json::from_str(&said).unwrap()
}

/// The translation of `clip` has its sound, in this format, and is in step as `clip` is.
#[track_caller]
fn keeps_step(place: &Workplace, clip: &str, output: &str, carried: &str, format: &str) {
    let done = translated(place, &format!("{clip} {output}"));
    assert_eq!(done["audio"], carried, "{output}: {done}");
    assert_eq!(done.get("problems"), None, "{output}: {done}");
    let [clip, output] = [clip, output].map(|name| place.path(name));
    let formats = tracks(&output);
    assert_eq!(formats.len(), 2, "{formats:?}");
    assert_eq!(formats[0], format, "{formats:?}");
    let (flash, beep) = (shown(&output), heard(&output));
    let told = format!("{}: {flash:?} {beep:?}", output.display());
    let near = |one: f64, other: f64| (one - other).abs() < FRAME;
    assert!(near(flash.striking.0, beep.striking.0), "{told}");
    assert!(near(flash.striking.1, beep.striking.1), "{told}");
    // Encoders round up to whole packets.
    assert!((flash.whole.1 - beep.whole.1).abs() < 2.0 * FRAME, "{told}");
    for (new, old) in [(flash, shown(&clip)), (beep, heard(&clip))] {
        assert!(near(new.striking.0, old.striking.0), "{told} {old:?}");
        assert!(
            (new.whole.1 - old.whole.1).abs() < 2.0 * FRAME,
            "{told} {old:?}"
        );
    }
}

#[test]
fn sound_is_copied_where_the_container_takes_it_and_encoded_anew_elsewhere() {
    let place = workplace();
    record_flash(&place.path("clip.avi"), JPEG, PCM, "avimux");
    keeps_step(&place, "clip.avi", "out.webm", "encoded", "audio/x-opus");
    keeps_step(&place, "clip.avi", "out.mp4", "encoded", "audio/mpeg");
    keeps_step(&place, "clip.avi", "out.mkv", "copied", "audio/x-raw");
    keeps_step(&place, "clip.avi", "out.mov", "copied", "audio/x-raw");
}

#[test]
fn sound_of_every_usual_container_keeps_step() {
    let place = workplace();
    let h264 = "x264enc ! h264parse";
    let mp3 = "lamemp3enc ! mpegaudioparse";
    let opus = "opusenc";
    let vorbis = "vorbisenc";
    for (clip, video, audio, muxer, output, format) in [
        (
            "clip.webm",
            "vp8enc",
            opus,
            "webmmux",
            "opus.webm",
            "audio/x-opus",
        ),
        (
            "clip.mkv",
            h264,
            vorbis,
            "matroskamux",
            "vorbis.webm",
            "audio/x-vorbis",
        ),
        (
            "clip.ogv",
            "theoraenc",
            vorbis,
            "oggmux",
            "theora.mkv",
            "audio/x-vorbis",
        ),
        (
            "clip.mp4",
            h264,
            "avenc_aac",
            "mp4mux",
            "aac.mp4",
            "audio/mpeg",
        ),
        (
            "clip.ts",
            h264,
            "avenc_aac ! aacparse",
            "mpegtsmux",
            "aac.mov",
            "audio/mpeg",
        ),
        (
            "clip.flv",
            h264,
            "avenc_aac ! aacparse",
            "flvmux",
            "flv.mkv",
            "audio/mpeg",
        ),
        ("clip.avi", JPEG, mp3, "avimux", "mp3.mp4", "audio/mpeg"),
    ] {
        record_flash(&place.path(clip), video, audio, muxer);
        keeps_step(&place, clip, output, "copied", format);
    }
}

/// A video of 2 seconds whose sound is heard within `sounds`.
fn record_tone(file: &Path, sounds: Interval, audio: &str, muxer: &str) {
    let always = |_| true;
    record(
        file,
        muxer,
        ("vp8enc", (0.0, 2.0), always),
        (audio, sounds, always),
    );
}

#[test]
fn sound_may_begin_late_and_be_shorter_or_longer_than_the_picture() {
    let place = workplace();
    for sounds in [(0.8, 1.4), (0.0, 0.7), (0.5, 3.5)] {
        record_tone(&place.path("clip.mkv"), sounds, "vorbisenc", "matroskamux");
        let original = heard(&place.path("clip.mkv"));
        for (output, carried) in [("out.webm", "copied"), ("out.mp4", "encoded")] {
            let done = translated(&place, &format!("clip.mkv {output}"));
            assert_eq!(done["audio"], carried);
            let translated = heard(&place.path(output));
            let told = format!("{output}: {translated:?} of {original:?}");
            let near = |one: f64, other: f64| (one - other).abs() < FRAME;
            assert!(near(translated.striking.0, original.striking.0), "{told}");
            assert!(near(translated.striking.1, original.striking.1), "{told}");
            assert!(near(translated.striking.0, sounds.0), "{told}");
            let picture = shown(&place.path(output)).whole;
            assert!(near(picture.0, 0.0) && near(picture.1, 2.0), "{picture:?}");
        }
    }
}

#[test]
fn a_silent_video_stays_silent_and_sound_is_left_out_on_demand() {
    let place = workplace();
    let silent = place.path("silent.avi");
    launch(&format!(
        "videotestsrc num-buffers=5 ! video/x-raw,width=64,height=48,framerate=25/1 ! jpegenc ! avimux \
         ! filesink location={}",
        silent.display()
    ));
    record_flash(&place.path("clip.avi"), JPEG, PCM, "avimux");
    for (arguments, audio) in [
        ("silent.avi out.webm", "nothing"),
        ("clip.avi out.webm --no-audio", "left-out"),
    ] {
        let output = place.run(&format!("model.safetensors {arguments} --json"));
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
        let done: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(done["audio"], audio);
        assert_eq!(tracks(&place.path("out.webm")), ["video/x-vp8"]);
        let said = place.succeed(&format!("model.safetensors {arguments}"));
        assert!(!said.contains("sound"), "{said}");
    }
    let said = place.succeed("model.safetensors clip.avi out.webm");
    assert!(said.contains("60 frames of 64×48 with sound"), "{said}");
}

/// Translates `clip` into `out.webm` with this environment, which gives a picture without sound; gives what is
/// said about it.
#[track_caller]
fn without_sound(place: &Workplace, clip: &str, environment: &[(&str, &Path)]) -> String {
    let output = Command::new(TRANSLATE)
        .args(["model.safetensors", clip, "out.webm", "--json"])
        .current_dir(place.folder.path())
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(tracks(&place.path("out.webm")), ["video/x-vp8"]);
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["audio"], "left-out", "{done}");
    let problem = done["problems"][0].as_str().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, format!("munit-translate: {problem}\n"));
    problem.to_owned()
}

#[test]
fn sound_that_cannot_be_decoded_is_left_out_with_a_sentence() {
    let place = workplace();
    let mp3 = "lamemp3enc ! mpegaudioparse";
    record_flash(&place.path("clip.avi"), JPEG, mp3, "avimux");
    let clip = std::fs::read(place.path("clip.avi")).unwrap();
    let places_of = |name: &[u8; 4]| -> Vec<usize> {
        let at = clip.windows(4).enumerate();
        at.filter(|(_, window)| window == name)
            .map(|(at, _)| at)
            .collect()
    };

    let mut unknown = clip.clone();
    // The format of the second stream: its tag stands behind name and length.
    let format = places_of(b"strf")[1];
    unknown[format + 8..format + 10].copy_from_slice(&[0x34, 0x77]);
    std::fs::write(place.path("unknown.avi"), unknown).unwrap();
    let told = without_sound(&place, "unknown.avi", &[]);
    assert!(
        told.starts_with("the sound of unknown.avi is left out: it cannot be decoded without this")
            && told.contains("gstreamer1.0-libav"),
        "{told}"
    );

    let damaged = |name: &str, undamaged: usize| {
        let mut damaged = clip.clone();
        for &chunk in places_of(b"01wb").iter().skip(undamaged) {
            let length = clip[chunk + 4..chunk + 8].try_into().unwrap();
            let length = u32::from_le_bytes(length) as usize;
            let end = damaged.len().min(chunk + 8 + length);
            damaged[chunk + 8..end].fill(0x55);
        }
        std::fs::write(place.path(name), damaged).unwrap();
    };
    damaged("broken.avi", 0);
    let told = without_sound(&place, "broken.avi", &[]);
    assert!(
        told.starts_with("the sound of broken.avi is left out: it cannot be decoded: "),
        "{told}"
    );

    // Packets of 24 milliseconds, of which a decoder needs several for its first.
    damaged("half.avi", 50);
    let done = translated(&place, "half.avi out.webm");
    assert_eq!(done["audio"], "encoded");
    let told = done["problems"][0].as_str().unwrap();
    assert!(
        told.starts_with("the sound of half.avi breaks off at 1.")
            && told.ends_with(" s: what is behind cannot be decoded"),
        "{told}"
    );
    let sound = heard(&place.path("out.webm"));
    assert!((sound.striking.0 - 1.0).abs() < FRAME, "{sound:?}");
    assert!((1.0..1.4).contains(&sound.whole.1), "{sound:?}");
}

#[test]
fn sound_that_the_muxer_refuses_costs_no_picture() {
    let place = workplace();
    record_flash(
        &place.path("whole.mov"),
        "x264enc ! h264parse",
        "avenc_alac",
        "qtmux",
    );
    let mut clip = std::fs::read(place.path("whole.mov")).unwrap();
    // The box without which nobody knows how this sound is encoded; its format is still one that the
    // container takes.
    let at = clip.windows(4).rposition(|name| name == b"alac").unwrap();
    clip[at..at + 4].copy_from_slice(b"none");
    std::fs::write(place.path("clip.mov"), clip).unwrap();
    for output in ["out.mp4", "out.mov"] {
        let done = translated(&place, &format!("whole.mov {output}"));
        assert_eq!(done["audio"], "copied", "{done}");
        let done = translated(&place, &format!("clip.mov {output}"));
        assert_eq!(done["audio"], "left-out", "{done}");
        let told = done["problems"][0].as_str().unwrap();
        assert!(
            told.starts_with("the sound of clip.mov is left out: "),
            "{told}"
        );
        assert_eq!(tracks(&place.path(output)), ["video/x-h264"]);
    }
}

#[test]
fn sound_without_an_encoder_is_left_out_with_what_to_do() {
    let place = workplace();
    record_flash(&place.path("clip.avi"), JPEG, PCM, "avimux");
    // A GStreamer that has neither Opus nor Vorbis.
    let plugins = place.path("plugins");
    std::fs::create_dir(&plugins).unwrap();
    for name in [
        "app",
        "audioconvert",
        "audioparsers",
        "audiorate",
        "audioresample",
        "avi",
        "coreelements",
        "jpeg",
        "matroska",
        "playback",
        "typefindfunctions",
        "videoconvertscale",
        "videofilter",
        "vpx",
    ] {
        let plugin = gst::Registry::get().find_plugin(name).unwrap();
        let file = plugin.filename().unwrap();
        let link = plugins.join(file.file_name().unwrap());
        std::os::unix::fs::symlink(file, link).unwrap();
    }
    let told = without_sound(
        &place,
        "clip.avi",
        &[
            ("GST_PLUGIN_SYSTEM_PATH_1_0", &plugins),
            ("GST_PLUGIN_PATH_1_0", &place.path("none")),
            ("GST_REGISTRY_1_0", &place.path("registry.bin")),
        ],
    );
    assert_eq!(
        told,
        "the sound of clip.avi is left out: GStreamer lacks opusenc or vorbisenc here; install its \
         base, good or bad plugins (Debian: gstreamer1.0-plugins-base, -good or -bad), or choose another \
         ending"
    );
}
