//! The network by itself, without a pipeline around it.

use std::fmt;
use std::time::Instant;

use anyhow::Result;
use munit::StyleCode;
use munit::runtime::{
    PictureFormat, PictureMut, PictureRef, TranslateOptions, Translator, tame_spinning, use_threads,
};
use serde::{Deserialize, Serialize};

use super::statistics::Spread;
use super::subject::{ModelChoice, RunOptions, Subject};

/// A translator with a frame to translate.
pub struct Network {
    subject: Subject,
    translator: Translator,
    style: StyleCode,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Network {
    /// Loads the model on its device. The calling thread is the one that has to measure.
    ///
    /// # Errors
    /// A model that cannot be read, a device that is not there, a precision that it cannot compute.
    pub fn load(model: &ModelChoice, options: &RunOptions) -> Result<Self> {
        tame_spinning();
        use_threads(options.threads);
        let label = model.label();
        let model = model.load()?;
        let direction = model.metadata.directions[0];
        let translator = Translator::new(&model, direction, options.device, options.precision)?;
        let subject = Subject::new(
            label,
            &model,
            direction,
            options.size,
            translator.device(),
            translator.precision(),
        );
        Ok(Self {
            subject,
            style: model.metadata.default_style(direction),
            translator,
            input: test_picture(options.size.width, options.size.height),
            output: vec![0; 3 * options.size.pixels()],
        })
    }

    /// What is measured.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Translates the frame so many times, from bytes in RGB to bytes in RGB; the milliseconds of
    /// each.
    ///
    /// # Errors
    /// A frame too small for the network; no memory.
    pub fn measure(&mut self, frames: usize) -> Result<Vec<f64>> {
        let (width, height) = (self.subject.size.width, self.subject.size.height);
        let row = 3 * width;
        let mut ms = Vec::with_capacity(frames);
        for _ in 0..frames {
            let begin = Instant::now();
            let input = PictureRef::new(PictureFormat::Rgb, width, height, &[(&self.input, row)])?;
            let mut output = PictureMut::new(
                PictureFormat::Rgb,
                width,
                height,
                vec![(&mut self.output, row)],
            )?;
            let options = TranslateOptions::default();
            self.translator
                .translate(&input, &mut output, &self.style, &options)?;
            ms.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        Ok(ms)
    }
}

/// A frame in RGB with slopes, edges and a little noise.
pub(super) fn test_picture(width: usize, height: usize) -> Vec<u8> {
    let pixel = |x: usize, y: usize| {
        let noise = (x.wrapping_mul(7919) ^ y.wrapping_mul(104_729)) % 16;
        let edge = if (x / 32 + y / 32).is_multiple_of(2) {
            64
        } else {
            0
        };
        [x * 160 / width, y * 160 / height, 80].map(|slope| (slope + edge + noise) as u8)
    };
    (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| pixel(x, y)))
        .collect()
}

/// Times of frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkResult {
    /// What was measured.
    #[serde(flatten)]
    pub subject: Subject,
    /// Milliseconds of each frame after warm-up, from frame bytes to frame bytes.
    pub ms: Vec<f64>,
}

/// Measures `frames` frames after `warm_up` others.
///
/// # Errors
/// Those of [`Network::load`] and [`Network::measure`].
pub fn measure_network(
    model: &ModelChoice,
    options: &RunOptions,
    warm_up: usize,
    frames: usize,
) -> Result<NetworkResult> {
    let mut network = Network::load(model, options)?;
    network.measure(warm_up)?;
    let ms = network.measure(frames)?;
    Ok(NetworkResult {
        subject: network.subject,
        ms,
    })
}

impl fmt::Display for NetworkResult {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let subject = &self.subject;
        writeln!(formatter, "{subject}")?;
        let Some(spread) = Spread::of(&self.ms) else {
            return Ok(());
        };
        writeln!(
            formatter,
            "{spread}, {:.1} frames per second, {:.2} TFLOP/s",
            1e3 / spread.median,
            subject.teraflops(spread.median)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_picture_uses_the_whole_range() {
        let picture = test_picture(96, 64);
        assert_eq!(picture.len(), 96 * 64 * 3);
        assert!(picture.iter().min() < Some(&20) && picture.iter().max() > Some(&200));
    }
}
