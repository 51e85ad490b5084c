//! Where networks get their weights from: drawn at random or read from a checkpoint.

use std::cell::RefCell;
use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result, vector_math};

/// How the weights of convolutions and linear layers are drawn; key `init` of the published
/// configurations. Biases start at zero but for `Default`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Initialisation {
    /// Normal with deviation 0.02.
    Gaussian,
    /// He normal: deviation √(2 / fan-in).
    #[default]
    Kaiming,
    /// Glorot normal with gain √2.
    Xavier,
    /// Orthogonal rows with gain √2.
    Orthogonal,
    /// PyTorch's own: uniform within ±1/√fan-in, biases too.
    Default,
}

/// One named tensor of a network.
#[derive(Debug)]
pub struct Parameter {
    /// Dotted name as in the published state dicts, for example `enc_content.model.0.conv.weight`.
    pub name: String,
    /// Shares its storage with the network.
    pub tensor: Tensor,
    /// Whether an optimiser updates it; running statistics and power-iteration vectors are not.
    pub trainable: bool,
}

/// What a parameter is, which decides how it is drawn.
#[derive(Clone, Copy)]
pub(super) enum Role {
    /// Weight of a convolution or linear layer: [out, in, …].
    Weight,
    /// Bias of a layer with so many inputs to each output.
    Bias { fan_in: i64 },
    /// Every element has this value.
    Constant(f64),
    /// Uniform in 0..1, as MUNIT starts the scale of its layer norm.
    Uniform,
    /// Not trained; starts at this value.
    Buffer(f64),
    /// Not trained; a random unit vector.
    UnitVector,
}

enum Source<'a> {
    Random(Initialisation, RefCell<Box<ChaCha8Rng>>),
    Given(&'a BTreeMap<String, Tensor>, String),
}

/// Makes the tensors of one network and remembers them in order of definition.
pub struct ParameterStore<'a> {
    source: Source<'a>,
    device: Device,
    parameters: RefCell<Vec<Parameter>>,
}

impl<'a> ParameterStore<'a> {
    /// Weights drawn at random; the same seed gives the same weights on every machine.
    pub fn random(initialisation: Initialisation, seed: u64, device: Device) -> Self {
        let random = RefCell::new(Box::new(ChaCha8Rng::seed_from_u64(seed)));
        Self::new(Source::Random(initialisation, random), device)
    }

    /// Copies of `tensors`, whose names begin with `prefix` (for example `a.`).
    pub fn given(tensors: &'a BTreeMap<String, Tensor>, prefix: &str, device: Device) -> Self {
        Self::new(Source::Given(tensors, prefix.to_owned()), device)
    }

    fn new(source: Source<'a>, device: Device) -> Self {
        vector_math::settle();
        Self {
            source,
            device,
            parameters: RefCell::default(),
        }
    }

    /// The outermost scope of names.
    pub fn root(&self) -> Scope<'_> {
        Scope {
            store: self,
            prefix: String::new(),
        }
    }

    /// All tensors made so far, in order of definition.
    pub fn into_parameters(self) -> Vec<Parameter> {
        self.parameters.into_inner()
    }

    fn make(&self, name: String, shape: &[i64], role: Role) -> Result<Tensor> {
        let trainable = !matches!(role, Role::Buffer(_) | Role::UnitVector);
        let values = match &self.source {
            Source::Random(initialisation, random) => {
                draw(*initialisation, &mut random.borrow_mut(), shape, role)?
            }
            Source::Given(tensors, prefix) => given(tensors, &format!("{prefix}{name}"), shape)?,
        };
        let tensor = values
            .f_to_device(self.device)?
            .f_set_requires_grad(trainable)?;
        self.parameters.borrow_mut().push(Parameter {
            name,
            tensor: tensor.shallow_clone(),
            trainable,
        });
        Ok(tensor)
    }
}

/// A place in the tree of names.
pub struct Scope<'s> {
    store: &'s ParameterStore<'s>,
    prefix: String,
}

impl Scope<'_> {
    /// The scope `name` inside this one.
    pub fn enter(&self, name: impl std::fmt::Display) -> Self {
        Scope {
            store: self.store,
            prefix: format!("{}{name}.", self.prefix),
        }
    }

    pub(super) fn make(&self, name: &str, shape: &[i64], role: Role) -> Result<Tensor> {
        self.store
            .make(format!("{}{name}", self.prefix), shape, role)
    }
}

