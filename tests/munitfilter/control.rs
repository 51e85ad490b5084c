//! Properties while playing, events, seeks and states.

use gst::prelude::*;
use munit::StyleCode;

use crate::support::*;

const SIDE: usize = 32;

fn line(element: &gst::Element) -> Line {
    Line::new(element, &caps("RGB", SIDE, SIDE, (10, 1)))
}

/// A frame at a time in tenths of a second.
fn frame(rgb: &[u8], tenths: u64) -> gst::Buffer {
    let mut buffer = rgb_buffer(rgb, SIDE, SIDE);
    let buffer_ref = buffer.get_mut().unwrap();
    buffer_ref.set_pts(gst::ClockTime::from_mseconds(100 * tenths));
    buffer_ref.set_duration(gst::ClockTime::from_mseconds(100));
    buffer
}

#[test]
fn every_kind_of_style_is_shown() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    element.set_property("style-smoothing", 0u32);
    let line = line(&element);
    let next = |time: u64| {
        line.push(frame(&rgb, time));
        rgb_pixels(&line.pull())
    };
    let expected = |style: &StyleCode| reference(&rgb, SIDE, SIDE, style);

    let mean = StyleCode::new(MEAN.to_vec(), STYLE_DIM).unwrap();
    assert_close(&next(0), &expected(&mean));

    element.set_property("style", "0.5, -1.5,2,0");
    let code = StyleCode::new(vec![0.5, -1.5, 2.0, 0.0], STYLE_DIM).unwrap();
    assert_close(&next(1), &expected(&code));

    element.set_property("style-seed", 99u64);
    assert_close(&next(2), &expected(&StyleCode::sample(99, STYLE_DIM)));

    element.set_property("style-name", "bright");
    let bright = StyleCode::new(BRIGHT.to_vec(), STYLE_DIM).unwrap();
    assert_close(&next(3), &expected(&bright));

    element.set_property_from_str("style-mode", "random");
    assert_close(&next(4), &expected(&StyleCode::sample(99, STYLE_DIM)));
}

#[test]
fn a_picture_gives_its_style() {
    let rgb = picture(SIDE, SIDE, 1);
    let example = picture(SIDE, SIDE, 9);
    let path = file("example.png");
    image::save_buffer(
        &path,
        &example,
        SIDE as u32,
        SIDE as u32,
        image::ColorType::Rgb8,
    )
    .unwrap();
    let model = munit::Model::read(model_path()).unwrap();
    let mut translator = munit::runtime::Translator::new(
        &model,
        munit::Direction::A2b,
        munit::runtime::DeviceChoice::Cpu,
        munit::runtime::Precision::Fp32,
    )
    .unwrap();
    let view = munit::runtime::PictureRef::new(
        munit::runtime::PictureFormat::Rgb,
        SIDE,
        SIDE,
        &[(&example, 3 * SIDE)],
    )
    .unwrap();
    let style = translator.encode_style(&view).unwrap();
    let expected = reference(&rgb, SIDE, SIDE, &style);

    let element = munitfilter();
    element.set_property("style-image", path.to_str().unwrap());
    assert_close(&translate(&element, &rgb, SIDE, SIDE), &expected);

    // And while playing, where the picture is read beside the stream.
    let element = munitfilter();
    element.set_property("style-smoothing", 0u32);
    let line = line(&element);
    line.push(frame(&rgb, 0));
    let before = rgb_pixels(&line.pull());
    element.set_property("style-image", path.to_str().unwrap());
    let after = (1..600)
        .find_map(|time| {
            line.push(frame(&rgb, time));
            let translated = rgb_pixels(&line.pull());
            std::thread::sleep(std::time::Duration::from_millis(10));
            (translated != before).then_some(translated)
        })
        .expect("the style of the picture");
    assert_close(&after, &expected);
}

#[test]
fn a_style_glides_in_stream_time() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    element.set_property("style-smoothing", 1000u32);
    element.set_property("style", "0,0,0,0");
    let line = line(&element);
    let next = |time: u64| {
        line.push(frame(&rgb, time));
        rgb_pixels(&line.pull())
    };
    next(0);
    element.set_property("style", "2,0,0,0");
    for time in [3, 5, 20] {
        let way = 2.0 * (1.0 - (-(time as f32) / 10.0).exp());
        let style = StyleCode::new(vec![way, 0.0, 0.0, 0.0], STYLE_DIM).unwrap();
        assert_close(&next(time), &reference(&rgb, SIDE, SIDE, &style));
    }
}

#[test]
fn another_model_is_taken_between_two_frames() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    element.set_property("model", other_model_path().to_str().unwrap());
    let other = translate(&element, &rgb, SIDE, SIDE);

    let element = munitfilter();
    element.set_property("style-smoothing", 0u32);
    let line = line(&element);
    line.push(frame(&rgb, 0));
    let first = rgb_pixels(&line.pull());
    assert!(difference(&first, &other) > 3);
    element.set_property("model", other_model_path().to_str().unwrap());
    let arrives = (1..600).any(|time| {
        line.push(frame(&rgb, time));
        let translated = rgb_pixels(&line.pull());
        assert!(
            translated == first || translated == other,
            "frame {time} is neither of the old model nor of the new"
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
        translated == other
    });
    assert!(arrives);
}

