//! The live contract: only the newest frame, a true latency, everything else as it came.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_base::prelude::*;

use crate::support::*;

/// A live line with a sink like a video sink's, run for a while as a program would run it.
struct LiveRun {
    shown: Vec<gst::ClockTime>,
    /// From a frame's capture until the sink shows it.
    delays: Vec<Duration>,
    /// Frames that left the element.
    translated: usize,
    qos: Vec<(u64, u64)>,
    latencies: usize,
    pipeline_latency: gst::ClockTime,
}

fn run_live(line: &str, seconds: u64) -> LiveRun {
    init();
    let pipeline = parse(line);
    let sink = pipeline.by_name("sink").unwrap();
    let seen = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let log = seen.clone();
    sink.set_property("signal-handoffs", true);
    let clocked = pipeline.clone();
    sink.connect("handoff", false, move |values| {
        let buffer = values[1].get::<gst::Buffer>().unwrap();
        let pts = buffer.pts().unwrap();
        let running = clocked.current_running_time().unwrap_or_default();
        let mut log = log.lock().unwrap();
        log.0.push(pts);
        log.1.push(Duration::from(running.saturating_sub(pts)));
        None
    });
    let translated = Arc::new(AtomicUsize::new(0));
    let count = translated.clone();
    let filter = pipeline.by_name("filter").unwrap();
    filter
        .static_pad("src")
        .unwrap()
        .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            gst::PadProbeReturn::Ok
        });
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut qos, mut latencies) = (Vec::new(), 0);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let timeout = gst::ClockTime::try_from(left).unwrap();
        let Some(message) = bus.timed_pop(timeout) else {
            break;
        };
        match message.view() {
            gst::MessageView::Latency(_) => {
                latencies += 1;
                pipeline.recalculate_latency().unwrap();
            }
            gst::MessageView::Qos(message)
                if message
                    .src()
                    .is_some_and(|source| source.name() == "filter") =>
            {
                let (processed, dropped) = message.stats();
                assert_eq!(processed.format(), gst::Format::Buffers);
                assert!(message.live() && message.timestamp().is_some());
                qos.push((processed.value() as u64, dropped.value() as u64));
            }
            gst::MessageView::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    }
    let pipeline_latency = pipeline.latency().unwrap_or_else(|| {
        let mut query = gst::query::Latency::new();
        assert!(pipeline.query(&mut query));
        query.result().1
    });
    pipeline.set_state(gst::State::Null).unwrap();
    let (shown, delays) = std::mem::take(&mut *seen.lock().unwrap());
    LiveRun {
        shown,
        delays,
        translated: translated.load(Ordering::SeqCst),
        qos,
        latencies,
        pipeline_latency,
    }
}

fn parse(line: &str) -> gst::Pipeline {
    let pipeline = gst::parse::launch(line).unwrap();
    pipeline.downcast().unwrap()
}

fn live_line(work: u32, more: &str) -> String {
    format!(
        "videotestsrc is-live=true ! video/x-raw,format=RGB,width=16,height=16,framerate=30/1 \
         ! munitfilter name=filter model={} device=cpu debug-work={work} {more} \
         ! fakesink name=sink sync=true max-lateness=5000000 qos=true processing-deadline=20000000",
        model_path().display()
    )
}

/// Frames that a sink has shown.
fn rendered(sink: &gst::Element) -> u64 {
    let sink = sink.downcast_ref::<gst_base::BaseSink>().unwrap();
    sink.stats().get("rendered").unwrap()
}

#[test]
fn a_slow_network_shows_the_newest_frames_in_time() {
    let run = run_live(&live_line(100, ""), 5);
    // The sink throws late frames away; with a true latency hardly any is late.
    assert!(run.shown.len() >= 8, "{} frames shown", run.shown.len());
    assert!(
        run.shown.len() * 10 >= run.translated * 6,
        "{} of {} translated frames shown",
        run.shown.len(),
        run.translated
    );
    assert!(run.shown.is_sorted());
    // Most frames gave way to newer ones, and each of these was reported with running counts.
    let (processed, dropped) = *run.qos.last().expect("QOS messages");
    assert!(
        dropped >= processed,
        "{processed} processed, {dropped} dropped"
    );
    assert_eq!(dropped, run.qos.len() as u64);
    assert!(run.qos.is_sorted());
    // A frame waits for one other and is worked on; whatever does not fit is not queued up.
    let longest = run.delays.iter().max().unwrap();
    assert!(*longest < Duration::from_millis(1500), "{longest:?}");
    assert!(run.pipeline_latency >= gst::ClockTime::from_mseconds(100));
    assert!(run.latencies < 20, "{} latency messages", run.latencies);
}

#[test]
fn a_fast_network_shows_its_frames_too() {
    let run = run_live(&live_line(0, ""), 3);
    assert!(
        run.shown.len() * 10 >= run.translated * 6,
        "{} of {} translated frames shown",
        run.shown.len(),
        run.translated
    );
}

