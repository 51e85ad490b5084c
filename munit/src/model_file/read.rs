//! Reading with distrust: the header first, then the sizes it promises, then the weights.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata as Header, TensorInfo};
use tch::{Kind, Tensor};

use super::{CHECKSUM_KEY, FORMAT_VERSION, METADATA_KEY, Model, ModelMetadata, check, problem};
use crate::{Error, Result};

/// Bytes of a safetensors file before its header: the header's length.
const LENGTH_BYTES: u64 = 8;
/// The largest architecture has about 2,000 tensors, some 200 kB of header; the rest is left to
/// styles and descriptions.
const LONGEST_HEADER: u64 = 16 << 20;

/// An opened model file in which everything has been checked and no tensor built yet.
#[derive(Debug)]
pub struct ModelFile {
    path: PathBuf,
    metadata: ModelMetadata,
    tensors: Vec<Stored>,
    /// All tensors' bytes. Read rather than mapped: what was checked is what is used, even when
    /// another program writes to the file.
    data: Vec<u8>,
}

/// Where a tensor lies in the data.
#[derive(Debug)]
struct Stored {
    name: String,
    kind: Kind,
    shape: Vec<i64>,
    bytes: std::ops::Range<usize>,
}

impl ModelFile {
    /// Opens and checks a model file: header, format version, architecture, names, shapes and
    /// precision of every tensor, total size, checksum, and that every weight is finite.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::ModelFile`] says what is wrong with
    /// it, which tensor is concerned, and what was expected.
    pub fn open(path: &Path) -> Result<Self> {
        let mut source = Source::open(path)?;
        let header = source.header()?;
        let (metadata, checksum) = source.metadata(&header)?;
        let tensors = stored_tensors(&header).map_err(|text| problem(path, text))?;
        let found = tensors
            .iter()
            .map(|tensor| (tensor.name.as_str(), tensor.shape.clone()))
            .collect();
        check::tensors(&metadata, &found).map_err(|text| problem(path, text))?;
        let data = source.data(header.data_len())?;
        let file = Self {
            path: path.to_owned(),
            metadata,
            tensors,
            data,
        };
        file.check_data(checksum)?;
        Ok(file)
    }

    /// What the file says about itself.
    pub fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    /// How many weights there are.
    pub fn parameters(&self) -> u64 {
        self.tensors
            .iter()
            .map(|tensor| tensor.shape.iter().product::<i64>() as u64)
            .sum()
    }

    /// The precisions in which weights are stored, float, half or bfloat16, each with the number
    /// of weights. Files that this package writes have one.
    pub fn precisions(&self) -> Vec<(Kind, u64)> {
        let mut precisions: Vec<(Kind, u64)> = Vec::new();
        for tensor in &self.tensors {
            let count = tensor.shape.iter().product::<i64>() as u64;
            match precisions.iter_mut().find(|(kind, _)| *kind == tensor.kind) {
                Some((_, total)) => *total += count,
                None => precisions.push((tensor.kind, count)),
            }
        }
        precisions
    }

    /// Builds the tensors, in fp32 on the CPU.
    ///
    /// # Errors
    /// [`Error::Torch`] if the memory does not suffice.
    pub fn into_model(self) -> Result<Model> {
        let mut weights = BTreeMap::new();
        for tensor in &self.tensors {
            let bytes = &self.data[tensor.bytes.clone()];
            let value = Tensor::f_from_data_size(bytes, &tensor.shape, tensor.kind)?;
            weights.insert(tensor.name.clone(), value.f_to_kind(Kind::Float)?);
        }
        Ok(Model {
            metadata: self.metadata,
            weights,
        })
    }

