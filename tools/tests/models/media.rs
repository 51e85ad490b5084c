//! Small videos with sound, made and looked at with GStreamer.

use std::path::Path;
use std::sync::{Arc, Mutex};

use gst::prelude::*;

const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// From when to when something is there, in seconds.
pub type Interval = (f64, f64);

/// Frames a second of what is made here.
pub const FRAME_RATE: u64 = 25;
/// Samples a second.
pub const SAMPLE_RATE: u64 = 48_000;
/// Of a frame, in pixels.
const SIDES: [u64; 2] = [64, 48];

/// Runs a pipeline in gst-launch's language to its end.
#[track_caller]
pub fn launch(description: &str) {
    gst::init().unwrap();
    run(&gst::parse::launch(description).unwrap());
}

#[track_caller]
fn run(pipeline: &gst::Element) {
    pipeline.set_state(gst::State::Playing).unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(PATIENCE, &ends);
    pipeline.set_state(gst::State::Null).unwrap();
    let end = end.expect("the pipeline ends");
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
}

/// Writes a video. `picture` says of a time in seconds whether it is bright, `sound` whether it is loud,
/// each within an interval; what encodes them, and puts them into a file, are parts of a launch line.
pub fn record(
    file: &Path,
    muxer: &str,
    picture: (&str, Interval, fn(f64) -> bool),
    sound: (&str, Interval, fn(f64) -> bool),
) {
    gst::init().unwrap();
    let [width, height] = SIDES;
    let line = format!(
        "{muxer} name=muxer ! filesink location={} \
         appsrc name=picture format=time \
         caps=video/x-raw,format=GRAY8,width={width},height={height},framerate={FRAME_RATE}/1 \
         ! videoconvert ! {} ! queue ! muxer. \
         appsrc name=sound format=time \
         caps=audio/x-raw,format=S16LE,layout=interleaved,channels=1,rate={SAMPLE_RATE} \
         ! audioconvert ! {} ! queue ! muxer.",
        file.display(),
        picture.0,
        sound.0
    );
    let pipeline = gst::parse::launch(&line).unwrap();
    let push =
        |name: &str, rate: u64, interval: Interval, parts: u64, part: &dyn Fn(f64) -> Vec<u8>| {
            let bin = pipeline.downcast_ref::<gst::Bin>().unwrap();
            let source = bin.by_name(name).unwrap();
            let source = source.downcast::<gst_app::AppSrc>().unwrap();
            source.set_max_bytes(0);
            let [start, end] =
                [interval.0, interval.1].map(|time| (time * rate as f64).round() as u64);
            for first in (start..end).step_by(parts as usize) {
                let behind = end.min(first + parts);
                let times = (first..behind).map(|index| index as f64 / rate as f64);
                let data: Vec<u8> = times.flat_map(part).collect();
                let mut buffer = gst::Buffer::from_mut_slice(data);
                let stamped = buffer.get_mut().unwrap();
                let time = |index: u64| gst::ClockTime::from_nseconds(index * 1_000_000_000 / rate);
                stamped.set_pts(time(first));
                stamped.set_duration(time(behind) - time(first));
                source.push_buffer(buffer).unwrap();
            }
            source.end_of_stream().unwrap();
        };
    push("picture", FRAME_RATE, picture.1, 1, &|time| {
        vec![255 * u8::from((picture.2)(time + 1e-6)); (width * height) as usize]
    });
    push("sound", SAMPLE_RATE, sound.1, SAMPLE_RATE / 100, &|time| {
        let tone = (time * 440.0 * std::f64::consts::TAU).sin() * 20_000.0;
        let heard = if (sound.2)(time + 1e-6) {
            tone as i16
        } else {
            0
        };
        heard.to_le_bytes().to_vec()
    });
    run(&pipeline);
}

