//! What players do with a file: the scenarios of gst-validate (play, change_state_intensive,
//! pause_resume, fast_forward, seek_forward, seek_backward, seek_with_stop, scrub_forward_seeking,
//! reverse_playback), sizes and properties that change meanwhile, and odd frame rates.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::support::*;

const WIDTH: usize = 64;
const HEIGHT: usize = 48;
const FRAMES: u64 = 50;
const FRAMES_PER_SECOND: u64 = 25;

/// The time of a frame of [`clip`].
fn time_of(frame: u64) -> gst::ClockTime {
    frame * gst::ClockTime::SECOND / FRAMES_PER_SECOND
}

/// Two seconds of a ball that moves, each frame a picture of its own.
fn clip() -> &'static Path {
    static CLIP: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = file("ball.mov");
        let source = format!(
            "videotestsrc pattern=ball num-buffers={FRAMES} \
             ! video/x-raw,width={WIDTH},height={HEIGHT},framerate={FRAMES_PER_SECOND}/1"
        );
        write_clip(&source, &path);
        path
    });
    &CLIP
}

/// Writes what `source` makes as JPEG pictures. Other processes may do the same and have read what
/// was there.
fn write_clip(source: &str, path: &Path) {
    init();
    let own = path.with_extension(format!("{}.mov", std::process::id()));
    let line = format!(
        "{source} ! jpegenc quality=95 ! qtmux ! filesink location={}",
        own.display()
    );
    let pipeline = gst::parse::launch(&line).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    wait_for_end(&pipeline);
    pipeline.set_state(gst::State::Null).unwrap();
    std::fs::rename(own, path).unwrap();
}

fn wait_for_end(pipeline: &gst::Element) {
    let bus = pipeline.bus().unwrap();
    let types = [gst::MessageType::Eos, gst::MessageType::Error];
    match bus.timed_pop_filtered(PATIENCE, &types) {
        Some(message) if message.type_() == gst::MessageType::Eos => {}
        other => panic!("instead of the end: {other:?}"),
    }
}

/// A frame that has passed a pad.
#[derive(Clone, Debug)]
struct Seen {
    pts: Option<gst::ClockTime>,
    duration: Option<gst::ClockTime>,
    bytes: Vec<u8>,
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// Writes down the frames that pass a pad.
fn log_frames(pad: &gst::Pad) -> Log {
    let log = Log::default();
    let written = log.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let buffer = info.buffer().unwrap();
        written.lock().unwrap().push(Seen {
            pts: buffer.pts(),
            duration: buffer.duration(),
            bytes: buffer.map_readable().unwrap().to_vec(),
        });
        gst::PadProbeReturn::Ok
    });
    log
}

/// A pipeline whose filter shows the original, so that it can be seen which frame is which.
struct Player {
    pipeline: gst::Pipeline,
    filter: gst::Element,
    before: Log,
    after: Log,
}

impl Player {
    /// Of what `source` makes; the filter has more properties, the sink waits for the clock or not.
    fn new(source: &str, properties: &str, sync: bool) -> Self {
        init();
        let pipeline = gst::parse::launch(&format!(
            "{source} ! video/x-raw,format=RGB \
             ! munitfilter name=filter model={} device=cpu strength=0 {properties} \
             ! fakesink sync={sync}",
            model_path().display()
        ))
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        let filter = pipeline.by_name("filter").unwrap();
        Self {
            before: log_frames(&filter.static_pad("sink").unwrap()),
            after: log_frames(&filter.static_pad("src").unwrap()),
            filter,
            pipeline,
        }
    }

    fn of_file(path: &Path, sync: bool) -> Self {
        let source = format!(
            "filesrc location={} ! qtdemux name=demuxer jpegdec name=decoder ! videoconvert",
            path.display()
        );
        let player = Self::new(&source, "", sync);
        let decoder = player.pipeline.by_name("decoder").unwrap();
        let demuxer = player.pipeline.by_name("demuxer").unwrap();
        // The demuxer has other pads each time it is started.
        demuxer.connect_pad_added(move |_, pad| {
            pad.link(&decoder.static_pad("sink").unwrap()).unwrap();
        });
        player
    }

    fn of_clip() -> Self {
        Self::of_file(clip(), true)
    }

    fn set_state(&self, state: gst::State) {
        self.pipeline.set_state(state).unwrap();
    }

    /// Waits until the state is reached.
    fn reach(&self, state: gst::State) {
        self.set_state(state);
        self.pipeline.state(PATIENCE).0.unwrap();
    }

    fn seek(&self, rate: f64, start: gst::ClockTime, stop: Option<gst::ClockTime>) {
        self.pipeline
            .seek(
                rate,
                gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE,
                gst::SeekType::Set,
                start,
                gst::SeekType::Set,
                stop,
            )
            .unwrap();
    }

