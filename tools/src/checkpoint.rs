//! Everything a run needs to go on, in one file that is either whole or not there.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result, bail, ensure};
use munit::atomic_file;
use munit::networks::Parameter;
use safetensors::tensor::{Dtype, SafeTensors, TensorInfo};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use crate::config::TrainConfig;
use crate::machine::Machine;
use crate::perceptual;
use crate::program::sentence;
use crate::ranks::Ranks;
use crate::trainer::Trainer;

/// The version that this build writes and reads.
const FORMAT_VERSION: u32 = 1;
const METADATA_KEY: &str = "munit-checkpoint";
const CHECKSUM_KEY: &str = "crc32c";
/// Readers may map the file, so that tensors should start at a multiple of this.
const ALIGNMENT: usize = 8;
const PREFIX: &str = "iteration-";
const SUFFIX: &str = ".safetensors";
/// Beyond that of any checkpoint.
const LONGEST_HEADER: u64 = 16 << 20;

/// What a checkpoint says about itself.
///
/// There is no random state: noise, preview styles, crops and the order of the pictures all
/// follow from the seed and the number of the iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointHeader {
    /// Version of this format.
    pub format_version: u32,
    /// The run's configuration.
    pub config: TrainConfig,
    /// Iterations done.
    pub iteration: u64,
    /// Fingerprints of the two sets of training pictures, by their names and sizes; `None` in
    /// checkpoints of a time when names alone counted.
    #[serde(default, rename = "picture_files")]
    pub pictures: Option<[u32; 2]>,
    /// Where the run computes, see [`device_name`].
    pub device: String,
    /// By what machine and library, see [`Surroundings`].
    #[serde(default)]
    pub surroundings: Option<Surroundings>,
    /// Checksum of the file of the perceptual loss, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<u32>,
    /// The figure by which checkpoints are compared, if the run has one and has read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figure: Option<KeptFigure>,
    /// The newest [`crate::losses::GRADIENT_PENALTIES`], if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_penalties: Option<[f32; 2]>,
}

/// What decides how a device rounds, beside the number of its threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Surroundings {
    /// The processor with its instruction sets, or the GPUs.
    pub hardware: String,
    /// Version of libtorch, if it can be told.
    pub libtorch: Option<String>,
}

impl Surroundings {
    /// Those of `device` here.
    pub fn of(device: Device) -> Self {
        // The system is asked once.
        static MACHINE: LazyLock<Machine> = LazyLock::new(Machine::this);
        let hardware = match device {
            Device::Cuda(place) => MACHINE
                .gpus
                .get(place)
                .or(MACHINE.gpus.first())
                .and_then(|name| Some(name.split_once(", driver ")?.0))
                .unwrap_or("a GPU")
                .to_owned(),
            _ => {
                let sets = MACHINE.instruction_sets.join(", ");
                format!("{} ({sets})", MACHINE.processor)
            }
        };
        Self {
            hardware,
            libtorch: MACHINE.versions.get("libtorch").cloned(),
        }
    }
}

impl fmt::Display for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let libtorch = self.libtorch.as_deref().unwrap_or("of unknown version");
        write!(f, "{}, libtorch {libtorch}", self.hardware)
    }
}

/// A figure that says how good a checkpoint is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptFigure {
    /// Its name in `losses.csv`.
    pub name: String,
    /// Its value.
    pub value: f64,
}

/// A checkpoint that this build does not understand, though it may be whole.
#[derive(Debug)]
pub struct OtherVersion {
    /// The file.
    pub path: PathBuf,
    /// What is not understood.
    pub what: String,
}

impl fmt::Display for OtherVersion {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{}: written by another version of munit-train ({}); go on with that one, or start anew \
             in another folder",
            self.path.display(),
            self.what
        )
    }
}

impl std::error::Error for OtherVersion {}

/// Values of a trainer that are NaN or infinite, so that there is nothing worth saving.
#[derive(Debug)]
pub struct NotFinite {
    /// The tensor's name.
    pub tensor: String,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "the values of {} are no longer finite", self.tensor)
    }
}

impl std::error::Error for NotFinite {}

/// A checkpoint in memory.
pub struct Checkpoint {
    /// What it says about itself.
    pub header: CheckpointHeader,
    path: PathBuf,
    bytes: Vec<u8>,
}

/// Name of the checkpoint after `iteration` iterations.
pub fn file_name(iteration: u64) -> String {
    format!("{PREFIX}{iteration:09}{SUFFIX}")
}