/// The formats of the tracks of a file, in alphabetical order.
pub fn tracks(file: &Path) -> Vec<String> {
    let demuxer = match file.extension().unwrap().to_str().unwrap() {
        "mkv" | "webm" => "matroskademux",
        _ => "qtdemux",
    };
    let line = format!(
        "filesrc location={} ! {demuxer} name=demuxer",
        file.display()
    );
    let pipeline = gst::parse::launch(&line).unwrap();
    let bin = pipeline.downcast_ref::<gst::Bin>().unwrap();
    let demuxer = bin.by_name("demuxer").unwrap();
    let found = Arc::new(Mutex::new(Vec::new()));
    let (all, told) = std::sync::mpsc::channel();
    demuxer.connect_pad_added({
        let found = Arc::clone(&found);
        move |_, pad| {
            let caps = pad.current_caps().unwrap();
            let name = caps.structure(0).unwrap().name().to_string();
            found.lock().unwrap().push(name);
        }
    });
    let all = Mutex::new(all);
    demuxer.connect_no_more_pads(move |_| all.lock().unwrap().send(()).unwrap());
    pipeline.set_state(gst::State::Paused).unwrap();
    told.recv_timeout(PATIENCE.into()).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    let mut found = found.lock().unwrap().clone();
    found.sort();
    found
}

/// What a player shows or plays of a file, in seconds from its beginning.
#[derive(Debug)]
pub struct Played {
    /// From the first frame or sample to the end of the last.
    pub whole: Interval,
    /// From the first bright frame or loud sample to the last.
    pub striking: Interval,
}

/// The picture of a file.
pub fn shown(file: &Path) -> Played {
    let line = "videoconvert ! video/x-raw,format=GRAY8";
    played(file, line, |data| {
        let sum: u64 = data.iter().map(|&value| u64::from(value)).sum();
        vec![sum / data.len() as u64 > 128]
    })
}

/// The sound of a file.
pub fn heard(file: &Path) -> Played {
    let line = "audioconvert ! audio/x-raw,format=S16LE,channels=1";
    played(file, line, |data| {
        let samples = data.chunks_exact(2);
        let samples = samples.map(|sample| i16::from_le_bytes([sample[0], sample[1]]));
        samples.map(|sample| sample.unsigned_abs() > 4000).collect()
    })
}

/// `strikes` says of each part of a piece of data, parts of equal length, whether it is striking.
fn played(file: &Path, convert: &str, strikes: fn(&[u8]) -> Vec<bool>) -> Played {
    let line = format!(
        "filesrc location={} ! decodebin ! {convert} ! appsink name=sink sync=false",
        file.display()
    );
    let pipeline = gst::parse::launch(&line).unwrap();
    let bin = pipeline.downcast_ref::<gst::Bin>().unwrap();
    let sink = bin.by_name("sink").unwrap();
    let sink = sink.downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut whole: Option<Interval> = None;
    let mut striking: Option<Interval> = None;
    while let Some(sample) = sink.try_pull_sample(PATIENCE) {
        let buffer = sample.buffer().unwrap();
        let segment = sample.segment().unwrap();
        let segment = segment.downcast_ref::<gst::ClockTime>().unwrap();
        let start = segment.to_running_time(buffer.pts().unwrap()).unwrap();
        let (start, length) = (seconds(start), seconds(buffer.duration().unwrap()));
        whole = Some((whole.map_or(start, |whole| whole.0), start + length));
        let parts = strikes(&buffer.map_readable().unwrap());
        for (index, _) in parts.iter().enumerate().filter(|(_, strikes)| **strikes) {
            let at = |index: usize| start + length * index as f64 / parts.len() as f64;
            let begin = striking.map_or(at(index), |striking| striking.0);
            striking = Some((begin, at(index + 1)));
        }
    }
    assert!(sink.is_eos(), "{}", file.display());
    pipeline.set_state(gst::State::Null).unwrap();
    Played {
        whole: whole.unwrap(),
        striking: striking.unwrap(),
    }
}

fn seconds(time: gst::ClockTime) -> f64 {
    time.nseconds() as f64 / 1e9
}
