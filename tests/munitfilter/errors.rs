//! Bad models and bad values: sentences on the bus, and the stream goes on where it can.

use gst::prelude::*;
use munit::Direction;

use crate::support::*;

/// Tries to start the element and returns the error on the bus.
fn start_error(element: &gst::Element) -> (glib::Error, String) {
    let pipeline = gst::Pipeline::new();
    pipeline.add(element).unwrap();
    assert!(pipeline.set_state(gst::State::Paused).is_err());
    let bus = pipeline.bus().unwrap();
    let message = bus
        .timed_pop_filtered(PATIENCE, &[gst::MessageType::Error])
        .expect("an error");
    pipeline.set_state(gst::State::Null).unwrap();
    match message.view() {
        gst::MessageView::Error(error) => (error.error(), error.error().to_string()),
        _ => unreachable!(),
    }
}

#[test]
fn a_missing_model_is_named() {
    let element = munitfilter();
    let path = file("missing.safetensors");
    element.set_property("model", path.to_str().unwrap());
    let (error, text) = start_error(&element);
    assert!(error.matches(gst::ResourceError::NotFound), "{text}");
    assert!(text.contains(path.to_str().unwrap()), "{text}");
}

#[test]
fn without_any_model_the_error_says_where_it_looked() {
    let element = munitfilter();
    element.set_property("model", None::<&str>);
    let (error, text) = start_error(&element);
    assert!(error.matches(gst::ResourceError::NotFound), "{text}");
    let place = file("munitfilter/models/photo2illustration.safetensors");
    assert!(text.contains(place.to_str().unwrap()), "{text}");
}

#[test]
fn broken_and_foreign_models_are_named() {
    let whole = std::fs::read(model_path()).unwrap();
    for (name, content) in [
        ("truncated.safetensors", &whole[..whole.len() / 2]),
        ("foreign.safetensors", &b"\x89PNG not a model at all"[..]),
        ("empty.safetensors", &b""[..]),
    ] {
        let path = file(name);
        std::fs::write(&path, content).unwrap();
        let element = munitfilter();
        element.set_property("model", path.to_str().unwrap());
        let (error, text) = start_error(&element);
        assert!(error.matches(gst::ResourceError::Read), "{text}");
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(
            text.contains(". Set the property model to a model file"),
            "{text}"
        );
    }
}

#[test]
fn a_folder_is_no_model() {
    let folder = file("folder.safetensors");
    std::fs::create_dir_all(&folder).unwrap();
    // A path, and what could be a name: tests run in the folder of the project.
    for model in [folder.to_str().unwrap(), "models"] {
        let element = munitfilter();
        element.set_property("model", model);
        let (error, text) = start_error(&element);
        assert!(error.matches(gst::ResourceError::Read), "{text}");
        let expected = format!("{model}: is a folder");
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.contains("Set the property model"), "{text}");
    }
}

#[test]
fn settings_that_do_not_fit_are_errors_at_the_start() {
    let path = write_model("a2b.safetensors", &model(1, &[Direction::A2b]));
    let not_a_picture = file("notes.png");
    std::fs::write(&not_a_picture, b"notes").unwrap();
    for (property, value, expected) in [
        ("device", "gpu", "gpu"),
        ("device", "cuda:77", "device"),
        ("direction", "b2a", "b2a"),
        ("style", "1,2,3", "3"),
        ("style", "1,2,x,4", "x"),
        ("style", "1,2,nan,4", "NaN"),
        ("style", "1,2,1e38,4", "number 3"),
        ("style-mix-with", "1,2,3,-101", "number 4"),
        ("style-name", "violet", "bright"),
        ("style-image", not_a_picture.to_str().unwrap(), "notes.png"),
        ("style-image", "/nowhere/print.png", "/nowhere/print.png"),
        ("style-mode", "example", "style-image"),
    ] {
        let element = munitfilter();
        element.set_property("model", path.to_str().unwrap());
        element.set_property_from_str(property, value);
        let (_, text) = start_error(&element);
        assert!(text.contains(expected), "{property}={value}: {text}");
    }
}

#[test]
fn a_negative_seed_is_out_of_range() {
    let property = munitfilter().find_property("style-seed").unwrap();
    let property = property.downcast::<glib::ParamSpecUInt64>().unwrap();
    // As GStreamer reads what is written in a line.
    for negative in ["-1", "-9223372036854775807"] {
        let read = glib::Value::deserialize(negative, u64::static_type()).unwrap();
        assert!(read.get::<u64>().unwrap() > property.maximum());
    }
}

#[test]
fn a_style_image_that_is_no_whole_picture_is_told_of_in_the_words_of_the_programs() {
    let whole = file("whole.jpg");
    image::save_buffer(&whole, &picture(64, 64, 3), 64, 64, image::ColorType::Rgb8).unwrap();
    let whole = std::fs::read(whole).unwrap();
    for (name, content, expected) in [
        (
            "cut.jpg",
            &whole[..whole.len() * 2 / 3],
            "the file ends before the picture does",
        ),
        (
            "letter.txt",
            &b"a letter"[..],
            "it is not a JPEG, PNG, WebP, BMP or PNM picture",
        ),
        (
            "clip.mp4",
            &b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"[..],
            "it is not a JPEG, PNG, WebP, BMP or PNM picture",
        ),
    ] {
        let path = file(name);
        std::fs::write(&path, content).unwrap();
        let element = munitfilter();
        element.set_property("style-image", path.to_str().unwrap());
        let (_, text) = start_error(&element);
        let expected = format!("style-image {}: {expected}", path.display());
        assert_eq!(text, expected);
    }
}

