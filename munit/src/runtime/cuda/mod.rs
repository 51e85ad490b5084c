//! Our own kernels for CUDA devices: everything but the convolutions, each in one pass over memory.
//!
//! NVRTC compiles them when a model is put on a device. Where that cannot be, libtorch's operations
//! compute the same, more slowly.

mod compiler;
mod driver;
mod frame;
mod graph;
mod layers;
mod pixels;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::HashMap;
use std::ffi::{CStr, c_void};
use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, TchError, Tensor};

use super::device;
use super::element::channels_last;
use super::stream::{Stream, pinned};
use super::warnings::warn;
use crate::{Error, Result};
use compiler::Compiler;
use driver::{Context, Driver, Function};

pub(super) use frame::{Chosen, Frame, FrameLayout};
pub(super) use layers::{Scratch, correct_ring, finish};
pub(super) use pixels::Folded;
pub(super) use turns::TURNS;

const SOURCE: &str = include_str!("kernels.cu");

/// Threads of a block, as kernels.cu has them.
const THREADS: usize = 256;

/// The kernels, in the order of [`NAMES`].
#[derive(Clone, Copy, Debug)]
enum Kernel {
    MomentsWide,
    MomentsSingle,
    FinishWide,
    FinishSingle,
    Ring,
    ReadPictureGrey,
    ReadPictureColours,
    WritePicture,
}

const NAMES: [&CStr; 8] = [
    c"moments_wide",
    c"moments_single",
    c"finish_wide",
    c"finish_single",
    c"ring",
    c"read_picture_grey",
    c"read_picture_colours",
    c"write_picture",
];

/// One of a kernel's arguments, which are 32-bit numbers and addresses.
#[derive(Clone, Copy)]
struct Argument(u64);

impl From<i32> for Argument {
    fn from(value: i32) -> Self {
        Self(u64::from(value as u32))
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self(u64::from(value.to_bits()))
    }
}

impl From<usize> for Argument {
    /// A count; the device's are 32 bits long.
    fn from(value: usize) -> Self {
        Self::from(i32::try_from(value).unwrap_or(i32::MAX))
    }
}

impl From<&Tensor> for Argument {
    fn from(tensor: &Tensor) -> Self {
        Self(tensor.data_ptr() as u64)
    }
}

impl From<Option<&Tensor>> for Argument {
    fn from(tensor: Option<&Tensor>) -> Self {
        tensor.map_or(Self(0), Self::from)
    }
}

/// The kernels for a device and number format.
pub(super) struct Kernels {
    device: Device,
    kind: Kind,
    multiprocessors: usize,
    code: Code,
}

enum Code {
    Device {
        driver: &'static Driver,
        context: Context,
        functions: [Function; NAMES.len()],
    },
    /// Compiled for the CPU.
    #[cfg(test)]
    Emulated(unsafe extern "C" fn(std::ffi::c_int, *const u32, *mut *mut c_void)),
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "Kernels({:?}, {:?})", self.device, self.kind)
    }
}

impl Kernels {
    /// The kernels for a CUDA device, compiled once in a process; `None` where that cannot be, of
    /// which a warning tells once. Takes turns of its own.
    pub(super) fn of(device: Device, kind: Kind) -> Option<&'static Self> {
        type Compiled = HashMap<(usize, &'static str), Option<&'static Kernels>>;
        static COMPILED: Mutex<Option<Compiled>> = Mutex::new(None);
        let Device::Cuda(number) = device else {
            return None;
        };
        let format = match kind {
            Kind::Half => "ELEMENT_FP16",
            Kind::BFloat16 => "ELEMENT_BF16",
            Kind::Float => "ELEMENT_FP32",
            _ => return None,
        };
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = compiled.get_or_insert_with(HashMap::new);
        *compiled.entry((number, format)).or_insert_with(|| {
            match Self::compile(number, kind, format) {
                Ok(kernels) => Some(Box::leak(Box::new(kernels))),
                Err(reason) => {
                    warn(&format!(
                        "cuda:{number} is used without our own kernels, which is slower: {reason}"
                    ));
                    None
                }
            }
        })
    }

    fn compile(number: usize, kind: Kind, format: &str) -> Result<Self, String> {
        let driver = Driver::get()?;
        let turn = TURNS.together();
        let (context, properties) = driver.open(number)?;
        // What the compiler does concerns no device.
        drop(turn);
        let compiler = Compiler::load(device::libtorch_folder().as_deref())?;
        let (major, minor) = properties.compute_capability;
        let code = compiler.compile(SOURCE, &format!("sm_{major}{minor}"), format)?;
        let _turn = TURNS.together();
        driver.enter(context)?;
        Ok(Self {
            device: Device::Cuda(number),
            kind,
            multiprocessors: properties.multiprocessors,
            code: Code::Device {
                driver,
                context,
                functions: driver.functions(&code, NAMES)?,
            },
        })
    }

