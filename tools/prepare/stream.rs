//! Frames for other programs of the family, which do not link GStreamer: a video's to the standard
//! output, and from the standard input into a video.

use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use gst::prelude::*;
use munit_tools::video::{
    Frame, FrameFormat, read_format, read_frame, write_end, write_format, write_frame,
};

use crate::frames::Reader;

/// Frames between the pipe and the encoder.
const FRAMES_IN_FLIGHT: u64 = 4;
/// How long to wait before looking again whether the encoder takes another.
const PATIENCE: Duration = Duration::from_millis(1);

/// Writes the frames of `video` to the standard output.
///
/// # Errors
/// A video that cannot be decoded.
pub fn decode(video: &Path) -> Result<()> {
    let reader = Reader::open(video)?;
    let mut output = BufWriter::new(std::io::stdout().lock());
    let mut size = None;
    while let Some((picture, time)) = reader.next()? {
        let (width, height) = picture.dimensions();
        match size {
            None => {
                let rate = reader.rate();
                let format = FrameFormat {
                    width,
                    height,
                    rate,
                };
                write_format(&mut output, format)?;
                size = Some((width, height));
            }
            Some(size) => ensure!(
                size == (width, height),
                "{}: its frames change their size",
                video.display()
            ),
        }
        let time = time.nseconds();
        write_frame(&mut output, &Frame { picture, time })?;
    }
    ensure!(
        size.is_some(),
        "{} has no frame that can be decoded",
        video.display()
    );
    Ok(write_end(&mut output)?)
}

/// Writes the frames that come on the standard input into `video`, which appears when all is done.
///
/// # Errors
/// Frames that break off before their end; a name that no container goes by, a missing encoder, a full disk.
pub fn encode(video: &Path) -> Result<()> {
    gst::init().context("GStreamer does not start")?;
    let (encoder, muxer) = elements(video)?;
    let mut input = BufReader::new(std::io::stdin().lock());
    let format = read_format(&mut input)?.context("no frames came")?;
    let folder = match video.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: cannot make this folder", folder.display()))?;
    let part = tempfile::Builder::new()
        .prefix(".munit-")
        .suffix(".part")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
        .with_context(|| format!("{}: cannot write", video.display()))?;
    let pipeline = Encoder::start(&encoder, &muxer, part.path(), format)?;
    let not_whole = || format!("{}: not written", video.display());
    while let Some(frame) = read_frame(&mut input, format).with_context(not_whole)? {
        pipeline.push(frame)?;
    }
    pipeline.finish()?;
    part.persist(video)
        .with_context(|| format!("{}: cannot write", video.display()))?;
    Ok(())
}

/// Encoder and container as parts of a launch line: players want H.264 with even sides and
/// quarter-size colour; VP8 plays as widely.
fn elements(video: &Path) -> Result<(String, String)> {
    const H264: [&str; 2] = [
        "x264enc speed-preset=faster pass=qual quantizer=20 ! h264parse",
        "openh264enc bitrate=8000000 ! h264parse",
    ];
    const VP8: [&str; 1] = ["vp8enc deadline=1 cq-level=10 end-usage=cq target-bitrate=20000000"];
    let ending = video.extension().and_then(|ending| ending.to_str());
    let (encoders, muxer): (&[&str], &str) = match ending.map(str::to_lowercase).as_deref() {
        Some("mp4" | "m4v") => (&H264, "mp4mux"),
        Some("mov") => (&H264, "qtmux"),
        Some("mkv") => (&[H264[0], H264[1], VP8[0]], "matroskamux"),
        Some("webm") => (&VP8, "webmmux"),
        _ => bail!(
            "{}: cannot tell the format from this name; end it in .mp4, .mov, .mkv or .webm",
            video.display()
        ),
    };
    let here = |element: &str| {
        let name = element.split_whitespace().next().unwrap_or_default();
        gst::ElementFactory::find(name).is_some()
    };
    let found = encoders
        .iter()
        .find(|encoder| encoder.split('!').all(&here));
    let (Some(encoder), true) = (found, here(muxer)) else {
        let names = encoders
            .iter()
            .filter_map(|encoder| encoder.split_whitespace().next());
        bail!(
            "{}: GStreamer lacks {} with {muxer} here; install its good, bad or ugly plugins \
             (Debian: gstreamer1.0-plugins-good, -bad or -ugly), or choose another ending",
            video.display(),
            names.collect::<Vec<_>>().join(" or ")
        );
    };
    Ok(((*encoder).to_owned(), muxer.to_owned()))
}

