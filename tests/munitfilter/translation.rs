//! Frames: what the networks make of them, in every format, size and stride.

use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoFrameRef, VideoInfo};
use munit::StyleCode;

use crate::support::*;

#[test]
fn a_still_frame_is_the_reference_forward_pass() {
    let (width, height) = (64, 48);
    let rgb = picture(width, height, 3);
    let translated = translate(&munitfilter(), &rgb, width, height);
    let mean = StyleCode::new(MEAN.to_vec(), STYLE_DIM).unwrap();
    assert_close(&translated, &reference(&rgb, width, height, &mean));

    let element = munitfilter();
    element.set_property("style-name", "bright");
    let translated = translate(&element, &rgb, width, height);
    let bright = StyleCode::new(BRIGHT.to_vec(), STYLE_DIM).unwrap();
    assert_close(&translated, &reference(&rgb, width, height, &bright));
}

#[test]
fn a_unit_model_translates_without_a_style() {
    let (width, height) = (48, 32);
    let rgb = picture(width, height, 3);
    let (model, expected) = unit_model(5, &rgb, width, height);
    let element = munitfilter();
    element.set_property(
        "model",
        write_model("unit.safetensors", &model).to_str().unwrap(),
    );
    assert_close(&translate(&element, &rgb, width, height), &expected);
}

#[test]
fn odd_sizes_are_continued_by_reflection_and_cropped() {
    let (width, height) = (37, 22);
    let (tall, wide) = (24, 40);
    let rgb = picture(width, height, 5);
    let mirror = |position: usize, length: usize| {
        if position < length {
            position
        } else {
            2 * (length - 1) - position
        }
    };
    let reflected: Vec<u8> = (0..tall * wide * 3)
        .map(|index| {
            let (x, y) = (index / 3 % wide, index / 3 / wide);
            rgb[(mirror(y, height) * width + mirror(x, width)) * 3 + index % 3]
        })
        .collect();
    let mean = StyleCode::new(MEAN.to_vec(), STYLE_DIM).unwrap();
    let expected: Vec<f32> = reference(&reflected, wide, tall, &mean)
        .chunks_exact(wide * 3)
        .take(height)
        .flat_map(|row| row[..width * 3].to_vec())
        .collect();
    assert_close(&translate(&munitfilter(), &rgb, width, height), &expected);
}

#[test]
fn strength_mixes_with_the_original() {
    let (width, height) = (32, 32);
    let rgb = picture(width, height, 1);
    let element = munitfilter();
    element.set_property("strength", 0.0);
    assert!(difference(&translate(&element, &rgb, width, height), &rgb) <= 1);
    element.set_property("strength", 0.5);
    let mean = StyleCode::new(MEAN.to_vec(), STYLE_DIM).unwrap();
    let expected: Vec<f32> = reference(&rgb, width, height, &mean)
        .iter()
        .zip(&rgb)
        .map(|(translated, original)| (translated.clamp(0.0, 255.0) + f32::from(*original)) / 2.0)
        .collect();
    assert_close(&translate(&element, &rgb, width, height), &expected);
}

#[test]
fn an_inference_size_keeps_the_size_of_the_frame() {
    let (width, height) = (90, 62);
    let rgb = picture(width, height, 1);
    let full = translate(&munitfilter(), &rgb, width, height);
    let at = |size: u32| {
        let element = munitfilter();
        element.set_property("inference-size", size);
        let translated = translate(&element, &rgb, width, height);
        assert_eq!(translated.len(), full.len());
        translated
    };
    assert_ne!(at(32), full);
    assert_ne!(at(16), at(32));
    // Too small for the model, and larger than the frame.
    assert_eq!(at(1), at(16));
    assert_eq!(at(8192), full);
}

const FORMATS: [VideoFormat; 12] = [
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Xrgb,
    VideoFormat::Xbgr,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Argb,
    VideoFormat::Abgr,
    VideoFormat::Rgbp,
    VideoFormat::Bgrp,
];

/// An alpha value for each pixel.
fn alpha(x: usize, y: usize) -> u8 {
    (x * 31 + y * 17) as u8
}

/// Writes red, green and blue, and alpha where the format has it.
fn fill(frame: &mut VideoFrameRef<&mut gst::BufferRef>, rgb: &[u8]) {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let format = frame.format_info();
    for component in 0..format.n_components() {
        let plane = format.plane()[component as usize];
        let step = format.pixel_stride()[component as usize] as usize;
        let offset = format.poffset()[component as usize] as usize;
        let stride = frame.plane_stride()[plane as usize] as usize;
        let data = frame.plane_data_mut(plane).unwrap();
        for y in 0..height {
            for x in 0..width {
                let value = match component {
                    3 => alpha(x, y),
                    colour => rgb[(y * width + x) * 3 + colour as usize],
                };
                data[y * stride + x * step + offset] = value;
            }
        }
    }
}

