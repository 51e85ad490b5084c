//! What the element tells: statistics, messages, marks on frames; and what it saves itself.

use gst::prelude::*;

use crate::support::*;

const SIDE: usize = 32;

fn line(element: &gst::Element) -> Line {
    Line::new(element, &caps("RGB", SIDE, SIDE, (10, 1)))
}

fn frame(rgb: &[u8], tenths: u64) -> gst::Buffer {
    let mut buffer = rgb_buffer(rgb, SIDE, SIDE);
    let time = gst::ClockTime::from_mseconds(100 * tenths);
    buffer.get_mut().unwrap().set_pts(time);
    buffer
}

#[test]
fn statistics_count_and_time() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    element.set_property("debug-work", 5u32);
    element.set_property("stats-interval", 1u32);
    let line = line(&element);
    for time in 0..10 {
        line.push(frame(&rgb, time));
        line.pull();
    }
    let messages = line.messages();
    // The push of the last frame is counted after the sink has it.
    line.source.end_of_stream().unwrap();
    line.wait_for(&[gst::MessageType::Eos]);
    let stats = element.property::<gst::Structure>("stats");
    assert_eq!(stats.name(), "munitfilter-stats");
    assert_eq!(stats.get::<u64>("frames-in").unwrap(), 10);
    assert_eq!(stats.get::<u64>("translated").unwrap(), 10);
    assert_eq!(stats.get::<u64>("frames-out").unwrap(), 10);
    assert_eq!(stats.get::<u64>("dropped-replaced").unwrap(), 0);
    assert_eq!(stats.get::<u64>("dropped-failed").unwrap(), 0);
    assert!(stats.get::<f64>("fps-in").unwrap() > 0.0);
    assert!(stats.get::<f64>("fps-out").unwrap() > 0.0);
    assert_eq!(stats.get::<&str>("model").unwrap(), "tiny");
    assert_eq!(stats.get::<&str>("device").unwrap(), "cpu");
    assert_eq!(stats.get::<&str>("precision").unwrap(), "fp32");
    assert_eq!(stats.get::<u32>("inference-size").unwrap(), SIDE as u32);
    assert!(stats.get::<u64>("memory").unwrap() > 1 << 20);
    assert!(!stats.has_field("device-memory"), "the CPU has none");
    for stage in ["map", "upload", "network", "download", "push"] {
        let stage = stats.get::<gst::Structure>(stage).unwrap();
        let times = ["p50", "p95", "max"].map(|name| stage.get::<u64>(name).unwrap());
        assert!(times.is_sorted(), "{stage:?}");
    }
    let network = stats.get::<gst::Structure>("network").unwrap();
    assert!(network.get::<u64>("p50").unwrap() > 0);
    assert!(
        messages.iter().any(|message| {
            message
                .structure()
                .is_some_and(|structure| structure.name() == "munitfilter-stats")
        }),
        "stats-interval posts them too"
    );
}

#[test]
fn frames_and_stream_say_that_they_were_translated() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    element.set_property("style", "0.5,0,-1,2");
    let line = line(&element);
    line.push(frame(&rgb, 0));
    let sample = line.pull();
    let buffer = sample.buffer().unwrap();
    let meta = gst::meta::CustomMeta::from_buffer(buffer, "GstMunitFilterMeta").unwrap();
    let structure = meta.structure();
    assert_eq!(structure.get::<&str>("model").unwrap(), "tiny");
    assert_eq!(structure.get::<&str>("direction").unwrap(), "a2b");
    assert_eq!(structure.get::<&str>("style").unwrap(), "0.5,0,-1,2");

    let pad = line.sink.static_pad("sink").unwrap();
    let tags = pad.sticky_event::<gst::event::Tag>(0).unwrap();
    let comment = tags.tag().get::<gst::tags::Comment>().unwrap();
    let expected = "translated by munitfilter with tiny (a2b)";
    assert_eq!(comment.get(), expected);

    // Upstream's tags stay.
    let mut upstream = gst::TagList::new();
    let list = upstream.make_mut();
    list.add::<gst::tags::Title>(&"A walk", gst::TagMergeMode::Append);
    line.source.send_event(gst::event::Tag::new(upstream));
    line.push(frame(&rgb, 1));
    line.pull();
    let tags = pad.sticky_event::<gst::event::Tag>(0).unwrap();
    assert_eq!(
        tags.tag().get::<gst::tags::Title>().unwrap().get(),
        "A walk"
    );
    let comment = tags.tag().get::<gst::tags::Comment>().unwrap();
    assert_eq!(comment.get(), expected);
}

