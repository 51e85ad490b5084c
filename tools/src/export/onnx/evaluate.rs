//! Computes what an ONNX file says, operator by operator with libtorch, to compare it with the
//! network that it was made from. Knows the operators that this program writes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use tch::{Kind, Tensor};

use super::OPERATOR_SET;
use super::graph::{PICTURE, STYLE, TRANSLATION};
use super::schema::{
    BFLOAT16, FLOAT, FLOAT16, GraphProto, INT64, ModelProto, NodeProto, TensorProto,
};

/// The network in an ONNX file.
pub struct OnnxNetwork {
    graph: GraphProto,
    constants: BTreeMap<String, Tensor>,
}

impl OnnxNetwork {
    /// Reads a file whose content is of [`super::file`].
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).with_context(|| format!("{}: cannot read", path.display()))?;
        Self::parse(&bytes).with_context(|| path.display().to_string())
    }

    /// Reads the content of such a file.
    ///
    /// # Errors
    /// What it is not.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let read = || {
            let model = ModelProto::decode(bytes)?;
            let versions: Vec<_> = model.opset_import.iter().map(|set| set.version).collect();
            ensure!(
                versions == [Some(OPERATOR_SET)],
                "its operators are not those of set {OPERATOR_SET}"
            );
            let graph = model.graph.context("it has no graph")?;
            let constants = graph
                .initializer
                .iter()
                .map(|tensor| Ok((tensor.name.clone().unwrap_or_default(), constant(tensor)?)))
                .collect::<Result<_>>()?;
            Ok(Self { graph, constants })
        };
        read().context("not an ONNX file of munit-export")
    }

    /// The translation of `picture` [N, C, H, W] in the styles `style` [N, style_dim].
    ///
    /// # Errors
    /// A graph that is not sound.
    pub fn translate(&self, picture: &Tensor, style: Option<&Tensor>) -> Result<Tensor> {
        let mut values: BTreeMap<&str, Tensor> = self
            .constants
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor.shallow_clone()))
            .collect();
        for input in &self.graph.input {
            let value = match input.name.as_deref() {
                Some(PICTURE) => Some(picture),
                Some(STYLE) => style,
                _ => None,
            };
            let name = input.name.as_deref().unwrap_or_default();
            let value = value.with_context(|| format!("the graph's input {name} is not given"))?;
            values.insert(name, value.shallow_clone());
        }
        for node in &self.graph.node {
            let name = node.output.first().context("a node without an output")?;
            let result = compute(node, &values)
                .with_context(|| format!("node {name}, {}", operator(node)))?;
            ensure!(
                values.insert(name, result).is_none(),
                "two nodes give {name}"
            );
        }
        let result = values.remove(TRANSLATION);
        result.context("the graph gives no translation")
    }
}

fn constant(tensor: &TensorProto) -> Result<Tensor> {
    let kind = match tensor.data_type {
        Some(FLOAT) => Kind::Float,
        Some(INT64) => Kind::Int64,
        Some(FLOAT16) => Kind::Half,
        Some(BFLOAT16) => Kind::BFloat16,
        other => bail!("a tensor of the type {other:?}"),
    };
    let data = tensor.raw_data.as_deref().unwrap_or_default();
    Ok(Tensor::f_from_data_size(data, &tensor.dims, kind)?)
}

fn operator(node: &NodeProto) -> &str {
    node.op_type.as_deref().unwrap_or_default()
}

