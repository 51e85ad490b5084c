//! Number formats that the CPU kernels read and write.

use half::bf16;
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// An element of a CPU tensor.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    const KIND: Kind;

    fn from_f32(value: f32) -> Self;

    fn to_f32(self) -> f32;
}

impl Element for f32 {
    const KIND: Kind = Kind::Float;

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    const KIND: Kind = Kind::BFloat16;

    /// Rounds to nearest, ties to even. Plain integer arithmetic, which vectorises; a
    /// not-a-number may turn into infinity, which no trained network produces.
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let rounding = 0x7fff + ((bits >> 16) & 1);
        Self::from_bits((bits.wrapping_add(rounding) >> 16) as u16)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// Pixels, which are only stored.
impl Element for u8 {
    const KIND: Kind = Kind::Uint8;

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value as u8
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from(self)
    }
}

/// The elements of a contiguous channels-last CPU tensor `[1, C, H, W]`, in the order H, W, C.
pub(crate) fn elements<T: Element>(tensor: &Tensor) -> Result<&[T]> {
    let (pointer, length) = channels_last_memory::<T>(tensor)?;
    // SAFETY: `channels_last_memory` has checked kind, place and contiguity, and the slice
    // borrows the tensor that owns the memory.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length) })
}

/// As [`elements`], to write.
pub(crate) fn elements_mut<T: Element>(tensor: &mut Tensor) -> Result<&mut [T]> {
    let (pointer, length) = channels_last_memory::<T>(tensor)?;
    // SAFETY: as in `elements`; the callers in this module's parent create the tensors that they
    // write, so that no other tensor shares the memory.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, length) })
}

fn channels_last_memory<T: Element>(tensor: &Tensor) -> Result<(*mut T, usize)> {
    let size = tensor.size();
    let &[1, channels, height, width] = size.as_slice() else {
        return Err(unexpected(tensor));
    };
    let strides = tensor.stride();
    let expected = [1, width * channels, channels];
    let dimensions = [channels, height, width];
    let contiguous = strides[1..]
        .iter()
        .zip(expected)
        .zip(dimensions)
        .all(|((&stride, expected), length)| stride == expected || length == 1);
    if tensor.kind() != T::KIND || tensor.device() != Device::Cpu || !contiguous {
        return Err(unexpected(tensor));
    }
    let length = usize::try_from(channels * height * width).unwrap_or(0);
    if length == 0 {
        return Err(unexpected(tensor));
    }
    Ok((tensor.data_ptr().cast(), length))
}

fn unexpected(tensor: &Tensor) -> Error {
    Error::Torch(tch::TchError::Torch(format!(
        "a channels-last tensor was expected, not {:?} {:?} with strides {:?}",
        tensor.kind(),
        tensor.size(),
        tensor.stride()
    )))
}

/// An uninitialised channels-last tensor `[1, channels, height, width]`.
pub(crate) fn channels_last(
    channels: i64,
    height: i64,
    width: i64,
    kind: Kind,
    device: Device,
) -> Result<Tensor> {
    let memory = Tensor::f_empty([1, height, width, channels], (kind, device))?;
    Ok(memory.f_permute([0, 3, 1, 2])?)
}

/// The same map with its channels last in memory; copies only where libtorch, which cannot tell
/// the orders apart for a single channel, has chosen another.
pub(crate) fn as_channels_last(map: &Tensor) -> Result<Tensor> {
    let pixels = map.f_permute([0, 2, 3, 1])?.f_contiguous()?;
    Ok(pixels.f_permute([0, 3, 1, 2])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_as_libtorch_does() {
        let values = Tensor::randn([4096], (Kind::Float, Device::Cpu));
        let rounded = values.to_kind(Kind::BFloat16).to_kind(Kind::Float);
        let (values, rounded) = (
            Vec::try_from(values).unwrap(),
            Vec::try_from(rounded).unwrap(),
        );
        for (value, expected) in values.into_iter().zip(rounded) {
            let value: f32 = value;
            let expected: f32 = expected;
            assert_eq!(
                bf16::from_f32(value).to_f32(),
                <bf16 as Element>::from_f32(value).to_f32()
            );
            assert_eq!(<bf16 as Element>::from_f32(value).to_f32(), expected);
        }
    }

    #[test]
    fn only_channels_last_memory_is_read() {
        let tensor = channels_last(3, 4, 5, Kind::Float, Device::Cpu).unwrap();
        assert_eq!(tensor.size(), [1, 3, 4, 5]);
        assert_eq!(elements::<f32>(&tensor).unwrap().len(), 60);
        assert!(elements::<bf16>(&tensor).is_err());
        assert!(elements::<f32>(&tensor.contiguous()).is_err());
        assert!(elements::<f32>(&tensor.narrow(3, 0, 2)).is_err());
    }
}
