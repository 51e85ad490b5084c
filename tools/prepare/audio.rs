//! The sound of a video for another one: as it is where the other's container takes it, else encoded
//! anew.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use gst::prelude::*;
use munit_tools::program::sentence;
use munit_tools::video::Carried;

use crate::container::Container;
use crate::element::made;
use crate::failure::Watch;
use crate::reach::Reach;
use crate::tracks::{Found, format, is_kind, lead_nowhere, look_at_tracks};

/// How long to wait for sound before looking at the bus again.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_mseconds(50);
/// Pieces of sound between the one who reads them and the one who wants them.
const PIECES_IN_FLIGHT: u32 = 16;
/// How long a muxer may take for a single piece.
const REHEARSAL: gst::ClockTime = gst::ClockTime::from_seconds(10);
/// Less may be silence that a decoder leaves out.
const LEAST_MISSING: gst::ClockTime = gst::ClockTime::from_mseconds(500);
/// Of sound that does not say how many it has.
const USUAL_CHANNELS: i32 = 2;

/// A pipeline that reads the first track of sound of a file.
pub struct AudioReader {
    name: String,
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    watch: Watch,
    carried: Carried,
    /// The format of the pieces, once one is there.
    caps: Option<gst::Caps>,
    /// The first piece, which has been waited for.
    first: Option<gst::Buffer>,
    /// How far the track reaches, be it decoded or not.
    reach: Reach,
    /// Where that ends which has been read, and a piece begins that does not say it.
    end: gst::ClockTime,
}

/// What is known of the tracks of a file.
#[derive(Default)]
struct Tracks {
    /// Whether demuxers have found one of sound.
    audio: bool,
    /// Whether demuxers have found another one.
    others: bool,
    choice: Choice,
}

/// What becomes of the tracks of a file.
#[derive(Default)]
enum Choice {
    /// They are not all known yet.
    #[default]
    Open,
    /// There is none of sound.
    Nothing,
    /// One of sound is read.
    Taken(Carried),
    /// One of sound cannot be written, for this reason.
    Refused(String),
}

impl Tracks {
    /// What is not chosen by now never will be.
    fn close(&mut self) {
        if matches!(self.choice, Choice::Open) {
            self.choice = match self.audio {
                true => Choice::Refused("it has no beginning that can be decoded".to_owned()),
                false => Choice::Nothing,
            };
        }
    }
}

impl AudioReader {
    /// Begins to read the sound of `video` for a file of `container`; `None` if it has none.
    ///
    /// # Errors
    /// A sentence, if the sound cannot be read or written.
    pub fn open(video: &Path, container: Container) -> Result<Option<Self>> {
        let tracks = Arc::default();
        match Self::begin_rehearsed(video, container, true, &tracks) {
            // The container does not take it in this form after all.
            Err(_) if matches!(locked(&tracks).choice, Choice::Taken(Carried::Copied)) => {
                Self::begin_rehearsed(video, container, false, &Arc::default())
            }
            begun => begun,
        }
    }

    /// The same, once the muxer has taken its first piece. Formats say only in part what muxers take.
    fn begin_rehearsed(
        video: &Path,
        container: Container,
        may_copy: bool,
        tracks: &Arc<Mutex<Tracks>>,
    ) -> Result<Option<Self>> {
        let begun = Self::begin(video, container, may_copy, tracks)?;
        if let Some(reader) = &begun
            && let (Some(caps), Some(piece)) = (&reader.caps, &reader.first)
        {
            rehearse(container.muxer, caps, piece)?;
        }
        Ok(begun)
    }

