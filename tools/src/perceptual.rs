//! The network of the perceptual loss.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use munit::backbone::{Activations, Backbone, Wanted};
use munit::networks::Vgg16;
use tch::{Device, Kind, Tensor};

/// Checksum of the file at `path`, as it was when it was first asked for; `None` if it cannot be read.
pub fn checksum(path: &Path) -> Option<u32> {
    // Some hundred megabytes, which every checkpoint asks for.
    static KNOWN: Mutex<BTreeMap<PathBuf, u32>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(checksum) = known.get(path) {
        return Some(*checksum);
    }
    let mut file = File::open(path).ok()?;
    let mut part = vec![0; 1 << 20];
    let mut checksum = 0;
    loop {
        match file.read(&mut part).ok()? {
            0 => break,
            count => checksum = crc32c::crc32c_append(checksum, &part[..count]),
        }
    }
    known.insert(path.to_owned(), checksum);
    Some(checksum)
}

const NO_STYLE: &str = "vgg_style_w compares styles in several layers, which the weights of the \
    perceptual loss do not name; give a file of munit-import backbone as --vgg-weights";
const NO_PAIRS: &str = "vgg_paired_w compares partners in several layers, which the weights of the \
    perceptual loss do not name; give a file of munit-import backbone as --vgg-weights";

/// A feature network in which pictures are compared, blind to what differs between domains and sharp
/// on what a picture shows (arXiv 1804.04732, section 5.1).
#[derive(Debug)]
pub enum PerceptualNetwork {
    /// VGG-16 as in the published loss.
    Published(Vgg16),
    /// Any other, compared at the layer that its file names for content.
    Backbone(Box<Backbone>),
}

impl PerceptualNetwork {
    /// Reads a file of `munit-import backbone`, or the bare weights of the published VGG-16.
    ///
    /// # Errors
    /// A file that is missing or holds something else.
    pub fn read(path: &Path, device: Device) -> Result<Self> {
        let unreadable = || {
            format!(
                "{}: cannot read the weights of the perceptual loss; give a .safetensors file of \
                 munit-import backbone, or one with the tensors conv1_1.weight to conv5_3.bias of \
                 VGG-16",
                path.display()
            )
        };
        if Backbone::is_described(path).with_context(unreadable)? {
            let network = Backbone::read(path, device)?;
            ensure!(
                network.can().content,
                "{}: {} names no layer for content, so that it cannot be the perceptual loss; take \
                 another backbone",
                path.display(),
                network.name()
            );
            return Ok(Self::Backbone(Box::new(network)));
        }
        let tensors = Tensor::read_safetensors(path)
            .with_context(unreadable)?
            .into_iter()
            .collect();
        let network = Vgg16::new(&tensors, device)
            .with_context(|| format!("{}: not VGG-16 weights", path.display()))?;
        Ok(Self::Published(network))
    }

    /// Mean squared difference of the instance-normalised features of `picture` and `target`, both
    /// [B, 3 or 1, H, W] in [-1, 1]: a scalar.
    ///
    /// # Errors
    /// libtorch's, for instance for pictures that are too small for the network.
    pub fn distance(&self, picture: &Tensor, target: &Tensor) -> Result<Tensor> {
        match self {
            Self::Published(network) => Ok(network.distance(picture, target)?),
            Self::Backbone(network) => {
                let wanted = Wanted {
                    content: true,
                    ..Wanted::default()
                };
                let [picture, target] = activations(network, picture, target, wanted)?;
                Ok(picture
                    .content_distance(&target, true)?
                    .f_mean(Kind::Float)?)
            }
        }
    }

    /// How far the style of each of `pictures` is from that of the one at the same place in `examples`,
    /// both [B, 3 or 1, H, W] in [-1, 1], see [`Activations::style_distance`]: `[B]`.
    ///
    /// # Errors
    /// The published VGG-16, which is known up to its layer for content only; a backbone without layers
    /// to compare; libtorch's.
    pub fn style_distance(&self, pictures: &Tensor, examples: &Tensor) -> Result<Tensor> {
        let Self::Backbone(network) = self else {
            bail!(NO_STYLE);
        };
        let wanted = Wanted {
            style: true,
            ..Wanted::default()
        };
        let [pictures, examples] = activations(network, pictures, examples, wanted)?;
        Ok(pictures.style_distance(&examples)?)
    }

    /// Perceptual distance of each of `pictures` to its partner at the same place, both
    /// [B, 3 or 1, H, W] in [-1, 1], see [`Activations::perceptual_distance`]: `[B]`.
    ///
    /// # Errors
    /// The published VGG-16, which is known up to its layer for content only; a backbone without layers
    /// to compare; libtorch's.
    pub fn paired_distance(&self, pictures: &Tensor, partners: &Tensor) -> Result<Tensor> {
        let Self::Backbone(network) = self else {
            bail!(NO_PAIRS);
        };
        let wanted = Wanted {
            perceptual: true,
            ..Wanted::default()
        };
        let [pictures, partners] = activations(network, pictures, partners, wanted)?;
        Ok(pictures.perceptual_distance(&partners)?)
    }

    /// Whether [`Self::paired_distance`] can be computed.
    ///
    /// # Errors
    /// A sentence, if not.
    pub fn check_pairs(&self) -> Result<()> {
        match self {
            Self::Backbone(network) if network.can().perceptual => Ok(()),
            Self::Backbone(_) | Self::Published(_) => bail!(NO_PAIRS),
        }
    }

    /// Whether [`Self::style_distance`] can be computed.
    ///
    /// # Errors
    /// A sentence, if not.
    pub fn check_style(&self) -> Result<()> {
        match self {
            Self::Backbone(network) if network.can().style => Ok(()),
            Self::Backbone(_) | Self::Published(_) => bail!(NO_STYLE),
        }
    }
}

