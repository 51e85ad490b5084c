//! Turns a PyTorch checkpoint of MUNIT or UNIT generators into a model.
//!
//! Nothing in the checkpoint is executed: its pickle is parsed as data, and of what it holds only
//! tensors are looked at. All sizes are read off their shapes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use munit::config::{Activation, GeneratorConfig, Padding};
use munit::layout::{Part, expected_weights};
use munit::model_file::{FORMAT_VERSION, Model, ModelFile, ModelMetadata};
use munit::{Architecture, Direction, Domain, Family};
use pytorch_reader::{DType, PytorchError, PytorchReader};
use tch::{Kind, Tensor};

use crate::info::family_name;

/// What a checkpoint does not say.
#[derive(Clone, Debug)]
pub struct Unwritten {
    /// Activation of the hidden layers; `None` for prelu where the checkpoint has its slopes,
    /// else relu.
    pub activation: Option<Activation>,
    /// Padding of the convolutions.
    pub padding: Padding,
    /// What pictures of domain a show.
    pub domain_a: String,
    /// What pictures of domain b show.
    pub domain_b: String,
    /// Generator updates; `None` to take them from a name like `gen_00010000.pt`.
    pub iterations: Option<u64>,
    /// Shorter side of the training pictures in pixels, if known.
    pub recommended_size: Option<u32>,
    /// What the model was trained on; empty if unknown.
    pub data: String,
    /// Licence of the weights; empty if unknown.
    pub licence: String,
}

impl Default for Unwritten {
    fn default() -> Self {
        Self {
            activation: None,
            padding: Padding::Reflect,
            domain_a: "a".to_owned(),
            domain_b: "b".to_owned(),
            iterations: None,
            recommended_size: None,
            data: String::new(),
            licence: String::new(),
        }
    }
}

/// Reads the generators of a checkpoint, `{"a": state_dict, "b": state_dict}` as the published
/// training programs save them: the stream that PyTorch wrote before 1.6 or today's zip, with
/// or without buffers of running statistics, saved from any device.
///
/// # Errors
/// A sentence that names the file and says what it is instead, or which tensor does not fit.
pub fn import(path: &Path, unwritten: &Unwritten) -> Result<Model> {
    read(path, unwritten).with_context(|| path.display().to_string())
}

fn read(path: &Path, unwritten: &Unwritten) -> Result<Model> {
    let found = Checkpoint::open(path)?;
    let architecture = found.architecture(unwritten)?;
    found.check(&architecture)?;
    Ok(Model {
        weights: found.weights(&architecture)?,
        metadata: ModelMetadata {
            format_version: FORMAT_VERSION,
            architecture,
            directions: Direction::ALL.to_vec(),
            domain_a: unwritten.domain_a.clone(),
            domain_b: unwritten.domain_b.clone(),
            iterations: unwritten
                .iterations
                .or_else(|| iterations_in_name(path))
                .unwrap_or(0),
            data: unwritten.data.clone(),
            licence: unwritten.licence.clone(),
            recommended_size: unwritten.recommended_size,
            styles: BTreeMap::new(),
            mean_styles: BTreeMap::new(),
        },
    })
}

/// The published programs name their checkpoints `gen_` and eight digits.
fn iterations_in_name(path: &Path) -> Option<u64> {
    path.file_stem()?
        .to_str()?
        .strip_prefix("gen_")?
        .parse()
        .ok()
}

/// Buffers of 2018's instance norms, which nothing uses.
const UNUSED_BUFFERS: [&str; 3] = [
    ".norm.running_mean",
    ".norm.running_var",
    ".norm.num_batches_tracked",
];

/// Tensors, not yet read, of two generators of one family.
struct Checkpoint {
    family: Family,
    tensors: BTreeMap<String, pytorch_reader::Tensor>,
}

impl Checkpoint {
    fn open(path: &Path) -> Result<Self> {
        let tensors = stored_tensors(path)?;
        let family = family(&tensors)?;
        let tensors = tensors
            .into_iter()
            .filter(|(name, _)| !UNUSED_BUFFERS.iter().any(|buffer| name.ends_with(buffer)))
            .collect();
        Ok(Self { family, tensors })
    }

