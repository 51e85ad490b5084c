//! The named styles of a model: those in its file, and those that a person keeps beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use munit::model_file::{ModelMetadata, NamedStyle};
use munit::runtime::{DeviceChoice, Precision, Translator};
use munit::{Direction, Domain, Family, Model, ModelFile, StyleCode, style_file};
use serde::Serialize;
use tch::Kind;

use crate::data::Source;
use crate::translate::picture::{encoded_style, open};
use crate::translate::refuse_to_replace;

/// The styles that a person has saved beside the model at `model`, which go before the model's own
/// of the same name.
///
/// # Errors
/// As [`style_file::read`].
pub fn own_styles(
    model: &Path,
    metadata: &ModelMetadata,
) -> munit::Result<BTreeMap<String, NamedStyle>> {
    let style_dim = metadata.architecture.style_dim() as usize;
    style_file::read(&style_file::path_for(model), style_dim)
}

/// A model's named styles, about to be changed: those beside it, or those in a new model file.
pub struct NamedStyles {
    path: PathBuf,
    model: Model,
    /// Number format of the weights in the file.
    kind: Kind,
    own: BTreeMap<String, NamedStyle>,
    new_model: Option<PathBuf>,
}

/// A named style as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The domain whose look it is.
    pub domain: Domain,
    /// Where it is kept.
    pub kept: Kept,
    /// Whether it stands in the place of the model's own style of this name.
    pub replaces: bool,
    /// Its code, `style_dim` numbers.
    pub code: Vec<f32>,
}

/// Where a named style is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// In the model file.
    Model,
    /// In the file of styles beside it.
    Beside,
}

/// Where the code of a new style comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// The mean of the styles of these pictures; a folder stands for all pictures in it.
    Pictures(Vec<PathBuf>),
    /// A draw from the prior.
    Seed(u64),
    /// The code itself.
    Code(Vec<f32>),
    /// The style of this name beside the model.
    Beside,
}

impl NamedStyles {
    /// Reads the model at `path` and the styles beside it. Changes go into the file beside it, or,
    /// with `new_model`, into a copy of the model that [`Self::save`] writes there.
    ///
    /// # Errors
    /// A model or file of styles that cannot be read; a UNIT model, which has no styles; a
    /// `new_model` that would replace the model.
    pub fn open(path: &Path, new_model: Option<&Path>) -> Result<Self> {
        if let Some(new_model) = new_model {
            refuse_to_replace(new_model, &[path])?;
        }
        let file = ModelFile::open(path)?;
        ensure!(
            file.metadata().architecture.family == Family::Munit,
            "{}: this is a UNIT model, which has no styles",
            path.display()
        );
        let kind = match file.precisions().as_slice() {
            &[(kind, _)] => kind,
            _ => Kind::Float,
        };
        Ok(Self {
            own: own_styles(path, file.metadata())?,
            model: file.into_model()?,
            kind,
            path: path.to_owned(),
            new_model: new_model.map(Path::to_owned),
        })
    }

    /// What the model says about itself, with all styles that can be asked for.
    pub fn metadata(&self) -> ModelMetadata {
        let mut metadata = self.model.metadata.clone();
        metadata.styles.extend(self.own.clone());
        metadata
    }

    /// The model, with the styles in its file.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// All styles that can be asked for, by name.
    pub fn list(&self) -> Vec<Listed> {
        let styles = self.metadata().styles.into_iter();
        styles
            .map(|(name, style)| {
                let beside = self.own.contains_key(&name);
                Listed {
                    kept: if beside { Kept::Beside } else { Kept::Model },
                    replaces: self.replaces(&name),
                    domain: style.domain,
                    code: style.code,
                    name,
                }
            })
            .collect()
    }

    /// Whether a style `name` that is kept beside the model stands in the place of the model's own one.
    pub fn replaces(&self, name: &str) -> bool {
        self.own.contains_key(name) && self.model.metadata.styles.contains_key(name)
    }

    /// The style of domain `domain` that `origin` stands for, and how many pictures it was taken
    /// from. `name` is the style's to be. Pictures of a folder that cannot be read are passed over
    /// and told to `skipped`.
    ///
    /// # Errors
    /// A picture that cannot be read, a code of another length, a domain that the model does not
    /// translate into.
    pub fn style(
        &self,
        name: &str,
        domain: Option<Domain>,
        origin: &Origin,
        skipped: impl FnMut(&anyhow::Error),
    ) -> Result<(NamedStyle, usize)> {
        let style_dim = self.model.metadata.architecture.style_dim() as usize;
        let direction = self.direction_into(domain)?;
        let (code, pictures) = match origin {
            Origin::Pictures(paths) => self.mean_style(direction, paths, skipped)?,
            Origin::Seed(seed) => (StyleCode::sample(*seed, style_dim), 0),
            Origin::Code(code) => (StyleCode::written(code.clone(), style_dim)?, 0),
            Origin::Beside => {
                let style = self.own.get(name).with_context(|| {
                    format!(
                        "{}: there is no style {name} to put into a model; name pictures, a seed \
                         or a code",
                        style_file::path_for(&self.path).display()
                    )
                })?;
                return Ok((style.clone(), 0));
            }
        };
        let style = NamedStyle {
            domain: direction.target(),
            code: code.values().to_vec(),
        };
        Ok((style, pictures))
    }

