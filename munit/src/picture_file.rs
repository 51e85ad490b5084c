//! One picture file, decoded: trusting nothing, and saying in a sentence what is wrong with it.

use std::any::Any;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use image::metadata::Orientation;
use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Luma, Rgb,
    RgbImage, RgbaImage,
};

/// Pictures whose shorter side has fewer pixels than this cannot be used: the networks halve a
/// picture up to four times, and nothing can be learnt from an icon or a tracking pixel.
pub const MINIMUM_SIDE: u32 = 16;

/// A file larger than this is not opened.
const MAXIMUM_FILE_BYTES: u64 = 512 << 20;

/// The longest side that a decoder may be asked for, in pixels.
pub const MAXIMUM_SIDE: u32 = 32_768;

/// The memory that one decoded picture may take: 178 megapixels in 8-bit RGB.
pub const MAXIMUM_DECODED_BYTES: u64 = 512 << 20;

/// How many first bytes of a file tell its format.
const SIGNATURE_BYTES: usize = 32;

/// How much of a JPEG file is read for its header. Its decoder wants everything in memory, and
/// hardly a file has more than this before its pixels: a thumbnail, a colour profile.
const JPEG_HEADER_BYTES: u64 = 256 << 10;

/// What a picture file says about itself before its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureHeader {
    /// `JPEG`, `PNG`, `WebP`, `BMP` or `PNM`.
    pub format: &'static str,
    /// Width of the upright picture in pixels.
    pub width: u32,
    /// Height of the upright picture in pixels.
    pub height: u32,
    /// Size of the file in bytes.
    pub file_bytes: u64,
}

/// Why a file cannot be used as a picture; its `Display` does not name the file.
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
                "it is too large; at most {MAXIMUM_SIDE} pixels a side and {} MiB are decoded or resized to",
                MAXIMUM_DECODED_BYTES >> 20
            ),
            Self::TooSmall { width, height } => write!(
                f,
                "{width}×{height} is too small; the shorter side needs {MINIMUM_SIDE} pixels"
            ),
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
/// What is wrong with the file.
pub fn read_picture(path: &Path) -> Result<RgbImage, PictureError> {
    Ok(read_picture_with_alpha(path)?.0)
}

/// The same with how opaque each pixel is, from 0 to 255, where some are not quite.
///
/// # Errors
/// As [`read_picture`].
pub fn read_picture_with_alpha(path: &Path) -> Result<(RgbImage, Option<GrayImage>), PictureError> {
    check_file(path)?;
    let content = fs::read(path)?;
    without_panic(|| decode(&content))
}

/// Reads what a picture file says about itself, in a fraction of the time that decoding it takes.
/// Damage among its pixels stays unnoticed.
///
/// # Errors
/// What is wrong with the file, as [`read_picture`], as far as its header tells.
pub fn read_header(path: &Path) -> Result<PictureHeader, PictureError> {
    let file_bytes = check_file(path)?;
    let mut file = BufReader::new(File::open(path)?);
    // The buffer is larger than a signature, and a file that can be had whole gives that much.
    let first_bytes = file.fill_buf()?;
    let format = known_format(&first_bytes[..first_bytes.len().min(SIGNATURE_BYTES)])?;
    without_panic(|| {
        if format != ImageFormat::Jpeg {
            return header(file, format, file_bytes);
        }
        let mut content = Vec::new();
        file.by_ref()
            .take(JPEG_HEADER_BYTES)
            .read_to_end(&mut content)?;
        match header(Cursor::new(&content), format, file_bytes) {
            Err(PictureError::Truncated | PictureError::Broken(_))
                if content.len() as u64 == JPEG_HEADER_BYTES =>
            {
                file.read_to_end(&mut content)?;
                header(Cursor::new(&content), format, file_bytes)
            }
            result => result,
        }
    })
}

/// Size of the file in bytes.
fn check_file(path: &Path) -> Result<u64, PictureError> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(PictureError::NotAFile);
    }
    if metadata.len() > MAXIMUM_FILE_BYTES {
        return Err(PictureError::TooLarge);
    }
    Ok(metadata.len())
}

/// Decoders are written for hostile input, but a panic in one must cost one picture, not a stream
/// or a run.
fn without_panic<T>(work: impl FnOnce() -> Result<T, PictureError>) -> Result<T, PictureError> {
    panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(PictureError::Broken(panic_text(panic.as_ref()))))
}

