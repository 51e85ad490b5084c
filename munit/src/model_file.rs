//! One `.safetensors` file per model, read with distrust and written atomically.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{Architecture, Direction, Domain, Result};

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
    /// What the model was trained on.
    pub data: String,
    /// Licence of the weights.
    pub licence: String,
    /// Shorter side, in pixels, of the pictures the model was trained on.
    pub recommended_size: Option<u32>,
    /// Named styles.
    pub styles: BTreeMap<String, NamedStyle>,
    /// Mean of the encoded styles of the training pictures of a domain.
    pub mean_styles: BTreeMap<Domain, Vec<f32>>,
}

/// A style code that was found worth a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedStyle {
    /// The domain whose look this is.
    pub domain: Domain,
    /// `style_dim` numbers.
    pub code: Vec<f32>,
}

/// The version that this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// A model in memory, on the CPU.
#[derive(Debug)]
pub struct Model {
    /// What the file says about itself.
    pub metadata: ModelMetadata,
    /// The generators' tensors by name: `a.` or `b.` followed by the name in the published state
    /// dict, for example `a.enc_content.model.0.conv.weight`. A one-direction model holds the
    /// source domain's content encoder and the target domain's style encoder, MLP and decoder.
    pub weights: BTreeMap<String, Tensor>,
}

impl Model {
    /// # Errors
    /// [`crate::Error::Io`] or [`crate::Error::ModelFile`], which name the file, the tensor and
    /// what was expected.
    pub fn read(path: &Path) -> Result<Self> {
        let _ = path;
        todo!()
    }

    /// Writes the model with its weights in `kind` (float, half or bfloat16): a temporary file
    /// beside `path`, synced, renamed.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the disk is full or the folder not writable.
    pub fn write(&self, path: &Path, kind: Kind) -> Result<()> {
        let _ = (path, kind);
        todo!()
    }

    /// Whether the weights for `direction` are there.
    pub fn has(&self, direction: Direction) -> bool {
        self.metadata.directions.contains(&direction)
    }
}
