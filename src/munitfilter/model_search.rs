//! Finds the file that the property `model` means.

use std::path::{Path, PathBuf};

use munit::model_search;

use super::problem::{NAME_A_MODEL, Problem};

/// The model that is used when none is set; shipped with the plugin.
pub(super) const DEFAULT_MODEL: &str = "photo2illustration.safetensors";

/// The folders in which shipped and installed models lie, in order of precedence.
///
/// `plugin_file` is where the plugin was loaded from; none if it is linked into the program.
pub(super) fn model_folders(plugin_file: Option<&Path>) -> Vec<PathBuf> {
    let data_folders = std::iter::once(glib::user_data_dir()).chain(glib::system_data_dirs());
    model_search::folders(plugin_file, data_folders)
}

/// The presets that come with the models, in the file that GStreamer looks for.
const PRESETS: &str = "GstMunitFilter.prs";

/// Lets GStreamer find the presets that lie with the models, unless the application has presets of
/// its own: GStreamer knows only one such folder besides its own.
pub(super) fn offer_presets(folders: &[PathBuf]) {
    let folder = folders.iter().find(|folder| folder.join(PRESETS).is_file());
    let Some(folder) = folder.and_then(|folder| folder.canonicalize().ok()) else {
        return;
    };
    let Some(folder) = folder.to_str() else {
        return;
    };
    if gst::Preset::app_dir().is_none() {
        let _ = gst::Preset::set_app_dir(folder);
    }
}

/// The model file that `model` names: a path, or the name of a model in one of `folders`, with or
/// without its extension. None means the default model.
pub(super) fn find_model(model: Option<&str>, folders: &[PathBuf]) -> Result<PathBuf, Problem> {
    let name = model.unwrap_or(DEFAULT_MODEL);
    let path = Path::new(name);
    if model.is_some() && (!model_search::is_name(path) || path.is_file()) {
        return match path.metadata() {
            Ok(_) => Ok(path.to_owned()),
            Err(error) => Err(Problem {
                code: match error.kind() {
                    std::io::ErrorKind::NotFound => gst::ResourceError::NotFound,
                    _ => gst::ResourceError::OpenRead,
                },
                text: format!("{name}: cannot open the model: {error}. {NAME_A_MODEL}"),
            }),
        };
    }
    let looked_for = match model_search::find(path, folders) {
        Ok(found) => return Ok(found),
        // What is here is read, so that it is said why it is no model.
        Err(_) if model.is_some() && path.exists() => return Ok(path.to_owned()),
        Err(looked_for) => looked_for,
    };
    let looked_for: Vec<String> = looked_for
        .iter()
        .map(|candidate| candidate.display().to_string())
        .collect();
    let what = match model {
        Some(name) => format!("There is no model named {name}"),
        None => format!("No model is set and the default model, {DEFAULT_MODEL}, is not installed"),
    };
    Err(Problem {
        code: gst::ResourceError::NotFound,
        text: format!(
            "{what}; looked for {}. Set the property model to the path of a model file.",
            looked_for.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_and_the_default_are_looked_up_in_order() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [first.path().to_owned(), second.path().to_owned()];
        let later = second.path().join("sketch2garment.safetensors");
        std::fs::write(&later, b"").unwrap();
        for name in ["sketch2garment", "sketch2garment.safetensors"] {
            assert_eq!(find_model(Some(name), &folders).unwrap(), later);
        }
        let sooner = first.path().join("sketch2garment.safetensors");
        std::fs::write(&sooner, b"").unwrap();
        assert_eq!(
            find_model(Some("sketch2garment"), &folders).unwrap(),
            sooner
        );
        let default = second.path().join(DEFAULT_MODEL);
        std::fs::write(&default, b"").unwrap();
        assert_eq!(find_model(None, &folders).unwrap(), default);
    }

    #[test]
    fn a_folder_here_is_no_missing_model() {
        // Tests run in the folder of the project.
        let found = find_model(Some("models"), &[]);
        assert_eq!(found.unwrap(), Path::new("models"));
    }

    #[test]
    fn what_is_missing_says_where_it_was_looked_for() {
        let folders = [
            PathBuf::from("/nowhere/models"),
            PathBuf::from("/nowhere/else"),
        ];
        let problem = find_model(None, &folders).unwrap_err();
        assert_eq!(problem.code, gst::ResourceError::NotFound);
        assert!(
            problem
                .text
                .contains("/nowhere/models/photo2illustration.safetensors")
        );
        assert!(
            problem
                .text
                .contains("/nowhere/else/photo2illustration.safetensors")
        );
        let problem = find_model(Some("/nowhere/mine.safetensors"), &folders).unwrap_err();
        assert_eq!(problem.code, gst::ResourceError::NotFound);
        assert!(
            problem.text.starts_with("/nowhere/mine.safetensors"),
            "{}",
            problem.text
        );
    }
}
