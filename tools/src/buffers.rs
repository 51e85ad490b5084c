//! What passes through networks change besides training.

use anyhow::Result;
use munit::networks::Parameter;
use tch::{Device, Kind, Tensor};

use crate::adam::{gather, lay_out};

/// The running statistics and the vectors of the power iterations of some networks, moved into one
/// vector, so that to remember all of them is one operation, and to put them back another.
#[derive(Debug)]
pub struct Buffers {
    vector: Tensor,
    kept: Tensor,
}

impl Buffers {
    /// Moves those of `parameters` that are not trained, with unique names.
    ///
    /// # Errors
    /// libtorch's, for instance out of memory.
    pub fn new<'a>(parameters: impl IntoIterator<Item = (String, &'a Parameter)>) -> Result<Self> {
        let (mut tensors, spans) = lay_out(parameters, false);
        let vector = match tensors.is_empty() {
            true => Tensor::f_zeros([0], (Kind::Float, Device::Cpu))?,
            false => gather(&mut tensors, &spans)?,
        };
        Ok(Self {
            kept: vector.f_zeros_like()?,
            vector,
        })
    }

    /// Remembers them as they are now.
    ///
    /// # Errors
    /// libtorch's.
    pub fn keep(&mut self) -> Result<()> {
        Ok(tch::no_grad(|| self.kept.f_copy_(&self.vector))?)
    }

    /// Makes them again what they were.
    ///
    /// # Errors
    /// libtorch's.
    pub fn put_back(&mut self) -> Result<()> {
        Ok(tch::no_grad(|| self.vector.f_copy_(&self.kept))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(values: &[f32], trainable: bool) -> (String, Parameter) {
        let parameter = Parameter {
            name: "parameter".to_owned(),
            tensor: Tensor::from_slice(values).set_requires_grad(trainable),
            trainable,
        };
        (format!("net.{values:?}"), parameter)
    }

    #[test]
    fn what_is_not_trained_is_put_back() {
        let parameters = [
            parameter(&[1.0, 2.0], false),
            parameter(&[3.0], true),
            parameter(&[4.0], false),
        ];
        let named = || parameters.iter().map(|(name, one)| (name.clone(), one));
        let mut buffers = Buffers::new(named()).unwrap();
        let values = || named().map(|(_, one)| one.tensor.double_value(&[0]));
        buffers.keep().unwrap();
        for (_, parameter) in named() {
            let _ = tch::no_grad(|| parameter.tensor.shallow_clone().fill_(7.0));
        }
        assert!(values().eq([7.0, 7.0, 7.0]));
        buffers.put_back().unwrap();
        assert!(values().eq([1.0, 7.0, 4.0]));
        assert_eq!(parameters[0].1.tensor, Tensor::from_slice(&[1.0_f32, 2.0]));

        let trained = named().skip(1).take(1);
        let mut none = Buffers::new(trained).unwrap();
        none.keep().unwrap();
        none.put_back().unwrap();
    }
}
