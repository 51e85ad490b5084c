//! Pictures on a device: their bytes are brought there as they are, and become values, and bytes
//! again, by libtorch's operations.

use tch::{Device, Kind, Tensor};

use super::element::{Element, as_channels_last, channels_last, elements_mut};
use super::picture::{Fourth, PictureFormat, PictureRef};
use super::stream::pinned;
use crate::Result;

/// A picture's bytes `[1, P, height, width]` on a device: P counts the bytes of a packed format's
/// pixel, or the planes of a planar one.
pub(super) struct Pixels {
    bytes: Tensor,
    format: PictureFormat,
}

/// Memory of the host that a device can read while the host does something else.
#[derive(Default)]
pub(super) struct Staging {
    memory: Option<Tensor>,
}

impl Staging {
    /// Sets off the upload of a picture. The memory is written again by the next call: the device
    /// must have read it by then.
    pub(super) fn upload(&mut self, picture: &PictureRef, device: Device) -> Result<Pixels> {
        let [channels, height, width] = memory_shape(picture.format, picture.height, picture.width);
        let size = [1, channels, height, width];
        let mut memory = match self.memory.take() {
            Some(memory) if memory.size() == size => memory,
            _ => pinned(&channels_last(channels, height, width, u8::KIND, device)?)?,
        };
        picture.copy_to(elements_mut::<u8>(&mut memory)?);
        let bytes = memory.f_to_device_(device, u8::KIND, true, true)?;
        self.memory = Some(memory);
        let (height, width) = (picture.height as i64, picture.width as i64);
        let bytes = match picture.format.planes() {
            1 => bytes,
            planes => bytes.f_reshape([1, planes as i64, height, width])?,
        };
        Ok(Pixels {
            bytes,
            format: picture.format,
        })
    }
}

/// Sets off the download of a picture's bytes, in the order of [`PictureRef::copy_to`], into a
/// channels-last tensor. It is there when the stream has been waited for.
pub(super) fn download(pixels: &Pixels) -> Result<Tensor> {
    let size = pixels.bytes.size();
    let [channels, height, width] = memory_shape(pixels.format, size[2] as usize, size[3] as usize);
    let bytes = match pixels.format.planes() {
        1 => as_channels_last(&pixels.bytes)?,
        _ => pixels.bytes.f_reshape([1, channels, height, width])?,
    };
    Ok(bytes.f_to_device_(Device::Cpu, u8::KIND, true, false)?)
}

/// A packed picture's pixels have their bytes as channels; planes stand below one another.
fn memory_shape(format: PictureFormat, height: usize, width: usize) -> [i64; 3] {
    let rows = format.planes() * height;
    [format.pixel_bytes() as i64, rows as i64, width as i64]
}

impl Pixels {
    /// Red, green and blue bytes `[1, 3, height, width]`.
    pub(super) fn colours(&self) -> Result<Tensor> {
        let (first, descending) = order(self.format);
        let colours = self.bytes.f_narrow(1, first, 3)?;
        match descending {
            true => Ok(colours.f_flip([1])?),
            false => Ok(colours),
        }
    }

    /// Values in [-1, 1], `[1, channels, height, width]` in single precision. One channel is the
    /// luma of ITU-R BT.601.
    pub(super) fn values(&self, channels: usize) -> Result<Tensor> {
        let mut values = self.colours()?.f_to_kind(Kind::Float)?;
        if channels == 1 {
            let weighted =
                |colour, weight: f64| values.f_narrow(1, colour, 1)?.f_mul_scalar(weight);
            values = weighted(0, 0.299)?
                .f_add_(&weighted(1, 0.587)?)?
                .f_add_(&weighted(2, 0.114)?)?;
        }
        Ok(values.f_div_scalar_(127.5)?.f_sub_scalar_(1.0)?)
    }

    /// Opacity `[1, 1, height, width]`, if the format has one.
    fn opacity(&self) -> Result<Option<Tensor>> {
        Ok(match self.format.fourth() {
            Some(Fourth::Alpha(offset)) => Some(self.bytes.f_narrow(1, offset as i64, 1)?),
            _ => None,
        })
    }

    /// A picture with these colours, `[1, 3, height, width]` bytes in the order red, green, blue,
    /// and the opacity of `original`, else 255.
    pub(super) fn from_colours(
        colours: &Tensor,
        format: PictureFormat,
        original: &Pixels,
    ) -> Result<Self> {
        let (_, descending) = order(format);
        let ordered = match descending {
            true => colours.f_flip([1])?,
            false => colours.shallow_clone(),
        };
        let full = || Ok::<_, crate::Error>(ordered.f_narrow(1, 0, 1)?.f_full_like(255)?);
        let fourth = match format.fourth() {
            None => None,
            Some(Fourth::Filler(offset)) => Some((offset, full()?)),
            Some(Fourth::Alpha(offset)) => match original.opacity()? {
                Some(opacity) => Some((offset, opacity)),
                None => Some((offset, full()?)),
            },
        };
        let bytes = match fourth {
            None => ordered,
            Some((0, fourth)) => Tensor::f_cat(&[fourth, ordered], 1)?,
            Some((_, fourth)) => Tensor::f_cat(&[ordered, fourth], 1)?,
        };
        Ok(Self { bytes, format })
    }
}

