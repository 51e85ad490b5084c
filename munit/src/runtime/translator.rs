//! A model on a device, ready to translate frames.

use std::sync::RwLockReadGuard;
use std::time::{Duration, Instant};

use half::bf16;
use tch::{Device, Kind, Tensor};

use super::border::Border;
use super::cuda::{Chosen, Frame, FrameLayout, Kernels, TURNS};
use super::element::{Element, as_channels_last, channels_last, elements, elements_mut};
use super::generator::{Generator, StyleEncoder};
use super::layers::{Map, Placement};
use super::pixels::{self, Pixels, Staging};
use super::stream::{Stream, synchronize_device};
use super::warnings::warn;
use super::{DeviceChoice, PictureFormat, PictureMut, PictureRef, Precision};
use crate::{Architecture, Direction, Error, Family, Model, Result, StyleCode, vector_math};

/// A model's one direction on a device. `Send`, not `Sync`: one thread owns it.
pub struct Translator {
    generator: Generator,
    style_encoder: Option<StyleEncoder>,
    architecture: Architecture,
    direction: Direction,
    /// Shorter side of the pictures that the style encoder has seen.
    recommended_size: Option<u32>,
    device: Device,
    precision: Precision,
    /// Of a CUDA device, from the first frame on: translators of several frames overlap.
    stream: Option<Stream>,
    staging: Staging,
    /// Where our kernels work on frames.
    frame: Option<Frame>,
    /// The size and thread for which libtorch has chosen its convolutions.
    chosen: Option<Chosen>,
    with_graphs: bool,
    timings: Timings,
}

/// Where the time of one translated frame went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From pixels to the network's input on the device.
    pub upload: Duration,
    /// The network. On a CUDA device, which computes behind the program's back, only the time to
    /// set it off.
    pub network: Duration,
    /// From the network's output to pixels; on a CUDA device the wait for the network, too.
    pub download: Duration,
}

impl Timings {
    fn between([begin, uploaded, computed, end]: [Instant; 4]) -> Self {
        Self {
            upload: uploaded - begin,
            network: computed - uploaded,
            download: end - computed,
        }
    }
}

/// How one frame is translated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TranslateOptions {
    /// Mix with the original: 0 is the input, 1 the translation.
    pub strength: f32,
    /// Shorter side, in pixels, at which the network runs: the picture is brought to it (never
    /// below what the network can compute, both sides rounded to what it can divide) and the
    /// translation brought back. `None`, or the picture's own shorter side: no resizing.
    pub inference_size: Option<u32>,
}

impl Default for TranslateOptions {
    fn default() -> Self {
        Self {
            strength: 1.0,
            inference_size: None,
        }
    }
}