#[test]
fn the_element_can_be_started_after_a_failure() {
    let element = munitfilter();
    element.set_property("model", "/nowhere/model.safetensors");
    let pipeline = gst::Pipeline::new();
    pipeline.add(&element).unwrap();
    assert!(pipeline.set_state(gst::State::Paused).is_err());
    pipeline.set_state(gst::State::Null).unwrap();
    pipeline.remove(&element).unwrap();
    element.set_property("model", model_path().to_str().unwrap());
    let rgb = picture(32, 32, 1);
    assert_eq!(translate(&element, &rgb, 32, 32).len(), rgb.len());
}

#[test]
fn a_bad_value_while_playing_warns_and_the_old_one_stays() {
    let (width, height) = (32, 32);
    let element = munitfilter();
    element.set_property("style-smoothing", 0u32);
    element.set_property("style-name", "bright");
    let line = Line::new(&element, &caps("RGB", width, height, (30, 1)));
    let rgb = picture(width, height, 1);
    let frame = || {
        line.push(rgb_buffer(&rgb, width, height));
        rgb_pixels(&line.pull())
    };
    let expected = frame();
    let small = file("one-pixel.txt");
    std::fs::write(&small, b"not a picture").unwrap();
    for (property, value, names) in [
        ("style", "1,2", "style"),
        ("style", "1,2,3,inf", "style"),
        ("style-name", "violet", "violet"),
        ("style-image", small.to_str().unwrap(), "one-pixel.txt"),
        ("style-mode", "example", "style-image"),
        (
            "model",
            "/nowhere/model.safetensors",
            "/nowhere/model.safetensors",
        ),
        ("device", "toaster", "toaster"),
        ("device", "cuda:77", "device"),
    ] {
        let before = ["model", "device", "style", "style-name", "style-image"]
            .map(|name| element.property::<Option<String>>(name));
        element.set_property_from_str(property, value);
        let text = line.warning();
        assert!(text.contains(names), "{property}={value}: {text}");
        let after = ["model", "device", "style", "style-name", "style-image"]
            .map(|name| element.property::<Option<String>>(name));
        assert_eq!(after, before, "{property}={value}");
        assert_eq!(
            element.property::<gstmunit::munitfilter::StyleMode>("style-mode"),
            gstmunit::munitfilter::StyleMode::Fixed
        );
        assert_eq!(frame(), expected, "{property}={value}");
    }
}

#[test]
fn a_style_that_the_next_model_lacks_gives_way_to_its_own() {
    let (width, height) = (32, 32);
    let rgb = picture(width, height, 1);
    let (model, expected) = unit_model(5, &rgb, width, height);
    let path = write_model("unit-after-munit.safetensors", &model);
    let element = munitfilter();
    element.set_property("style", "1,2,3,4");
    let line = Line::new(&element, &caps("RGB", width, height, (30, 1)));
    let frame = || {
        line.push(rgb_buffer(&rgb, width, height));
        rgb_pixels(&line.pull())
    };
    frame();
    element.set_property("model", path.to_str().unwrap());
    let text = line.warning();
    assert!(text.contains("style"), "{text}");
    assert_eq!(element.property::<Option<String>>("style"), None);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let translated = loop {
        let translated = frame();
        let worst = translated
            .iter()
            .zip(&expected)
            .map(|(found, expected)| (f32::from(*found) - expected.clamp(0.0, 255.0)).abs())
            .fold(0.0, f32::max);
        if worst <= 1.0 || std::time::Instant::now() > deadline {
            break translated;
        }
    };
    assert_close(&translated, &expected);
}

#[test]
fn an_error_downstream_reaches_upstream() {
    let element = munitfilter();
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("videotestsrc").build().unwrap();
    let filter = gst::ElementFactory::make("capsfilter")
        .property("caps", caps("RGB", 16, 16, (30, 1)))
        .build()
        .unwrap();
    let failing = gst::ElementFactory::make("identity")
        .property("error-after", 3i32)
        .build()
        .unwrap();
    let sink = gst::ElementFactory::make("fakesink").build().unwrap();
    pipeline
        .add_many([&source, &filter, &element, &failing, &sink])
        .unwrap();
    gst::Element::link_many([&source, &filter, &element, &failing, &sink]).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let errors: Vec<_> = (0..2)
        .map(|_| {
            bus.timed_pop_filtered(PATIENCE, &[gst::MessageType::Error])
                .and_then(|message| message.src().map(|source| source.name().to_string()))
                .expect("an error")
        })
        .collect();
    assert!(errors.contains(&source.name().to_string()), "{errors:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}
