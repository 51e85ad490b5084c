//! Where results go: found out before the work for them begins, and made when it is done.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Finds out before any work whether a file can be written to `path`, as far as names tell.
///
/// # Errors
/// A sentence, if a folder is there, or a file in the place of one of its folders.
pub fn check(path: &Path) -> Result<()> {
    ensure!(
        !path.is_dir(),
        "{}: this is a folder; give the name of a file",
        path.display()
    );
    let mut folders = path.ancestors().skip(1);
    if let Some(standing) = folders.find(|folder| folder.exists()) {
        ensure!(
            standing.is_dir(),
            "{}: {} is a file, not a folder; give another name",
            path.display(),
            standing.display()
        );
    }
    Ok(())
}

/// Makes the folder that `path` lies in, if it is missing.
///
/// # Errors
/// A sentence that names the folder.
pub fn make_folder(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot make this folder", folder.display())),
        _ => Ok(()),
    }
}
