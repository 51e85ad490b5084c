//! Files that are either the old one or the new one, whatever happens while they are written.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::{Error, Result};

/// Begin and end of a temporary file's name.
const PREFIX: &str = ".munit-";
const SUFFIX: &str = ".part";

/// Replaces the file at `path` by what `fill` writes: into a temporary file in the same folder,
/// which is synced and then renamed. A crash or a full disk leaves the old file as it was.
///
/// # Errors
/// [`Error::Io`] names `path` and carries the system's reason.
pub fn write(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> std::io::Result<()>,
) -> Result<()> {
    replace(path, fill).map_err(|reason| Error::Io {
        path: path.to_owned(),
        action: "cannot write",
        reason,
    })
}

/// Removes from `folder` what [`write()`] leaves there when its process is killed. Nobody may be
/// writing into the folder meanwhile.
///
/// # Errors
/// [`Error::Io`] for a folder that cannot be read and a file that cannot be removed.
pub fn remove_leftovers(folder: &Path) -> Result<()> {
    let remove = || {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            if name.starts_with(PREFIX.as_bytes()) && name.ends_with(SUFFIX.as_bytes()) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    remove().map_err(|reason| Error::Io {
        path: folder.to_owned(),
        action: "cannot clear away unfinished files",
        reason,
    })
}

fn replace(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let temporary = new_file_beside(folder)?;
    let mut writer = BufWriter::with_capacity(1 << 20, temporary.as_file());
    fill(&mut writer)?;
    writer.flush()?;
    drop(writer);
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    // The rename itself lives in the folder.
    File::open(folder)?.sync_all()
}

fn new_file_beside(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    // The builder's own way of making the file would make it private and put its name into errors;
    // this one becomes an ordinary file under the user's umask, and nobody knows its name.
    tempfile::Builder::new()
        .prefix(PREFIX)
        .suffix(SUFFIX)
        .make_in(folder, |path| File::create_new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, |file| file.write_all(b"old")).unwrap();
        let error = write(&path, |file| {
            file.write_all(b"new")?;
            Err(std::io::Error::other("no space"))
        })
        .unwrap_err();
        assert!(
            error.to_string().ends_with("cannot write: no space"),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["file"]);
        write(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn an_error_says_its_cause_once_and_no_temporary_name() {
        let error = write(Path::new("/proc/model"), |_| Ok(())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/proc/model: cannot write: No such file or directory (os error 2)"
        );
        assert!(std::error::Error::source(&error).is_none());
    }

    #[test]
    fn only_leftovers_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (_, unfinished) = new_file_beside(folder.path()).unwrap().keep().unwrap();
        std::fs::write(folder.path().join("file.part"), b"x").unwrap();
        assert!(unfinished.exists());
        remove_leftovers(folder.path()).unwrap();
        assert_eq!(names(folder.path()), ["file.part"]);
    }

    #[test]
    #[cfg(unix)]
    fn permissions_are_those_of_an_ordinary_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, ordinary) = (folder.path().join("ours"), folder.path().join("ordinary"));
        write(&ours, |file| file.write_all(b"x")).unwrap();
        std::fs::write(&ordinary, b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&ordinary));
    }
}
