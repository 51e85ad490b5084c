//! The published networks, layer by layer.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use munit::backbone::{ColourOrder, Input, InputSize, Operation, PaddingMode, Resampling};
use tch::Tensor;

use super::graph::{BATCH_NORM_EPSILON, Graph};

/// A network whose layers are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// torchvision's VGG networks without batch norm: 11, 13, 16 or 19 layers.
    Vgg,
    /// torchvision's AlexNet.
    AlexNet,
    /// torchvision's SqueezeNet 1.0 or 1.1.
    SqueezeNet,
    /// torchvision's residual networks: 18 to 152 layers, for any number of classes.
    ResNet,
    /// The Inception-v3 network of the Fréchet inception distance, as pytorch-fid and
    /// torch-fidelity keep it.
    Inception,
    /// VGG-19 distilled to a sixteenth (arXiv 2003.08436).
    DistilledVgg19,
    /// SqueezeNet 1.0 as converted from Caffe.
    CaffeSqueezeNet,
}

/// What a network is used for beyond its layers.
pub struct Uses {
    pub name: String,
    pub input: Input,
    pub perceptual: Vec<String>,
    pub content: Option<String>,
    pub features: Option<String>,
    pub logits: Option<String>,
}

/// ImageNet's mean colour and deviation as torchvision has them, for values from 0 to 1.
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f64; 3] = [0.229, 0.224, 0.225];

fn torchvision_input(size: Option<i64>) -> Input {
    Input {
        order: ColourOrder::Rgb,
        range: [0.0, 1.0],
        mean: MEAN,
        deviation: DEVIATION,
        size: size.map(|side| InputSize {
            height: side,
            width: side,
            method: Resampling::Antialiased,
        }),
    }
}

impl Network {
    /// The network whose tensors these are, if it is known.
    pub fn of(tensors: &BTreeMap<String, Tensor>) -> Option<Self> {
        let shape = |name: &str| tensors.get(name).map(Tensor::size).unwrap_or_default();
        let has = |name: &str| tensors.contains_key(name);
        if has("Mixed_7c.branch_pool.bn.running_var") {
            return Some(Self::Inception);
        }
        if has("layer4.0.bn1.running_var") {
            return Some(Self::ResNet);
        }
        if has("conv0.weight") && has("conv11.weight") {
            return Some(Self::DistilledVgg19);
        }
        if has("fire9/conv3x3_2.weight") {
            return Some(Self::CaffeSqueezeNet);
        }
        if has("features.3.squeeze.weight") {
            return Some(Self::SqueezeNet);
        }
        match shape("features.0.weight").as_slice() {
            [_, 3, 11, 11] => Some(Self::AlexNet),
            [64, 3, 3, 3] if !has("features.1.running_var") => Some(Self::Vgg),
            _ => None,
        }
    }

    /// Adds the network's layers to `graph`.
    pub fn build(self, graph: &mut Graph, tensors: &BTreeMap<String, Tensor>) -> Result<Uses> {
        match self {
            Self::Vgg => vgg(graph, tensors),
            Self::AlexNet => alex_net(graph),
            Self::SqueezeNet => squeeze_net(graph, tensors),
            Self::ResNet => residual_network(graph, tensors),
            Self::Inception => super::inception::inception(graph),
            Self::DistilledVgg19 => distilled_vgg19(graph, tensors),
            Self::CaffeSqueezeNet => caffe_squeeze_net(graph),
        }
    }
}

/// torchvision counts convolutions, activations and poolings alike.
fn vgg(graph: &mut Graph, tensors: &BTreeMap<String, Tensor>) -> Result<Uses> {
    let has = |place: usize| tensors.contains_key(&format!("features.{place}.weight"));
    let (mut place, mut stage, mut number, mut count) = (0, 1, 1, 0);
    let mut last = Vec::new();
    while stage <= 5 {
        if has(place) {
            let name = format!("conv{stage}_{number}");
            graph.convolution(&name, &[], &format!("features.{place}"), 1, [1, 1])?;
            graph.relu(&format!("relu{stage}_{number}"));
            (place, number, count) = (place + 2, number + 1, count + 1);
            continue;
        }
        if number == 1 {
            bail!("it lacks the tensor features.{place}.weight");
        }
        last.push(format!("relu{stage}_{}", number - 1));
        if stage < 5 {
            graph.max_pool(&format!("pool{stage}"), 2, 2, false);
        }
        (place, stage, number) = (place + 1, stage + 1, 1);
    }
    let deepest = last.last().cloned();
    Ok(Uses {
        // The three layers behind the convolutions count in the networks' usual names.
        name: format!("VGG-{}", count + 3),
        input: torchvision_input(None),
        perceptual: last,
        content: deepest.clone(),
        features: deepest,
        logits: None,
    })
}