#[test]
fn strength_may_change_while_playing() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    let line = line(&element);
    let next = |time: u64| {
        line.push(frame(&rgb, time));
        rgb_pixels(&line.pull())
    };
    let full = next(0);
    element.set_property("strength", 0.0);
    assert!(difference(&next(1), &rgb) <= 1);
    element.set_property("strength", 1.0);
    assert_eq!(next(2), full);
}

#[test]
fn a_flush_throws_away_and_starts_anew() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    element.set_property("debug-work", 50u32);
    let line = line(&element);
    line.push(frame(&rgb, 0));
    line.pull();
    for round in 0..5 {
        for time in 0..6 {
            line.push(frame(&rgb, time));
        }
        std::thread::sleep(std::time::Duration::from_millis(20 * round));
        assert!(line.source.send_event(gst::event::FlushStart::new()));
        assert!(line.source.send_event(gst::event::FlushStop::new(true)));
        let marker = 1000 + round;
        line.push(frame(&rgb, marker));
        let sample = line.pull();
        let pts = sample.buffer().unwrap().pts().unwrap();
        assert_eq!(
            pts.mseconds(),
            100 * marker,
            "a frame from before the flush"
        );
    }
}

#[test]
fn a_seek_lands() {
    init();
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=100 ! video/x-raw,format=RGB,width=16,height=16,framerate=10/1 \
         ! munitfilter model={} device=cpu ! appsink name=sink sync=false",
        model_path().display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let sink = pipeline
        .by_name("sink")
        .unwrap()
        .downcast::<gst_app::AppSink>()
        .unwrap();
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.state(PATIENCE).0.unwrap();
    for seconds in [5, 2, 8, 0] {
        let time = gst::ClockTime::from_seconds(seconds);
        pipeline
            .seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, time)
            .unwrap();
        pipeline.state(PATIENCE).0.unwrap();
        let sample = sink
            .try_pull_preroll(PATIENCE)
            .expect("a frame at the new place");
        assert_eq!(sample.buffer().unwrap().pts(), Some(time));
        assert_eq!(pipeline.query_position::<gst::ClockTime>(), Some(time));
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn the_end_of_the_stream_waits_for_the_frames_in_flight() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    element.set_property("debug-work", 100u32);
    let line = line(&element);
    for time in 0..4 {
        line.push(frame(&rgb, time));
    }
    line.source.end_of_stream().unwrap();
    for _ in 0..4 {
        line.pull();
    }
    line.wait_for(&[gst::MessageType::Eos]);
}

#[test]
fn a_stream_that_downstream_ends_comes_to_its_end() {
    // The picture encoder says after one frame that it wants no more.
    for frames in [1, 30] {
        let element = munitfilter();
        let source = gst::ElementFactory::make("videotestsrc")
            .property("num-buffers", frames)
            .build()
            .unwrap();
        let encoder = gst::ElementFactory::make("pngenc")
            .property("snapshot", true)
            .build()
            .unwrap();
        let sink = gst::ElementFactory::make("fakesink").build().unwrap();
        let pipeline = gst::Pipeline::new();
        let elements = [&source, &element, &encoder, &sink];
        pipeline.add_many(elements).unwrap();
        gst::Element::link_many(elements).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let bus = pipeline.bus().unwrap();
        let end =
            bus.timed_pop_filtered(PATIENCE, &[gst::MessageType::Eos, gst::MessageType::Error]);
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(
            end.unwrap().type_(),
            gst::MessageType::Eos,
            "{frames} frames"
        );
    }
}

#[test]
fn events_keep_their_place_among_the_frames() {
    let rgb = picture(SIDE, SIDE, 1);
    let line = line(&munitfilter());
    let marker = |number: u32| {
        gst::event::CustomDownstream::builder(
            gst::Structure::builder("marker")
                .field("number", number)
                .build(),
        )
        .build()
    };
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = seen.clone();
    line.sink.static_pad("sink").unwrap().add_probe(
        gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM,
        move |_, info| {
            if let Some(buffer) = info.buffer() {
                let tenths = buffer.pts().unwrap().mseconds() / 100;
                log.lock().unwrap().push(format!("frame {tenths}"));
            }
            if let Some(event) = info.event() {
                match event.view() {
                    gst::EventView::CustomDownstream(event) => {
                        let number: u32 = event.structure().unwrap().get("number").unwrap();
                        log.lock().unwrap().push(format!("event {number}"));
                    }
                    gst::EventView::Gap(_) => log.lock().unwrap().push("gap".to_owned()),
                    _ => {}
                }
            }
            gst::PadProbeReturn::Ok
        },
    );
    let source_pad = line.source.static_pad("src").unwrap();
    line.push(frame(&rgb, 0));
    line.pull();
    source_pad.push_event(marker(1));
    line.push(frame(&rgb, 1));
    line.pull();
    source_pad.push_event(gst::event::Gap::builder(gst::ClockTime::from_mseconds(200)).build());
    source_pad.push_event(marker(2));
    line.push(frame(&rgb, 3));
    line.pull();
    assert_eq!(
        *seen.lock().unwrap(),
        ["frame 0", "event 1", "frame 1", "gap", "event 2", "frame 3"]
    );
}

