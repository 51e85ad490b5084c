//! A model on a device, ready to translate frames.

use super::{DeviceChoice, PictureMut, PictureRef, Precision};
use crate::{Direction, Model, Result, StyleCode};

/// A model's one direction on a device. `Send`, not `Sync`: one thread owns it.
pub struct Translator {}

/// How one frame is translated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TranslateOptions {
    /// Mix with the original: 0 is the input, 1 the translation.
    pub strength: f32,
    /// Shorter side at which the network runs; `None`: the picture's own size.
    pub inference_size: Option<u32>,
}

impl Default for TranslateOptions {
    fn default() -> Self {
        Self {
            strength: 1.0,
            inference_size: None,
        }
    }
}

impl Translator {
    /// Puts the networks of `direction` on a device, weights packed for it.
    ///
    /// # Errors
    /// A direction that the model lacks, a device that is not there, a precision that the
    /// device cannot compute, no memory.
    pub fn new(
        model: &Model,
        direction: Direction,
        device: DeviceChoice,
        precision: Precision,
    ) -> Result<Self> {
        let _ = (model, direction, device, precision);
        todo!()
    }

    /// Length of this model's style codes; 0 for UNIT.
    pub fn style_dim(&self) -> usize {
        todo!()
    }

    /// The device in use.
    pub fn device(&self) -> tch::Device {
        todo!()
    }

    /// The number format in use; never [`Precision::Auto`].
    pub fn precision(&self) -> Precision {
        todo!()
    }

    /// Translates `input` into `output`, which must have the same size; alpha is copied.
    ///
    /// # Errors
    /// A picture too small for the network, sizes that differ, a code of another length,
    /// libtorch out of memory ([`crate::Error::is_out_of_memory`]).
    pub fn translate(
        &mut self,
        input: &PictureRef,
        output: &mut PictureMut,
        style: &StyleCode,
        options: &TranslateOptions,
    ) -> Result<()> {
        let _ = (input, output, style, options);
        todo!()
    }

    /// Runs once at this picture size, so that the first frame is not late.
    ///
    /// # Errors
    /// As [`Self::translate`].
    pub fn warm_up(
        &mut self,
        width: usize,
        height: usize,
        options: &TranslateOptions,
    ) -> Result<()> {
        let _ = (width, height, options);
        todo!()
    }

    /// The style code of a picture of the target domain.
    ///
    /// # Errors
    /// As [`Self::translate`]; for UNIT, which has no style.
    pub fn encode_style(&mut self, picture: &PictureRef) -> Result<StyleCode> {
        let _ = picture;
        todo!()
    }
}