fn given(tensors: &BTreeMap<String, Tensor>, name: &str, shape: &[i64]) -> Result<Tensor> {
    let tensor = tensors.get(name).ok_or_else(|| {
        Error::Weights(format!(
            "tensor {name} is missing; expected shape {shape:?}"
        ))
    })?;
    if tensor.size() != shape {
        return Err(Error::Weights(format!(
            "tensor {name} has shape {:?}; expected {shape:?}",
            tensor.size()
        )));
    }
    Ok(tensor.f_detach()?.f_to_dtype(Kind::Float, false, true)?)
}

fn draw(
    initialisation: Initialisation,
    random: &mut ChaCha8Rng,
    shape: &[i64],
    role: Role,
) -> Result<Tensor> {
    let fan_in: i64 = shape.iter().skip(1).product();
    let values = match (role, initialisation) {
        (Role::Constant(value) | Role::Buffer(value), _) => constant(shape, value)?,
        (Role::Uniform, _) => uniform(random, shape, 0.0, 1.0)?,
        (Role::UnitVector, _) => {
            let vector = normal(random, shape)?;
            let norm = vector.f_norm()?;
            vector.f_div(&norm)?
        }
        (Role::Bias { fan_in }, Initialisation::Default) => {
            let bound = 1.0 / (fan_in as f64).sqrt();
            uniform(random, shape, -bound, bound)?
        }
        (Role::Bias { .. }, _) => constant(shape, 0.0)?,
        (Role::Weight, Initialisation::Default) => {
            let bound = 1.0 / (fan_in as f64).sqrt();
            uniform(random, shape, -bound, bound)?
        }
        (Role::Weight, Initialisation::Gaussian) => normal(random, shape)?.f_mul_scalar(0.02)?,
        (Role::Weight, Initialisation::Kaiming) => {
            normal(random, shape)?.f_mul_scalar((2.0 / fan_in as f64).sqrt())?
        }
        (Role::Weight, Initialisation::Xavier) => {
            let fan_out = shape[0] * shape.iter().skip(2).product::<i64>();
            normal(random, shape)?.f_mul_scalar((4.0 / (fan_in + fan_out) as f64).sqrt())?
        }
        (Role::Weight, Initialisation::Orthogonal) => {
            orthogonal(random, shape[0], fan_in)?.f_reshape(shape)?
        }
    };
    Ok(values)
}

/// Standard normal numbers of shape `shape`, float32 on the CPU. Drawn outside libtorch, whose
/// generator's state cannot be saved through tch.
pub fn normal(random: &mut ChaCha8Rng, shape: &[i64]) -> Result<Tensor> {
    let count = shape.iter().product::<i64>() as usize;
    let values: Vec<f32> = StandardNormal.sample_iter(random).take(count).collect();
    Ok(Tensor::f_from_slice(&values)?.f_reshape(shape)?)
}

fn uniform(random: &mut ChaCha8Rng, shape: &[i64], from: f64, to: f64) -> Result<Tensor> {
    let count = shape.iter().product::<i64>();
    let values: Vec<f32> = (0..count)
        .map(|_| random.random_range(from as f32..to as f32))
        .collect();
    Ok(Tensor::f_from_slice(&values)?.f_reshape(shape)?)
}

fn constant(shape: &[i64], value: f64) -> Result<Tensor> {
    Ok(Tensor::f_full(shape, value, (Kind::Float, Device::Cpu))?)
}

/// Rows (or, where there are more rows than columns, columns) of length √2, at right angles.
fn orthogonal(random: &mut ChaCha8Rng, rows: i64, columns: i64) -> Result<Tensor> {
    let flat = normal(random, &[rows.max(columns), rows.min(columns)])?;
    let (q, r) = Tensor::f_linalg_qr(&flat, "reduced")?;
    let signed = q.f_mul(&r.f_diagonal(0, 0, 1)?.f_sign()?)?;
    let wide = if rows < columns {
        signed.f_tr()?
    } else {
        signed
    };
    Ok(wide
        .f_contiguous()?
        .f_mul_scalar(std::f64::consts::SQRT_2)?)
}
