//! A generator as TorchScript source text.

use std::collections::BTreeSet;
use std::fmt::Write;

use munit::config::{Activation, Architecture, Direction, Domain, Padding};
use munit::layout::Part;

use crate::export::network::{Network, Writer, takes_style};

/// Inside the root of instance norms and beside the deviation of layer norms.
const EPSILON: &str = "1.0000000000000001e-05";

/// Name of the module's class and of the file that holds its source.
pub const CLASS: &str = "Translator";
pub const FILE: &str = "munit";

/// The attribute that holds the tensor `name`.
pub fn attribute(name: &str) -> String {
    name.replace('.', "_")
}

/// The module's source: its attributes and a method for each thing that can be done with it.
pub fn module(architecture: &Architecture, directions: &[Direction], tensors: &[&str]) -> String {
    let attributes: Vec<String> = tensors.iter().map(|name| attribute(name)).collect();
    let listed: String = attributes
        .iter()
        .map(|name| format!("\"{name}\", "))
        .collect();
    let declared: String = attributes
        .iter()
        .map(|name| format!("  {name} : Tensor\n"))
        .collect();
    let mut source = format!(
        "class {CLASS}(Module):\n  __parameters__ = [{listed}]\n  __buffers__ = []\n{declared}  training : bool\n"
    );
    let style = takes_style(architecture);
    let sources: BTreeSet<Domain> = directions.iter().map(|one| one.source()).collect();
    let targets: BTreeSet<Domain> = directions.iter().map(|one| one.target()).collect();
    let mut methods = Vec::new();
    if let Some(first) = directions.first() {
        methods.push(forward(*first, style));
    }
    methods.extend(
        directions
            .iter()
            .map(|one| translate(architecture, *one, style)),
    );
    methods.extend(
        sources
            .iter()
            .map(|&domain| encode_content(architecture, domain)),
    );
    methods.extend(targets.iter().map(|&domain| decode(architecture, domain)));
    if style {
        methods.extend(
            targets
                .iter()
                .map(|&domain| encode_style(architecture, domain)),
        );
    }
    source += &methods.concat();
    source
}

/// Head of a method that takes these tensors and gives one.
fn head(name: &str, arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments
        .iter()
        .map(|argument| format!("{argument}: Tensor"))
        .collect();
    format!(
        "  def {name}(self: __torch__.{FILE}.{CLASS},\n    {}) -> Tensor:\n",
        arguments.join(",\n    ")
    )
}

/// What goes through a whole translation.
fn inputs(style: bool) -> &'static [&'static str] {
    if style {
        &["picture", "style"]
    } else {
        &["picture"]
    }
}

fn forward(direction: Direction, style: bool) -> String {
    let inputs = inputs(style);
    format!(
        "{}    return (self).{}({})\n",
        head("forward", inputs),
        direction.name(),
        inputs.join(", ")
    )
}

/// Sides that the network cannot divide are continued by reflection and cropped again.
fn translate(architecture: &Architecture, direction: Direction, style: bool) -> String {
    let (source, target) = (direction.source().name(), direction.target().name());
    let stride = architecture.stride();
    let decoded = if style { "content, style" } else { "content" };
    format!(
        "{}    height = torch.size(picture, 2)\n    \
         width = torch.size(picture, 3)\n    \
         right = ({stride} - width % {stride}) % {stride}\n    \
         below = ({stride} - height % {stride}) % {stride}\n    \
         padded = torch.reflection_pad2d(picture, [0, right, 0, below])\n    \
         content = (self).encode_content_{source}(padded)\n    \
         translated = (self).decode_{target}({decoded})\n    \
         lines = torch.narrow(translated, 2, 0, height)\n    \
         return torch.to(torch.narrow(lines, 3, 0, width), picture)\n",
        head(direction.name(), inputs(style)),
    )
}

fn encode_content(architecture: &Architecture, domain: Domain) -> String {
    let network = Network {
        architecture,
        domain,
    };
    let mut body = Body::default();
    let first = network.first_convolution(Part::ContentEncoder);
    let picture = body.like_weight("picture", &first);
    let result = network.encode_content(&mut body, &picture);
    let name = format!("encode_content_{}", domain.name());
    body.method(&name, &["picture"], &result)
}

fn encode_style(architecture: &Architecture, domain: Domain) -> String {
    let network = Network {
        architecture,
        domain,
    };
    let mut body = Body::default();
    let first = network.first_convolution(Part::StyleEncoder);
    let picture = body.like_weight("picture", &first);
    let code = network.encode_style(&mut body, &picture);
    let result = body.assign(&format!("torch.to(torch.flatten({code}, 1), picture)"));
    let name = format!("encode_style_{}", domain.name());
    body.method(&name, &["picture"], &result)
}

fn decode(architecture: &Architecture, domain: Domain) -> String {
    let network = Network {
        architecture,
        domain,
    };
    let mut body = Body::default();
    let content = "content".to_owned();
    let name = format!("decode_{}", domain.name());
    if !takes_style(architecture) {
        let result = network.decode(&mut body, &content, None);
        return body.method(&name, &["content"], &result);
    }
    let style = body.assign("torch.flatten(style, 1)");
    let style = body.like_weight(&style, &network.first_linear());
    let parameters = network.adain_parameters(&mut body, &style);
    let result = network.decode(&mut body, &content, Some(&parameters));
    body.method(&name, &["content", "style"], &result)
}

