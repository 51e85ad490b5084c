//! One picture file, decoded: trusting nothing, and saying in a sentence what is wrong with it.

use std::any::Any;
use std::fmt;
use std::fs;
use std::io::{self, Cursor};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use image::metadata::Orientation;
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage,
};

/// Pictures whose shorter side has fewer pixels than this are left out: nothing can be learnt from
/// an icon or a tracking pixel.
pub const MINIMUM_SIDE: u32 = 16;

/// Pictures more than this many times as long as they are wide are left out: a crop would show
/// next to nothing of such a strip.
pub const MAXIMUM_ASPECT: u32 = 16;

/// A file larger than this is not opened.
const MAXIMUM_FILE_BYTES: u64 = 512 << 20;

/// The longest side that a decoder may be asked for, in pixels.
const MAXIMUM_SIDE: u32 = 32_768;

/// The memory that one decoded picture may take: 178 megapixels in 8-bit RGB.
const MAXIMUM_DECODED_BYTES: u64 = 512 << 20;

/// Samples of a picture of one colour may differ by this much, for the noise of compression.
const BLANK_TOLERANCE: u8 = 2;

/// Why a picture cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PictureError {
    /// There is no such file.
    Missing,
    /// The file or folder cannot be read; the text is the system's.
    Unreadable(String),
    /// The path does not name an ordinary file.
    NotAFile,
    /// The content is in none of the formats that are read here.
    NotAPicture,
    /// The content is in a known format that is not read here, for instance `"gif"`.
    UnsupportedFormat(String),
    /// The file ends too early.
    Truncated,
    /// The content is damaged; the text is the decoder's.
    Broken(String),
    /// More pixels or bytes than are decoded here.
    TooLarge,
    /// The shorter side has fewer than [`MINIMUM_SIDE`] pixels.
    TooSmall {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// More than [`MAXIMUM_ASPECT`] times as long as wide.
    Strip {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// All of one colour.
    Blank,
}

impl fmt::Display for PictureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "there is no such file"),
            Self::Unreadable(reason) => write!(f, "it cannot be read: {reason}"),
            Self::NotAFile => write!(f, "it is not a file"),
            Self::NotAPicture => write!(f, "it is not a JPEG, PNG, WebP, BMP or PNM picture"),
            Self::UnsupportedFormat(format) => {
                write!(f, "{format} is not read here; convert it to PNG or JPEG")
            }
            Self::Truncated => write!(f, "the file ends before the picture does"),
            Self::Broken(reason) => write!(f, "it is damaged: {reason}"),
            Self::TooLarge => write!(
                f,
                "it is too large; at most {MAXIMUM_SIDE} pixels a side and {} MiB are decoded",
                MAXIMUM_DECODED_BYTES >> 20
            ),
            Self::TooSmall { width, height } => write!(
                f,
                "{width}×{height} is too small; the shorter side needs {MINIMUM_SIDE} pixels"
            ),
            Self::Strip { width, height } => write!(
                f,
                "{width}×{height} is a strip; the longer side may be {MAXIMUM_ASPECT} times the shorter"
            ),
            Self::Blank => write!(f, "it is blank: all of one colour"),
        }
    }
}

impl std::error::Error for PictureError {}

impl From<io::Error> for PictureError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

impl From<ImageError> for PictureError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(_) => Self::TooLarge,
            ImageError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Truncated
            }
            error => Self::Broken(error.to_string()),
        }
    }
}

/// Reads a picture as 8-bit RGB, upright.
///
/// JPEG, PNG, WebP, BMP and PNM, told apart by content; grey, palette, CMYK and 16-bit pictures
/// are converted, transparent ones laid on white, and the orientation in the file is obeyed.
///
/// # Errors
/// What is wrong with the file, except [`PictureError::Blank`], which only [`PictureSet::scan`]
/// looks for. The text does not name the path.
///
/// [`PictureSet::scan`]: super::PictureSet::scan
pub fn read_picture(path: &Path) -> Result<RgbImage, PictureError> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(PictureError::NotAFile);
    }
    if metadata.len() > MAXIMUM_FILE_BYTES {
        return Err(PictureError::TooLarge);
    }
    let content = fs::read(path)?;
    // Decoders are written for hostile input, but a panic in one must cost one picture, not a run.
    panic::catch_unwind(AssertUnwindSafe(|| decode(&content)))
        .unwrap_or_else(|panic| Err(PictureError::Broken(panic_text(panic.as_ref()))))
}

