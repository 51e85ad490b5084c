//! GStreamer's frames as the pictures that the translator reads and writes, without a copy.

use std::ops::ControlFlow;
use std::slice;

use gst::meta::{MetaTransformCopy, tags};
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoFrameRef, VideoInfo};
use munit::runtime::{PictureFormat, PictureMut, PictureRef};

/// Every format that the element takes, the ones that convert most cheaply first.
pub(super) const FORMATS: [(VideoFormat, PictureFormat); 12] = [
    (VideoFormat::Rgb, PictureFormat::Rgb),
    (VideoFormat::Bgr, PictureFormat::Bgr),
    (VideoFormat::Rgbx, PictureFormat::Rgbx),
    (VideoFormat::Bgrx, PictureFormat::Bgrx),
    (VideoFormat::Xrgb, PictureFormat::Xrgb),
    (VideoFormat::Xbgr, PictureFormat::Xbgr),
    (VideoFormat::Rgba, PictureFormat::Rgba),
    (VideoFormat::Bgra, PictureFormat::Bgra),
    (VideoFormat::Argb, PictureFormat::Argb),
    (VideoFormat::Abgr, PictureFormat::Abgr),
    (VideoFormat::Rgbp, PictureFormat::Rgbp),
    (VideoFormat::Bgrp, PictureFormat::Bgrp),
];

/// Shortest and longest side of a frame.
pub(super) const SIDES: std::ops::RangeInclusive<i32> = 16..=8192;

/// The caps of both pads.
pub(super) fn template_caps() -> gst::Caps {
    gst_video::VideoCapsBuilder::new()
        .format_list(FORMATS.map(|(format, _)| format))
        .width_range(SIDES)
        .height_range(SIDES)
        .build()
}

/// What the translator calls a format.
pub(super) fn picture_format(format: VideoFormat) -> munit::Result<PictureFormat> {
    FORMATS
        .iter()
        .find(|(known, _)| *known == format)
        .map(|(_, picture)| *picture)
        .ok_or_else(|| munit::Error::Picture(format!("{format} frames cannot be translated")))
}

/// Width and height of a frame.
pub(super) fn frame_size(info: &VideoInfo) -> (usize, usize) {
    (info.width() as usize, info.height() as usize)
}

/// Bytes from the first to the last pixel of a plane whose rows are `stride` bytes apart.
///
/// The last row ends with its last pixel: in a cropped view nothing has to follow it.
fn plane_length(info: &VideoInfo, stride: usize) -> usize {
    (info.height() as usize - 1) * stride + info.width() as usize * pixel_bytes(info)
}

/// Bytes from a pixel to the next in each plane.
pub(super) fn pixel_bytes(info: &VideoInfo) -> usize {
    if info.n_planes() == 1 {
        info.comp_pstride(0) as usize
    } else {
        1
    }
}

/// The rows of each plane of a frame, without their padding.
pub(super) fn rows<'a>(
    frame: &'a VideoFrameRef<&gst::BufferRef>,
) -> munit::Result<impl Iterator<Item = impl Iterator<Item = &'a [u8]>>> {
    let length = frame.width() as usize * pixel_bytes(frame.info());
    let planes = readable_planes(frame)?.into_iter();
    Ok(planes
        .map(move |(bytes, stride)| bytes.chunks(stride.max(1)).map(move |row| &row[..length])))
}

/// Calls `change` with each row of `frame`, without its padding, and the same row of `other`, a
/// frame of the same caps.
pub(super) fn for_each_row(
    frame: &mut VideoFrameRef<&mut gst::BufferRef>,
    other: &VideoFrameRef<&gst::BufferRef>,
    mut change: impl FnMut(&mut [u8], &[u8]),
) -> munit::Result<()> {
    let length = frame.width() as usize * pixel_bytes(frame.info());
    let planes = writable_planes(frame)?.into_iter().zip(rows(other)?);
    for ((bytes, stride), others) in planes {
        for (row, other) in bytes.chunks_mut(stride.max(1)).zip(others) {
            change(&mut row[..length], other);
        }
    }
    Ok(())
}

/// Shows `original` in the columns of `frame` on the left of `position`, a share of its width.
pub(super) fn split(
    frame: &mut VideoFrameRef<&mut gst::BufferRef>,
    original: &VideoFrameRef<&gst::BufferRef>,
    position: f64,
) -> munit::Result<()> {
    let columns = (f64::from(frame.width()) * position.clamp(0.0, 1.0)).round() as usize;
    let bytes = columns * pixel_bytes(frame.info());
    for_each_row(frame, original, |row, original| {
        row[..bytes].copy_from_slice(&original[..bytes]);
    })
}