/// Whether the first bytes of a file announce a picture, of a format that is read here or not.
pub fn looks_like_picture(first_bytes: &[u8]) -> bool {
    image::guess_format(first_bytes).is_ok()
}

/// What a panic said, for an error message.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

fn known_format(first_bytes: &[u8]) -> Result<ImageFormat, PictureError> {
    let format = image::guess_format(first_bytes).map_err(|_| PictureError::NotAPicture)?;
    if !format.reading_enabled() {
        return Err(PictureError::UnsupportedFormat(
            format.to_mime_type().to_owned(),
        ));
    }
    Ok(format)
}

/// A decoder that has read the header of a picture of usable size.
fn decoder<'r, R: BufRead + Seek + 'r>(
    source: R,
    format: ImageFormat,
) -> Result<impl ImageDecoder + 'r, PictureError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAXIMUM_SIDE);
    limits.max_image_height = Some(MAXIMUM_SIDE);
    limits.max_alloc = Some(MAXIMUM_DECODED_BYTES);
    let mut reader = ImageReader::with_format(source, format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;

    // The header alone tells most unusable pictures, before any pixel is decoded.
    let (width, height) = decoder.dimensions();
    if width.min(height) < MINIMUM_SIDE {
        return Err(PictureError::TooSmall { width, height });
    }
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    Ok(decoder)
}

fn header<R: BufRead + Seek>(
    source: R,
    format: ImageFormat,
    file_bytes: u64,
) -> Result<PictureHeader, PictureError> {
    let mut decoder = decoder(source, format)?;
    let (mut width, mut height) = decoder.dimensions();
    if is_turned(decoder.orientation().unwrap_or(Orientation::NoTransforms)) {
        (width, height) = (height, width);
    }
    Ok(PictureHeader {
        format: match format {
            ImageFormat::Jpeg => "JPEG",
            ImageFormat::Png => "PNG",
            ImageFormat::WebP => "WebP",
            ImageFormat::Bmp => "BMP",
            _ => "PNM",
        },
        width,
        height,
        file_bytes,
    })
}

/// Whether width and height change places on the way to the upright picture.
fn is_turned(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

fn decode(content: &[u8]) -> Result<(RgbImage, Option<GrayImage>), PictureError> {
    let format = known_format(content)?;
    let mut decoder = decoder(Cursor::new(content), format)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);

    // The JPEG decoder fills up what is missing at the end with grey.
    if format == ImageFormat::Jpeg && !jpeg_is_complete(content) {
        return Err(PictureError::Truncated);
    }

    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    if !picture.color().has_alpha() {
        return Ok((picture.into_rgb8(), None));
    }
    let picture = picture.into_rgba8();
    let alpha = GrayImage::from_fn(picture.width(), picture.height(), |x, y| {
        Luma([picture.get_pixel(x, y)[3]])
    });
    let is_opaque = alpha.iter().all(|&alpha| alpha == u8::MAX);
    Ok((on_white(&picture), (!is_opaque).then_some(alpha)))
}

