//! The fast path against the differentiable networks, and pictures through it.

mod common;

use std::path::Path;
use std::process::Command;

use common::{difference, exact, picture, random_model, small};
use munit::config::{Activation, Padding};
use munit::runtime::{
    DeviceChoice, PictureFormat, PictureMut, PictureRef, Precision, TranslateOptions, Translator,
    use_threads,
};
use munit::{Architecture, Direction, Error, Family, Model, StyleCode};
use tch::Tensor;

/// Of fp32 outputs: three times what two builds of the same network differ by.
const TOLERANCE: f64 = 3e-5;

fn translator(model: &Model, direction: Direction, precision: Precision) -> Translator {
    Translator::new(model, direction, DeviceChoice::Cpu, precision).unwrap()
}

/// Translates a random picture both ways and compares.
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
fn fp32_equals_the_networks() {
    for family in [Family::Munit, Family::Unit] {
        assert_exact(&small(family), 48, 64);
    }
}

#[test]
fn every_depth_is_computed() {
    for (n_downsample, n_res, side) in [(0, 1, 32), (1, 1, 32), (1, 2, 18), (3, 1, 64)] {
        let mut architecture = small(Family::Munit);
        architecture.generator.n_downsample = n_downsample;
        architecture.generator.n_res = n_res;
        assert_exact(&architecture, side, side + 24);
    }
}

#[test]
fn every_padding_is_computed() {
    for padding in [Padding::Reflect, Padding::Replicate, Padding::Zero] {
        let mut architecture = small(Family::Munit);
        architecture.generator.padding = padding;
        assert_exact(&architecture, 40, 36);
    }
}

#[test]
fn every_activation_is_computed() {
    for activation in [
        Activation::Relu,
        Activation::Lrelu,
        Activation::Prelu,
        Activation::Selu,
        Activation::Tanh,
        Activation::None,
    ] {
        let mut architecture = small(Family::Munit);
        architecture.generator.activation = activation;
        assert_exact(&architecture, 32, 40);
    }
}

#[test]
fn odd_widths_and_one_channel_are_computed() {
    for (dim, input_dim_a, input_dim_b) in [(5, 1, 3), (3, 3, 1), (17, 1, 1), (1, 3, 3)] {
        let mut architecture = small(Family::Munit);
        architecture.generator.dim = dim;
        (architecture.input_dim_a, architecture.input_dim_b) = (input_dim_a, input_dim_b);
        assert_exact(&architecture, 32, 36);
    }
}

#[test]
fn sizes_that_do_not_divide_are_reflected_and_cropped() {
    let model = random_model(&small(Family::Munit), 9);
    let mut translator = translator(&model, Direction::A2b, Precision::Fp32);
    let style = StyleCode::sample(1, 4);
    for (height, width) in [(17, 16), (33, 47), (16, 101), (22, 23)] {
        let picture = picture(3, height, width);
        let padding = [0, (4 - width % 4) % 4, 0, (4 - height % 4) % 4];
        let padded = picture.reflection_pad2d(padding);
        let expected = exact(&model, Direction::A2b, &padded, &style);
        let expected = expected.narrow(2, 0, height).narrow(3, 0, width);
        let translated = translator.translate_tensor(&picture, &style).unwrap();
        assert!(difference(&translated, &expected) < TOLERANCE);
    }
}

#[test]
fn bf16_is_close_to_fp32() {
    for padding in [Padding::Reflect, Padding::Zero] {
        let mut architecture = small(Family::Munit);
        architecture.generator.dim = 16;
        architecture.generator.padding = padding;
        let model = random_model(&architecture, 2);
        let picture = picture(3, 64, 80);
        let style = StyleCode::sample(8, 4);
        let expected = exact(&model, Direction::A2b, &picture, &style);
        let mut translator = translator(&model, Direction::A2b, Precision::Bf16);
        let translated = translator.translate_tensor(&picture, &style).unwrap();
        let error = (translated - expected).square().mean(tch::Kind::Float);
        let psnr = 10.0 * (4.0 / error.double_value(&[])).log10();
        // Random weights amplify rounding more than trained ones, which are tested below.
        assert!(psnr > 35.0, "{psnr} dB");
    }
}

