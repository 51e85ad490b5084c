//! The models that the programs know by name, which are those that munitfilter knows.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use munit::model_search;

/// The file that `model` means: a path, or the name of a shipped or installed model.
///
/// # Errors
/// A sentence that says where a model of this name was looked for. Whether a file that is named by
/// its path is there is left to be found out by reading it.
pub fn find_model(model: &Path) -> Result<PathBuf> {
    if !model_search::is_name(model) || model.is_file() {
        return Ok(model.to_owned());
    }
    let program = env::current_exe().ok();
    let folders = model_search::folders(program.as_deref(), data_folders());
    let looked_for = match model_search::find(model, &folders) {
        Ok(found) => return Ok(found),
        // What is here is read, so that it is said why it is no model.
        Err(_) if model.exists() => return Ok(model.to_owned()),
        Err(looked_for) => looked_for,
    };
    let looked_for: Vec<_> = looked_for
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    bail!(
        "{0}: there is no such file and no model named {0}; looked for {1}. Give the path of a \
         model file",
        model.display(),
        looked_for.join(", ")
    )
}

/// The user's folder and the system's (XDG base directory specification).
fn data_folders() -> Vec<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let user = set("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".local/share")));
    let system =
        set("XDG_DATA_DIRS").unwrap_or_else(|| OsString::from("/usr/local/share:/usr/share"));
    user.into_iter().chain(env::split_paths(&system)).collect()
}
