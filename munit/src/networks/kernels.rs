//! Norm, activation and residual as one differentiable operation.
//!
//! On the CPU it is computed by [`super::normalise`], channels last, with a backward pass of its own;
//! libtorch's takes three times as long, mostly for moving maps about. Elsewhere, and where a gradient
//! is to be differentiated again, it is made of libtorch's operations.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;

use half::bf16;
use tch::{Device, Kind, TchError, Tensor};
use torch_sys::C_tensor;

use super::normalise::{self, EPSILON, Extent, Size, Statistics};
use crate::element::Element;
use crate::{Error, Result};

/// What a map is normalised by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Norm<'a> {
    /// Nothing.
    None,
    /// Each sample's each channel by its own mean and biased deviation.
    Instance,
    /// The same, then `· scale + shift`, both [B, C].
    Adaptive {
        scale: &'a Tensor,
        shift: &'a Tensor,
    },
    /// MUNIT's layer norm: `(x − mean) / (unbiased deviation + 1e-5)` over all of a sample, then a
    /// scale and a shift for each channel, both [C].
    Layer { gamma: &'a Tensor, beta: &'a Tensor },
}

/// `activation(norm(x)) + residual` for `x` [B, C, H, W]; negative values are multiplied by `slope`:
/// 0 is relu, 1 no activation at all.
///
/// # Errors
/// libtorch's, for instance shapes that do not match.
pub(super) fn normalise(
    x: &Tensor,
    norm: Norm,
    slope: f64,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    // In float16 the CPU is there to try what GPUs compute.
    let is_fused = x.device() == Device::Cpu && x.kind() != Kind::Half;
    if is_fused && !DIFFERENTIABLE_TWICE.get() {
        return fused(x, norm, slope, residual);
    }
    composed(x, norm, slope, residual)
}

thread_local! {
    static DIFFERENTIABLE_TWICE: Cell<bool> = const { Cell::new(false) };
}

/// Makes networks inside `compute` of operations whose gradients can be differentiated again, which
/// is slower.
pub fn differentiable_twice<T>(compute: impl FnOnce() -> T) -> T {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            DIFFERENTIABLE_TWICE.set(self.0);
        }
    }
    let _reset = Reset(DIFFERENTIABLE_TWICE.replace(true));
    compute()
}

fn fused(x: &Tensor, norm: Norm, slope: f64, residual: Option<&Tensor>) -> Result<Tensor> {
    let float = |parameter: &Tensor| parameter.f_to_kind(Kind::Float)?.f_contiguous();
    let (extent, parameters) = match norm {
        Norm::None => (Extent::Nothing, None),
        Norm::Instance => (Extent::Channel, None),
        Norm::Adaptive { scale, shift } => (Extent::Channel, Some((float(scale)?, float(shift)?))),
        Norm::Layer { gamma, beta } => (Extent::Sample, Some((float(gamma)?, float(beta)?))),
    };
    let (scale, shift) = parameters
        .as_ref()
        .map(|(scale, shift)| (scale, shift))
        .unzip();
    let optional = |tensor: Option<&Tensor>| tensor.map_or(ptr::null(), Tensor::as_ptr);
    let mut result = ptr::null_mut();
    // SAFETY: the tensors outlive the call; `result` is written where null is returned; the callbacks
    // keep the contracts that kernels.cpp states.
    let problem = unsafe {
        munit_normalise(
            x.as_ptr(),
            optional(scale),
            optional(shift),
            optional(residual),
            extent as i32,
            slope as f32,
            forward,
            backward,
            &raw mut result,
        )
    };
    check(problem)?;
    // SAFETY: a new tensor, which no one else refers to.
    Ok(unsafe { Tensor::from_ptr(result) })
}

/// The error that our C++ code has returned, if it has.
pub(super) fn check(problem: *mut c_char) -> Result<()> {
    if problem.is_null() {
        return Ok(());
    }
    // SAFETY: a C string made by `strdup`, freed once.
    let text = unsafe {
        let text = CStr::from_ptr(problem).to_string_lossy().into_owned();
        free(problem.cast());
        text
    };
    Err(Error::Torch(TchError::Torch(text)))
}