/// Where along the channels the three colours begin, and whether blue comes first.
fn order(format: PictureFormat) -> (i64, bool) {
    let [red, _, blue] = format.colours().map(|(plane, byte)| (plane + byte) as i64);
    (red.min(blue), blue < red)
}

/// One or three channels of values in [-1, 1] as red, green and blue bytes `[1, 3, height, width]`.
pub(super) fn to_bytes(values: &Tensor) -> Result<Tensor> {
    // The half turns truncation into rounding to nearest.
    let bytes = values
        .f_mul_scalar(127.5)?
        .f_add_scalar_(127.5 + 0.5)?
        .f_clamp_(0.0, 255.0)?
        .f_to_kind(u8::KIND)?;
    let size = bytes.size();
    Ok(bytes.f_expand([1, 3, size[2], size[3]], false)?)
}

/// Moves `colours` towards `originals`, both bytes: strength 0 is the original.
pub(super) fn mix(colours: &Tensor, originals: &Tensor, strength: f32) -> Result<Tensor> {
    let originals = originals.f_to_kind(Kind::Float)?;
    let difference = colours.f_to_kind(Kind::Float)?.f_sub(&originals)?;
    let mixed = originals.f_add(&difference.f_mul_scalar(f64::from(strength))?)?;
    Ok(mixed.f_add_scalar(0.5)?.f_to_kind(u8::KIND)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::elements;
    use crate::runtime::border::Border;
    use crate::runtime::picture::PictureMut;

    const WIDTH: usize = 7;
    const HEIGHT: usize = 5;

    /// Bytes that all differ from their neighbours, in rows with a gap of two bytes.
    fn planes(format: PictureFormat) -> Vec<(Vec<u8>, usize)> {
        let stride = WIDTH * format.pixel_bytes() + 2;
        (0..format.planes())
            .map(|plane| {
                let byte = |index| ((index * 37 + plane * 101) % 256) as u8;
                ((0..stride * HEIGHT).map(byte).collect(), stride)
            })
            .collect()
    }

    fn view<'a>(format: PictureFormat, planes: &'a [(Vec<u8>, usize)]) -> PictureRef<'a> {
        let planes: Vec<_> = planes
            .iter()
            .map(|(bytes, stride)| (&bytes[..], *stride))
            .collect();
        PictureRef::new(format, WIDTH, HEIGHT, &planes).unwrap()
    }

    #[test]
    fn values_are_those_of_the_cpu() {
        for format in PictureFormat::ALL {
            let planes = planes(format);
            let picture = view(format, &planes);
            let pixels = Staging::default().upload(&picture, Device::Cpu).unwrap();
            for channels in [1, 3] {
                let expected = picture
                    .to_tensor::<f32>(channels, (HEIGHT, WIDTH), Border::NONE)
                    .unwrap();
                let difference = (pixels.values(channels).unwrap() - expected).abs().max();
                assert!(difference.double_value(&[]) < 1e-6, "{format} {channels}");
            }
        }
    }

    #[test]
    fn frames_come_back_as_the_cpu_writes_them() {
        let mut staging = Staging::default();
        for source in PictureFormat::ALL {
            let originals = planes(source);
            let original = view(source, &originals);
            let pixels = staging.upload(&original, Device::Cpu).unwrap();
            for (target, channels, strength) in PictureFormat::ALL
                .into_iter()
                .flat_map(|target| [(target, 3, 1.0), (target, 3, 0.3), (target, 1, 1.0)])
            {
                let values =
                    Tensor::rand([1, channels, 5, 7], (Kind::Float, Device::Cpu)) * 2.6 - 1.3;
                let values = as_channels_last(&values).unwrap();
                let (mut expected, mut found) = (planes(target), planes(target));
                let write = |planes: &mut Vec<(Vec<u8>, usize)>, on_device: bool| {
                    let planes = planes
                        .iter_mut()
                        .map(|(bytes, stride)| (&mut bytes[..], *stride))
                        .collect();
                    let mut output = PictureMut::new(target, WIDTH, HEIGHT, planes).unwrap();
                    if on_device {
                        let mut colours = to_bytes(&values).unwrap();
                        if strength < 1.0 {
                            colours = mix(&colours, &pixels.colours().unwrap(), strength).unwrap();
                        }
                        let frame = Pixels::from_colours(&colours, target, &pixels).unwrap();
                        let memory = download(&frame).unwrap();
                        output.copy_from(elements::<u8>(&memory).unwrap());
                    } else {
                        let numbers = elements::<f32>(&values).unwrap();
                        output.write(numbers, (WIDTH, channels as usize), &original, strength);
                    }
                };
                write(&mut expected, false);
                write(&mut found, true);
                assert_eq!(expected, found, "{source} {target} {channels} {strength}");
            }
        }
    }
}
