//! Writing: the same checks as in reading, then one atomic replacement of the file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use super::{CHECKSUM_KEY, FORMAT_KEY, FORMAT_VERSION, METADATA_KEY, Model, check, problem};
use crate::{Result, atomic_file};

/// Safetensors readers may map a file, so that tensors should start at a multiple of this.
const ALIGNMENT: usize = 8;

pub(super) fn write(model: &Model, path: &Path, kind: Kind) -> Result<()> {
    let refuse = |text: String| problem(path, format!("cannot be written: {text}"));
    let dtype = match kind {
        Kind::Float => Dtype::F32,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        other => {
            return Err(refuse(format!(
                "weights are stored as fp32, fp16 or bf16, not as {other:?}"
            )));
        }
    };
    if model.metadata.format_version != FORMAT_VERSION {
        return Err(refuse(format!(
            "it asks for format version {}, but this munitfilter writes version {FORMAT_VERSION}",
            model.metadata.format_version
        )));
    }
    check::metadata(&model.metadata).map_err(refuse)?;
    let mut shapes = BTreeMap::new();
    for (name, tensor) in &model.weights {
        shapes.insert(name.as_str(), tensor.size());
    }
    check::tensors(&model.metadata, &shapes).map_err(refuse)?;

    let mut data = Vec::new();
    let mut infos = Map::new();
    for (name, tensor) in &model.weights {
        let start = data.len();
        append(&mut data, tensor, kind)?;
        if let Some(position) = check::first_not_finite(&data[start..], kind) {
            return Err(refuse(not_finite(name, tensor, position, kind)));
        }
        let info = TensorInfo {
            dtype,
            shape: tensor.size().iter().map(|&size| size as usize).collect(),
            data_offsets: (start, data.len()),
        };
        infos.insert(name.clone(), to_json(&info));
    }

    let metadata = to_json(&model.metadata).to_string();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(metadata.as_bytes()), &data);
    let mut header = Map::new();
    header.insert(
        "__metadata__".to_owned(),
        json!({
            FORMAT_KEY: "pt",
            METADATA_KEY: metadata,
            CHECKSUM_KEY: format!("{checksum:08x}"),
        }),
    );
    header.append(&mut infos);
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');

    atomic_file::write(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        file.write_all(&data)
    })
}

/// JSON of plain structures with text keys, which cannot fail.
fn to_json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("plain structures are JSON")
}

fn append(data: &mut Vec<u8>, tensor: &Tensor, kind: Kind) -> Result<()> {
    let tensor = tensor
        .f_detach()?
        .f_to_device(Device::Cpu)?
        .f_to_kind(kind)?
        .f_contiguous()?;
    let start = data.len();
    data.resize(start + tensor.numel() * kind.elt_size_in_bytes(), 0);
    tensor.f_copy_data_u8(&mut data[start..], tensor.numel())?;
    Ok(())
}

fn not_finite(name: &str, tensor: &Tensor, position: usize, kind: Kind) -> String {
    let value = tensor
        .f_reshape([-1])
        .and_then(|flat| flat.f_double_value(&[position as i64]));
    match value {
        Ok(value) if value.is_finite() => format!(
            "element {position} of tensor {name} is {value}, too large for {kind:?}; \
             write the model in bf16 or fp32"
        ),
        _ => format!("element {position} of tensor {name} is not finite"),
    }
}