#[test]
fn states_may_change_in_any_order() {
    use gst::State::{Null, Paused, Playing, Ready};

    init();
    for live in [false, true] {
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc is-live={live} ! video/x-raw,format=RGB,width=16,height=16,framerate=30/1 \
             ! munitfilter model={} device=cpu debug-work=20 ! fakesink sync=true",
            model_path().display()
        ))
        .unwrap();
        for state in [
            Ready, Null, Ready, Paused, Ready, Paused, Playing, Ready, Playing, Paused, Playing,
            Paused, Ready, Null, Playing, Null, Paused, Null, Playing, Paused, Ready, Playing,
        ] {
            pipeline.set_state(state).unwrap();
            if state == Playing {
                let (result, reached, _) = pipeline.state(PATIENCE);
                result.unwrap();
                assert_eq!(reached, state);
                std::thread::sleep(std::time::Duration::from_millis(60));
            }
        }
        // Each state waited for, and again none of them.
        for state in [
            Ready, Null, Paused, Null, Playing, Paused, Ready, Ready, Playing,
        ] {
            pipeline.set_state(state).unwrap();
            let (result, reached, _) = pipeline.state(PATIENCE);
            result.unwrap();
            assert_eq!(reached, state);
        }
        for round in 0..30 {
            for state in [Playing, Paused, Ready, Playing, Null] {
                pipeline.set_state(state).unwrap();
                if round % 3 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(round));
                }
            }
        }
        pipeline.set_state(Playing).unwrap();
        pipeline.state(PATIENCE).0.unwrap();
        pipeline.set_state(Null).unwrap();
        let bus = pipeline.bus().unwrap();
        assert!(bus.pop_filtered(&[gst::MessageType::Error]).is_none());
    }
}

#[test]
fn it_works_again_after_ready() {
    let element = munitfilter();
    let rgb = picture(SIDE, SIDE, 1);
    let first = translate(&element, &rgb, SIDE, SIDE);
    element
        .parent()
        .and_downcast::<gst::Pipeline>()
        .inspect(|pipeline| {
            pipeline.remove(&element).unwrap();
        });
    assert_eq!(translate(&element, &rgb, SIDE, SIDE), first);
}

#[test]
fn every_number_may_go_to_its_ends_while_playing() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    let line = line(&element);
    let mut time = 0;
    for property in element.list_properties() {
        let ends = if let Some(number) = property.downcast_ref::<glib::ParamSpecUInt>() {
            [number.minimum().to_value(), number.maximum().to_value()]
        } else if let Some(number) = property.downcast_ref::<glib::ParamSpecInt>() {
            [number.minimum().to_value(), number.maximum().to_value()]
        } else if let Some(number) = property.downcast_ref::<glib::ParamSpecUInt64>() {
            [number.minimum().to_value(), number.maximum().to_value()]
        } else if let Some(number) = property.downcast_ref::<glib::ParamSpecDouble>() {
            [number.minimum().to_value(), number.maximum().to_value()]
        } else {
            continue;
        };
        for value in ends.iter().chain([property.default_value()]) {
            element.set_property_from_value(property.name(), value);
            line.push(frame(&rgb, time));
            line.pull();
            time += 1;
        }
    }
    assert!(time >= 15, "{time} values tried");
    let complaint = [gst::MessageType::Warning, gst::MessageType::Error];
    let complaints: Vec<_> = line
        .messages()
        .into_iter()
        .filter(|message| complaint.contains(&message.type_()))
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn a_linked_again_sink_gets_frames_again() {
    init();
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=source format=time ! queue ! munitfilter name=filter model={} device=cpu \
         ! appsink name=sink sync=false async=false",
        model_path().display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let source = pipeline
        .by_name("source")
        .unwrap()
        .downcast::<gst_app::AppSrc>()
        .unwrap();
    let sink = pipeline
        .by_name("sink")
        .unwrap()
        .downcast::<gst_app::AppSink>()
        .unwrap();
    let filter = pipeline.by_name("filter").unwrap();
    source.set_caps(Some(&caps("RGB", SIDE, SIDE, (10, 1))));
    pipeline.set_state(gst::State::Playing).unwrap();
    let rgb = picture(SIDE, SIDE, 1);
    source.push_buffer(frame(&rgb, 0)).unwrap();
    sink.try_pull_sample(PATIENCE).expect("the first frame");
    filter.unlink(&sink);
    // The second is refused by the element, a third would be by the queue, and end the source.
    for time in 1..3 {
        source.push_buffer(frame(&rgb, time)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    filter.link(&sink).unwrap();
    let arrives = (3..100).any(|time| {
        source.push_buffer(frame(&rgb, time)).unwrap();
        sink.try_pull_sample(gst::ClockTime::from_mseconds(200))
            .is_some()
    });
    assert!(arrives);
    pipeline.set_state(gst::State::Null).unwrap();
}
