//! The runtime on a device against the networks that define the result, and against the CPU: what its
//! tests do on the CPU, for a device that is here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use munit::config::{Activation, GeneratorConfig, Padding};
use munit::model_file::FORMAT_VERSION;
use munit::networks::{Generator, Initialisation, ParameterStore};
use munit::runtime::{
    DeviceChoice, PictureFormat, PictureMut, PictureRef, Precision, TranslateOptions, Translator,
};
use munit::{Architecture, Direction, Domain, Family, Model, ModelMetadata, StyleCode};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::network::test_picture;
use crate::model_name::find_model;

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was compared.
    pub name: String,
    /// Number format of the device.
    pub precision: String,
    /// How alike.
    pub likeness: Likeness,
    /// Whether that is enough.
    pub passed: bool,
}

/// How alike two pictures are, and how alike they have to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "measure")]
pub enum Likeness {
    /// Peak signal-to-noise ratio in dB.
    Psnr {
        /// The lowest found.
        found: f64,
        /// The lowest that passes.
        at_least: f64,
    },
    /// Largest difference of two values.
    Difference {
        /// The largest found.
        found: f64,
        /// The largest that passes.
        at_most: f64,
    },
}

/// All comparisons on a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyResult {
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// In the order in which they were made.
    pub checks: Vec<Check>,
    /// What could not be compared: shipped models that are not installed.
    pub left_out: Vec<String>,
    /// How long all took.
    pub seconds: f64,
}

impl VerifyResult {
    /// Whether all of them have passed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

/// Compares everything in each of `precisions`; without any, in all that the device has. `tell` is told
/// of each comparison.
///
/// # Errors
/// A device that is not there; a translation that fails.
pub fn verify(
    device: DeviceChoice,
    precisions: &[Precision],
    tell: &dyn Fn(&Check),
) -> Result<VerifyResult> {
    let begin = Instant::now();
    let _no_grad = tch::no_grad_guard();
    let resolved = device.resolve()?;
    let all: &[Precision] = match resolved {
        Device::Cpu => &[Precision::Fp32, Precision::Bf16],
        _ => &[Precision::Fp32, Precision::Fp16, Precision::Bf16],
    };
    let mut checks = Vec::new();
    let mut left_out = Vec::new();
    for &precision in if precisions.is_empty() {
        all
    } else {
        precisions
    } {
        let precision = precision.resolve(resolved)?;
        let mut verification = Verification {
            device,
            precision,
            limits: Limits::of(resolved, precision),
            tell,
            checks: &mut checks,
            left_out: &mut left_out,
        };
        verification.networks()?;
        verification.frames()?;
        verification.shipped_models()?;
    }
    Ok(VerifyResult {
        device: match resolved {
            Device::Cuda(number) => format!("cuda:{number}"),
            _ => "cpu".to_owned(),
        },
        checks,
        left_out,
        seconds: begin.elapsed().as_secs_f64(),
    })
}

/// How alike results must be in a number format.
#[derive(Clone, Copy)]
struct Limits {
    /// Of a network's values with random weights, which amplify rounding more than trained ones do.
    values: Likeness,
    /// Of a frame's bytes from such a network.
    bytes: Likeness,
    /// Of a frame's bytes from a trained network.
    trained: Likeness,
}

impl Limits {
    fn of(device: Device, precision: Precision) -> Self {
        let psnr = |at_least| Likeness::Psnr {
            found: f64::NAN,
            at_least,
        };
        let difference = |at_most| Likeness::Difference {
            found: f64::NAN,
            at_most,
        };
        match precision {
            // Sums in another order than the networks'.
            Precision::Fp32 => Self {
                values: difference(if device == Device::Cpu { 5e-5 } else { 2e-4 }),
                bytes: difference(1.0),
                trained: difference(1.0),
            },
            Precision::Fp16 => Self {
                values: psnr(48.0),
                bytes: psnr(45.0),
                trained: psnr(45.0),
            },
            _ => Self {
                values: psnr(40.0),
                bytes: psnr(40.0),
                trained: psnr(40.0),
            },
        }
    }
}

impl Likeness {
    /// Of pairs of values in a range of so many.
    fn measured(self, pairs: impl Iterator<Item = (f64, f64)>, range: f64) -> Self {
        let (mut square, mut largest, mut count) = (0.0, 0.0_f64, 0.0);
        for (left, right) in pairs {
            let difference = (left - right).abs();
            // Not a number is as far away as can be.
            let difference = if difference.is_nan() {
                range
            } else {
                difference
            };
            square += difference * difference;
            largest = largest.max(difference);
            count += 1.0;
        }
        match self {
            Self::Psnr { at_least, .. } => Self::Psnr {
                // Equal pictures have a ratio that JSON cannot write.
                found: (10.0 * (range * range * count / square).log10()).min(200.0),
                at_least,
            },
            Self::Difference { at_most, .. } => Self::Difference {
                found: largest,
                at_most,
            },
        }
    }

