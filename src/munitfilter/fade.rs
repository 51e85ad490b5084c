//! Cross-fades: a few frames are made twice, as before and as from now on, and mixed.

use std::sync::Arc;
use std::time::Duration;

use gst_video::VideoFrameRef;
use munit::StyleCode;

use super::loaded_model::LoadedModel;
use super::picture::for_each_row;

/// What a fade leaves.
#[derive(Clone)]
pub(super) enum Before {
    /// Another model, in the style that it showed last.
    Model(Arc<LoadedModel>, StyleCode),
    /// Another inference size of the same model.
    Size(u32),
}

/// A change that is under way.
pub(super) struct Fade {
    pub before: Before,
    length: Length,
}

/// How long a fade takes: a change of size is hidden within frames, a change of model is to be seen.
enum Length {
    Frames {
        shown: u32,
    },
    StreamTime {
        length: Duration,
        begin: Option<Duration>,
    },
}

/// Frames over which a change of size is spread. Each is made twice, so these are few.
const FRAMES: u32 = 4;

impl Fade {
    /// From a model to another within `length` of stream time.
    pub fn between_models(before: Arc<LoadedModel>, style: StyleCode, length: Duration) -> Self {
        Self {
            before: Before::Model(before, style),
            length: Length::StreamTime {
                length,
                begin: None,
            },
        }
    }

    /// From an inference size to another.
    pub fn between_sizes(size: u32) -> Self {
        Self {
            before: Before::Size(size),
            length: Length::Frames { shown: 0 },
        }
    }

    /// How much of the new the frame at `time` in the stream shows; `None` when the old is gone.
    ///
    /// A fade in stream time ends at once where there is no time, or it runs back (a seek).
    pub fn share_of_new(&mut self, time: Option<Duration>) -> Option<f64> {
        let way = match &mut self.length {
            Length::Frames { shown } => {
                *shown += 1;
                f64::from(*shown) / f64::from(FRAMES + 1)
            }
            Length::StreamTime { length, begin } => {
                let time = time?;
                let passed = time.checked_sub(*begin.get_or_insert(time))?;
                if *length <= passed {
                    return None;
                }
                passed.as_secs_f64() / length.as_secs_f64()
            }
        };
        // A soft start and a soft end.
        (way < 1.0).then_some(way * way * (3.0 - 2.0 * way))
    }
}

/// Mixes `before` into `frame`, both of the same caps; `share` of the result (0 to 1) is what `frame`
/// was.
pub(super) fn mix(
    frame: &mut VideoFrameRef<&mut gst::BufferRef>,
    before: &VideoFrameRef<&gst::BufferRef>,
    share: f64,
) -> munit::Result<()> {
    let new = (share.clamp(0.0, 1.0) * 256.0).round() as u32;
    let old = 256 - new;
    for_each_row(frame, before, |row, before| {
        for (value, before) in row.iter_mut().zip(before) {
            *value = ((u32::from(*value) * new + u32::from(*before) * old + 128) >> 8) as u8;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(1);

    /// A fade in stream time; what it leaves does not matter.
    fn fade() -> Fade {
        Fade {
            before: Before::Size(0),
            length: Length::StreamTime {
                length: LENGTH,
                begin: None,
            },
        }
    }

    #[test]
    fn a_fade_between_sizes_rises_for_a_few_frames() {
        let mut fade = Fade::between_sizes(64);
        let shares: Vec<f64> = std::iter::from_fn(|| fade.share_of_new(None)).collect();
        assert_eq!(shares.len(), FRAMES as usize);
        assert!(shares.is_sorted() && shares[0] > 0.0 && shares[3] < 1.0);
    }

    #[test]
    fn a_fade_between_models_takes_its_stream_time_at_any_frame_rate() {
        for frames_per_second in [10, 60] {
            let mut fade = fade();
            let start = Duration::from_secs(7);
            let frame = LENGTH / frames_per_second;
            let shares: Vec<_> = (0..frames_per_second)
                .map(|number| fade.share_of_new(Some(start + number * frame)).unwrap())
                .collect();
            assert!(shares.is_sorted());
            assert!((shares[frames_per_second as usize / 2] - 0.5).abs() < 1e-6);
            assert_eq!(fade.share_of_new(Some(start + LENGTH)), None);
        }
    }

    #[test]
    fn a_seek_back_and_a_missing_time_end_it() {
        for time in [Some(Duration::from_secs(3)), None] {
            let mut fade = fade();
            assert!(fade.share_of_new(Some(Duration::from_secs(7))).is_some());
            assert_eq!(fade.share_of_new(time), None);
        }
    }
}