/// Run for every set of instructions by the last test of this file.
#[test]
fn the_format_is_what_the_processor_is_fast_in() {
    let Ok(processor) = std::fs::read_to_string("/proc/cpuinfo") else {
        return;
    };
    let maximum = std::env::var("MUNIT_MAX_CPU_ISA").unwrap_or_else(|_| "amx".to_owned());
    let has = |name: &str, flag: &str| {
        let sets = ["none", "avx2", "avx512", "avx512-bf16", "amx"];
        let place = |name: &str| sets.iter().position(|set| *set == name);
        place(name) <= place(&maximum) && processor.split_whitespace().any(|word| word == flag)
    };
    let expected = match processor.contains("GenuineIntel") {
        _ if has("amx", "amx_bf16") => Precision::Bf16,
        false if has("avx512-bf16", "avx512_bf16") => Precision::Bf16,
        _ => Precision::Fp32,
    };
    let automatic = Precision::Auto.resolve(tch::Device::Cpu).unwrap();
    assert_eq!(automatic, expected, "{maximum}");
}

#[test]
fn threads_change_no_bit_of_a_picture() {
    let architecture = small(Family::Munit);
    let model = random_model(&architecture, 5);
    let picture = picture(3, 108, 140);
    for precision in [Precision::Fp32, Precision::Bf16] {
        let mut translator = translator(&model, Direction::A2b, precision);
        let style = StyleCode::sample(3, translator.style_dim());
        let mut translated_on = |threads| {
            use_threads(threads);
            let translated = translator.translate_tensor(&picture, &style).unwrap();
            Vec::<f32>::try_from(translated.flatten(0, -1)).unwrap()
        };
        let expected = translated_on(1);
        for threads in [2, 3, 7] {
            assert!(
                translated_on(threads) == expected,
                "{threads} threads, {precision}"
            );
        }
    }
}

/// The shipped models on the pictures in the first row of their own sample sheets.
#[test]
fn trained_models_lose_nothing_visible_in_bf16() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (name, height) in [("photo2illustration", 245), ("sketch2garment", 180)] {
        let model = Model::read(&project.join(format!("models/{name}.safetensors"))).unwrap();
        let sheet = image::open(project.join(format!("docs/images/{name}.jpg"))).unwrap();
        let (width, row) = (sheet.width() as usize, 3 * sheet.width() as usize);
        let pixels = &sheet.to_rgb8().into_raw()[..row * height];
        let picture = PictureRef::new(PictureFormat::Rgb, width, height, &[(pixels, row)]).unwrap();
        for direction in Direction::ALL {
            let [single, half] = [Precision::Fp32, Precision::Bf16].map(|precision| {
                let mut translator = translator(&model, direction, precision);
                let style = StyleCode::sample(1, translator.style_dim());
                let mut bytes = vec![0; pixels.len()];
                let planes = vec![(&mut bytes[..], row)];
                let mut output =
                    PictureMut::new(PictureFormat::Rgb, width, height, planes).unwrap();
                translator
                    .translate(&picture, &mut output, &style, &TranslateOptions::default())
                    .unwrap();
                bytes
            });
            let square = |(&a, &b)| (f64::from(a) - f64::from(b)).powi(2);
            let error = single.iter().zip(&half).map(square).sum::<f64>() / single.len() as f64;
            let psnr = 10.0 * (255.0_f64.powi(2) / error).log10();
            let of = format!("{name} {}", direction.name());
            assert!(psnr > 40.0, "{of}: {psnr} dB");
            assert!(error > 0.0, "{of}: computed in the same precision");
        }
    }
}

