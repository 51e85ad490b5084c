//! One direction of a model as a graph of ONNX operators.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use munit::Model;
use munit::config::{Activation, Architecture, Direction, Padding};
use tch::Kind;

use super::schema::{
    AttributeProto, BFLOAT16, Dimension, FLOAT, FLOAT16, GraphProto, INT64, NodeProto, TensorProto,
    ValueInfoProto,
};
use crate::export::network::{Network, Writer, takes_style};
use crate::export::tensor_bytes;

/// Inside the root of instance norms and beside the deviation of layer norms.
const EPSILON: f32 = 1e-5;

/// Names of what goes in and comes out.
pub const PICTURE: &str = "picture";
pub const STYLE: &str = "style";
pub const TRANSLATION: &str = "translation";

/// The graph of `model` in `direction`, with its weights stored in `kind`.
///
/// # Errors
/// A model without the tensors of this direction.
pub fn graph(model: &Model, direction: Direction, kind: Kind) -> Result<GraphProto> {
    let architecture = &model.metadata.architecture;
    let mut builder = Builder::default();
    let picture = PICTURE.to_owned();
    let [own, other] = [direction.source(), direction.target()].map(|domain| Network {
        architecture,
        domain,
    });
    let (padded, sides) = builder.pad_to_stride(&picture, architecture.stride());
    let content = own.encode_content(&mut builder, &padded);
    let parameters =
        takes_style(architecture).then(|| other.adain_parameters(&mut builder, &STYLE.to_owned()));
    let decoded = other.decode(&mut builder, &content, parameters.as_ref());
    builder.crop(&decoded, &sides);

    let weights = builder.weights.clone();
    for weight in &weights {
        builder.store(model, weight, kind)?;
    }
    let mut nodes = builder.conversions;
    nodes.extend(builder.nodes);
    Ok(GraphProto {
        node: nodes,
        name: Some(format!("munit_{}", direction.name())),
        initializer: builder.initializers,
        input: inputs(architecture, direction),
        output: vec![picture_info(
            TRANSLATION,
            architecture.channels(direction.target()),
        )],
    })
}

fn inputs(architecture: &Architecture, direction: Direction) -> Vec<ValueInfoProto> {
    let mut inputs = vec![picture_info(
        PICTURE,
        architecture.channels(direction.source()),
    )];
    if takes_style(architecture) {
        let dimensions = [
            Dimension::Name("batch".to_owned()),
            Dimension::Length(architecture.style_dim()),
        ];
        inputs.push(ValueInfoProto::float(STYLE, &dimensions));
    }
    inputs
}

fn picture_info(name: &str, channels: i64) -> ValueInfoProto {
    let named = |name: &str| Dimension::Name(name.to_owned());
    let dimensions = [
        named("batch"),
        Dimension::Length(channels),
        named("height"),
        named("width"),
    ];
    ValueInfoProto::float(name, &dimensions)
}

/// How a weight is seen by the operator that takes it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Weight {
    name: String,
    /// As [1, C, 1, 1] instead of [C].
    per_channel: bool,
}

/// A graph that grows. Values are known by their names.
#[derive(Default)]
struct Builder {
    nodes: Vec<NodeProto>,
    /// From 16 bits to 32, before all else.
    conversions: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    constants: BTreeSet<String>,
    weights: BTreeSet<Weight>,
    values: usize,
}

impl Builder {
    fn node(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = format!("{}_{}", operator.to_lowercase(), self.values);
        self.node_named(&output, operator, inputs, attributes)
    }

    fn node_named(
        &mut self,
        output: &str,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        self.values += 1;
        self.nodes.push(node(output, operator, inputs, attributes));
        output.to_owned()
    }

    /// A constant vector of integers.
    fn integers(&mut self, values: &[i64]) -> String {
        let words: Vec<String> = values.iter().map(i64::to_string).collect();
        let name = format!("integers_{}", words.join("_"));
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.constant(&name, INT64, &[values.len() as i64], bytes.collect());
        name
    }

    /// A constant vector of `count` times the same number; a number alone for `None`.
    fn floats(&mut self, value: f32, count: Option<i64>) -> String {
        let name = match count {
            Some(count) => format!("{count}_times_{value}"),
            None => format!("number_{value}"),
        };
        let length = count.unwrap_or(1) as usize;
        let bytes = value.to_le_bytes().repeat(length);
        self.constant(&name, FLOAT, count.as_slice(), bytes);
        name
    }

