//! Tells whether the picture has changed.

use gst_video::VideoFrameRef;
use gst_video::prelude::*;

use super::picture::{pixel_bytes, rows};

/// Side of the squares, in pixels, whose mean values are compared: large enough to average a
/// camera's noise away, small enough that a finger that moves shows.
const CELL: usize = 8;
/// Change of a cell's mean, in 8-bit steps, up to which it counts as noise.
const NOISE: f32 = 2.0;

/// The picture that the last translation was made from, in the large.
#[derive(Debug, Default)]
pub(super) struct StaticInput {
    means: Vec<f32>,
}

impl StaticInput {
    /// Whether `frame` shows what the one shown last with a change did; if not, it is remembered.
    ///
    /// Slow changes add up, because it is compared with that frame and not with the one before.
    pub fn is_unchanged(&mut self, frame: &VideoFrameRef<&gst::BufferRef>) -> munit::Result<bool> {
        let means = cell_means(frame)?;
        let unchanged = means.len() == self.means.len()
            && means
                .iter()
                .zip(&self.means)
                .all(|(now, then)| (now - then).abs() <= NOISE);
        if !unchanged {
            self.means = means;
        }
        Ok(unchanged)
    }

    /// Takes the next frame for a new picture.
    pub fn forget(&mut self) {
        self.means.clear();
    }
}

/// The mean of each cell of each plane, over all of its bytes.
fn cell_means(frame: &VideoFrameRef<&gst::BufferRef>) -> munit::Result<Vec<f32>> {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let pixel_bytes = pixel_bytes(frame.info());
    let mut means = Vec::new();
    for plane in rows(frame)? {
        let mut sums = vec![0u32; width.div_ceil(CELL)];
        for (number, row) in plane.enumerate() {
            for (sum, cell) in sums.iter_mut().zip(row.chunks(CELL * pixel_bytes)) {
                *sum += cell.iter().map(|&value| u32::from(value)).sum::<u32>();
            }
            let rows = number % CELL + 1;
            if rows == CELL || number + 1 == height {
                means.extend(sums.iter().enumerate().map(|(column, &sum)| {
                    let cell_width = CELL.min(width - column * CELL);
                    sum as f32 / (rows * cell_width * pixel_bytes) as f32
                }));
                sums.fill(0);
            }
        }
    }
    Ok(means)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(change: impl Fn(usize, usize) -> u8) -> gst::Buffer {
        let bytes: Vec<u8> = (0..60 * 33)
            .flat_map(|index| [change(index % 60, index / 60); 3])
            .collect();
        gst::Buffer::from_mut_slice(bytes)
    }

    fn unchanged(static_input: &mut StaticInput, buffer: &gst::Buffer) -> bool {
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, 60, 33)
            .build()
            .unwrap();
        let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
        static_input.is_unchanged(&frame).unwrap()
    }

    #[test]
    fn noise_is_no_change_and_a_small_thing_that_moves_is() {
        gst::init().unwrap();
        let mut static_input = StaticInput::default();
        let noise = |seed: usize| {
            move |x: usize, y: usize| {
                let noise = (x * 7919 + y * 104_729 + seed).wrapping_mul(2_654_435_761) >> 13;
                100 + (noise % 9) as u8
            }
        };
        assert!(!unchanged(&mut static_input, &frame(noise(1))), "the first");
        for seed in 2..10 {
            assert!(unchanged(&mut static_input, &frame(noise(seed))));
        }
        let with_dot = |x: usize, y: usize| match (x, y) {
            (50..54, 28..32) => 160,
            _ => noise(11)(x, y),
        };
        assert!(!unchanged(&mut static_input, &frame(with_dot)));
        assert!(unchanged(&mut static_input, &frame(with_dot)));
        static_input.forget();
        assert!(!unchanged(&mut static_input, &frame(with_dot)));
    }

    #[test]
    fn slow_changes_add_up() {
        gst::init().unwrap();
        let mut static_input = StaticInput::default();
        let changes = (0..20).filter(|&step| !unchanged(&mut static_input, &frame(|_, _| step)));
        assert_eq!(changes.count(), 7);
    }
}
