//! Views of the pixels of packed and planar 8-bit pictures, and their way to and from tensors.

use crate::Result;

/// Layout of an 8-bit picture; the names are GStreamer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum PictureFormat {
    Rgb,
    Bgr,
    Rgbx,
    Bgrx,
    Xrgb,
    Xbgr,
    Rgba,
    Bgra,
    Argb,
    Abgr,
    /// Three planes in the order red, green, blue.
    Rgbp,
    /// Three planes in the order blue, green, red.
    Bgrp,
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
        let _ = (format, width, height, planes);
        todo!()
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
        let _ = (format, width, height, planes);
        todo!()
    }
}