/// What is `wanted` of `pictures`, and of what they are compared with, of which no gradient is wanted.
fn activations(
    network: &Backbone,
    pictures: &Tensor,
    others: &Tensor,
    wanted: Wanted,
) -> Result<[Activations; 2]> {
    let others = tch::no_grad(|| network.activations(others, wanted))?;
    Ok([network.activations(pictures, wanted)?, others])
}

#[cfg(test)]
mod tests {
    use munit::backbone::{Description, write};
    use munit::networks::normal;

    use super::*;
    use crate::trainer::noise_generator;

    const SMALL: &str = r#"{
        "name": "small",
        "input": {"order": "rgb", "range": [0, 1], "mean": [0, 0, 0], "deviation": [1, 1, 1]},
        "layers": [
            {"name": "conv1", "op": "convolution", "stride": [2, 2], "padding": [1, 1]},
            {"name": "relu1", "op": "relu"}
        ],
        "perceptual": [{"layer": "relu1"}],
        "content": "relu1"
    }"#;

    fn small(path: &Path, description: &str) -> BTreeMap<String, Tensor> {
        let description: Description = serde_json::from_str(description).unwrap();
        let mut random = noise_generator(1, 0);
        let mut tensor = |shape: &[i64]| normal(&mut random, shape).unwrap();
        let tensors = BTreeMap::from([
            ("conv1.weight".to_owned(), tensor(&[4, 3, 3, 3])),
            ("conv1.bias".to_owned(), tensor(&[4])),
        ]);
        write(path, &description, &tensors).unwrap();
        tensors
    }

    #[test]
    fn a_backbone_compares_normalised_maps_of_its_content_layer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.safetensors");
        let tensors = small(&path, SMALL);
        let network = PerceptualNetwork::read(&path, Device::Cpu).unwrap();
        let mut random = noise_generator(2, 0);
        let mut pictures = || normal(&mut random, &[2, 3, 8, 8]).unwrap().tanh();
        let (x, target) = (pictures().set_requires_grad(true), pictures());
        let found = network.distance(&x, &target).unwrap();

        let map = |x: &Tensor| {
            let bias = Some(&tensors["conv1.bias"]);
            let x = (x + 1.0) / 2.0;
            let map = x
                .conv2d(&tensors["conv1.weight"], bias, [2, 2], [1, 1], [1, 1], 1)
                .relu();
            let (variance, mean) = map.var_mean_correction(&[2i64, 3][..], 0, true);
            (map - mean) / (variance + 1e-5).sqrt()
        };
        let expected = (map(&x) - map(&target)).square().mean(Kind::Float);
        let (found_value, expected) = (found.double_value(&[]), expected.double_value(&[]));
        assert!((found_value / expected - 1.0).abs() < 1e-4, "{found_value}");
        found.backward();
        assert!(x.grad().abs().max().double_value(&[]) > 0.0);
    }

    #[test]
    fn partners_are_compared_place_by_place_on_unit_features() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.safetensors");
        let tensors = small(&path, SMALL);
        let network = PerceptualNetwork::read(&path, Device::Cpu).unwrap();
        network.check_pairs().unwrap();
        let mut random = noise_generator(3, 0);
        let mut pictures = || normal(&mut random, &[2, 3, 8, 8]).unwrap().tanh();
        let (x, partner) = (pictures().set_requires_grad(true), pictures());
        let found = network.paired_distance(&x, &partner).unwrap();
        assert_eq!(found.size(), [2]);

        let map = |x: &Tensor| {
            let bias = Some(&tensors["conv1.bias"]);
            let x = (x + 1.0) / 2.0;
            let map = x
                .conv2d(&tensors["conv1.weight"], bias, [2, 2], [1, 1], [1, 1], 1)
                .relu();
            let length = map
                .square()
                .sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
            map / (length + 1e-10).sqrt()
        };
        let squares = (map(&x) - map(&partner)).square();
        let expected = squares
            .sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
            .mean_dim([1i64, 2].as_slice(), false, Kind::Float);
        let error = (&found - &expected).abs().max().double_value(&[]);
        assert!(error < 1e-4, "{error}");
        found.sum(Kind::Float).backward();
        assert!(x.grad().abs().max().double_value(&[]) > 0.0);
    }

    #[test]
    fn partners_in_which_nothing_is_active_have_no_distance_and_a_gradient_of_0() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.safetensors");
        let mut tensors = small(&path, SMALL);
        tensors.insert(
            "conv1.bias".to_owned(),
            Tensor::full([4], -1e3, (Kind::Float, Device::Cpu)),
        );
        write(&path, &serde_json::from_str(SMALL).unwrap(), &tensors).unwrap();
        let network = PerceptualNetwork::read(&path, Device::Cpu).unwrap();
        let x = Tensor::zeros([1, 3, 8, 8], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let found = network.paired_distance(&x, &x.ones_like()).unwrap();
        found.sum(Kind::Float).backward();
        assert_eq!(found.double_value(&[0]), 0.0);
        assert!(x.grad().equal(&x.zeros_like()));
    }

    #[test]
    fn what_is_no_network_for_this_loss_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.safetensors");
        small(
            &path,
            &SMALL.replace(r#""content": "relu1""#, r#""content": null"#),
        );
        let problem = |path: &Path| {
            let error = PerceptualNetwork::read(path, Device::Cpu).unwrap_err();
            format!("{error:#}")
        };
        assert!(problem(&path).contains("names no layer for content"));
        std::fs::write(&path, "no network").unwrap();
        assert!(problem(&path).contains("small.safetensors: is not a safetensors file"));
        let missing = folder.path().join("missing.safetensors");
        assert!(problem(&missing).contains("VGG-16"));
    }
}