#[test]
fn one_content_is_decoded_in_many_styles() {
    for (family, styles) in [(Family::Munit, 3), (Family::Unit, 1)] {
        let model = random_model(&small(family), 4);
        let picture = picture(3, 36, 52);
        for precision in [Precision::Fp32, Precision::Bf16] {
            let mut translator = translator(&model, Direction::A2b, precision);
            let style = |seed| StyleCode::sample(seed, translator.style_dim());
            let styles: Vec<StyleCode> = (0..styles).map(style).collect();
            let all = translator.translate_in_styles(&picture, &styles).unwrap();
            for (place, style) in (0..).zip(&styles) {
                let one = translator.translate_tensor(&picture, style).unwrap();
                assert_eq!(difference(&all.narrow(0, place, 1), &one), 0.0);
            }
            let error = translator.translate_in_styles(&picture, &[]).unwrap_err();
            assert!(error.to_string().contains("no style"), "{error}");
        }
    }
}

#[test]
fn a_new_style_changes_the_translation_and_the_old_one_comes_back() {
    let model = random_model(&small(Family::Munit), 4);
    let mut translator = translator(&model, Direction::A2b, Precision::Fp32);
    let picture = picture(3, 32, 32);
    let [first, second] = [1, 2].map(|seed| StyleCode::sample(seed, 4));
    let one = translator.translate_tensor(&picture, &first).unwrap();
    let other = translator.translate_tensor(&picture, &second).unwrap();
    let again = translator.translate_tensor(&picture, &first).unwrap();
    assert!(difference(&one, &other) > 0.05);
    assert_eq!(difference(&one, &again), 0.0);
}

#[test]
fn translators_on_shared_weights_do_not_disturb_each_other() {
    let model = random_model(&small(Family::Munit), 4);
    let mut first = translator(&model, Direction::A2b, Precision::Fp32);
    let [style, other_style] = [1, 2].map(|seed| StyleCode::sample(seed, 4));
    // Made here, because libtorch's random numbers are the same sequence for all threads.
    let [picture, other_picture] = [picture(3, 32, 32), picture(3, 40, 24)];
    let expected = first.translate_tensor(&picture, &style).unwrap();
    let mut second = first.share();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut translate = || {
                second
                    .translate_tensor(&other_picture, &other_style)
                    .unwrap()
            };
            let once = translate();
            for _ in 0..20 {
                assert_eq!(difference(&once, &translate()), 0.0);
            }
        });
        for _ in 0..20 {
            let translated = first.translate_tensor(&picture, &style).unwrap();
            assert_eq!(difference(&translated, &expected), 0.0);
        }
    });
}

/// A picture's bytes in any format, rows padded to `stride` with a value that must not change.
struct Bytes {
    format: PictureFormat,
    width: usize,
    height: usize,
    stride: usize,
    planes: Vec<Vec<u8>>,
}

const UNTOUCHED: u8 = 0xa5;

impl Bytes {
    fn new(format: PictureFormat, width: usize, height: usize, slack: usize) -> Self {
        let stride = width * format.pixel_bytes() + slack;
        let length = stride * (height - 1) + width * format.pixel_bytes();
        Self {
            format,
            width,
            height,
            stride,
            planes: vec![vec![UNTOUCHED; length]; format.planes()],
        }
    }

    /// The byte that holds a colour (`R`, `G`, `B`) or the fourth (`A`, `x`) of a pixel.
    fn at(&mut self, x: usize, y: usize, colour: char) -> Option<&mut u8> {
        let name = self.format.name();
        if let Some(order) = name.strip_suffix('P') {
            let plane = order.find(colour)?;
            return self.planes[plane].get_mut(y * self.stride + x);
        }
        let offset = name.find(colour)?;
        let pixel = y * self.stride + x * name.len();
        self.planes[0].get_mut(pixel + offset)
    }

    fn fill(&mut self, colours: &dyn Fn(usize, usize, char) -> u8) {
        for (x, y) in pixels(self.width, self.height) {
            for colour in ['R', 'G', 'B', 'A', 'x'] {
                if let Some(byte) = self.at(x, y, colour) {
                    *byte = colours(x, y, colour);
                }
            }
        }
    }