    /// Everything that the shapes tell, with the rest from `unwritten`.
    fn architecture(&self, unwritten: &Unwritten) -> Result<Architecture> {
        let encoder = Part::ContentEncoder.name(self.family);
        let count = |name: &dyn Fn(usize) -> String, from: usize| {
            (from..)
                .take_while(|index| self.tensors.contains_key(&name(*index)))
                .count()
        };
        let n_downsample = count(&|index| format!("a.{encoder}.model.{index}.conv.weight"), 1);
        let residual_blocks = format!("a.{encoder}.model.{}.model", n_downsample + 1);
        let n_res = count(
            &|index| format!("{residual_blocks}.{index}.model.0.conv.weight"),
            0,
        );
        let first = format!("{encoder}.model.0.conv.weight");
        let unused = GeneratorConfig::default();
        let (style_dim, mlp_dim) = match self.family {
            Family::Munit => (
                self.size("a.enc_style.model.6.weight", 0)?,
                self.size("a.mlp.model.0.fc.weight", 0)?,
            ),
            Family::Unit => (unused.style_dim, unused.mlp_dim),
        };
        let architecture = Architecture {
            family: self.family,
            input_dim_a: self.size(&format!("a.{first}"), 1)?,
            input_dim_b: self.size(&format!("b.{first}"), 1)?,
            generator: GeneratorConfig {
                dim: self.size(&format!("a.{first}"), 0)?,
                mlp_dim,
                style_dim,
                activation: self.activation(unwritten.activation)?,
                n_downsample: n_downsample as i64,
                n_res: n_res as i64,
                padding: unwritten.padding,
            },
        };
        architecture
            .check()
            .context("holds a network that cannot be translated with")?;
        Ok(architecture)
    }

    /// Extent `axis` of a tensor.
    fn size(&self, name: &str, axis: usize) -> Result<i64> {
        let Some(tensor) = self.tensors.get(name) else {
            bail!(
                "lacks the tensor {name}, which every {} generator has",
                family_name(self.family)
            );
        };
        let Some(size) = tensor.shape().get(axis) else {
            bail!(
                "has a tensor {name} of the impossible shape {:?}",
                tensor.shape()
            );
        };
        Ok(i64::try_from(*size)?)
    }

    fn activation(&self, wanted: Option<Activation>) -> Result<Activation> {
        let slope = self
            .tensors
            .keys()
            .find(|name| name.ends_with(".activation.weight"));
        match (slope, wanted) {
            (Some(_), None | Some(Activation::Prelu)) => Ok(Activation::Prelu),
            (Some(slope), Some(_)) => {
                bail!("has learned slopes, for example {slope}: its activation is prelu")
            }
            (None, Some(Activation::Prelu)) => {
                bail!("has no learned slopes, so its activation is not prelu")
            }
            (None, wanted) => Ok(wanted.unwrap_or_default()),
        }
    }

    /// Whether the tensors are just those of `architecture`.
    fn check(&self, architecture: &Architecture) -> Result<()> {
        let expected = expected_weights(architecture, &Direction::ALL);
        let read_off = || {
            let GeneratorConfig {
                dim,
                n_downsample,
                n_res,
                ..
            } = architecture.generator;
            format!(
                "a {} generator of dim {dim} with n_downsample {n_downsample} and n_res {n_res}",
                family_name(self.family)
            )
        };
        for (name, shape) in &expected {
            let Some(tensor) = self.tensors.get(name) else {
                bail!(
                    "looks like {}, but lacks the tensor {name} of shape {shape:?}",
                    read_off()
                );
            };
            let fits = tensor
                .shape()
                .iter()
                .map(|&size| size as i64)
                .eq(shape.iter().copied());
            ensure!(
                fits,
                "looks like {}, but its tensor {name} has shape {:?} where {shape:?} is expected",
                read_off(),
                tensor.shape()
            );
        }
        match self
            .tensors
            .keys()
            .find(|name| !expected.contains_key(*name))
        {
            None => Ok(()),
            Some(name) => bail!(
                "looks like {}, but has a tensor {name}, which such a network lacks",
                read_off()
            ),
        }
    }

    fn weights(&self, architecture: &Architecture) -> Result<BTreeMap<String, Tensor>> {
        expected_weights(architecture, &Direction::ALL)
            .into_iter()
            .map(|(name, shape)| {
                let weight = tensor(&self.tensors[&name], &shape)?;
                let finite = weight.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0;
                ensure!(
                    finite,
                    "tensor {name} is not finite: the training must have diverged"
                );
                Ok((name, weight))
            })
            .collect()
    }
}