    fn constant(&mut self, name: &str, data_type: i32, dims: &[i64], bytes: Vec<u8>) {
        if self.constants.insert(name.to_owned()) {
            self.initializers.push(TensorProto {
                dims: dims.to_vec(),
                data_type: Some(data_type),
                name: Some(name.to_owned()),
                raw_data: Some(bytes),
            });
        }
    }

    fn weight(&mut self, layer: &str, kind: &str) -> String {
        let name = format!("{layer}.{kind}");
        self.weights.insert(Weight {
            name: name.clone(),
            per_channel: matches!(kind, "gamma" | "beta"),
        });
        name
    }

    /// Puts a weight into the file. Those of 16 bits are converted before they are used: operators of
    /// 16 bits are not to be had everywhere.
    fn store(&mut self, model: &Model, weight: &Weight, kind: Kind) -> Result<()> {
        let Weight { name, per_channel } = weight;
        let tensor = model.weights.get(name);
        let tensor = tensor.with_context(|| format!("the model lacks the tensor {name}"))?;
        let mut dims = tensor.size();
        if *per_channel {
            dims = vec![1, tensor.numel() as i64, 1, 1];
        }
        let data_type = match kind {
            Kind::Half => FLOAT16,
            Kind::BFloat16 => BFLOAT16,
            _ => FLOAT,
        };
        let stored = match data_type {
            FLOAT => name.clone(),
            _ => format!("{name}.stored"),
        };
        if stored != *name {
            let to = AttributeProto::integer("to", FLOAT.into());
            self.conversions
                .push(node(name, "Cast", &[&stored], vec![to]));
        }
        self.constant(&stored, data_type, &dims, tensor_bytes(tensor, kind)?);
        Ok(())
    }

    /// Continues the right and lower side by reflection to multiples of `stride`; gives height and
    /// width before that, too.
    fn pad_to_stride(&mut self, picture: &str, stride: i64) -> (String, String) {
        let shape = self.node("Shape", &[picture], vec![]);
        let (two, four) = (self.integers(&[2]), self.integers(&[4]));
        let sides = self.node("Slice", &[&shape, &two, &four], vec![]);
        let stride = self.integers(&[stride]);
        let rest = self.node("Mod", &[&sides, &stride], vec![]);
        let missing = self.node("Sub", &[&stride, &rest], vec![]);
        let beyond = self.node("Mod", &[&missing, &stride], vec![]);
        let nothing = self.integers(&[0; 6]);
        let axis = AttributeProto::integer("axis", 0);
        let margins = self.node("Concat", &[&nothing, &beyond], vec![axis]);
        let mode = AttributeProto::text("mode", "reflect");
        let padded = self.node("Pad", &[picture, &margins], vec![mode]);
        (padded, sides)
    }

    /// The upper left `sides` of a map, which are the graph's result.
    fn crop(&mut self, map: &str, sides: &str) {
        let (start, axes) = (self.integers(&[0, 0]), self.integers(&[2, 3]));
        self.node_named(TRANSLATION, "Slice", &[map, &start, sides, &axes], vec![]);
    }

    /// `parameters` from `start` on, as [N, C, 1, 1].
    fn per_channel(&mut self, parameters: &str, start: i64, channels: i64) -> String {
        let (from, to) = (self.integers(&[start]), self.integers(&[start + channels]));
        let axis = self.integers(&[1]);
        let part = self.node("Slice", &[parameters, &from, &to, &axis], vec![]);
        let axes = self.integers(&[2, 3]);
        self.node("Unsqueeze", &[&part, &axes], vec![])
    }

    /// `operator` over all of each sample, [N, 1, 1, 1].
    fn reduce(&mut self, operator: &str, x: &str) -> String {
        let attributes = vec![
            AttributeProto::integers("axes", &[1, 2, 3]),
            AttributeProto::integer("keepdims", 1),
        ];
        self.node(operator, &[x], attributes)
    }
}

fn node(
    output: &str,
    operator: &str,
    inputs: &[&str],
    attributes: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|&input| input.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: Some(output.to_owned()),
        op_type: Some(operator.to_owned()),
        attribute: attributes,
    }
}

impl Writer for Builder {
    type Value = String;

    fn pad(&mut self, x: &String, margin: i64, padding: Padding) -> String {
        let margins = self.integers(&[0, 0, margin, margin, 0, 0, margin, margin]);
        let mode = match padding {
            Padding::Reflect => "reflect",
            Padding::Replicate => "edge",
            Padding::Zero => "constant",
        };
        self.node(
            "Pad",
            &[x, &margins],
            vec![AttributeProto::text("mode", mode)],
        )
    }