    fn view(&self) -> PictureRef<'_> {
        let planes: Vec<_> = self
            .planes
            .iter()
            .map(|plane| (&plane[..], self.stride))
            .collect();
        PictureRef::new(self.format, self.width, self.height, &planes).unwrap()
    }

    fn view_mut(&mut self) -> PictureMut<'_> {
        let stride = self.stride;
        let planes = self
            .planes
            .iter_mut()
            .map(|plane| (&mut plane[..], stride))
            .collect();
        PictureMut::new(self.format, self.width, self.height, planes).unwrap()
    }

    fn assert_rows_kept_their_slack(&self) {
        let row = self.width * self.format.pixel_bytes();
        for plane in &self.planes {
            let slack = plane
                .chunks(self.stride)
                .filter_map(|line| line.get(row..))
                .flatten();
            assert!(slack.into_iter().all(|&byte| byte == UNTOUCHED));
        }
    }
}

/// Every x and y.
fn pixels(width: usize, height: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |y| (0..width).map(move |x| (x, y)))
}

/// A colourful picture with an opacity of its own.
fn pattern(x: usize, y: usize, colour: char) -> u8 {
    let phase = match colour {
        'R' => 0,
        'G' => 91,
        'B' => 180,
        _ => 33,
    };
    ((x * 7 + y * 13 + phase + x * y / 3) % 256) as u8
}

fn pattern_tensor(width: usize, height: usize) -> Tensor {
    let values: Vec<f32> = ['R', 'G', 'B']
        .into_iter()
        .flat_map(|colour| {
            (0..width * height)
                .map(move |index| f32::from(pattern(index % width, index / width, colour)))
        })
        .map(|value| value / 127.5 - 1.0)
        .collect();
    Tensor::from_slice(&values).reshape([1, 3, height as i64, width as i64])
}

/// Red, green and blue of a translation at a pixel, rounded to 8 bits.
fn expected_byte(translation: &Tensor, x: usize, y: usize, colour: char) -> f64 {
    let channel = ['R', 'G', 'B']
        .into_iter()
        .position(|c| c == colour)
        .unwrap() as i64;
    let channel = channel.min(translation.size()[1] - 1);
    let value = translation.double_value(&[0, channel, y as i64, x as i64]);
    ((value + 1.0) * 127.5).round().clamp(0.0, 255.0)
}

#[test]
fn every_format_and_stride_goes_through() {
    let (width, height) = (30, 21);
    let model = random_model(&small(Family::Munit), 6);
    let mut translator = translator(&model, Direction::A2b, Precision::Fp32);
    let style = StyleCode::sample(5, 4);
    let translation = translator
        .translate_tensor(&pattern_tensor(width, height), &style)
        .unwrap();
    for (number, format) in PictureFormat::ALL.into_iter().enumerate() {
        let mut input = Bytes::new(format, width, height, number % 4 * 5);
        let mut output = Bytes::new(format, width, height, number % 3 * 7);
        input.fill(&pattern);
        translator
            .translate(
                &input.view(),
                &mut output.view_mut(),
                &style,
                &Default::default(),
            )
            .unwrap();
        output.assert_rows_kept_their_slack();
        for (x, y) in pixels(width, height) {
            for colour in ['R', 'G', 'B'] {
                let byte = f64::from(*output.at(x, y, colour).unwrap());
                let expected = expected_byte(&translation, x, y, colour);
                assert!(
                    (byte - expected).abs() <= 1.0,
                    "{format} {colour} at {x},{y}"
                );
            }
            let opacity = output.at(x, y, 'A').copied();
            assert!(
                opacity.is_none_or(|opacity| opacity == pattern(x, y, 'A')),
                "{format}"
            );
            assert!(
                output.at(x, y, 'x').is_none_or(|filler| *filler == 255),
                "{format}"
            );
        }
    }
}

#[test]
fn a_format_can_change_on_the_way() {
    let model = random_model(&small(Family::Unit), 6);
    let mut translator = translator(&model, Direction::B2a, Precision::Fp32);
    let mut input = Bytes::new(PictureFormat::Bgr, 16, 16, 0);
    input.fill(&pattern);
    let [mut packed, mut planar] =
        [PictureFormat::Argb, PictureFormat::Rgbp].map(|format| Bytes::new(format, 16, 16, 3));
    for output in [&mut packed, &mut planar] {
        let style = StyleCode::zeros(0);
        translator
            .translate(
                &input.view(),
                &mut output.view_mut(),
                &style,
                &Default::default(),
            )
            .unwrap();
    }
    for (x, y) in pixels(16, 16) {
        for colour in ['R', 'G', 'B'] {
            assert_eq!(packed.at(x, y, colour), planar.at(x, y, colour));
        }
        assert_eq!(*packed.at(x, y, 'A').unwrap(), 255);
    }
}