/// Whether the first bytes of a file announce a picture, of a format that is read here or not.
pub(super) fn looks_like_picture(first_bytes: &[u8]) -> bool {
    image::guess_format(first_bytes).is_ok()
}

/// Whether all pixels have the same colour, but for the noise of compression.
pub(super) fn is_blank(picture: &RgbImage) -> bool {
    let mut pixels = picture.pixels();
    let Some(&Rgb(first)) = pixels.next() else {
        return true;
    };
    let (mut low, mut high) = (first, first);
    // Almost every picture betrays itself within a few pixels.
    !pixels.any(|Rgb(pixel)| {
        (0..3).any(|channel| {
            low[channel] = low[channel].min(pixel[channel]);
            high[channel] = high[channel].max(pixel[channel]);
            high[channel] - low[channel] > BLANK_TOLERANCE
        })
    })
}

/// What a panic said, for an error message.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

fn decode(content: &[u8]) -> Result<RgbImage, PictureError> {
    let format = image::guess_format(content).map_err(|_| PictureError::NotAPicture)?;
    if !format.reading_enabled() {
        return Err(PictureError::UnsupportedFormat(
            format.to_mime_type().to_owned(),
        ));
    }

    let mut limits = Limits::default();
    limits.max_image_width = Some(MAXIMUM_SIDE);
    limits.max_image_height = Some(MAXIMUM_SIDE);
    limits.max_alloc = Some(MAXIMUM_DECODED_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(content), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;

    // The header alone tells most unusable pictures, before any pixel is decoded.
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);

    // The JPEG decoder fills up what is missing at the end with grey.
    if format == ImageFormat::Jpeg && !jpeg_is_complete(content) {
        return Err(PictureError::Truncated);
    }

    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(if picture.color().has_alpha() {
        on_white(picture)
    } else {
        picture.into_rgb8()
    })
}

fn check_size(width: u32, height: u32) -> Result<(), PictureError> {
    let (shorter, longer) = (width.min(height), width.max(height));
    if shorter < MINIMUM_SIDE {
        Err(PictureError::TooSmall { width, height })
    } else if longer / shorter >= MAXIMUM_ASPECT && longer > shorter * MAXIMUM_ASPECT {
        Err(PictureError::Strip { width, height })
    } else {
        Ok(())
    }
}

fn on_white(picture: DynamicImage) -> RgbImage {
    let picture = picture.into_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [r, g, b, alpha] = picture.get_pixel(x, y).0;
        let alpha = u32::from(alpha);
        let over = |value: u8| {
            let sum = u32::from(value) * alpha + 255 * (255 - alpha);
            ((sum + 127) / 255) as u8
        };
        Rgb([over(r), over(g), over(b)])
    })
}

/// Whether the marker segments of a JPEG stream (ITU-T T.81, annex B) lead to its end marker.
fn jpeg_is_complete(content: &[u8]) -> bool {
    const START_OF_IMAGE: u8 = 0xD8;
    const END_OF_IMAGE: u8 = 0xD9;
    const TEMPORARY: u8 = 0x01;

    let mut rest = content;
    loop {
        // Between segments lies nothing, or entropy-coded data, in which 0xFF is followed by 0x00.
        let Some(position) = rest.iter().position(|&byte| byte == 0xFF) else {
            return false;
        };
        rest = &rest[position + 1..];
        match rest.first() {
            None => return false,
            Some(&END_OF_IMAGE) => return true,
            // A stuffed byte, fill, or a marker that stands alone.
            Some(0x00 | 0xFF | &TEMPORARY | 0xD0..=0xD7 | &START_OF_IMAGE) => {}
            Some(_) => {
                let [_, high, low, ..] = *rest else {
                    return false;
                };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(after) = rest.get(1 + length..) else {
                    return false;
                };
                rest = after;
            }
        }
    }
}
