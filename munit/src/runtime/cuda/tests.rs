//! The kernels on the CPU against the CPU's own path.

use half::bf16;
use tch::{Device, Kind, Tensor};

use super::*;
use crate::config::{Activation, Padding};
use crate::runtime::border::Border;
use crate::runtime::element::{Element, as_channels_last};
use crate::runtime::kernels::{self, Finish};
use crate::runtime::layers::{Map, Nonlinearity, Normalisation};
use crate::runtime::memory::Pool;

/// `[1, channels, height, width]`, channels last, with a mean far from zero in every channel.
fn random_map(kind: Kind, channels: i64, height: i64, width: i64) -> Tensor {
    let options = (Kind::Float, Device::Cpu);
    let mean = Tensor::linspace(-3.0, 5.0, channels, options).reshape([1, channels, 1, 1]);
    let map = Tensor::randn([1, channels, height, width], options) + mean;
    as_channels_last(&map.to_kind(kind)).unwrap()
}

fn vectors(channels: i64) -> (Tensor, Tensor) {
    let options = (Kind::Float, Device::Cpu);
    let scale = Tensor::rand([channels], options) + 0.5;
    (scale, Tensor::randn([channels], options))
}

/// Largest difference between what the kernels and what the CPU makes of the same map.
fn difference_of_finish<T: Element>(
    (channels, height, width): (i64, i64, i64),
    norm: &Normalisation,
    nonlinearity: Nonlinearity,
    phases: usize,
    border: Border,
    with_residual: bool,
) -> f64 {
    let kernels = Kernels::emulated(T::KIND);
    let group = (phases * phases) as i64;
    let output = random_map(T::KIND, channels * group, height, width);
    let (_, bias) = vectors(channels);
    let bias_of_phases = bias.repeat([group]).reshape([1, -1, 1, 1]);
    let biased = (output.to_kind(Kind::Float) + bias_of_phases).to_kind(T::KIND);
    let residual = with_residual.then(|| Map {
        tensor: random_map(
            T::KIND,
            channels,
            height * phases as i64 + 2 * border.width as i64,
            width * phases as i64 + 2 * border.width as i64,
        ),
        border: border.width as i64,
    });
    let finish = Finish {
        norm,
        nonlinearity,
        residual: residual.as_ref(),
        phases,
        border,
    };
    let expected = kernels::finish::<T>(
        &as_channels_last(&biased).unwrap(),
        None,
        &finish,
        &Pool::default(),
    );
    let scratch = Scratch::default();
    let found = || {
        let outputs = channels as usize;
        super::finish(
            kernels,
            &output,
            outputs,
            Some(&bias.repeat([group])),
            &finish,
            &scratch,
        )
    };
    let (first, second) = (found().unwrap(), found().unwrap());
    assert_eq!(first.border, border.width as i64);
    // The counters are left as they were found.
    assert_eq!(largest(&first.tensor, &second.tensor), 0.0);
    largest(&first.tensor, &expected.unwrap().tensor)
}

fn largest(left: &Tensor, right: &Tensor) -> f64 {
    assert_eq!(left.size(), right.size());
    let difference = left.to_kind(Kind::Float) - right.to_kind(Kind::Float);
    difference.abs().max().double_value(&[])
}

#[test]
fn maps_are_finished_as_on_the_cpu() {
    tch::manual_seed(1);
    let adaptive = |channels| {
        let (scale, shift) = vectors(channels);
        Normalisation::Adaptive { scale, shift }
    };
    let layer = |channels| {
        let (scale, shift) = vectors(channels);
        Normalisation::Layer { scale, shift }
    };
    let border = |width, padding| Border { width, padding };
    // Vectors of 16 bytes and single elements, several slabs of channels, several blocks of pixels.
    for (channels, height, width) in [
        (8, 9, 7),
        (64, 40, 33),
        (144, 5, 6),
        (5, 12, 11),
        (83, 4, 5),
    ] {
        let size = (channels, height, width);
        for (norm, nonlinearity, phases, border, residual) in [
            (
                Normalisation::Instance,
                Nonlinearity::Relu,
                1,
                border(1, Padding::Reflect),
                false,
            ),
            (
                adaptive(channels),
                Nonlinearity::Leaky(0.2),
                1,
                border(1, Padding::Replicate),
                true,
            ),
            (
                adaptive(channels),
                Nonlinearity::None,
                1,
                border(2, Padding::Zero),
                true,
            ),
            (
                layer(channels),
                Nonlinearity::Selu,
                2,
                border(3, Padding::Reflect),
                false,
            ),
            (
                layer(channels),
                Nonlinearity::Relu,
                1,
                border(0, Padding::Reflect),
                false,
            ),
            (
                Normalisation::None,
                Nonlinearity::Tanh,
                4,
                Border::NONE,
                false,
            ),
        ] {
            let single =
                difference_of_finish::<f32>(size, &norm, nonlinearity, phases, border, residual);
            assert!(single < 2e-5, "{size:?} {norm:?} {border:?}: {single}");
            let half =
                difference_of_finish::<bf16>(size, &norm, nonlinearity, phases, border, residual);
            // The CPU's path has rounded the sum of output and bias to bf16, too.
            assert!(half < 0.15, "{size:?} {norm:?} {border:?}: {half}");
        }
    }
}

#[test]
fn a_ring_is_corrected_as_with_libtorch() {
    tch::manual_seed(2);
    for (inputs, outputs, height, width) in [
        (16, 8, 9, 6),
        (136, 68, 5, 13),
        (10, 5, 2, 2),
        (3, 300, 3, 4),
    ] {
        let small = random_map(Kind::Float, inputs, height + 2, width + 2);
        let weight = Tensor::randn([outputs, inputs, 5, 5], (Kind::Float, Device::Cpu));
        let output = random_map(Kind::Float, 4 * outputs, height, width);
        let small = Map {
            tensor: small,
            border: 1,
        };
        let correct = |kernels| {
            let placement = crate::runtime::layers::Placement {
                device: Device::Cpu,
                // Not a format for which the CPU has kernels of its own.
                kind: if kernels { Kind::Float } else { Kind::Double },
                kernels: kernels.then(|| Kernels::emulated(Kind::Float)),
            };
            let kind = placement.kind;
            let ring = crate::runtime::ring::Ring::new(&weight, placement).unwrap();
            let mut corrected = as_channels_last(&output.to_kind(kind).copy()).unwrap();
            let small = Map {
                tensor: small.tensor.to_kind(kind),
                border: 1,
            };
            ring.correct(&mut corrected, None, &small).unwrap();
            corrected
        };
        let difference = largest(&correct(true), &correct(false));
        let scale = (inputs as f64).sqrt() * 10.0;
        assert!(
            difference < 1e-5 * scale,
            "{inputs} {outputs}: {difference}"
        );
    }
}

#[test]
fn activations_have_the_numbers_of_the_kernels() {
    for activation in [
        Activation::Relu,
        Activation::Lrelu,
        Activation::Selu,
        Activation::Tanh,
        Activation::None,
    ] {
        let nonlinearity = match activation {
            Activation::Relu => Nonlinearity::Relu,
            Activation::Lrelu => Nonlinearity::Leaky(0.2),
            Activation::Selu => Nonlinearity::Selu,
            Activation::Tanh => Nonlinearity::Tanh,
            _ => Nonlinearity::None,
        };
        let norm = Normalisation::Instance;
        let difference =
            difference_of_finish::<f32>((16, 6, 5), &norm, nonlinearity, 1, Border::NONE, false);
        assert!(difference < 1e-5, "{activation:?}: {difference}");
    }
}