#[test]
fn strength_mixes_with_the_original() {
    let (width, height) = (20, 18);
    let model = random_model(&small(Family::Munit), 6);
    for precision in [Precision::Fp32, Precision::Bf16] {
        let mut translator = translator(&model, Direction::A2b, precision);
        let style = StyleCode::sample(5, 4);
        let mut input = Bytes::new(PictureFormat::Bgra, width, height, 0);
        input.fill(&pattern);
        let mut translate = |strength, inference_size| {
            let mut output = Bytes::new(PictureFormat::Bgra, width, height, 0);
            let options = TranslateOptions {
                strength,
                inference_size,
            };
            translator
                .translate(&input.view(), &mut output.view_mut(), &style, &options)
                .unwrap();
            output.planes.remove(0)
        };
        assert_eq!(translate(0.0, None), input.planes[0]);
        assert_eq!(translate(0.0, Some(32)), input.planes[0]);
        let (whole, half) = (translate(1.0, None), translate(0.5, None));
        assert_ne!(whole, input.planes[0]);
        for ((&half, &whole), &original) in half.iter().zip(&whole).zip(&input.planes[0]) {
            let middle = (f32::from(whole) + f32::from(original)) / 2.0;
            assert!((f32::from(half) - middle).abs() <= 0.5);
        }
    }
}

#[test]
fn grey_domains_see_the_luma_and_give_grey() {
    let mut architecture = small(Family::Munit);
    architecture.input_dim_b = 1;
    let model = random_model(&architecture, 1);
    let style = StyleCode::sample(5, 4);
    let mut input = Bytes::new(PictureFormat::Rgb, 24, 20, 0);
    input.fill(&pattern);
    let colours = pattern_tensor(24, 20);
    let luma = 0.299 * colours.narrow(1, 0, 1)
        + 0.587 * colours.narrow(1, 1, 1)
        + 0.114 * colours.narrow(1, 2, 1);
    for (direction, picture) in [(Direction::A2b, colours), (Direction::B2a, luma)] {
        let expected = exact(&model, direction, &picture, &style);
        let mut output = Bytes::new(PictureFormat::Rgb, 24, 20, 0);
        translator(&model, direction, Precision::Fp32)
            .translate(
                &input.view(),
                &mut output.view_mut(),
                &style,
                &Default::default(),
            )
            .unwrap();
        for (x, y) in pixels(24, 20) {
            for colour in ['R', 'G', 'B'] {
                let byte = f64::from(*output.at(x, y, colour).unwrap());
                assert!((byte - expected_byte(&expected, x, y, colour)).abs() <= 1.0);
            }
        }
    }
}