    fn is_enough(self) -> bool {
        match self {
            Self::Psnr { found, at_least } => found >= at_least,
            Self::Difference { found, at_most } => found <= at_most,
        }
    }
}

/// Comparisons in one number format.
struct Verification<'a> {
    device: DeviceChoice,
    precision: Precision,
    limits: Limits,
    tell: &'a dyn Fn(&Check),
    checks: &'a mut Vec<Check>,
    left_out: &'a mut Vec<String>,
}

impl Verification<'_> {
    fn add(&mut self, name: String, likeness: Likeness) {
        let check = Check {
            name,
            precision: self.precision.to_string(),
            likeness,
            passed: likeness.is_enough(),
        };
        (self.tell)(&check);
        self.checks.push(check);
    }

    fn add_bytes(&mut self, name: String, limit: Likeness, expected: &[u8], found: &[u8]) {
        let bytes = expected.iter().zip(found);
        let pairs = bytes.map(|(&left, &right)| (f64::from(left), f64::from(right)));
        self.add(name, limit.measured(pairs, 255.0));
    }

    fn translator(&self, model: &Model, direction: Direction) -> Result<Translator> {
        Ok(Translator::new(
            model,
            direction,
            self.device,
            self.precision,
        )?)
    }

    /// Values of every kind of network.
    fn networks(&mut self) -> Result<()> {
        let munit = architecture(Family::Munit);
        let mut all = vec![
            ("MUNIT", munit.clone(), (48, 64)),
            ("MUNIT, sides that do not divide", munit.clone(), (33, 47)),
            ("UNIT", architecture(Family::Unit), (40, 36)),
        ];
        let mut vary = |name, change: &dyn Fn(&mut Architecture)| {
            let mut architecture = munit.clone();
            architecture.generator.n_res = 1;
            change(&mut architecture);
            all.push((name, architecture, (32, 40)));
        };
        vary("zero padding", &|one| one.generator.padding = Padding::Zero);
        vary("replicated padding", &|one| {
            one.generator.padding = Padding::Replicate
        });
        vary("leaky", &|one| one.generator.activation = Activation::Prelu);
        vary("one downsampling", &|one| one.generator.n_downsample = 1);
        vary("three downsamplings", &|one| one.generator.n_downsample = 3);
        vary("odd width", &|one| one.generator.dim = 5);
        vary("grey to colour", &|one| one.input_dim_a = 1);
        vary("dim 64", &|one| one.generator.dim = 64);
        for (name, architecture, (height, width)) in all {
            let model = random_model(&architecture)?;
            for direction in Direction::ALL {
                let channels = architecture.channels(direction.source());
                let picture = picture(channels, height, width);
                let mut translator = self.translator(&model, direction)?;
                let style = StyleCode::sample(3, translator.style_dim());
                let expected = exact(&model, direction, &picture, &style)?;
                let found = translator.translate_tensor(&picture, &style)?;
                let values = |tensor: &Tensor| -> Result<Vec<f32>> {
                    Ok(Vec::try_from(tensor.f_contiguous()?.f_flatten(0, -1)?)?)
                };
                let (expected, found) = (values(&expected)?, values(&found)?);
                let both = expected.into_iter().zip(found);
                let pairs = both.map(|(left, right)| (f64::from(left), f64::from(right)));
                let likeness = self.limits.values.measured(pairs, 2.0);
                let name = format!("network: {name}, {}", direction.name());
                self.add(name, likeness);
            }
        }
        Ok(())
    }

    /// Bytes to bytes.
    fn frames(&mut self) -> Result<()> {
        for family in [Family::Munit, Family::Unit] {
            let model = random_model(&architecture(family))?;
            for direction in Direction::ALL {
                self.formats(&model, direction)?;
            }
        }
        let model = random_model(&architecture(Family::Munit))?;
        self.resizing(&model)?;
        self.styles(&model)?;
        self.sizes(&model)?;
        self.threads(&model)
    }

    /// Every format in and out, odd sizes, strengths.
    fn formats(&mut self, model: &Model, direction: Direction) -> Result<()> {
        let family = model.metadata.architecture.family;
        let mut ours = self.translator(model, direction)?;
        let mut reference = reference(model, direction)?;
        let style = StyleCode::sample(5, ours.style_dim());
        let all = PictureFormat::ALL;
        let (mut expected, mut found) = (vec![], vec![]);
        for (number, input) in all.into_iter().enumerate() {
            // 5 has no factor of 12, so that every format is an output, too.
            let output = all[(number * 5 + 3) % all.len()];
            let (width, height) = [(53, 37), (40, 64)][number % 2];
            let picture = Bytes::test(input, width, height);
            let strength = [1.0, 0.4, 0.0][number % 3];
            let options = TranslateOptions {
                strength,
                ..Default::default()
            };
            for (translator, bytes) in [(&mut reference, &mut expected), (&mut ours, &mut found)] {
                bytes.extend(picture.translated(translator, output, &style, &options)?);
            }
        }
        let family = match family {
            Family::Munit => "MUNIT",
            Family::Unit => "UNIT",
        };
        let name = format!("frames: all formats, {family}, {}", direction.name());
        self.add_bytes(name, self.limits.bytes, &expected, &found);
        Ok(())
    }

    /// An inference size below and above the picture's own.
    fn resizing(&mut self, model: &Model) -> Result<()> {
        let mut ours = self.translator(model, Direction::A2b)?;
        let mut reference = reference(model, Direction::A2b)?;
        let style = StyleCode::sample(5, ours.style_dim());
        let picture = Bytes::test(PictureFormat::Bgra, 90, 60);
        for side in [40, 80] {
            let options = TranslateOptions {
                inference_size: Some(side),
                ..Default::default()
            };
            let output = PictureFormat::Rgb;
            let expected = picture.translated(&mut reference, output, &style, &options)?;
            let found = picture.translated(&mut ours, output, &style, &options)?;
            // The CPU rounds the small pictures to bytes, which random weights amplify.
            let limit = Likeness::Psnr {
                found: f64::NAN,
                at_least: 25.0,
            };
            let name = format!("frames: inference size {side}");
            self.add_bytes(name, limit, &expected, &found);
        }
        Ok(())
    }

    /// Styles that change from frame to frame, as graphs and kernel by kernel.
    fn styles(&mut self, model: &Model) -> Result<()> {
        let mut ours = self.translator(model, Direction::A2b)?;
        let mut reference = reference(model, Direction::A2b)?;
        let styles = [1, 2, 3].map(|seed| StyleCode::sample(seed, ours.style_dim()));
        let order = [0, 0, 0, 1, 2, 1, 0, 2];
        let picture = Bytes::test(PictureFormat::Rgb, 64, 48);
        let translate = |translator: &mut Translator| -> Result<Vec<u8>> {
            let frames = order.into_iter().map(|number| {
                let options = TranslateOptions::default();
                picture.translated(translator, PictureFormat::Rgb, &styles[number], &options)
            });
            Ok(frames.collect::<Result<Vec<_>>>()?.concat())
        };
        let expected = translate(&mut reference)?;
        let found = translate(&mut ours)?;
        self.add_bytes(
            "frames: styles that change".to_owned(),
            self.limits.bytes,
            &expected,
            &found,
        );
        ours.use_graphs(false);
        let without = translate(&mut ours)?;
        self.add_bytes(
            "frames: graph against single kernels".to_owned(),
            SAME,
            &without,
            &found,
        );
        Ok(())
    }

    /// Sizes that change and come back.
    fn sizes(&mut self, model: &Model) -> Result<()> {
        let mut ours = self.translator(model, Direction::A2b)?;
        let mut reference = reference(model, Direction::A2b)?;
        let style = StyleCode::sample(5, ours.style_dim());
        // A frame that is resized takes another way through the device, and here more memory, than those
        // that are recorded before and replayed behind it.
        let sizes = [
            (64, 48, None),
            (64, 48, None),
            (64, 48, None),
            (53, 37, None),
            (53, 37, None),
            (64, 48, None),
            (64, 48, None),
            (64, 48, None),
            (64, 48, Some(240)),
            (64, 48, None),
        ];
        let translate = |translator: &mut Translator| -> Result<Vec<u8>> {
            let mut frames = Vec::new();
            for (width, height, inference_size) in sizes {
                let picture = Bytes::test(PictureFormat::Rgb, width, height);
                let options = TranslateOptions {
                    inference_size,
                    ..Default::default()
                };
                let frame = picture.translated(translator, PictureFormat::Rgb, &style, &options)?;
                if inference_size.is_none() {
                    frames.extend(frame);
                }
            }
            Ok(frames)
        };
        let expected = translate(&mut reference)?;
        let found = translate(&mut ours)?;
        self.add_bytes(
            "frames: sizes that change".to_owned(),
            self.limits.bytes,
            &expected,
            &found,
        );
        Ok(())
    }

    /// Translators on the same weights, in threads of their own.
    fn threads(&mut self, model: &Model) -> Result<()> {
        const FRAMES: usize = 12;
        let first = self.translator(model, Direction::A2b)?;
        let mut reference = reference(model, Direction::A2b)?;
        let translators = [first.share(), first.share(), first];
        let sizes = [(64, 48), (53, 37), (64, 48)];
        let options = TranslateOptions::default();
        let mut expected = vec![];
        for (number, (width, height)) in sizes.into_iter().enumerate() {
            let style = StyleCode::sample(number as u64, reference.style_dim());
            let picture = Bytes::test(PictureFormat::Rgb, width, height);
            let one = picture.translated(&mut reference, PictureFormat::Rgb, &style, &options)?;
            expected.extend(one.repeat(FRAMES));
        }
        let translate = |(number, mut translator): (usize, Translator)| -> Result<Vec<u8>> {
            let (width, height) = sizes[number];
            let style = StyleCode::sample(number as u64, translator.style_dim());
            let picture = Bytes::test(PictureFormat::Rgb, width, height);
            let frames = (0..FRAMES)
                .map(|_| picture.translated(&mut translator, PictureFormat::Rgb, &style, &options));
            Ok(frames.collect::<Result<Vec<_>>>()?.concat())
        };
        let found = std::thread::scope(|scope| {
            let running: Vec<_> = translators
                .into_iter()
                .enumerate()
                .map(|job| scope.spawn(|| translate(job)))
                .collect();
            let joined = running.into_iter().map(|one| match one.join() {
                Ok(frames) => frames,
                Err(_) => bail!("a thread that translates has panicked"),
            });
            joined.collect::<Result<Vec<_>>>()
        })?;
        let name = "frames: three translators in three threads".to_owned();
        self.add_bytes(name, self.limits.bytes, &expected, &found.concat());
        Ok(())
    }

    /// Trained models, where they are installed.
    fn shipped_models(&mut self) -> Result<()> {
        for name in ["photo2illustration", "sketch2garment"] {
            let Ok(file) = find_model(Path::new(name)) else {
                self.left_out.push(format!("model: {name}"));
                continue;
            };
            let model = Model::read(&file)?;
            let direction = model.metadata.directions[0];
            let mut ours = self.translator(&model, direction)?;
            let mut reference = reference(&model, direction)?;
            let style = model.metadata.default_style(direction);
            let picture = Bytes::test(PictureFormat::Rgb, 192, 128);
            let options = TranslateOptions::default();
            let output = PictureFormat::Rgb;
            let expected = picture.translated(&mut reference, output, &style, &options)?;
            let found = picture.translated(&mut ours, output, &style, &options)?;
            self.add_bytes(
                format!("model: {name}"),
                self.limits.trained,
                &expected,
                &found,
            );
        }
        Ok(())
    }
}

