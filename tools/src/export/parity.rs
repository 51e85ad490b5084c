//! Whether a file that was written for other programs computes what the model computes.

use anyhow::{Context, Result, ensure};
use munit::config::Direction;
use munit::runtime::DeviceChoice;
use munit::{Model, StyleCode};
use serde::Serialize;
use tch::{CModule, IValue, Kind, Tensor};

use super::network::takes_style;
use super::onnx::OnnxNetwork;
use crate::translate::ExactTranslator;

/// Width and height of the picture that is compared: no multiples of any stride. Networks that need
/// more get more.
const SIDES: [i64; 2] = [83, 69];
/// Largest difference, for values in [-1, 1], that sums in another order explain.
const TOLERANCE: f64 = 2e-3;
/// The style that is compared.
const SEED: u64 = 1;

/// What was compared, and how far apart it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parity {
    /// Which direction.
    pub direction: Direction,
    /// Width and height of the picture, in pixels.
    pub size: [i64; 2],
    /// What computed the file's network.
    pub with: &'static str,
    /// Largest difference between its translation and the model's, both in fp32 with the weights as
    /// they are in the file, for values in [-1, 1].
    pub largest_difference: f64,
    /// Root mean square of the difference.
    pub root_mean_square: f64,
}

/// Compares a TorchScript archive with `model`, in every direction.
///
/// # Errors
/// An archive that cannot be loaded, or that computes something else.
pub fn check_torchscript(model: &Model, mut archive: &[u8], kind: Kind) -> Result<Vec<Parity>> {
    let mut module =
        CModule::load_data(&mut archive).context("libtorch cannot load the archive")?;
    module.f_set_eval()?;
    module.to(tch::Device::Cpu, Kind::Float, false);
    let directions = model.metadata.directions.iter();
    directions
        .map(|direction| {
            compare(model, *direction, kind, "libtorch", |picture, style| {
                let inputs = [Some(picture), style];
                let inputs: Vec<IValue> = inputs
                    .into_iter()
                    .flatten()
                    .map(|tensor| IValue::Tensor(tensor.shallow_clone()))
                    .collect();
                match module.method_is(direction.name(), &inputs)? {
                    IValue::Tensor(translated) => Ok(translated),
                    other => anyhow::bail!("it gives {other:?}"),
                }
            })
        })
        .collect()
}

/// Compares `direction` in an ONNX file with `model`.
///
/// # Errors
/// A file that is not sound, or that computes something else.
pub fn check_onnx(model: &Model, direction: Direction, file: &[u8], kind: Kind) -> Result<Parity> {
    let network = OnnxNetwork::parse(file)?;
    let with = "its operators, computed with libtorch";
    compare(model, direction, kind, with, |picture, style| {
        network.translate(picture, style)
    })
}

fn compare(
    model: &Model,
    direction: Direction,
    kind: Kind,
    with: &'static str,
    translate: impl Fn(&Tensor, Option<&Tensor>) -> Result<Tensor>,
) -> Result<Parity> {
    let _no_grad = tch::no_grad_guard();
    let architecture = &model.metadata.architecture;
    let least = architecture.smallest_side() + 1;
    let size = SIDES.map(|side| side.max(least));
    let picture = test_picture(architecture.channels(direction.source()), size)?;
    let style_dim = architecture.style_dim() as usize;
    let style = StyleCode::sample(SEED, style_dim);
    let expected = ExactTranslator::new(&rounded(model, kind)?, direction, DeviceChoice::Auto)?
        .translate(&picture, &style)?;
    let code = match takes_style(architecture) {
        true => Some(Tensor::f_from_slice(style.values())?.f_reshape([1, -1])?),
        false => None,
    };
    let found = translate(&picture, code.as_ref())
        .with_context(|| format!("it cannot translate {}", direction.name()))?;
    ensure!(
        found.size() == expected.size(),
        "it makes pictures of shape {:?} where the model makes {:?}",
        found.size(),
        expected.size()
    );
    let difference = found.f_sub(&expected)?.f_to_kind(Kind::Double)?;
    let parity = Parity {
        direction,
        size,
        with,
        largest_difference: difference.f_abs()?.f_max()?.f_double_value(&[])?,
        root_mean_square: difference
            .f_square()?
            .f_mean(Kind::Double)?
            .f_sqrt()?
            .f_double_value(&[])?,
    };
    ensure!(
        parity.largest_difference < TOLERANCE,
        "its translation would differ from the model's by {:.2e}, which must not be; it is not \
         written",
        parity.largest_difference
    );
    Ok(parity)
}

/// The model with the weights that a file of `kind` holds.
fn rounded(model: &Model, kind: Kind) -> Result<Model> {
    let weights = model
        .weights
        .iter()
        .map(|(name, tensor)| {
            let stored = tensor.f_to_kind(kind)?;
            Ok((name.clone(), stored.f_to_kind(Kind::Float)?))
        })
        .collect::<Result<_>>()?;
    Ok(Model {
        metadata: model.metadata.clone(),
        weights,
    })
}

/// Waves of several lengths, [1, C, H, W] in [-1, 1].
fn test_picture(channels: i64, [width, height]: [i64; 2]) -> Result<Tensor> {
    let float = (Kind::Float, tch::Device::Cpu);
    let x = Tensor::f_arange(width, float)?.f_reshape([1, 1, 1, -1])?;
    let y = Tensor::f_arange(height, float)?.f_reshape([1, 1, -1, 1])?;
    let channel = Tensor::f_arange(channels, float)?.f_reshape([1, -1, 1, 1])?;
    let slow = x.f_mul_scalar(0.11)?.f_add(&y.f_mul_scalar(0.07)?)?;
    let slow = slow.f_add(&channel)?.f_sin()?;
    let fast = x.f_mul(&y)?.f_mul_scalar(0.013)?.f_add(&channel)?.f_cos()?;
    Ok(slow.f_add(&fast)?.f_div_scalar(2.0)?)
}
