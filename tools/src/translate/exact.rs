//! Float pictures through the networks as they are written down, in fp32.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use munit::layout::{Part, expected_tensors};
use munit::networks::{Generator, ParameterStore};
use munit::runtime::DeviceChoice;
use munit::{Architecture, Direction, Domain, Family, Model, StyleCode};
use tch::{Device, Kind, Tensor};

/// A model's one direction, without any of the fast path's shortcuts.
pub struct ExactTranslator {
    architecture: Architecture,
    direction: Direction,
    source: Generator,
    target: Generator,
    device: Device,
}

impl ExactTranslator {
    /// Puts the networks of `direction` on a device; `auto` is the CPU, whose convolutions are
    /// true fp32, where CUDA's round their factors to ten bits (TF32).
    ///
    /// # Errors
    /// A device that is not there, no memory.
    pub fn new(model: &Model, direction: Direction, device: DeviceChoice) -> Result<Self> {
        let device = match device {
            DeviceChoice::Auto => Device::Cpu,
            other => other.resolve()?,
        };
        let architecture = model.metadata.architecture.clone();
        Ok(Self {
            source: exact_generator(model, direction.source(), device)?,
            target: exact_generator(model, direction.target(), device)?,
            architecture,
            direction,
            device,
        })
    }

    /// What the network makes of a picture [1, C, H, W] in [-1, 1] of the source domain:
    /// [1, C', H, W] in [-1, 1] with the channels of the target domain. A model of grey pictures
    /// sees the luma (ITU-R BT.601). Sides that the network cannot divide are continued by
    /// reflection on the right and below, and cropped again.
    ///
    /// # Errors
    /// A picture too small for the network or with other channels; libtorch's.
    pub fn translate(&self, picture: &Tensor, style: &StyleCode) -> Result<Tensor> {
        tch::no_grad(|| {
            let picture = self.with_channels(&picture.f_to_device(self.device)?)?;
            let size = picture.size();
            let (height, width) = (size[2], size[3]);
            let smallest = self.architecture.smallest_side();
            ensure!(
                height.min(width) >= smallest,
                "{width}×{height} is too small for this model, which needs {smallest} pixels on \
                 the shorter side; enlarge it"
            );
            let stride = self.architecture.stride();
            let beyond = |side: i64| (stride - side % stride) % stride;
            let padded = picture.f_reflection_pad2d([0, beyond(width), 0, beyond(height)])?;
            let content = self.source.encode_content(&padded)?;
            let style = match self.architecture.family {
                Family::Munit => {
                    let style = Tensor::f_from_slice(style.values())?.f_to_device(self.device)?;
                    Some(style.f_reshape([1, -1])?)
                }
                Family::Unit => None,
            };
            let translated = self.target.decode(&content, style.as_ref())?;
            Ok(translated.f_narrow(2, 0, height)?.f_narrow(3, 0, width)?)
        })
    }

    fn with_channels(&self, picture: &Tensor) -> Result<Tensor> {
        let source = self.direction.source();
        let (found, expected) = (picture.size()[1], self.architecture.channels(source));
        if (found, expected) == (3, 1) {
            let weights = Tensor::f_from_slice(&[0.299f32, 0.587, 0.114])?;
            let weights = weights.f_to_device(self.device)?.f_view([1, 3, 1, 1])?;
            return Ok((picture.f_mul(&weights)?).f_sum_dim_intlist(1, true, Kind::Float)?);
        }
        ensure!(
            found == expected,
            "the picture has {found} channels, where domain {} of this model has {expected}",
            source.name()
        );
        Ok(picture.shallow_clone())
    }
}

/// The generator of `domain` in fp32, with zeros for the parts that the model leaves out.
///
/// # Errors
/// libtorch's, for instance no memory.
pub fn exact_generator(model: &Model, domain: Domain, device: Device) -> Result<Generator> {
    let weights = complete(model, domain)?;
    let prefix = format!("{}.", domain.name());
    let store = ParameterStore::given(&weights, &prefix, device);
    Ok(Generator::new(&model.metadata.architecture, domain, store)?)
}

/// The weights of the generator of `domain`, with zeros for the parts that a model of one direction leaves out
/// because they are never run.
fn complete(model: &Model, domain: Domain) -> Result<BTreeMap<String, Tensor>> {
    let architecture = &model.metadata.architecture;
    let mut weights = BTreeMap::new();
    for &part in Part::of(architecture.family) {
        for (name, shape) in expected_tensors(architecture, domain, part) {
            let name = format!("{}.{name}", domain.name());
            let tensor = match model.weights.get(&name) {
                Some(tensor) => tensor.shallow_clone(),
                None => Tensor::f_zeros(&shape, (Kind::Float, Device::Cpu))?,
            };
            weights.insert(name, tensor);
        }
    }
    Ok(weights)
}

/// Tensor [1, 3, H, W] of a picture: 8-bit value v becomes v/127.5 − 1.
///
/// # Errors
/// libtorch's.
pub fn picture_tensor(picture: &RgbImage) -> Result<Tensor> {
    let shape = [
        1,
        i64::from(picture.height()),
        i64::from(picture.width()),
        3,
    ];
    let bytes = Tensor::f_from_data_size(picture.as_raw(), &shape, Kind::Uint8)
        .context("cannot make a tensor of the picture")?;
    Ok(bytes
        .f_permute([0, 3, 1, 2])?
        .f_to_kind(Kind::Float)?
        .f_contiguous()?
        .f_div_scalar(127.5)?
        .f_sub_scalar(1.0)?)
}
