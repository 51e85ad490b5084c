//! A small model, pictures, and pipelines that run it.

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Once};

use gst::prelude::*;
use munit::config::{Architecture, Domain, Family, GeneratorConfig};
use munit::model_file::{FORMAT_VERSION, Model, ModelMetadata, NamedStyle};
use munit::networks::{Generator, Initialisation, ParameterStore};
use munit::{Direction, StyleCode};

/// How long anything may take that would otherwise hang.
pub const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// Makes the element known; every GLib warning from here on ends the test, as with
/// `G_DEBUG=fatal_warnings`, which GLib reads before a test can set it.
pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        // SAFETY: tests come here first and wait for each other, so no other thread reads the
        // environment.
        unsafe {
            // No model of this machine's may be found.
            std::env::set_var("XDG_DATA_HOME", FILES.as_path());
            std::env::set_var("XDG_DATA_DIRS", FILES.as_path());
        }
        glib::log_set_always_fatal(
            glib::LogLevels::LEVEL_WARNING | glib::LogLevels::LEVEL_CRITICAL,
        );
        gst::init().expect("GStreamer is installed");
        gstmunit::plugin_register_static().expect("the plugin can be registered");
    });
}

/// A folder in the build folder for the files that the tests write.
static FILES: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("munitfilter");
    std::fs::create_dir_all(&folder).expect("the build folder is writable");
    folder
});

pub const STYLE_DIM: usize = 4;

pub fn architecture() -> Architecture {
    Architecture {
        family: Family::Munit,
        input_dim_a: 3,
        input_dim_b: 3,
        generator: GeneratorConfig {
            dim: 8,
            mlp_dim: 16,
            style_dim: STYLE_DIM as i64,
            n_res: 1,
            ..GeneratorConfig::default()
        },
    }
}

fn generator(architecture: &Architecture, domain: Domain, seed: u64) -> Generator {
    let store = ParameterStore::random(Initialisation::Kaiming, seed, tch::Device::Cpu);
    Generator::new(architecture, domain, store).expect("a valid architecture")
}

/// A model with random weights.
fn random_model(architecture: Architecture, seed: u64) -> Model {
    let mut weights = std::collections::BTreeMap::new();
    for (domain, seed) in [(Domain::A, seed), (Domain::B, seed + 1)] {
        for parameter in generator(&architecture, domain, seed).parameters() {
            let name = format!("{}.{}", domain.name(), parameter.name);
            weights.insert(name, parameter.tensor.detach());
        }
    }
    Model {
        metadata: ModelMetadata {
            format_version: FORMAT_VERSION,
            architecture,
            directions: Direction::ALL.to_vec(),
            domain_a: "photographs".to_owned(),
            domain_b: "patterns".to_owned(),
            iterations: 0,
            data: String::new(),
            licence: String::new(),
            recommended_size: Some(32),
            styles: Default::default(),
            mean_styles: Default::default(),
        },
        weights,
    }
}

/// A MUNIT model with a named style "bright" and a mean style of domain b.
pub fn model(seed: u64, directions: &[Direction]) -> Model {
    let mut model = random_model(architecture(), seed);
    let bright = NamedStyle {
        domain: Domain::B,
        code: BRIGHT.to_vec(),
    };
    model.metadata.styles.insert("bright".to_owned(), bright);
    model.metadata.mean_styles.insert(Domain::B, MEAN.to_vec());
    model
        .restrict(directions)
        .expect("both directions are there")
}

/// A UNIT model, which has no style, and what its networks make of a picture; see [`reference`].
pub fn unit_model(seed: u64, rgb: &[u8], width: usize, height: usize) -> (Model, Vec<f32>) {
    let architecture = Architecture {
        family: Family::Unit,
        ..architecture()
    };
    let model = random_model(architecture.clone(), seed);
    (
        model,
        forward(&architecture, seed, rgb, width, height, None),
    )
}

pub const BRIGHT: [f32; STYLE_DIM] = [1.5, -1.0, 0.5, 2.0];
pub const MEAN: [f32; STYLE_DIM] = [0.1, 0.2, -0.3, 0.4];