#[test]
fn the_network_works_on_while_the_sink_waits() {
    init();
    let pipeline = parse(&live_line(0, ""));
    let sink_pad = pipeline
        .by_name("sink")
        .unwrap()
        .static_pad("sink")
        .unwrap();
    sink_pad.add_probe(
        gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER,
        |_, _| gst::PadProbeReturn::Ok,
    );
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    // One frame is stuck at the sink and one behind it; the rest gives way.
    let counts = std::iter::from_fn(|| bus.timed_pop_filtered(PATIENCE, &[gst::MessageType::Qos]))
        .filter_map(|message| match message.view() {
            gst::MessageView::Qos(qos) => {
                let (processed, dropped) = qos.stats();
                Some((processed.value(), dropped.value()))
            }
            _ => None,
        });
    let worked_on = counts.take(60).any(|(processed, _)| processed >= 2);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(worked_on);
}

#[test]
fn frames_wait_where_the_pipeline_s_latency_is_long() {
    // As many as come in half a second, but for those at its ends.
    const FRAMES: u64 = 14;

    init();
    let pipeline = parse(&live_line(0, ""));
    // As if another branch needed it: the sink holds each frame for half a second.
    let latency = gst::ClockTime::from_mseconds(500);
    pipeline.set_latency(latency);
    // Time passes when we say so, however long the machine takes for a frame.
    let clock = gst_check::TestClock::new();
    pipeline.use_clock(Some(&clock));
    let sink = pipeline.by_name("sink").unwrap();
    let filter = pipeline.by_name("filter").unwrap();
    let count = |name: &str| {
        let stats = filter.property::<gst::Structure>("stats");
        stats.get::<u64>(name).unwrap()
    };
    pipeline.set_state(gst::State::Playing).unwrap();
    let let_pass = |time, done: &dyn Fn() -> bool| {
        clock.set_time(time);
        let deadline = Instant::now() + Duration::from(PATIENCE);
        while !done() {
            assert!(Instant::now() < deadline, "nothing happens at {time}");
            // Whoever waits for this moment or an earlier one.
            while clock.process_next_clock_id().is_some() {}
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let time_of = |frame: u64| frame * gst::ClockTime::SECOND / 30;
    for frame in 0..FRAMES {
        let_pass(time_of(frame), &|| count("translated") == frame + 1);
    }
    // Without a place to wait only the first ones would be there.
    assert_eq!(count("dropped-replaced"), 0);
    assert_eq!(rendered(&sink), 0);
    let deadline = latency + gst::ClockTime::from_mseconds(20);
    for frame in 0..FRAMES {
        let_pass(time_of(frame) + deadline, &|| rendered(&sink) > frame);
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_set_latency_is_reported() {
    init();
    let pipeline = parse(&live_line(0, "latency=300"));
    let sink = pipeline.by_name("sink").unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let deadline = Instant::now() + Duration::from(PATIENCE);
    while rendered(&sink) == 0 {
        assert!(Instant::now() < deadline, "no frame comes");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut query = gst::query::Latency::new();
    assert!(pipeline.query(&mut query));
    let (live, latency, _) = query.result();
    pipeline.set_state(gst::State::Null).unwrap();
    // With the source's own, one frame, and the sink's.
    assert!(live);
    assert_eq!(latency.mseconds(), 300 + 33 + 20);
}

#[test]
fn a_pause_in_mid_work_neither_loses_nor_hangs() {
    init();
    let pipeline = parse(&live_line(40, ""));
    let sink = pipeline.by_name("sink").unwrap();
    let rendered = || rendered(&sink);
    for _ in 0..6 {
        pipeline.set_state(gst::State::Playing).unwrap();
        let before = rendered();
        let deadline = Instant::now() + Duration::from_secs(20);
        while rendered() < before + 3 {
            assert!(Instant::now() < deadline, "no frames after a pause");
            std::thread::sleep(Duration::from_millis(5));
        }
        pipeline.set_state(gst::State::Paused).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn without_a_live_source_a_slow_sink_loses_nothing() {
    init();
    let pipeline = parse(&format!(
        "videotestsrc num-buffers=25 ! video/x-raw,format=RGB,width=16,height=16,framerate=30/1 \
         ! munitfilter name=filter model={} device=cpu debug-work=2 ! identity sleep-time=10000 \
         ! appsink name=sink sync=false",
        model_path().display()
    ));
    let sink = pipeline
        .by_name("sink")
        .unwrap()
        .downcast::<gst_app::AppSink>()
        .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let times: Vec<_> = std::iter::from_fn(|| sink.try_pull_sample(PATIENCE))
        .map(|sample| sample.buffer().unwrap().pts().unwrap())
        .collect();
    let expected: Vec<_> = (0..25u64)
        .map(|index| gst::ClockTime::SECOND.mul_div_floor(index, 30).unwrap())
        .collect();
    assert_eq!(times, expected);
    let bus = pipeline.bus().unwrap();
    assert!(bus.pop_filtered(&[gst::MessageType::Qos]).is_none());
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn the_latency_is_added_to_that_of_a_live_upstream_only() {
    for (live, expected) in [(true, 125), (false, 25)] {
        let element = munitfilter();
        element.set_property("latency", 100i32);
        let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
        harness.set_live(live);
        harness.set_upstream_latency(gst::ClockTime::from_mseconds(25));
        harness.set_src_caps(caps("RGB", 16, 16, (30, 1)));
        let latency = harness.query_latency().expect("an answer");
        assert_eq!(latency.mseconds(), expected, "live: {live}");
    }
}
