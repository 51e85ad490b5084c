//! Frames for other programs of the family, which do not link GStreamer: a video's to the standard
//! output, and from the standard input into a video.

use std::io::{BufReader, BufWriter};
use std::panic::resume_unwind;
use std::path::Path;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use gst::prelude::*;
use munit_tools::program::sentence;
use munit_tools::video::{
    Audio, Carried, Frame, FrameFormat, read_format, read_frame, write_audio, write_end,
    write_format, write_frame,
};

use crate::audio::AudioReader;
use crate::container::Container;
use crate::reader::Reader;

/// Frames between the pipe and the encoder.
const FRAMES_IN_FLIGHT: u64 = 4;
/// Of sound between its reader and the muxer, which takes it with the frames of its time.
const BYTES_IN_FLIGHT: u64 = 1 << 20;
/// How long to wait before looking again whether the encoder takes another.
const PATIENCE: Duration = Duration::from_millis(1);
const NO_BUS: &str = "the pipeline has no bus";

/// Writes the frames of `video` to the standard output, and what is to be told of it if it breaks off.
///
/// # Errors
/// A video of which nothing can be decoded.
pub fn decode(video: &Path) -> Result<()> {
    let reader = Reader::open(video)?;
    let mut output = BufWriter::new(std::io::stdout().lock());
    let mut size = None;
    let remark = loop {
        let (picture, time) = match reader.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => break reader.breaks_off(None),
            Err(reason) if size.is_some() => break reader.breaks_off(Some(reason)),
            Err(reason) => return Err(reason),
        };
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
    };
    ensure!(
        size.is_some(),
        "{} has no frame that can be decoded",
        video.display()
    );
    Ok(write_end(
        &mut output,
        remark.as_ref().map(sentence).as_deref(),
    )?)
}

/// Writes the frames that come on the standard input into `video`, which appears when all is done, with
/// the sound of the video `audio_of`. What becomes of the sound stands on the standard output: a line when
/// the first frame is expected, another when all is done.
///
/// # Errors
/// Frames that break off before their end; a name that no container goes by, a missing encoder, a full disk.
/// Sound that cannot be read, or that the container refuses in every form, is left out.
pub fn encode(video: &Path, audio_of: Option<&Path>) -> Result<()> {
    gst::init().context("GStreamer does not start")?;
    let container = Container::of(video)?;
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
    let (audio, mut audio_done) = match audio_of {
        Some(audio_of) => found_audio(audio_of, container),
        None => (None, Audio::from(Carried::LeftOut)),
    };
    let not_whole = || format!("{}: not written", video.display());
    let pipeline = Encoder::start(container, part.path(), format, audio).with_context(not_whole)?;
    write_audio(std::io::stdout(), &audio_done)?;
    while let Some(frame) = read_frame(&mut input, format).with_context(not_whole)? {
        pipeline.push(frame).with_context(not_whole)?;
    }
    let problem = pipeline.finish().with_context(not_whole)?;
    audio_done.problem = problem.or(audio_done.problem);
    part.persist(video)
        .with_context(|| format!("{}: cannot write", video.display()))?;
    Ok(write_audio(std::io::stdout(), &audio_done)?)
}

/// The sound of `video` for a file of `container`, and what becomes of it.
fn found_audio(video: &Path, container: Container) -> (Option<AudioReader>, Audio) {
    match AudioReader::open(video, container) {
        Ok(Some(reader)) => {
            let carried = reader.carried();
            (Some(reader), carried.into())
        }
        Ok(None) => (None, Carried::Nothing.into()),
        Err(problem) => {
            let problem = sentence(&problem);
            let problem = format!("the sound of {} is left out: {problem}", video.display());
            let audio = Audio {
                carried: Carried::LeftOut,
                problem: Some(problem),
            };
            (None, audio)
        }
    }
}

struct Encoder {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    /// Gives sound to the pipeline until it ends; says why, if that is not its own end.
    audio: Option<JoinHandle<Option<String>>>,
}