/// The path of [`model`] with seed 1.
pub fn model_path() -> &'static Path {
    static PATH: LazyLock<PathBuf> =
        LazyLock::new(|| write_model("tiny.safetensors", &model(1, &Direction::ALL)));
    &PATH
}

/// The path of a model with other weights.
pub fn other_model_path() -> &'static Path {
    static PATH: LazyLock<PathBuf> =
        LazyLock::new(|| write_model("other.safetensors", &model(7, &Direction::ALL)));
    &PATH
}

pub fn write_model(name: &str, model: &Model) -> PathBuf {
    let path = file(name);
    model
        .write(&path, tch::Kind::Float)
        .expect("the build folder is writable");
    path
}

/// The path of a file that a test writes.
pub fn file(name: &str) -> PathBuf {
    FILES.join(name)
}

/// The element with the small model, computing in fp32 on the CPU.
pub fn munitfilter() -> gst::Element {
    init();
    gst::ElementFactory::make("munitfilter")
        .property("model", model_path().to_str().expect("a UTF-8 path"))
        .property("device", "cpu")
        .property_from_str("precision", "fp32")
        .build()
        .expect("the element is registered")
}

/// What the networks themselves make of a picture in 8-bit RGB: [1, H, W, 3] in 0..255, neither
/// clamped nor rounded. Sides must be multiples of 4.
pub fn reference(rgb: &[u8], width: usize, height: usize, style: &StyleCode) -> Vec<f32> {
    forward(&architecture(), 1, rgb, width, height, Some(style))
}

fn forward(
    architecture: &Architecture,
    seed: u64,
    rgb: &[u8],
    width: usize,
    height: usize,
    style: Option<&StyleCode>,
) -> Vec<f32> {
    let _no_grad = tch::no_grad_guard();
    let picture = tch::Tensor::from_slice(rgb)
        .reshape([1, height as i64, width as i64, 3])
        .permute([0, 3, 1, 2])
        .to_kind(tch::Kind::Float)
        / 127.5
        - 1.0;
    let content = generator(architecture, Domain::A, seed)
        .encode_content(&picture)
        .expect("a valid picture");
    let style = style
        .map(|style| tch::Tensor::from_slice(style.values()).reshape([1, STYLE_DIM as i64, 1, 1]));
    let translated = generator(architecture, Domain::B, seed + 1)
        .decode(&content, style.as_ref())
        .expect("a valid style");
    let pixels = ((translated + 1.0) * 127.5)
        .permute([0, 2, 3, 1])
        .contiguous();
    Vec::try_from(pixels.flatten(0, -1)).expect("single-precision numbers")
}

/// A picture in 8-bit RGB without any regularity that an error could hide in.
pub fn picture(width: usize, height: usize, seed: u32) -> Vec<u8> {
    (0..width * height * 3)
        .map(|index| {
            let (x, y) = (index / 3 % width, index / 3 / width);
            let wave = (x as f32 / 5.0 + seed as f32).sin() * (y as f32 / 7.0).cos() * 60.0;
            let channel = (index % 3 * 40) as f32;
            let noise = (index as u32).wrapping_mul(2_654_435_761).rotate_left(seed) >> 27;
            (100.0 + wave + channel + noise as f32) as u8
        })
        .collect()
}

pub fn caps(format: &str, width: usize, height: usize, framerate: (i32, i32)) -> gst::Caps {
    gst::Caps::builder("video/x-raw")
        .field("format", format)
        .field("width", width as i32)
        .field("height", height as i32)
        .field("framerate", gst::Fraction::from(framerate))
        .build()
}

/// A tightly packed RGB frame, padded to GStreamer's default stride of a multiple of 4.
pub fn rgb_buffer(rgb: &[u8], width: usize, height: usize) -> gst::Buffer {
    let stride = (3 * width).next_multiple_of(4);
    let mut bytes = vec![0; stride * height];
    for (row, pixels) in bytes
        .chunks_exact_mut(stride)
        .zip(rgb.chunks_exact(3 * width))
    {
        row[..3 * width].copy_from_slice(pixels);
    }
    gst::Buffer::from_mut_slice(bytes)
}

