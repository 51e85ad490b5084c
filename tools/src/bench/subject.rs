//! What is measured: a model and how it is run.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use munit::layout::multiply_adds_per_pixel;
use munit::runtime::{DeviceChoice, Precision};
use munit::{Direction, Model};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};
use tempfile::TempPath;

use super::random_model::random_model;
use super::size::FrameSize;
use crate::model_name::find_model;

/// Which model is measured.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelChoice {
    /// A file, or the name of a shipped or installed model.
    Named(PathBuf),
    /// The published architecture in this width, with so many residual blocks on each side and
    /// random weights.
    Random {
        /// Channels after the first convolution.
        dim: i64,
        /// Residual blocks of the encoder, and of the decoder.
        n_res: i64,
    },
}

impl ModelChoice {
    /// # Errors
    /// A sentence that names the file and says why it is no model; sizes that no network has.
    pub fn load(&self) -> Result<Model> {
        match self {
            Self::Named(name) => Ok(Model::read(&find_model(name)?)?),
            Self::Random { dim, n_res } => random_model(*dim, *n_res),
        }
    }

    /// The model as a file, for whoever takes nothing else.
    ///
    /// # Errors
    /// A name that no model has; a disk that is full.
    pub fn file(&self) -> Result<ModelOnDisk> {
        match self {
            Self::Named(name) => Ok(ModelOnDisk::Found(find_model(name)?)),
            Self::Random { dim, n_res } => {
                let file = tempfile::Builder::new()
                    .prefix("munit-bench-")
                    .suffix(".safetensors")
                    .tempfile()
                    .context("cannot write a model into the folder for temporary files")?;
                random_model(*dim, *n_res)?.write(file.path(), Kind::Float)?;
                Ok(ModelOnDisk::Written(file.into_temp_path()))
            }
        }
    }

    /// What it is called in a result: the name without folders, or `dim N`.
    pub fn label(&self) -> String {
        match self {
            Self::Named(name) => {
                let stem = name.file_stem().unwrap_or(name.as_os_str());
                stem.to_string_lossy().into_owned()
            }
            Self::Random { dim, n_res: 4 } => format!("dim {dim}"),
            Self::Random { dim, n_res } => format!("dim {dim}, n_res {n_res}"),
        }
    }
}

/// A model's file.
#[derive(Debug)]
pub enum ModelOnDisk {
    /// It was there.
    Found(PathBuf),
    /// It is taken away when this is dropped.
    Written(TempPath),
}

impl ModelOnDisk {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Found(path) => path,
            Self::Written(path) => path,
        }
    }
}

/// How a model is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunOptions {
    /// Size of the frames.
    pub size: FrameSize,
    /// Processor threads of the network; 0 takes the runtime's choice.
    pub threads: usize,
    /// Where it runs.
    pub device: DeviceChoice,
    /// Number format.
    pub precision: Precision,
}

/// A model and how it was run, as results have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// The model's name, or `dim N`.
    pub model: String,
    /// Channels after the first convolution.
    pub dim: i64,
    /// Size of the frames.
    pub size: FrameSize,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// `fp32`, `bf16` or `fp16`.
    pub precision: String,
    /// Processor threads of the network.
    pub threads: usize,
    /// Multiply-adds of a frame for each of its pixels.
    pub multiply_adds_per_pixel: f64,
}

impl Subject {
    /// `device` and `precision`: those in use.
    pub(super) fn new(
        label: String,
        model: &Model,
        direction: Direction,
        size: FrameSize,
        device: Device,
        precision: Precision,
    ) -> Self {
        let architecture = &model.metadata.architecture;
        Self {
            model: label,
            dim: architecture.generator.dim,
            size,
            device: match device {
                Device::Cuda(number) => format!("cuda:{number}"),
                _ => "cpu".to_owned(),
            },
            precision: precision.to_string(),
            threads: usize::try_from(tch::get_num_threads()).unwrap_or(1),
            multiply_adds_per_pixel: multiply_adds_per_pixel(architecture, direction),
        }
    }

    /// Floating-point operations per second, in 10¹², if a frame takes so many milliseconds: two
    /// for each multiply-add of the published network, however the runtime computes it.
    pub fn teraflops(&self, ms: f64) -> f64 {
        2.0 * self.multiply_adds_per_pixel * self.size.pixels() as f64 / ms / 1e9
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            model,
            size,
            device,
            precision,
            threads,
            ..
        } = self;
        write!(
            formatter,
            "{model}, {size}, {device}, {precision}, {threads} threads"
        )
    }
}
