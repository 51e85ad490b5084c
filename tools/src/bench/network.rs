//! The network by itself, without a pipeline around it.

use std::fmt;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use munit::StyleCode;
use munit::runtime::{
    PictureFormat, PictureMut, PictureRef, Precision, TranslateOptions, Translator, device_memory,
    release_device_memory, tame_spinning, use_threads,
};
use serde::{Deserialize, Serialize};
use tch::Device;

use super::matrix_product::matrix_product_teraflops;
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
        // Before anything else asks libtorch about CUDA, whose answer it keeps.
        options.device.resolve()?;
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

    /// Translates the frame once, and tells what took how long.
    ///
    /// # Errors
    /// As [`Self::measure`].
    pub(super) fn steps(&mut self) -> Result<Vec<(String, Duration)>> {
        let (width, height) = (self.subject.size.width, self.subject.size.height);
        let row = 3 * width;
        let input = PictureRef::new(PictureFormat::Rgb, width, height, &[(&self.input, row)])?;
        let planes = vec![(&mut self.output[..], row)];
        let mut output = PictureMut::new(PictureFormat::Rgb, width, height, planes)?;
        let options = TranslateOptions::default();
        Ok(self
            .translator
            .translate_in_steps(&input, &mut output, &self.style, &options)?)
    }

    /// The same network with working memory of its own, for another thread.
    pub fn share(&self) -> Self {
        Self {
            subject: self.subject.clone(),
            translator: self.translator.share(),
            style: self.style.clone(),
            input: self.input.clone(),
            output: self.output.clone(),
        }
    }

    /// Where and how it computes.
    pub(super) fn place(&self) -> (Device, Precision) {
        (self.translator.device(), self.translator.precision())
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
        self.measure_within(frames, Duration::MAX)
    }

    /// As [`Self::measure`], but begins no other frame after `at_most`.
    ///
    /// # Errors
    /// As there.
    pub fn measure_within(&mut self, frames: usize, at_most: Duration) -> Result<Vec<f64>> {
        let start = Instant::now();
        let (width, height) = (self.subject.size.width, self.subject.size.height);
        let row = 3 * width;
        let mut ms = Vec::with_capacity(frames);
        for number in 0..frames {
            if number > 0 && start.elapsed() > at_most {
                break;
            }
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
    /// Milliseconds of each frame after warm-up, from frame bytes to frame bytes; those of all streams
    /// one behind the other.
    pub ms: Vec<f64>,
    /// Translators that worked at once, each on frames of its own.
    #[serde(default = "one")]
    pub streams: usize,
    /// Frames that all streams together finished in a second.
    #[serde(default)]
    pub frames_per_second: f64,
    /// Memory held on the device afterwards, in 10⁶ bytes; none for the CPU.
    #[serde(default)]
    pub device_memory_mb: Option<f64>,
    /// What a large matrix product reaches on the device, in the same format and process.
    #[serde(default)]
    pub matrix_product_teraflops: Option<f64>,
}

fn one() -> usize {
    1
}

/// How frames are timed.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Frames before those that are timed.
    pub warm_up: usize,
    /// Frames that are timed, of each stream.
    pub frames: usize,
    /// After this time no other frame is begun.
    pub at_most: Duration,
    /// Translators that work at once.
    pub streams: usize,
    /// Whether a CUDA device gets frames as graphs.
    pub with_graphs: bool,
}

/// Measures frames at a size.
///
/// # Errors
/// Those of [`Network::load`] and [`Network::measure`].
pub fn measure_network(
    model: &ModelChoice,
    options: &RunOptions,
    timing: &Timing,
) -> Result<NetworkResult> {
    // What an earlier measurement has used is not this one's.
    release_device_memory(options.device.resolve()?);
    let mut network = Network::load(model, options)?;
    network.translator.use_graphs(timing.with_graphs);
    let device = network.translator.device();
    let precision = network.translator.precision();
    let subject = network.subject.clone();
    let (ms, seconds) = if timing.streams == 1 {
        network.measure(timing.warm_up)?;
        let begin = Instant::now();
        let ms = network.measure_within(timing.frames, timing.at_most)?;
        (ms, begin.elapsed().as_secs_f64())
    } else {
        measure_streams(network, timing)?
    };
    Ok(NetworkResult {
        subject,
        streams: timing.streams,
        frames_per_second: ms.len() as f64 / seconds,
        ms,
        device_memory_mb: device_memory(device).map(|bytes| bytes as f64 / 1e6),
        matrix_product_teraflops: matrix_product_teraflops(device, precision)?,
    })
}

/// The milliseconds of each frame, and the seconds that all took.
fn measure_streams(network: Network, timing: &Timing) -> Result<(Vec<f64>, f64)> {
    let others: Vec<_> = (1..timing.streams).map(|_| network.share()).collect();
    let all_are_ready = Barrier::new(timing.streams);
    let measure = |mut network: Network| -> Result<(Vec<f64>, Instant, Instant)> {
        let warm = network.measure(timing.warm_up);
        // Whoever has failed must not keep the others waiting.
        all_are_ready.wait();
        warm?;
        let begin = Instant::now();
        let ms = network.measure_within(timing.frames, timing.at_most)?;
        Ok((ms, begin, Instant::now()))
    };
    let streams = thread::scope(|scope| {
        let running: Vec<_> = std::iter::once(network)
            .chain(others)
            .map(|network| scope.spawn(|| measure(network)))
            .collect();
        let joined = running.into_iter().map(|stream| match stream.join() {
            Ok(times) => times,
            Err(_) => bail!("a thread that translates has panicked"),
        });
        joined.collect::<Result<Vec<_>>>()
    })?;
    let begin = streams.iter().map(|(_, begin, _)| *begin).min();
    let end = streams.iter().map(|(_, _, end)| *end).max();
    let seconds = match (begin, end) {
        (Some(begin), Some(end)) => (end - begin).as_secs_f64(),
        _ => f64::NAN,
    };
    let ms = streams.into_iter().flat_map(|(ms, _, _)| ms).collect();
    Ok((ms, seconds))
}

impl fmt::Display for NetworkResult {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let subject = &self.subject;
        writeln!(formatter, "{subject}")?;
        let Some(spread) = Spread::of(&self.ms) else {
            return Ok(());
        };
        let teraflops = subject.teraflops(1e3 / self.frames_per_second);
        write!(
            formatter,
            "{spread}, p99 {:.2} ms, {:.1} frames per second, {teraflops:.2} TFLOP/s",
            spread.p99, self.frames_per_second
        )?;
        if self.streams > 1 {
            write!(formatter, ", {} streams", self.streams)?;
        }
        if let Some(most) = self.matrix_product_teraflops {
            write!(formatter, " (a matrix product: {most:.0})")?;
        }
        if let Some(memory) = self.device_memory_mb {
            write!(formatter, ", {memory:.0} MB on the device")?;
        }
        writeln!(formatter)
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