/// The same of libtorch's operations.
fn composed(x: &Tensor, norm: Norm, slope: f64, residual: Option<&Tensor>) -> Result<Tensor> {
    let normalised = match norm {
        Norm::None => x.shallow_clone(),
        Norm::Instance => instance_norm(x, None)?,
        Norm::Adaptive { scale, shift } => instance_norm(x, Some((scale, shift)))?,
        Norm::Layer { gamma, beta } => layer_norm(x, gamma, beta)?,
    };
    let activated = if slope == 1.0 {
        normalised
    } else if slope == 0.0 {
        normalised.f_relu()?
    } else {
        // tch's leaky_relu has a fixed slope of 0.01.
        normalised.f_maximum(&normalised.f_mul_scalar(slope)?)?
    };
    Ok(match residual {
        Some(residual) => activated.f_add(residual)?,
        None => activated,
    })
}

/// Every sample's every channel is a channel of one batch norm, whose backward pass is several
/// times faster than group norm's; a batch of one keeps its memory layout.
fn instance_norm(x: &Tensor, affine: Option<(&Tensor, &Tensor)>) -> Result<Tensor> {
    let size = x.size();
    let flat = match size[0] {
        1 => x.shallow_clone(),
        batch => x.f_reshape([1, batch * size[1], size[2], size[3]])?,
    };
    let flatten = |values: &Tensor| values.f_reshape([-1]);
    let (scale, shift) = match affine {
        Some((scale, shift)) => (Some(flatten(scale)?), Some(flatten(shift)?)),
        None => (None, None),
    };
    let normalised = flat.f_batch_norm(
        scale.as_ref(),
        shift.as_ref(),
        None,
        None,
        true,
        0.0,
        EPSILON,
        false,
    )?;
    Ok(normalised.f_reshape(size)?)
}

fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Result<Tensor> {
    let dimensions = [1i64, 2, 3];
    let wide = x.f_to_kind(Kind::Float)?;
    let (variance, mean) = wide.f_var_mean_correction(dimensions.as_slice(), 1, true)?;
    let inverse = variance.f_sqrt()?.f_add_scalar(EPSILON)?.f_reciprocal()?;
    // One scale and one shift for each channel: a single pass over the map.
    let scale = inverse.f_mul(&gamma.f_reshape([1, -1, 1, 1])?)?;
    let shift = beta.f_reshape([1, -1, 1, 1])?.f_sub(&mean.f_mul(&scale)?)?;
    let kind = x.kind();
    Ok(x.f_mul(&scale.f_to_kind(kind)?)?
        .f_add(&shift.f_to_kind(kind)?)?)
}

/// As in kernels.cpp.
#[repr(C)]
struct NormCall {
    is_bf16: i32,
    extent: i32,
    slope: f32,
    samples: i64,
    pixels: i64,
    channels: i64,
    scale: *const f32,
    shift: *const f32,
    parameters: i64,
    statistics: *mut Statistics,
}

type Forward =
    unsafe extern "C" fn(*const NormCall, *const c_void, *const c_void, *mut c_void) -> bool;
type Backward = unsafe extern "C" fn(
    *const NormCall,
    *const c_void,
    *const c_void,
    *mut c_void,
    *mut f32,
    *mut f32,
) -> bool;

unsafe extern "C" {
    fn munit_normalise(
        x: *const C_tensor,
        scale: *const C_tensor,
        shift: *const C_tensor,
        residual: *const C_tensor,
        extent: i32,
        slope: f32,
        forward: Forward,
        backward: Backward,
        result: *mut *mut C_tensor,
    ) -> *mut c_char;

    fn free(memory: *mut c_void);
}

impl NormCall {
    fn size(&self) -> Size {
        Size {
            samples: self.samples as usize,
            pixels: self.pixels as usize,
            channels: self.channels as usize,
        }
    }

    /// Elements of a map.
    fn length(&self) -> usize {
        (self.samples * self.pixels * self.channels) as usize
    }

    fn statistics_length(&self) -> usize {
        (self.samples * self.channels) as usize
    }

    /// # Safety
    /// The pointers lead to `parameters` numbers each, or are null.
    unsafe fn norm(&self) -> normalise::Norm<'_> {
        let parameters = |values: *const f32| {
            if values.is_null() {
                return &[][..];
            }
            // SAFETY: as the caller promises.
            unsafe { slice::from_raw_parts(values, self.parameters as usize) }
        };
        normalise::Norm {
            extent: match self.extent {
                0 => Extent::Nothing,
                1 => Extent::Channel,
                _ => Extent::Sample,
            },
            scale: parameters(self.scale),
            shift: parameters(self.shift),
            slope: self.slope,
        }
    }
}