/// The checkpoints in `folder`, oldest first.
///
/// # Errors
/// A folder that cannot be read.
pub fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder)
        .with_context(|| format!("{}: cannot look for checkpoints", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX))
            .and_then(|digits| digits.parse().ok());
        if let Some(iteration) = number {
            found.push((iteration, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Writes the state of `trainer` into `folder`. The same state gives the same bytes. Nothing else in
/// the folder is touched, see [`crate::retention`].
///
/// # Errors
/// [`NotFinite`] for weights that are lost; a full disk, a folder that cannot be written.
pub fn save(
    trainer: &Trainer,
    pictures: [u32; 2],
    figure: Option<KeptFigure>,
    gradient_penalties: Option<[f32; 2]>,
    folder: &Path,
) -> Result<PathBuf> {
    let header = serde_json::to_string(&CheckpointHeader {
        format_version: FORMAT_VERSION,
        config: trainer.config().clone(),
        iteration: trainer.iteration,
        pictures: Some(pictures),
        device: device_name(trainer),
        surroundings: Some(Surroundings::of(trainer.device())),
        perceptual: perceptual_checksum(trainer.config()),
        figure,
        gradient_penalties,
    })?;
    let mut tensors = Vec::new();
    for (name, tensor) in state(trainer)? {
        if tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            bail!(NotFinite { tensor: name });
        }
        tensors.push((name, tensor.size(), bytes_of(&tensor)?));
    }

    let parts = tensors.iter().map(|(name, _, data)| (&**name, &**data));
    let mut entries = Map::new();
    entries.insert(
        "__metadata__".to_owned(),
        json!({ CHECKSUM_KEY: checksum(&header, parts), METADATA_KEY: header }),
    );
    let mut start = 0;
    for (name, size, data) in &tensors {
        let info = TensorInfo {
            dtype: Dtype::F32,
            shape: size.iter().map(|&side| side as usize).collect(),
            data_offsets: (start, start + data.len()),
        };
        entries.insert(name.clone(), serde_json::to_value(info)?);
        start += data.len();
    }
    let mut entries = serde_json::to_vec(&entries)?;
    entries.resize(entries.len().next_multiple_of(ALIGNMENT), b' ');

    let path = folder.join(file_name(trainer.iteration));
    atomic_file::write(&path, |file| {
        file.write_all(&(entries.len() as u64).to_le_bytes())?;
        file.write_all(&entries)?;
        tensors
            .iter()
            .try_for_each(|(_, _, data)| file.write_all(data))
    })?;
    Ok(path)
}

/// Whether the file at `path` says that it is a checkpoint; it may still be damaged.
pub fn is_checkpoint(path: &Path) -> bool {
    entries(path).is_some_and(|(_, entries)| text_in(&entries).is_some())
}

/// What the checkpoint at `path` says about itself. Reads its header alone, and looks whether the file is
/// as long as that says, as it is not where a copy has broken off.
///
/// # Errors
/// As [`Checkpoint::read`].
pub fn header(path: &Path) -> Result<CheckpointHeader> {
    let length = fs::metadata(path).with_context(|| unreadable(path))?.len();
    let (begin, entries) = entries(path).with_context(|| damaged(path))?;
    let header = checked_header(path, text_in(&entries))?;
    let ends = entries
        .values()
        .filter_map(|entry| entry.get("data_offsets")?.get(1)?.as_u64());
    let end = begin.saturating_add(ends.max().unwrap_or_default());
    ensure!(length >= end, damaged(path));
    Ok(header)
}

/// What stands at the beginning of a safetensors file, and where its tensors begin. Of a damaged one no more
/// is read than is ever there.
fn entries(path: &Path) -> Option<(u64, Map<String, Value>)> {
    let mut file = File::open(path).ok()?;
    let mut length = [0; size_of::<u64>()];
    file.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    let mut entries = Vec::new();
    file.take(length.min(LONGEST_HEADER))
        .read_to_end(&mut entries)
        .ok()?;
    let begin = length.saturating_add(size_of::<u64>() as u64);
    Some((begin, serde_json::from_slice(&entries).ok()?))
}

fn unreadable(path: &Path) -> String {
    format!("{}: cannot read the checkpoint", path.display())
}

fn damaged(path: &Path) -> String {
    format!("{}: the checkpoint is damaged", path.display())
}

/// What `text`, which the file at `path` holds of us, says.
fn checked_header(path: &Path, text: Option<&str>) -> Result<CheckpointHeader> {
    let text = text.with_context(|| {
        format!(
            "{}: not a checkpoint of munit-train; give a file from the folder checkpoints of a run",
            path.display()
        )
    })?;
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let version: Version = serde_json::from_str(text).with_context(|| damaged(path))?;
    let other_version = |what: String| OtherVersion {
        path: path.to_owned(),
        what,
    };
    ensure!(
        version.format_version == FORMAT_VERSION,
        other_version(format!(
            "checkpoint format {}, this one reads {FORMAT_VERSION}",
            version.format_version
        ))
    );
    serde_json::from_str(text).map_err(|problem| match unknown(&problem.to_string()) {
        Some(what) => other_version(what).into(),
        None => anyhow::Error::from(problem).context(damaged(path)),
    })
}

/// What to do about a run none of whose checkpoints can be used, of the newest of which `problem` tells.
pub(crate) fn none_whole(problem: &str) -> String {
    format!(
        "{problem}; no checkpoint of this run is whole; put one back from a copy, or begin anew in another \
         folder: munit-train --config with the config.yaml of this one"
    )
}

fn text_in(entries: &Map<String, Value>) -> Option<&str> {
    entries.get("__metadata__")?.get(METADATA_KEY)?.as_str()
}

impl Checkpoint {
    /// Reads and checks the whole file.
    ///
    /// # Errors
    /// A sentence that names the file and says what is wrong with it.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| unreadable(path))?;
        let damaged = || damaged(path);
        let (_, metadata) = SafeTensors::read_metadata(&bytes).with_context(damaged)?;
        let metadata = metadata.metadata().clone().unwrap_or_default();
        let text = metadata.get(METADATA_KEY).map(String::as_str);
        let header = checked_header(path, text)?;
        let tensors = SafeTensors::deserialize(&bytes).with_context(damaged)?;
        let parts = tensors.iter().map(|(name, view)| (name, view.data()));
        ensure!(
            metadata.get(CHECKSUM_KEY) == Some(&checksum(text.unwrap_or_default(), parts)),
            "{}: the checkpoint is damaged: its checksum does not match",
            path.display()
        );
        Ok(Self {
            header,
            path: path.to_owned(),
            bytes,
        })
    }

    /// The newest whole checkpoint in `folder`, and a sentence for each newer one that is not; `None`
    /// if there is no checkpoint at all.
    ///
    /// # Errors
    /// No usable checkpoint, with what is wrong with the newest; one of another version, which may be
    /// whole, so that going back to an older one would throw good work away.
    pub fn read_newest(folder: &Path) -> Result<Option<(Self, Vec<String>)>> {
        let mut problems = Vec::new();
        for (_, path) in list(folder)?.iter().rev() {
            match Self::read(path) {
                Ok(checkpoint) => return Ok(Some((checkpoint, problems))),
                Err(error) if error.is::<OtherVersion>() => return Err(error),
                Err(error) => problems.push(sentence(&error)),
            }
        }
        match problems.into_iter().next() {
            Some(problem) => bail!(none_whole(&problem)),
            None => Ok(None),
        }
    }

    /// Puts the saved state into `trainer`, which must have been made from the saved configuration.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape.
    pub fn restore(&self, trainer: &mut Trainer) -> Result<()> {
        let tensors = SafeTensors::deserialize(&self.bytes)?;
        for (name, mut tensor) in state(trainer)? {
            let saved = tensors
                .tensor(&name)
                .with_context(|| format!("{}: tensor {name} is missing", self.path.display()))?;
            let shape: Vec<i64> = saved.shape().iter().map(|&side| side as i64).collect();
            ensure!(
                shape == tensor.size() && saved.dtype() == Dtype::F32,
                "{}: tensor {name} has shape {shape:?}; this configuration needs {:?}",
                self.path.display(),
                tensor.size()
            );
            let values = Tensor::f_from_data_size(saved.data(), &shape, Kind::Float)?;
            tch::no_grad(|| tensor.f_copy_(&values))?;
        }
        trainer.go_on_from(self.header.iteration)
    }
}

/// Gives `trainer`, made from the same configuration in all processes, the state that it has in the
/// first.
///
/// # Errors
/// Processes that are gone; libtorch's.
pub fn synchronise(trainer: &mut Trainer, ranks: &Ranks) -> Result<()> {
    if ranks.count() > 1 {
        let mut tensors: Vec<Tensor> = state(trainer)?
            .into_iter()
            .map(|(_, tensor)| tensor)
            .collect();
        ranks.synchronise(&mut tensors)?;
        trainer.go_on_from(trainer.iteration)?;
    }
    Ok(())
}

/// `cuda`, or for example `cpu, threads: 2`, and how many processes train together if they are
/// several. Only where it is the same does a run go on bit for bit: other devices, and other numbers
/// of threads and processes, add in another order.
pub fn device_name(trainer: &Trainer) -> String {
    let device = match trainer.device() {
        Device::Cpu => format!("cpu, threads: {}", tch::get_num_threads()),
        _ => "cuda".to_owned(),
    };
    match trainer.processes() {
        1 => device,
        processes => format!("{device}, processes: {processes}"),
    }
}

/// The threads that [`device_name`] tells of a process that trains alone on the CPU.
pub(crate) fn threads_of(device: &str) -> Option<i32> {
    let threads = device.strip_prefix("cpu, threads: ")?.parse().ok()?;
    (threads > 0).then_some(threads)
}

/// Checksum of the file that the perceptual loss of `config` computes with; `None` without one.
pub fn perceptual_checksum(config: &TrainConfig) -> Option<u32> {
    let file = config
        .vgg_weights
        .as_ref()
        .filter(|_| config.is_perceptual());
    file.and_then(|file| perceptual::checksum(file))
}

/// Every tensor of a trainer's state by name, sharing storage with it.
fn state(trainer: &Trainer) -> Result<Vec<(String, Tensor)>> {
    let mut tensors = Vec::new();
    let networks: [(&str, &[Parameter]); 4] = [
        ("gen_a", trainer.generators.a.parameters()),
        ("gen_b", trainer.generators.b.parameters()),
        ("dis_a", trainer.discriminators.a.parameters()),
        ("dis_b", trainer.discriminators.b.parameters()),
    ];
    for (network, parameters) in networks {
        for parameter in parameters {
            let name = format!("{network}.{}", parameter.name);
            tensors.push((name, parameter.tensor.f_detach()?));
        }
    }
    let generators = trainer.generator_parameters.spans();
    let discriminators = trainer.discriminator_parameters.spans();
    for (prefix, spans, vector) in [
        ("ema", generators, &trainer.ema.vector),
        ("adam_mean", generators, &trainer.generator_optimiser.mean),
        (
            "adam_mean_square",
            generators,
            &trainer.generator_optimiser.mean_square,
        ),
        (
            "adam_mean",
            discriminators,
            &trainer.discriminator_optimiser.mean,
        ),
        (
            "adam_mean_square",
            discriminators,
            &trainer.discriminator_optimiser.mean_square,
        ),
    ] {
        for span in spans {
            tensors.push((format!("{prefix}.{}", span.name), span.view(vector)?));
        }
    }
    for (networks, optimiser) in [
        ("gen", &trainer.generator_optimiser),
        ("dis", &trainer.discriminator_optimiser),
    ] {
        if let Some(loss_scale) = &optimiser.loss_scale {
            for (name, tensor) in [
                ("loss_scale", &loss_scale.state),
                // Elsewhere it is that of the iterations.
                ("adam_updates", &optimiser.updates),
            ] {
                tensors.push((format!("{name}.{networks}"), tensor.shallow_clone()));
            }
        }
    }
    Ok(tensors)
}

fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    let count = tensor.numel();
    let mut bytes = vec![0; count * size_of::<f32>()];
    tensor
        .f_to_device(Device::Cpu)?
        .f_contiguous()?
        .f_copy_data_u8(&mut bytes, count)?;
    Ok(bytes)
}

/// The key or value that a problem with a header names as unknown; such headers are of a newer build.
fn unknown(problem: &str) -> Option<String> {
    ["field", "variant"].into_iter().find_map(|kind| {
        let after = problem.split_once(&format!("unknown {kind} `"))?.1;
        let (name, _) = after.split_once('`')?;
        Some(match kind {
            "field" => format!("it has the key {name}, which this one does not know"),
            _ => format!("it has the value {name}, which this one does not know"),
        })
    })
}

/// Over the header's text and all tensors' names and values in the order of their names.
fn checksum<'d>(header: &str, tensors: impl Iterator<Item = (&'d str, &'d [u8])>) -> String {
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort_by_key(|(name, _)| *name);
    let start = crc32c::crc32c(header.as_bytes());
    let sum = tensors.iter().fold(start, |sum, (name, data)| {
        crc32c::crc32c_append(crc32c::crc32c_append(sum, name.as_bytes()), data)
    });
    format!("{sum:08x}")
}