/// The pixels of an RGB sample without padding.
pub fn rgb_pixels(sample: &gst::Sample) -> Vec<u8> {
    let info = gst_video::VideoInfo::from_caps(sample.caps().expect("caps")).expect("video caps");
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(
        sample.buffer().expect("a buffer"),
        &info,
    )
    .expect("a frame");
    use gst_video::prelude::*;
    let stride = frame.plane_stride()[0] as usize;
    frame
        .plane_data(0)
        .expect("one plane")
        .chunks(stride)
        .flat_map(|row| &row[..3 * info.width() as usize])
        .copied()
        .collect()
}

/// `appsrc ! element ! appsink`, playing.
pub struct Line {
    pub pipeline: gst::Pipeline,
    pub source: gst_app::AppSrc,
    pub sink: gst_app::AppSink,
}

impl Line {
    pub fn new(element: &gst::Element, caps: &gst::Caps) -> Self {
        let source = gst_app::AppSrc::builder()
            .caps(caps)
            .format(gst::Format::Time)
            .build();
        let sink = gst_app::AppSink::builder().sync(false).build();
        let pipeline = gst::Pipeline::new();
        let elements = [source.upcast_ref(), element, sink.upcast_ref()];
        pipeline.add_many(elements).expect("new elements");
        gst::Element::link_many(elements).expect("pads that fit");
        pipeline
            .set_state(gst::State::Playing)
            .expect("a pipeline that starts");
        Self {
            pipeline,
            source,
            sink,
        }
    }

    pub fn push(&self, buffer: gst::Buffer) {
        self.source
            .push_buffer(buffer)
            .expect("a source that takes buffers");
    }

    pub fn pull(&self) -> gst::Sample {
        match self.sink.try_pull_sample(PATIENCE) {
            Some(sample) => sample,
            None => panic!("no frame came; on the bus: {:?}", self.messages()),
        }
    }

    /// Everything on the bus.
    pub fn messages(&self) -> Vec<gst::Message> {
        let bus = self.pipeline.bus().expect("a pipeline has a bus");
        std::iter::from_fn(|| bus.pop()).collect()
    }

    /// Waits for a message of one of these types.
    pub fn wait_for(&self, types: &[gst::MessageType]) -> gst::Message {
        let bus = self.pipeline.bus().expect("a pipeline has a bus");
        bus.timed_pop_filtered(PATIENCE, types)
            .unwrap_or_else(|| panic!("none of {types:?} came"))
    }

    /// The text of the next warning.
    pub fn warning(&self) -> String {
        match self.wait_for(&[gst::MessageType::Warning]).view() {
            gst::MessageView::Warning(warning) => warning.error().to_string(),
            _ => unreachable!(),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Translates one RGB picture with `element`.
pub fn translate(element: &gst::Element, rgb: &[u8], width: usize, height: usize) -> Vec<u8> {
    let line = Line::new(element, &caps("RGB", width, height, (30, 1)));
    line.push(rgb_buffer(rgb, width, height));
    rgb_pixels(&line.pull())
}

/// Fails unless the pictures agree within one 8-bit step.
pub fn assert_close(translated: &[u8], expected: &[f32]) {
    assert_eq!(translated.len(), expected.len());
    let worst = translated
        .iter()
        .zip(expected)
        .map(|(found, expected)| (f32::from(*found) - expected.clamp(0.0, 255.0)).abs())
        .fold(0.0, f32::max);
    assert!(worst <= 1.0, "off by {worst} steps");
}

/// The largest difference between two 8-bit pictures.
pub fn difference(left: &[u8], right: &[u8]) -> u8 {
    assert_eq!(left.len(), right.len());
    left.iter()
        .zip(right)
        .map(|(left, right)| left.abs_diff(*right))
        .max()
        .unwrap_or(0)
}