    fn begin(
        video: &Path,
        container: Container,
        may_copy: bool,
        tracks: &Arc<Mutex<Tracks>>,
    ) -> Result<Option<Self>> {
        let track = Track {
            container,
            may_copy,
            sink: gst_app::AppSink::builder()
                .sync(false)
                .max_buffers(PIECES_IN_FLIGHT)
                .caps(&container.audio_caps()?)
                .build(),
        };
        let sink = track.sink.clone();
        let (file, parser) = (made("filesrc")?, made("parsebin")?);
        file.set_property("location", video);
        let pipeline = gst::Pipeline::new();
        pipeline.add_many([&file, &parser, sink.upcast_ref()])?;
        file.link(&parser)?;
        let reach = Reach::default();
        look_at_tracks(&pipeline, {
            let (tracks, reach) = (Arc::clone(tracks), reach.clone());
            move |found| {
                let mut tracks = locked(&tracks);
                match found {
                    Found::Track(pad) if is_kind(&format(pad), "audio/") => {
                        // Of several the first is taken.
                        if !tracks.audio {
                            reach.look_at(pad);
                        }
                        tracks.audio = true;
                    }
                    Found::Track(_) => tracks.others = true,
                    Found::All if !tracks.audio => tracks.close(),
                    Found::All => (),
                }
            }
        });
        parser.connect_pad_added({
            let (tracks, pipeline) = (Arc::clone(tracks), pipeline.downgrade());
            move |parser, pad| {
                let Some(pipeline) = pipeline.upgrade() else {
                    return;
                };
                let caps = format(pad);
                let mut known = locked(&tracks);
                if is_kind(&caps, "audio/") && matches!(known.choice, Choice::Open) {
                    known.choice = match track.connect(&pipeline, pad, &caps) {
                        Ok(carried) => Choice::Taken(carried),
                        Err(problem) => Choice::Refused(sentence(&problem)),
                    };
                } else if known.audio || known.others {
                    close_at_end(pad, Arc::clone(&tracks));
                    // What fails here is told on the bus, as nothing takes this track.
                    let _ = lead_nowhere(parser, pad);
                } else {
                    // A row of pictures is no container, and has no other tracks.
                    known.close();
                }
            }
        });
        let mut reader = Self {
            name: format!("the sound of {}", video.display()),
            watch: Watch::over(&pipeline)?,
            pipeline,
            sink,
            carried: Carried::Copied,
            caps: None,
            first: None,
            reach,
            end: gst::ClockTime::ZERO,
        };
        if reader.pipeline.set_state(gst::State::Playing).is_err() {
            let failure = reader.failure();
            return Err(failure.unwrap_or_else(|| anyhow!("it cannot be opened")));
        }
        let first = reader.wait(|| match &locked(tracks).choice {
            Choice::Nothing => Some(Ok(())),
            Choice::Refused(reason) => Some(Err(anyhow!("{reason}"))),
            Choice::Open | Choice::Taken(_) => None,
        });
        // Not held while the pipeline, whose threads want it, is stopped.
        let (audio, carried) = match &*locked(tracks) {
            Tracks {
                audio,
                choice: Choice::Taken(carried),
                ..
            } => (*audio, *carried),
            Tracks { audio, .. } => (*audio, Carried::Nothing),
        };
        reader.carried = carried;
        reader.first = match audio {
            true => first?,
            // Whatever has stopped it.
            false => None,
        };
        // A track may hold nothing.
        Ok(reader.first.is_some().then_some(reader))
    }

    /// Which sound it is, as part of a sentence.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is read.
    pub fn carried(&self) -> Carried {
        self.carried
    }

    /// The format of what is read.
    pub fn caps(&self) -> Option<&gst::Caps> {
        self.caps.as_ref()
    }

    /// Where that ends which has been read.
    pub fn end(&self) -> gst::ClockTime {
        self.end
    }

    /// The next piece, with the time at which it is heard as its time stamp, counted from the video's
    /// beginning; `None` at the end.
    ///
    /// # Errors
    /// What cannot be decoded, be it the end only.
    pub fn next(&mut self) -> Result<Option<gst::Buffer>> {
        let next = match self.first.take() {
            Some(first) => Some(first),
            None => self.wait(|| None)?,
        };
        let missing = self.reach.end().saturating_sub(self.end);
        ensure!(
            next.is_some() || missing < LEAST_MISSING,
            "what is behind cannot be decoded"
        );
        Ok(next)
    }

    /// The next piece, unless there is none for the reason that `ended` gives.
    fn wait(&mut self, ended: impl Fn() -> Option<Result<()>>) -> Result<Option<gst::Buffer>> {
        loop {
            if let Some(sample) = self.sink.try_pull_sample(PATIENCE) {
                match self.heard(&sample) {
                    Some(piece) => return Ok(Some(piece)),
                    None => continue,
                }
            }
            if let Some(end) = ended() {
                return end.map(|()| None);
            }
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            if self.sink.is_eos() {
                return Ok(None);
            }
        }
    }

    /// A piece with its time, if any of it is to be heard.
    fn heard(&mut self, sample: &gst::Sample) -> Option<gst::Buffer> {
        let piece = sample.buffer()?;
        // Muxers take what stands before the sound from its format.
        if piece.flags().contains(gst::BufferFlags::HEADER) {
            return None;
        }
        let duration = piece.duration().unwrap_or_default();
        let time = match piece.pts() {
            None => self.end,
            Some(time) => {
                let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
                if segment.stop().is_some_and(|stop| time >= stop) {
                    return None;
                }
                match segment.to_running_time_full(time)? {
                    gst::Signed::Positive(time) => time,
                    // Encoders put some silence before a beginning, which is not to be heard.
                    gst::Signed::Negative(before) if before >= duration => return None,
                    gst::Signed::Negative(_) => gst::ClockTime::ZERO,
                }
            }
        };
        self.end = time + duration;
        if self.caps.is_none() {
            self.caps = sample.caps_owned();
        }
        let mut piece = piece.copy();
        let stamped = piece.make_mut();
        stamped.set_pts(time);
        stamped.set_dts(gst::ClockTime::NONE);
        Some(piece)
    }

    fn failure(&self) -> Option<anyhow::Error> {
        let failure = self.watch.failure()?;
        Some(failure.sentence("it"))
    }
}

