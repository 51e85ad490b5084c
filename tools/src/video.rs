//! Frames of video files, for programs that do not link GStreamer themselves.
//!
//! `munit-prepare`, which does, decodes and encodes; frames go through a pipe. So a program still
//! starts on a host without GStreamer, and says what is missing only where video is asked for.
//!
//! A row of frames ends with a mark, so that the end of a program that was killed is not taken for
//! the end of its video.

use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use image::RgbImage;
use serde::{Deserialize, Serialize};

/// First word of a row of frames.
const MAGIC: &str = "munit-frames";
/// Stands in the place of a frame's time behind the last frame.
const END: u64 = u64::MAX;
/// The larger side that a picture may have.
const LARGEST: u32 = munit::picture_file::MAXIMUM_SIDE;

/// Bytes that are kept of what munit-prepare says.
const LAST_WORDS: usize = 1 << 14;
/// How long an encoder that is no longer needed gets for clearing away what it has begun.
const CLEARING_AWAY: Duration = Duration::from_secs(2);

/// Files with these endings, in any case, are meant as videos.
const EXTENSIONS: [&str; 18] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "ogv", "ogg", "mpg", "mpeg", "ts", "m2ts", "mts",
    "wmv", "flv", "3gp", "y4m", "mjpg",
];

/// Those of videos that can be written.
const WRITABLE: [&str; 5] = ["mp4", "m4v", "mov", "mkv", "webm"];

/// Whether a file is meant as a video, by its name.
pub fn has_video_name(path: &Path) -> bool {
    has_ending(path, &EXTENSIONS)
}

/// Whether a video of this name can be written.
pub fn has_writable_name(path: &Path) -> bool {
    has_ending(path, &WRITABLE)
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|ending| {
        let ending = ending.to_string_lossy().to_lowercase();
        endings.contains(&ending.as_str())
    })
}

/// What all frames of a row have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameFormat {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Frames a second, as a fraction; 0/1 if it changes.
    pub rate: [u32; 2],
}

/// A frame and its time in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it shows.
    pub picture: RgbImage,
    /// When it is shown.
    pub time: u64,
}

/// How the sound of a video gets into another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carried {
    /// As it is.
    Copied,
    /// Encoded anew, since the other's container does not take it as it is.
    Encoded,
    /// It has none.
    Nothing,
    /// Not at all.
    LeftOut,
}

/// What becomes of the sound of a video.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audio {
    /// How it gets into another one.
    pub carried: Carried,
    /// What is wrong with that, in a sentence that names the file.
    pub problem: Option<String>,
}

impl From<Carried> for Audio {
    fn from(carried: Carried) -> Self {
        Self {
            carried,
            problem: None,
        }
    }
}

/// Writes what becomes of the sound, in one line.
///
/// # Errors
/// The other end is gone.
pub fn write_audio(mut to: impl Write, audio: &Audio) -> std::io::Result<()> {
    writeln!(to, "{}", serde_json::to_string(audio)?)?;
    to.flush()
}

/// Reads what [`write_audio`] writes; `None` if nothing came at all.
///
/// # Errors
/// Something else came.
pub fn read_audio(mut from: impl BufRead) -> Result<Option<Audio>> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(match line.as_str() {
        "" => None,
        line => Some(serde_json::from_str(line)?),
    })
}

/// Writes what stands before a row of frames: the format in one line.
///
/// # Errors
/// The other end is gone.
pub fn write_format(mut to: impl Write, format: FrameFormat) -> std::io::Result<()> {
    let FrameFormat {
        width,
        height,
        rate: [frames, seconds],
    } = format;
    writeln!(to, "{MAGIC} {width} {height} {frames} {seconds}")
}