/// Red, green and blue, and alpha where the format has it.
fn components(sample: &gst::Sample) -> (Vec<u8>, Option<Vec<u8>>) {
    let info = VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let frame = VideoFrameRef::from_buffer_ref_readable(sample.buffer().unwrap(), &info).unwrap();
    let format = frame.format_info();
    let read = |component: usize, x: usize, y: usize| {
        let plane = format.plane()[component];
        let step = format.pixel_stride()[component] as usize;
        let offset = format.poffset()[component] as usize;
        let stride = frame.plane_stride()[plane as usize] as usize;
        frame.plane_data(plane).unwrap()[y * stride + x * step + offset]
    };
    let pixels = || {
        let width = info.width() as usize;
        (0..info.height() as usize).flat_map(move |y| (0..width).map(move |x| (x, y)))
    };
    let rgb = pixels()
        .flat_map(|(x, y)| [read(0, x, y), read(1, x, y), read(2, x, y)])
        .collect();
    let alpha =
        (format.n_components() == 4).then(|| pixels().map(|(x, y)| read(3, x, y)).collect());
    (rgb, alpha)
}

#[test]
fn every_format_gives_the_same_colours_and_keeps_its_alpha() {
    let (width, height) = (37, 23);
    let rgb = picture(width, height, 2);
    let expected = translate(&munitfilter(), &rgb, width, height);
    for format in FORMATS {
        let info = VideoInfo::builder(format, width as u32, height as u32)
            .build()
            .unwrap();
        let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
        let mut frame =
            VideoFrameRef::from_buffer_ref_writable(buffer.get_mut().unwrap(), &info).unwrap();
        fill(&mut frame, &rgb);
        drop(frame);
        let line = Line::new(
            &munitfilter(),
            &caps(&format.to_string(), width, height, (30, 1)),
        );
        line.push(buffer);
        let (translated, found_alpha) = components(&line.pull());
        assert!(difference(&translated, &expected) <= 1, "{format}");
        assert_eq!(found_alpha.is_some(), info.has_alpha(), "{format}");
        if let Some(found_alpha) = found_alpha {
            let kept = (0..width * height)
                .all(|index| found_alpha[index] == alpha(index % width, index / width));
            assert!(kept, "{format} loses its alpha");
        }
    }
}

#[test]
fn strides_and_offsets_of_a_cropped_view_are_followed() {
    let (width, height) = (33, 20);
    let rgb = picture(width, height, 4);
    let expected = translate(&munitfilter(), &rgb, width, height);

    // The last row ends with its last pixel, as in a view of a larger picture.
    let (offset, stride) = (7, 3 * width + 50);
    let mut bytes = vec![255; offset + (height - 1) * stride + 3 * width];
    for (y, row) in rgb.chunks_exact(3 * width).enumerate() {
        bytes[offset + y * stride..][..row.len()].copy_from_slice(row);
    }
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    gst_video::VideoMeta::add_full(
        buffer.get_mut().unwrap(),
        gst_video::VideoFrameFlags::empty(),
        VideoFormat::Rgb,
        width as u32,
        height as u32,
        &[offset],
        &[stride as i32],
    )
    .unwrap();
    let line = Line::new(&munitfilter(), &caps("RGB", width, height, (30, 1)));
    line.push(buffer);
    assert_eq!(rgb_pixels(&line.pull()), expected);
}

#[test]
fn a_buffer_too_small_for_its_caps_is_left_out_with_a_warning() {
    let (width, height) = (32, 32);
    let line = Line::new(&munitfilter(), &caps("RGB", width, height, (30, 1)));
    line.push(gst::Buffer::with_size(100).unwrap());
    let mut whole = rgb_buffer(&picture(width, height, 1), width, height);
    whole.get_mut().unwrap().set_pts(gst::ClockTime::SECOND);
    line.push(whole);
    let sample = line.pull();
    assert_eq!(sample.buffer().unwrap().pts(), Some(gst::ClockTime::SECOND));
    assert!(line.warning().contains("left out"));
}