    /// The same kernels on the CPU.
    #[cfg(test)]
    pub(super) fn emulated(kind: Kind) -> &'static Self {
        unsafe extern "C" {
            fn munit_emulate_fp32(
                kernel: std::ffi::c_int,
                grid: *const u32,
                arguments: *mut *mut c_void,
            );
            fn munit_emulate_bf16(
                kernel: std::ffi::c_int,
                grid: *const u32,
                arguments: *mut *mut c_void,
            );
        }
        Box::leak(Box::new(Self {
            device: Device::Cpu,
            kind,
            multiprocessors: 3,
            code: Code::Emulated(match kind {
                Kind::BFloat16 => munit_emulate_bf16,
                _ => munit_emulate_fp32,
            }),
        }))
    }

    /// Elements that the wide kernels move at once.
    fn wide(&self) -> usize {
        16 / self.kind.elt_size_in_bytes()
    }

    /// A channels-last map with left-over contents.
    fn map(&self, channels: usize, height: usize, width: usize) -> Result<Tensor> {
        let [channels, height, width] = [channels, height, width].map(|length| length as i64);
        channels_last(channels, height, width, self.kind, self.device)
    }

    /// Sets a kernel off on the calling thread's current stream.
    ///
    /// # Safety
    /// The arguments are those of the kernel, and the memory that they point to is on the device,
    /// large enough, and not used by other streams.
    unsafe fn launch(
        &self,
        kernel: Kernel,
        grid: [usize; 3],
        arguments: &[Argument],
    ) -> Result<()> {
        let grid = grid.map(|blocks| u32::try_from(blocks).unwrap_or(u32::MAX));
        let mut arguments = arguments.to_vec();
        // All of them begin at their lowest byte.
        let mut addresses: Vec<*mut c_void> = arguments
            .iter_mut()
            .map(|argument| (&raw mut argument.0).cast())
            .collect();
        match &self.code {
            Code::Device {
                driver,
                context,
                functions,
            } => {
                driver.enter(*context).map_err(failure)?;
                let stream = Stream::current(self.device)?.handle()?;
                let function = functions[kernel as usize];
                // SAFETY: the caller's.
                unsafe { driver.launch(function, grid, THREADS as u32, stream, &mut addresses) }
                    .map_err(failure)
            }
            #[cfg(test)]
            Code::Emulated(run) => {
                // SAFETY: the caller's.
                unsafe {
                    run(
                        kernel as std::ffi::c_int,
                        grid.as_ptr(),
                        addresses.as_mut_ptr(),
                    )
                };
                Ok(())
            }
        }
    }

    /// Memory of the host that the device reads and writes by itself.
    pub(super) fn host_memory(&self, length: usize, kind: Kind) -> Result<Tensor> {
        pinned(&Tensor::f_zeros([length as i64], (kind, self.device))?)
    }

    /// Sets off a copy from [`Self::host_memory`] to memory of the device, both contiguous and of
    /// the same length.
    pub(super) fn upload(&self, from: &Tensor, to: &Tensor) -> Result<()> {
        let bytes = same_length(from, to)?;
        match &self.code {
            Code::Device {
                driver, context, ..
            } => {
                driver.enter(*context).map_err(failure)?;
                let stream = Stream::current(self.device)?.handle()?;
                // SAFETY: both have so many bytes; whoever owns them waits for the stream.
                unsafe { driver.copy_to_device(to.data_ptr(), from.data_ptr(), bytes, stream) }
                    .map_err(failure)
            }
            #[cfg(test)]
            Code::Emulated(_) => copy_on_the_cpu(from, to, bytes),
        }
    }

    /// As [`Self::upload`], from the device to the host.
    pub(super) fn download(&self, from: &Tensor, to: &Tensor) -> Result<()> {
        let bytes = same_length(from, to)?;
        match &self.code {
            Code::Device {
                driver, context, ..
            } => {
                driver.enter(*context).map_err(failure)?;
                let stream = Stream::current(self.device)?.handle()?;
                // SAFETY: as above.
                unsafe { driver.copy_to_host(to.data_ptr(), from.data_ptr(), bytes, stream) }
                    .map_err(failure)
            }
            #[cfg(test)]
            Code::Emulated(_) => copy_on_the_cpu(from, to, bytes),
        }
    }

    /// Waits until the calling thread's current stream has come to its end.
    pub(super) fn wait(&self) -> Result<()> {
        match self.device {
            Device::Cpu => Ok(()),
            device => Stream::current(device)?.synchronize(),
        }
    }
}

#[cfg(test)]
fn copy_on_the_cpu(from: &Tensor, to: &Tensor, bytes: usize) -> Result<()> {
    // SAFETY: both have so many bytes and do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(
            from.data_ptr().cast::<u8>(),
            to.data_ptr().cast::<u8>(),
            bytes,
        );
    }
    Ok(())
}

/// Bytes of each of two tensors.
fn same_length(from: &Tensor, to: &Tensor) -> Result<usize> {
    if from.numel() != to.numel() || from.kind() != to.kind() {
        return Err(failure(format!(
            "{:?} of {:?} cannot be copied to {:?} of {:?}",
            from.size(),
            from.kind(),
            to.size(),
            to.kind()
        )));
    }
    Ok(from.numel() * from.kind().elt_size_in_bytes())
}

/// What the driver says, as libtorch would.
fn failure(text: String) -> Error {
    Error::Torch(TchError::Torch(text))
}