impl Encoder {
    fn start(
        container: Container,
        file: &Path,
        format: FrameFormat,
        audio: Option<AudioReader>,
    ) -> Result<Self> {
        let Container {
            video_encoder,
            muxer,
            ..
        } = container;
        let mut line = format!(
            "{muxer} name=muxer ! filesink name=file appsrc name=frames ! videoconvert ! videoscale \
             ! video/x-raw,format=I420,width=[2,16384,2],height=[2,16384,2],pixel-aspect-ratio=1/1 \
             ! {video_encoder} ! muxer.video_0"
        );
        if audio.is_some() {
            line += " appsrc name=sound ! queue ! muxer.audio_0";
        }
        let pipeline = gst::parse::launch(&line)
            .context("the encoder cannot be set up")?
            .downcast::<gst::Pipeline>()
            .map_err(|_| anyhow!("the encoder is no pipeline"))?;
        let named = |name| pipeline.by_name(name).context("an element is missing");
        named("file")?.set_property("location", file);
        let source = |name| -> Result<gst_app::AppSrc> {
            let source = named(name)?.downcast::<gst_app::AppSrc>();
            source.map_err(|_| anyhow!("the source is no appsrc"))
        };
        let audio = match audio {
            Some(reader) => {
                let sound = source("sound")?;
                sound.set_caps(reader.caps());
                sound.set_format(gst::Format::Time);
                sound.set_max_bytes(BYTES_IN_FLIGHT);
                sound.set_block(true);
                Some((reader, sound))
            }
            None => None,
        };
        let source = source("frames")?;
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
        let audio = audio.map(|(reader, source)| spawn(|| give(reader, source)));
        let encoder = Self {
            pipeline,
            source,
            audio,
        };
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
            // A timed wait of no time takes no message from the bus.
            let bus = self.pipeline.bus().context(NO_BUS)?;
            if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
                return Err(described(&message));
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

    /// Waits until the file is complete; says where its sound breaks off, if it does.
    fn finish(mut self) -> Result<Option<String>> {
        if self.source.end_of_stream().is_err() {
            return Err(self.failure());
        }
        let bus = self.pipeline.bus().context(NO_BUS)?;
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        match bus.timed_pop_filtered(gst::ClockTime::NONE, &ends) {
            Some(message) if message.type_() == gst::MessageType::Eos => (),
            Some(message) => return Err(described(&message)),
            None => bail!("the encoder ended without a word"),
        }
        let audio = self.audio.take().map(JoinHandle::join);
        Ok(audio.and_then(|ended| ended.unwrap_or_else(|panic| resume_unwind(panic))))
    }

    /// Why the pipeline has stopped.
    fn failure(&self) -> anyhow::Error {
        let errors = [gst::MessageType::Error];
        let message = self
            .pipeline
            .bus()
            .and_then(|bus| bus.timed_pop_filtered(gst::ClockTime::from_seconds(1), &errors));
        message.map_or_else(
            || anyhow!("the encoder does not take frames"),
            |message| described(&message),
        )
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // Nothing is left to do where stopping fails.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Gives all that `reader` reads to `source`; says why it breaks off, if it does.
fn give(mut reader: AudioReader, source: gst_app::AppSrc) -> Option<String> {
    let broken_off = loop {
        let piece = match reader.next() {
            Ok(Some(piece)) => piece,
            Ok(None) => break None,
            Err(problem) => {
                let end = reader.end().mseconds() as f64 / 1e3;
                let (name, problem) = (reader.name(), sentence(&problem));
                break Some(format!("{name} breaks off at {end:.1} s: {problem}"));
            }
        };
        // The pipeline, which says what is wrong, takes no more.
        if source.push_buffer(piece).is_err() {
            break None;
        }
    };
    // Refused by a pipeline that has stopped, which needs no end.
    let _ = source.end_of_stream();
    broken_off
}

fn described(message: &gst::Message) -> anyhow::Error {
    let gst::MessageView::Error(message) = message.view() else {
        return anyhow!("the video cannot be encoded");
    };
    let error = message.error();
    match error.kind::<gst::ResourceError>() {
        Some(gst::ResourceError::NoSpaceLeft) => anyhow!("no space is left on the disk"),
        _ => anyhow!(
            "the video cannot be encoded: {}",
            error.message().trim_end_matches('.')
        ),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_full_disk_is_noticed_while_frames_come_and_at_the_end() {
        gst::init().unwrap();
        let format = FrameFormat {
            width: 64,
            height: 48,
            rate: [25, 1],
        };
        // Of the first, the encoder has more than it keeps back; of the second, less.
        for frames in [10_000, 1] {
            let (tell, told) = channel();
            spawn(move || {
                let container = Container::of(Path::new("full.webm")).unwrap();
                let file = Path::new("/dev/full");
                let encoder = Encoder::start(container, file, format, None).unwrap();
                let pushed = (0..frames).try_for_each(|number: u64| {
                    let noise = |x: u32, y: u32| {
                        let value = (x * 7919 + y * 104_729).wrapping_mul(2 * number as u32 + 1);
                        image::Rgb([value, value >> 3, value >> 7].map(|part| part as u8))
                    };
                    let picture = image::RgbImage::from_fn(format.width, format.height, noise);
                    let time = number * 40_000_000;
                    encoder.push(Frame { picture, time })
                });
                assert_eq!(pushed.is_err(), frames > 1);
                let end = pushed.and_then(|()| encoder.finish().map(drop));
                tell.send(end.unwrap_err().to_string()).unwrap();
            });
            let problem = told.recv_timeout(Duration::from_secs(120)).unwrap();
            assert_eq!(problem, "no space is left on the disk");
        }
    }
}