impl Translator {
    /// Puts the networks of `direction` on a device, weights packed for it.
    ///
    /// # Errors
    /// A direction that the model lacks, a device that is not there, a precision that the
    /// device cannot compute, no memory.
    pub fn new(
        model: &Model,
        direction: Direction,
        device: DeviceChoice,
        precision: Precision,
    ) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let architecture = &model.metadata.architecture;
        architecture.check()?;
        if !model.has(direction) {
            let present: Vec<_> = model.metadata.directions.iter().map(|d| d.name()).collect();
            return Err(Error::Weights(format!(
                "the model does not translate {}; its directions: {}",
                direction.name(),
                present.join(", ")
            )));
        }
        let device = device.resolve()?;
        let precision = precision.resolve(device)?;
        let kernels = Kernels::of(device, precision.kind());
        Self::with_kernels(model, direction, device, precision, kernels)
    }

    /// `kernels`: what is to compute everything but the convolutions, if not libtorch or the CPU's
    /// own kernels.
    fn with_kernels(
        model: &Model,
        direction: Direction,
        device: Device,
        precision: Precision,
        kernels: Option<&'static Kernels>,
    ) -> Result<Self> {
        vector_math::settle();
        let _no_grad = tch::no_grad_guard();
        let _turn = (device != Device::Cpu).then(|| TURNS.together());
        let architecture = &model.metadata.architecture;
        let placement = Placement {
            device,
            kind: precision.kind(),
            kernels,
        };
        let style_encoder = match architecture.family {
            Family::Munit => Some(StyleEncoder::new(model, direction, device)?),
            Family::Unit => None,
        };
        let generator = Generator::new(model, direction, placement)?;
        if device != Device::Cpu {
            // The fastest convolutions are looked for once for each size.
            tch::Cuda::cudnn_set_benchmark(true);
            // Frames' streams do not wait for the one on which the weights are still on their way.
            synchronize_device(device)?;
        }
        Ok(Self {
            generator,
            style_encoder,
            architecture: architecture.clone(),
            direction,
            recommended_size: model.metadata.recommended_size,
            device,
            precision,
            stream: None,
            staging: Staging::default(),
            frame: None,
            chosen: None,
            with_graphs: true,
            timings: Timings::default(),
        })
    }

    /// Another translator on the same weights in the same memory, with a style and working memory
    /// of its own. The two may be used on different threads at the same time.
    pub fn share(&self) -> Self {
        Self {
            generator: self.generator.share(),
            style_encoder: self.style_encoder.as_ref().map(StyleEncoder::share),
            architecture: self.architecture.clone(),
            direction: self.direction,
            recommended_size: self.recommended_size,
            device: self.device,
            precision: self.precision,
            stream: None,
            staging: Staging::default(),
            frame: None,
            chosen: None,
            with_graphs: self.with_graphs,
            timings: Timings::default(),
        }
    }

    /// Whether frames on a CUDA device are set off as one graph once their size is known, as they
    /// are unless this says otherwise, or kernel by kernel. For measurements.
    pub fn use_graphs(&mut self, with_graphs: bool) {
        self.with_graphs = with_graphs;
        self.drop_frame();
    }

    fn drop_frame(&mut self) {
        let _turn = self.frame.is_some().then(|| TURNS.together());
        self.frame = None;
    }

    /// Where the last translated frame's time went.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// Length of this model's style codes; 0 for UNIT.
    pub fn style_dim(&self) -> usize {
        self.generator.style_dim()
    }

    /// The device in use.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The number format in use; never [`Precision::Auto`].
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Translates `input` into `output`, which must have the same size; alpha is copied.
    ///
    /// A picture whose sides the network cannot divide is continued by reflection on its right
    /// and lower sides, and the translation cropped. Models of grey pictures see the luma
    /// (ITU-R BT.601) and give equal colours.
    ///
    /// # Errors
    /// A picture too small for the network, sizes that differ, a code of another length,
    /// libtorch out of memory ([`crate::Error::is_out_of_memory`]).
    pub fn translate(
        &mut self,
        input: &PictureRef,
        output: &mut PictureMut,
        style: &StyleCode,
        options: &TranslateOptions,
    ) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        if (input.width, input.height) != (output.width, output.height) {
            return Err(Error::Picture(format!(
                "the input has {}x{} pixels and the output {}x{}; they must have the same size",
                input.width, input.height, output.width, output.height
            )));
        }
        let strength = options.strength.clamp(0.0, 1.0);
        if self.device == Device::Cpu && self.generator.kernels().is_none() {
            self.generator.set_style(style)?;
            return match self.precision {
                Precision::Bf16 => self.translate_as::<bf16>(input, output, strength, options),
                _ => self.translate_as::<f32>(input, output, strength, options),
            };
        }
        if let Some(kernels) = self.generator.kernels()
            && self.inference_size(input, options)? == (input.height, input.width)
        {
            return self.translate_with_kernels(kernels, input, output, style, strength);
        }
        let _turn = self.turn();
        let stream = self.own_stream()?;
        let entered = stream.enter()?;
        let set = self.generator.set_style(style);
        let frame = set.and_then(|()| self.compute(input, output.format(), strength, options));
        // Also after a failure: the staging memory is written again with the next frame.
        let waiting = Instant::now();
        let done = stream.synchronize();
        drop(entered);
        let frame = frame?;
        done?;
        output.copy_from(elements::<u8>(&frame)?);
        self.timings.download += waiting.elapsed();
        Ok(())
    }

    /// Translates as [`Self::translate`] does, and tells what took how long, one step after the other,
    /// each being waited for: where the time goes, though not how much of it, which is less when
    /// nothing waits.
    ///
    /// # Errors
    /// As [`Self::translate`].
    pub fn translate_in_steps(
        &mut self,
        input: &PictureRef,
        output: &mut PictureMut,
        style: &StyleCode,
        options: &TranslateOptions,
    ) -> Result<Vec<(String, Duration)>> {
        let with_graphs = std::mem::replace(&mut self.with_graphs, false);
        self.generator.pool().start_laps();
        let translated = self.translate(input, output, style, options);
        self.with_graphs = with_graphs;
        let steps = self.generator.pool().take_laps();
        translated.map(|()| steps)
    }

    /// The stream of this translator's frames.
    fn own_stream(&mut self) -> Result<Stream> {
        Ok(match self.stream {
            Some(stream) => stream,
            None => *self.stream.insert(Stream::new(self.device)?),
        })
    }

    /// To be held while something is computed on a CUDA device outside of a graph, until it is waited
    /// for.
    fn turn(&self) -> Option<RwLockReadGuard<'static, ()>> {
        let on_device = self.device != Device::Cpu || self.generator.kernels().is_some();
        on_device.then(|| TURNS.together())
    }

    /// Does `work`, which is not a frame's, on the device and waits for it: frames use the same memory
    /// on another stream.
    fn off_frames<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let _turn = self.turn();
        let result = work(self);
        if self.device != Device::Cpu {
            let done = Stream::current(self.device)?.synchronize();
            return result.and_then(|result| done.map(|()| result));
        }
        result
    }

    /// Translates a frame that is not resized.
    fn translate_with_kernels(
        &mut self,
        kernels: &'static Kernels,
        input: &PictureRef,
        output: &mut PictureMut,
        style: &StyleCode,
        strength: f32,
    ) -> Result<()> {
        let begin = Instant::now();
        let layout = FrameLayout {
            input: input.format,
            output: output.format,
            width: input.width,
            height: input.height,
            divisible: self.divisible((input.height, input.width)),
        };
        let mut stream = match self.device {
            Device::Cpu => None,
            _ => Some(self.own_stream()?),
        };
        let mut entered = stream.map(Stream::enter).transpose()?;
        let fits = |frame: &Frame| frame.layout() == layout;
        let is_recorded = self.with_graphs
            && self
                .frame
                .as_ref()
                .is_some_and(|frame| fits(frame) && frame.is_recorded());
        let mut turn = if is_recorded { None } else { self.turn() };
        if !self.frame.as_ref().is_some_and(fits) {
            // The old memory first.
            self.frame = None;
            self.frame = Some(Frame::new(kernels, layout)?);
        }
        // Where there is a graph, this writes to memory that the graph reads.
        self.generator.set_style(style)?;
        let Self {
            frame: Some(frame),
            generator,
            chosen,
            with_graphs,
            stream: own_stream,
            device,
            ..
        } = self
        else {
            return Ok(());
        };
        frame.stage(input, strength)?;
        let uploaded = Instant::now();
        let mut has_failed = false;
        if *with_graphs && frame.can_be_recorded(*chosen) {
            stream.map_or(Ok(()), Stream::synchronize)?;
            drop(turn.take());
            if let Err(reason) = frame.record(generator) {
                *with_graphs = false;
                has_failed = true;
                warn(&format!(
                    "frames are translated without a CUDA graph, which is slower at small sizes: \
                     {reason}"
                ));
                turn = Some(TURNS.together());
                if let Some(used) = &mut stream {
                    // The one on which recording failed may be of no use any more.
                    drop(entered.take());
                    *used = *own_stream.insert(Stream::new(*device)?);
                    entered = Some(used.enter()?);
                }
            }
        }
        let mut set_off = frame.set_off(generator, chosen, *with_graphs);
        if has_failed && set_off.is_err() {
            // cuDNN may have told of the failed recording once more, and does so once.
            set_off = frame.set_off(generator, chosen, *with_graphs);
        }
        let computed = Instant::now();
        // Also after a failure: the memory is written again with the next frame.
        let done = stream.map_or(Ok(()), Stream::synchronize);
        drop(entered);
        drop(turn);
        set_off?;
        done?;
        frame.deliver(output)?;
        self.timings = Timings::between([begin, uploaded, computed, Instant::now()]);
        Ok(())
    }

    /// Sets off the translation of a frame on any device, pixels being converted there; the result
    /// is what [`PictureMut::copy_from`] reads, once the device is done.
    fn compute(
        &mut self,
        input: &PictureRef,
        format: PictureFormat,
        strength: f32,
        options: &TranslateOptions,
    ) -> Result<Tensor> {
        let size = (input.height, input.width);
        let inner = self.inference_size(input, options)?;
        let begin = Instant::now();
        let original = self.staging.upload(input, self.device)?;
        let channels = self.architecture.channels(self.direction.source()) as usize;
        let mut values = original.values(channels)?;
        if inner != size {
            values = resize_input(&values, inner)?;
        }
        let map = self.surrounded(&values)?;
        let uploaded = Instant::now();
        let translated = self.generator.forward(&map)?;
        let computed = Instant::now();
        let mut values = translated
            .tensor
            .f_narrow(2, 0, inner.0 as i64)?
            .f_narrow(3, 0, inner.1 as i64)?
            .f_to_kind(Kind::Float)?;
        if inner != size {
            let large = [size.0 as i64, size.1 as i64];
            values = values.f_internal_upsample_bicubic2d_aa(large, false, None, None)?;
        }
        let mut colours = pixels::to_bytes(&values)?;
        if strength < 1.0 {
            colours = pixels::mix(&colours, &original.colours()?, strength)?;
        }
        let frame = pixels::download(&Pixels::from_colours(&colours, format, &original)?)?;
        self.generator.recycle(translated);
        self.timings = Timings::between([begin, uploaded, computed, Instant::now()]);
        Ok(frame)
    }

    /// On the CPU; `T`: the network's number format.
    fn translate_as<T: Element>(
        &mut self,
        input: &PictureRef,
        output: &mut PictureMut,
        strength: f32,
        options: &TranslateOptions,
    ) -> Result<()> {
        let size = (input.height, input.width);
        let source_channels = self.architecture.channels(self.direction.source()) as usize;
        let inner = self.inference_size(input, options)?;
        if inner == size {
            let border = self.generator.border();
            let divisible = self.divisible(size);
            let begin = Instant::now();
            let map = Map {
                tensor: input.to_tensor::<T>(source_channels, divisible, border)?,
                border: border.width as i64,
            };
            let uploaded = Instant::now();
            let translated = self.generator.forward(&map)?;
            let computed = Instant::now();
            write::<T>(&translated.tensor, input, output, strength)?;
            self.timings = Timings::between([begin, uploaded, computed, Instant::now()]);
            self.generator.recycle(translated);
            Ok(())
        } else {
            // Both pictures are resized as bytes, for which libtorch has vector kernels that are
            // several times as fast as those for floating point.
            let begin = Instant::now();
            let small = as_channels_last(&resize_input(&input.to_bytes()?, inner)?)?;
            let small = rgb_view(&small, inner)?;
            let border = self.generator.border();
            let divisible = self.divisible(inner);
            let map = Map {
                tensor: small.to_tensor::<T>(source_channels, divisible, border)?,
                border: border.width as i64,
            };
            let uploaded = Instant::now();
            let translated = self.generator.forward(&map)?;
            let computed = Instant::now();
            let (tall, wide) = (inner.0 as i64, inner.1 as i64);
            let mut bytes = channels_last(3, tall, wide, Kind::Uint8, Device::Cpu)?;
            let mut view = PictureMut::new(
                PictureFormat::Rgb,
                inner.1,
                inner.0,
                vec![(elements_mut::<u8>(&mut bytes)?, 3 * inner.1)],
            )?;
            write::<T>(&translated.tensor, &small, &mut view, 1.0)?;
            self.generator.recycle(translated);
            let large = [size.0 as i64, size.1 as i64];
            let large = bytes.f_internal_upsample_bicubic2d_aa(large, false, None, None)?;
            output.write_bytes(elements::<u8>(&as_channels_last(&large)?)?, input, strength);
            self.timings = Timings::between([begin, uploaded, computed, Instant::now()]);
            Ok(())
        }
    }

    /// Translates a picture `[1, C, H, W]` of single-precision values in [-1, 1] and returns the
    /// network's own output on the CPU in the same shape and format, neither clamped nor rounded.
    ///
    /// # Errors
    /// As [`Self::translate`].
    pub fn translate_tensor(&mut self, picture: &Tensor, style: &StyleCode) -> Result<Tensor> {
        let styles = std::slice::from_ref(style);
        let translation = self.translate_in_styles(picture, styles)?;
        self.off_frames(|_| Ok(translation.f_to_device(Device::Cpu)?))
    }

    /// Translates a picture `[1, C, H, W]` of single-precision values in [-1, 1] once for each of
    /// `styles`, and returns the network's own outputs `[N, C', H, W]` in single precision on the
    /// compute device, neither clamped nor rounded. The content is encoded once.
    ///
    /// # Errors
    /// As [`Self::translate`]; without a style.
    pub fn translate_in_styles(
        &mut self,
        picture: &Tensor,
        styles: &[StyleCode],
    ) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let channels = self.architecture.channels(self.direction.source());
        let (height, width) = match picture.size().as_slice() {
            &[1, found, height, width] if found == channels => (height, width),
            other => {
                return Err(Error::Picture(format!(
                    "the picture has the shape {other:?}; this model takes [1, {channels}, height, width]"
                )));
            }
        };
        self.check_size(height as usize, width as usize)?;
        self.off_frames(|translator| translator.decode_in(picture, (height, width), styles))
    }

    /// The network's own outputs of height and width as given, one for each style.
    fn decode_in(
        &mut self,
        picture: &Tensor,
        (height, width): (i64, i64),
        styles: &[StyleCode],
    ) -> Result<Tensor> {
        let map = self.surrounded(&picture.f_to_device(self.device)?)?;
        let content = self.generator.encode_content(&map)?;
        let mut translations = Vec::with_capacity(styles.len());
        for style in styles {
            self.generator.set_style(style)?;
            let translated = self.generator.decode(&content)?;
            let translation = translated
                .tensor
                .f_narrow(2, 0, height)?
                .f_narrow(3, 0, width)?
                // A copy, since the next one is written where this one lies.
                .f_to_dtype(Kind::Float, false, true)?
                .f_contiguous()?;
            translations.push(translation);
            self.generator.recycle(translated);
        }
        self.generator.recycle(content);
        if translations.is_empty() {
            return Err(Error::Style(
                "no style was given to translate in".to_owned(),
            ));
        }
        Ok(Tensor::f_cat(&translations, 0)?)
    }

    /// Translates a picture of this format and size and forgets it, so that the first frame is not late.
    ///
    /// On a CUDA device the convolutions are chosen meanwhile, for the calling thread, and a graph is
    /// recorded, which then serves on any thread.
    ///
    /// # Errors
    /// As [`Self::translate`].
    pub fn warm_up(
        &mut self,
        format: PictureFormat,
        width: usize,
        height: usize,
        options: &TranslateOptions,
    ) -> Result<()> {
        let row = format.pixel_bytes() * width;
        let plane = row * height;
        let input = vec![0; plane];
        let mut output = vec![0; plane * format.planes()];
        let style = StyleCode::zeros(self.style_dim());
        let planes = vec![(&input[..], row); format.planes()];
        let input = PictureRef::new(format, width, height, &planes)?;
        let planes = output.chunks_mut(plane.max(1)).map(|plane| (plane, row));
        let mut output = PictureMut::new(format, width, height, planes.collect())?;
        self.translate(&input, &mut output, &style, options)?;
        let can_be_recorded = |frame: &Frame| frame.can_be_recorded(self.chosen);
        if self.with_graphs && self.frame.as_ref().is_some_and(can_be_recorded) {
            self.translate(&input, &mut output, &style, options)?;
        }
        Ok(())
    }

    /// The style code of a picture of the target domain, which is first brought to the size of
    /// the pictures that the model was trained on, if the model knows it.
    ///
    /// # Errors
    /// As [`Self::translate`]; for UNIT, which has no style.
    pub fn encode_style(&mut self, picture: &PictureRef) -> Result<StyleCode> {
        let _no_grad = tch::no_grad_guard();
        let Some(encoder) = &self.style_encoder else {
            return Err(Error::Style(
                "a UNIT model has no style, so none can be taken from a picture".to_owned(),
            ));
        };
        let channels = self.architecture.channels(self.direction.target()) as usize;
        let size = (picture.height, picture.width);
        let tensor = picture.to_tensor::<f32>(channels, size, Border::NONE)?;
        let shorter = size.0.min(size.1);
        let wanted = self.recommended_size.map_or(shorter, |side| side as usize);
        let wanted = wanted.max(SMALLEST_STYLE_PICTURE);
        let side = |length: usize| (length * wanted + shorter / 2) / shorter;
        let sized = if wanted == shorter {
            tensor
        } else {
            resize_input(&tensor, (side(size.0), side(size.1)))?
        };
        let border = encoder.border();
        let _turn = self.turn();
        let padded = border.surround(&sized.f_to_device(self.device)?)?;
        encoder.forward(Map {
            tensor: as_channels_last(&padded)?,
            border: border.width as i64,
        })
    }

    /// Values `[1, C, H, W]` on the compute device as the network reads them: reflected to sides
    /// that it divides, with a border, in its number format.
    fn surrounded(&self, picture: &Tensor) -> Result<Map> {
        let size = picture.size();
        let (height, width) = (size[2], size[3]);
        let (tall, wide) = self.divisible((height as usize, width as usize));
        let reflected =
            picture.f_reflection_pad2d([0, wide as i64 - width, 0, tall as i64 - height])?;
        let border = self.generator.border();
        let padded = as_channels_last(&border.surround(&reflected)?)?;
        Ok(Map {
            tensor: padded.f_to_kind(self.precision.kind())?,
            border: border.width as i64,
        })
    }

    /// Sides rounded up to what the network can divide.
    fn divisible(&self, (height, width): (usize, usize)) -> (usize, usize) {
        let stride = self.architecture.stride() as usize;
        (
            height.next_multiple_of(stride),
            width.next_multiple_of(stride),
        )
    }

    /// The height and width at which the network runs.
    fn inference_size(
        &self,
        picture: &PictureRef,
        options: &TranslateOptions,
    ) -> Result<(usize, usize)> {
        let (height, width) = (picture.height, picture.width);
        let shorter = height.min(width);
        let wanted = match options.inference_size {
            Some(side) if side as usize != shorter => {
                (side as usize).max(self.architecture.smallest_side() as usize)
            }
            _ => {
                self.check_size(height, width)?;
                return Ok((height, width));
            }
        };
        let stride = self.architecture.stride() as usize;
        let side = |length: usize| {
            let scaled = length as f64 * wanted as f64 / shorter as f64;
            ((scaled / stride as f64).round() as usize).max(1) * stride
        };
        Ok((side(height), side(width)))
    }

    fn check_size(&self, height: usize, width: usize) -> Result<()> {
        let smallest = self.architecture.smallest_side();
        if (height.min(width) as i64) < smallest {
            return Err(Error::Picture(format!(
                "a picture of {width}x{height} pixels is too small for this model, which needs \
                 {smallest} pixels on the shorter side; enlarge it or set an inference size"
            )));
        }
        Ok(())
    }
}

