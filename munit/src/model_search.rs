//! Finds the file that a model's name means: shipped and installed models are called by the name of
//! their file, with or without its extension.

use std::path::{Path, PathBuf};

const EXTENSION: &str = "safetensors";

/// The folders in which shipped and installed models lie, in order of precedence.
///
/// `binary` is the file of the plugin or program that looks, if it has one of its own;
/// `data_folders` are the user's and the system's, as the XDG base directory specification has
/// them.
pub fn folders(
    binary: Option<&Path>,
    data_folders: impl IntoIterator<Item = PathBuf>,
) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(folder) = binary.and_then(Path::parent) {
        folders.push(folder.join("models"));
        folders.push(folder.join("munitfilter/models"));
        // One that is run from the build folder, target/release.
        if let Some(project) = folder.ancestors().nth(2) {
            folders.push(project.join("models"));
        }
    }
    let data_folders = data_folders.into_iter();
    folders.extend(data_folders.map(|folder| folder.join("munitfilter/models")));
    folders
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