#[test]
fn inference_size_sets_the_size_at_which_the_network_runs() {
    let model = random_model(&small(Family::Munit), 3);
    let style = StyleCode::sample(5, 4);
    let mut input = Bytes::new(PictureFormat::Rgb, 90, 50, 2);
    input.fill(&pattern);
    for precision in [Precision::Fp32, Precision::Bf16] {
        let mut translator = translator(&model, Direction::A2b, precision);
        let mut translate = |inference_size| {
            let mut output = Bytes::new(PictureFormat::Rgb, 90, 50, 2);
            let options = TranslateOptions {
                strength: 1.0,
                inference_size,
            };
            translator
                .translate(&input.view(), &mut output.view_mut(), &style, &options)
                .unwrap();
            output.assert_rows_kept_their_slack();
            output.planes.remove(0)
        };
        let own = translate(None);
        assert_eq!(own, translate(Some(50)));
        for size in [8, 24, 80] {
            assert_ne!(own, translate(Some(size)));
        }
    }
    // The network sees the picture reduced to 24 rows and 44 columns.
    let mut translator = translator(&model, Direction::A2b, Precision::Fp32);
    // Pictures are resized as bytes.
    let bytes = ((pattern_tensor(90, 50) + 1.0) * 127.5).round();
    let small = bytes
        .to_kind(tch::Kind::Uint8)
        .internal_upsample_bilinear2d_aa([24, 44], false, None, None);
    let small = small.to_kind(tch::Kind::Float) / 127.5 - 1.0;
    let expected = exact(&model, Direction::A2b, &small, &style).internal_upsample_bicubic2d_aa(
        [50, 90],
        false,
        None,
        None,
    );
    let mut output = Bytes::new(PictureFormat::Rgb, 90, 50, 0);
    let options = TranslateOptions {
        strength: 1.0,
        inference_size: Some(24),
    };
    translator
        .translate(&input.view(), &mut output.view_mut(), &style, &options)
        .unwrap();
    for (x, y) in pixels(90, 50) {
        let byte = f64::from(*output.at(x, y, 'G').unwrap());
        // The translation is rounded before it is enlarged and afterwards again, and the weights of
        // a bicubic kernel add up to more than 1 without their signs.
        assert!((byte - expected_byte(&expected, x, y, 'G')).abs() <= 2.0);
    }
}

#[test]
fn small_pictures_need_an_inference_size() {
    let model = random_model(&small(Family::Munit), 3);
    let mut translator = translator(&model, Direction::A2b, Precision::Auto);
    let style = StyleCode::zeros(4);
    let input = Bytes::new(PictureFormat::Rgb, 40, 9, 0);
    let mut output = Bytes::new(PictureFormat::Rgb, 40, 9, 0);
    let mut options = TranslateOptions::default();
    let error = translator
        .translate(&input.view(), &mut output.view_mut(), &style, &options)
        .unwrap_err();
    assert!(matches!(error, Error::Picture(_)), "{error}");
    assert!(
        error.to_string().contains("40x9") && error.to_string().contains("16"),
        "{error}"
    );
    options.inference_size = Some(16);
    translator
        .translate(&input.view(), &mut output.view_mut(), &style, &options)
        .unwrap();
}

#[test]
fn the_style_encoder_reads_examples() {
    let mut model = random_model(&small(Family::Munit), 3);
    let mut input = Bytes::new(PictureFormat::Abgr, 36, 48, 4);
    input.fill(&pattern);
    let own_size = pattern_tensor(36, 48);
    let resized = own_size.internal_upsample_bilinear2d_aa([32, 24], false, None, None);
    for (recommended_size, picture) in [(None, own_size), (Some(24), resized)] {
        model.metadata.recommended_size = recommended_size;
        let mut translator = translator(&model, Direction::A2b, Precision::Bf16);
        let code = translator.encode_style(&input.view()).unwrap();
        let store = munit::networks::ParameterStore::given(&model.weights, "b.", tch::Device::Cpu);
        let domain = munit::Domain::B;
        let generator =
            munit::networks::Generator::new(&model.metadata.architecture, domain, store).unwrap();
        let expected = generator
            .encode_style(&picture)
            .unwrap()
            .flatten(0, -1)
            .detach();
        assert!(difference(&Tensor::from_slice(code.values()), &expected) < TOLERANCE);
    }
    let unit = random_model(&small(Family::Unit), 3);
    let error = translator(&unit, Direction::A2b, Precision::Fp32)
        .encode_style(&input.view())
        .unwrap_err();
    assert!(matches!(error, Error::Style(_)), "{error}");
}

