//! Models as files: for munitfilter, and for other programs.

mod network;
pub mod onnx;
pub mod parity;
mod run;
pub mod torchscript;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use munit::{Direction, Domain, Model, atomic_file};
use serde::Serialize;
use tch::{Kind, Tensor};

use crate::checkpoint::is_checkpoint;
use crate::model_name::find_model;
use crate::result_file::make_folder;
use parity::Parity;

pub use run::{StyleOrigin, StyleRequest, Wanted, from_run, model};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// munitfilter and the programs here.
    Model,
    /// Python and C++ with PyTorch.
    TorchScript,
    /// Engines that read ONNX.
    Onnx,
}

impl Format {
    /// What the ending of a file's name asks for.
    ///
    /// # Errors
    /// A sentence that names the file and the endings that there are, if it has another.
    pub fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().unwrap_or_default();
        match ending.to_string_lossy().to_lowercase().as_str() {
            "safetensors" => Ok(Self::Model),
            "pt" | "pth" | "ts" => Ok(Self::TorchScript),
            "onnx" => Ok(Self::Onnx),
            _ => bail!(
                "{}: cannot tell from this name what to write; end it in .safetensors for a model, .pt \
                 for TorchScript or .onnx for ONNX, or say it with --format",
                path.display()
            ),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::TorchScript => "TorchScript",
            Self::Onnx => "ONNX",
        }
    }
}

/// The model that `source` means: that of a run or a checkpoint of munit-train, with the named
/// `styles` of `domain`, or a model file, by its path or by its name.
///
/// # Errors
/// A sentence that names the file: nothing there, something damaged, a style that cannot be had.
pub fn open(
    source: &Path,
    wanted: Wanted,
    domain: Domain,
    styles: &[StyleRequest],
) -> Result<Model> {
    ensure!(
        wanted == Wanted::Newest || source.is_dir(),
        "{}: --best chooses among the checkpoints of a run; give the run's folder",
        source.display()
    );
    if source.is_dir() || is_checkpoint(source) {
        return from_run(source, wanted, domain, styles);
    }
    ensure!(
        styles.is_empty(),
        "{}: --style names styles of a run; munit-style names those of a model",
        source.display()
    );
    Ok(Model::read(&find_model(source)?)?)
}

/// Writes `model` to `path`, with its weights in `kind`, and makes the folder if it is missing. What is for other programs is compared with
/// the model before; if it differs too much, whatever is at `path` stays as it is.
///
/// # Errors
/// A model of two directions for ONNX, which holds one; a file that cannot be written; a network in
/// it that is not the model's.
pub fn write(model: &Model, path: &Path, format: Format, kind: Kind) -> Result<Vec<Parity>> {
    let named = || path.display().to_string();
    let (bytes, parity) = match format {
        Format::Model => {
            make_folder(path)?;
            model.write(path, kind)?;
            return Ok(Vec::new());
        }
        Format::TorchScript => {
            let archive = torchscript::archive(model, kind).with_context(named)?;
            let parity = parity::check_torchscript(model, &archive, kind).with_context(named)?;
            (archive, parity)
        }
        Format::Onnx => {
            let direction = only_direction(model)?;
            let file = onnx::file(model, direction, kind).with_context(named)?;
            let parity = parity::check_onnx(model, direction, &file, kind).with_context(named)?;
            (file, vec![parity])
        }
    };
    make_folder(path)?;
    atomic_file::write(path, |file| file.write_all(&bytes))?;
    Ok(parity)
}

fn only_direction(model: &Model) -> Result<Direction> {
    match model.metadata.directions[..] {
        [direction] => Ok(direction),
        _ => bail!("an ONNX file holds one direction; choose it with --directions a2b or b2a"),
    }
}

/// The elements of `tensor` in `kind`, little-endian, in the order of its shape.
fn tensor_bytes(tensor: &Tensor, kind: Kind) -> Result<Vec<u8>> {
    let tensor = tensor
        .f_to_device(tch::Device::Cpu)?
        .f_to_kind(kind)?
        .f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    if cfg!(target_endian = "big") {
        bail!("this can only be done on a little-endian machine");
    }
    Ok(bytes)
}