/// Reads what stands before a row of frames; `None` if nothing came at all.
///
/// # Errors
/// Something else came.
pub fn read_format(mut from: impl BufRead) -> Result<Option<FrameFormat>> {
    let mut line = String::new();
    let limit = 100;
    from.by_ref().take(limit).read_line(&mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let numbers = line.strip_prefix(MAGIC).map(|numbers| {
        let numbers = numbers.split_whitespace();
        numbers.map(str::parse).collect::<Result<Vec<u32>, _>>()
    });
    match numbers {
        Some(Ok(numbers)) if numbers.len() == 4 => {
            let format = FrameFormat {
                width: numbers[0],
                height: numbers[1],
                rate: [numbers[2], numbers[3]],
            };
            let sides = [format.width, format.height];
            ensure!(
                sides.iter().all(|side| (1..=LARGEST).contains(side)),
                "frames of {}×{} pixels; at most {LARGEST} on a side are possible",
                format.width,
                format.height
            );
            Ok(Some(format))
        }
        _ => bail!("this is no row of frames"),
    }
}

/// Writes a frame behind a format: time, then pixels.
///
/// # Errors
/// The other end is gone.
pub fn write_frame(mut to: impl Write, frame: &Frame) -> std::io::Result<()> {
    to.write_all(&frame.time.to_le_bytes())?;
    to.write_all(frame.picture.as_raw())
}

/// Writes what stands behind the last frame, and what is to be told of the video.
///
/// # Errors
/// The other end is gone.
pub fn write_end(mut to: impl Write, remark: Option<&str>) -> std::io::Result<()> {
    to.write_all(&END.to_le_bytes())?;
    to.write_all(remark.unwrap_or_default().as_bytes())?;
    to.flush()
}

/// Reads what is to be told of the video, behind the end of its frames.
///
/// # Errors
/// The other end is gone.
pub fn read_remark(from: impl Read) -> std::io::Result<Option<String>> {
    let mut remark = Vec::new();
    from.take(LAST_WORDS as u64).read_to_end(&mut remark)?;
    let remark = String::from_utf8_lossy(&remark).into_owned();
    Ok(Some(remark).filter(|remark| !remark.is_empty()))
}

/// Reads a frame; `None` at the mark that stands behind the last.
///
/// # Errors
/// The row breaks off before that mark: whoever wrote it has ended early.
pub fn read_frame(mut from: impl Read, format: FrameFormat) -> Result<Option<Frame>> {
    const BREAKS_OFF: &str = "the row of frames breaks off before its end";
    let mut time = [0; 8];
    from.read_exact(&mut time).context(BREAKS_OFF)?;
    let time = u64::from_le_bytes(time);
    if time == END {
        return Ok(None);
    }
    let mut picture = RgbImage::new(format.width, format.height);
    from.read_exact(picture.as_mut()).context(BREAKS_OFF)?;
    Ok(Some(Frame { picture, time }))
}

/// A video that is being read.
pub struct VideoReader {
    format: FrameFormat,
    frames: BufReader<ChildStdout>,
    remark: Option<String>,
    helper: Helper,
}

impl VideoReader {
    /// Begins to decode `video`.
    ///
    /// # Errors
    /// A sentence that names the file: nothing there, no video, a decoder that is missing; no
    /// munit-prepare with GStreamer.
    pub fn open(video: &Path) -> Result<Self> {
        std::fs::metadata(video).with_context(|| format!("{}: cannot read", video.display()))?;
        let mut helper = Helper::start(&["decode".as_ref(), video.as_os_str()])?;
        let output = helper.child.stdout.take();
        let mut frames = BufReader::new(output.context("munit-prepare has no output")?);
        let format = match read_format(&mut frames) {
            Ok(Some(format)) => format,
            Ok(None) => return Err(helper.failure()),
            Err(problem) => return Err(problem.context("munit-prepare: not what was expected")),
        };
        Ok(Self {
            format,
            frames,
            remark: None,
            helper,
        })
    }

    /// Size and rate of its frames.
    pub fn format(&self) -> FrameFormat {
        self.format
    }

    /// The next frame; `None` at the end, or where the video breaks off.
    ///
    /// # Errors
    /// Frames of several sizes; a decoder that has crashed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        // The row breaks off where munit-prepare has ended, which says why.
        match read_frame(&mut self.frames, self.format) {
            Ok(Some(frame)) => Ok(Some(frame)),
            Ok(None) => {
                self.remark = read_remark(&mut self.frames)?;
                match self.helper.succeeds()? {
                    true => Ok(None),
                    false => Err(self.helper.failure()),
                }
            }
            Err(_) => Err(self.helper.failure()),
        }
    }

    /// What is to be told of a video that has been read to its end: that there is more of it that could not
    /// be read.
    pub fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }
}

