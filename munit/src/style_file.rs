//! A person's own named styles, kept in a file next to the model, which stays as it is.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::model_file::{NamedStyle, check_style_name};
use crate::{Error, Result, StyleCode, atomic_file};

/// Files of styles are a few kilobytes; whatever is larger is something else.
const LARGEST_FILE: u64 = 16 << 20;

/// The file of a person's styles for the model at `model`: `NAME.styles.json` beside it.
pub fn path_for(model: &Path) -> PathBuf {
    model.with_extension("styles.json")
}

/// The styles in the file at `path`, a JSON object from names to objects of `domain` ("a" or "b")
/// and `code` (a list of `style_dim` numbers). A file that does not exist holds none.
///
/// # Errors
/// [`Error::Io`] for a file that cannot be read; [`Error::Style`] for one that is not of this form,
/// or whose codes have another length than `style_dim` or numbers that are not finite.
pub fn read(path: &Path, style_dim: usize) -> Result<BTreeMap<String, NamedStyle>> {
    let unreadable = |reason| Error::Io {
        path: path.to_owned(),
        action: "cannot read the styles",
        reason,
    };
    let metadata = match path.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        other => other.map_err(unreadable)?,
    };
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        return Err(Error::Style(format!(
            "{} is not a file of styles; move it away",
            path.display()
        )));
    }
    let text = std::fs::read(path).map_err(unreadable)?;
    let styles: BTreeMap<String, NamedStyle> = serde_json::from_slice(&text).map_err(|error| {
        Error::Style(format!(
            "{} is not a file of styles: {error}; mend it or move it away",
            path.display()
        ))
    })?;
    for (name, style) in &styles {
        StyleCode::new(style.code.clone(), style_dim)
            .map_err(|error| Error::Style(format!("{}: style {name}: {error}", path.display())))?;
    }
    Ok(styles)
}

/// Whether a style may be given this name: results in a style go into a file or folder of its name. Models
/// of other makers may have styles of other names.
///
/// # Errors
/// [`Error::Style`] for a name that a model could not hold or that cannot be a file's.
pub fn check_new_name(name: &str) -> Result<()> {
    check_style_name(name)?;
    match name.contains(['/', '\\']) || name.starts_with('.') {
        true => Err(Error::Style(format!(
            "a style cannot be called {name:?}, since translations are written under the names of their \
             styles; choose a name without / and \\ and without a dot at its beginning"
        ))),
        false => Ok(()),
    }
}

/// Adds a style to the file at `path`, or replaces the one of that name.
///
/// # Errors
/// As [`read`] and [`check_new_name`]; [`Error::Io`] if the file cannot be written, which leaves it as it
/// was.
pub fn add(path: &Path, name: &str, style: NamedStyle) -> Result<()> {
    check_new_name(name)?;
    let mut styles = read(path, style.code.len())?;
    styles.insert(name.to_owned(), style);
    write(path, &styles)
}

/// Replaces the styles in the file at `path`; with no styles, the file is removed.
///
/// # Errors
/// [`Error::Style`] for a name that a model could not hold; [`Error::Io`] if the file cannot be
/// written, which leaves it as it was.
pub fn write(path: &Path, styles: &BTreeMap<String, NamedStyle>) -> Result<()> {
    for name in styles.keys() {
        check_style_name(name)?;
    }
    if styles.is_empty() {
        return match std::fs::remove_file(path) {
            Err(reason) if reason.kind() != ErrorKind::NotFound => Err(Error::Io {
                path: path.to_owned(),
                action: "cannot remove",
                reason,
            }),
            _ => Ok(()),
        };
    }
    let text = serde_json::to_string_pretty(styles)
        .map_err(|error| Error::Style(format!("{}: {error}", path.display())))?;
    atomic_file::write(path, |file| writeln!(file, "{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Domain;

    fn style(first: f32) -> NamedStyle {
        NamedStyle {
            domain: Domain::B,
            code: vec![first, 0.25, -1.5],
        }
    }

    #[test]
    fn styles_are_added_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_for(&folder.path().join("prints.safetensors"));
        assert!(path.ends_with("prints.styles.json"));
        assert!(read(&path, 3).unwrap().is_empty());
        add(&path, "dusk", style(1.0)).unwrap();
        add(&path, "dawn", style(2.0)).unwrap();
        add(&path, "dusk", style(3.0)).unwrap();
        let styles = read(&path, 3).unwrap();
        assert_eq!(styles.len(), 2);
        assert_eq!(styles["dusk"], style(3.0));
        assert_eq!(styles["dawn"], style(2.0));
    }

    #[test]
    fn a_file_without_styles_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_for(&folder.path().join("prints.safetensors"));
        write(&path, &BTreeMap::new()).unwrap();
        add(&path, "dusk", style(1.0)).unwrap();
        write(&path, &BTreeMap::new()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_name_that_a_model_could_not_hold_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_for(&folder.path().join("prints.safetensors"));
        add(&path, "dusk", style(1.0)).unwrap();
        for name in ["", " dusk", "du\u{1b}sk", &"dusk".repeat(26)] {
            let error = add(&path, name, style(2.0)).unwrap_err().to_string();
            assert!(error.contains("name of a style"), "{name}: {error}");
        }
        assert_eq!(read(&path, 3).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_file_of_styles_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.styles.json");
        for text in [
            "",
            "[1, 2]",
            r#"{"a": {"domain": "b", "code": [1, 2]}}"#,
            r#"{"a": {"domain": "b", "code": [1, 2, 1e300]}}"#,
            r#"{"a": {"domain": "c", "code": [1, 2, 3]}}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            for error in [
                read(&path, 3).unwrap_err(),
                add(&path, "b", style(0.0)).unwrap_err(),
            ] {
                let error = error.to_string();
                assert!(error.contains("x.styles.json"), "{text}: {error}");
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
