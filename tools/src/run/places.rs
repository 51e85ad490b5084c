//! Where the files lie that a run works on, from whatever folder it is gone on with.

use std::path::{self, PathBuf};

use anyhow::{Context, Result, anyhow};
use munit::model_search;

use crate::config::TrainConfig;

/// `config` with absolute paths in the place of those that are relative to the current folder.
///
/// # Errors
/// A current folder that is not there any more.
pub(super) fn with_absolute_paths(mut config: TrainConfig) -> Result<TrainConfig> {
    // What is no file here is the name of a model that is found by its name anywhere.
    let from_model = config.from_model.as_ref();
    let is_name = from_model.is_some_and(|model| model_search::is_name(model) && !model.is_file());
    let from_model = Some(&mut config.from_model).filter(|_| !is_name);
    let paths: [&mut Option<PathBuf>; 10] = [
        &mut config.data_root,
        &mut config.data_folder_train_a,
        &mut config.data_list_train_a,
        &mut config.data_folder_test_a,
        &mut config.data_list_test_a,
        &mut config.data_folder_train_b,
        &mut config.data_list_train_b,
        &mut config.data_folder_test_b,
        &mut config.data_list_test_b,
        &mut config.vgg_weights,
    ];
    for path in paths.into_iter().chain(from_model).flatten() {
        *path = path::absolute(&path)
            .with_context(|| format!("{}: cannot tell where this is", path.display()))?;
    }
    Ok(config)
}

/// What keeps pictures from being found; of a run that goes on also what to do if they have moved.
pub(super) fn pictures_not_found(problem: anyhow::Error, resume: bool) -> anyhow::Error {
    match resume {
        false => problem,
        true => anyhow!(
            "{problem:#}; if the pictures of the run have moved, say where they are with --data, or with \
             --a and --b"
        ),
    }
}
