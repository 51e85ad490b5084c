//! What went wrong in a run, in words for the person who started it.

use anyhow::anyhow;
use tch::TchError;

use crate::config::TrainConfig;

/// libtorch's failures without their back traces, and with advice where memory ran out.
pub(super) fn explain(error: anyhow::Error, config: &TrainConfig) -> anyhow::Error {
    let error = match error.downcast::<TchError>() {
        Ok(error) => munit::Error::from(error).into(),
        Err(error) => error,
    };
    let out_of_memory = error
        .downcast_ref::<munit::Error>()
        .is_some_and(munit::Error::is_out_of_memory);
    if !out_of_memory {
        return error;
    }
    anyhow!(
        "there is not enough memory; lower --batch-size ({}), --size ({}x{}) or --dim ({}) ({error})",
        config.batch_size,
        config.crop_image_width,
        config.crop_image_height,
        config.generator.dim
    )
}