    /// Waits for so many frames after those that `count` says have been shown.
    fn wait_for_frames(&self, count: usize) {
        let deadline = Instant::now() + Duration::from(PATIENCE);
        while self.after.lock().unwrap().len() < count {
            assert!(Instant::now() < deadline, "no frames come");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Forgets the frames so far; to be called while none is shown.
    fn forget(&self) {
        self.before.lock().unwrap().clear();
        self.after.lock().unwrap().clear();
    }

    fn wait_for_end(&self) {
        wait_for_end(self.pipeline.upcast_ref());
    }

    /// The times of the frames that were shown. Each is the picture of that time, and no other.
    fn shown(&self) -> Vec<gst::ClockTime> {
        let (before, after) = (self.before.lock().unwrap(), self.after.lock().unwrap());
        let mut origins = before.iter();
        after
            .iter()
            .map(|after| {
                let origin = origins.find(|before| before.pts == after.pts);
                let origin = origin.expect("a frame in the order in which they came");
                assert_eq!(after.duration, origin.duration);
                assert!(difference(&after.bytes, &origin.bytes) <= 1);
                after.pts.unwrap()
            })
            .collect()
    }

    fn complaints(&self) -> Vec<gst::Message> {
        let bus = self.pipeline.bus().unwrap();
        let complaint = [gst::MessageType::Error, gst::MessageType::Warning];
        std::iter::from_fn(|| bus.pop_filtered(&complaint)).collect()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn whole_clip() -> Vec<gst::ClockTime> {
    (0..FRAMES).map(time_of).collect()
}

#[test]
fn play() {
    let player = Player::of_clip();
    let begin = Instant::now();
    player.set_state(gst::State::Playing);
    player.wait_for_end();
    assert!(
        begin.elapsed() >= Duration::from(time_of(FRAMES - 1)),
        "in real time"
    );
    assert_eq!(player.shown(), whole_clip());
    let end = time_of(FRAMES);
    assert_eq!(
        player.pipeline.query_position::<gst::ClockTime>(),
        Some(end)
    );
    assert_eq!(
        player.pipeline.query_duration::<gst::ClockTime>(),
        Some(end)
    );
    // The pictures differ, or nothing would have been shown by comparing them.
    let after = player.after.lock().unwrap();
    let differ = |pair: &[Seen]| difference(&pair[0].bytes, &pair[1].bytes) > 10;
    assert!(after.windows(2).all(differ));
    assert!(player.complaints().is_empty());
}

#[test]
fn change_state_intensive() {
    let player = Player::of_clip();
    for low in [gst::State::Null, gst::State::Ready, gst::State::Paused] {
        for round in 0..12 {
            player.set_state(gst::State::Playing);
            // Sometimes before anything has happened, sometimes in the middle of it.
            std::thread::sleep(Duration::from_millis(4 * round));
            player.set_state(low);
        }
    }
    player.reach(gst::State::Ready);
    player.forget();
    player.set_state(gst::State::Playing);
    player.wait_for_end();
    assert_eq!(player.shown(), whole_clip());
    assert!(player.complaints().is_empty());
}

#[test]
fn pause_resume() {
    let player = Player::of_clip();
    for shown in [5, 12, 30] {
        player.reach(gst::State::Playing);
        player.wait_for_frames(shown);
        player.reach(gst::State::Paused);
        let position = || player.pipeline.query_position::<gst::ClockTime>();
        let paused_at = position();
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(position(), paused_at);
    }
    player.reach(gst::State::Playing);
    player.wait_for_end();
    assert_eq!(player.shown(), whole_clip());
}

#[test]
fn fast_forward() {
    let player = Player::of_clip();
    player.reach(gst::State::Paused);
    for rate in [2.0, 4.0, 8.0, 16.0, 32.0] {
        player.seek(rate, gst::ClockTime::ZERO, None);
        player.reach(gst::State::Playing);
        player.wait_for_end();
        player.reach(gst::State::Paused);
    }
    let mut shown = player.shown();
    // The first one prerolls before each seek.
    shown.dedup();
    let rounds: Vec<_> = shown.chunk_by(|one, next| one < next).collect();
    assert_eq!(rounds.len(), 5);
    assert!(rounds.iter().all(|round| *round == whole_clip()));
}

#[test]
fn seek_forward_and_backward_while_playing() {
    let player = Player::of_clip();
    player.reach(gst::State::Playing);
    for frame in [10, 22, 31, 45, 40, 17, 3, 0] {
        player.seek(1.0, time_of(frame), None);
        player.pipeline.state(PATIENCE).0.unwrap();
        let after = || player.after.lock().unwrap();
        let deadline = Instant::now() + Duration::from(PATIENCE);
        // A few frames from there on.
        let landed = || {
            let after = after();
            let from = after
                .iter()
                .rposition(|seen| seen.pts == Some(time_of(frame)));
            from.is_some_and(|from| after.len() >= from + 4)
        };
        while !landed() {
            assert!(Instant::now() < deadline, "no frames at {frame}");
            std::thread::sleep(Duration::from_millis(2));
        }
        let after = after();
        let from = after
            .iter()
            .rposition(|seen| seen.pts == Some(time_of(frame)));
        for (seen, expected) in after[from.unwrap()..].iter().zip(frame..) {
            assert_eq!(seen.pts, Some(time_of(expected)));
        }
    }
    player.wait_for_end();
    // Nothing from before a seek came after it, and each frame is the right picture.
    let shown = player.shown();
    assert_eq!(shown[shown.len() - FRAMES as usize..], whole_clip());
}

#[test]
fn seek_with_stop() {
    let player = Player::of_clip();
    player.reach(gst::State::Paused);
    player.seek(1.0, time_of(10), Some(time_of(20)));
    player.pipeline.state(PATIENCE).0.unwrap();
    player.set_state(gst::State::Playing);
    player.wait_for_end();
    let shown = player.shown();
    let shown = shown
        .strip_prefix(&[gst::ClockTime::ZERO])
        .unwrap_or(&shown);
    let expected: Vec<_> = (10..20).map(time_of).collect();
    assert_eq!(shown, expected);
}

#[test]
fn scrub_forward_seeking() {
    let player = Player::of_clip();
    player.reach(gst::State::Paused);
    for frame in (0..FRAMES).step_by(3) {
        player.seek(1.0, time_of(frame), None);
        player.pipeline.state(PATIENCE).0.unwrap();
        assert_eq!(
            player.pipeline.query_position::<gst::ClockTime>(),
            Some(time_of(frame))
        );
        assert!(player.shown().contains(&time_of(frame)));
        player.forget();
    }
}

#[test]
fn reverse_playback() {
    let player = Player::of_clip();
    player.reach(gst::State::Paused);
    player.seek(-1.0, gst::ClockTime::ZERO, Some(time_of(FRAMES)));
    player.pipeline.state(PATIENCE).0.unwrap();
    player.set_state(gst::State::Playing);
    player.wait_for_end();
    let shown = player.shown();
    let shown = shown
        .strip_prefix(&[gst::ClockTime::ZERO])
        .unwrap_or(&shown);
    let expected: Vec<_> = (0..FRAMES).rev().map(time_of).collect();
    assert_eq!(shown, expected);
}

#[test]
fn sizes_that_change_while_playing() {
    init();
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc name=source num-buffers=120 ! capsfilter name=size \
         ! munitfilter name=filter model={} device=cpu ! fakesink sync=true",
        model_path().display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let size = pipeline.by_name("size").unwrap();
    let sizes = [(64, 48), (128, 96), (32, 24), (51, 37), (96, 16)];
    let take = |(width, height): (usize, usize)| {
        size.set_property("caps", caps("RGB", width, height, (100, 1)));
    };
    take(sizes[0]);
    let pad = pipeline
        .by_name("filter")
        .unwrap()
        .static_pad("src")
        .unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let info_of_caps = gst_video::VideoInfo::from_caps(&pad.current_caps().unwrap()).unwrap();
        let buffer = info.buffer().unwrap();
        assert!(buffer.size() >= info_of_caps.size());
        let size = (
            info_of_caps.width() as usize,
            info_of_caps.height() as usize,
        );
        log.lock().unwrap().push((buffer.pts().unwrap(), size));
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    for size in sizes.iter().cycle().take(15) {
        take(*size);
        std::thread::sleep(Duration::from_millis(50));
    }
    wait_for_end(pipeline.upcast_ref());
    pipeline.set_state(gst::State::Null).unwrap();
    let seen = seen.lock().unwrap();
    let expected = (0..120u64).map(|frame| gst::ClockTime::from_mseconds(10 * frame));
    assert!(seen.iter().map(|(pts, _)| *pts).eq(expected));
    for size in sizes {
        assert!(seen.iter().any(|(_, other)| *other == size), "{size:?}");
    }
}

#[test]
fn properties_that_are_swept_while_playing() {
    let player = Player::of_clip();
    player.reach(gst::State::Paused);
    player.forget();
    player.set_state(gst::State::Playing);
    let values = |property: &glib::ParamSpec| -> Vec<glib::Value> {
        // Models and devices have tests of their own; these would wait for one another here.
        match property.name() {
            "debug-work" | "direction" | "precision" => return vec![],
            _ => {}
        }
        if let Some(number) = property.downcast_ref::<glib::ParamSpecUInt>() {
            [
                number.minimum(),
                40,
                200,
                number.maximum(),
                number.default_value(),
            ]
            .map(|value| value.clamp(number.minimum(), number.maximum()).to_value())
            .to_vec()
        } else if let Some(number) = property.downcast_ref::<glib::ParamSpecDouble>() {
            [0.0, 0.3, 0.7, 1.0, number.default_value()]
                .map(|value| value.to_value())
                .to_vec()
        } else if property.value_type() == bool::static_type() {
            [true, false].map(|value| value.to_value()).to_vec()
        } else if let Some(class) = glib::EnumClass::with_type(property.value_type()) {
            class
                .values()
                .iter()
                .map(|value| value.to_value(&class))
                .collect()
        } else {
            vec![]
        }
    };
    let mut properties = player.filter.list_properties().to_vec();
    properties.retain(|property| property.flags().contains(glib::ParamFlags::WRITABLE));
    let mut swept = 0;
    for step in 0..5 {
        for property in &properties {
            let values = values(property);
            if let Some(value) = values.get(step) {
                player
                    .filter
                    .set_property_from_value(property.name(), value);
                swept += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    assert!(swept > 60, "{swept} values");
    player.wait_for_end();
    let after = player.after.lock().unwrap();
    let times: Vec<_> = after.iter().map(|seen| seen.pts.unwrap()).collect();
    assert!(times.ends_with(&whole_clip()[1..]), "{times:?}");
}

/// Frames that come at odd moments: a frame's number, its time and its duration in nanoseconds.
fn irregular(frame: u64) -> (gst::ClockTime, gst::ClockTime) {
    let start = |frame: u64| gst::ClockTime::from_mseconds(frame * 41 + frame * frame % 7 * 5);
    (start(frame), start(frame + 1) - start(frame))
}

#[test]
fn odd_frame_rates_are_kept_to_the_nanosecond() {
    for (frames, seconds) in [(24_000, 1001), (30_000, 1001), (7, 3), (1000, 7), (1, 1)] {
        let source = format!(
            "videotestsrc pattern=ball num-buffers=20 \
             ! video/x-raw,width={WIDTH},height={HEIGHT},framerate={frames}/{seconds}"
        );
        let player = Player::new(&format!("{source} ! videoconvert"), "", false);
        player.set_state(gst::State::Playing);
        player.wait_for_end();
        let start = |frame: u64| {
            let time = gst::ClockTime::SECOND.mul_div_floor(frame * seconds, frames);
            time.unwrap()
        };
        assert!(player.shown().into_iter().eq((0..20).map(start)));

        // And as files have them, in the containers' own clocks.
        let path = file(&format!("rate-{frames}-{seconds}.mov"));
        write_clip(&source, &path);
        let player = Player::of_file(&path, false);
        player.set_state(gst::State::Playing);
        player.wait_for_end();
        let shown = player.shown();
        assert_eq!(shown.len(), 20);
        let duration = start(1);
        for (shown, frame) in shown.into_iter().zip(0..) {
            assert!(
                shown.absdiff(start(frame)) < duration / 10,
                "{frame}: {shown}"
            );
        }
    }
}

#[test]
fn a_variable_frame_rate_is_kept() {
    let rgb = picture(WIDTH, HEIGHT, 1);
    for framerate in [(0, 1), (25, 1)] {
        let line = Line::new(&munitfilter(), &caps("RGB", WIDTH, HEIGHT, framerate));
        for number in 0..20 {
            let mut buffer = rgb_buffer(&rgb, WIDTH, HEIGHT);
            let (pts, duration) = irregular(number);
            let buffer_ref = buffer.get_mut().unwrap();
            buffer_ref.set_pts(pts);
            buffer_ref.set_duration(duration);
            line.push(buffer);
        }
        for number in 0..20 {
            let sample = line.pull();
            let buffer = sample.buffer().unwrap();
            let (pts, duration) = irregular(number);
            assert_eq!(
                (buffer.pts(), buffer.duration()),
                (Some(pts), Some(duration))
            );
        }
    }
}

#[test]
fn live_frames_at_an_odd_rate_keep_their_own_times() {
    let player = Player::new(
        "videotestsrc is-live=true pattern=ball num-buffers=100 \
         ! video/x-raw,width=64,height=48,framerate=1000/7 ! videoconvert",
        "debug-work=20",
        false,
    );
    player.set_state(gst::State::Playing);
    player.wait_for_end();
    let shown = player.shown();
    // Most give way to newer ones.
    assert!((3..50).contains(&shown.len()), "{} frames", shown.len());
}
