//! A frame's way through the device, in memory that stays where it is, so that the whole way can be
//! recorded as a graph.

use std::thread::{self, ThreadId};

use tch::{Device, Kind, Tensor};

use super::graph::Graph;
use super::pixels::{Bytes, Translation, read_picture, write_picture};
use super::{Code, Kernels, failure};
use crate::Result;
use crate::runtime::generator::Generator;
use crate::runtime::layers::Map;
use crate::runtime::stream::Stream;
use crate::runtime::{PictureFormat, PictureMut, PictureRef};

/// Bytes behind a picture's that hold the strength.
const STRENGTH_BYTES: usize = 4;

/// What a frame's memory and graph are made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::runtime) struct FrameLayout {
    pub(in crate::runtime) input: PictureFormat,
    pub(in crate::runtime) output: PictureFormat,
    pub(in crate::runtime) width: usize,
    pub(in crate::runtime) height: usize,
    /// Height and width at which the network runs.
    pub(in crate::runtime) divisible: (usize, usize),
}

impl FrameLayout {
    fn bytes(&self, format: PictureFormat) -> usize {
        self.width * self.height * format.planes() * format.pixel_bytes()
    }

    /// Where the strength begins, behind the picture.
    fn strength_start(&self) -> usize {
        self.bytes(self.input).next_multiple_of(STRENGTH_BYTES)
    }
}

/// Memory for one frame at a time, on the host and on the device, and the recorded work.
pub(in crate::runtime) struct Frame {
    kernels: &'static Kernels,
    layout: FrameLayout,
    /// The input's bytes and the strength, on the host and on the device.
    staged: Tensor,
    uploaded: Tensor,
    /// The output's bytes, there and here.
    translated: Tensor,
    downloaded: Tensor,
    recorded: Option<Recorded>,
}

/// A graph, and memory that it writes to besides the frame's and the generator's own: a larger frame of
/// the same translator takes another in its place.
struct Recorded {
    graph: Graph,
    _scratch: Option<Tensor>,
}

/// Where libtorch has chosen the convolutions for a size: it does so for each thread by itself, and
/// cannot do it while work is recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::runtime) struct Chosen {
    thread: ThreadId,
    divisible: (usize, usize),
}

impl Frame {
    pub(in crate::runtime) fn new(kernels: &'static Kernels, layout: FrameLayout) -> Result<Self> {
        let staged = layout.strength_start() + STRENGTH_BYTES;
        let translated = layout.bytes(layout.output);
        let on_device =
            |bytes: usize| Tensor::f_zeros([bytes as i64], (Kind::Uint8, kernels.device));
        Ok(Self {
            kernels,
            layout,
            staged: kernels.host_memory(staged, Kind::Uint8)?,
            uploaded: on_device(staged)?,
            translated: on_device(translated)?,
            downloaded: kernels.host_memory(translated, Kind::Uint8)?,
            recorded: None,
        })
    }

    pub(in crate::runtime) fn layout(&self) -> FrameLayout {
        self.layout
    }

    /// Copies a picture to where the device reads it. Nothing may be under way.
    pub(in crate::runtime) fn stage(&mut self, picture: &PictureRef, strength: f32) -> Result<()> {
        let length = self.layout.bytes(self.layout.input);
        let start = self.layout.strength_start();
        let bytes = bytes_mut(&mut self.staged)?;
        picture.copy_to(&mut bytes[..length]);
        bytes[start..].copy_from_slice(&strength.to_ne_bytes());
        Ok(())
    }

    /// Whether there is a graph.
    pub(in crate::runtime) fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// Whether all is ready for a graph: the convolutions have been chosen before.
    pub(in crate::runtime) fn can_be_recorded(&self, chosen: Option<Chosen>) -> bool {
        self.recorded.is_none() && chosen == Some(self.here())
    }

