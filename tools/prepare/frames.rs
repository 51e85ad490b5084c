//! Cuts a video into pictures. Whatever GStreamer can decode is read.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use gst_video::VideoFrameExt;
use image::RgbImage;
use indicatif::{ProgressBar, ProgressStyle};
use munit_tools::prepare::folder::{Format, refuse_existing, resized};

use crate::failure::Watch;
use crate::tracks::{format, is_kind};

/// How long to wait for a frame before looking at the bus again.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_mseconds(50);

/// A video may end so much earlier than it says: its last frame lasts, too.
const LEAST_MISSING: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// Which frames are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// The first of every so many.
    Every(u64),
    /// So many for each second of the video's own time; all, where it has fewer.
    PerSecond(f64),
}

/// What to write.
#[derive(Clone, Copy, Debug)]
pub struct FrameOptions {
    /// Which frames are kept.
    pub rate: Rate,
    /// The largest number of pictures.
    pub most: Option<u64>,
    /// Shorter side of the pictures.
    pub size: Option<u32>,
    /// Their format.
    pub format: Format,
    /// Replace frames of a video of this name that are in the folder already.
    pub replace: bool,
}

/// Writes frames of `video` into `output` as `NAME-000001`, `NAME-000002`, … after the video's file
/// name; returns their number and, if the video could not be read to its end, the reason.
///
/// Frames are upright (rotation tags applied) and have square pixels. Where frames are replaced, none
/// is left of those that were there before.
///
/// # Errors
/// When the file is missing, is not a video, needs a decoder that is not installed, or has no frame
/// that can be decoded; when a picture cannot be written, or would replace another and may not.
pub fn cut(
    video: &Path,
    output: &Path,
    options: &FrameOptions,
) -> Result<(u64, Option<anyhow::Error>)> {
    let reader = Reader::open(video)?;
    let stem = video.file_stem().unwrap_or(video.as_os_str());
    let earlier = frames_of(stem, output);
    if !options.replace {
        refuse_existing(earlier.iter().map(|(_, path)| path.clone()))?;
    }
    let length = reader.length();
    let bar = match length {
        Some(length) => ProgressBar::new(length.mseconds()),
        None => ProgressBar::no_length(),
    }
    .with_style(ProgressStyle::default_bar());
    let mut picker = Picker::new(options.rate);
    let mut written = 0;
    let mut problem = None;
    let mut last = gst::ClockTime::ZERO;
    while options.most.is_none_or(|most| written < most) {
        let (picture, time) = match reader.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                problem = length.and_then(|length| cut_off(video, last, length));
                break;
            }
            Err(reason) if written > 0 => {
                problem = Some(reason);
                break;
            }
            Err(reason) => return Err(reason),
        };
        bar.set_position(time.mseconds());
        last = time;
        if !picker.keeps(time) {
            continue;
        }
        let picture = match options.size {
            Some(side) => resized(picture, side)?,
            None => picture,
        };
        written += 1;
        let mut name = stem.to_os_string();
        name.push(format!("-{written:06}.{}", options.format.extension()));
        options.format.write(&picture, &output.join(name))?;
    }
    bar.finish();
    if written == 0 {
        bail!("{} has no frame that can be decoded", video.display());
    }
    let ending = options.format.extension();
    for (number, path) in earlier {
        if number > written || path.extension().is_none_or(|one| one != ending) {
            std::fs::remove_file(&path)
                .with_context(|| format!("{}: cannot be replaced", path.display()))?;
        }
    }
    Ok((written, problem))
}

/// Some formats end without a word where their file has been cut off, but say how long the whole was.
fn cut_off(video: &Path, last: gst::ClockTime, length: gst::ClockTime) -> Option<anyhow::Error> {
    let missing = length.saturating_sub(last);
    (missing > LEAST_MISSING && missing.nseconds() > length.nseconds() / 10).then(|| {
        let seconds = |time: gst::ClockTime| time.mseconds() as f64 / 1e3;
        anyhow!(
            "{}: its last frame is at {:.1} s, but it says that it lasts {:.1} s; the file seems to \
             have been cut off",
            video.display(),
            seconds(last),
            seconds(length)
        )
    })
}

