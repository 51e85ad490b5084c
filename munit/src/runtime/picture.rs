//! Views of the pixels of packed and planar 8-bit pictures, and their way to and from tensors.
//!
//! An 8-bit value v stands for v/127.5 − 1; on the way back values are clamped and rounded to
//! nearest. Nothing is stretched to a picture's own range.

use std::fmt;
use std::str::FromStr;

use tch::Tensor;

use super::border::{Border, continued};
use super::element::{Element, channels_last, elements_mut};
use super::parallel;
use crate::config::Padding;
use crate::{Error, Result};

/// Layout of an 8-bit picture; the names are GStreamer's and list the bytes of a pixel in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PictureFormat {
    /// Three bytes: red, green, blue.
    Rgb,
    /// Three bytes: blue, green, red.
    Bgr,
    /// Four bytes: red, green, blue, one unused.
    Rgbx,
    /// Four bytes: blue, green, red, one unused.
    Bgrx,
    /// Four bytes: one unused, red, green, blue.
    Xrgb,
    /// Four bytes: one unused, blue, green, red.
    Xbgr,
    /// Four bytes: red, green, blue, opacity.
    Rgba,
    /// Four bytes: blue, green, red, opacity.
    Bgra,
    /// Four bytes: opacity, red, green, blue.
    Argb,
    /// Four bytes: opacity, blue, green, red.
    Abgr,
    /// Three planes in the order red, green, blue.
    Rgbp,
    /// Three planes in the order blue, green, red.
    Bgrp,
}

/// What the fourth byte of a pixel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fourth {
    /// Opacity, at this offset.
    Alpha(usize),
    /// Nothing, at this offset; written as 255.
    Filler(usize),
}

impl PictureFormat {
    /// Every format.
    pub const ALL: [Self; 12] = [
        Self::Rgb,
        Self::Bgr,
        Self::Rgbx,
        Self::Bgrx,
        Self::Xrgb,
        Self::Xbgr,
        Self::Rgba,
        Self::Bgra,
        Self::Argb,
        Self::Abgr,
        Self::Rgbp,
        Self::Bgrp,
    ];

    /// GStreamer's name, for example `RGBx`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rgb => "RGB",
            Self::Bgr => "BGR",
            Self::Rgbx => "RGBx",
            Self::Bgrx => "BGRx",
            Self::Xrgb => "xRGB",
            Self::Xbgr => "xBGR",
            Self::Rgba => "RGBA",
            Self::Bgra => "BGRA",
            Self::Argb => "ARGB",
            Self::Abgr => "ABGR",
            Self::Rgbp => "RGBP",
            Self::Bgrp => "BGRP",
        }
    }

    /// Number of planes: 1 for packed formats, 3 for planar ones.
    pub fn planes(self) -> usize {
        match self {
            Self::Rgbp | Self::Bgrp => 3,
            _ => 1,
        }
    }

    /// Bytes from one pixel of a plane to the next.
    pub fn pixel_bytes(self) -> usize {
        match self {
            Self::Rgbp | Self::Bgrp => 1,
            Self::Rgb | Self::Bgr => 3,
            _ => 4,
        }
    }

    /// Whether pixels have an opacity.
    pub fn has_alpha(self) -> bool {
        matches!(self.fourth(), Some(Fourth::Alpha(_)))
    }

    /// Where red, green and blue are: their plane and their byte within a pixel of it.
    pub(super) fn colours(self) -> [(usize, usize); 3] {
        match self {
            Self::Rgb | Self::Rgbx | Self::Rgba => [(0, 0), (0, 1), (0, 2)],
            Self::Bgr | Self::Bgrx | Self::Bgra => [(0, 2), (0, 1), (0, 0)],
            Self::Xrgb | Self::Argb => [(0, 1), (0, 2), (0, 3)],
            Self::Xbgr | Self::Abgr => [(0, 3), (0, 2), (0, 1)],
            Self::Rgbp => [(0, 0), (1, 0), (2, 0)],
            Self::Bgrp => [(2, 0), (1, 0), (0, 0)],
        }
    }

    pub(super) fn fourth(self) -> Option<Fourth> {
        match self {
            Self::Rgb | Self::Bgr | Self::Rgbp | Self::Bgrp => None,
            Self::Rgbx | Self::Bgrx => Some(Fourth::Filler(3)),
            Self::Xrgb | Self::Xbgr => Some(Fourth::Filler(0)),
            Self::Rgba | Self::Bgra => Some(Fourth::Alpha(3)),
            Self::Argb | Self::Abgr => Some(Fourth::Alpha(0)),
        }
    }

    /// Checks that planes of these lengths and row strides hold a picture.
    fn check(
        self,
        width: usize,
        height: usize,
        planes: impl ExactSizeIterator<Item = (usize, usize)>,
    ) -> Result<()> {
        if width == 0 || height == 0 {
            return Err(Error::Picture(format!(
                "a picture of {width}x{height} pixels has nothing to translate"
            )));
        }
        if planes.len() != self.planes() {
            return Err(Error::Picture(format!(
                "{self} pictures have {} planes, not {}",
                self.planes(),
                planes.len()
            )));
        }
        for (number, (length, stride)) in planes.enumerate() {
            let row = width.checked_mul(self.pixel_bytes());
            let needed = row.and_then(|row| stride.checked_mul(height - 1)?.checked_add(row));
            if row.is_none_or(|row| stride < row) || needed.is_none_or(|needed| length < needed) {
                return Err(Error::Picture(format!(
                    "plane {number} of a {width}x{height} {self} picture has {length} bytes in \
                     rows of {stride}, which is too few"
                )));
            }
        }
        Ok(())
    }
}

