//! Adam with L2 decay (arXiv 1412.6980), over parameters that lie in one stretch of memory.

use anyhow::{Result, bail};
use munit::networks::{AdamStep, Parameter, ScaledLoss, adam_step};
use tch::{Kind, Tensor};

use crate::loss_scale::{LossScale, is_finite};
use crate::ranks::{Averaging, Ranks};
use crate::unfinished::Unfinished;

/// Numerical guard beside the root of the mean squared gradient.
const EPSILON: f64 = 1e-8;

/// The trainable parameters of some networks, moved into one vector so that an update is a
/// handful of passes over memory whatever the number of layers; and the gradient of a loss, laid out
/// alike.
#[derive(Debug)]
pub struct FlatParameters {
    vector: Tensor,
    gradient: Tensor,
    parameters: Vec<Tensor>,
    spans: Vec<Span>,
    averaging: Option<Averaging>,
    unfinished: Unfinished,
}

/// Where a named parameter lies in the vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Name, unique among the networks.
    pub name: String,
    /// First element.
    pub start: i64,
    /// Its shape.
    pub shape: Vec<i64>,
}

impl Span {
    /// The parameter's part of `vector`, which shares its storage. Convolutions' weights, [outputs,
    /// inputs, height, width], lie there with their inputs last, which is how convolutions read them.
    ///
    /// # Errors
    /// If `vector` is too short.
    pub fn view(&self, vector: &Tensor) -> Result<Tensor> {
        let length = self.shape.iter().product::<i64>();
        let flat = vector.f_narrow(0, self.start, length)?;
        Ok(match *self.shape.as_slice() {
            [outputs, inputs, height, width] => flat
                .f_view([outputs, height, width, inputs])?
                .f_permute([0, 3, 1, 2])?,
            _ => flat.f_view(self.shape.as_slice())?,
        })
    }
}

impl FlatParameters {
    /// Moves the trainable ones of `parameters` (with unique names) into one vector, which the
    /// networks use from now on.
    ///
    /// # Errors
    /// libtorch's, for instance out of memory.
    pub fn new<'a>(parameters: impl IntoIterator<Item = (String, &'a Parameter)>) -> Result<Self> {
        let (mut tensors, spans) = lay_out(parameters, true);
        let vector = gather(&mut tensors, &spans)?;
        Ok(Self {
            gradient: tch::no_grad(|| vector.f_zeros_like())?,
            vector,
            parameters: tensors,
            spans,
            averaging: None,
            unfinished: Unfinished::new()?,
        })
    }

    /// All parameters, one after another: `[total]`, float32.
    pub fn vector(&self) -> &Tensor {
        &self.vector
    }

    /// What lies where.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The gradient that [`Self::differentiate`] found last: `[total]`, float32.
    pub fn gradient(&self) -> &Tensor {
        &self.gradient
    }

    /// Takes the mean of gradients over all `ranks` from now on.
    ///
    /// # Errors
    /// libtorch's.
    pub fn average_over(&mut self, ranks: &Ranks) -> Result<()> {
        let names: Vec<&str> = self.spans.iter().map(|span| &*span.name).collect();
        self.averaging = ranks.averaging(&self.parameters, &names)?;
        Ok(())
    }

    /// Computes the gradient of `loss`, a scalar. Neither zeroes nor adds to the gradients of single
    /// parameters, which would be two more operations for each of them.
    ///
    /// # Errors
    /// A parameter that the loss does not depend on; libtorch's.
    pub fn differentiate(&mut self, loss: &Tensor) -> Result<()> {
        let backward = || {
            let passed = Tensor::f_run_backward(&[loss], &self.parameters, false, false);
            if passed.is_err() {
                // The first failure is the one to tell of.
                let _ = self.unfinished.forget();
            }
            passed
        };
        let rows = match &self.averaging {
            Some(averaging) => averaging.average(|| {
                backward()?;
                Ok(())
            })?,
            None => self.rows(&backward()?)?,
        };
        let _same = tch::no_grad(|| Tensor::f_cat_out(&self.gradient, &rows, 0))?;
        Ok(())
    }

    /// `gradients` of all parameters, each as it lies in the vector.
    fn rows(&self, gradients: &[Tensor]) -> Result<Vec<Tensor>> {
        let idle = gradients.iter().position(|gradient| !gradient.defined());
        if let Some(span) = idle.and_then(|place| self.spans.get(place)) {
            bail!("the loss does not depend on parameter {}", span.name);
        }
        tch::no_grad(|| gradients.iter().map(flatten).collect())
    }

    /// Whether autograd is to follow these parameters.
    ///
    /// # Errors
    /// libtorch's.
    pub fn set_requires_grad(&self, requires_grad: bool) -> Result<()> {
        for parameter in &self.parameters {
            let _same = parameter.f_set_requires_grad(requires_grad)?;
        }
        Ok(())
    }
}

