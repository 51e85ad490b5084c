//! Reads the frames of a video. Whatever GStreamer can decode is read.

use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use gst_video::VideoFrameExt;
use image::RgbImage;

use crate::element::made;
use crate::failure::Watch;
use crate::header::{lacks_index_of_mp4, length_of_avi};
use crate::reach::Reach;
use crate::tracks::{Found, format, is_kind, lead_nowhere, look_at_tracks};

/// How long to wait for a frame before looking at the bus again.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_mseconds(50);

/// So much is missing from no video that is whole.
const MUCH_MISSING: gst::ClockTime = gst::ClockTime::from_mseconds(500);
/// What is shorter may be the last frame's own time, or that of rounded figures; what is longer is told
/// if it is a fiftieth of the whole.
const LEAST_MISSING: gst::ClockTime = gst::ClockTime::from_mseconds(200);
const SHARE_MISSING: u64 = 50;
/// How long the rest of a file, which is not decoded, may take.
const LONGEST_REST: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// A pipeline that decodes a file into packed RGB frames.
pub struct Reader {
    path: PathBuf,
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    watch: Watch,
    reach: Reach,
    length: OnceCell<Option<gst::ClockTime>>,
    /// Where the frames end that have been read.
    end: Cell<gst::ClockTime>,
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

        let source = made("uridecodebin")?;
        source.set_property("uri", uri.as_str());
        // Sound is not decoded, so that it may be broken.
        source.connect("autoplug-continue", false, |arguments| {
            let caps = arguments
                .get(2)
                .and_then(|caps| caps.get::<gst::Caps>().ok());
            Some((!caps.is_some_and(|caps| is_kind(&caps, "audio/"))).to_value())
        });
        let flip = made("videoflip")?;
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
        let (convert, scale) = (made("videoconvert")?, made("videoscale")?);
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
            move |source, pad| {
                let caps = format(pad);
                // Of several video tracks the first is taken.
                if is_kind(&caps, "video/") && !entry.is_linked() && pad.link(&entry).is_ok() {
                    found.store(true, Ordering::SeqCst);
                } else if is_kind(&caps, "audio/") {
                    // A file may be read to its end only where somebody takes its sound, too; if this
                    // fails, it ends with the picture.
                    let _ = lead_nowhere(source, pad);
                }
            }
        });
        source.connect_no_more_pads(move |source| {
            if !found.load(Ordering::SeqCst) {
                gst::element_error!(source, gst::StreamError::WrongType, ["no video track"]);
            }
        });

        let reach = Reach::default();
        look_at_tracks(&pipeline, {
            let reach = reach.clone();
            move |found| {
                if let Found::Track(pad) = found {
                    reach.look_at(pad);
                }
            }
        });
        let reader = Self {
            path: video.to_owned(),
            reach,
            watch: Watch::over(&pipeline)?,
            pipeline,
            sink,
            length: OnceCell::new(),
            end: Cell::default(),
        };
        if reader.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(reader
                .failure()
                .unwrap_or_else(|| anyhow!("{} cannot be opened", video.display())));
        }
        Ok(reader)
    }

    /// How long the video says that it is.
    pub fn length(&self) -> Option<gst::ClockTime> {
        *self.length.get_or_init(|| {
            let (_, _, _) = self.pipeline.state(gst::ClockTime::from_seconds(5));
            let found: Option<gst::ClockTime> = self.pipeline.query_duration();
            found.max(length_of_avi(&self.path))
        })
    }

    /// What is to be told of a video that was read until it ended or, for this reason, could not be read
    /// further: how much of it was there. `None` if that was all.
    pub fn breaks_off(&self, reason: Option<anyhow::Error>) -> Option<anyhow::Error> {
        let length = self.length().filter(|length| self.misses_some_of(*length));
        let cut = length.map(|_| anyhow!("the file seems to have been cut off"));
        let seconds = |time: gst::ClockTime| format!("{:.1} s", time.mseconds() as f64 / 1e3);
        let mut what = format!("the first {}", seconds(self.end.get()));
        if let Some(length) = length {
            what += &format!(" of the {} that it says it lasts", seconds(length));
        }
        let name = self.path.display();
        Some(
            reason
                .or(cut)?
                .context(format!("{name}: only {what} could be read")),
        )
    }

    /// Some formats end without a word where their file has been cut off, but say how long the whole was.
    fn misses_some_of(&self, length: gst::ClockTime) -> bool {
        let is_short = || {
            let missing = length.saturating_sub(self.reach.end().max(self.end.get()));
            missing > MUCH_MISSING
                || missing > LEAST_MISSING && missing.nseconds() > length.nseconds() / SHARE_MISSING
        };
        // What is no container estimates its length.
        if self.reach.end() == gst::ClockTime::ZERO || !is_short() {
            return false;
        }
        // Sound may last longer than the picture.
        self.watch.wait_for_end(LONGEST_REST);
        is_short()
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
                let (picture, time) = self.picture(&sample)?;
                let duration = sample.buffer().and_then(|frame| frame.duration());
                self.end.set(time + duration.unwrap_or_default());
                return Ok(Some((picture, time)));
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
        read().with_context(|| {
            let name = self.path.display();
            format!("{name}: GStreamer gave a frame that is not RGB")
        })
    }

    /// The error that stopped the pipeline, if one did.
    fn failure(&self) -> Option<anyhow::Error> {
        let failure = self.watch.failure()?;
        let name = self.path.display();
        Some(if lacks_index_of_mp4(&self.path) {
            anyhow!(
                "{name}: its index (the box moov) is missing, without which nothing of it can be read; \
                 the file has been cut off, or whatever wrote it was stopped"
            )
        } else if failure.is_of_another_kind() {
            anyhow!("{name} is not a video that GStreamer knows")
        } else {
            failure.sentence(&name.to_string())
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Nothing is left to do where stopping fails.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