/// Called by kernels.cpp.
///
/// # Safety
/// The maps are channels-last memory of `call`'s size and kind; `residual` may be null; `y` is not
/// otherwise referred to.
unsafe extern "C" fn forward(
    call: *const NormCall,
    x: *const c_void,
    residual: *const c_void,
    y: *mut c_void,
) -> bool {
    // No panic may cross into C++.
    catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: as the caller promises.
        unsafe {
            match (*call).is_bf16 {
                0 => forward_of::<f32>(&*call, x.cast(), residual.cast(), y.cast()),
                _ => forward_of::<bf16>(&*call, x.cast(), residual.cast(), y.cast()),
            }
        }
    }))
    .is_ok()
}

/// # Safety
/// As [`forward`].
unsafe fn forward_of<T: Element>(call: &NormCall, x: *const T, residual: *const T, y: *mut T) {
    let length = call.length();
    // SAFETY: as the caller promises.
    let (norm, x, residual, y, statistics) = unsafe {
        (
            call.norm(),
            slice::from_raw_parts(x, length),
            (!residual.is_null()).then(|| slice::from_raw_parts(residual, length)),
            slice::from_raw_parts_mut(y, length),
            slice::from_raw_parts_mut(call.statistics, call.statistics_length()),
        )
    };
    statistics.copy_from_slice(&normalise::forward(x, call.size(), &norm, residual, y));
}

/// Called by kernels.cpp.
///
/// # Safety
/// As [`forward`]; `dscale` and `dshift` lead to as many numbers as `scale` and `shift`.
unsafe extern "C" fn backward(
    call: *const NormCall,
    x: *const c_void,
    dy: *const c_void,
    dx: *mut c_void,
    dscale: *mut f32,
    dshift: *mut f32,
) -> bool {
    // No panic may cross into C++.
    catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: as the caller promises.
        unsafe {
            let call = &*call;
            let parameters = |values: *mut f32| match values.is_null() {
                true => &mut [][..],
                false => slice::from_raw_parts_mut(values, call.parameters as usize),
            };
            let gradients = [parameters(dscale), parameters(dshift)];
            match call.is_bf16 {
                0 => backward_of::<f32>(call, x.cast(), dy.cast(), dx.cast(), gradients),
                _ => backward_of::<bf16>(call, x.cast(), dy.cast(), dx.cast(), gradients),
            }
        }
    }))
    .is_ok()
}

