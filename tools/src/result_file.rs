//! Where results go: found out before the work for them begins, and made when it is done.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

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

/// Keeps results in a folder from replacing what is there already.
///
/// # Errors
/// A sentence that names the first of `results` that is there.
pub fn refuse_existing(results: impl Iterator<Item = PathBuf>) -> Result<()> {
    let mut standing = results.filter(|result| result.exists());
    let Some(first) = standing.next() else {
        return Ok(());
    };
    let more = match standing.count() {
        0 => String::new(),
        1 => ", and one other result, too".to_owned(),
        more => format!(", and {more} other results, too"),
    };
    bail!(
        "{} is there already{more}; name another folder, or give --replace",
        first.display()
    )
}
