//! What a video is written with: the container that its name asks for, and the encoders that are here.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Elements as parts of launch lines.
#[derive(Clone, Copy)]
pub struct Container {
    /// Makes the picture small.
    pub video_encoder: &'static str,
    /// Puts picture and sound into one file.
    pub muxer: &'static str,
    /// Encoders of sound whose output players expect in it, the best first; `BITRATE` stands for bits a
    /// second.
    audio_encoders: &'static [&'static str],
}

/// Players want H.264 with even sides and quarter-size colour; VP8 plays as widely.
const H264: [&str; 2] = [
    "x264enc speed-preset=faster pass=qual quantizer=20 ! h264parse",
    "openh264enc bitrate=8000000 ! h264parse",
];
const VP8: &str = "vp8enc deadline=1 cq-level=10 end-usage=cq target-bitrate=20000000";

const AVENC_AAC: &str = "avenc_aac bitrate=BITRATE";
const VOAACENC: &str = "voaacenc bitrate=BITRATE";
const LAME: &str = "lamemp3enc target=quality quality=2 ! mpegaudioparse";
const OPUS: &str = "opusenc bitrate=BITRATE";
const VORBIS: &str = "vorbisenc quality=0.6";

/// Enough for either codec, and not more than voaacenc takes.
const BITS_PER_CHANNEL: i32 = 96_000;
const MOST_BITS: i32 = 256_000;

impl Container {
    /// The container that the name of `video` asks for.
    ///
    /// # Errors
    /// A sentence: a name that no container goes by, a missing encoder.
    pub fn of(video: &Path) -> Result<Self> {
        let ending = video.extension().and_then(|ending| ending.to_str());
        let (video_encoders, muxer, audio_encoders): (&[&str], _, &[&str]) = match ending
            .map(str::to_lowercase)
            .as_deref()
        {
            Some("mp4" | "m4v") => (&H264, "mp4mux", &[AVENC_AAC, VOAACENC, LAME, OPUS]),
            Some("mov") => (&H264, "qtmux", &[AVENC_AAC, VOAACENC, LAME]),
            Some("mkv") => (&[H264[0], H264[1], VP8], "matroskamux", &[OPUS, VORBIS]),
            Some("webm") => (&[VP8], "webmmux", &[OPUS, VORBIS]),
            _ => bail!(
                "{}: cannot tell the format from this name; end it in .mp4, .mov, .mkv or .webm",
                video.display()
            ),
        };
        let (Some(video_encoder), true) = (available(video_encoders), is_here(muxer)) else {
            bail!(
                "{}: GStreamer lacks {} with {muxer} here; install its good, bad or ugly plugins \
                 (Debian: gstreamer1.0-plugins-good, -bad or -ugly), or choose another ending",
                video.display(),
                names(video_encoders)
            );
        };
        Ok(Self {
            video_encoder,
            muxer,
            audio_encoders,
        })
    }

    /// The sound that it holds.
    ///
    /// # Errors
    /// A muxer that is not what it is known as.
    pub fn audio_caps(&self) -> Result<gst::Caps> {
        let factory = gst::ElementFactory::find(self.muxer).context("the muxer is gone")?;
        let templates = factory.static_pad_templates();
        let audio = templates
            .iter()
            .find(|pad| pad.name_template() == "audio_%u");
        Ok(audio.context("the muxer takes no sound")?.caps())
    }

    /// What encodes sound of so many channels.
    ///
    /// # Errors
    /// A sentence, if none of the encoders is here.
    pub fn audio_encoder(&self, channels: i32) -> Result<String> {
        let encoder = available(self.audio_encoders).with_context(|| {
            format!(
                "GStreamer lacks {} here; install its base, good or bad plugins (Debian: \
                 gstreamer1.0-plugins-base, -good or -bad), or choose another ending",
                names(self.audio_encoders)
            )
        })?;
        let bits = channels.saturating_mul(BITS_PER_CHANNEL);
        let bits = bits.clamp(BITS_PER_CHANNEL, MOST_BITS);
        Ok(encoder.replace("BITRATE", &bits.to_string()))
    }
}

/// The first part of a launch line of which all elements are here.
fn available(parts: &[&'static str]) -> Option<&'static str> {
    let mut parts = parts.iter().copied();
    parts.find(|part| part.split('!').all(is_here))
}

fn is_here(element: &str) -> bool {
    gst::ElementFactory::find(name(element)).is_some()
}

fn name(element: &str) -> &str {
    element.split_whitespace().next().unwrap_or_default()
}

fn names(encoders: &[&str]) -> String {
    let names: Vec<_> = encoders.iter().copied().map(name).collect();
    names.join(" or ")
}
