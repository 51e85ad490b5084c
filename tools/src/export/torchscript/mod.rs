//! A model as a TorchScript archive, which `torch.jit.load` opens in Python and C++.
//!
//! The archive is a zip file without compression: the module's source text, a pickle that lists its
//! attributes, and a file for each tensor. It is written here rather than by tracing, since a trace
//! would hold the sizes of the picture that it was made with.

mod pickle;
mod source;

use std::io::{Cursor, Write};

use anyhow::{Context, Result};
use munit::Model;
use munit::layout::expected_weights;
use pickle::Pickle;
use tch::{Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::tensor_bytes;

/// The archive's folder.
const FOLDER: &str = "translator";
/// Version of the archive's format, and of the meaning of its operators.
const VERSION: &str = "3\n";
/// So that readers can map tensors.
const ALIGNMENT: u16 = 64;

/// `model` with its weights in `kind` as an archive.
///
/// The module computes in the number format of its weights, on their device. Its methods take and
/// give pictures [N, C, H, W] in [-1, 1], H and W at least those of
/// [`smallest_side`](munit::Architecture::smallest_side), and styles [N, style_dim]:
/// `a2b(picture, style)` and `b2a(picture, style)`, as far as the model has them,
/// `forward(picture, style)`, which is the first of these, `encode_content_a(picture)`,
/// `decode_b(content, style)` and `encode_style_b(picture)` (and with the letters exchanged).
/// A UNIT model's have no style. What the model says of itself is the extra file `munit.json`.
///
/// # Errors
/// A model that lacks a tensor; libtorch's.
pub fn archive(model: &Model, kind: Kind) -> Result<Vec<u8>> {
    zipped(model, kind).context("cannot make a TorchScript archive")
}

fn zipped(model: &Model, kind: Kind) -> Result<Vec<u8>> {
    let metadata = &model.metadata;
    let names = expected_weights(&metadata.architecture, &metadata.directions);
    let tensors = names
        .keys()
        .map(|name| {
            let tensor = model.weights.get(name);
            let tensor = tensor.with_context(|| format!("the model lacks the tensor {name}"))?;
            Ok((name.as_str(), tensor))
        })
        .collect::<Result<Vec<_>>>()?;
    let listed: Vec<&str> = tensors.iter().map(|(name, _)| *name).collect();
    let source = source::module(&metadata.architecture, &metadata.directions, &listed);

    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default())
        .with_alignment(ALIGNMENT);
    let mut entry = |name: &str, bytes: &[u8]| -> Result<()> {
        zip.start_file(format!("{FOLDER}/{name}"), options)?;
        Ok(zip.write_all(bytes)?)
    };
    // Readers take the folder's name from the first entry.
    entry("data.pkl", &attributes(&tensors, kind))?;
    entry(
        &format!("code/__torch__/{}.py", source::FILE),
        source.as_bytes(),
    )?;
    for (index, (_, tensor)) in tensors.iter().enumerate() {
        entry(&format!("data/{index}"), &tensor_bytes(tensor, kind)?)?;
    }
    entry("constants.pkl", &no_constants())?;
    entry("extra/munit.json", &serde_json::to_vec(metadata)?)?;
    entry("byteorder", b"little")?;
    entry("version", VERSION.as_bytes())?;
    Ok(zip.finish()?.into_inner())
}

/// The module's attributes, whose values are in `data/0`, `data/1`, …
fn attributes(tensors: &[(&str, &Tensor)], kind: Kind) -> Vec<u8> {
    let mut pickle = Pickle::new();
    pickle.global(&format!("__torch__.{}", source::FILE), source::CLASS);
    pickle.empty_tuple();
    pickle.make();
    pickle.empty_dictionary();
    pickle.entries(|pickle| {
        for (index, (name, tensor)) in tensors.iter().enumerate() {
            pickle.text(&source::attribute(name));
            put_tensor(pickle, index, &tensor.size(), kind);
        }
        pickle.text("training");
        pickle.flag(false);
    });
    pickle.build();
    pickle.finish()
}

fn put_tensor(pickle: &mut Pickle, index: usize, size: &[i64], kind: Kind) {
    let storage = match kind {
        Kind::Half => "HalfStorage",
        Kind::BFloat16 => "BFloat16Storage",
        _ => "FloatStorage",
    };
    let integers = |pickle: &mut Pickle, numbers: &[i64]| {
        pickle.tuple(|pickle| numbers.iter().for_each(|number| pickle.integer(*number)));
    };
    pickle.global("torch._utils", "_rebuild_tensor_v2");
    pickle.tuple(|pickle| {
        pickle.tuple(|pickle| {
            pickle.text("storage");
            pickle.global("torch", storage);
            pickle.text(&index.to_string());
            pickle.text("cpu");
            pickle.integer(size.iter().product());
        });
        pickle.address();
        // Where in its storage the tensor begins.
        pickle.integer(0);
        integers(pickle, size);
        integers(pickle, &contiguous_strides(size));
        let requires_grad = false;
        pickle.flag(requires_grad);
        pickle.global("collections", "OrderedDict");
        pickle.empty_tuple();
        pickle.call();
    });
    pickle.call();
}

fn contiguous_strides(size: &[i64]) -> Vec<i64> {
    let mut stride = 1;
    let mut strides: Vec<i64> = size
        .iter()
        .rev()
        .map(|side| {
            let own = stride;
            stride *= side;
            own
        })
        .collect();
    strides.reverse();
    strides
}

fn no_constants() -> Vec<u8> {
    let mut pickle = Pickle::new();
    pickle.empty_tuple();
    pickle.finish()
}
