//! Where and in which number format a network runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Device, Kind, Tensor};

use super::warnings::warn;
use crate::openmp::loaded_library;
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

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "fp32" => Ok(Self::Fp32),
            "bf16" => Ok(Self::Bf16),
            "fp16" => Ok(Self::Fp16),
            _ => Err(Error::Device(format!(
                "\"{text}\" is not a precision; use auto, fp32, bf16 or fp16"
            ))),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
        })
    }
}

impl DeviceChoice {
    /// The device to compute on.
    ///
    /// Loads `libtorch_cuda.so` from beside libtorch before the first question about CUDA; the
    /// choice `cpu`, and `auto` on a host without an NVIDIA driver, touch no CUDA library. Where there
    /// is a driver and `auto` must do with the CPU nevertheless, a warning says why.
    ///
    /// # Errors
    /// [`Error::Device`] if a CUDA device was asked for and is not there, saying what is there, or
    /// cannot compute, saying why.
    pub fn resolve(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(if first_cuda_device_is_usable() {
                Device::Cuda(0)
            } else {
                Device::Cpu
            }),
            Self::Cuda(number) => {
                let count = cuda_device_count().map_err(Error::Device)?;
                if number < count {
                    try_out(Device::Cuda(number)).map_err(Error::Device)?;
                    return Ok(Device::Cuda(number));
                }
                Err(Error::Device(match count {
                    0 => format!(
                        "{self} was asked for, but the NVIDIA driver shows no usable device \
                         (CUDA_VISIBLE_DEVICES may hide it, or the driver is older than CUDA 13)"
                    ),
                    1 => format!("{self} was asked for, but the only CUDA device here is cuda:0"),
                    _ => format!(
                        "{self} was asked for, but the CUDA devices here are cuda:0 to cuda:{}",
                        count - 1
                    ),
                }))
            }
        }
    }
}

impl Precision {
    /// The format to compute in on `device`; never [`Precision::Auto`].
    ///
    /// `auto` is fp16 on CUDA, bf16 on a CPU that is faster in it (with AMX-BF16, or AVX512-BF16 and not
    /// made by Intel), else fp32.
    ///
    /// # Errors
    /// [`Error::Device`] for fp16 on the CPU, which libtorch computes ten times slower than fp32.
    pub fn resolve(self, device: Device) -> Result<Self> {
        match (self, device) {
            (Self::Auto, Device::Cpu) if cpu_multiplies_bf16() => Ok(Self::Bf16),
            (Self::Auto, Device::Cpu) => Ok(Self::Fp32),
            (Self::Auto, _) => Ok(Self::Fp16),
            (Self::Fp16, Device::Cpu) => Err(Error::Device(
                "fp16 is for CUDA devices; the CPU is far slower in it than in fp32, \
                 so use auto, bf16 or fp32"
                    .to_owned(),
            )),
            (precision, _) => Ok(precision),
        }
    }

    /// The tensor element type of a resolved precision.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Auto | Self::Fp32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::Fp16 => Kind::Half,
        }
    }
}

/// Whether the processor is faster in bf16 than in fp32: Intel's vectors are not, only its tiles.
fn cpu_multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let vectors = super::products::Arithmetic::of(Kind::BFloat16).is_some();
        super::tiles::usable() || vectors && !made_by_intel()
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
fn made_by_intel() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
    name.concat() == b"GenuineIntel"
}

/// Number of usable CUDA devices; the error says what is missing.
fn cuda_device_count() -> Result<usize, String> {
    load_cuda()?;
    Ok(usize::try_from(tch::Cuda::device_count()).unwrap_or(0))
}

/// Whether `auto` takes CUDA; asked once, so that it is always the same device.
fn first_cuda_device_is_usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| {
        if !nvidia_driver_is_visible() {
            return false;
        }
        let found = cuda_device_count().and_then(|count| match count {
            0 => Err("the NVIDIA driver shows no usable device".to_owned()),
            _ => try_out(Device::Cuda(0)),
        });
        if let Err(reason) = &found {
            warn(&format!(
                "CUDA is not used, the processor computes instead: {reason}"
            ));
        }
        found.is_ok()
    })
}

/// Computes something small; the error says why the device cannot.
fn try_out(device: Device) -> Result<(), String> {
    let computed =
        Tensor::f_ones([1], (Kind::Float, device)).and_then(|one| one.f_double_value(&[0]));
    let Err(error) = computed else {
        return Ok(());
    };
    let error = error.to_string();
    // The rest is where in libtorch it happened.
    let first = error.lines().next().unwrap_or_default();
    Err(if error.contains("no kernel image") {
        format!(
            "this GPU is older than libtorch's CUDA part can use ({first}); use the device cpu, or a GPU \
             of compute capability 7.5 or higher"
        )
    } else {
        format!("the GPU cannot compute: {first}")
    })
}

