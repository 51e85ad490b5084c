//! What this process holds of a device's memory.

use std::ffi::{c_char, c_int};

use tch::Device;

use super::cuda::TURNS;
use super::stream::{check, number};

unsafe extern "C" {
    fn munit_device_memory(device: c_int, bytes: *mut i64) -> *mut c_char;
    fn munit_device_release_memory(device: c_int) -> *mut c_char;
}

/// Bytes of a device's own memory that libtorch has taken for this process: for weights, for frames, and
/// to be used again. `None` for the CPU, and where libtorch has no such device.
pub fn device_memory(device: Device) -> Option<u64> {
    let mut bytes = 0;
    // SAFETY: any number is checked; `bytes` can be written.
    check(unsafe { munit_device_memory(number(device), &mut bytes) }).ok()?;
    u64::try_from(bytes).ok()
}

/// Gives back what libtorch holds of a device's memory only to use it again; the device comes to rest
/// for it. Does nothing for the CPU.
pub fn release_device_memory(device: Device) {
    let _turn = TURNS.together();
    // SAFETY: any number is checked. A device that libtorch does not have holds nothing.
    let _ = check(unsafe { munit_device_release_memory(number(device)) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::DeviceChoice;

    #[test]
    fn memory_of_a_device_grows_with_what_is_put_there() {
        // Keeps the linker from dropping libtorch from this test program.
        assert!(tch::get_num_threads() > 0);
        assert_eq!(device_memory(Device::Cpu), None);
        release_device_memory(Device::Cpu);
        let Ok(device) = DeviceChoice::Cuda(0).resolve() else {
            assert_eq!(device_memory(Device::Cuda(0)), None);
            return;
        };
        let before = device_memory(device).unwrap();
        let held = tch::Tensor::zeros([64 << 20], (tch::Kind::Uint8, device));
        assert!(device_memory(device).unwrap() >= before + (64 << 20));
        drop(held);
        release_device_memory(device);
        assert!(device_memory(device).unwrap() < before + (64 << 20));
    }
}