/// Where each plane of a mapped frame begins, its length and its stride; checked against the
/// mapped memory, because a VideoMeta can claim anything.
fn planes(frame: &impl VideoFrameExt) -> munit::Result<Vec<(*mut u8, usize, usize)>> {
    let broken = || {
        munit::Error::Picture(
            "a buffer is smaller than its video format and strides say".to_owned(),
        )
    };
    let info = frame.info();
    // SAFETY: `as_ptr` points to the mapped frame, which `frame` borrows.
    let raw = unsafe { &*frame.as_ptr() };
    (0..info.n_planes() as usize)
        .map(|plane| {
            let stride = usize::try_from(info.stride()[plane]).map_err(|_| broken())?;
            if stride < info.width() as usize * pixel_bytes(info) {
                return Err(broken());
            }
            let length = plane_length(info, stride);
            let start = raw.data[plane] as usize;
            let end = start.checked_add(length).ok_or_else(broken)?;
            // Without a VideoMeta the whole frame is one mapping, and the others are not filled in.
            let map = &raw.map[if raw.meta.is_null() { 0 } else { plane }];
            let first = map.data as usize;
            if first != 0 && first <= start && end - first <= map.size {
                Ok((raw.data[plane].cast(), length, stride))
            } else {
                Err(broken())
            }
        })
        .collect()
}

/// The bytes of each plane of a frame, and the distance between its rows.
fn readable_planes<'a>(
    frame: &'a VideoFrameRef<&gst::BufferRef>,
) -> munit::Result<Vec<(&'a [u8], usize)>> {
    let slices = planes(frame)?.into_iter().map(|(data, length, stride)| {
        // SAFETY: `planes` has checked that this lies within the memory that `frame` maps for
        // reading.
        (unsafe { slice::from_raw_parts(data, length) }, stride)
    });
    Ok(slices.collect())
}

/// As [`readable_planes`], to write.
fn writable_planes<'a>(
    frame: &'a mut VideoFrameRef<&mut gst::BufferRef>,
) -> munit::Result<Vec<(&'a mut [u8], usize)>> {
    let checked = planes(&**frame)?;
    let mut by_address: Vec<_> = checked
        .iter()
        .map(|plane| (plane.0 as usize, plane.1))
        .collect();
    by_address.sort_unstable();
    if by_address
        .windows(2)
        .any(|pair| pair[0].0 + pair[0].1 > pair[1].0)
    {
        return Err(munit::Error::Picture(
            "the planes of a buffer overlap".to_owned(),
        ));
    }
    let slices = checked.into_iter().map(|(data, length, stride)| {
        // SAFETY: as in `readable_planes`; mapped for writing, borrowed mutably, and no two planes
        // share a byte.
        (unsafe { slice::from_raw_parts_mut(data, length) }, stride)
    });
    Ok(slices.collect())
}

/// A frame to read.
pub(super) fn view<'a>(frame: &'a VideoFrameRef<&gst::BufferRef>) -> munit::Result<PictureRef<'a>> {
    let info = frame.info();
    PictureRef::new(
        picture_format(info.format())?,
        info.width() as usize,
        info.height() as usize,
        &readable_planes(frame)?,
    )
}

/// A frame to write.
pub(super) fn view_mut<'a>(
    frame: &'a mut VideoFrameRef<&mut gst::BufferRef>,
) -> munit::Result<PictureMut<'a>> {
    let info = frame.info();
    let format = picture_format(info.format())?;
    let (width, height) = (info.width() as usize, info.height() as usize);
    PictureMut::new(format, width, height, writable_planes(frame)?)
}

/// Copies everything but the pixels: flags, timestamps, offsets and metas.
///
/// Left behind are metas about the memory itself and the VideoMeta, which describes the input's
/// strides; the output has its own.
pub(super) fn copy_metadata(
    input: &gst::BufferRef,
    output: &mut gst::BufferRef,
) -> Result<(), glib::BoolError> {
    input.copy_into(
        output,
        gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS,
        ..,
    )?;
    input.foreach_meta(|meta| {
        let about_memory =
            meta.has_tag::<tags::Memory>() || meta.has_tag::<tags::MemoryReference>();
        if !about_memory && meta.api() != gst_video::VideoMeta::meta_api() {
            // A meta that cannot be copied stays behind, as with every other filter.
            let _ = meta.transform(output, &MetaTransformCopy::new(..));
        }
        ControlFlow::Continue(())
    });
    Ok(())
}