    fn check_data(&self, checksum: Checksum) -> Result<()> {
        let found = crc32c::crc32c_append(checksum.of_metadata, &self.data);
        if found != checksum.expected {
            return Err(problem(
                &self.path,
                format!(
                    "is damaged: its checksum is {found:08x}, but its header says {:08x}; \
                     copy it again",
                    checksum.expected
                ),
            ));
        }
        for tensor in &self.tensors {
            let bytes = &self.data[tensor.bytes.clone()];
            if let Some(position) = check::first_not_finite(bytes, tensor.kind) {
                return Err(problem(
                    &self.path,
                    format!(
                        "element {position} of tensor {} is not finite; \
                         the model's training must have diverged",
                        tensor.name
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// The checksum that the header promises, and its part that the metadata makes up.
struct Checksum {
    expected: u32,
    of_metadata: u32,
}

/// An open file of known length, and how to complain about it.
struct Source<'path> {
    path: &'path Path,
    file: File,
    length: u64,
}

/// A model in `folder`: the one that a run leaves there, else the first.
fn model_in(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let paths = entries.map(|entry| entry.path());
    let models = paths.filter(|path| {
        path.extension()
            .is_some_and(|ending| ending == "safetensors")
            && path.is_file()
    });
    models.min_by_key(|path| {
        let is_of_run = path.file_stem().is_some_and(|stem| stem == "model");
        (!is_of_run, path.clone())
    })
}

impl<'path> Source<'path> {
    fn open(path: &'path Path) -> Result<Self> {
        let unreadable = |reason| Error::Io {
            path: path.to_owned(),
            action: "cannot read",
            reason,
        };
        // Asked before opening, which would wait for the other end of a pipe.
        let kind = std::fs::metadata(path).map_err(unreadable)?.file_type();
        if kind.is_dir() {
            let model = model_in(path).map_or(String::new(), |model| {
                format!(", for example {} in it", model.display())
            });
            return Err(problem(
                path,
                format!("is a folder; a model is one .safetensors file{model}"),
            ));
        }
        if !kind.is_file() {
            return Err(problem(
                path,
                "is not an ordinary file; a model is one .safetensors file",
            ));
        }
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        Ok(Self { path, file, length })
    }

    /// Reads the next `count` bytes, which the file's length has been found to hold.
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let reserved = usize::try_from(count).map(|count| bytes.try_reserve_exact(count));
        if !matches!(reserved, Ok(Ok(()))) {
            return Err(self.problem(format!("there is no memory for its {count} bytes")));
        }
        let read = (&mut self.file).take(count).read_to_end(&mut bytes);
        match read {
            Ok(read) if read as u64 == count => Ok(bytes),
            Ok(_) => Err(self.problem("was shortened while it was read")),
            Err(reason) => Err(Error::Io {
                path: self.path.to_owned(),
                action: "cannot read",
                reason,
            }),
        }
    }

    /// The safetensors header, with the guarantee that its offsets follow one another without
    /// gap or overlap and that the file ends where they end.
    fn header(&mut self) -> Result<Header> {
        if self.length == 0 {
            return Err(self.problem("is empty"));
        }
        let start = self.bytes(self.length.min(LENGTH_BYTES + 1))?;
        let Some((length, brace)) = start.split_first_chunk::<8>() else {
            return Err(self.problem(format!(
                "is not a munitfilter model: it has only {} bytes",
                self.length
            )));
        };
        let header_length = u64::from_le_bytes(*length);
        let room = self.length - LENGTH_BYTES;
        if brace != b"{" || header_length > LONGEST_HEADER {
            let pytorch = start.starts_with(b"PK\x03\x04") || start.starts_with(&[0x80, 0x02]);
            return Err(self.problem(if pytorch {
                "looks like a PyTorch checkpoint, not a munitfilter model; \
                 munit-import turns a MUNIT or UNIT generator into one"
            } else {
                "is not a munitfilter model, nor any other safetensors file"
            }));
        }
        if header_length > room {
            return Err(self.problem(format!(
                "is truncated: its header should have {header_length} bytes, but only {room} are there"
            )));
        }
        let mut text = brace.to_vec();
        text.extend(self.bytes(header_length.saturating_sub(1))?);
        let header: Header = serde_json::from_slice(&text)
            .map_err(|error| self.problem(format!("has a damaged header: {error}")))?;
        let (expected, found) = (header.data_len() as u64, room - header_length);
        if found < expected {
            return Err(self.problem(format!(
                "is truncated: its tensors should have {expected} bytes, but only {found} are there"
            )));
        }
        if found > expected {
            return Err(self.problem(format!(
                "has {} bytes too many after its tensors",
                found - expected
            )));
        }
        Ok(header)
    }

    fn metadata(&self, header: &Header) -> Result<(ModelMetadata, Checksum)> {
        let map = header.metadata().as_ref();
        let Some(text) = map.and_then(|map| map.get(METADATA_KEY)) else {
            return Err(self.problem(
                "is a safetensors file, but not a munitfilter model: \
                 it lacks the metadata that munit-train and munit-import write",
            ));
        };
        let damaged = |error| self.problem(format!("has damaged metadata: {error}"));
        let value: serde_json::Value = serde_json::from_str(text).map_err(damaged)?;
        match value
            .get("format_version")
            .and_then(|version| version.as_u64())
        {
            None => return Err(self.problem("has damaged metadata: it names no format version")),
            Some(version) if version > FORMAT_VERSION.into() => {
                return Err(self.problem(format!(
                    "was made by a newer munitfilter, version {version} of the format; \
                     this one reads version {FORMAT_VERSION}"
                )));
            }
            Some(0) => return Err(self.problem("has damaged metadata: format version 0")),
            Some(_) => (),
        }
        let metadata = serde_json::from_value(value).map_err(damaged)?;
        check::metadata(&metadata).map_err(|text| self.problem(text))?;
        let expected = map
            .and_then(|map| map.get(CHECKSUM_KEY))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.problem("has damaged metadata: it has no checksum"))?;
        let checksum = Checksum {
            expected,
            of_metadata: crc32c::crc32c(text.as_bytes()),
        };
        Ok((metadata, checksum))
    }

    fn data(&mut self, length: usize) -> Result<Vec<u8>> {
        self.bytes(length as u64)
    }

    fn problem(&self, text: impl Into<String>) -> Error {
        problem(self.path, text)
    }
}

/// The header's tensors in file order.
fn stored_tensors(header: &Header) -> Result<Vec<Stored>, String> {
    header
        .offset_keys()
        .into_iter()
        .filter_map(|name| header.info(&name).map(|info| stored(&name, info)))
        .collect()
}

fn stored(name: &str, info: &TensorInfo) -> Result<Stored, String> {
    let kind = match info.dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        other => {
            return Err(format!(
                "tensor {name:?} holds numbers of type {other}; expected F32, F16 or BF16"
            ));
        }
    };
    let shape = info.shape.iter().map(|&size| i64::try_from(size));
    Ok(Stored {
        name: name.to_owned(),
        kind,
        shape: shape
            .collect::<Result<_, _>>()
            .map_err(|_| format!("tensor {name:?} has the impossible shape {:?}", info.shape))?,
        bytes: info.data_offsets.0..info.data_offsets.1,
    })
}