/// Adam's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamOptions {
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Whether losses are scaled, as float16 needs it.
    pub scales_loss: bool,
}

/// The optimiser's state; all of it can be saved.
#[derive(Debug)]
pub struct Adam {
    options: AdamOptions,
    /// Updates so far, those that were passed over left out: a scalar, float32, on the parameters' device.
    pub updates: Tensor,
    /// Decayed mean of the gradients, `[total]`.
    pub mean: Tensor,
    /// Decayed mean of their squares, `[total]`.
    pub mean_square: Tensor,
    /// The scale of losses, if they are scaled.
    pub loss_scale: Option<LossScale>,
}

impl Adam {
    /// The state before the first update of `parameters`.
    ///
    /// # Errors
    /// libtorch's, for instance out of memory.
    pub fn new(parameters: &FlatParameters, options: AdamOptions) -> Result<Self> {
        let device = parameters.vector.device();
        let loss_scale = options.scales_loss.then(|| LossScale::new(device));
        Ok(Self {
            options,
            updates: Tensor::f_zeros([0i64; 0], (Kind::Float, device))?,
            mean: parameters.vector.f_zeros_like()?,
            mean_square: parameters.vector.f_zeros_like()?,
            loss_scale: loss_scale.transpose()?,
        })
    }

    /// What is to be differentiated for [`Self::step`]: `loss`, scaled if losses are.
    ///
    /// # Errors
    /// libtorch's.
    pub fn scaled(&self, loss: &Tensor) -> Result<Tensor> {
        Ok(match &self.loss_scale {
            Some(loss_scale) => loss.f_mul(&loss_scale.scale()?)?,
            None => loss.shallow_clone(),
        })
    }

    /// One update of `parameters` from their gradient. That of a scaled loss is divided by the scale first,
    /// in the same pass over memory; nothing is updated, and the scale is halved, if it is not finite.
    ///
    /// # Errors
    /// libtorch's.
    pub fn step(&mut self, parameters: &FlatParameters, learning_rate: f64) -> Result<()> {
        let AdamOptions {
            beta1,
            beta2,
            weight_decay,
            ..
        } = self.options;
        let own = |tensor: &Tensor| [tensor.shallow_clone()];
        let (mean, mean_square) = (own(&self.mean), own(&self.mean_square));
        let update = |updates: &Tensor, scaled: Option<ScaledLoss>| {
            let step = AdamStep {
                updates,
                learning_rate,
                beta1,
                beta2,
                weight_decay,
                epsilon: EPSILON,
                scaled,
            };
            adam_step(
                &own(&parameters.vector),
                &own(&parameters.gradient),
                &mean,
                &mean_square,
                &step,
            )
        };
        tch::no_grad(|| {
            let Some(loss_scale) = &mut self.loss_scale else {
                let _same = self.updates.f_add_scalar_(1.0)?;
                return Ok(update(&self.updates, None)?);
            };
            let finite = is_finite(&parameters.gradient)?;
            let _same = self.updates.f_add_(&finite)?;
            let scaled = ScaledLoss {
                scale: &loss_scale.scale()?,
                overflow: &finite.f_rsub_scalar(1.0)?,
            };
            update(&self.updates, Some(scaled))?;
            loss_scale.update(&finite)
        })
    }
}

/// Those of `parameters` that are `trainable`, or not, and where they would lie in one vector.
pub(crate) fn lay_out<'a>(
    parameters: impl IntoIterator<Item = (String, &'a Parameter)>,
    trainable: bool,
) -> (Vec<Tensor>, Vec<Span>) {
    let mut start = 0;
    parameters
        .into_iter()
        .filter(|(_, parameter)| parameter.trainable == trainable)
        .map(|(name, Parameter { tensor, .. })| {
            let shape = tensor.size();
            let span = Span { name, start, shape };
            start += tensor.numel() as i64;
            (tensor.shallow_clone(), span)
        })
        .unzip()
}