fn compute(node: &NodeProto, values: &BTreeMap<&str, Tensor>) -> Result<Tensor> {
    let inputs = Inputs { node, values };
    let x = inputs.get(0)?;
    let float = |name: &str| attribute(node, name).and_then(|attribute| attribute.f);
    let integer = |name: &str| attribute(node, name).and_then(|attribute| attribute.i);
    let list = |name: &str| attribute(node, name).map(|attribute| attribute.ints.as_slice());
    Ok(match operator(node) {
        "Add" => x.f_add(&inputs.get(1)?)?,
        "Sub" => x.f_sub(&inputs.get(1)?)?,
        "Mul" => x.f_mul(&inputs.get(1)?)?,
        "Div" => x.f_div(&inputs.get(1)?)?,
        "Mod" => x.f_remainder_tensor(&inputs.get(1)?)?,
        "Sqrt" => x.f_sqrt()?,
        "Relu" => x.f_relu()?,
        "Tanh" => x.f_tanh()?,
        "Selu" => x.f_selu()?,
        "PRelu" => x.f_prelu(&inputs.get(1)?)?,
        "LeakyRelu" => {
            let slope = float("alpha").unwrap_or(0.01);
            x.f_clamp_min(0.0)?
                .f_add(&x.f_clamp_max(0.0)?.f_mul_scalar(f64::from(slope))?)?
        }
        "Cast" => match integer("to").map(i32::try_from) {
            Some(Ok(FLOAT)) => x.f_to_kind(Kind::Float)?,
            other => bail!("a cast to the type {other:?}"),
        },
        "Shape" => Tensor::f_from_slice(&x.size())?,
        "Concat" => Tensor::f_cat(&[x, inputs.get(1)?], integer("axis").context("no axis")?)?,
        "Unsqueeze" => {
            let axes = inputs.integers(1)?;
            axes.iter().try_fold(x, |x, axis| x.f_unsqueeze(*axis))?
        }
        "Slice" => slice(&x, &inputs)?,
        "Pad" => {
            let mode = attribute(node, "mode").and_then(|attribute| attribute.s.as_deref());
            pad(&x, &inputs.integers(1)?, mode.unwrap_or(b"constant"))?
        }
        "Conv" => {
            let [weight, bias] = [inputs.get(1)?, inputs.get(2)?];
            ensure!(
                list("kernel_shape") == weight.size().get(2..),
                "kernel_shape does not fit the weight"
            );
            let strides = list("strides").context("no strides")?;
            x.f_conv2d(&weight, Some(&bias), strides, [0, 0], [1, 1], 1)?
        }
        "Gemm" => {
            ensure!(integer("transB") == Some(1), "the weight is not transposed");
            x.f_matmul(&inputs.get(1)?.f_tr()?)?
                .f_add(&inputs.get(2)?)?
        }
        "InstanceNormalization" => x.f_instance_norm(
            Some(&inputs.get(1)?),
            Some(&inputs.get(2)?),
            None,
            None,
            true,
            0.0,
            float("epsilon").unwrap_or(1e-5).into(),
            false,
        )?,
        "ReduceMean" => x.f_mean_dim(list("axes"), integer("keepdims") != Some(0), Kind::Float)?,
        "ReduceSumSquare" => {
            let keep = integer("keepdims") != Some(0);
            x.f_square()?
                .f_sum_dim_intlist(list("axes"), keep, Kind::Float)?
        }
        "ReduceProd" => x.f_prod(Kind::Int64)?,
        "GlobalAveragePool" => x.f_adaptive_avg_pool2d([1, 1])?,
        "Resize" => {
            let scales = Vec::<f32>::try_from(inputs.get(2)?)?;
            ensure!(scales == [1.0, 1.0, 2.0, 2.0], "scales of {scales:?}");
            let size = x.size();
            x.f_upsample_nearest2d([2 * size[2], 2 * size[3]], 2.0, 2.0)?
        }
        other => bail!("unknown operator {other}"),
    })
}

/// Parts of the axes that the fourth input names, or of the first axes.
fn slice(x: &Tensor, inputs: &Inputs) -> Result<Tensor> {
    let (starts, ends) = (inputs.integers(1)?, inputs.integers(2)?);
    let axes = match inputs.node.input.len() {
        0..=3 => (0..starts.len() as i64).collect(),
        _ => inputs.integers(3)?,
    };
    let mut parts = axes.iter().zip(starts.iter().zip(&ends));
    Ok(
        parts.try_fold(x.shallow_clone(), |x, (axis, (start, end))| {
            x.f_slice(*axis, *start, *end, 1)
        })?,
    )
}

/// `margins`: before each axis, then behind each.
fn pad(x: &Tensor, margins: &[i64], mode: &[u8]) -> Result<Tensor> {
    let [0, 0, top, left, 0, 0, bottom, right] = *margins else {
        bail!("margins of {margins:?}");
    };
    let margins = [left, right, top, bottom];
    Ok(match mode {
        b"reflect" => x.f_reflection_pad2d(margins)?,
        b"edge" => x.f_replication_pad2d(margins)?,
        b"constant" => x.f_constant_pad_nd(margins)?,
        _ => bail!("unknown mode"),
    })
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a super::schema::AttributeProto> {
    let mut attributes = node.attribute.iter();
    attributes.find(|attribute| attribute.name.as_deref() == Some(name))
}

/// The values that a node takes.
struct Inputs<'a> {
    node: &'a NodeProto,
    values: &'a BTreeMap<&'a str, Tensor>,
}

impl Inputs<'_> {
    fn get(&self, index: usize) -> Result<Tensor> {
        let name = self.node.input.get(index);
        let name = name.with_context(|| format!("there is no input {index}"))?;
        let value = self.values.get(name.as_str());
        let value = value.with_context(|| format!("nothing before it gives {name}"))?;
        Ok(value.shallow_clone())
    }

    fn integers(&self, index: usize) -> Result<Vec<i64>> {
        Ok(Vec::try_from(self.get(index)?)?)
    }
}