struct Encoder {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
}

impl Encoder {
    fn start(encoder: &str, muxer: &str, file: &Path, format: FrameFormat) -> Result<Self> {
        let line = format!(
            "appsrc name=frames ! videoconvert ! videoscale \
             ! video/x-raw,format=I420,width=[2,16384,2],height=[2,16384,2],pixel-aspect-ratio=1/1 \
             ! {encoder} ! {muxer} ! filesink name=file"
        );
        let pipeline = gst::parse::launch(&line)
            .context("the encoder cannot be set up")?
            .downcast::<gst::Pipeline>()
            .map_err(|_| anyhow!("the encoder is no pipeline"))?;
        let named = |name| pipeline.by_name(name).context("an element is missing");
        named("file")?.set_property("location", file);
        let source = named("frames")?
            .downcast::<gst_app::AppSrc>()
            .map_err(|_| anyhow!("the source is no appsrc"))?;
        let side = |side: u32| i32::try_from(side).unwrap_or(i32::MAX);
        let info =
            gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, format.width, format.height)
                .fps(gst::Fraction::new(
                    side(format.rate[0]),
                    side(format.rate[1]).max(1),
                ))
                .build()
                .context("frames of this size cannot be encoded")?;
        source.set_caps(Some(&info.to_caps()?));
        source.set_format(gst::Format::Time);
        // Waiting is done in `push`, which sees when the encoder has failed.
        source.set_max_bytes(0);
        let encoder = Self { pipeline, source };
        if encoder.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(encoder.failure());
        }
        Ok(encoder)
    }

    fn push(&self, frame: Frame) -> Result<()> {
        // GStreamer's rows begin at multiples of four bytes.
        let row = 3 * frame.picture.width() as usize;
        let mut bytes =
            Vec::with_capacity(row.next_multiple_of(4) * frame.picture.height() as usize);
        for line in frame.picture.as_raw().chunks_exact(row) {
            bytes.extend_from_slice(line);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let most = FRAMES_IN_FLIGHT * bytes.len() as u64;
        while self.source.current_level_bytes() >= most {
            if let Some(problem) = self.problem(gst::ClockTime::ZERO) {
                return Err(problem);
            }
            sleep(PATIENCE);
        }
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_nseconds(frame.time));
        }
        match self.source.push_buffer(buffer) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.failure()),
        }
    }

    fn finish(self) -> Result<()> {
        if self.source.end_of_stream().is_err() {
            return Err(self.failure());
        }
        let bus = self.pipeline.bus().context("the pipeline has no bus")?;
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        match bus.timed_pop_filtered(gst::ClockTime::NONE, &ends) {
            Some(message) if message.type_() == gst::MessageType::Eos => Ok(()),
            Some(message) => Err(described(&message)),
            None => bail!("the encoder ended without a word"),
        }
    }

    /// Why the pipeline has stopped, if that is told within this time.
    fn problem(&self, patience: gst::ClockTime) -> Option<anyhow::Error> {
        let bus = self.pipeline.bus()?;
        let message = bus.timed_pop_filtered(patience, &[gst::MessageType::Error])?;
        Some(described(&message))
    }

    fn failure(&self) -> anyhow::Error {
        self.problem(gst::ClockTime::from_seconds(1))
            .unwrap_or_else(|| anyhow!("the encoder does not take frames"))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // Nothing is left to do where stopping fails.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn described(message: &gst::Message) -> anyhow::Error {
    match message.view() {
        gst::MessageView::Error(error) => anyhow!(
            "the video cannot be encoded: {}",
            error.error().message().trim_end_matches('.')
        ),
        _ => anyhow!("the video cannot be encoded"),
    }
}