    /// Records the translation of whatever picture is staged on the calling thread's current stream, on
    /// which nothing is under way. The calling thread holds no turn.
    ///
    /// # Errors
    /// Where it cannot be recorded. The stream should not be used any more.
    pub(in crate::runtime) fn record(&mut self, generator: &mut Generator) -> Result<()> {
        let stream = match self.kernels.device {
            Device::Cpu => std::ptr::null_mut(),
            device => Stream::current(device)?.handle()?,
        };
        let graph = Graph::record(stream, || self.compute(generator))?;
        self.recorded = Some(Recorded {
            graph,
            _scratch: generator.pool().scratch().memory(),
        });
        Ok(())
    }

    /// Sets off the translation of the staged picture on the calling thread's current stream: the graph
    /// if `with_graph` is true and there is one, which needs no turn, or step by step.
    pub(in crate::runtime) fn set_off(
        &mut self,
        generator: &mut Generator,
        chosen: &mut Option<Chosen>,
        with_graph: bool,
    ) -> Result<()> {
        if let Some(recorded) = self.recorded.as_ref().filter(|_| with_graph) {
            return self.kernels.launch_graph(&recorded.graph);
        }
        self.compute(generator)?;
        *chosen = Some(self.here());
        Ok(())
    }

    /// Copies the translation, which the device has finished, to where it is wanted.
    pub(in crate::runtime) fn deliver(&mut self, output: &mut PictureMut) -> Result<()> {
        output.copy_from(bytes_mut(&mut self.downloaded)?);
        Ok(())
    }

    fn here(&self) -> Chosen {
        Chosen {
            thread: thread::current().id(),
            divisible: self.layout.divisible,
        }
    }

    fn compute(&self, generator: &mut Generator) -> Result<()> {
        let Self {
            kernels, layout, ..
        } = *self;
        let Some(folded) = generator.folded() else {
            return Err(failure(
                "the first convolution takes no folded picture".to_owned(),
            ));
        };
        let start = layout.strength_start() as i64;
        let strength = self.uploaded.f_narrow(0, start, STRENGTH_BYTES as i64)?;
        let original = Bytes {
            memory: &self.uploaded,
            format: layout.input,
            width: layout.width,
            height: layout.height,
        };
        let result = Bytes {
            memory: &self.translated,
            format: layout.output,
            ..original
        };
        let lap = |generator: &Generator, step: &str| {
            generator.pool().lap(kernels.device, || step.to_owned())
        };
        kernels.upload(&self.staged, &self.uploaded)?;
        lap(generator, "upload")?;
        let border = generator.border();
        let input = Map {
            tensor: read_picture(kernels, original, layout.divisible, border, folded)?,
            border: border.width as i64,
        };
        lap(generator, "bytes to values")?;
        let values = generator.forward_unfinished(&input)?;
        let last = generator.last()?;
        let translation = Translation {
            values: &values,
            phases: last.phases,
            colours: last.convolution.outputs() / last.phases.pow(2),
            bias: last.convolution.bias(),
            nonlinearity: last.nonlinearity,
        };
        write_picture(kernels, &translation, original, &strength, result)?;
        lap(generator, "values to bytes")?;
        kernels.download(&self.translated, &self.downloaded)?;
        lap(generator, "download")
    }
}

impl Kernels {
    fn launch_graph(&self, graph: &Graph) -> Result<()> {
        match &self.code {
            Code::Device {
                driver, context, ..
            } => {
                driver.enter(*context).map_err(failure)?;
                let stream = Stream::current(self.device)?.handle()?;
                // SAFETY: the frame and the generator, which own the memory, wait for the stream.
                unsafe { driver.launch_graph(graph.executable(), stream) }.map_err(failure)
            }
            #[cfg(test)]
            Code::Emulated(_) => Err(failure("graphs are not emulated".to_owned())),
        }
    }
}

/// A contiguous tensor of bytes on the host.
fn bytes_mut(memory: &mut Tensor) -> Result<&mut [u8]> {
    let length = memory.size1()?;
    if memory.device() != Device::Cpu || memory.kind() != Kind::Uint8 || !memory.is_contiguous() {
        return Err(failure("bytes on the host were expected".to_owned()));
    }
    // SAFETY: the checks above; the slice borrows the tensor that owns the memory.
    Ok(unsafe { std::slice::from_raw_parts_mut(memory.data_ptr().cast(), length as usize) })
}