    /// Adds a style, or, with `replace`, takes it in the place of the one of its name.
    ///
    /// # Errors
    /// A name that is taken, without `replace`; one that [`style_file::check_new_name`] refuses.
    pub fn add(&mut self, name: &str, style: NamedStyle, replace: bool) -> Result<()> {
        style_file::check_new_name(name)?;
        let place = self.place();
        let styles = self.styles();
        ensure!(
            replace || !styles.contains_key(name),
            "{place}: there is a style {name} already; choose another name, or add --replace"
        );
        styles.insert(name.to_owned(), style);
        Ok(())
    }

    /// Gives a style another name.
    ///
    /// # Errors
    /// A style that is not there, a name that is taken, one that [`style_file::check_new_name`] refuses.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.check_present(from)?;
        style_file::check_new_name(to)?;
        let place = self.place();
        let styles = self.styles();
        ensure!(
            from == to || !styles.contains_key(to),
            "{place}: there is a style {to} already; delete it first, or choose another name"
        );
        if let Some(style) = styles.remove(from) {
            styles.insert(to.to_owned(), style);
        }
        Ok(())
    }

    /// Takes a style away.
    ///
    /// # Errors
    /// A style that is not there.
    pub fn delete(&mut self, name: &str) -> Result<()> {
        self.check_present(name)?;
        self.styles().remove(name);
        Ok(())
    }

    /// Writes the styles and returns the file that now holds them.
    ///
    /// # Errors
    /// A file that cannot be written, a name that no style may have.
    pub fn save(&self) -> Result<PathBuf> {
        match &self.new_model {
            Some(path) => {
                self.model.write(path, self.kind)?;
                Ok(path.clone())
            }
            None => {
                let path = style_file::path_for(&self.path);
                style_file::write(&path, &self.own).map_err(|error| match error {
                    munit::Error::Io { .. } => anyhow!(
                        "{error}; if the model's folder is not yours to write in, copy the model into one \
                         that is and name the copy, or let add --into-model FILE write a copy with the style"
                    ),
                    other => other.into(),
                })?;
                Ok(path)
            }
        }
    }

    fn styles(&mut self) -> &mut BTreeMap<String, NamedStyle> {
        match self.new_model {
            Some(_) => &mut self.model.metadata.styles,
            None => &mut self.own,
        }
    }

    /// The file that the styles in question are read from.
    fn place(&self) -> String {
        let path = match self.new_model {
            Some(_) => self.path.clone(),
            None => style_file::path_for(&self.path),
        };
        path.display().to_string()
    }

    fn check_present(&mut self, name: &str) -> Result<()> {
        let place = self.place();
        if self.styles().contains_key(name) {
            return Ok(());
        }
        let in_model = self.model.metadata.styles.contains_key(name);
        match self.new_model {
            None if in_model => bail!(
                "{name} is one of the model's own styles, and the model stays as it is; add \
                 --into-model FILE to write a new model"
            ),
            Some(_) if self.own.contains_key(name) => bail!(
                "{name} is kept beside the model and not in it; leave --into-model out to change it"
            ),
            _ => {
                let known: Vec<_> = self.styles().keys().map(String::as_str).collect();
                match known.as_slice() {
                    [] => bail!("{place}: there is no style {name}; it holds none"),
                    _ => bail!(
                        "{place}: there is no style {name}; it holds {}",
                        known.join(", ")
                    ),
                }
            }
        }
    }

    /// The direction into `domain`; without one, the first that the model has.
    fn direction_into(&self, domain: Option<Domain>) -> Result<Direction> {
        let present = &self.model.metadata.directions;
        let found = match domain {
            Some(domain) => present.iter().find(|one| one.target() == domain),
            None => present.first(),
        };
        found.copied().with_context(|| {
            format!(
                "{}: this model does not translate into domain {}; leave --domain out",
                self.path.display(),
                domain.map_or("", Domain::name)
            )
        })
    }

    fn mean_style(
        &self,
        direction: Direction,
        paths: &[PathBuf],
        mut skipped: impl FnMut(&anyhow::Error),
    ) -> Result<(StyleCode, usize)> {
        let mut translator =
            Translator::new(&self.model, direction, DeviceChoice::Auto, Precision::Auto)?;
        let style_dim = translator.style_dim();
        let mut sum = vec![0.0f64; style_dim];
        let mut count = 0;
        let mut add = |path: &Path| -> Result<()> {
            let style = encoded_style(&mut translator, &open(path)?)
                .with_context(|| format!("{}: cannot take its style", path.display()))?;
            for (sum, value) in sum.iter_mut().zip(style.values()) {
                *sum += f64::from(*value);
            }
            count += 1;
            Ok(())
        };
        for path in paths {
            if path.is_dir() {
                let (pictures, unreadable) = Source::Folder(path.clone()).candidates()?;
                for problem in unreadable {
                    skipped(&anyhow::anyhow!("{problem}"));
                }
                for picture in pictures {
                    if let Err(problem) = add(&picture) {
                        skipped(&problem);
                    }
                }
            } else {
                add(path)?;
            }
        }
        ensure!(count > 0, "no picture whose style could be taken");
        let mean = sum.iter().map(|sum| (sum / count as f64) as f32).collect();
        Ok((StyleCode::new(mean, style_dim)?, count))
    }
}
