//! Several frames that are translated at the same time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_controller::prelude::*;

use crate::support::*;

const SIDE: usize = 32;

fn with_in_flight(frames: u32) -> gst::Element {
    let element = munitfilter();
    element.set_property("max-in-flight", frames);
    element
}

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

/// The time of a frame in tenths of a second.
fn tenths(sample: &gst::Sample) -> u64 {
    sample.buffer().unwrap().pts().unwrap().mseconds() / 100
}

/// A filter whose styles move and are mixed as a control source says.
fn moving(frames_in_flight: u32) -> gst::Element {
    let element = with_in_flight(frames_in_flight);
    element.set_property("style-seed", 3u64);
    element.set_property("style-interval", 400u32);
    element.set_property("style-smoothing", 200u32);
    let source = gst_controller::InterpolationControlSource::new();
    source.set_mode(gst_controller::InterpolationMode::Linear);
    let values = source.upcast_ref::<gst_controller::TimedValueControlSource>();
    values.set(gst::ClockTime::ZERO, 0.0);
    values.set(2 * gst::ClockTime::SECOND, 1.0);
    let binding = gst_controller::DirectControlBinding::new(&element, "style-mix", &source);
    element.add_control_binding(&binding).unwrap();
    element
}

/// A filter that shows the last translation again.
fn skipping(frames_in_flight: u32) -> gst::Element {
    let element = with_in_flight(frames_in_flight);
    element.set_property("skip-static", true);
    element
}

#[test]
fn pictures_are_the_same_whichever_the_number() {
    for (filter, expected_repeats) in [(moving as fn(u32) -> _, 0), (skipping, 8)] {
        let [one, three] = [1, 3].map(|in_flight| {
            let element = filter(in_flight);
            element.set_property("threads", 3u32);
            let line = line(&element);
            // Each picture comes twice.
            for time in 0..16 {
                line.push(frame(&picture(SIDE, SIDE, time as u32 / 2), time));
            }
            let shown: Vec<_> = (0..16)
                .map(|time| {
                    let sample = line.pull();
                    assert_eq!(tenths(&sample), time);
                    rgb_pixels(&sample)
                })
                .collect();
            let stats = element.property::<gst::Structure>("stats");
            assert_eq!(stats.get::<u64>("repeated").unwrap(), expected_repeats);
            shown
        });
        assert!(one == three);
        let same = one.chunks(2).filter(|pair| pair[0] == pair[1]);
        assert_eq!(same.count() as u64, expected_repeats);
    }
}

#[test]
fn so_many_are_worked_on_at_once() {
    const FRAMES: u64 = 6;
    const WORK: Duration = Duration::from_millis(250);

    let rgb = picture(SIDE, SIDE, 1);
    for (in_flight, rounds) in [(1, 6), (2, 3), (3, 2)] {
        let element = with_in_flight(in_flight);
        let line = line(&element);
        // The first frame starts the threads.
        line.push(frame(&rgb, 0));
        line.pull();
        element.set_property("debug-work", WORK.as_millis() as u32);
        let begin = Instant::now();
        (0..FRAMES).for_each(|time| line.push(frame(&rgb, time)));
        (0..FRAMES).for_each(|time| assert_eq!(tenths(&line.pull()), time));
        let taken = begin.elapsed();
        // Each round one after another, however fast or slow the machine.
        assert!(taken >= rounds * WORK, "{in_flight} in flight: {taken:?}");
        if in_flight == 3 {
            assert!(taken < 5 * WORK, "{in_flight} in flight: {taken:?}");
        }
    }
}

#[test]
fn frames_and_events_leave_as_they_came() {
    let rgb = picture(SIDE, SIDE, 1);
    let line = line(&with_in_flight(4));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    line.sink.static_pad("sink").unwrap().add_probe(
        gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM,
        move |_, info| {
            let entry = match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => {
                    let region = buffer.meta::<gst_video::VideoRegionOfInterestMeta>();
                    let (x, ..) = region.unwrap().rect();
                    assert_eq!(buffer.offset(), u64::from(x));
                    assert_eq!(buffer.duration(), Some(gst::ClockTime::from_mseconds(100)));
                    format!("frame {} {x}", buffer.pts().unwrap().mseconds() / 100)
                }
                Some(gst::PadProbeData::Event(event)) => match event.view() {
                    gst::EventView::CustomDownstream(event) => {
                        let number: u64 = event.structure().unwrap().get("number").unwrap();
                        format!("event {number}")
                    }
                    gst::EventView::Gap(_) => "gap".to_owned(),
                    gst::EventView::Eos(_) => "end".to_owned(),
                    _ => return gst::PadProbeReturn::Ok,
                },
                _ => unreachable!(),
            };
            log.lock().unwrap().push(entry);
            gst::PadProbeReturn::Ok
        },
    );
    let mut expected = Vec::new();
    for number in 0..30 {
        // One that is refused is finished before those that are translated.
        let broken = number % 5 == 3;
        let mut buffer = if broken {
            gst::Buffer::with_size(10).unwrap()
        } else {
            frame(&rgb, number)
        };
        let buffer_ref = buffer.get_mut().unwrap();
        buffer_ref.set_offset(number);
        let region = (number as u32, 0, 1, 1);
        gst_video::VideoRegionOfInterestMeta::add(buffer_ref, "face", region);
        line.push(buffer);
        if !broken {
            expected.push(format!("frame {number} {number}"));
        }
        if number % 3 == 0 {
            let structure = gst::Structure::builder("marker")
                .field("number", number)
                .build();
            let event = gst::event::CustomDownstream::new(structure);
            assert!(line.source.send_event(event));
            expected.push(format!("event {number}"));
        }
        if number % 7 == 6 {
            let time = gst::ClockTime::from_mseconds(100 * number);
            assert!(
                line.source
                    .send_event(gst::event::Gap::builder(time).build())
            );
            expected.push("gap".to_owned());
        }
    }
    line.source.end_of_stream().unwrap();
    expected.push("end".to_owned());
    (0..24).for_each(|_| drop(line.pull()));
    line.wait_for(&[gst::MessageType::Eos]);
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn the_end_of_the_stream_waits_for_all_of_them() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = with_in_flight(4);
    element.set_property("debug-work", 100u32);
    let line = line(&element);
    (0..6).for_each(|time| line.push(frame(&rgb, time)));
    line.source.end_of_stream().unwrap();
    (0..6).for_each(|time| assert_eq!(tenths(&line.pull()), time));
    line.wait_for(&[gst::MessageType::Eos]);
}

