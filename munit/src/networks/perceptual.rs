//! The domain-invariant perceptual distance on VGG-16 features.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::parameters::{Parameter, ParameterStore, Role};
use crate::Result;

/// VGG-16 (arXiv 1409.1556) up to relu5_3.
#[derive(Debug)]
pub struct Vgg16 {
    /// Weight and bias of each convolution, stage by stage.
    stages: Vec<Vec<(Tensor, Tensor)>>,
    mean: Tensor,
}

/// Output channels and number of convolutions of each stage.
const STAGES: [(i64, i64); 5] = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)];

/// Max pooling separates the first four stages. The published loss has none between the fourth
/// and the fifth, unlike the classifier.
const POOLED_STAGES: usize = 4;

/// ImageNet's mean colour in the order in which the Caffe weights expect it: blue, green, red.
const MEAN_BGR: [f32; 3] = [103.939, 116.779, 123.680];

impl Vgg16 {
    /// From tensors named `conv1_1.weight`, `conv1_1.bias`, …, `conv5_3.bias`, for pictures in
    /// blue, green, red order with values 0..255 minus the mean (the Caffe weights).
    ///
    /// # Errors
    /// [`crate::Error::Weights`] for a tensor that is missing or of another shape.
    pub fn new(tensors: &BTreeMap<String, Tensor>, device: Device) -> Result<Self> {
        let store = ParameterStore::given(tensors, "", device);
        let root = store.root();
        let mut inputs = 3;
        let mut stages = Vec::new();
        for (stage, (outputs, count)) in (1..).zip(STAGES) {
            let mut convolutions = Vec::new();
            for number in 1..=count {
                let scope = root.enter(format!("conv{stage}_{number}"));
                let fan_in = 9 * inputs;
                convolutions.push((
                    scope.make("weight", &[outputs, inputs, 3, 3], Role::Weight)?,
                    scope.make("bias", &[outputs], Role::Bias { fan_in })?,
                ));
                inputs = outputs;
            }
            stages.push(convolutions);
        }
        for Parameter { tensor, .. } in store.into_parameters() {
            let _frozen = tensor.f_set_requires_grad(false)?;
        }
        let mean = Tensor::f_from_slice(&MEAN_BGR)?
            .f_reshape([1, 3, 1, 1])?
            .f_to_device(device)?;
        Ok(Self { stages, mean })
    }

    /// Activations of relu5_3, [B, 512, H/8, W/8], for `picture` [B, 3 or 1, H, W] in [-1, 1].
    ///
    /// # Errors
    /// libtorch's, for instance a picture smaller than 8 pixels.
    pub fn features(&self, picture: &Tensor) -> Result<Tensor> {
        let picture = picture.f_to_kind(Kind::Float)?;
        let colour = match picture.size()[1] {
            1 => picture.f_expand([-1, 3, -1, -1], false)?,
            _ => picture.f_flip([1])?,
        }
        .f_contiguous()?;
        let mut x = colour
            .f_add_scalar(1.0)?
            .f_mul_scalar(127.5)?
            .f_sub(&self.mean)?;
        for (index, stage) in self.stages.iter().enumerate() {
            if index > 0 && index < POOLED_STAGES {
                x = x.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)?;
            }
            for (weight, bias) in stage {
                x = x
                    .f_conv2d(weight, Some(bias), [1, 1], [1, 1], [1, 1], 1)?
                    .f_relu()?;
            }
        }
        Ok(x)
    }

    /// Mean squared difference of the instance-normalised features of two pictures, a scalar:
    /// blind to what differs between domains and sharp on what a picture shows
    /// (arXiv 1804.04732, section 5.1).
    ///
    /// # Errors
    /// As [`Self::features`].
    pub fn distance(&self, picture: &Tensor, target: &Tensor) -> Result<Tensor> {
        let normalise = |features: Tensor| {
            let none = None::<Tensor>;
            features.f_instance_norm(
                none.as_ref(),
                none.as_ref(),
                none.as_ref(),
                none.as_ref(),
                true,
                0.1,
                1e-5,
                false,
            )
        };
        let difference =
            normalise(self.features(picture)?)?.f_sub(&normalise(self.features(target)?)?)?;
        Ok(difference.f_square()?.f_mean(Kind::Float)?)
    }
}