/// What a program ends with where a video has been read as far as `remark` says, which is one of
/// [`VideoReader::remark`].
pub fn stopped_early(remark: &str) -> String {
    format!("stopped before the end of the video: {remark}")
}

/// A video that is being written.
pub struct VideoWriter {
    frames: Option<BufWriter<ChildStdin>>,
    /// Says what becomes of the sound.
    answers: BufReader<ChildStdout>,
    audio: Audio,
    helper: Helper,
}

impl VideoWriter {
    /// Begins to encode frames into `video`, which appears when it is finished. Its name says which
    /// container: .mp4, .mov, .mkv or .webm. It gets the sound of the video `audio_of`.
    ///
    /// # Errors
    /// A name with another ending, an encoder that is missing; no munit-prepare with GStreamer.
    pub fn create(video: &Path, format: FrameFormat, audio_of: Option<&Path>) -> Result<Self> {
        let mut arguments = vec!["encode".as_ref(), video.as_os_str()];
        if let Some(audio_of) = audio_of {
            arguments.extend(["--audio-of".as_ref(), audio_of.as_os_str()]);
        }
        let mut helper = Helper::start(&arguments)?;
        let input = helper.child.stdin.take();
        let output = helper.child.stdout.take();
        let mut writer = Self {
            frames: input.map(BufWriter::new),
            answers: BufReader::new(output.context("munit-prepare has no output")?),
            audio: Carried::LeftOut.into(),
            helper,
        };
        writer.send(|to| {
            write_format(&mut *to, format)?;
            to.flush()
        })?;
        writer.audio = writer.answer()?;
        Ok(writer)
    }

    /// What will become of the sound, as far as can be told before it is read.
    pub fn audio(&self) -> &Audio {
        &self.audio
    }

    fn answer(&mut self) -> Result<Audio> {
        match read_audio(&mut self.answers) {
            Ok(Some(audio)) => Ok(audio),
            Ok(None) => Err(self.helper.failure()),
            Err(problem) => Err(problem.context("munit-prepare: not what was expected")),
        }
    }

    /// Adds a frame, of the size of the format.
    ///
    /// # Errors
    /// An encoder that fails, a full disk.
    pub fn write(&mut self, frame: &Frame) -> Result<()> {
        self.send(|to| write_frame(to, frame))
    }

    fn send(
        &mut self,
        write: impl FnOnce(&mut BufWriter<ChildStdin>) -> std::io::Result<()>,
    ) -> Result<()> {
        let frames = self.frames.as_mut().context("the video is finished")?;
        match write(frames) {
            Err(problem) if problem.kind() == ErrorKind::BrokenPipe => Err(self.helper.failure()),
            result => Ok(result?),
        }
    }

    /// Waits until the file is complete; says what has become of the sound.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn finish(mut self) -> Result<Audio> {
        self.send(|to| write_end(to, None))?;
        drop(self.frames.take());
        let audio = self.answer()?;
        match self.helper.succeeds()? {
            true => Ok(audio),
            false => Err(self.helper.failure()),
        }
    }
}

impl Drop for VideoWriter {
    fn drop(&mut self) {
        // Unless the end was sent, the encoder sees that nothing more comes, and removes what it has
        // written.
        drop(self.frames.take());
        self.helper.wait_at_most(CLEARING_AWAY);
    }
}

/// munit-prepare at work; it ends with this.
struct Helper {
    child: Child,
    /// Reads what it says, so that it never waits for somebody to listen; ends when it does.
    listener: Option<JoinHandle<String>>,
}

impl Helper {
    fn start(arguments: &[&std::ffi::OsStr]) -> Result<Self> {
        let program = program();
        let mut child = Command::new(&program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| {
                format!(
                    "{}: cannot be started, but is needed for video",
                    program.display()
                )
            })?;
        let listener = child
            .stderr
            .take()
            .map(|errors| spawn(|| last_words(errors)));
        Ok(Self { child, listener })
    }

