//! Files of backbones.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use super::{Backbone, ColourOrder, Description, Input, Layer, Operation, PaddingMode, Tap};
use crate::{Error, Result, atomic_file};

/// Metadata key of the description.
const KEY: &str = "munit.backbone";
/// The largest published network of this kind, VGG-19 with its classifier, has 575 MB.
const LARGEST_FILE: u64 = 1 << 30;

/// Headers of published files have some kilobytes.
const LARGEST_HEADER: u64 = 1 << 24;

impl Backbone {
    /// Whether the file describes its layers, as those of `munit-import backbone` do. Reads its header
    /// only.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Weights`] for a file that is not in the format safetensors.
    pub fn is_described(path: &Path) -> Result<bool> {
        let unreadable = |reason| Error::Io {
            path: path.to_owned(),
            action: "cannot read",
            reason,
        };
        let unsound = || Error::Weights(format!("{}: is not a safetensors file", path.display()));
        let mut file = File::open(path).map_err(unreadable)?;
        let mut length = Vec::new();
        (&mut file)
            .take(size_of::<u64>() as u64)
            .read_to_end(&mut length)
            .map_err(unreadable)?;
        let length = <[u8; 8]>::try_from(length.as_slice()).map_err(|_| unsound())?;
        let length = u64::from_le_bytes(length);
        if length > LARGEST_HEADER {
            return Err(unsound());
        }
        let mut header = Vec::new();
        file.take(length)
            .read_to_end(&mut header)
            .map_err(unreadable)?;
        let header: serde_json::Value = serde_json::from_slice(&header).map_err(|_| unsound())?;
        Ok(header["__metadata__"].get(KEY).is_some())
    }

    /// Reads a backbone. A file without a description is taken for a VGG network if its tensors are
    /// named `conv1_1.weight`, `conv1_1.bias`, … `conv5_3.bias`, and for the weights published for
    /// Caffe: pictures in blue, green, red order, 0 to 255 less ImageNet's mean.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Weights`] names the file and what is wrong with it.
    pub fn read(path: &Path, device: Device) -> Result<Self> {
        let problem = |text: String| Error::Weights(format!("{}: {text}", path.display()));
        let unreadable = |reason| Error::Io {
            path: path.to_owned(),
            action: "cannot read",
            reason,
        };
        let metadata = path.metadata().map_err(unreadable)?;
        if !metadata.is_file() || metadata.len() > LARGEST_FILE {
            return Err(problem("is not a backbone file".to_owned()));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let unsound = |error| {
            problem(format!(
                "is not a backbone: a backbone is a safetensors file, which munit-import backbone \
                 makes of published ones ({error})"
            ))
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(unsound)?;
        let file = SafeTensors::deserialize(&bytes).map_err(unsound)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            tensors.insert(
                name.clone(),
                tensor(&name, &view).map_err(|error| match error {
                    Error::Weights(text) => problem(text),
                    other => other,
                })?,
            );
        }
        let text = header.metadata().as_ref().and_then(|map| map.get(KEY));
        let description = match text {
            Some(text) => serde_json::from_str(text)
                .map_err(|error| problem(format!("its description is damaged: {error}")))?,
            None => vgg_by_names(&tensors).ok_or_else(|| {
                problem(
                    "is not a backbone: it says nothing of its layers, and its tensors are not named \
                     as those of VGG; munit-import backbone makes a file that does"
                        .to_owned(),
                )
            })?,
        };
        Self::new(description, &tensors, device).map_err(|error| match error {
            Error::Weights(text) => problem(text),
            other => other,
        })
    }
}

/// Writes a backbone's file: its description, and of `tensors` those that it names, in fp32.
///
/// # Errors
/// [`Error::Weights`] for tensors that do not fit the description; [`Error::Io`] if the file cannot
/// be written.
pub fn write(
    path: &Path,
    description: &Description,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<()> {
    // What cannot be read back is not written.
    Backbone::new(description.clone(), tensors, Device::Cpu)?;
    let is_used = |name: &str| {
        let of_layer = name
            .rsplit_once('.')
            .is_some_and(|(layer, _)| description.layers.iter().any(|one| one.name == layer));
        let taps = &description.perceptual;
        of_layer || taps.iter().any(|tap| tap.weights.as_deref() == Some(name))
    };
    let mut stored = Vec::new();
    for (name, tensor) in tensors.iter().filter(|(name, _)| is_used(name)) {
        let tensor = tensor
            .f_detach()?
            .f_to_device(Device::Cpu)?
            .f_to_kind(Kind::Float)?
            .f_contiguous()?;
        let mut bytes = vec![0; tensor.numel() * size_of::<f32>()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        let shape: Vec<usize> = tensor.size().iter().map(|&side| side as usize).collect();
        stored.push((name, shape, bytes));
    }
    let unwritable = |error: String| Error::Weights(format!("{}: {error}", path.display()));
    let views = stored
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            Ok((name, view.map_err(|error| unwritable(error.to_string()))?))
        })
        .collect::<Result<Vec<_>>>()?;
    let text = serde_json::to_string(description).map_err(|error| unwritable(error.to_string()))?;
    let metadata = HashMap::from([
        (KEY.to_owned(), text),
        ("format".to_owned(), "pt".to_owned()),
    ]);
    let file = safetensors::serialize(views, Some(metadata))
        .map_err(|error| unwritable(error.to_string()))?;
    atomic_file::write(path, |writer| writer.write_all(&file))
}

fn tensor(name: &str, view: &TensorView) -> Result<Tensor> {
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        other => {
            return Err(Error::Weights(format!(
                "tensor {name} holds {other:?}; weights are F32, F16 or BF16"
            )));
        }
    };
    let shape = view.shape().iter().map(|&side| i64::try_from(side));
    let shape = shape
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|_| Error::Weights(format!("tensor {name} has an impossible shape")))?;
    let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)?.f_to_kind(Kind::Float)?;
    if !bool::try_from(tensor.f_isfinite()?.f_all()?)? {
        return Err(Error::Weights(format!(
            "tensor {name} holds numbers that are not finite"
        )));
    }
    Ok(tensor)
}