/// Not one bit of a difference.
const SAME: Likeness = Likeness::Difference {
    found: f64::NAN,
    at_most: 0.0,
};

/// The CPU's translation in single precision.
fn reference(model: &Model, direction: Direction) -> Result<Translator> {
    Ok(Translator::new(
        model,
        direction,
        DeviceChoice::Cpu,
        Precision::Fp32,
    )?)
}

/// A picture in memory, rows without gaps, one plane behind the other.
struct Bytes {
    format: PictureFormat,
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

impl Bytes {
    /// The test picture's bytes, in whatever order the format has them.
    fn test(format: PictureFormat, width: usize, height: usize) -> Self {
        let length = width * height * format.planes() * format.pixel_bytes();
        let picture = test_picture(width, height);
        Self {
            format,
            width,
            height,
            bytes: picture.into_iter().cycle().take(length).collect(),
        }
    }

    fn translated(
        &self,
        translator: &mut Translator,
        output: PictureFormat,
        style: &StyleCode,
        options: &TranslateOptions,
    ) -> Result<Vec<u8>> {
        let row = self.width * self.format.pixel_bytes();
        let planes: Vec<_> = self
            .bytes
            .chunks(row * self.height)
            .map(|plane| (plane, row))
            .collect();
        let picture = PictureRef::new(self.format, self.width, self.height, &planes)?;
        let row = self.width * output.pixel_bytes();
        let mut bytes = vec![0; row * self.height * output.planes()];
        let planes = bytes
            .chunks_mut(row * self.height)
            .map(|plane| (plane, row))
            .collect();
        let mut target = PictureMut::new(output, self.width, self.height, planes)?;
        translator.translate(&picture, &mut target, style, options)?;
        Ok(bytes)
    }
}

fn architecture(family: Family) -> Architecture {
    Architecture {
        family,
        input_dim_a: 3,
        input_dim_b: 3,
        generator: GeneratorConfig {
            dim: 16,
            n_res: 2,
            ..GeneratorConfig::default()
        },
    }
}

/// Both directions, with weights as they are before training and noise on biases and norms.
fn random_model(architecture: &Architecture) -> Result<Model> {
    tch::manual_seed(1);
    let mut weights = BTreeMap::new();
    for domain in Domain::ALL {
        let store = ParameterStore::random(Initialisation::Kaiming, 1, Device::Cpu);
        for parameter in Generator::new(architecture, domain, store)?.parameters() {
            let mut tensor = parameter.tensor.f_detach()?;
            if tensor.dim() == 1 {
                tensor = tensor.f_add(&tensor.f_randn_like()?.f_mul_scalar(0.1)?)?;
            }
            weights.insert(format!("{}.{}", domain.name(), parameter.name), tensor);
        }
    }
    Ok(Model {
        weights,
        metadata: ModelMetadata {
            format_version: FORMAT_VERSION,
            architecture: architecture.clone(),
            directions: Direction::ALL.to_vec(),
            domain_a: "a".to_owned(),
            domain_b: "b".to_owned(),
            iterations: 0,
            data: "nothing: the weights are random".to_owned(),
            licence: String::new(),
            recommended_size: None,
            styles: Default::default(),
            mean_styles: Default::default(),
        },
    })
}

/// `[1, channels, height, width]` of noise over a slope, in [-1, 1].
fn picture(channels: i64, height: i64, width: i64) -> Tensor {
    let options = (Kind::Float, Device::Cpu);
    let noise = Tensor::rand([1, channels, height, width], options) * 0.6 - 0.3;
    noise + Tensor::linspace(-0.7, 0.7, width, options)
}

/// The networks' own translation, of a picture that is reflected to sides that they divide.
fn exact(
    model: &Model,
    direction: Direction,
    picture: &Tensor,
    style: &StyleCode,
) -> Result<Tensor> {
    let architecture = &model.metadata.architecture;
    let stride = architecture.stride();
    let (height, width) = (picture.size()[2], picture.size()[3]);
    let missing = |length: i64| (stride - length % stride) % stride;
    let padded = picture.f_reflection_pad2d([0, missing(width), 0, missing(height)])?;
    let generator = |domain: Domain| {
        let prefix = format!("{}.", domain.name());
        let store = ParameterStore::given(&model.weights, &prefix, Device::Cpu);
        Generator::new(architecture, domain, store)
    };
    let content = generator(direction.source())?.encode_content(&padded)?;
    let style = Tensor::f_from_slice(style.values())?.f_unsqueeze(0)?;
    let style = (architecture.family == Family::Munit).then_some(&style);
    let translated = generator(direction.target())?.decode(&content, style)?;
    Ok(translated.f_narrow(2, 0, height)?.f_narrow(3, 0, width)?)
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let verdict = if self.passed { "ok" } else { "FAILED" };
        let Self {
            name, precision, ..
        } = self;
        write!(formatter, "{verdict:<6} {precision} {name:<52} ")?;
        match self.likeness {
            Likeness::Psnr { found, at_least } => {
                write!(formatter, "{found:.1} dB (at least {at_least})")
            }
            Likeness::Difference { found, at_most } => {
                write!(formatter, "differs by {found:.1e} (at most {at_most:.0e})")
            }
        }
    }
}

impl fmt::Display for VerifyResult {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let failed = self.checks.iter().filter(|check| !check.passed).count();
        writeln!(
            formatter,
            "{}: {} of {} comparisons failed, {:.1} s",
            self.device,
            failed,
            self.checks.len(),
            self.seconds
        )?;
        for one in &self.left_out {
            writeln!(formatter, "left out: {one} is not installed")?;
        }
        Ok(())
    }
}
