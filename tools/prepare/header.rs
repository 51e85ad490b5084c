//! What the headers of a video file promise, where GStreamer goes by what is there instead.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Headers of AVI files are shorter.
const LONGEST_HEADER: u64 = 1 << 20;
/// Files of the MP4 family have fewer boxes that do not lie in others, unless they are fragmented.
const MOST_BOXES: usize = 10_000;
/// Boxes that such files begin with; old ones do not say of what kind they are.
const BEGINNINGS: [&[u8; 4]; 5] = [b"ftyp", b"wide", b"mdat", b"free", b"skip"];

/// How long the picture of an AVI file lasts by its header: GStreamer counts the frames that are there
/// if the index, which stands at the end, is missing.
pub fn length_of_avi(video: &Path) -> Option<gst::ClockTime> {
    let mut file = File::open(video).ok()?;
    let mut start = [0; 12];
    file.read_exact(&mut start).ok()?;
    if !start.starts_with(b"RIFF") || !start.ends_with(b"AVI ") {
        return None;
    }
    let mut rest = Vec::new();
    file.take(LONGEST_HEADER).read_to_end(&mut rest).ok()?;
    let header = chunks(&rest).find_map(|(name, content)| list(name, content, b"hdrl"))?;
    // Of the first stream of pictures; files above a gigabyte count all of their frames elsewhere.
    let stream = chunks(header)
        .filter_map(|(name, content)| list(name, content, b"strl"))
        .filter_map(|stream| chunks(stream).find(|(name, _)| name == b"strh"))
        .map(|(_, content)| content)
        .find(|content| content.starts_with(b"vids"))?;
    let extended = chunks(header)
        .find_map(|(name, content)| list(name, content, b"odml"))
        .and_then(|extended| chunks(extended).find(|(name, _)| name == b"dmlh"))
        .and_then(|(_, content)| number(content, 0));
    let (scale, rate) = (number(stream, 20)?, number(stream, 24)?);
    let frames = number(stream, 32)?.max(extended.unwrap_or_default());
    let nanoseconds = u128::from(frames) * u128::from(scale) * 1_000_000_000;
    let nanoseconds = nanoseconds.checked_div(rate.into())?;
    Some(gst::ClockTime::from_nseconds(nanoseconds.try_into().ok()?))
}

/// Whether this is a file of the MP4 family without its index, the box `moov`, which many programs write
/// when all else is written.
pub fn lacks_index_of_mp4(video: &Path) -> bool {
    File::open(video)
        .ok()
        .and_then(|file| boxes(file).ok())
        .is_some_and(|names| {
            let begins = names.first().is_some_and(|name| BEGINNINGS.contains(&name));
            begins && !names.contains(b"moov")
        })
}

/// The names of the boxes that do not lie in others.
fn boxes(mut file: File) -> std::io::Result<Vec<[u8; 4]>> {
    let length = file.metadata()?.len();
    let mut names = Vec::new();
    let mut at = 0;
    while at + 8 <= length && names.len() < MOST_BOXES {
        file.seek(SeekFrom::Start(at))?;
        let (mut size, mut name, mut large) = ([0; 4], [0; 4], [0; 8]);
        file.read_exact(&mut size)?;
        file.read_exact(&mut name)?;
        names.push(name);
        let size = match u32::from_be_bytes(size) {
            // To the end of the file.
            0 => break,
            1 => {
                file.read_exact(&mut large)?;
                u64::from_be_bytes(large)
            }
            size => size.into(),
        };
        // A box holds its own header; what says otherwise is damaged.
        at = at.saturating_add(size.max(8));
    }
    Ok(names)
}

/// The chunks of a RIFF file, one behind the other: name and content, as far as it is there.
fn chunks(data: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let name = *rest.first_chunk()?;
        let length = number(rest, 4)? as usize;
        let content = rest.get(8..)?;
        let content = &content[..length.min(content.len())];
        // Chunks begin at even places.
        rest = rest
            .get(8 + length.next_multiple_of(2)..)
            .unwrap_or_default();
        Some((name, content))
    })
}