    fn succeeds(&mut self) -> Result<bool> {
        Ok(self.child.wait()?.success())
    }

    fn wait_at_most(&mut self, patience: Duration) {
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < patience {
            sleep(Duration::from_millis(5));
        }
    }

    /// What it says has gone wrong.
    fn failure(&mut self) -> anyhow::Error {
        // What could not be read leaves the general sentence below.
        let text = self.listener.take().and_then(|one| one.join().ok());
        let text = text.unwrap_or_default();
        // The reason for its end is the last that it says.
        let line = text
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("munit-prepare: "));
        match line.or_else(|| text.lines().next_back()) {
            Some(line) => anyhow!("{line}"),
            None => anyhow!("munit-prepare ended before its work was done"),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Fails where it has ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads `errors` to their end, of which the last part is kept.
fn last_words(mut errors: impl Read) -> String {
    let mut kept = Vec::new();
    let mut part = [0; 4096];
    loop {
        match errors.read(&mut part) {
            Ok(count) if count > 0 => {
                kept.extend_from_slice(&part[..count]);
                let superfluous = kept.len().saturating_sub(LAST_WORDS);
                kept.drain(..superfluous);
            }
            Err(problem) if problem.kind() == ErrorKind::Interrupted => {}
            _ => return String::from_utf8_lossy(&kept).into_owned(),
        }
    }
}

/// The munit-prepare beside this program, else the one on the path.
fn program() -> PathBuf {
    let name = "munit-prepare";
    let beside = std::env::current_exe().map(|program| program.with_file_name(name));
    match beside {
        Ok(program) if program.is_file() => program,
        _ => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_through_a_pipe() {
        let format = FrameFormat {
            width: 3,
            height: 2,
            rate: [30000, 1001],
        };
        let frames = [0u8, 100].map(|value| Frame {
            picture: RgbImage::from_fn(3, 2, |x, y| image::Rgb([value + x as u8, y as u8, 7])),
            time: u64::from(value) * 1_000_000_007,
        });
        let mut pipe = Vec::new();
        write_format(&mut pipe, format).unwrap();
        for frame in &frames {
            write_frame(&mut pipe, frame).unwrap();
        }
        let without_end = pipe.len();
        write_end(&mut pipe, Some("It is cut off.")).unwrap();
        let mut from = pipe.as_slice();
        assert_eq!(read_format(&mut from).unwrap(), Some(format));
        for frame in frames {
            assert_eq!(read_frame(&mut from, format).unwrap(), Some(frame));
        }
        assert_eq!(read_frame(&mut from, format).unwrap(), None);
        let remark = read_remark(&mut from).unwrap();
        assert_eq!(remark.as_deref(), Some("It is cut off."));
        assert_eq!(read_remark(&mut from).unwrap(), None);

        // Within the second frame, behind it, and within the mark.
        for (length, whole) in [(without_end - 1, 1), (without_end, 2), (without_end + 7, 2)] {
            let mut cut = &pipe[..length];
            read_format(&mut cut).unwrap();
            for _ in 0..whole {
                assert!(read_frame(&mut cut, format).unwrap().is_some());
            }
            let problem = read_frame(&mut cut, format).unwrap_err().to_string();
            assert!(problem.contains("breaks off"), "{problem}");
        }
        assert_eq!(read_format(&[][..]).unwrap(), None);
        for text in ["munit-frames 3 2 1\n", "munit-frames 0 2 1 1\n", "RIFF"] {
            assert!(read_format(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn of_many_words_the_last_are_kept() {
        let mut words = "debug\n".repeat(LAST_WORDS).into_bytes();
        words.extend(b"munit-prepare: broken\n");
        let kept = last_words(words.as_slice());
        assert_eq!(kept.len(), LAST_WORDS);
        assert!(kept.ends_with("debug\nmunit-prepare: broken\n"));
        assert_eq!(last_words(&b"few"[..]), "few");
    }

    #[test]
    fn names_tell_videos_from_pictures() {
        assert!(has_video_name(Path::new("a/clip.MP4")));
        for name in ["a.png", "a.gif", "mp4", "a.safetensors"] {
            assert!(!has_video_name(Path::new(name)), "{name}");
        }
    }
}