fn alex_net(graph: &mut Graph) -> Result<Uses> {
    graph.convolution("conv1", &[], "features.0", 4, [2, 2])?;
    graph.relu("relu1");
    graph.max_pool("pool1", 3, 2, false);
    graph.convolution("conv2", &[], "features.3", 1, [2, 2])?;
    graph.relu("relu2");
    graph.max_pool("pool2", 3, 2, false);
    for (number, place) in [(3, 6), (4, 8), (5, 10)] {
        let stored = format!("features.{place}");
        graph.convolution(&format!("conv{number}"), &[], &stored, 1, [1, 1])?;
        graph.relu(&format!("relu{number}"));
    }
    Ok(Uses {
        name: "AlexNet".to_owned(),
        input: torchvision_input(None),
        perceptual: (1..=5).map(|number| format!("relu{number}")).collect(),
        content: Some("relu5".to_owned()),
        features: Some("relu5".to_owned()),
        logits: None,
    })
}

/// A fire module of a SqueezeNet: `stored` names its three convolutions.
fn fire(graph: &mut Graph, name: &str, [squeeze, one, three]: [&str; 3]) -> Result<String> {
    graph.convolution(&format!("{name}.squeeze"), &[], squeeze, 1, [0, 0])?;
    let squeezed = graph.relu(&format!("{name}.squeezed"));
    graph.convolution(&format!("{name}.expand1x1"), &[&squeezed], one, 1, [0, 0])?;
    let one = graph.relu(&format!("{name}.expanded1x1"));
    graph.convolution(&format!("{name}.expand3x3"), &[&squeezed], three, 1, [1, 1])?;
    let three = graph.relu(&format!("{name}.expanded3x3"));
    Ok(graph.layer(name, &[&one, &three], Operation::Concatenate))
}

fn squeeze_net(graph: &mut Graph, tensors: &BTreeMap<String, Tensor>) -> Result<Uses> {
    graph.convolution("conv1", &[], "features.0", 2, [0, 0])?;
    graph.relu("relu1");
    // Where version 1.0 pools late, 1.1 pools early.
    let early = !tensors.contains_key("features.4.squeeze.weight")
        || tensors.contains_key("features.11.squeeze.weight");
    let (name, pools): (_, &[usize]) = if early {
        ("SqueezeNet 1.1", &[2, 5, 8])
    } else {
        ("SqueezeNet 1.0", &[2, 6, 11])
    };
    let mut number = 2;
    let mut perceptual = vec!["relu1".to_owned()];
    for place in 2..=12 {
        if pools.contains(&place) {
            graph.max_pool(&format!("pool{place}"), 3, 2, true);
            continue;
        }
        let stored =
            ["squeeze", "expand1x1", "expand3x3"].map(|part| format!("features.{place}.{part}"));
        let stored = [&stored[0], &stored[1], &stored[2]].map(String::as_str);
        let module = fire(graph, &format!("fire{number}"), stored)?;
        number += 1;
        // Those that LPIPS has chosen: the last before each pooling, and all behind the last one.
        if pools.contains(&(place + 1)) || place > 8 {
            perceptual.push(module);
        }
    }
    graph.convolution("classes", &[], "classifier.1", 1, [0, 0])?;
    graph.relu("logits");
    Ok(Uses {
        name: name.to_owned(),
        input: torchvision_input(None),
        perceptual,
        content: Some("fire9".to_owned()),
        features: Some("fire9".to_owned()),
        logits: Some("logits".to_owned()),
    })
}

/// The second padding is no slip: that network's last convolution adds a ring of biases.
fn caffe_squeeze_net(graph: &mut Graph) -> Result<Uses> {
    graph.convolution("conv1", &[], "conv1", 2, [0, 0])?;
    graph.relu("relu1");
    graph.max_pool("pool1", 3, 2, true);
    let mut perceptual = vec!["relu1".to_owned()];
    for number in 2..=9 {
        let stored =
            ["conv1x1_1", "conv1x1_2", "conv3x3_2"].map(|part| format!("fire{number}/{part}"));
        let stored = [&stored[0], &stored[1], &stored[2]].map(String::as_str);
        perceptual.push(fire(graph, &format!("fire{number}"), stored)?);
        if number == 4 || number == 8 {
            graph.max_pool(&format!("pool{number}"), 3, 2, true);
        }
    }
    graph.convolution("classes", &[], "conv_final", 1, [1, 1])?;
    graph.relu("logits");
    perceptual.retain(|layer| {
        ["relu1", "fire3", "fire4", "fire6", "fire8", "fire9"].contains(&layer.as_str())
    });
    Ok(Uses {
        name: "SqueezeNet 1.0 (Caffe)".to_owned(),
        input: Input {
            order: ColourOrder::Bgr,
            range: [0.0, 255.0],
            mean: [104.0, 117.0, 123.0],
            deviation: [1.0; 3],
            size: Some(InputSize {
                height: 227,
                width: 227,
                method: Resampling::Antialiased,
            }),
        },
        perceptual,
        content: Some("fire9".to_owned()),
        features: Some("fire9".to_owned()),
        logits: Some("logits".to_owned()),
    })
}