    fn convolution(&mut self, x: &String, layer: &str, kernel: i64, stride: i64) -> String {
        let [weight, bias] = ["weight", "bias"].map(|kind| self.weight(layer, kind));
        let attributes = vec![
            AttributeProto::integers("kernel_shape", &[kernel, kernel]),
            AttributeProto::integers("strides", &[stride, stride]),
        ];
        self.node("Conv", &[x, &weight, &bias], attributes)
    }

    fn linear(&mut self, x: &String, layer: &str) -> String {
        let [weight, bias] = ["weight", "bias"].map(|kind| self.weight(layer, kind));
        let transposed = AttributeProto::integer("transB", 1);
        self.node("Gemm", &[x, &weight, &bias], vec![transposed])
    }

    fn instance_norm(&mut self, x: &String, channels: i64) -> String {
        let scale = self.floats(1.0, Some(channels));
        let shift = self.floats(0.0, Some(channels));
        let epsilon = AttributeProto::float("epsilon", EPSILON);
        self.node("InstanceNormalization", &[x, &scale, &shift], vec![epsilon])
    }

    fn adaptive_norm(
        &mut self,
        x: &String,
        channels: i64,
        parameters: &String,
        position: i64,
    ) -> String {
        let normalised = self.instance_norm(x, channels);
        let shift = self.per_channel(parameters, position, channels);
        let scale = self.per_channel(parameters, position + channels, channels);
        let scaled = self.node("Mul", &[&normalised, &scale], vec![]);
        self.node("Add", &[&scaled, &shift], vec![])
    }

    fn layer_norm(&mut self, x: &String, layer: &str) -> String {
        let [gamma, beta] = ["gamma", "beta"].map(|kind| self.weight(layer, kind));
        let mean = self.reduce("ReduceMean", x);
        let centred = self.node("Sub", &[x, &mean], vec![]);
        let squares = self.reduce("ReduceSumSquare", &centred);
        let shape = self.node("Shape", &[x], vec![]);
        let (one, four) = (self.integers(&[1]), self.integers(&[4]));
        let sample = self.node("Slice", &[&shape, &one, &four], vec![]);
        let keep = AttributeProto::integer("keepdims", 0);
        let count = self.node("ReduceProd", &[&sample], vec![keep]);
        let to = AttributeProto::integer("to", FLOAT.into());
        let count = self.node("Cast", &[&count], vec![to]);
        let unit = self.floats(1.0, None);
        let freedom = self.node("Sub", &[&count, &unit], vec![]);
        let variance = self.node("Div", &[&squares, &freedom], vec![]);
        let deviation = self.node("Sqrt", &[&variance], vec![]);
        let epsilon = self.floats(EPSILON, None);
        let divisor = self.node("Add", &[&deviation, &epsilon], vec![]);
        let scale = self.node("Div", &[&gamma, &divisor], vec![]);
        let scaled = self.node("Mul", &[&centred, &scale], vec![]);
        self.node("Add", &[&scaled, &beta], vec![])
    }

    fn activation(&mut self, x: &String, activation: Activation, layer: &str) -> String {
        match activation {
            Activation::Relu => self.node("Relu", &[x], vec![]),
            Activation::Lrelu => {
                let slope = AttributeProto::float("alpha", 0.2);
                self.node("LeakyRelu", &[x], vec![slope])
            }
            Activation::Prelu => {
                let slope = self.weight(layer, "weight");
                self.node("PRelu", &[x, &slope], vec![])
            }
            Activation::Selu => self.node("Selu", &[x], vec![]),
            Activation::Tanh => self.node("Tanh", &[x], vec![]),
            Activation::None => x.clone(),
        }
    }

    fn add(&mut self, x: &String, y: &String) -> String {
        self.node("Add", &[x, y], vec![])
    }

    fn enlarge(&mut self, x: &String) -> String {
        let name = "twice".to_owned();
        let scales = [1f32, 1.0, 2.0, 2.0];
        let bytes = scales.iter().flat_map(|scale| scale.to_le_bytes());
        self.constant(&name, FLOAT, &[4], bytes.collect());
        let attributes = vec![
            AttributeProto::text("mode", "nearest"),
            AttributeProto::text("coordinate_transformation_mode", "asymmetric"),
            AttributeProto::text("nearest_mode", "floor"),
        ];
        // The second input, a region of interest, is left out.
        self.node("Resize", &[x, "", &name], attributes)
    }

    fn mean(&mut self, x: &String) -> String {
        self.node("GlobalAveragePool", &[x], vec![])
    }
}