impl Drop for Translator {
    fn drop(&mut self) {
        self.drop_frame();
    }
}

/// Below this, four downsamplings leave nothing to reflect.
const SMALLEST_STYLE_PICTURE: usize = 16;

/// Resizes a picture `[1, C, H, W]`, antialiased where it shrinks.
fn resize_input(picture: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let size = [height as i64, width as i64];
    Ok(picture.f_internal_upsample_bilinear2d_aa(size, false, None, None)?)
}

/// A channels-last tensor `[1, 3, height, width]` of bytes as a picture.
fn rgb_view(bytes: &Tensor, (height, width): (usize, usize)) -> Result<PictureRef<'_>> {
    let planes = [(elements::<u8>(bytes)?, 3 * width)];
    PictureRef::new(PictureFormat::Rgb, width, height, &planes)
}

/// Writes a translation `[1, C, H, W]`, at least as large as the picture.
fn write<T: Element>(
    translated: &Tensor,
    input: &PictureRef,
    output: &mut PictureMut,
    strength: f32,
) -> Result<()> {
    let size = translated.size();
    let layout = (size[3] as usize, size[1] as usize);
    output.write(elements::<T>(translated)?, layout, input, strength);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A pattern translated on the CPU's own path and by what CUDA devices compute, both on the
    /// CPU: largest and mean difference of the bytes.
    fn difference((width, height): (usize, usize), options: &TranslateOptions) -> (u8, f64) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        let model = Model::read(&folder.join("photo2illustration.safetensors")).unwrap();
        let precision = Precision::Fp32;
        let mut translator =
            Translator::new(&model, Direction::A2b, DeviceChoice::Cpu, precision).unwrap();
        let bytes: Vec<u8> = (0..4 * width * height)
            .map(|index| (index / 4 % width * 3 + index / 4 / width * 5 + index % 4 * 40) as u8)
            .collect();
        let planes = [(&bytes[..], 4 * width)];
        let input = PictureRef::new(PictureFormat::Argb, width, height, &planes).unwrap();
        let style = StyleCode::sample(4, translator.style_dim());
        let [mut expected, mut found] = [vec![0; bytes.len()], vec![0; bytes.len()]];
        let output = |bytes| {
            let planes = vec![(bytes, 4 * width)];
            PictureMut::new(PictureFormat::Bgra, width, height, planes).unwrap()
        };
        translator
            .translate(&input, &mut output(&mut expected[..]), &style, options)
            .unwrap();
        let frame = translator
            .compute(&input, PictureFormat::Bgra, options.strength, options)
            .unwrap();
        output(&mut found[..]).copy_from(elements::<u8>(&frame).unwrap());
        let differences = expected.iter().zip(&found).map(|(&a, &b)| a.abs_diff(b));
        let sum: f64 = differences.clone().map(f64::from).sum();
        (differences.max().unwrap(), sum / bytes.len() as f64)
    }

    #[test]
    fn pixels_converted_on_the_device_give_the_same_frame() {
        for strength in [1.0, 0.6] {
            let options = TranslateOptions {
                strength,
                ..Default::default()
            };
            assert!(difference((46, 37), &options).0 <= 1);
        }
    }

    #[test]
    fn frames_are_resized_on_the_device() {
        let options = TranslateOptions {
            inference_size: Some(48),
            ..Default::default()
        };
        // The CPU rounds the small pictures to bytes.
        let (largest, mean) = difference((150, 100), &options);
        assert!(largest <= 24 && mean < 1.5, "{largest} {mean}");
    }

    mod with_kernels {
        use super::*;
        use crate::config::{Activation, Padding};
        use crate::test_models::{difference, exact, picture, random_model, small};

        const TOLERANCE: f64 = 3e-5;

        /// What runs on CUDA devices, on the CPU.
        fn translator(model: &Model, direction: Direction, precision: Precision) -> Translator {
            let kernels = Kernels::emulated(precision.kind());
            let device = Device::Cpu;
            Translator::with_kernels(model, direction, device, precision, Some(kernels)).unwrap()
        }

        fn assert_exact(architecture: &Architecture, height: i64, width: i64) {
            let model = random_model(architecture, 5);
            for direction in Direction::ALL {
                let picture = picture(architecture.channels(direction.source()), height, width);
                let mut translator = translator(&model, direction, Precision::Fp32);
                let style = StyleCode::sample(3, translator.style_dim());
                let expected = exact(&model, direction, &picture, &style);
                let translated = translator.translate_tensor(&picture, &style).unwrap();
                let difference = difference(&translated, &expected);
                assert!(
                    difference < TOLERANCE,
                    "{direction:?} {architecture:?}: {difference}"
                );
            }
        }

        #[test]
        fn the_networks_are_computed() {
            for family in [Family::Munit, Family::Unit] {
                assert_exact(&small(family), 32, 36);
            }
            for n_downsample in [0, 1, 3] {
                let mut architecture = small(Family::Munit);
                architecture.generator.n_downsample = n_downsample;
                architecture.generator.n_res = 1;
                assert_exact(&architecture, 32, 40);
            }
            for padding in [Padding::Replicate, Padding::Zero] {
                let mut architecture = small(Family::Munit);
                architecture.generator.padding = padding;
                assert_exact(&architecture, 24, 28);
            }
            for activation in [Activation::Prelu, Activation::Selu] {
                let mut architecture = small(Family::Munit);
                architecture.generator.activation = activation;
                assert_exact(&architecture, 24, 20);
            }
            for (dim, input_dim_a, input_dim_b) in [(5, 1, 3), (3, 3, 1)] {
                let mut architecture = small(Family::Munit);
                architecture.generator.dim = dim;
                (architecture.input_dim_a, architecture.input_dim_b) = (input_dim_a, input_dim_b);
                assert_exact(&architecture, 20, 24);
            }
        }

        /// Bytes of a frame, one plane behind the other, in another translator's words.
        fn translated(
            translator: &mut Translator,
            (input, output): (PictureFormat, PictureFormat),
            (width, height): (usize, usize),
            style: &StyleCode,
            strength: f32,
        ) -> Vec<u8> {
            let row = width * input.pixel_bytes();
            let bytes: Vec<u8> = (0..row * height * input.planes())
                .map(|index| (index * 7 + index / row * 31) as u8)
                .collect();
            let planes: Vec<_> = bytes
                .chunks(row * height)
                .map(|plane| (plane, row))
                .collect();
            let picture = PictureRef::new(input, width, height, &planes).unwrap();
            let row = width * output.pixel_bytes();
            let mut written = vec![0; row * height * output.planes()];
            let planes = written
                .chunks_mut(row * height)
                .map(|plane| (plane, row))
                .collect();
            let mut target = PictureMut::new(output, width, height, planes).unwrap();
            let options = TranslateOptions {
                strength,
                ..Default::default()
            };
            translator
                .translate(&picture, &mut target, style, &options)
                .unwrap();
            written
        }

        fn largest(left: &[u8], right: &[u8]) -> u8 {
            assert_eq!(left.len(), right.len());
            let differences = left
                .iter()
                .zip(right)
                .map(|(left, right)| left.abs_diff(*right));
            differences.max().unwrap()
        }

        #[test]
        fn frames_are_those_of_the_cpu() {
            for (family, channels) in [
                (Family::Munit, (3, 3)),
                (Family::Munit, (1, 3)),
                (Family::Unit, (3, 1)),
            ] {
                let mut architecture = small(family);
                architecture.generator.n_res = 1;
                (architecture.input_dim_a, architecture.input_dim_b) = channels;
                let model = random_model(&architecture, 7);
                for direction in Direction::ALL {
                    let mut ours = translator(&model, direction, Precision::Fp32);
                    let mut cpus =
                        Translator::new(&model, direction, DeviceChoice::Cpu, Precision::Fp32)
                            .unwrap();
                    let style = StyleCode::sample(9, cpus.style_dim());
                    for (number, input) in PictureFormat::ALL.into_iter().enumerate() {
                        let output =
                            PictureFormat::ALL[(number * 5 + 3) % PictureFormat::ALL.len()];
                        let size = [(18, 17), (21, 19)][number % 2];
                        let strength = [1.0, 0.4, 0.0][number % 3];
                        let formats = (input, output);
                        let expected = translated(&mut cpus, formats, size, &style, strength);
                        let found = translated(&mut ours, formats, size, &style, strength);
                        let largest = largest(&expected, &found);
                        assert!(
                            largest <= 1,
                            "{direction:?} {formats:?} {size:?} {strength}: {largest}"
                        );
                    }
                }
            }
        }

        /// Nothing is recorded on the CPU, so that trying to fails.
        #[test]
        fn a_frame_that_cannot_be_recorded_is_translated_all_the_same() {
            let model = random_model(&small(Family::Munit), 4);
            let mut translator = translator(&model, Direction::A2b, Precision::Fp32);
            let style = StyleCode::sample(1, translator.style_dim());
            let formats = (PictureFormat::Rgb, PictureFormat::Rgb);
            let mut frame = || {
                let frame = translated(&mut translator, formats, (24, 20), &style, 1.0);
                (frame, translator.with_graphs)
            };
            let (first, with_graphs) = frame();
            assert!(with_graphs, "tried before the convolutions are chosen");
            assert_eq!(frame(), (first.clone(), false));
            assert_eq!(frame(), (first, false));
        }

        #[test]
        fn a_warm_translator_has_memory_for_the_format_and_has_been_recorded() {
            let model = random_model(&small(Family::Munit), 4);
            for format in [PictureFormat::Bgrx, PictureFormat::Rgbp] {
                let mut translator = translator(&model, Direction::A2b, Precision::Fp32);
                let options = TranslateOptions::default();
                translator.warm_up(format, 24, 20, &options).unwrap();
                let layout = translator.frame.as_ref().map(Frame::layout).unwrap();
                assert_eq!((layout.input, layout.output), (format, format));
                // Nothing can be recorded here, which trying to has shown.
                assert!(!translator.with_graphs);
            }
        }

        #[test]
        fn frames_and_recording_take_turns() {
            /// Far longer than a frame takes; on a slow machine a failure may be overlooked.
            const LONG: Duration = Duration::from_millis(300);
            let model = random_model(&small(Family::Munit), 4);
            let mut translator = translator(&model, Direction::A2b, Precision::Fp32);
            let style = StyleCode::sample(1, translator.style_dim());
            let formats = (PictureFormat::Rgb, PictureFormat::Rgb);
            let (sender, frames) = std::sync::mpsc::channel();
            let (begin, next) = std::sync::mpsc::channel();
            let recording = TURNS.alone();
            let thread = std::thread::spawn(move || {
                for _ in 0..2 {
                    let frame = translated(&mut translator, formats, (24, 20), &style, 1.0);
                    sender.send(frame).unwrap();
                    // The next frame begins when it may.
                    next.recv().unwrap();
                }
            });
            assert!(frames.recv_timeout(LONG).is_err(), "a recording is on");
            drop(recording);
            let first = frames.recv().unwrap();
            let other_work = TURNS.together();
            begin.send(()).unwrap();
            assert!(
                frames.recv_timeout(LONG).is_err(),
                "recorded beside other work"
            );
            drop(other_work);
            assert_eq!(frames.recv().unwrap(), first);
            begin.send(()).unwrap();
            thread.join().unwrap();
        }

        #[test]
        fn steps_are_told_and_change_nothing() {
            let model = random_model(&small(Family::Munit), 4);
            let formats = (PictureFormat::Rgb, PictureFormat::Rgb);
            let cpu = Translator::new(&model, Direction::A2b, DeviceChoice::Cpu, Precision::Fp32);
            for mut translator in [
                translator(&model, Direction::A2b, Precision::Fp32),
                cpu.unwrap(),
            ] {
                let style = StyleCode::sample(1, translator.style_dim());
                let expected = translated(&mut translator, formats, (24, 20), &style, 1.0);
                let input: Vec<u8> = (0..72 * 20)
                    .map(|index| (index * 7 + index / 72 * 31) as u8)
                    .collect();
                let input = PictureRef::new(PictureFormat::Rgb, 24, 20, &[(&input, 72)]).unwrap();
                let mut found = vec![0; 72 * 20];
                let planes = vec![(&mut found[..], 72)];
                let mut output = PictureMut::new(PictureFormat::Rgb, 24, 20, planes).unwrap();
                let options = TranslateOptions::default();
                let steps = translator
                    .translate_in_steps(&input, &mut output, &style, &options)
                    .unwrap();
                assert_eq!(expected, found);
                let number_of = |start: &str| {
                    let named = steps.iter().filter(|(name, _)| name.starts_with(start));
                    named.count()
                };
                // Three convolutions in front, four residual blocks, two enlargements, one behind.
                assert_eq!(number_of("convolution"), 3 + 8 + 2 + 1, "{steps:?}");
                assert_eq!(number_of("outermost ring"), 2, "{steps:?}");
            }
        }

        #[test]
        fn styles_change_and_come_back_and_are_not_shared() {
            let model = random_model(&small(Family::Munit), 4);
            let mut first = translator(&model, Direction::A2b, Precision::Bf16);
            let [style, other] = [1, 2].map(|seed| StyleCode::sample(seed, 4));
            let formats = (PictureFormat::Rgb, PictureFormat::Rgb);
            let translate = |translator: &mut Translator, style| {
                translated(translator, formats, (24, 20), style, 1.0)
            };
            let one = translate(&mut first, &style);
            let mut second = first.share();
            let two = translate(&mut second, &other);
            assert!(largest(&one, &two) > 20);
            assert_eq!(one, translate(&mut first, &style));
            assert_eq!(two, translate(&mut first, &other));
            assert_eq!(one, translate(&mut second, &style));
        }
    }
}