/// All tensors of a PyTorch state dict, in fp32.
///
/// # Errors
/// A sentence without the file's name.
pub fn state_dict(path: &Path) -> Result<Vec<(String, Tensor)>> {
    stored_tensors(path)?
        .into_iter()
        // Counters of batches are no weights.
        .filter(|(name, _)| !name.ends_with(".num_batches_tracked"))
        .map(|(name, stored)| {
            let shape: Vec<i64> = stored.shape().iter().map(|&side| side as i64).collect();
            Ok((name, tensor(&stored, &shape)?))
        })
        .collect()
}

/// The tensors of a PyTorch checkpoint, not yet read.
fn stored_tensors(path: &Path) -> Result<HashMap<String, pytorch_reader::Tensor>> {
    let kind = std::fs::metadata(path).context("cannot read")?.file_type();
    ensure!(
        !kind.is_dir(),
        "is a folder; name the checkpoint file in it"
    );
    ensure!(kind.is_file(), "is not an ordinary file");
    match PytorchReader::new(path) {
        Ok(reader) => Ok(reader.into_tensors()),
        Err(PytorchError::Io(error)) if error.raw_os_error().is_some() => {
            Err(error).context("cannot read")
        }
        Err(_) if ModelFile::open(path).is_ok() => bail!(
            "is a munitfilter model already, which needs no import; give it to munitfilter as \
             it is"
        ),
        Err(error) => {
            let reason = match error {
                PytorchError::InvalidFormat(reason) => reason,
                other => other.to_string(),
            };
            bail!(
                "cannot be read as a PyTorch checkpoint: it is truncated, damaged or \
                 something else ({})",
                one_line(&reason)
            )
        }
    }
}

/// Reads one tensor as fp32.
fn tensor(stored: &pytorch_reader::Tensor, shape: &[i64]) -> Result<Tensor> {
    let kind = match stored.dtype() {
        DType::F64 => Kind::Double,
        DType::F32 => Kind::Float,
        DType::F16 => Kind::Half,
        DType::BF16 => Kind::BFloat16,
        other => bail!(
            "tensor {} holds numbers of type {other:?}, not weights",
            stored.name
        ),
    };
    let bytes = stored.read().map_err(|error| {
        anyhow::anyhow!("is truncated or damaged ({})", one_line(&error.to_string()))
    })?;
    Ok(Tensor::f_from_data_size(&bytes, shape, kind)?.f_to_kind(Kind::Float)?)
}

/// The family of the generators, or a sentence about what else the checkpoint holds.
fn family(tensors: &HashMap<String, pytorch_reader::Tensor>) -> Result<Family> {
    let has = |start: &str| tensors.keys().any(|name| name.starts_with(start));
    let has_in_both = |start: &str| {
        Domain::ALL
            .iter()
            .all(|domain| has(&format!("{}.{start}", domain.name())))
    };
    let has_in_either = |start: &str| {
        ["", "a.", "b."]
            .iter()
            .any(|domain| has(&format!("{domain}{start}")))
    };
    if tensors.is_empty() {
        bail!("holds no tensors");
    }
    if has_in_both("enc_content.") {
        return Ok(Family::Munit);
    }
    if has_in_both("enc.") && has_in_both("dec.") {
        return Ok(Family::Unit);
    }
    if tensors
        .keys()
        .any(|name| name.contains("exp_avg") || name.contains("momentum_buffer"))
    {
        bail!(
            "holds the state of an optimiser, which only a training run can use; import the gen_*.pt beside it"
        );
    }
    if has_in_either("cnns.") {
        bail!("holds discriminators, which only judge pictures; import the gen_*.pt beside it");
    }
    if has_in_either("enc_content.") || (has_in_either("enc.") && has_in_either("dec.")) {
        bail!(
            "holds one generator only; a translation needs both, saved together under the keys \"a\" and \"b\""
        );
    }
    let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    names.sort_unstable();
    let shown = names
        .iter()
        .take(3)
        .map(|name| one_line(name))
        .collect::<Vec<_>>()
        .join(", ");
    bail!(
        "holds {} tensors ({shown}{}), but not the generators of MUNIT or UNIT, \
         whose tensors have names like a.enc_content.model.0.conv.weight",
        names.len(),
        if names.len() > 3 { ", …" } else { "" }
    )
}

/// Text from a file, fit for the end of a sentence on a terminal.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 200;
    let line: String = text
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one })
        .take(LONGEST)
        .collect();
    line.trim().to_owned()
}
