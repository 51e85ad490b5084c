//! Where and in which number format a network runs.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// The device that a person asked for; its text form is `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// A usable CUDA device if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

/// The number format that a person asked for; its text form is `auto`, `fp32`, `bf16` or `fp16`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// The fastest format that this device computes well.
    #[default]
    Auto,
    /// 32-bit floating point.
    Fp32,
    /// 16-bit brain floating point.
    Bf16,
    /// 16-bit IEEE floating point; CUDA only.
    Fp16,
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| {
                    Error::Device(format!(
                        "\"{text}\" is not a device; use auto, cpu, cuda or cuda:N, for example cuda:0"
                    ))
                }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(number) => write!(formatter, "cuda:{number}"),
        }
    }
}

impl DeviceChoice {
    /// The device to compute on.
    ///
    /// Loads `libtorch_cuda.so` from beside libtorch before the first question about CUDA.
    ///
    /// # Errors
    /// [`Error::Device`] if a CUDA device was asked for and is not there, saying what is there.
    pub fn resolve(self) -> Result<tch::Device> {
        todo!()
    }
}
