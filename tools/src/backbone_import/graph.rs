//! A backbone's description and weights, layer by layer.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use munit::backbone::{Layer, Operation, PaddingMode};
use tch::Tensor;

/// Inside the root of torchvision's batch norms, and of those of its Inception network.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Layers that grow one by one, with the weights that they take from a published file.
pub struct Graph<'a> {
    published: &'a BTreeMap<String, Tensor>,
    pub layers: Vec<Layer>,
    pub tensors: BTreeMap<String, Tensor>,
}

impl<'a> Graph<'a> {
    pub fn new(published: &'a BTreeMap<String, Tensor>) -> Self {
        Self {
            published,
            layers: Vec::new(),
            tensors: BTreeMap::new(),
        }
    }

    /// Adds a layer behind those named in `from`, or behind the last, and returns its name.
    pub fn layer(&mut self, name: &str, from: &[&str], operation: Operation) -> String {
        self.layers.push(Layer {
            name: name.to_owned(),
            from: from.iter().map(|&one| one.to_owned()).collect(),
            operation,
        });
        name.to_owned()
    }

    /// Adds a convolution with the weights that the file keeps as `stored`.weight and, if it has
    /// one, `stored`.bias.
    pub fn convolution(
        &mut self,
        name: &str,
        from: &[&str],
        stored: &str,
        stride: i64,
        padding: [i64; 2],
    ) -> Result<String> {
        self.convolution_in_mode(name, from, stored, stride, padding, PaddingMode::Zeros)
    }

    /// As [`Self::convolution`], with maps continued as `mode` says.
    pub fn convolution_in_mode(
        &mut self,
        name: &str,
        from: &[&str],
        stored: &str,
        stride: i64,
        padding: [i64; 2],
        mode: PaddingMode,
    ) -> Result<String> {
        let weight = self.published(&format!("{stored}.weight"))?;
        let bias = match self.published.get(&format!("{stored}.bias")) {
            Some(bias) => bias.shallow_clone(),
            None => weight.f_new_zeros(&weight.size()[..1], (weight.kind(), weight.device()))?,
        };
        self.insert(name, weight, bias);
        let stride = [stride, stride];
        let operation = Operation::Convolution {
            stride,
            padding,
            mode,
        };
        Ok(self.layer(name, from, operation))
    }

    /// Adds a convolution without bias and the batch norm behind it as one convolution.
    pub fn normed_convolution(
        &mut self,
        name: &str,
        from: &[&str],
        [convolution, norm]: [&str; 2],
        stride: i64,
        padding: [i64; 2],
        epsilon: f64,
    ) -> Result<String> {
        let weight = self.published(&format!("{convolution}.weight"))?;
        let of_norm = |kind: &str| self.published(&format!("{norm}.{kind}"));
        let deviation = of_norm("running_var")?.f_add_scalar(epsilon)?.f_sqrt()?;
        let scale = of_norm("weight")?.f_div(&deviation)?;
        let bias = of_norm("bias")?.f_sub(&of_norm("running_mean")?.f_mul(&scale)?)?;
        let weight = weight.f_mul(&scale.f_reshape([-1, 1, 1, 1])?)?;
        self.insert(name, weight, bias);
        let operation = Operation::Convolution {
            stride: [stride, stride],
            padding,
            mode: PaddingMode::Zeros,
        };
        Ok(self.layer(name, from, operation))
    }

    /// Adds a linear layer, without its bias if `with_bias` is false.
    pub fn linear(&mut self, name: &str, stored: &str, with_bias: bool) -> Result<String> {
        let weight = self.published(&format!("{stored}.weight"))?;
        let bias = self.published(&format!("{stored}.bias"))?;
        let bias = if with_bias {
            bias
        } else {
            bias.f_zeros_like()?
        };
        self.insert(name, weight, bias);
        Ok(self.layer(name, &[], Operation::Linear))
    }

    /// max(x, 0) of the last layer.
    pub fn relu(&mut self, name: &str) -> String {
        self.layer(name, &[], Operation::Relu)
    }

    /// Largest values of square windows of the last layer.
    pub fn max_pool(&mut self, name: &str, size: i64, stride: i64, ceil: bool) -> String {
        let operation = Operation::MaxPool {
            size: [size; 2],
            stride: [stride; 2],
            padding: [0; 2],
            ceil,
        };
        self.layer(name, &[], operation)
    }

    /// Takes the weight of each channel for the perceptual distance out of `lpips`, where they are
    /// called `lin0.model.1.weight` and so on, and returns their name.
    pub fn channel_weights(
        &mut self,
        number: usize,
        lpips: &BTreeMap<String, Tensor>,
        layer: &str,
    ) -> Result<String> {
        let name = format!("lin{number}.weight");
        let stored = format!("lin{number}.model.1.weight");
        let weights = lpips
            .get(&stored)
            .with_context(|| format!("the LPIPS weights lack the tensor {stored}"))?;
        let channels = self.channels(layer);
        ensure!(
            channels.is_none_or(|channels| weights.numel() as i64 == channels),
            "the LPIPS weights are those of another network: {stored} has {} numbers, but layer \
             {layer} has {} channels",
            weights.numel(),
            channels.unwrap_or_default()
        );
        self.tensors.insert(name.clone(), weights.shallow_clone());
        Ok(name)
    }

    /// Channels of a layer's result, if they follow from a convolution right before it.
    fn channels(&self, layer: &str) -> Option<i64> {
        let place = self.layers.iter().position(|one| one.name == layer)?;
        let before = self.layers[..place].last()?;
        Some(self.tensors.get(&format!("{}.bias", before.name))?.size()[0])
    }

    fn published(&self, name: &str) -> Result<Tensor> {
        let tensor = self.published.get(name);
        let tensor = tensor.with_context(|| format!("it lacks the tensor {name}"))?;
        Ok(tensor.shallow_clone())
    }

    fn insert(&mut self, name: &str, weight: Tensor, bias: Tensor) {
        self.tensors.insert(format!("{name}.weight"), weight);
        self.tensors.insert(format!("{name}.bias"), bias);
    }
}
