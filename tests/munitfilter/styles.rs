//! Styles as an instrument: paths in stream time, control sources, a second video, action signals.

use std::os::fd::AsRawFd;

use gst::prelude::*;
use gst_controller::prelude::*;
use munit::StyleCode;

use crate::support::*;

const SIDE: usize = 32;

/// Plays `element` on a still picture at `frames_per_second`; the frames at these milliseconds.
fn shown_at(
    element: &gst::Element,
    rgb: &[u8],
    frames_per_second: u64,
    milliseconds: &[u64],
) -> Vec<Vec<u8>> {
    let line = Line::new(
        element,
        &caps("RGB", SIDE, SIDE, (frames_per_second as i32, 1)),
    );
    let last = *milliseconds.iter().max().unwrap();
    let mut shown = Vec::new();
    for number in 0..=last * frames_per_second / 1000 {
        let time = number * 1_000_000_000 / frames_per_second;
        line.push(frame(rgb, time));
        let sample = line.pull();
        if milliseconds.contains(&(time / 1_000_000)) {
            shown.push(rgb_pixels(&sample));
        }
    }
    assert_eq!(shown.len(), milliseconds.len());
    shown
}

fn frame(rgb: &[u8], nanoseconds: u64) -> gst::Buffer {
    let mut buffer = rgb_buffer(rgb, SIDE, SIDE);
    let time = gst::ClockTime::from_nseconds(nanoseconds);
    buffer.get_mut().unwrap().set_pts(time);
    buffer
}

fn moving(mode: &str) -> gst::Element {
    let element = munitfilter();
    element.set_property("style-seed", 3u64);
    element.set_property("style-interval", 400u32);
    element.set_property("style-smoothing", 200u32);
    element.set_property_from_str("style-mode", mode);
    element
}

#[test]
fn a_moving_style_is_the_same_at_any_frame_rate() {
    let rgb = picture(SIDE, SIDE, 1);
    for mode in ["random", "drift"] {
        let slow = shown_at(&moving(mode), &rgb, 15, &[0, 600, 1000]);
        let fast = shown_at(&moving(mode), &rgb, 60, &[0, 600, 1000]);
        for (slow, fast) in slow.iter().zip(&fast) {
            assert!(difference(slow, fast) <= 1, "{mode}");
        }
        assert!(difference(&slow[0], &slow[1]) > 3, "{mode} does not move");
        assert!(difference(&slow[1], &slow[2]) > 3, "{mode} does not move");
    }
}

#[test]
fn a_seek_lands_on_the_style_of_that_second() {
    let rgb = picture(SIDE, SIDE, 1);
    for mode in ["random", "drift"] {
        let played = shown_at(&moving(mode), &rgb, 10, &[500]);
        let element = moving(mode);
        let line = Line::new(&element, &caps("RGB", SIDE, SIDE, (10, 1)));
        for milliseconds in [900, 500] {
            line.push(frame(&rgb, milliseconds * 1_000_000));
            let shown = rgb_pixels(&line.pull());
            if milliseconds == 500 {
                assert!(difference(&shown, &played[0]) <= 1, "{mode}");
            }
        }
    }
}

#[test]
fn random_draws_anew_at_each_interval() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = moving("random");
    element.set_property("style-smoothing", 0u32);
    let shown = shown_at(&element, &rgb, 10, &[0, 300, 400]);
    let first = reference(&rgb, SIDE, SIDE, &StyleCode::sample(3, STYLE_DIM));
    assert_close(&shown[0], &first);
    assert_eq!(shown[0], shown[1]);
    assert!(difference(&shown[1], &shown[2]) > 3);
}

#[test]
fn a_tour_visits_each_named_style_once() {
    let rgb = picture(SIDE, SIDE, 1);
    let mut model = model(1, &munit::Direction::ALL);
    let bright = model.metadata.styles["bright"].clone();
    let mut calm = bright.clone();
    calm.code = MEAN.to_vec();
    model.metadata.styles.insert("calm".to_owned(), calm);
    // The same style by another name: the tour does not stand still there.
    model.metadata.styles.insert("default".to_owned(), bright);
    let path = write_model("to-tour.safetensors", &model);
    let element = moving("tour");
    element.set_property("model", path.to_str().unwrap());
    element.set_property("style-smoothing", 0u32);
    let shown = shown_at(&element, &rgb, 10, &[0, 500, 900, 1300]);
    for (shown, code) in shown.iter().zip([BRIGHT, MEAN, BRIGHT, MEAN]) {
        let style = StyleCode::new(code.to_vec(), STYLE_DIM).unwrap();
        assert_close(shown, &reference(&rgb, SIDE, SIDE, &style));
    }
}

