//! Micro-benchmarks of the runtime with a shipped model: `cargo bench`.
//!
//! `cargo bench -- formats` runs one group; `--sample-count N` says how often.

use std::path::{Path, PathBuf};

use divan::Bencher;
use munit::runtime::{
    DeviceChoice, PictureFormat, PictureMut, PictureRef, Precision, TranslateOptions, Translator,
};
use munit::{Direction, Model, StyleCode};

fn main() {
    divan::main();
}

fn model_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/photo2illustration.safetensors")
}

fn model() -> Model {
    Model::read(&model_file()).expect("the shipped model is a model")
}

fn translator(model: &Model, precision: Precision) -> Translator {
    Translator::new(model, Direction::A2b, DeviceChoice::Cpu, precision)
        .expect("the shipped model translates from a to b on every CPU")
}

/// A frame on its way through the network and back.
struct Frame {
    format: PictureFormat,
    size: (usize, usize),
    input: Vec<u8>,
    output: Vec<u8>,
    translator: Translator,
    style: StyleCode,
}

impl Frame {
    fn new(format: PictureFormat, (width, height): (usize, usize), precision: Precision) -> Self {
        let model = model();
        let bytes = width * height * format.pixel_bytes() * format.planes();
        Self {
            format,
            size: (width, height),
            input: (0..bytes).map(|index| (index * 7) as u8).collect(),
            output: vec![0; bytes],
            style: model.metadata.default_style(Direction::A2b),
            translator: translator(&model, precision),
        }
    }

    fn translate(&mut self, options: &TranslateOptions) {
        let (width, height) = self.size;
        let row = width * self.format.pixel_bytes();
        let planes: Vec<_> = self
            .input
            .chunks(row * height)
            .map(|plane| (plane, row))
            .collect();
        let input = PictureRef::new(self.format, width, height, &planes);
        let planes = self
            .output
            .chunks_mut(row * height)
            .map(|plane| (plane, row))
            .collect();
        let output = PictureMut::new(self.format, width, height, planes);
        let (input, mut output) = input
            .and_then(|input| Ok((input, output?)))
            .expect("whole planes");
        self.translator
            .translate(&input, &mut output, &self.style, options)
            .expect("a frame of a size that every network takes");
    }
}

/// From frame bytes to frame bytes, by format.
#[divan::bench(args = PictureFormat::ALL, sample_count = 20)]
fn formats(bencher: Bencher, format: PictureFormat) {
    let mut frame = Frame::new(format, (256, 256), Precision::Auto);
    bencher.bench_local(|| frame.translate(&TranslateOptions::default()));
}

/// From frame bytes to frame bytes, by number format.
#[divan::bench(args = [Precision::Fp32, Precision::Bf16], sample_count = 20)]
fn precisions(bencher: Bencher, precision: Precision) {
    let mut frame = Frame::new(PictureFormat::Rgb, (256, 256), precision);
    bencher.bench_local(|| frame.translate(&TranslateOptions::default()));
}

/// A large frame through a network that sees it small: mostly the way there and back.
#[divan::bench(args = [64, 128], sample_count = 20)]
fn resized(bencher: Bencher, inference_size: u32) {
    let mut frame = Frame::new(PictureFormat::Rgb, (1280, 720), Precision::Auto);
    let options = TranslateOptions {
        inference_size: Some(inference_size),
        ..TranslateOptions::default()
    };
    bencher.bench_local(|| frame.translate(&options));
}

/// Reading and checking the file.
#[divan::bench(sample_count = 20)]
fn read_model() -> Model {
    model()
}

/// Packing the weights for the processor.
#[divan::bench(args = [Precision::Fp32, Precision::Bf16], sample_count = 20)]
fn pack_model(bencher: Bencher, precision: Precision) {
    let model = model();
    bencher.bench_local(|| translator(&model, precision));
}

/// The style of a picture.
#[divan::bench(sample_count = 20)]
fn encode_style(bencher: Bencher) {
    let mut translator = translator(&model(), Precision::Auto);
    let pixels = vec![100; 256 * 256 * 3];
    let picture = PictureRef::new(PictureFormat::Rgb, 256, 256, &[(&pixels, 3 * 256)])
        .expect("one whole plane");
    bencher.bench_local(|| translator.encode_style(&picture).expect("a MUNIT model"));
}