/// The chunks of a list of this kind.
fn list<'a>(name: [u8; 4], content: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    match &name == b"LIST" {
        true => content.strip_prefix(kind),
        false => None,
    }
}

fn number(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*data.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u32).to_le_bytes();
        [
            name.as_slice(),
            &length,
            content,
            &vec![0; content.len() % 2],
        ]
        .concat()
    }

    /// An AVI file of sound and so many frames at `rate`/`scale` a second, of which more are told of behind.
    fn avi(frames: u32, [rate, scale]: [u32; 2], all_frames: u32) -> Vec<u8> {
        let stream = |kind: &[u8; 4], length: u32| {
            let mut header = kind.to_vec();
            for number in [0, 0, 0, 0, scale, rate, 0, length] {
                header.extend(number.to_le_bytes());
            }
            let content = [b"strl".to_vec(), chunk(b"strh", &header)].concat();
            chunk(b"LIST", &content)
        };
        let extended = [b"odml".to_vec(), chunk(b"dmlh", &all_frames.to_le_bytes())].concat();
        let header = [
            b"hdrl".to_vec(),
            chunk(b"avih", &[0; 5]),
            stream(b"auds", 7),
            stream(b"vids", frames),
            chunk(b"LIST", &extended),
        ];
        let content = [b"AVI ".to_vec(), chunk(b"LIST", &header.concat())];
        chunk(b"RIFF", &content.concat())
    }

    fn with_file<T>(content: &[u8], look: impl FnOnce(&Path) -> T) -> T {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        look(file.path())
    }

    #[test]
    fn the_header_of_an_avi_file_tells_its_length() {
        let length = |content: &[u8]| {
            let length = with_file(content, length_of_avi);
            length.map(gst::ClockTime::nseconds)
        };
        assert_eq!(length(&avi(50, [25, 1], 0)), Some(2_000_000_000));
        assert_eq!(length(&avi(30, [30_000, 1001], 60)), Some(2_002_000_000));
        assert_eq!(length(&avi(50, [0, 1], 0)), None);
        let largest = avi(u32::MAX, [1, u32::MAX], 0);
        assert_eq!(length(&largest), None);
        for end in 0..largest.len() {
            // Wherever it is cut off.
            let _ = length(&largest[..end]);
        }
        assert_eq!(length(b"This is no video."), None);
    }

    #[test]
    fn an_index_is_missing_from_what_begins_as_mp4_files_do() {
        let of = |boxes: &[(u32, &[u8; 4], &[u8])]| {
            let boxes = boxes.iter().map(|(size, name, content)| {
                [&size.to_be_bytes(), name.as_slice(), content].concat()
            });
            boxes.collect::<Vec<_>>().concat()
        };
        let large = [0, 0, 0, 0, 0, 0, 0, 16];
        for (content, lacks) in [
            (
                of(&[
                    (12, b"ftyp", b"isom"),
                    (8, b"moov", b""),
                    (99, b"mdat", b""),
                ]),
                false,
            ),
            (
                of(&[
                    (12, b"ftyp", b"isom"),
                    (1, b"mdat", &large),
                    (8, b"moov", b""),
                ]),
                false,
            ),
            (of(&[(12, b"ftyp", b"isom"), (99, b"mdat", b"")]), true),
            (
                of(&[(12, b"ftyp", b"isom"), (0, b"mdat", b"moov moov")]),
                true,
            ),
            (of(&[(2, b"wide", b"")]), true),
            (b"RIFF some AVI file".to_vec(), false),
            (Vec::new(), false),
        ] {
            assert_eq!(
                with_file(&content, lacks_index_of_mp4),
                lacks,
                "{content:?}"
            );
        }
    }
}