/// The statements of a method.
#[derive(Default)]
struct Body {
    text: String,
    values: usize,
}

impl Body {
    /// Gives the result of `expression` a name.
    fn assign(&mut self, expression: &str) -> String {
        let name = format!("x{}", self.values);
        self.values += 1;
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "    {name} = {expression}");
        name
    }

    /// Brings `value` to the device and number format of the weight of `layer`.
    fn like_weight(&mut self, value: &str, layer: &str) -> String {
        self.assign(&format!(
            "torch.to({value}, {})",
            parameter(layer, "weight")
        ))
    }

    fn method(self, name: &str, arguments: &[&str], result: &str) -> String {
        format!(
            "{}{}    return {result}\n",
            head(name, arguments),
            self.text
        )
    }
}

fn parameter(layer: &str, kind: &str) -> String {
    format!("self.{}", attribute(&format!("{layer}.{kind}")))
}

impl Writer for Body {
    type Value = String;

    fn pad(&mut self, x: &String, margin: i64, padding: Padding) -> String {
        let margins = format!("[{margin}, {margin}, {margin}, {margin}]");
        self.assign(&match padding {
            Padding::Reflect => format!("torch.reflection_pad2d({x}, {margins})"),
            Padding::Replicate => format!("torch.replication_pad2d({x}, {margins})"),
            Padding::Zero => format!("torch.constant_pad_nd({x}, {margins}, 0)"),
        })
    }

    fn convolution(&mut self, x: &String, layer: &str, _kernel: i64, stride: i64) -> String {
        let [weight, bias] = ["weight", "bias"].map(|kind| parameter(layer, kind));
        self.assign(&format!(
            "torch.conv2d({x}, {weight}, {bias}, [{stride}, {stride}], [0, 0], [1, 1], 1)"
        ))
    }

    fn linear(&mut self, x: &String, layer: &str) -> String {
        let [weight, bias] = ["weight", "bias"].map(|kind| parameter(layer, kind));
        self.assign(&format!("torch.linear({x}, {weight}, {bias})"))
    }

    fn instance_norm(&mut self, x: &String, _channels: i64) -> String {
        self.assign(&format!(
            "torch.instance_norm({x}, None, None, None, None, True, 0., {EPSILON}, False)"
        ))
    }

    fn adaptive_norm(
        &mut self,
        x: &String,
        channels: i64,
        parameters: &String,
        position: i64,
    ) -> String {
        let normalised = self.instance_norm(x, channels);
        let mut part = |from: i64| {
            let part = format!("torch.narrow({parameters}, 1, {from}, {channels})");
            self.assign(&format!("torch.unsqueeze(torch.unsqueeze({part}, 2), 3)"))
        };
        let (shift, scale) = (part(position), part(position + channels));
        self.assign(&format!(
            "torch.add(torch.mul({normalised}, {scale}), {shift})"
        ))
    }

    fn layer_norm(&mut self, x: &String, layer: &str) -> String {
        let [gamma, beta] = ["gamma", "beta"]
            .map(|kind| format!("torch.reshape({}, [1, -1, 1, 1])", parameter(layer, kind)));
        // Half precision cannot hold the sums.
        let wide = self.assign(&format!("torch.to({x}, 6)"));
        let mean = self.assign(&format!("torch.mean({wide}, [1, 2, 3], True)"));
        let deviation = self.assign(&format!("torch.std({wide}, [1, 2, 3], True, True)"));
        let normalised = self.assign(&format!(
            "torch.div(torch.sub({wide}, {mean}), torch.add({deviation}, {EPSILON}))"
        ));
        let normalised = self.assign(&format!("torch.to({normalised}, {x})"));
        self.assign(&format!(
            "torch.add(torch.mul({normalised}, {gamma}), {beta})"
        ))
    }

    fn activation(&mut self, x: &String, activation: Activation, layer: &str) -> String {
        match activation {
            Activation::Relu => self.assign(&format!("torch.relu({x})")),
            Activation::Lrelu => {
                self.assign(&format!("torch.leaky_relu({x}, 0.20000000000000001)"))
            }
            Activation::Prelu => {
                self.assign(&format!("torch.prelu({x}, {})", parameter(layer, "weight")))
            }
            Activation::Selu => self.assign(&format!("torch.selu({x})")),
            Activation::Tanh => self.assign(&format!("torch.tanh({x})")),
            Activation::None => x.clone(),
        }
    }

    fn add(&mut self, x: &String, y: &String) -> String {
        self.assign(&format!("torch.add({x}, {y})"))
    }

    fn enlarge(&mut self, x: &String) -> String {
        self.assign(&format!("torch.upsample_nearest2d({x}, None, [2., 2.])"))
    }

    fn mean(&mut self, x: &String) -> String {
        self.assign(&format!("torch.adaptive_avg_pool2d({x}, [1, 1])"))
    }
}