#[test]
fn a_flush_throws_all_of_them_away() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = with_in_flight(3);
    element.set_property("debug-work", 50u32);
    let line = line(&element);
    line.push(frame(&rgb, 0));
    line.pull();
    for round in 0..6 {
        (0..8).for_each(|time| line.push(frame(&rgb, time)));
        std::thread::sleep(Duration::from_millis(20 * round));
        assert!(line.source.send_event(gst::event::FlushStart::new()));
        assert!(line.source.send_event(gst::event::FlushStop::new(true)));
        let marker = 1000 + round;
        line.push(frame(&rgb, marker));
        assert_eq!(
            tenths(&line.pull()),
            marker,
            "a frame from before the flush"
        );
    }
}

#[test]
fn caps_may_change_while_they_are_in_flight() {
    let element = with_in_flight(4);
    element.set_property("debug-work", 10u32);
    let line = Line::new(&element, &caps("RGB", 32, 24, (30, 1)));
    let kinds = [("RGB", 32, 24), ("RGB", 64, 48), ("BGRx", 20, 31)];
    for (format, width, height) in kinds.iter().cycle().take(6) {
        let caps = caps(format, *width, *height, (30, 1));
        line.source.set_caps(Some(&caps));
        let size = gst_video::VideoInfo::from_caps(&caps).unwrap().size();
        (0..2).for_each(|_| line.push(gst::Buffer::with_size(size).unwrap()));
    }
    for (_, width, height) in kinds.iter().cycle().take(6) {
        for _ in 0..2 {
            let sample = line.pull();
            let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
            assert_eq!(
                (info.width() as usize, info.height() as usize),
                (*width, *height)
            );
            assert!(sample.buffer().unwrap().size() >= info.size());
        }
    }
}

#[test]
fn their_number_may_change_while_playing() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = munitfilter();
    element.set_property("debug-work", 5u32);
    let line = line(&element);
    for time in 0..40 {
        let in_flight = [4u32, 1, 0, 16, 2][time as usize / 4 % 5];
        element.set_property("max-in-flight", in_flight);
        line.push(frame(&rgb, time));
        if time >= 6 {
            assert_eq!(tenths(&line.pull()), time - 6);
        }
    }
    (34..40).for_each(|time| assert_eq!(tenths(&line.pull()), time));
}

#[test]
fn an_error_downstream_reaches_upstream_and_stops_them() {
    init();
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc name=source ! video/x-raw,format=RGB,width=16,height=16,framerate=30/1 \
         ! munitfilter model={} device=cpu max-in-flight=4 debug-work=20 ! identity error-after=5 \
         ! fakesink",
        model_path().display()
    ))
    .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let stopped =
        std::iter::from_fn(|| bus.timed_pop_filtered(PATIENCE, &[gst::MessageType::Error])).any(
            |message| {
                message
                    .src()
                    .is_some_and(|source| source.name() == "source")
            },
        );
    assert!(stopped);
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn they_are_left_alone_when_the_pipeline_stops() {
    let rgb = picture(SIDE, SIDE, 1);
    let element = with_in_flight(4);
    let line = line(&element);
    element.set_property("debug-work", 300u32);
    (0..20).for_each(|time| line.push(frame(&rgb, time)));
    // Some are being worked on, some are planned, some have not come so far.
    std::thread::sleep(Duration::from_millis(100));
    let begin = Instant::now();
    line.pipeline.set_state(gst::State::Null).unwrap();
    assert!(begin.elapsed() < Duration::from_millis(1200));
    line.pipeline.set_state(gst::State::Playing).unwrap();
    line.push(frame(&rgb, 100));
    assert_eq!(tenths(&line.pull()), 100);
}

#[test]
fn a_live_stream_shows_as_many_times_the_frames() {
    init();
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc is-live=true num-buffers=90 \
         ! video/x-raw,format=RGB,width=16,height=16,framerate=30/1 \
         ! munitfilter name=filter model={} device=cpu max-in-flight=3 debug-work=90 \
         ! appsink name=sink sync=false",
        model_path().display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let sink = pipeline.by_name("sink").and_downcast::<gst_app::AppSink>();
    let sink = sink.unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let times: Vec<_> = std::iter::from_fn(|| sink.try_pull_sample(PATIENCE))
        .map(|sample| sample.buffer().unwrap().pts())
        .collect();
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(times.is_sorted(), "{times:?}");
    // One at a time there would be 33 at most in these three seconds.
    assert!(times.len() > 45, "{} frames", times.len());
}
