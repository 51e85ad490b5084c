//! One direction of a model as an ONNX file, for engines such as ONNX Runtime, OpenVINO and TensorRT.

mod evaluate;
mod graph;
mod schema;

use anyhow::{Context, Result};
use munit::{Direction, Model};
use prost::Message;
use schema::{ModelProto, OperatorSetIdProto, StringStringEntryProto};
use tch::Kind;

pub use evaluate::OnnxNetwork;

/// Version of the file format; that of operator set 17.
const IR_VERSION: i64 = 8;
/// Version of the operators' definitions.
const OPERATOR_SET: i64 = 17;

/// `direction` of `model` with its weights in `kind` as the content of a file.
///
/// The graph takes `picture` [N, C, H, W] in [-1, 1] and, for MUNIT, `style` [N, style_dim], and gives
/// `translation` [N, C', H, W] in [-1, 1], all float32. N, H and W are free; H and W must be at least
/// [`smallest_side`](munit::Architecture::smallest_side). Weights of 16 bits are converted to float32
/// when the file is loaded. What the model says of itself is the metadata entry `munit`.
///
/// # Errors
/// A model that lacks a tensor; libtorch's.
pub fn file(model: &Model, direction: Direction, kind: Kind) -> Result<Vec<u8>> {
    let graph = graph::graph(model, direction, kind).context("cannot make an ONNX graph")?;
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value),
    };
    let file = ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("munit-export".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(OPERATOR_SET),
        }],
        metadata_props: vec![
            entry("munit", serde_json::to_string(&model.metadata)?),
            entry("direction", direction.name().to_owned()),
        ],
    };
    Ok(file.encode_to_vec())
}
