//! Pixels on the device: bytes become values that the first convolution takes, and the last
//! convolution's output becomes bytes.

use tch::Tensor;

use super::layers::{activation, padding};
use super::{Argument, Kernel, Kernels, THREADS};
use crate::Result;
use crate::runtime::border::Border;
use crate::runtime::layers::Nonlinearity;
use crate::runtime::picture::{Fourth, PictureFormat};

/// A picture's bytes on the device, in the order of
/// [`PictureRef::copy_to`](crate::runtime::PictureRef::copy_to).
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a> {
    pub(super) memory: &'a Tensor,
    pub(super) format: PictureFormat,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Bytes<'_> {
    /// Where the first pixel's red, green and blue are.
    fn offsets(&self) -> [usize; 3] {
        let plane_bytes = self.width * self.height;
        self.format
            .colours()
            .map(|(plane, byte)| plane * plane_bytes + byte)
    }
}

/// What the first convolution takes: see [`read_picture`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::runtime) struct Folded {
    /// Columns of the kernel.
    pub(in crate::runtime) taps: usize,
    /// Channels of a picture.
    pub(in crate::runtime) colours: usize,
    /// Channels of a folded one.
    pub(in crate::runtime) stored: usize,
}

/// A picture as values in [-1, 1], reflected to `tall` x `wide` and surrounded by `border`, of which
/// the columns have become channels: `[1, stored, tall + 2·border, wide]`.
pub(super) fn read_picture(
    kernels: &Kernels,
    picture: Bytes,
    (tall, wide): (usize, usize),
    border: Border,
    folded: Folded,
) -> Result<Tensor> {
    let result = kernels.map(folded.stored, tall + 2 * border.width, wide)?;
    let [red, green, blue] = picture.offsets();
    let arguments = [
        Argument::from(picture.memory),
        picture.width.into(),
        picture.height.into(),
        picture.format.pixel_bytes().into(),
        red.into(),
        green.into(),
        blue.into(),
        tall.into(),
        wide.into(),
        border.width.into(),
        padding(border).into(),
        folded.stored.into(),
        Argument::from(&result),
    ];
    let kernel = match folded.colours {
        1 => Kernel::ReadPictureGrey,
        _ => Kernel::ReadPictureColours,
    };
    let vectors = folded.stored / kernels.wide();
    let grid = [
        (wide * vectors).div_ceil(THREADS),
        tall + 2 * border.width,
        1,
    ];
    // SAFETY: the picture's memory has all its bytes.
    unsafe { kernels.launch(kernel, grid, &arguments)? };
    Ok(result)
}

/// The last convolution's output.
pub(super) struct Translation<'a> {
    /// `[1, at least colours · phases², H / phases, W / phases]`.
    pub(super) values: &'a Tensor,
    pub(super) phases: usize,
    pub(super) colours: usize,
    pub(super) bias: Option<&'a Tensor>,
    pub(super) nonlinearity: Nonlinearity,
}

/// Writes a translation's bytes, mixed with the original's by the number at `strength`.
pub(super) fn write_picture(
    kernels: &Kernels,
    translation: &Translation,
    original: Bytes,
    strength: &Tensor,
    result: Bytes,
) -> Result<()> {
    let size = translation.values.size();
    let (activation, slope) = activation(translation.nonlinearity);
    let [original_red, original_green, original_blue] = original.offsets();
    let [red, green, blue] = result.offsets();
    let offset = |fourth: Option<Fourth>| match fourth {
        Some(Fourth::Alpha(offset) | Fourth::Filler(offset)) => offset as i32,
        None => -1,
    };
    let is_copied = result.format.has_alpha() && original.format.has_alpha();
    let alpha = if is_copied {
        offset(original.format.fourth())
    } else {
        -1
    };
    let arguments = [
        Argument::from(translation.values),
        Argument::from(size[1] as usize),
        translation.phases.into(),
        translation.colours.into(),
        (size[3] as usize * translation.phases).into(),
        translation.bias.into(),
        activation.into(),
        slope.into(),
        result.width.into(),
        result.height.into(),
        Argument::from(original.memory),
        original.format.pixel_bytes().into(),
        original_red.into(),
        original_green.into(),
        original_blue.into(),
        alpha.into(),
        Argument::from(strength),
        Argument::from(result.memory),
        result.format.pixel_bytes().into(),
        red.into(),
        green.into(),
        blue.into(),
        offset(result.format.fourth()).into(),
    ];
    let grid = [result.width.div_ceil(THREADS), result.height, 1];
    // SAFETY: both pictures have all their bytes, and the translation at least as many pixels.
    unsafe { kernels.launch(Kernel::WritePicture, grid, &arguments) }
}