impl fmt::Display for PictureFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for PictureFormat {
    type Err = Error;

    /// Reads [`PictureFormat::name`].
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                Error::Picture(format!(
                    "{text} pictures cannot be translated; use one of {names}"
                ))
            })
    }
}

/// A borrowed picture: packed formats have one plane, planar ones three.
#[derive(Clone, Copy, Debug)]
pub struct PictureRef<'a> {
    /// Pixel layout.
    pub(crate) format: PictureFormat,
    /// Pixels in a row.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
    /// Each plane's bytes and the distance between its rows in bytes.
    pub(crate) planes: [(&'a [u8], usize); 3],
}

/// A borrowed picture to write into.
#[derive(Debug)]
pub struct PictureMut<'a> {
    pub(crate) format: PictureFormat,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) planes: [(&'a mut [u8], usize); 3],
}

impl<'a> PictureRef<'a> {
    /// `planes`: one (packed) or three (planar) pairs of bytes and row stride in bytes.
    ///
    /// # Errors
    /// [`crate::Error::Picture`] if a plane is too short for its size and stride.
    pub fn new(
        format: PictureFormat,
        width: usize,
        height: usize,
        planes: &[(&'a [u8], usize)],
    ) -> Result<Self> {
        let sizes = planes.iter().map(|(bytes, stride)| (bytes.len(), *stride));
        format.check(width, height, sizes)?;
        let mut filled = [(&[][..], 0); 3];
        filled
            .iter_mut()
            .zip(planes)
            .for_each(|(slot, plane)| *slot = *plane);
        Ok(Self {
            format,
            width,
            height,
            planes: filled,
        })
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixel layout.
    pub fn format(&self) -> PictureFormat {
        self.format
    }

    /// The bytes of row `y` of a plane.
    fn row(&self, plane: usize, y: usize) -> &'a [u8] {
        let (bytes, stride) = self.planes[plane];
        &bytes[y * stride..][..self.width * self.format.pixel_bytes()]
    }

    /// Copies row `y` as red, green and blue bytes.
    fn read_colours(&self, y: usize, colours: &mut [u8]) {
        if self.format == PictureFormat::Rgb {
            colours.copy_from_slice(self.row(0, y));
            return;
        }
        let pixel_bytes = self.format.pixel_bytes();
        for (colour, (plane, offset)) in self.format.colours().into_iter().enumerate() {
            let pixels = self.row(plane, y).chunks_exact(pixel_bytes);
            for (colours, pixel) in colours.chunks_exact_mut(3).zip(pixels) {
                colours[colour] = pixel[offset];
            }
        }
    }

    /// Opacity of the pixels of row `y`, or `None` if the format has none.
    fn opacities(&self, y: usize) -> Option<impl Iterator<Item = u8> + use<'a>> {
        let Some(Fourth::Alpha(offset)) = self.format.fourth() else {
            return None;
        };
        Some(
            self.row(0, y)
                .chunks_exact(4)
                .map(move |pixel| pixel[offset]),
        )
    }

    /// Copies the bytes of all pixels, row by row without gaps, one plane after the other.
    pub(super) fn copy_to(&self, memory: &mut [u8]) {
        let row_length = self.width * self.format.pixel_bytes();
        parallel::for_each_band(memory, row_length, &|first_row, band| {
            for (row, bytes) in band.chunks_exact_mut(row_length).enumerate() {
                let row = first_row + row;
                bytes.copy_from_slice(self.row(row / self.height, row % self.height));
            }
        });
    }

    /// The picture's colours as a channels-last CPU tensor `[1, 3, height, width]` of bytes.
    pub(super) fn to_bytes(self) -> Result<Tensor> {
        let (height, width) = (self.height as i64, self.width as i64);
        let mut tensor = channels_last(3, height, width, u8::KIND, tch::Device::Cpu)?;
        let row_length = 3 * self.width;
        parallel::for_each_band(
            elements_mut::<u8>(&mut tensor)?,
            row_length,
            &|first_row, band| {
                for (row, colours) in band.chunks_exact_mut(row_length).enumerate() {
                    self.read_colours(first_row + row, colours);
                }
            },
        );
        Ok(tensor)
    }

    /// The picture as a channels-last CPU tensor `[1, channels, height, width]` of values in
    /// [-1, 1], first reflected to `height` x `width` on its lower and right sides, then
    /// surrounded by `border`. One channel is the luma of ITU-R BT.601.
    pub(super) fn to_tensor<T: Element>(
        self,
        channels: usize,
        (height, width): (usize, usize),
        border: Border,
    ) -> Result<Tensor> {
        let rows = source_indices(self.height, height, border);
        let columns = source_indices(self.width, width, border);
        let own = border.width..border.width + self.width;
        let mut tensor = channels_last(
            channels as i64,
            rows.len() as i64,
            columns.len() as i64,
            T::KIND,
            tch::Device::Cpu,
        )?;
        let row_length = columns.len() * channels;
        let zero = T::from_f32(0.0);
        parallel::for_each_band(
            elements_mut::<T>(&mut tensor)?,
            row_length,
            &|first_row, band| {
                let mut colours = vec![0; 3 * self.width];
                for (row, y) in band.chunks_exact_mut(row_length).zip(&rows[first_row..]) {
                    let Some(y) = *y else {
                        row.fill(zero);
                        continue;
                    };
                    self.read_colours(y, &mut colours);
                    to_values(
                        &colours,
                        channels,
                        &mut row[own.start * channels..own.end * channels],
                    );
                    for x in (0..own.start).chain(own.end..columns.len()) {
                        let pixel = x * channels;
                        match columns[x] {
                            Some(source) => {
                                let source = (own.start + source) * channels;
                                row.copy_within(source..source + channels, pixel);
                            }
                            None => row[pixel..pixel + channels].fill(zero),
                        }
                    }
                }
            },
        );
        Ok(tensor)
    }
}

impl<'a> PictureMut<'a> {
    /// As [`PictureRef::new`].
    ///
    /// # Errors
    /// [`crate::Error::Picture`] if a plane is too short for its size and stride.
    pub fn new(
        format: PictureFormat,
        width: usize,
        height: usize,
        planes: Vec<(&'a mut [u8], usize)>,
    ) -> Result<Self> {
        let sizes = planes.iter().map(|(bytes, stride)| (bytes.len(), *stride));
        format.check(width, height, sizes)?;
        let mut filled = [(); 3].map(|()| (&mut [][..], 0));
        filled
            .iter_mut()
            .zip(planes)
            .for_each(|(slot, plane)| *slot = plane);
        Ok(Self {
            format,
            width,
            height,
            planes: filled,
        })
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixel layout.
    pub fn format(&self) -> PictureFormat {
        self.format
    }

    /// Writes `values`, rows of `row_width` pixels of `channels` numbers in [-1, 1] of which the
    /// first ones are this picture's, mixed with `original` in the 8-bit domain: at strength 0
    /// the picture's colours are the original's. Opacity is the original's, or 255.
    pub(super) fn write<T: Element>(
        &mut self,
        values: &[T],
        (row_width, channels): (usize, usize),
        original: &PictureRef,
        strength: f32,
    ) {
        let width = self.width;
        self.write_rows(original, strength, &|y, colours| {
            let values = &values[y * row_width * channels..][..width * channels];
            to_bytes(values, channels, colours);
        });
    }

    /// As [`Self::write`], from the red, green and blue bytes of each pixel.
    pub(super) fn write_bytes(&mut self, bytes: &[u8], original: &PictureRef, strength: f32) {
        let row_length = 3 * self.width;
        self.write_rows(original, strength, &|y, colours| {
            colours.copy_from_slice(&bytes[y * row_length..][..row_length]);
        });
    }

    /// Writes the bytes of all pixels in the order of [`PictureRef::copy_to`].
    pub(super) fn copy_from(&mut self, memory: &[u8]) {
        let row_length = self.width * self.format.pixel_bytes();
        let (planes, height) = (self.format.planes(), self.height);
        parallel::for_each_item(self.rows(), &|y, row| {
            for (plane, bytes) in row.0.into_iter().take(planes).enumerate() {
                let start = (plane * height + y) * row_length;
                bytes.copy_from_slice(&memory[start..start + row_length]);
            }
        });
    }

    /// Writes the colours that `translated` gives for each row, mixed with `original`.
    fn write_rows(
        &mut self,
        original: &PictureRef,
        strength: f32,
        translated: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) {
        let (format, width) = (self.format, self.width);
        let rows = self.rows();
        parallel::for_each_item(rows, &|y, mut row| {
            let mut colours = vec![0; 3 * width];
            translated(y, &mut colours);
            if strength < 1.0 {
                let mut originals = vec![0; 3 * width];
                original.read_colours(y, &mut originals);
                mix(&mut colours, &originals, strength);
            }
            row.write_colours(format, &colours);
            row.write_fourth(format, original.opacities(y));
        });
    }

    /// Every row's bytes in every plane.
    fn rows(&mut self) -> Vec<Row<'_>> {
        let row_bytes = self.width * self.format.pixel_bytes();
        let [first, second, third] = self.planes.each_mut().map(|(bytes, stride)| {
            bytes
                .chunks_mut((*stride).max(1))
                .map(move |row| &mut row[..row_bytes])
        });
        if self.format.planes() == 1 {
            return first
                .take(self.height)
                .map(|row| Row([row, &mut [], &mut []]))
                .collect();
        }
        first
            .zip(second)
            .zip(third)
            .take(self.height)
            .map(|((first, second), third)| Row([first, second, third]))
            .collect()
    }
}

/// One row of a picture in each of its planes.
struct Row<'a>([&'a mut [u8]; 3]);

impl Row<'_> {
    /// `colours`: red, green and blue of each pixel.
    fn write_colours(&mut self, format: PictureFormat, colours: &[u8]) {
        if format == PictureFormat::Rgb {
            self.0[0].copy_from_slice(colours);
            return;
        }
        for (colour, (plane, offset)) in format.colours().into_iter().enumerate() {
            let pixels = self.0[plane].chunks_exact_mut(format.pixel_bytes());
            for (pixel, colours) in pixels.zip(colours.chunks_exact(3)) {
                pixel[offset] = colours[colour];
            }
        }
    }

    fn write_fourth(&mut self, format: PictureFormat, opacities: Option<impl Iterator<Item = u8>>) {
        let pixels = self.0[0].chunks_exact_mut(format.pixel_bytes());
        match (format.fourth(), opacities) {
            (None, _) => {}
            (Some(Fourth::Alpha(offset)), Some(opacities)) => {
                pixels
                    .zip(opacities)
                    .for_each(|(pixel, opacity)| pixel[offset] = opacity);
            }
            (Some(Fourth::Alpha(offset) | Fourth::Filler(offset)), _) => {
                pixels.for_each(|pixel| pixel[offset] = u8::MAX);
            }
        }
    }
}

