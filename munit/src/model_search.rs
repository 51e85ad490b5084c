//! Finds the file that a model's name means: shipped and installed models are called by the name of
//! their file, with or without its extension.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const EXTENSION: &str = "safetensors";

/// The folders in which shipped and installed models lie, in order of precedence.
///
/// `binary` is the file of the plugin or program that looks, if it has one of its own: models lie
/// beside it, in the project that it was built in, or under the prefix that it was installed under.
/// `data_folders` are the user's and the system's, as the XDG base directory specification has
/// them.
pub fn folders(
    binary: Option<&Path>,
    data_folders: impl IntoIterator<Item = PathBuf>,
) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut data_folders: Vec<PathBuf> = data_folders.into_iter().collect();
    if let Some(folder) = binary.and_then(Path::parent) {
        folders.push(folder.join("models"));
        folders.push(folder.join("munitfilter/models"));
        // One that is run from the build folder, target/release.
        if let Some(project) = folder.ancestors().nth(2) {
            folders.push(project.join("models"));
        }
        // Where it is one of the data folders, it keeps its place among them.
        if let Some(share) = prefix(folder).map(|prefix| prefix.join("share"))
            && !data_folders.contains(&share)
        {
            data_folders.insert(0, share);
        }
    }
    let data_folders = data_folders.into_iter();
    folders.extend(data_folders.map(|folder| folder.join("munitfilter/models")));
    folders
}

/// The prefix under which what lies in `folder` is installed: PREFIX/bin, PREFIX/lib/gstreamer-1.0
/// or PREFIX/lib/x86_64-linux-gnu/gstreamer-1.0.
fn prefix(folder: &Path) -> Option<&Path> {
    let is_installed_to = |folder: &&Path| {
        let name = folder.file_name().and_then(OsStr::to_str);
        matches!(name, Some("bin" | "lib" | "lib64"))
    };
    folder
        .ancestors()
        .take(3)
        .find(is_installed_to)
        .and_then(Path::parent)
}

/// Whether `model` can be a name, and not only a path.
pub fn is_name(model: &Path) -> bool {
    let text = model.as_os_str().as_encoded_bytes();
    model.file_name() == Some(model.as_os_str()) && !text.contains(&b'/')
}

/// The file of the model `name` in the first of `folders` that has it.
///
/// # Errors
/// The files that were looked for.
pub fn find(name: &Path, folders: &[PathBuf]) -> Result<PathBuf, Vec<PathBuf>> {
    let mut file_name = name.as_os_str().to_owned();
    if name.extension().is_none_or(|known| known != EXTENSION) {
        file_name.push(".");
        file_name.push(EXTENSION);
    }
    let candidates: Vec<PathBuf> = folders
        .iter()
        .map(|folder| folder.join(&file_name))
        .collect();
    let found = candidates.iter().find(|candidate| candidate.is_file());
    found.cloned().ok_or(candidates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_in_the_build_folder_finds_the_shipped_models() {
        let binary = Path::new("/project/target/release/libgstmunit.so");
        let data = [PathBuf::from("/home/me/.local/share")];
        assert_eq!(
            folders(Some(binary), data),
            [
                "/project/target/release/models",
                "/project/target/release/munitfilter/models",
                "/project/models",
                "/home/me/.local/share/munitfilter/models",
            ]
            .map(PathBuf::from)
        );
    }

    #[test]
    fn what_is_installed_under_a_prefix_finds_the_models_there() {
        let prefix = tempfile::tempdir().unwrap();
        let model = prefix
            .path()
            .join("share/munitfilter/models/mine.safetensors");
        std::fs::create_dir_all(model.parent().unwrap()).unwrap();
        std::fs::write(&model, b"").unwrap();
        for binary in [
            "bin/munit-translate",
            "lib/gstreamer-1.0/libgstmunit.so",
            "lib64/gstreamer-1.0/libgstmunit.so",
            "lib/x86_64-linux-gnu/gstreamer-1.0/libgstmunit.so",
        ] {
            let folders = folders(Some(&prefix.path().join(binary)), []);
            let found = find(Path::new("mine"), &folders);
            assert_eq!(found, Ok(model.clone()), "{binary}");
        }
    }

    #[test]
    fn a_prefix_comes_before_the_data_folders_unless_it_is_among_them() {
        let data = ["/home/me/.local/share", "/usr/local/share/", "/usr/share/"];
        let in_data = |binary: &str| {
            let mut folders = folders(Some(Path::new(binary)), data.map(PathBuf::from));
            folders.retain(|folder| folder.ends_with("share/munitfilter/models"));
            folders
        };
        let [mine, local, system] = data.map(|data| Path::new(data).join("munitfilter/models"));
        let usual = [mine.clone(), local.clone(), system.clone()];
        assert_eq!(in_data("/usr/bin/munit-info"), usual);
        assert_eq!(
            in_data("/opt/bin/munit-info"),
            [
                PathBuf::from("/opt/share/munitfilter/models"),
                mine,
                local,
                system
            ]
        );
    }

    #[test]
    fn the_first_folder_that_has_the_model_wins() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [first.path().to_owned(), second.path().to_owned()];
        let [sooner, later] = folders
            .clone()
            .map(|folder| folder.join("sketch2.5d.safetensors"));
        let names = ["sketch2.5d", "sketch2.5d.safetensors"].map(Path::new);
        for name in names {
            let looked_for = find(name, &folders).unwrap_err();
            assert_eq!(looked_for, [sooner.clone(), later.clone()]);
        }
        std::fs::write(&later, b"").unwrap();
        for name in names {
            assert_eq!(find(name, &folders), Ok(later.clone()));
        }
        std::fs::write(&sooner, b"").unwrap();
        for name in names {
            assert_eq!(find(name, &folders), Ok(sooner.clone()));
        }
    }

    #[test]
    fn paths_are_no_names() {
        for (model, expected) in [
            ("photo2illustration", true),
            ("photo 2.safetensors", true),
            ("./photo2illustration", false),
            ("models/photo2illustration", false),
            ("models/", false),
            ("/photo2illustration", false),
            ("..", false),
            ("", false),
        ] {
            assert_eq!(is_name(Path::new(model)), expected, "{model:?}");
        }
    }
}
