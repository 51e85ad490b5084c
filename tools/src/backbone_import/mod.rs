//! Makes backbone files of published networks. Nothing in a published file is executed.

mod graph;
mod inception;
mod networks;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use munit::backbone::{self, Description, Tap};
use tch::Tensor;

use crate::import::state_dict;
use graph::Graph;
use networks::Network;

/// Reads a published network from `path` (a PyTorch state dict, NumPy's .npz or safetensors), tells
/// by its tensors which one it is, and writes it to `output` as a backbone. `lpips` is a file with
/// the weights of each channel that LPIPS has learned for this network. `name` is what figures are to
/// be named after. Returns that name and what the backbone can be used for.
///
/// # Errors
/// A sentence that names the file: one that cannot be read, a network that is not known, an output
/// that cannot be written.
pub fn import_backbone(
    path: &Path,
    lpips: Option<&Path>,
    name: Option<&str>,
    output: &Path,
) -> Result<Description> {
    let published = read(path)?;
    let lpips = lpips.map(read).transpose()?;
    let (description, tensors) =
        describe(&published, lpips.as_ref(), name).with_context(|| path.display().to_string())?;
    backbone::write(output, &description, &tensors)?;
    Ok(description)
}

/// A known network as a backbone: its description and the tensors that this names; see
/// [`import_backbone`].
///
/// # Errors
/// A sentence without the name of a file.
pub fn describe(
    published: &BTreeMap<String, Tensor>,
    lpips: Option<&BTreeMap<String, Tensor>>,
    name: Option<&str>,
) -> Result<(Description, BTreeMap<String, Tensor>)> {
    let network = Network::of(published).context(
        "is none of the networks that are known here: torchvision's VGG, AlexNet, SqueezeNet and \
         ResNet, the Inception-v3 of pytorch-fid and torch-fidelity, and VGG-19 distilled to 1/16",
    )?;
    let mut graph = Graph::new(published);
    let uses = network.build(&mut graph, published)?;
    let mut perceptual = Vec::new();
    for (number, layer) in uses.perceptual.into_iter().enumerate() {
        let weights = match lpips {
            Some(lpips) => Some(graph.channel_weights(number, lpips, &layer)?),
            None => None,
        };
        perceptual.push(Tap { layer, weights });
    }
    let name = match (name, lpips) {
        (Some(name), _) => name.trim().to_owned(),
        (None, Some(_)) => format!("{} with LPIPS weights", uses.name),
        (None, None) => uses.name,
    };
    ensure!(!name.is_empty(), "the name is empty");
    let description = Description {
        name,
        input: uses.input,
        layers: graph.layers,
        perceptual,
        content: uses.content,
        features: uses.features,
        logits: uses.logits,
    };
    Ok((description, graph.tensors))
}

/// All tensors of a file.
fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let shown = path.display();
    ensure!(path.is_file(), "{shown}: there is no such file");
    let unreadable = || format!("{shown}: cannot be read");
    let tensors: Vec<(String, Tensor)> = match path.extension().and_then(|end| end.to_str()) {
        Some("npz") => Tensor::read_npz(path).with_context(unreadable)?,
        Some("safetensors") => Tensor::read_safetensors(path).with_context(unreadable)?,
        _ => state_dict(path).with_context(|| shown.to_string())?,
    };
    if tensors.is_empty() {
        bail!("{shown}: holds no tensors");
    }
    Ok(tensors.into_iter().collect())
}
