//! TensorBoard event files: TFRecord framing around protocol buffers.
//!
//! The messages are the few fields of `tensorflow/core/util/event.proto` and
//! `tensorflow/core/framework/summary.proto` that scalars and pictures need.

use std::fs::{File, OpenOptions};
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use image::{ImageFormat, RgbImage};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SessionLog.SessionStatus.START`: readers drop what they hold from this step on.
const SESSION_START: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(oneof = "Content", tags = "2, 4")]
    content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Content {
    #[prost(float, tag = "2")]
    Scalar(f32),
    #[prost(message, tag = "4")]
    Image(Image),
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// 3 is RGB.
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded: Vec<u8>,
}

/// One event file of a run. Every event reaches the file in one piece, so that a killed run
/// loses nothing that it wrote.
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

/// How the name of every event file begins; TensorBoard looks for it.
const FILE_PREFIX: &str = "events.out.tfevents.";

impl EventWriter {
    /// Whether `name` is that of an event file.
    pub fn is_event_file(name: &str) -> bool {
        name.starts_with(FILE_PREFIX)
    }

    /// A new event file in `folder`, beside those that the same run wrote before it was resumed,
    /// of which a reader shall forget every step after `resume_at`.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be created.
    pub fn create(folder: &Path, resume_at: Option<u64>) -> Result<Self> {
        let now = since_epoch();
        // Readers go through a folder's files in the order of their names.
        let path = folder.join(format!(
            "{FILE_PREFIX}{:010}.{:09}",
            now.as_secs(),
            now.subsec_nanos()
        ));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("{}: cannot create", path.display()))?;
        let mut writer = Self { path, file };
        writer.event(0, What::FileVersion("brain.Event:2".to_owned()))?;
        if let Some(iteration) = resume_at {
            let start = SessionLog {
                status: SESSION_START,
            };
            writer.event(iteration + 1, What::SessionLog(start))?;
        }
        Ok(writer)
    }

    /// The event file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One point on each named curve.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be written.
    pub fn scalars(&mut self, iteration: u64, values: &[(&str, f64)]) -> Result<()> {
        let values = values
            .iter()
            .map(|(name, value)| Value {
                tag: (*name).to_owned(),
                content: Some(Content::Scalar(*value as f32)),
            })
            .collect();
        self.event(iteration, What::Summary(Summary { values }))
    }

    /// A picture under `tag`.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be written.
    pub fn image(&mut self, iteration: u64, tag: &str, picture: &RgbImage) -> Result<()> {
        let mut encoded = Vec::new();
        picture.write_to(&mut Cursor::new(&mut encoded), ImageFormat::Png)?;
        let image = Image {
            height: picture.height() as i32,
            width: picture.width() as i32,
            colorspace: 3,
            encoded,
        };
        let value = Value {
            tag: tag.to_owned(),
            content: Some(Content::Image(image)),
        };
        self.event(
            iteration,
            What::Summary(Summary {
                values: vec![value],
            }),
        )
    }

    /// Waits until all events are on the disk.
    ///
    /// # Errors
    /// A sentence that names the file, if it cannot be written.
    pub fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .with_context(|| format!("{}: cannot write", self.path.display()))
    }

    fn event(&mut self, iteration: u64, what: What) -> Result<()> {
        let event = Event {
            wall_time: since_epoch().as_secs_f64(),
            step: iteration as i64,
            what: Some(what),
        };
        self.file
            .write_all(&record(&event.encode_to_vec()))
            .with_context(|| format!("{}: cannot write", self.path.display()))
    }
}

fn since_epoch() -> std::time::Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// A TFRecord: length (u64), masked checksum of the length, data, masked checksum of the data;
/// all little-endian.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_checksum(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked_checksum(data).to_le_bytes());
    record
}

/// CRC-32C, rotated and offset so that a checksum of data that holds checksums stays sound.
fn masked_checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the framing from its description, independently of [`record`].
    fn read(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        let unmask = |masked: &[u8]| {
            let masked = u32::from_le_bytes(masked.try_into().unwrap());
            masked.wrapping_sub(0xa282_ead8).rotate_left(15)
        };
        while !rest.is_empty() {
            let (length, tail) = rest.split_at(8);
            assert_eq!(unmask(&tail[..4]), crc32c::crc32c(length));
            let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            let (data, tail) = tail[4..].split_at(length);
            assert_eq!(unmask(&tail[..4]), crc32c::crc32c(data));
            events.push(Event::decode(data).unwrap());
            rest = &tail[4..];
        }
        events
    }

    #[test]
    fn the_framing_is_that_of_a_known_record() {
        let empty = b"\0\0\0\0\0\0\0\0\x29\x03\x98\x07\xd8\xea\x82\xa2";
        assert_eq!(record(b""), empty);
        let event = Event {
            wall_time: 0.0,
            step: 0,
            what: Some(What::FileVersion("brain.Event:2".to_owned())),
        };
        assert_eq!(event.encode_to_vec(), b"\x1a\x0dbrain.Event:2");
    }

    #[test]
    fn scalars_and_pictures_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), None).unwrap();
        writer.scalars(10, &[("gen", 1.5), ("dis", 0.25)]).unwrap();
        let picture = RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8, y as u8, 7]));
        writer.image(20, "samples", &picture).unwrap();

        let events = read(writer.path());
        assert_eq!(events.len(), 3);
        assert_eq!(
            events[0].what,
            Some(What::FileVersion("brain.Event:2".to_owned()))
        );
        assert!(events[1].wall_time > 1.6e9);
        assert_eq!(events[1].step, 10);
        let Some(What::Summary(summary)) = &events[1].what else {
            panic!("{:?}", events[1]);
        };
        let tags: Vec<_> = summary.values.iter().map(|value| &value.tag).collect();
        assert_eq!(tags, ["gen", "dis"]);
        assert_eq!(summary.values[1].content, Some(Content::Scalar(0.25)));
        let Some(What::Summary(summary)) = &events[2].what else {
            panic!("{:?}", events[2]);
        };
        let Some(Content::Image(image)) = &summary.values[0].content else {
            panic!("{summary:?}");
        };
        assert_eq!((image.width, image.height, image.colorspace), (5, 3, 3));
        let decoded = image::load_from_memory(&image.encoded).unwrap().to_rgb8();
        assert_eq!(decoded, picture);
    }

    #[test]
    fn a_resumed_run_has_a_later_file_that_drops_the_steps_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let first = EventWriter::create(folder.path(), None).unwrap();
        let second = EventWriter::create(folder.path(), Some(20)).unwrap();
        assert!(second.path() > first.path());
        let start = &read(second.path())[1];
        assert_eq!(start.step, 21);
        let log = SessionLog {
            status: SESSION_START,
        };
        assert_eq!(start.what, Some(What::SessionLog(log)));
    }
}