fn on_white(picture: &RgbaImage) -> RgbImage {
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

#[cfg(test)]
mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::{ImageBuffer, ImageEncoder, Rgba};

    use super::*;

    /// A smooth picture that differs from those of other numbers, and from its own mirror image.
    fn picture(width: u32, height: u32, number: u8) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([
                (x * 255 / width) as u8,
                (y * 255 / height) as u8,
                number.wrapping_mul(37),
            ])
        })
    }

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut content = Cursor::new(Vec::new());
        picture.write_to(&mut content, format).unwrap();
        content.into_inner()
    }

    fn read(name: &str, content: &[u8]) -> Result<RgbImage, PictureError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        read_picture(&path)
    }

    fn jpeg_with_exif(picture: &RgbImage, exif: Vec<u8>) -> Vec<u8> {
        let mut content = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut content, 95);
        encoder.set_exif_metadata(exif).unwrap();
        encoder.encode_image(picture).unwrap();
        content
    }

    /// Orientation 6: to be turned clockwise by a quarter.
    fn exif_with_orientation_6() -> Vec<u8> {
        let mut exif = b"II*\0\x08\0\0\0\x01\0".to_vec();
        exif.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        exif
    }

    fn largest_difference(one: &RgbImage, other: &RgbImage) -> u8 {
        assert_eq!(one.dimensions(), other.dimensions());
        let pairs = one.iter().zip(other.iter());
        pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
    }

    #[test]
    fn formats_are_told_apart_by_content() {
        let original = picture(40, 32, 1);
        let rgb = DynamicImage::from(original.clone());
        for (format, name) in [
            (ImageFormat::Png, "a.PNG"),
            (ImageFormat::WebP, "a.webp"),
            (ImageFormat::Bmp, "a.Bmp"),
            (ImageFormat::Pnm, "a.ppm"),
            (ImageFormat::Png, "a.jpg"),
            (ImageFormat::Bmp, "no ending"),
        ] {
            let read = read(name, &encoded(&rgb, format));
            assert_eq!(read, Ok(original.clone()), "{name}");
        }
        let jpeg = read("a.JPEG", &encoded(&rgb, ImageFormat::Jpeg)).unwrap();
        assert!(largest_difference(&jpeg, &original) < 24);
    }

    #[test]
    fn plain_pnm_with_another_maximum_is_scaled() {
        let mut text = "P2\n# a comment\n16 16\n100\n".to_owned();
        text += &"0 100 50 25 ".repeat(64);
        let read = read("a.pgm", text.as_bytes()).unwrap();
        let row: Vec<_> = (0..4).map(|x| read.get_pixel(x, 0).0[0]).collect();
        assert_eq!(row, [0, 255, 128, 64]);
    }

    #[test]
    fn grey_and_16_bit_become_8_bit_rgb() {
        let grey = ImageBuffer::from_fn(20, 20, |x, y| Luma([(x * 12 + y) as u8]));
        let content = encoded(&DynamicImage::ImageLuma8(grey.clone()), ImageFormat::Png);
        let expected = RgbImage::from_fn(20, 20, |x, y| Rgb([grey.get_pixel(x, y).0[0]; 3]));
        assert_eq!(read("grey.png", &content), Ok(expected));

        let deep = ImageBuffer::from_fn(20, 20, |x, _| Rgb([(x * 3000) as u16, 65_535, 0]));
        let content = encoded(&DynamicImage::ImageRgb16(deep), ImageFormat::Png);
        let read = read("deep.png", &content).unwrap();
        assert_eq!(read.get_pixel(10, 3).0, [117, 255, 0]);
    }

    #[test]
    fn transparency_is_laid_on_white() {
        let picture = RgbaImage::from_fn(20, 20, |x, _| Rgba([200, 100, 0, (x * 10) as u8]));
        let read = read("a.png", &encoded(&picture.into(), ImageFormat::Png)).unwrap();
        assert_eq!(read.get_pixel(0, 0).0, [255, 255, 255]);
        assert_eq!(read.get_pixel(10, 5).0, [233, 194, 155]);
    }

    #[test]
    fn cmyk_jpeg_keeps_its_colours() {
        let read = read("a.jpg", include_bytes!("fixtures/cmyk.jpg")).unwrap();
        for (x, expected) in [(5, [200, 100, 50]), (30, [30, 61, 220])] {
            for (value, expected) in read.get_pixel(x, 5).0.into_iter().zip(expected) {
                assert!(
                    value.abs_diff(expected) <= 6,
                    "{value} for {expected} at {x}"
                );
            }
        }
    }

    #[test]
    fn orientation_is_obeyed() {
        let original = picture(40, 24, 1);
        let content = jpeg_with_exif(&original, exif_with_orientation_6());
        let expected = image::imageops::rotate90(&original);
        let read = read("a.jpg", &content).unwrap();
        assert!(largest_difference(&read, &expected) < 24);
    }

    #[test]
    fn a_header_tells_format_and_upright_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let header = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            read_header(&path)
        };
        let original = picture(40, 24, 1);
        let rgb = DynamicImage::from(original.clone());
        for (format, name) in [
            (ImageFormat::Jpeg, "JPEG"),
            (ImageFormat::Png, "PNG"),
            (ImageFormat::WebP, "WebP"),
            (ImageFormat::Bmp, "BMP"),
            (ImageFormat::Pnm, "PNM"),
        ] {
            let content = encoded(&rgb, format);
            let expected = PictureHeader {
                format: name,
                width: 40,
                height: 24,
                file_bytes: content.len() as u64,
            };
            assert_eq!(header(&content), Ok(expected));
        }
        let turned = header(&jpeg_with_exif(&original, exif_with_orientation_6())).unwrap();
        assert_eq!((turned.width, turned.height), (24, 40));

        // More before the pixels than is read at first: comments of 64 KiB.
        let mut long = encoded(&rgb, ImageFormat::Jpeg);
        let comment: Vec<u8> = [0xFF, 0xFE, 0xFF, 0xFF]
            .into_iter()
            .chain([b' '; 0xFFFD])
            .collect();
        long.splice(2..2, comment.repeat(5));
        let long = header(&long).unwrap();
        assert_eq!((long.width, long.height), (40, 24));

        assert_eq!(header(b"a letter"), Err(PictureError::NotAPicture));
        assert_eq!(header(b""), Err(PictureError::NotAPicture));
        let gif = PictureError::UnsupportedFormat("image/gif".to_owned());
        assert_eq!(header(b"GIF89a and so on"), Err(gif));
        let tiny = encoded(&picture(15, 20, 1).into(), ImageFormat::Png);
        let (width, height) = (15, 20);
        assert_eq!(header(&tiny), Err(PictureError::TooSmall { width, height }));
        let huge = b"P6\n30000 30000\n255\nabc";
        assert_eq!(header(huge), Err(PictureError::TooLarge));
        let cut = header(&encoded(&rgb, ImageFormat::Jpeg)[..30]);
        assert!(matches!(
            cut,
            Err(PictureError::Truncated | PictureError::Broken(_))
        ));
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let rgb = DynamicImage::from(picture(40, 32, 1));
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Bmp,
            ImageFormat::Pnm,
        ] {
            let content = encoded(&rgb, format);
            // The last chunk of a PNG and the padding of a WebP say nothing.
            let end = content.len() - if format == ImageFormat::Png { 12 } else { 2 };
            for length in (0..end).step_by(11) {
                assert!(
                    read("a", &content[..length]).is_err(),
                    "{format:?} {length}"
                );
            }
        }
    }

    #[test]
    fn a_cut_jpeg_is_not_mistaken_for_whole_by_its_thumbnail() {
        let mut exif = exif_with_orientation_6();
        exif.extend([0xFF, 0xD8, 0xFF, 0xD9]);
        let mut content = jpeg_with_exif(&picture(64, 64, 1), exif);
        assert!(read("whole.jpg", &content).is_ok());
        content.extend(b"what a camera leaves behind");
        assert!(read("more.jpg", &content).is_ok());
        content.truncate(content.len() * 2 / 3);
        assert_eq!(read("cut.jpg", &content), Err(PictureError::Truncated));
    }

    #[test]
    fn damage_ends_in_a_picture_or_a_reason() {
        let rgb = DynamicImage::from(picture(40, 32, 1));
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let content = encoded(&rgb, format);
            for position in (0..content.len()).step_by(7) {
                let mut damaged = content.clone();
                damaged[position] ^= 0xA5;
                // Some damage goes unnoticed.
                if let Ok(picture) = read("a", &damaged) {
                    assert!(picture.width().min(picture.height()) >= MINIMUM_SIDE);
                }
            }
        }
    }

    #[test]
    fn a_small_file_that_claims_to_be_huge_is_refused() {
        let content = b"P6\n30000 30000\n255\nabc";
        assert_eq!(read("a.ppm", content), Err(PictureError::TooLarge));
        let content = b"P6\n40000 2600\n255\nabc";
        assert_eq!(read("a.ppm", content), Err(PictureError::TooLarge));
    }

    #[test]
    fn tiny_pictures_are_refused() {
        for (width, height, usable) in [(16, 16, true), (15, 16, false), (16, 15, false)] {
            let content = encoded(&picture(width, height, 1).into(), ImageFormat::Png);
            assert_eq!(read("a.png", &content).is_ok(), usable, "{width}×{height}");
        }
    }

    #[test]
    fn what_is_no_picture_is_named() {
        assert_eq!(read("a.jpg", b""), Err(PictureError::NotAPicture));
        assert_eq!(read("a.jpg", b"a letter"), Err(PictureError::NotAPicture));
        let gif = PictureError::UnsupportedFormat("image/gif".to_owned());
        assert_eq!(read("a.png", b"GIF89a and so on"), Err(gif));

        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_picture(folder.path()), Err(PictureError::NotAFile));
        let missing = folder.path().join("missing.png");
        assert_eq!(read_picture(&missing), Err(PictureError::Missing));
    }
}