/// Moves `tensors` into one vector, in which `spans` says where they lie, and which whoever refers to them
/// uses from now on.
pub(crate) fn gather(tensors: &mut [Tensor], spans: &[Span]) -> Result<Tensor> {
    tch::no_grad(|| {
        let flattened = tensors
            .iter()
            .map(|tensor| flatten(&tensor.f_detach()?))
            .collect::<Result<Vec<_>>>()?;
        let vector = Tensor::f_cat(&flattened, 0)?;
        for (tensor, span) in tensors.iter_mut().zip(spans) {
            tensor.f_set_data(&span.view(&vector)?)?;
        }
        Ok(vector)
    })
}

/// The numbers of `tensor` in the order in which [`Span::view`] has them in memory.
pub(crate) fn flatten(tensor: &Tensor) -> Result<Tensor> {
    Ok(match tensor.dim() {
        4 => tensor.f_permute([0, 2, 3, 1])?.f_reshape([-1])?,
        _ => tensor.f_reshape([-1])?,
    })
}

/// Names must be unique across the networks of one optimiser: `gen_a.…`, `dis_b.…`.
pub fn named<'a>(
    network: &'a str,
    parameters: &'a [Parameter],
) -> impl Iterator<Item = (String, &'a Parameter)> {
    parameters
        .iter()
        .map(move |parameter| (format!("{network}.{}", parameter.name), parameter))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn parameter(name: &str, values: &[f32], trainable: bool) -> Parameter {
        Parameter {
            name: name.to_owned(),
            tensor: Tensor::from_slice(values).set_requires_grad(trainable),
            trainable,
        }
    }

    #[test]
    fn two_updates_are_those_computed_by_hand() {
        let parameters = [parameter("weight", &[1.0], true)];
        let mut flat = FlatParameters::new(named("net", &parameters)).unwrap();
        let options = AdamOptions {
            beta1: 0.5,
            beta2: 0.75,
            weight_decay: 0.5,
            scales_loss: false,
        };
        let mut adam = Adam::new(&flat, options).unwrap();
        let mut update = |slope: f64| {
            let loss = (&parameters[0].tensor * slope).sum(Kind::Float);
            flat.differentiate(&loss).unwrap();
            adam.step(&flat, 0.1).unwrap();
            (
                parameters[0].tensor.double_value(&[0]),
                adam.mean.double_value(&[0]),
                adam.mean_square.double_value(&[0]),
            )
        };
        let assert_close = |found: (f64, f64, f64), expected: (f64, f64, f64)| {
            for (found, expected) in [
                (found.0, expected.0),
                (found.1, expected.1),
                (found.2, expected.2),
            ] {
                assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
            }
        };
        // Gradient 2 + 0.5 · 1 = 2.5; both corrected means give a step of 0.1 · 2.5 / 2.5.
        assert_close(update(2.0), (0.9, 1.25, 1.5625));
        // Gradient −1 + 0.5 · 0.9 = −0.55; means 0.35 / 0.75 and 1.2475 / 0.4375.
        assert_close(update(-1.0), (0.872_363_98, 0.35, 1.2475));
    }

    #[test]
    fn updates_of_scaled_losses_are_those_of_plain_ones_and_overflows_are_passed_over() {
        let run = |scales_loss: bool| {
            let parameters = [parameter("weight", &[1.0, -3.0], true)];
            let mut flat = FlatParameters::new(named("net", &parameters)).unwrap();
            let options = AdamOptions {
                beta1: 0.5,
                beta2: 0.75,
                weight_decay: 0.5,
                scales_loss,
            };
            let mut adam = Adam::new(&flat, options).unwrap();
            let mut update = |slope: f64| {
                let loss = (&parameters[0].tensor * slope).square().sum(Kind::Float);
                let loss = adam.scaled(&loss).unwrap();
                flat.differentiate(&loss).unwrap();
                adam.step(&flat, 0.1).unwrap();
                let state = [flat.vector(), &adam.mean, &adam.mean_square];
                let scale = adam.loss_scale.as_ref().map(|scale| scale.state.copy());
                let updates = adam.updates.double_value(&[]);
                (
                    state.map(Tensor::copy),
                    flat.gradient().copy(),
                    updates,
                    scale,
                )
            };
            let steps = [0.1, 0.7].map(&mut update);
            // Only a plain run would take these.
            let lost = scales_loss.then(|| [f64::INFINITY, f64::NAN].map(&mut update));
            (steps, lost, update(0.3))
        };
        let (plain, _, last) = run(false);
        let (scaled, lost, last_scaled) = run(true);
        // Scales are powers of two, which round nothing.
        for (plain, scaled) in plain
            .iter()
            .chain([&last])
            .zip(scaled.iter().chain([&last_scaled]))
        {
            assert_eq!(
                (&plain.0, &plain.1, plain.2),
                (&scaled.0, &scaled.1, scaled.2)
            );
            assert!(plain.3.is_none());
        }
        for (lost, scale) in lost.unwrap().iter().zip([32768.0_f32, 16384.0]) {
            assert_eq!((&lost.0, lost.2), (&scaled[1].0, 2.0));
            assert_eq!(lost.3, Some(Tensor::from_slice(&[scale, 0.0])));
        }
        assert_eq!(last_scaled.3, Some(Tensor::from_slice(&[16384.0_f32, 1.0])));
    }

    #[test]
    fn networks_share_the_vector_and_buffers_stay_out_of_it() {
        let parameters = [
            parameter("first", &[1.0, 2.0], true),
            parameter("statistics", &[9.0], false),
            parameter("second", &[3.0], true),
        ];
        let flat = FlatParameters::new(named("net", &parameters)).unwrap();
        assert_eq!(flat.vector(), &Tensor::from_slice(&[1.0_f32, 2.0, 3.0]));
        let names: Vec<&str> = flat.spans().iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["net.first", "net.second"]);

        let _ = flat.vector().shallow_clone().fill_(5.0);
        assert_eq!(parameters[0].tensor.double_value(&[1]), 5.0);
        assert_eq!(parameters[2].tensor.double_value(&[0]), 5.0);
        assert_eq!(parameters[1].tensor.double_value(&[0]), 9.0);
    }

    #[test]
    fn weights_of_convolutions_keep_their_values_and_lie_inputs_last() {
        let values: Vec<f32> = (0..2 * 3 * 4 * 5).map(|value| value as f32).collect();
        let mut weight = parameter("weight", &values, false);
        let original = weight.tensor.view([2, 3, 4, 5]);
        weight.tensor = original.copy().set_requires_grad(true);
        weight.trainable = true;
        let parameters = [weight];
        let flat = FlatParameters::new(named("net", &parameters)).unwrap();
        let weight = &parameters[0].tensor;
        assert_eq!(weight, &original);
        assert_eq!(weight.stride(), [60, 1, 15, 3]);
        let view = flat.spans()[0].view(flat.vector()).unwrap();
        assert_eq!(view.data_ptr(), weight.data_ptr());
        assert_eq!(view, original);
    }

    #[test]
    fn the_gradient_lies_as_the_parameters_do_and_is_that_of_the_last_loss_alone() {
        let mut weight = parameter("weight", &[0.0], false);
        weight.tensor = Tensor::zeros([2, 3, 4, 5], (Kind::Float, Device::Cpu));
        let _ = weight.tensor.set_requires_grad(true);
        weight.trainable = true;
        let parameters = [parameter("bias", &[1.0, 2.0], true), weight];
        let mut flat = FlatParameters::new(named("net", &parameters)).unwrap();
        let slopes = Tensor::arange(120, (Kind::Float, Device::Cpu)).view([2, 3, 4, 5]);
        for _ in 0..2 {
            let loss = (&parameters[1].tensor * &slopes).sum(Kind::Float)
                + parameters[0].tensor.square().sum(Kind::Float);
            flat.differentiate(&loss).unwrap();
            let [bias, weight] = [0, 1].map(|place| flat.spans()[place].view(flat.gradient()));
            assert_eq!(bias.unwrap(), Tensor::from_slice(&[2.0_f32, 4.0]));
            assert_eq!(weight.unwrap(), slopes);
        }
    }

    #[test]
    fn a_parameter_without_gradient_is_named() {
        let parameters = [
            parameter("busy", &[1.0], true),
            parameter("idle", &[1.0], true),
        ];
        let mut flat = FlatParameters::new(named("net", &parameters)).unwrap();
        let loss = parameters[0].tensor.sum(Kind::Float);
        let error = flat.differentiate(&loss).unwrap_err().to_string();
        assert!(error.contains("net.idle"), "{error}");
        let zeros = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        flat.set_requires_grad(false).unwrap();
        assert!(!(&parameters[0].tensor * zeros).requires_grad());
    }
}
