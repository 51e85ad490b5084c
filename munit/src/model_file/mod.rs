//! One `.safetensors` file per model, read with distrust and written atomically.
//!
//! The safetensors map `__metadata__` has three entries:
//!
//! | key | value |
//! |---|---|
//! | `format` | `pt`, by which other programs know how to lay the tensors out |
//! | `munit` | [`ModelMetadata`] as JSON |
//! | `munit.crc32c` | CRC-32C, eight hexadecimal digits, of the value of `munit` followed by all tensor bytes in file order |

mod check;
mod read;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{Architecture, Direction, Domain, Error, Result, StyleCode};

pub use read::ModelFile;

/// What a model file says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelMetadata {
    /// Version of this format; see [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Shapes of the generators.
    pub architecture: Architecture,
    /// Directions whose weights are present.
    pub directions: Vec<Direction>,
    /// What pictures of domain a show, in a word or two.
    pub domain_a: String,
    /// What pictures of domain b show, in a word or two.
    pub domain_b: String,
    /// Generator updates that the weights have seen; 0 if unknown.
    pub iterations: u64,
    /// What the model was trained on; empty if unknown.
    pub data: String,
    /// Licence of the weights; empty if unknown.
    pub licence: String,
    /// Shorter side, in pixels, of the pictures the model was trained on.
    pub recommended_size: Option<u32>,
    /// Named styles.
    pub styles: BTreeMap<String, NamedStyle>,
    /// Mean of the encoded styles of the training pictures of a domain.
    pub mean_styles: BTreeMap<Domain, Vec<f32>>,
}

impl ModelMetadata {
    /// What pictures of `domain` show.
    pub fn domain_name(&self, domain: Domain) -> &str {
        match domain {
            Domain::A => &self.domain_a,
            Domain::B => &self.domain_b,
        }
    }

    /// The style to translate with when nobody asks for one: the named style [`DEFAULT_STYLE`] of
    /// the target domain, else that domain's mean style, else zeros, the prior's mean.
    pub fn default_style(&self, direction: Direction) -> StyleCode {
        let style_dim = self.architecture.style_dim() as usize;
        let domain = direction.target();
        let named = self
            .styles
            .get(DEFAULT_STYLE)
            .filter(|style| style.domain == domain)
            .map(|style| &style.code);
        named
            .or_else(|| self.mean_styles.get(&domain))
            .and_then(|code| StyleCode::new(code.clone(), style_dim).ok())
            .unwrap_or_else(|| StyleCode::zeros(style_dim))
    }

    /// The named styles to show side by side or one after another: those of the domain that
    /// `direction` translates into, by name, each code once. Where several names mean one code,
    /// [`DEFAULT_STYLE`] gives way to the others, and of these the first stays.
    pub fn distinct_styles(&self, direction: Direction) -> Vec<(&str, &[f32])> {
        let mut styles: Vec<(&str, &[f32])> = self
            .styles
            .iter()
            .filter(|(_, style)| style.domain == direction.target())
            .map(|(name, style)| (name.as_str(), style.code.as_slice()))
            .collect();
        styles.sort_by_key(|(name, _)| *name == DEFAULT_STYLE);
        let mut distinct: Vec<(&str, &[f32])> = Vec::new();
        for style in styles {
            if !distinct.iter().any(|(_, code)| *code == style.1) {
                distinct.push(style);
            }
        }
        distinct.sort_by_key(|(name, _)| *name);
        distinct
    }
}

/// Name of the style that a model shows when nobody asks for one.
pub const DEFAULT_STYLE: &str = "default";

/// A style code that was found worth a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedStyle {
    /// The domain whose look this is.
    pub domain: Domain,
    /// `style_dim` numbers.
    pub code: Vec<f32>,
}

/// Whether a style may have this name: one to 100 characters, none of them a control character, no
/// space at either end.
///
/// # Errors
/// [`Error::Style`] says what is wrong with it.
pub fn check_style_name(name: &str) -> Result<()> {
    check::name("name of a style", name).map_err(Error::Style)
}

/// Whether a model file may call `domain` so, under the same conditions.
///
/// # Errors
/// [`Error::Config`] says what is wrong with it.
pub fn check_domain_name(domain: Domain, name: &str) -> Result<()> {
    check::name(&format!("name of domain {}", domain.name()), name).map_err(Error::Config)
}

/// Whether a model file may hold this text, `what` it is being "licence", say: at most 65536 bytes, and
/// no control characters but line feeds and tabulators.
///
/// # Errors
/// [`Error::Config`] says what is wrong with it.
pub fn check_text(what: &str, text: &str) -> Result<()> {
    check::text(what, text).map_err(Error::Config)
}

/// The version that this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT_KEY: &str = "format";
const METADATA_KEY: &str = "munit";
const CHECKSUM_KEY: &str = "munit.crc32c";

/// A model in memory, on the CPU.
#[derive(Debug)]
pub struct Model {
    /// What the file says about itself.
    pub metadata: ModelMetadata,
    /// The generators' tensors by name: `a.` or `b.` followed by the name in the published state
    /// dict, for example `a.enc_content.model.0.conv.weight`. A one-direction model holds the
    /// source domain's content encoder and the target domain's style encoder, MLP and decoder.
    /// [`crate::layout::expected_weights`] lists them.
    pub weights: BTreeMap<String, Tensor>,
}

impl Model {
    /// Reads a model, after everything about it has been checked; see [`ModelFile::open`]. The
    /// weights are fp32, whatever their precision in the file.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::ModelFile`], which name the file, the tensor and what was
    /// expected.
    pub fn read(path: &Path) -> Result<Self> {
        ModelFile::open(path)?.into_model()
    }

    /// Writes the model with its weights in `kind` (float, half or bfloat16): a temporary file
    /// beside `path`, synced, renamed. The same model gives the same bytes.
    ///
    /// # Errors
    /// [`Error::ModelFile`] if the weights are not those of the architecture, not finite or too
    /// large for `kind`, or if the metadata could not be read back; [`Error::Io`] if the disk is
    /// full or the folder not writable.
    pub fn write(&self, path: &Path, kind: Kind) -> Result<()> {
        write::write(self, path, kind)
    }

    /// Whether the weights for `direction` are there.
    pub fn has(&self, direction: Direction) -> bool {
        self.metadata.directions.contains(&direction)
    }

    /// The same model for `directions` only: without the weights, named styles and mean styles
    /// that these do not need.
    ///
    /// # Errors
    /// [`Error::Config`] if `directions` is empty or the model lacks one of them.
    pub fn restrict(mut self, directions: &[Direction]) -> Result<Self> {
        if directions.is_empty() {
            return Err(Error::Config(
                "a model needs at least one direction".to_owned(),
            ));
        }
        if let Some(missing) = directions.iter().find(|direction| !self.has(**direction)) {
            return Err(Error::Config(format!(
                "the model has no weights for direction {}",
                missing.name()
            )));
        }
        let needed = crate::layout::expected_weights(&self.metadata.architecture, directions);
        let is_target = |domain: Domain| directions.iter().any(|one| one.target() == domain);
        self.weights.retain(|name, _| needed.contains_key(name));
        self.metadata
            .styles
            .retain(|_, style| is_target(style.domain));
        self.metadata
            .mean_styles
            .retain(|domain, _| is_target(*domain));
        self.metadata
            .directions
            .retain(|one| directions.contains(one));
        Ok(self)
    }
}

/// What goes wrong with a model file at `path`, as an error.
fn problem(path: &Path, problem: impl Into<String>) -> Error {
    Error::ModelFile {
        path: path.to_owned(),
        problem: problem.into(),
    }
}