#[test]
fn caps_may_change_midway() {
    let line = Line::new(&munitfilter(), &caps("RGB", 32, 24, (30, 1)));
    for (format, width, height) in [("RGB", 32, 24), ("RGB", 64, 48), ("BGRx", 20, 31)] {
        let new_caps = caps(format, width, height, (30, 1));
        line.source.set_caps(Some(&new_caps));
        let size = VideoInfo::from_caps(&new_caps).unwrap().size();
        for _ in 0..3 {
            line.push(gst::Buffer::with_size(size).unwrap());
        }
    }
    for index in 0..9 {
        let sample = line.pull();
        let info = VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        let expected = [(32, 24), (64, 48), (20, 31)][index / 3];
        assert_eq!((info.width(), info.height()), expected, "frame {index}");
    }
}

#[test]
fn nothing_is_lost_and_all_but_the_pixels_is_kept() {
    let (width, height) = (16, 16);
    for framerate in [(0, 1), (24000, 1001)] {
        let line = Line::new(&munitfilter(), &caps("RGB", width, height, framerate));
        let count = 20;
        for index in 0..count {
            let mut buffer = rgb_buffer(&picture(width, height, index), width, height);
            let buffer_ref = buffer.get_mut().unwrap();
            if index != 3 {
                buffer_ref.set_pts(gst::ClockTime::from_mseconds(u64::from(index) * 41));
                buffer_ref.set_duration(gst::ClockTime::from_mseconds(41));
            }
            buffer_ref.set_offset(100 + u64::from(index));
            buffer_ref.set_flags(gst::BufferFlags::MARKER);
            gst::ReferenceTimestampMeta::add(
                buffer_ref,
                &gst::Caps::new_empty_simple("timestamp/x-unix"),
                gst::ClockTime::from_seconds(u64::from(index)),
                gst::ClockTime::NONE,
            );
            gst_video::VideoRegionOfInterestMeta::add(buffer_ref, "face", (1, 2, 3, 4));
            line.push(buffer);
        }
        line.source.end_of_stream().unwrap();
        for index in 0..count {
            let sample = line.pull();
            let buffer = sample.buffer().unwrap();
            let pts = (index != 3).then(|| gst::ClockTime::from_mseconds(u64::from(index) * 41));
            assert_eq!(buffer.pts(), pts);
            assert_eq!(
                buffer.duration(),
                pts.map(|_| gst::ClockTime::from_mseconds(41))
            );
            assert_eq!(buffer.offset(), 100 + u64::from(index));
            assert!(buffer.flags().contains(gst::BufferFlags::MARKER));
            let time = buffer
                .meta::<gst::ReferenceTimestampMeta>()
                .unwrap()
                .timestamp();
            assert_eq!(time, gst::ClockTime::from_seconds(u64::from(index)));
            let region = buffer
                .meta::<gst_video::VideoRegionOfInterestMeta>()
                .unwrap()
                .rect();
            assert_eq!(region, (1, 2, 3, 4));
            assert!(buffer.iter_meta::<gst_video::VideoMeta>().count() <= 1);
        }
        assert!(
            line.sink.try_pull_sample(PATIENCE).is_none(),
            "more frames than came in"
        );
        assert!(line.sink.is_eos());
    }
}

#[test]
fn caps_fields_are_passed_on() {
    let fields = "video/x-raw,format=RGB,width=32,height=24,framerate=25/2,\
                  pixel-aspect-ratio=12/11,colorimetry=sRGB,interlace-mode=progressive,\
                  multiview-mode=mono,views=1";
    init();
    let given: gst::Caps = fields.parse().unwrap();
    let line = Line::new(&munitfilter(), &given);
    line.push(rgb_buffer(&picture(32, 24, 1), 32, 24));
    assert_eq!(line.pull().caps().unwrap(), given.as_ref());
}

#[test]
fn interlaced_caps_are_refused_with_one_sentence() {
    init();
    let interlaced: gst::Caps =
        "video/x-raw,format=RGB,width=32,height=24,framerate=25/1,interlace-mode=interleaved"
            .parse()
            .unwrap();
    let element = munitfilter();
    let line = Line::new(&element, &interlaced);
    line.push(rgb_buffer(&picture(32, 24, 1), 32, 24));
    // The source gives up last.
    let mut texts = Vec::new();
    loop {
        let message = line.wait_for(&[gst::MessageType::Error]);
        let gst::MessageView::Error(error) = message.view() else {
            unreachable!()
        };
        if error.src() != Some(element.upcast_ref()) {
            break;
        }
        texts.push(error.error().to_string());
    }
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("deinterlace"), "{texts:?}");
}