/// ImageNet's mean colour, blue, green, red.
const CAFFE_MEAN: [f64; 3] = [103.939, 116.779, 123.680];

/// A VGG network (arXiv 1409.1556) with as many convolutions a stage as there are tensors for.
fn vgg_by_names(tensors: &BTreeMap<String, Tensor>) -> Option<Description> {
    let counts = [1, 2, 3, 4, 5].map(|stage| {
        (1..)
            .take_while(|number| tensors.contains_key(&format!("conv{stage}_{number}.weight")))
            .count()
    });
    if counts.contains(&0) {
        return None;
    }
    let mut layers = Vec::new();
    for (stage, count) in (1..).zip(counts) {
        if stage > 1 {
            layers.push(Layer {
                name: format!("pool{}", stage - 1),
                from: Vec::new(),
                operation: Operation::MaxPool {
                    size: [2, 2],
                    stride: [2, 2],
                    padding: [0, 0],
                    ceil: false,
                },
            });
        }
        for number in 1..=count {
            layers.push(Layer {
                name: format!("conv{stage}_{number}"),
                from: Vec::new(),
                operation: Operation::Convolution {
                    stride: [1, 1],
                    padding: [1, 1],
                    mode: PaddingMode::Zeros,
                },
            });
            layers.push(Layer {
                name: format!("relu{stage}_{number}"),
                from: Vec::new(),
                operation: Operation::Relu,
            });
        }
    }
    let last = |stage: usize| format!("relu{stage}_{}", counts[stage - 1]);
    let convolutions: usize = counts.iter().sum();
    Some(Description {
        // The three layers behind the convolutions count in the networks' usual names.
        name: format!("VGG-{} (Caffe)", convolutions + 3),
        input: Input {
            order: ColourOrder::Bgr,
            range: [0.0, 255.0],
            mean: CAFFE_MEAN,
            deviation: [1.0; 3],
            size: None,
        },
        layers,
        perceptual: (1..=5)
            .map(|stage| Tap {
                layer: last(stage),
                weights: None,
            })
            .collect(),
        content: Some(last(5)),
        features: Some(last(5)),
        logits: None,
    })
}
