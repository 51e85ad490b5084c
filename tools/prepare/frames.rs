//! Cuts a video into pictures.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use munit_tools::prepare::folder::{Format, resized};
use munit_tools::result_file::refuse_existing;

use crate::reader::Reader;

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
    while options.most.is_none_or(|most| written < most) {
        let (picture, time) = match reader.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                problem = reader.breaks_off(None);
                break;
            }
            Err(reason) if written > 0 => {
                problem = reader.breaks_off(Some(reason));
                break;
            }
            Err(reason) => return Err(reason),
        };
        bar.set_position(time.mseconds());
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