impl Drop for AudioReader {
    fn drop(&mut self) {
        // Nothing is left to do where stopping fails.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Where a track of sound goes.
struct Track {
    container: Container,
    may_copy: bool,
    /// Takes what the container takes.
    sink: gst_app::AppSink,
}

impl Track {
    /// Leads `pad`, a parser's, to the sink, over an encoder if that is necessary.
    fn connect(
        &self,
        pipeline: &gst::Pipeline,
        pad: &gst::Pad,
        caps: &gst::Caps,
    ) -> Result<Carried> {
        let format = caps.structure(0).context("sound without a format")?;
        if self.may_copy && self.takes(caps) {
            if !is_aac(format) {
                pad.link(&entry(&self.sink)?)?;
                return Ok(Carried::Copied);
            }
            // Brings it into the form in which files have it.
            let parser = made("aacparse")?;
            pipeline.add(&parser)?;
            parser.link(&self.sink)?;
            parser.sync_state_with_parent()?;
            pad.link(&entry(&parser)?)?;
            return Ok(Carried::Copied);
        }
        let channels = format.get("channels").unwrap_or(USUAL_CHANNELS);
        // Gaps are filled with silence, for encoders count samples; but not from the end to where it
        // should be.
        let line = format!(
            "audioconvert ! audioresample ! audiorate name=gaps ! audio/x-raw,rate=(int){{48000,44100}} ! {}",
            self.container.audio_encoder(channels)?
        );
        let encoder = gst::parse::bin_from_description(&line, true)
            .context("the encoder of its sound cannot be set up")?;
        let gaps = encoder.by_name("gaps").context("an element is missing")?;
        leave_end_open(&entry(&gaps)?);
        let decoder = made("decodebin")?;
        decoder.connect_pad_added({
            let entry = entry(&encoder)?;
            // What fails here is told on the bus, as nothing takes the sound.
            move |_, pad| {
                let _ = pad.link(&entry);
            }
        });
        pipeline.add_many([decoder.clone(), encoder.clone().upcast()])?;
        encoder.link(&self.sink)?;
        encoder.sync_state_with_parent()?;
        decoder.sync_state_with_parent()?;
        pad.link(&entry(&decoder)?)?;
        Ok(Carried::Encoded)
    }

    /// Whether the container takes such sound as it is.
    fn takes(&self, caps: &gst::Caps) -> bool {
        let mut caps = caps.copy();
        for format in caps.make_mut().iter_mut() {
            if is_aac(format) {
                format.set("stream-format", "raw");
            }
        }
        self.sink
            .caps()
            .is_some_and(|taken| taken.can_intersect(&caps))
    }
}

/// Puts a piece of sound into a file that nobody keeps, to see whether `muxer` takes it.
///
/// # Errors
/// A sentence, if it does not.
fn rehearse(muxer: &str, caps: &gst::Caps, piece: &gst::Buffer) -> Result<()> {
    // Muxers want to go back in what they have written.
    let file = tempfile::NamedTempFile::new().context("no temporary file can be made")?;
    let sound = gst_app::AppSrc::builder()
        .caps(caps)
        .format(gst::Format::Time)
        .build();
    let (container, sink) = (made(muxer)?, made("filesink")?);
    sink.set_property("location", file.path());
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([sound.upcast_ref(), &container, &sink])?;
    sound.link_pads(None, &container, Some("audio_%u"))?;
    container.link(&sink)?;
    sound.push_buffer(piece.clone())?;
    sound.end_of_stream()?;
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    // Why it does not start stands on the bus.
    let _ = pipeline.set_state(gst::State::Playing);
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = bus.timed_pop_filtered(REHEARSAL, &ends);
    // Nothing is left to do where stopping fails.
    let _ = pipeline.set_state(gst::State::Null);
    ensure!(
        end.is_some_and(|end| end.type_() == gst::MessageType::Eos),
        "{muxer} does not take it"
    );
    Ok(())
}

/// Closes the choice of tracks at the end of what comes out of `pad`.
fn close_at_end(pad: &gst::Pad, tracks: Arc<Mutex<Tracks>>) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &info.data
            && event.type_() == gst::EventType::Eos
        {
            locked(&tracks).close();
        }
        gst::PadProbeReturn::Ok
    });
}

/// Takes away where a segment that goes into `pad` says that it ends.
fn leave_end_open(pad: &gst::Pad) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &mut info.data
            && let gst::EventView::Segment(begun) = event.view()
        {
            let mut segment = begun.segment().clone();
            if let Some(segment) = segment.downcast_mut::<gst::ClockTime>() {
                segment.set_stop(gst::ClockTime::NONE);
            }
            *event = gst::event::Segment::new(&segment);
        }
        gst::PadProbeReturn::Ok
    });
}

/// The pad that takes what goes into an element.
fn entry(element: &impl IsA<gst::Element>) -> Result<gst::Pad> {
    element
        .static_pad("sink")
        .context("an element has no way in")
}

/// Whether this is AAC, which comes in several forms.
fn is_aac(format: &gst::StructureRef) -> bool {
    format.name() == "audio/mpeg" && matches!(format.get("mpegversion"), Ok(2 | 4))
}

fn locked(tracks: &Mutex<Tracks>) -> MutexGuard<'_, Tracks> {
    tracks.lock().unwrap_or_else(PoisonError::into_inner)
}