/// A control source that rises from 0 to 1 in the first second.
fn rising() -> gst_controller::InterpolationControlSource {
    let source = gst_controller::InterpolationControlSource::new();
    source.set_mode(gst_controller::InterpolationMode::Linear);
    let source = source.upcast::<gst_controller::TimedValueControlSource>();
    source.set(gst::ClockTime::ZERO, 0.0);
    source.set(gst::ClockTime::SECOND, 1.0);
    source.downcast().unwrap()
}

fn control(element: &gst::Element, property: &str) {
    let binding = gst_controller::DirectControlBinding::new(element, property, &rising());
    element.add_control_binding(&binding).unwrap();
}

#[test]
fn a_control_source_drives_the_mix_of_two_styles() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    element.set_property("style", "2,0,0,0");
    element.set_property("style-mix-with", "bright");
    control(&element, "style-mix");
    let shown = shown_at(&element, &rgb, 10, &[0, 500, 1000]);
    let from = StyleCode::new(vec![2.0, 0.0, 0.0, 0.0], STYLE_DIM).unwrap();
    let to = StyleCode::new(BRIGHT.to_vec(), STYLE_DIM).unwrap();
    for (shown, way) in shown.iter().zip([0.0, 0.5, 1.0]) {
        let style = from.interpolate(&to, way);
        assert_close(shown, &reference(&rgb, SIDE, SIDE, &style));
    }
}

#[test]
fn a_control_source_drives_the_strength() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    control(&element, "strength");
    let shown = shown_at(&element, &rgb, 10, &[0, 500, 1000]);
    assert!(difference(&shown[0], &rgb) <= 1);
    let mean = StyleCode::new(MEAN.to_vec(), STYLE_DIM).unwrap();
    let full = reference(&rgb, SIDE, SIDE, &mean);
    assert_close(&shown[2], &full);
    let half: Vec<f32> = full
        .iter()
        .zip(&rgb)
        .map(|(full, original)| 0.5 * full.clamp(0.0, 255.0) + 0.5 * f32::from(*original))
        .collect();
    assert_close(&shown[1], &half);
}

#[test]
fn a_control_source_moves_the_split() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    element.set_property("split", true);
    control(&element, "split-position");
    let shown = shown_at(&element, &rgb, 10, &[0, 500, 1000]);
    let translated = shown_at(&munitfilter(), &rgb, 10, &[0]).remove(0);
    for (shown, columns) in shown.iter().zip([0, SIDE / 2, SIDE]) {
        for (row, (original, translated)) in shown
            .chunks(3 * SIDE)
            .zip(rgb.chunks(3 * SIDE).zip(translated.chunks(3 * SIDE)))
        {
            assert_eq!(row[..3 * columns], original[..3 * columns]);
            assert_eq!(row[3 * columns..], translated[3 * columns..]);
        }
    }
}