/// The frames of a video called `stem` that are in `folder` already, by their numbers.
fn frames_of(stem: &OsStr, folder: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut frames: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.path();
            let ending = path.extension()?.to_str()?;
            let name = path.file_stem()?.as_encoded_bytes();
            let digits = name
                .strip_prefix(stem.as_encoded_bytes())?
                .strip_prefix(b"-")?;
            let is_frame = digits.len() >= 6
                && digits.iter().all(u8::is_ascii_digit)
                && [Format::Png, Format::Jpeg]
                    .map(Format::extension)
                    .contains(&ending);
            let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
            is_frame.then_some((number, path))
        })
        .collect();
    frames.sort();
    frames
}

/// Chooses frames by number or by time.
struct Picker {
    rate: Rate,
    seen: u64,
    kept: u64,
    first: Option<gst::ClockTime>,
}

impl Picker {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            seen: 0,
            kept: 0,
            first: None,
        }
    }

    fn keeps(&mut self, time: gst::ClockTime) -> bool {
        let first = *self.first.get_or_insert(time);
        let keeps = match self.rate {
            Rate::Every(count) => self.seen.is_multiple_of(count.max(1)),
            Rate::PerSecond(rate) => {
                let seconds = time.saturating_sub(first).nseconds() as f64 / 1e9;
                // Half a millisecond absorbs the rounding of time stamps.
                let due = ((seconds + 5e-4) * rate).floor() as u64 + 1;
                let keeps = due > self.kept;
                self.kept = due.max(self.kept);
                keeps
            }
        };
        self.seen += 1;
        keeps
    }
}

/// A pipeline that decodes a file into packed RGB frames.
pub struct Reader {
    name: String,
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    watch: Watch,
}

