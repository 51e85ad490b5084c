//! A small model with random weights, and a folder in which programs use it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use munit::config::GeneratorConfig;
use munit::model_file::{FORMAT_VERSION, NamedStyle};
use munit::networks::{Generator, Initialisation, ParameterStore};
use munit::{Architecture, Direction, Domain, Family, Model, ModelMetadata};
use tch::{Device, Kind, Tensor};

/// Length of its style codes.
pub const STYLE_DIM: usize = 3;

/// A model with random weights, and the generators that it was made from.
pub struct Tiny {
    pub model: Model,
    pub generators: [Generator; 2],
}

impl Tiny {
    pub fn new(family: Family) -> Self {
        Self::of(family, [3, 3], GeneratorConfig::default())
    }

    /// With pictures of these channels, and these options where they do not make it large.
    pub fn of(family: Family, channels: [i64; 2], options: GeneratorConfig) -> Self {
        let architecture = Architecture {
            family,
            input_dim_a: channels[0],
            input_dim_b: channels[1],
            generator: GeneratorConfig {
                dim: 4,
                mlp_dim: 8,
                style_dim: STYLE_DIM as i64,
                n_res: 1,
                ..options
            },
        };
        let mut weights = BTreeMap::new();
        let generators = Domain::ALL.map(|domain| {
            let seed = 7 + domain as u64;
            let store = ParameterStore::random(Initialisation::Kaiming, seed, Device::Cpu);
            let generator = Generator::new(&architecture, domain, store).unwrap();
            for parameter in generator.parameters() {
                let name = format!("{}.{}", domain.name(), parameter.name);
                weights.insert(name, parameter.tensor.detach());
            }
            generator
        });
        let styles = [("warm", Domain::B), ("pencil", Domain::A)].map(|(name, domain)| {
            let code = vec![1.5, -0.5, 0.25];
            (name.to_owned(), NamedStyle { domain, code })
        });
        let styles = match family {
            Family::Munit => BTreeMap::from(styles),
            Family::Unit => BTreeMap::new(),
        };
        let metadata = ModelMetadata {
            format_version: FORMAT_VERSION,
            architecture,
            directions: Direction::ALL.to_vec(),
            domain_a: "photo".to_owned(),
            domain_b: "print".to_owned(),
            iterations: 0,
            data: "none".to_owned(),
            licence: "CC0-1.0".to_owned(),
            recommended_size: None,
            styles,
            mean_styles: BTreeMap::new(),
        };
        let model = Model { metadata, weights };
        Self { model, generators }
    }

    /// The translation of `picture` [1, 3, H, W], whose sides must be divisible.
    pub fn expected(&self, picture: &Tensor, direction: Direction, style: &[f32]) -> Tensor {
        tch::no_grad(|| {
            let source = &self.generators[direction.source() as usize];
            let target = &self.generators[direction.target() as usize];
            let style = Tensor::from_slice(style).reshape([1, -1]);
            let style = (style.numel() > 0).then_some(&style);
            let content = source.encode_content(picture).unwrap();
            target.decode(&content, style).unwrap()
        })
    }
}

/// A folder with the file `model.safetensors`, in which `program` runs.
pub struct Workplace {
    pub folder: tempfile::TempDir,
    pub program: &'static str,
}

impl Workplace {
    pub fn new(model: &Model, program: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workplace = Self { folder, program };
        model
            .write(&workplace.path("model.safetensors"), Kind::Float)
            .unwrap();
        workplace
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn picture(&self, name: &str, width: u32, height: u32) -> RgbImage {
        let picture = RgbImage::from_fn(width, height, |x, y| {
            Rgb([(x * 5) as u8, (y * 7) as u8, ((x * y) / 3) as u8])
        });
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture.save(path).unwrap();
        picture
    }

    /// Runs the program with the words of `arguments`.
    pub fn run(&self, arguments: &str) -> Output {
        Command::new(self.program)
            .current_dir(self.folder.path())
            .args(arguments.split_whitespace())
            .output()
            .unwrap()
    }

    #[track_caller]
    pub fn succeed(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The message of a run that must fail.
    #[track_caller]
    pub fn fail(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn tensors(&self, name: &str) -> BTreeMap<String, Tensor> {
        let tensors = Tensor::read_safetensors(self.path(name)).unwrap();
        tensors.into_iter().collect()
    }

    pub fn output(&self, name: &str) -> Tensor {
        self.tensors(name).remove("output").unwrap()
    }
}

/// Largest difference between two tensors of one shape.
pub fn difference(left: &Tensor, right: &Tensor) -> f64 {
    assert_eq!(left.size(), right.size());
    f64::try_from((left - right).abs().max()).unwrap()
}

pub fn read(path: &Path) -> RgbImage {
    image::open(path).unwrap().to_rgb8()
}

/// Largest difference in 8-bit steps.
pub fn steps(left: &RgbImage, right: &RgbImage) -> u8 {
    assert_eq!(left.dimensions(), right.dimensions());
    let pairs = left.as_raw().iter().zip(right.as_raw());
    pairs
        .map(|(left, right)| left.abs_diff(*right))
        .max()
        .unwrap()
}