#[test]
fn static_frames_are_shown_again() {
    let [still, moved] = [1, 2].map(|seed| picture(SIDE, SIDE, seed));
    let element = munitfilter();
    element.set_property("skip-static", true);
    let line = line(&element);
    let repeated = || {
        let stats = element.property::<gst::Structure>("stats");
        stats.get::<u64>("repeated").unwrap()
    };
    let next = |rgb: &[u8], time| {
        line.push(frame(rgb, time));
        rgb_pixels(&line.pull())
    };
    let first = next(&still, 0);
    let mut noisy = still.clone();
    noisy.iter_mut().step_by(7).for_each(|value| *value ^= 1);
    assert_eq!(next(&noisy, 1), first);
    assert_eq!(repeated(), 1);
    assert!(difference(&next(&moved, 2), &first) > 3);
    assert_eq!(repeated(), 1);
    assert_eq!(next(&still, 3), first);
    assert_eq!(repeated(), 1);
    // Another style is another picture.
    element.set_property("style-smoothing", 0u32);
    element.set_property("style-name", "bright");
    assert!(difference(&next(&still, 4), &first) > 3);
    assert_eq!(repeated(), 1);
    next(&still, 5);
    assert_eq!(repeated(), 2);
}

#[test]
fn a_new_model_fades_in() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    element.set_property("model", other_model_path().to_str().unwrap());
    let new = translate(&element, &rgb, SIDE, SIDE);

    let element = munitfilter();
    element.set_property("style-smoothing", 1000u32);
    let line = line(&element);
    line.push(frame(&rgb, 0));
    let old = rgb_pixels(&line.pull());
    element.set_property("model", other_model_path().to_str().unwrap());
    let mut shown = vec![old.clone()];
    for time in 1..600 {
        line.push(frame(&rgb, time));
        let translated = rgb_pixels(&line.pull());
        let arrived = translated == new;
        if shown.last() != Some(&translated) {
            shown.push(translated);
        }
        if arrived {
            break;
        }
        if shown.len() == 1 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    assert_eq!(shown.last(), Some(&new));
    // Ten frames a second, of which the first and the last look like the old and the new.
    assert!((9..=12).contains(&shown.len()), "{} steps", shown.len());
    let step = difference(&old, &new) / 3;
    for pair in shown.windows(2) {
        assert!(difference(&pair[0], &pair[1]) <= step, "a jump");
    }

    // The stream says so, too.
    let pad = line.sink.static_pad("sink").unwrap();
    let tags = pad.sticky_event::<gst::event::Tag>(0).unwrap();
    let comment = tags.tag().get::<gst::tags::Comment>().unwrap();
    assert_eq!(comment.get(), "translated by munitfilter with other (a2b)");
}

#[test]
fn statistics_tell_a_size_that_a_person_sets() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    let line = line(&element);
    line.push(frame(&rgb, 0));
    line.pull();
    element.set_property("inference-size", 16u32);
    line.push(frame(&rgb, 1));
    line.pull();
    let stats = element.property::<gst::Structure>("stats");
    assert_eq!(stats.get::<u32>("inference-size").unwrap(), 16);
}

/// Plays a live line of large frames for a few seconds; the sizes that were chosen, and the last.
fn live_sizes(quality: &str) -> (Vec<u32>, u32) {
    init();
    // So many and so large frames that no machine runs the network on all of them at full size.
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc is-live=true num-buffers=480 \
         ! video/x-raw,format=RGB,width=640,height=480,framerate=240/1 \
         ! munitfilter name=filter model={} device=cpu quality={quality} min-inference-size=64 \
         ! fakesink sync=false",
        model_path().display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let mut sizes = Vec::new();
    loop {
        let message = bus.timed_pop(PATIENCE).expect("an end");
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => panic!("{error:?}"),
            gst::MessageView::Element(_) => {
                let structure = message.structure().unwrap();
                assert_eq!(structure.name(), "munitfilter-inference-size");
                sizes.push(structure.get::<u32>("inference-size").unwrap());
            }
            _ => {}
        }
    }
    let filter = pipeline.by_name("filter").unwrap();
    let stats = filter.property::<gst::Structure>("stats");
    let size = stats.get::<u32>("inference-size").unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    (sizes, size)
}

#[test]
fn quality_auto_lowers_the_inference_size_of_a_live_stream() {
    let (sizes, size) = live_sizes("auto");
    assert!((64..480).contains(&size), "{size} after {sizes:?}");
}

#[test]
fn quality_fixed_leaves_the_inference_size_alone() {
    assert_eq!(live_sizes("fixed"), (vec![], 480));
}