/// # Safety
/// As [`backward`].
unsafe fn backward_of<T: Element>(
    call: &NormCall,
    x: *const T,
    dy: *const T,
    dx: *mut T,
    gradients: [&mut [f32]; 2],
) {
    let length = call.length();
    // SAFETY: as the caller promises.
    let (norm, x, dy, dx, statistics) = unsafe {
        (
            call.norm(),
            slice::from_raw_parts(x, length),
            slice::from_raw_parts(dy, length),
            slice::from_raw_parts_mut(dx, length),
            slice::from_raw_parts(call.statistics, call.statistics_length()),
        )
    };
    normalise::backward(x, dy, call.size(), &norm, statistics, dx, gradients);
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

    /// Numbers of all sizes around `mean`, the same each time.
    fn numbers(shape: &[i64], seed: f64, mean: f64) -> Tensor {
        let count: i64 = shape.iter().product();
        ((Tensor::arange(count, DOUBLE) * 12.9898 + seed).sin() * 43758.5453)
            .frac()
            .reshape(shape)
            + mean
    }

    fn channels_last(x: &Tensor) -> Tensor {
        x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
    }

    /// Every norm as its definition has it, in double precision.
    fn defined(x: &Tensor, norm: Norm, slope: f64, residual: Option<&Tensor>) -> Tensor {
        let planes = |parameter: &Tensor| match parameter.dim() {
            1 => parameter.view([1, -1, 1, 1]),
            _ => parameter.unsqueeze(-1).unsqueeze(-1),
        };
        let (scale, shift) = match norm {
            Norm::None | Norm::Instance => (Tensor::from(1.0), Tensor::from(0.0)),
            Norm::Adaptive { scale, shift } => (planes(scale), planes(shift)),
            Norm::Layer { gamma, beta } => (planes(gamma), planes(beta)),
        };
        let normalised = match norm {
            Norm::None => x.shallow_clone(),
            Norm::Instance | Norm::Adaptive { .. } => {
                let (variance, mean) = x.var_mean_correction(&[2i64, 3][..], 0, true);
                (x - mean) / (variance + 1e-5).sqrt()
            }
            Norm::Layer { .. } => {
                let (variance, mean) = x.var_mean_correction(&[1i64, 2, 3][..], 1, true);
                (x - mean) / (variance.sqrt() + 1e-5)
            }
        };
        let value = normalised * scale + shift;
        let factor = value.gt(0.0).to_kind(Kind::Double) * (1.0 - slope) + slope;
        let activated = value * factor;
        match residual {
            Some(residual) => activated + residual,
            None => activated,
        }
    }

    fn largest(x: &Tensor) -> f64 {
        x.abs().max().double_value(&[])
    }

    /// Asserts that result and gradients of the fused norm are those of its definition.
    fn check(kind: Kind, shape: [i64; 4], mean: f64, tolerance: f64) {
        let [batch, channels, ..] = shape;
        // What both are given is what `kind` can hold.
        let given = |tensor: Tensor| tensor.to_kind(kind).to_kind(Kind::Double);
        let leaf =
            |tensor: &Tensor, kind: Kind| tensor.to_kind(kind).copy().set_requires_grad(true);
        let x = given(numbers(&shape, 1.0, mean));
        let residual = given(numbers(&shape, 2.0, 0.0));
        let dy = given(numbers(&shape, 3.0, 0.1));
        let per_sample = [4.0, 5.0].map(|seed| numbers(&[batch, channels], seed, 0.3));
        let shared = [6.0, 7.0].map(|seed| numbers(&[channels], seed, 0.3));
        let ways = [(0.0, true), (0.2, false), (1.0, true), (1.0, false)];
        for (slope, adds) in ways {
            for parameters in [None, Some(&per_sample), Some(&shared)] {
                let run = |fused: bool| {
                    let (maps, floats) = match fused {
                        true => (kind, Kind::Float),
                        false => (Kind::Double, Kind::Double),
                    };
                    let x = leaf(&channels_last(&x), maps);
                    let residual = leaf(&channels_last(&residual), maps);
                    let parameters =
                        parameters.map(|pair| pair.each_ref().map(|p| leaf(p, floats)));
                    let norms = match &parameters {
                        None => vec![Norm::None, Norm::Instance],
                        Some([scale, shift]) if scale.dim() == 2 => {
                            vec![Norm::Adaptive { scale, shift }]
                        }
                        Some([gamma, beta]) => vec![Norm::Layer { gamma, beta }],
                    };
                    let mut found = vec![];
                    for norm in norms {
                        let residual = adds.then_some(&residual);
                        let y = match fused {
                            true => normalise(&x, norm, slope, residual).unwrap(),
                            false => defined(&x, norm, slope, residual),
                        };
                        assert_eq!(y.kind(), maps);
                        let mut inputs = vec![&x];
                        inputs.extend(residual);
                        inputs.extend(parameters.iter().flatten());
                        let loss = (y.to_kind(Kind::Double) * &dy).sum(Kind::Double);
                        found.push(y.to_kind(Kind::Double));
                        let gradients = Tensor::run_backward(&[loss], &inputs, false, false);
                        found.extend(gradients.iter().map(|found| found.to_kind(Kind::Double)));
                    }
                    found
                };
                for (number, (found, expected)) in run(true).iter().zip(run(false)).enumerate() {
                    let difference = largest(&(found - &expected));
                    let allowed = tolerance * (1.0 + largest(&expected));
                    assert!(
                        difference <= allowed,
                        "{kind:?} {shape:?}, mean {mean}, slope {slope}, {parameters:?}: number {number} \
                         differs by {difference}"
                    );
                }
            }
        }
    }

    #[test]
    fn fused_norms_are_their_definitions_and_so_are_their_gradients() {
        for threads in [1, 2] {
            tch::set_num_threads(threads);
            // Vectors of every length, with and without a rest; several samples; enough for threads.
            for shape in [[1, 3, 4, 5], [2, 16, 3, 3], [3, 83, 5, 7], [2, 32, 41, 30]] {
                check(Kind::Float, shape, 0.0, 2e-5);
                check(Kind::Float, shape, 100.0, 2e-3);
                check(Kind::BFloat16, shape, 0.0, 1e-2);
            }
        }
    }

    #[test]
    fn composed_norms_are_fused_ones_and_can_be_differentiated_twice() {
        let x = numbers(&[2, 5, 6, 7], 1.0, 0.5).to_kind(Kind::Float);
        let [gamma, beta] = [2.0, 3.0].map(|seed| numbers(&[5], seed, 0.0).to_kind(Kind::Float));
        let [scale, shift] =
            [4.0, 5.0].map(|seed| numbers(&[2, 5], seed, 0.0).to_kind(Kind::Float));
        for norm in [
            Norm::None,
            Norm::Instance,
            Norm::Adaptive {
                scale: &scale,
                shift: &shift,
            },
            Norm::Layer {
                gamma: &gamma,
                beta: &beta,
            },
        ] {
            for slope in [0.0, 0.2, 1.0] {
                let fused = normalise(&x, norm, slope, Some(&x)).unwrap();
                let x = x.copy().set_requires_grad(true);
                let composed =
                    differentiable_twice(|| normalise(&x, norm, slope, Some(&x))).unwrap();
                let difference = largest(&(&fused - &composed));
                assert!(difference < 1e-5, "{norm:?}: {difference}");

                let loss = composed.square().sum(Kind::Float);
                let gradient = Tensor::run_backward(&[loss], &[&x], true, true);
                gradient[0].square().sum(Kind::Float).backward();
                assert!(largest(&x.grad()) > 0.0, "{norm:?}");
            }
        }
        assert!(!DIFFERENTIABLE_TWICE.get());
    }

    #[test]
    fn a_failure_in_cpp_becomes_an_error() {
        let message = |x: &Tensor, norm: Norm, residual: Option<&Tensor>| {
            normalise(x, norm, 0.0, residual).unwrap_err().to_string()
        };
        let map = numbers(&[1, 4, 3, 3], 0.0, 0.0).to_kind(Kind::Float);
        let text = message(&map.view([4, 3, 3]), Norm::Instance, None);
        assert!(text.contains("4 dimensions, not 3"), "{text}");
        assert!(!text.contains('\n'), "{text}");
        let text = message(&map.to_kind(Kind::Double), Norm::None, None);
        assert!(text.contains("not of Double"), "{text}");
        let three = Tensor::ones([3], (Kind::Float, Device::Cpu));
        let (gamma, beta) = (&three, &three);
        let text = message(&map, Norm::Layer { gamma, beta }, None);
        assert!(text.contains("a float32 for each channel"), "{text}");
        let text = message(&map, Norm::None, Some(&map.narrow(2, 0, 2)));
        assert!(text.contains("residual"), "{text}");

        // A fused backward pass is no forward pass.
        let x = map.copy().set_requires_grad(true);
        let y = normalise(&x, Norm::Instance, 0.0, None).unwrap();
        let loss = y.square().sum(Kind::Float);
        let error = Tensor::f_run_backward(&[loss], &[&x], true, true).unwrap_err();
        assert!(
            error.to_string().contains("differentiated again"),
            "{error}"
        );
    }

    #[test]
    fn a_map_of_one_value_has_a_finite_gradient() {
        let x = Tensor::full([1, 2, 4, 4], 0.5, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let ones = Tensor::ones([2], (Kind::Float, Device::Cpu));
        let (gamma, beta) = (&ones, &ones);
        for norm in [Norm::Instance, Norm::Layer { gamma, beta }] {
            let y = normalise(&x, norm, 0.2, None).unwrap();
            let weights = numbers(&[1, 2, 4, 4], 1.0, 0.0).to_kind(Kind::Float);
            let loss = (y * weights).sum(Kind::Float);
            let gradient = &Tensor::run_backward(&[loss], &[&x], false, false)[0];
            assert_eq!(gradient.isfinite().all().int64_value(&[]), 1, "{norm:?}");
        }
    }
}
