//! Streams: queues of work on a device, which computes those of one stream one after the other and
//! those of different streams at the same time.

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::{Device, TchError, Tensor};

use crate::Result;

unsafe extern "C" {
    fn munit_stream_new(device: c_int, id: *mut i64) -> *mut c_char;
    fn munit_stream_current(device: c_int, id: *mut i64) -> *mut c_char;
    fn munit_stream_handle(device: c_int, id: i64, handle: *mut *mut c_void) -> *mut c_char;
    fn munit_stream_exchange(device: c_int, id: i64, previous: *mut i64) -> *mut c_char;
    fn munit_stream_synchronize(device: c_int, id: i64) -> *mut c_char;
    fn munit_device_synchronize(device: c_int) -> *mut c_char;
    fn munit_free_message(message: *mut c_char);
}

/// A stream of a device, one of the few that libtorch gives out in turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    device: c_int,
    id: i64,
}

impl Stream {
    /// # Errors
    /// [`crate::Error::Torch`] for a device without streams, or one that is not there.
    pub(super) fn new(device: Device) -> Result<Self> {
        let device = number(device);
        let mut id = 0;
        // SAFETY: `id` can be written.
        check(unsafe { munit_stream_new(device, &mut id) })?;
        Ok(Self { device, id })
    }

    /// The one to which the calling thread's work on a device goes.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn current(device: Device) -> Result<Self> {
        let device = number(device);
        let mut id = 0;
        // SAFETY: `id` can be written.
        check(unsafe { munit_stream_current(device, &mut id) })?;
        Ok(Self { device, id })
    }

    /// What the driver takes for it; null is the default stream.
    pub(super) fn handle(self) -> Result<*mut c_void> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: libtorch has given this stream; `handle` can be written.
        check(unsafe { munit_stream_handle(self.device, self.id, &mut handle) })?;
        Ok(handle)
    }

    /// Until the result is dropped, what this thread computes on the device goes to this stream.
    pub(super) fn enter(self) -> Result<Entered> {
        let mut previous = 0;
        // SAFETY: libtorch has given this stream; `previous` can be written.
        check(unsafe { munit_stream_exchange(self.device, self.id, &mut previous) })?;
        Ok(Entered {
            previous: Self {
                id: previous,
                ..self
            },
        })
    }

    /// Waits until all work of this stream is done.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if any of it has failed.
    pub(super) fn synchronize(self) -> Result<()> {
        // SAFETY: libtorch has given this stream.
        check(unsafe { munit_stream_synchronize(self.device, self.id) })
    }
}

/// Restores this thread's stream when it is dropped.
pub(super) struct Entered {
    previous: Stream,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut left = 0;
        // SAFETY: libtorch has given this stream; `left` can be written. A stream that could be
        // entered can be left: nothing here to tell anyone.
        let _ = check(unsafe {
            munit_stream_exchange(self.previous.device, self.previous.id, &mut left)
        });
    }
}

/// A copy of a device's tensor in memory of the host that the device reads and writes by itself.
pub(super) fn pinned(tensor: &Tensor) -> Result<Tensor> {
    let device = tensor.device();
    if device == Device::Cpu {
        return Ok(tensor.shallow_clone());
    }
    let copy = tensor.f_to_device_(Device::Cpu, tensor.kind(), true, false)?;
    Stream::current(device)?.synchronize()?;
    Ok(copy)
}

/// Waits until all work of all streams of a device is done.
pub(super) fn synchronize_device(device: Device) -> Result<()> {
    // SAFETY: any number is checked.
    check(unsafe { munit_device_synchronize(number(device)) })
}

/// A device as device.cpp numbers it.
pub(super) fn number(device: Device) -> c_int {
    match device {
        Device::Cuda(number) => c_int::try_from(number).unwrap_or(c_int::MAX),
        _ => -1,
    }
}

/// Takes a message of device.cpp's, null where nothing has failed.
pub(super) fn check(message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the message ends with a zero and is ours to free, once.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        munit_free_message(message);
        text
    };
    Err(TchError::Torch(text).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::DeviceChoice;

    #[test]
    fn a_device_without_streams_is_an_error() {
        // Keeps the linker from dropping libtorch from this test program.
        assert!(tch::get_num_threads() > 0);
        let error = Stream::new(Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("stream"), "{error}");
        assert!(synchronize_device(Device::Cpu).is_err());
    }

    #[test]
    fn streams_are_entered_and_left_where_there_is_a_gpu() {
        let Ok(device) = DeviceChoice::Cuda(0).resolve() else {
            assert!(Stream::new(Device::Cuda(0)).is_err());
            return;
        };
        let (first, second) = (Stream::new(device).unwrap(), Stream::new(device).unwrap());
        assert_ne!(first, second);
        let entered = first.enter().unwrap();
        let inner = second.enter().unwrap();
        assert_eq!(inner.previous, first);
        assert_eq!(Stream::current(device).unwrap(), second);
        assert_ne!(first.handle().unwrap(), second.handle().unwrap());
        drop(inner);
        assert_eq!(second.enter().unwrap().previous, first);
        let ones = tch::Tensor::ones([64, 64], (tch::Kind::Float, device));
        let product = ones.matmul(&ones);
        first.synchronize().unwrap();
        assert_eq!(product.double_value(&[3, 3]), 64.0);
        drop(entered);
        synchronize_device(device).unwrap();
    }
}
