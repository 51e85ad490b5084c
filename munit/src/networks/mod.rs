//! The networks, exact and differentiable: they reproduce the published ones number by number.

mod adam;
mod blocks;
mod discriminator;
mod generator;
mod gradient_hook;
mod kernels;
mod normalise;
mod parameters;
mod perceptual;

pub use adam::{AdamStep, ScaledLoss, adam_step};
pub use discriminator::Discriminator;
pub use generator::Generator;
pub use gradient_hook::on_gradient;
pub use kernels::differentiable_twice;
pub use parameters::{Initialisation, Parameter, ParameterStore, Scope, normal};
pub use perceptual::Vgg16;