/// Maps red, green and blue bytes to one or three values a pixel in [-1, 1].
fn to_values<T: Element>(colours: &[u8], channels: usize, values: &mut [T]) {
    if channels == 1 {
        for (value, pixel) in values.iter_mut().zip(colours.chunks_exact(3)) {
            let [red, green, blue] = [0, 1, 2].map(|colour| f32::from(pixel[colour]));
            let luma = 0.299 * red + 0.587 * green + 0.114 * blue;
            *value = T::from_f32(luma / 127.5 - 1.0);
        }
        return;
    }
    for (value, &byte) in values.iter_mut().zip(colours) {
        *value = T::from_f32(f32::from(byte) / 127.5 - 1.0);
    }
}

/// Maps one or three values a pixel in [-1, 1] to red, green and blue bytes.
fn to_bytes<T: Element>(values: &[T], channels: usize, colours: &mut [u8]) {
    // The half turns truncation into rounding to nearest.
    let to_byte = |value: T| (value.to_f32() * 127.5 + (127.5 + 0.5)).clamp(0.0, 255.0) as u8;
    if channels == 1 {
        for (pixel, &value) in colours.chunks_exact_mut(3).zip(values) {
            pixel.fill(to_byte(value));
        }
        return;
    }
    for (colour, &value) in colours.iter_mut().zip(values) {
        *colour = to_byte(value);
    }
}

/// Moves `colours` towards `originals`: strength 0 is the original.
fn mix(colours: &mut [u8], originals: &[u8], strength: f32) {
    for (colour, &original) in colours.iter_mut().zip(originals) {
        let original = f32::from(original);
        let mixed = original + strength * (f32::from(*colour) - original);
        *colour = (mixed + 0.5) as u8;
    }
}

/// Which of the `length` rows (or columns) of a picture each row of its tensor shows, when the
/// picture is first reflected to `reflected` rows and then given a border; `None` is zero.
fn source_indices(length: usize, reflected: usize, border: Border) -> Vec<Option<usize>> {
    let edge = border.width as isize;
    (-edge..reflected as isize + edge)
        .map(|index| {
            let index = continued(index, reflected, border.padding)?;
            continued(index as isize, length, Padding::Reflect)
        })
        .collect()
}
