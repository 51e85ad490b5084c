//! The tensors of one generator, by their names in the published state dict.

use tch::{Kind, Tensor};

use crate::{Domain, Error, Model, Result};

/// The tensors of one domain's generator.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    model: &'a Model,
    domain: Domain,
}

impl<'a> Weights<'a> {
    pub(super) fn new(model: &'a Model, domain: Domain) -> Self {
        Self { model, domain }
    }

    /// A copy of a tensor in single precision on the CPU, contiguous.
    ///
    /// # Errors
    /// [`Error::Weights`] if it is missing or its shape is not `shape`.
    pub(super) fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let name = format!("{}.{name}", self.domain.name());
        let Some(tensor) = self.model.weights.get(&name) else {
            return Err(Error::Weights(format!("the model has no tensor {name}")));
        };
        if tensor.size() != shape {
            return Err(Error::Weights(format!(
                "the model's tensor {name} has the shape {:?}; its architecture asks for {shape:?}",
                tensor.size()
            )));
        }
        let single = tensor.f_to_kind(Kind::Float)?.f_contiguous()?;
        Ok(single.f_detach()?)
    }
}