/// Its first convolution, 1×1, turns red, green, blue from 0 to 1 into what the weights published
/// for Caffe saw.
fn distilled_vgg19(graph: &mut Graph, tensors: &BTreeMap<String, Tensor>) -> Result<Uses> {
    graph.convolution("conv0", &[], "conv0", 1, [0, 0])?;
    let mut perceptual = Vec::new();
    let mut deepest = None;
    for stage in 1..=5 {
        let count = (1..=4)
            .take_while(|number| tensors.contains_key(&format!("conv{stage}{number}.weight")))
            .count();
        if count == 0 {
            break;
        }
        if stage > 1 {
            graph.max_pool(&format!("pool{}", stage - 1), 2, 2, false);
        }
        for number in 1..=count {
            let (name, stored) = (
                format!("conv{stage}_{number}"),
                format!("conv{stage}{number}"),
            );
            graph.convolution_in_mode(&name, &[], &stored, 1, [1, 1], PaddingMode::Reflect)?;
            deepest = Some(graph.relu(&format!("relu{stage}_{number}")));
        }
        // The maps that were distilled to be alike.
        perceptual.push(format!("relu{stage}_1"));
    }
    Ok(Uses {
        name: format!(
            "VGG-19 distilled to 1/16, up to {}",
            deepest.as_deref().unwrap_or("nothing")
        ),
        input: Input {
            order: ColourOrder::Rgb,
            range: [0.0, 1.0],
            mean: [0.0; 3],
            deviation: [1.0; 3],
            size: None,
        },
        perceptual,
        content: deepest.clone(),
        features: deepest,
        logits: None,
    })
}

fn residual_network(graph: &mut Graph, tensors: &BTreeMap<String, Tensor>) -> Result<Uses> {
    let epsilon = BATCH_NORM_EPSILON;
    graph.normed_convolution("conv1", &[], ["conv1", "bn1"], 2, [3, 3], epsilon)?;
    graph.relu("relu1");
    let operation = Operation::MaxPool {
        size: [3, 3],
        stride: [2, 2],
        padding: [1, 1],
        ceil: false,
    };
    let mut map = graph.layer("pool1", &[], operation);
    let (mut perceptual, mut depth) = (vec!["relu1".to_owned()], 2);
    for stage in 1..=4 {
        for block in 0.. {
            let block = format!("layer{stage}.{block}");
            if !tensors.contains_key(&format!("{block}.conv1.weight")) {
                break;
            }
            let convolutions = (1..=3)
                .take_while(|number| tensors.contains_key(&format!("{block}.conv{number}.weight")))
                .count();
            depth += convolutions;
            // Blocks of two convolutions step in the first, those of three in the second.
            let stepping = if convolutions == 3 { 2 } else { 1 };
            let first = stage > 1 && block.ends_with(".0");
            let mut inner = map.clone();
            for number in 1..=convolutions {
                let stored = [
                    format!("{block}.conv{number}"),
                    format!("{block}.bn{number}"),
                ];
                let weight = tensors.get(&format!("{}.weight", stored[0]));
                let side = weight.map_or(1, |weight| weight.size().last().copied().unwrap_or(1));
                let stride = if first && number == stepping { 2 } else { 1 };
                inner = graph.normed_convolution(
                    &stored[0],
                    &[&inner],
                    [&stored[0], &stored[1]],
                    stride,
                    [side / 2, side / 2],
                    epsilon,
                )?;
                if number < convolutions {
                    inner = graph.relu(&format!("{block}.relu{number}"));
                }
            }
            let around = format!("{block}.downsample");
            if tensors.contains_key(&format!("{around}.0.weight")) {
                let stored = [format!("{around}.0"), format!("{around}.1")];
                let stride = if first { 2 } else { 1 };
                let stored = [stored[0].as_str(), stored[1].as_str()];
                map =
                    graph.normed_convolution(&around, &[&map], stored, stride, [0, 0], epsilon)?;
            }
            graph.layer(&format!("{block}.sum"), &[&inner, &map], Operation::Add);
            map = graph.relu(&block);
        }
        perceptual.push(map.clone());
    }
    graph.layer("pool", &[], Operation::GlobalAveragePool);
    graph.linear("fc", "fc", true)?;
    Ok(Uses {
        name: format!("ResNet-{depth}"),
        input: torchvision_input(Some(224)),
        content: perceptual.last().cloned(),
        perceptual,
        features: Some("pool".to_owned()),
        logits: Some("fc".to_owned()),
    })
}