#[test]
fn mistakes_get_a_sentence() {
    let model = random_model(&small(Family::Munit), 3);
    let mut fast = translator(&model, Direction::A2b, Precision::Auto);
    let input = Bytes::new(PictureFormat::Rgb, 32, 32, 0);
    let mut smaller = Bytes::new(PictureFormat::Rgb, 32, 30, 0);
    let options = TranslateOptions::default();
    let style = StyleCode::zeros(4);
    let error = fast
        .translate(&input.view(), &mut smaller.view_mut(), &style, &options)
        .unwrap_err();
    assert!(error.to_string().contains("32x30"), "{error}");
    let mut output = Bytes::new(PictureFormat::Rgb, 32, 32, 0);
    let error = fast
        .translate(
            &input.view(),
            &mut output.view_mut(),
            &StyleCode::zeros(5),
            &options,
        )
        .unwrap_err();
    assert!(matches!(error, Error::Style(_)), "{error}");
    let error = fast
        .translate_tensor(&picture(1, 32, 32), &style)
        .unwrap_err();
    assert!(
        error.to_string().contains("[1, 3, height, width]"),
        "{error}"
    );

    let short = [0; 100];
    let error = PictureRef::new(PictureFormat::Rgb, 10, 10, &[(&short, 30)]).unwrap_err();
    assert!(error.to_string().contains("100 bytes"), "{error}");
    let error = PictureRef::new(PictureFormat::Rgb, 10, 3, &[(&short, 29)]).unwrap_err();
    assert!(error.to_string().contains("rows of 29"), "{error}");
    let error = PictureRef::new(PictureFormat::Rgbp, 10, 10, &[(&short, 10)]).unwrap_err();
    assert!(error.to_string().contains("3 planes"), "{error}");
    let huge = usize::MAX / 2;
    assert!(PictureRef::new(PictureFormat::Rgba, huge, huge, &[(&short, huge)]).is_err());
    assert!(PictureRef::new(PictureFormat::Rgb, 0, 3, &[(&short, 9)]).is_err());
    let error = "I420".parse::<PictureFormat>().unwrap_err().to_string();
    assert!(error.contains("I420") && error.contains("BGRx"), "{error}");
}

#[test]
fn models_that_cannot_serve_are_refused() {
    let refused = |model: &Model, direction| {
        Translator::new(model, direction, DeviceChoice::Cpu, Precision::Auto)
            .err()
            .unwrap()
            .to_string()
    };
    let mut model = random_model(&small(Family::Munit), 3);
    model.metadata.directions = vec![Direction::B2a];
    let error = refused(&model, Direction::A2b);
    assert!(error.contains("a2b") && error.contains("b2a"), "{error}");
    let name = "b.enc_content.model.1.conv.weight";
    model.weights.remove(name);
    let error = refused(&model, Direction::B2a);
    assert!(error.contains(name), "{error}");
    let flat = Tensor::zeros([4], (tch::Kind::Float, tch::Device::Cpu));
    model.weights.insert(name.to_owned(), flat);
    let error = refused(&model, Direction::B2a);
    assert!(error.contains(name) && error.contains("[4]"), "{error}");
}

#[test]
fn warm_up_leaves_the_translation_alone() {
    let model = random_model(&small(Family::Munit), 3);
    let style = StyleCode::sample(2, 4);
    let picture = picture(3, 32, 48);
    let mut cold = translator(&model, Direction::A2b, Precision::Auto);
    let expected = cold.translate_tensor(&picture, &style).unwrap();
    let mut warm = translator(&model, Direction::A2b, Precision::Auto);
    let options = TranslateOptions::default();
    for format in PictureFormat::ALL {
        warm.warm_up(format, 48, 32, &options).unwrap();
        assert_eq!(
            difference(&warm.translate_tensor(&picture, &style).unwrap(), &expected),
            0.0
        );
        let error = warm.warm_up(format, 0, 32, &options).unwrap_err();
        assert!(matches!(error, Error::Picture(_)), "{error}");
    }
}

/// The tests of this file once more on what slower processors have.
#[test]
fn every_set_of_instructions_computes_the_networks() {
    let this = "every_set_of_instructions_computes_the_networks";
    for maximum in ["none", "avx2", "avx512", "avx512-bf16"] {
        let tests = Command::new(std::env::current_exe().unwrap())
            .args(["--skip", this])
            .env("MUNIT_MAX_CPU_ISA", maximum)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&tests.stdout);
        assert!(
            tests.status.success() && !told.contains("running 0 tests"),
            "{maximum}: {told}"
        );
    }
}
