//! Files that are there whole or not at all.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes `bytes` to `path`: a temporary file in the same folder, synced, renamed. A reader sees
/// the old content or the new, never a part.
///
/// # Errors
/// A sentence that names the file, if the folder is missing or not writable or the disk full.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// As [`write()`], with content that `fill` produces.
///
/// # Errors
/// As [`write()`], and whatever `fill` returns.
pub fn write_with(
    path: &Path,
    fill: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>,
) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    tempfile::Builder::new()
        .prefix(".munit-")
        // A temporary file is private by default; a result is as readable as any other file.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .and_then(|mut temporary| {
            fill(temporary.as_file_mut())?;
            temporary.as_file().sync_all()?;
            temporary.persist(path).map_err(|error| error.error)?;
            Ok(())
        })
        .with_context(|| format!("{}: cannot write", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        write(&path, b"old and long").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.csv");
        write(&path, b"old").unwrap();
        let error = write_with(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(std::io::ErrorKind::StorageFull.into())
        });
        assert!(format!("{:#}", error.unwrap_err()).contains("losses.csv: cannot write"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("missing/a.png"), b"").unwrap_err();
        assert!(error.to_string().contains("missing/a.png"), "{error}");
    }

    #[test]
    fn a_result_is_as_readable_as_any_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, plain) = (folder.path().join("result"), folder.path().join("plain"));
        write(&path, b"").unwrap();
        std::fs::write(&plain, b"").unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
    }
}