impl Reader {
    /// Begins to decode.
    ///
    /// # Errors
    /// A file that is missing or is no video.
    pub fn open(video: &Path) -> Result<Self> {
        let kind =
            std::fs::metadata(video).with_context(|| format!("cannot read {}", video.display()))?;
        if !kind.is_file() {
            bail!("{} is not a file; one video is expected", video.display());
        }
        gst::init().context("GStreamer does not start")?;
        let path = video
            .canonicalize()
            .with_context(|| format!("cannot read {}", video.display()))?;
        let uri = gst::glib::filename_to_uri(&path, None)
            .with_context(|| format!("{} has no URI", path.display()))?;

        let make = |factory: &str| {
            gst::ElementFactory::make(factory).build().map_err(|_| {
                anyhow!(
                    "GStreamer has no element {factory}; install its base and good plugins \
                     (Debian: gstreamer1.0-plugins-base, gstreamer1.0-plugins-good)"
                )
            })
        };
        let source = make("uridecodebin")?;
        source.set_property("uri", uri.as_str());
        // Sound is not decoded, so that it may be broken.
        source.connect("autoplug-continue", false, |arguments| {
            let caps = arguments
                .get(2)
                .and_then(|caps| caps.get::<gst::Caps>().ok());
            Some((!caps.is_some_and(|caps| is_kind(&caps, "audio/"))).to_value())
        });
        let flip = make("videoflip")?;
        flip.set_property_from_str("video-direction", "auto");
        let sink = gst_app::AppSink::builder()
            .sync(false)
            .max_buffers(4)
            .caps(
                &gst_video::VideoCapsBuilder::new()
                    .format(gst_video::VideoFormat::Rgb)
                    .pixel_aspect_ratio((1, 1).into())
                    .build(),
            )
            .build();
        let (convert, scale) = (make("videoconvert")?, make("videoscale")?);
        let chain = [&convert, &flip, &scale, sink.upcast_ref()];
        let pipeline = gst::Pipeline::new();
        pipeline.add(&source)?;
        pipeline.add_many(chain)?;
        gst::Element::link_many(chain)?;

        let entry = convert
            .static_pad("sink")
            .context("videoconvert has no sink pad")?;
        let found = Arc::new(AtomicBool::new(false));
        source.connect_pad_added({
            let found = Arc::clone(&found);
            move |_, pad| {
                let is_video = is_kind(&format(pad), "video/");
                // Of several video tracks the first is taken.
                if is_video && !entry.is_linked() && pad.link(&entry).is_ok() {
                    found.store(true, Ordering::SeqCst);
                }
            }
        });
        source.connect_no_more_pads(move |source| {
            if !found.load(Ordering::SeqCst) {
                gst::element_error!(source, gst::StreamError::WrongType, ["no video track"]);
            }
        });

        let reader = Self {
            name: video.display().to_string(),
            watch: Watch::over(&pipeline)?,
            pipeline,
            sink,
        };
        if reader.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(reader
                .failure()
                .unwrap_or_else(|| anyhow!("{} cannot be opened", reader.name)));
        }
        Ok(reader)
    }

    /// How long the video says that it is.
    fn length(&self) -> Option<gst::ClockTime> {
        let (_, _, _) = self.pipeline.state(gst::ClockTime::from_seconds(5));
        self.pipeline.query_duration()
    }

    /// Frames a second as they are announced, once the first frame is there; 0/1 if that is unknown.
    pub fn rate(&self) -> [u32; 2] {
        let caps = self
            .sink
            .static_pad("sink")
            .and_then(|pad| pad.current_caps());
        let info = caps.and_then(|caps| gst_video::VideoInfo::from_caps(&caps).ok());
        info.map_or([0, 1], |info| {
            let rate = info.fps();
            [rate.numer(), rate.denom()].map(|part| u32::try_from(part).unwrap_or(0))
        })
    }

    /// The next frame and when it is shown, counted from the video's beginning; `None` at the end.
    ///
    /// # Errors
    /// What cannot be decoded.
    pub fn next(&self) -> Result<Option<(RgbImage, gst::ClockTime)>> {
        loop {
            if let Some(sample) = self.sink.try_pull_sample(PATIENCE) {
                return self.picture(&sample).map(Some);
            }
            if let Some(problem) = self.failure() {
                return Err(problem);
            }
            if self.sink.is_eos() {
                return Ok(None);
            }
        }
    }

    fn picture(&self, sample: &gst::Sample) -> Result<(RgbImage, gst::ClockTime)> {
        let read = || {
            let buffer = sample.buffer()?;
            let info = gst_video::VideoInfo::from_caps(sample.caps()?).ok()?;
            let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).ok()?;
            let stride = usize::try_from(*frame.plane_stride().first()?).ok()?;
            let data = frame.plane_data(0).ok()?;
            let row = 3 * frame.width() as usize;
            let mut pixels = Vec::with_capacity(row * frame.height() as usize);
            for line in data.chunks(stride.max(1)).take(frame.height() as usize) {
                pixels.extend_from_slice(line.get(..row)?);
            }
            let picture = RgbImage::from_raw(frame.width(), frame.height(), pixels)?;
            let time = buffer.pts().unwrap_or_default();
            // Time stamps are not those of a player where a file begins with what is not shown, or is a
            // part of a broadcast.
            let segment = sample.segment()?.downcast_ref::<gst::ClockTime>();
            let shown = segment.and_then(|segment| segment.to_running_time(time));
            Some((picture, shown.unwrap_or(time)))
        };
        read().with_context(|| format!("{}: GStreamer gave a frame that is not RGB", self.name))
    }

    /// The error that stopped the pipeline, if one did.
    fn failure(&self) -> Option<anyhow::Error> {
        let failure = self.watch.failure()?;
        Some(match failure.is_of_another_kind() {
            true => anyhow!("{} is not a video that GStreamer knows", self.name),
            false => failure.sentence(&self.name),
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Nothing is left to do where stopping fails.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(rate: Rate, frames_per_second: f64, count: u64) -> Vec<u64> {
        let mut picker = Picker::new(rate);
        (0..count)
            .filter(|&i| {
                let seconds = 7.0 + i as f64 / frames_per_second;
                picker.keeps(gst::ClockTime::from_nseconds((seconds * 1e9) as u64))
            })
            .collect()
    }

    #[test]
    fn every_third_frame() {
        assert_eq!(kept(Rate::Every(3), 30.0, 10), [0, 3, 6, 9]);
    }

    #[test]
    fn frames_per_second_follow_time_stamps() {
        assert_eq!(kept(Rate::PerSecond(5.0), 30.0, 20), [0, 6, 12, 18]);
        assert_eq!(kept(Rate::PerSecond(20.0), 30.0, 6), [0, 2, 3, 5]);
        assert_eq!(kept(Rate::PerSecond(0.5), 2.0, 9), [0, 4, 8]);
    }

    #[test]
    fn a_rate_above_the_videos_keeps_all_frames() {
        assert_eq!(kept(Rate::PerSecond(60.0), 4.0, 4), [0, 1, 2, 3]);
    }
}