/// Makes libtorch's CUDA part known to libtorch, once per process.
fn load_cuda() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            if !nvidia_driver_is_visible() {
                return Err(
                    "no NVIDIA driver was found (neither /dev/nvidiactl nor libcuda.so.1); \
                     use the device cpu or auto"
                        .to_owned(),
                );
            }
            let folder = libtorch_folder().ok_or_else(|| {
                "libtorch_cpu.so is not among this process's libraries, so its CUDA part cannot be \
                 found beside it"
                    .to_owned()
            })?;
            load_cuda_from(&folder)
        })
        .clone()
}

fn load_cuda_from(folder: &Path) -> Result<(), String> {
    let library = folder.join("libtorch_cuda.so");
    if !library.exists() {
        return Err(format!(
            "this libtorch has no CUDA part ({} does not exist); run the set-up with CUDA=1, \
             or use the device cpu",
            library.display()
        ));
    }
    // SAFETY: the initialisers of libtorch_cuda.so register its kernels with the libtorch it was
    // built with and lies beside; they have no other precondition.
    match unsafe { Library::open(Some(&library), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            // libtorch keeps pointers into it for the rest of the process.
            std::mem::forget(library);
            Ok(())
        }
        Err(error) => Err(format!("{} cannot be loaded: {error}", library.display())),
    }
}

fn nvidia_driver_is_visible() -> bool {
    // SAFETY: loading the driver's library only runs its initialisers, which any CUDA program runs.
    Path::new("/dev/nvidiactl").exists() || unsafe { Library::new("libcuda.so.1") }.is_ok()
}

/// The folder that the dynamic linker took libtorch from.
pub(super) fn libtorch_folder() -> Option<PathBuf> {
    loaded_library("libtorch_cpu.so")?
        .parent()
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_are_read_back() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert_eq!(
            "cuda".parse::<DeviceChoice>().unwrap(),
            DeviceChoice::Cuda(0)
        );
        for text in ["auto", "fp32", "bf16", "fp16"] {
            assert_eq!(text.parse::<Precision>().unwrap().to_string(), text);
        }
        for text in ["gpu", "cuda:", "cuda:-1", ""] {
            let error = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains("cuda:N"), "{error}");
        }
        let error = "int4".parse::<Precision>().unwrap_err().to_string();
        assert!(error.contains("int4"), "{error}");
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!(DeviceChoice::Cpu.resolve().unwrap(), Device::Cpu);
        let automatic = Precision::Auto.resolve(Device::Cpu).unwrap();
        assert!(matches!(automatic, Precision::Fp32 | Precision::Bf16));
        let error = Precision::Fp16
            .resolve(Device::Cpu)
            .unwrap_err()
            .to_string();
        assert!(error.contains("CUDA"), "{error}");
        assert_eq!(
            Precision::Auto.resolve(Device::Cuda(0)).unwrap(),
            Precision::Fp16
        );
    }

    #[test]
    fn cuda_is_found_or_its_absence_explained() {
        match DeviceChoice::Cuda(0).resolve() {
            Ok(device) => {
                assert_eq!(device, Device::Cuda(0));
                assert_eq!(DeviceChoice::Auto.resolve().unwrap(), device);
                let error = DeviceChoice::Cuda(4096).resolve().unwrap_err().to_string();
                assert!(error.contains("cuda:0"), "{error}");
            }
            Err(error) => {
                assert_eq!(DeviceChoice::Auto.resolve().unwrap(), Device::Cpu);
                let text = error.to_string();
                assert!(text.contains("NVIDIA") || text.contains("CUDA"), "{text}");
            }
        }
    }

    #[test]
    fn a_device_is_tried_out_before_it_is_used() {
        assert_eq!(try_out(Device::Cpu), Ok(()));
        // Nobody has so many.
        let reason = try_out(Device::Cuda(100)).unwrap_err();
        assert!(reason.contains("the GPU cannot compute"), "{reason}");
        assert_eq!(reason.lines().count(), 1, "{reason}");
    }

    #[test]
    fn a_libtorch_without_cuda_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = load_cuda_from(folder.path()).unwrap_err();
        assert!(
            error.contains("CUDA=1") && error.contains("libtorch_cuda.so"),
            "{error}"
        );
        std::fs::write(folder.path().join("libtorch_cuda.so"), b"not a library").unwrap();
        let error = load_cuda_from(folder.path()).unwrap_err();
        assert!(error.contains("cannot be loaded"), "{error}");
    }

    #[test]
    fn libtorch_is_found_among_the_loaded_libraries() {
        // Keeps the linker from dropping libtorch from this test program.
        assert!(tch::get_num_threads() > 0);
        let folder = libtorch_folder().unwrap();
        assert!(
            folder.join("libtorch_cpu.so").exists(),
            "{}",
            folder.display()
        );
    }
}