#[test]
fn the_style_of_a_second_video_is_followed() {
    let rgb = picture(SIDE, SIDE, 1);
    let example = picture(SIDE, SIDE, 9);
    let element = munitfilter();
    element.set_property("style-smoothing", 0u32);
    element.set_property_from_str("style-mode", "follow");
    let line = Line::new(&element, &caps("RGB", SIDE, SIDE, (10, 1)));
    line.push(frame(&rgb, 0));
    let mean = StyleCode::new(MEAN.to_vec(), STYLE_DIM).unwrap();
    let shown = rgb_pixels(&line.pull());
    assert_close(&shown, &reference(&rgb, SIDE, SIDE, &mean));
    let text = line.warning();
    assert!(
        text.contains("nothing is linked to the pad style_sink"),
        "{text}"
    );

    let styles = gst_app::AppSrc::builder()
        .caps(&caps("RGB", SIDE, SIDE, (10, 1)))
        .format(gst::Format::Time)
        .build();
    line.pipeline.add(&styles).unwrap();
    let pad = element.request_pad_simple("style_sink").unwrap();
    styles.static_pad("src").unwrap().link(&pad).unwrap();
    styles.sync_state_with_parent().unwrap();
    styles.push_buffer(frame(&example, 0)).unwrap();

    let style = style_of(&example);
    let expected = reference(&rgb, SIDE, SIDE, &style);
    let mut shown = Vec::new();
    for number in 1..200 {
        line.push(frame(&rgb, number * 100_000_000));
        shown = rgb_pixels(&line.pull());
        if difference(&shown, &rounded(&expected)) <= 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_close(&shown, &expected);

    // Far ahead of the main video it waits there, and does not hold anything up.
    for number in 0..20 {
        styles
            .push_buffer(frame(&rgb, (1000 + number) * 1_000_000_000))
            .unwrap();
    }
    line.push(frame(&rgb, 21_000_000_000));
    assert_close(&rgb_pixels(&line.pull()), &expected);
    line.source.end_of_stream().unwrap();
    let types = [gst::MessageType::Eos, gst::MessageType::Warning];
    let last = line.wait_for(&types);
    assert_eq!(
        last.type_(),
        gst::MessageType::Eos,
        "it was told once: {last:?}"
    );
}

fn rounded(expected: &[f32]) -> Vec<u8> {
    expected
        .iter()
        .map(|value| value.round().clamp(0.0, 255.0) as u8)
        .collect()
}

/// The code that the model's encoder gives for a picture.
fn style_of(rgb: &[u8]) -> StyleCode {
    use munit::runtime::{DeviceChoice, PictureFormat, PictureRef, Precision, Translator};

    let model = munit::Model::read(model_path()).unwrap();
    let direction = munit::Direction::A2b;
    Translator::new(&model, direction, DeviceChoice::Cpu, Precision::Fp32)
        .and_then(|mut translator| {
            let planes = [(rgb, 3 * SIDE)];
            let picture = PictureRef::new(PictureFormat::Rgb, SIDE, SIDE, &planes)?;
            translator.encode_style(&picture)
        })
        .unwrap()
}

#[test]
fn action_signals_change_draw_and_save_styles() {
    let rgb = picture(SIDE, SIDE, 1);
    // A copy of its own, because a file will be written beside it.
    let path = file("actions.safetensors");
    std::fs::copy(model_path(), &path).unwrap();
    let _ = std::fs::remove_file(path.with_extension("styles.json"));
    let element = munitfilter();
    element.set_property("model", path.to_str().unwrap());
    element.set_property("style-smoothing", 0u32);
    let line = Line::new(&element, &caps("RGB", SIDE, SIDE, (10, 1)));
    let mut time = 0;
    let mut next = || {
        time += 100_000_000;
        line.push(frame(&rgb, time));
        rgb_pixels(&line.pull())
    };
    let saved = |name: &str| element.emit_by_name::<bool>("save-style", &[&name]);
    assert!(!saved("too early"), "no frame was shown yet");
    assert!(line.warning().contains("save-style"));
    next();

    assert!(element.emit_by_name::<bool>("next-style", &[]));
    assert_eq!(element.property::<String>("style-name"), "bright");
    let bright = StyleCode::new(BRIGHT.to_vec(), STYLE_DIM).unwrap();
    assert_close(&next(), &reference(&rgb, SIDE, SIDE, &bright));

    let code = element.emit_by_name::<String>("sample-style", &[]);
    assert_eq!(element.property::<String>("style"), code);
    let sampled = next();
    let values = code.split(',').map(|word| word.parse().unwrap()).collect();
    let style = StyleCode::new(values, STYLE_DIM).unwrap();
    assert_close(&sampled, &reference(&rgb, SIDE, SIDE, &style));

    assert!(saved("mine"));
    element.set_property("style-name", "bright");
    next();
    element.set_property("style-name", "mine");
    assert_eq!(next(), sampled, "a saved style is a named style");

    element.set_property("style-seed", 4u64);
    assert!(element.emit_by_name::<bool>("next-style", &[]));
    assert_eq!(element.property::<u64>("style-seed"), 5);
}

#[test]
fn where_a_style_cannot_be_saved_it_is_said_what_to_do() {
    let rgb = picture(SIDE, SIDE, 1);
    // No file can be made in this folder, not even by root.
    let model = std::fs::File::open(model_path()).unwrap();
    let element = munitfilter();
    element.set_property("model", format!("/proc/self/fd/{}", model.as_raw_fd()));
    let line = Line::new(&element, &caps("RGB", SIDE, SIDE, (10, 1)));
    line.push(frame(&rgb, 0));
    line.pull();
    assert!(!element.emit_by_name::<bool>("save-style", &[&"mine"]));
    let warning = line.warning();
    assert!(
        warning.contains("cannot write") && warning.contains("copy the model"),
        "{warning}"
    );
}

#[test]
fn a_style_named_default_is_shown_when_none_is_set() {
    let rgb = picture(SIDE, SIDE, 1);
    let mut model = model(1, &munit::Direction::ALL);
    let bright = model.metadata.styles["bright"].clone();
    model.metadata.styles.insert("default".to_owned(), bright);
    let path = write_model("with-default.safetensors", &model);
    let element = munitfilter();
    element.set_property("model", path.to_str().unwrap());
    let bright = StyleCode::new(BRIGHT.to_vec(), STYLE_DIM).unwrap();
    let translated = translate(&element, &rgb, SIDE, SIDE);
    assert_close(&translated, &reference(&rgb, SIDE, SIDE, &bright));
}

#[test]
fn a_broken_file_of_styles_is_a_warning() {
    let path = file("with-broken-styles.safetensors");
    std::fs::copy(model_path(), &path).unwrap();
    std::fs::write(path.with_extension("styles.json"), "{\"x\": 3}").unwrap();
    let element = munitfilter();
    element.set_property("model", path.to_str().unwrap());
    let rgb = picture(SIDE, SIDE, 1);
    let line = Line::new(&element, &caps("RGB", SIDE, SIDE, (10, 1)));
    line.push(frame(&rgb, 0));
    line.pull();
    let text = line.warning();
    assert!(text.contains("with-broken-styles.styles.json"), "{text}");
}

/// One test for both, because GStreamer keeps all presets of an element in one file.
#[test]
fn presets() {
    init();
    // What an earlier version of the shipped presets has left there.
    let _ = std::fs::remove_dir_all(file("gstreamer-1.0"));
    shipped_presets_are_complete();
    presets_keep_the_style_mode_last();
}

fn presets_keep_the_style_mode_last() {
    let element = munitfilter();
    element.set_property("style-seed", 7u64);
    element.set_property("style-interval", 1234u32);
    element.set_property_from_str("style-mode", "drift");
    let preset = element.dynamic_cast_ref::<gst::Preset>().unwrap();
    preset.save_preset("calm").unwrap();

    let other = munitfilter();
    let preset = other.dynamic_cast_ref::<gst::Preset>().unwrap();
    preset.load_preset("calm").unwrap();
    assert_eq!(other.property::<u64>("style-seed"), 7);
    assert_eq!(other.property::<u32>("style-interval"), 1234);
    let mode = other.property_value("style-mode");
    let mode = glib::EnumValue::from_value(&mode).unwrap().1.nick();
    assert_eq!(mode, "drift");
    let _ = preset.delete_preset("calm");
}

fn shipped_presets_are_complete() {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    gst::Preset::set_app_dir(&models).unwrap();
    let element = munitfilter();
    let names = element
        .dynamic_cast_ref::<gst::Preset>()
        .unwrap()
        .preset_names();
    assert!(names.len() >= 3, "{names:?}");
    let rgb = picture(SIDE, SIDE, 1);
    for name in names {
        let element = munitfilter();
        let preset = element.dynamic_cast_ref::<gst::Preset>().unwrap();
        preset.load_preset(&name).unwrap();
        assert!(preset.meta(&name, "comment").is_some(), "{name}");
        // Tests know no folder of models.
        let model = element.property::<String>("model") + ".safetensors";
        element.set_property("model", models.join(model).to_str().unwrap());
        let line = Line::new(&element, &caps("RGB", SIDE, SIDE, (10, 1)));
        line.push(frame(&rgb, 0));
        line.pull();
        let warnings = line
            .messages()
            .into_iter()
            .filter(|message| message.type_() == gst::MessageType::Warning)
            .count();
        assert_eq!(warnings, 0, "{name}");
    }
}
