//! Inception-v3 (arXiv 1512.00567) with the weights and the peculiarities of the network behind the
//! Fréchet inception distance: poolings that do not count what lies outside, and one that takes
//! largest values.

use anyhow::Result;
use munit::backbone::{ColourOrder, INPUT, Input, InputSize, Operation, Resampling};

use super::graph::Graph;
use super::networks::Uses;

const EPSILON: f64 = 1e-3;

/// Where a module's pooling branch gets its map from.
#[derive(Clone, Copy)]
enum Pool {
    Average,
    Max,
}

/// A convolution with batch norm and activation.
fn convolution(
    graph: &mut Graph,
    from: &str,
    stored: &str,
    stride: i64,
    padding: [i64; 2],
) -> Result<String> {
    let both = [format!("{stored}.conv"), format!("{stored}.bn")];
    let [name, norm] = [both[0].as_str(), both[1].as_str()];
    graph.normed_convolution(name, &[from], [name, norm], stride, padding, EPSILON)?;
    Ok(graph.relu(stored))
}

/// Adds one chain of layers after another, all of which begin at the same map.
struct Module<'g, 'a> {
    graph: &'g mut Graph<'a>,
    name: &'static str,
    input: String,
    branches: Vec<String>,
}

impl Module<'_, '_> {
    /// The convolution `part` of this module.
    fn convolution(
        &mut self,
        from: &str,
        part: &str,
        stride: i64,
        padding: [i64; 2],
    ) -> Result<String> {
        let stored = format!("{}.{part}", self.name);
        convolution(self.graph, from, &stored, stride, padding)
    }

    /// Convolutions one behind the other, each with its part of the name and its padding; the last
    /// one steps by `stride`. Their end becomes part of the module's result.
    fn branch(&mut self, parts: &[(&str, [i64; 2])], stride: i64) -> Result<()> {
        let end = self.chain(parts, stride)?;
        self.branches.push(end);
        Ok(())
    }

    fn chain(&mut self, parts: &[(&str, [i64; 2])], stride: i64) -> Result<String> {
        let mut map = self.input.clone();
        for (index, (part, padding)) in parts.iter().enumerate() {
            let stride = if index + 1 == parts.len() { stride } else { 1 };
            map = self.convolution(&map, part, stride, *padding)?;
        }
        Ok(map)
    }

    /// A pooling that keeps the size, and the convolution behind it.
    fn pool_branch(&mut self, pool: Pool) -> Result<()> {
        let ([size, stride], padding) = ([[3, 3], [1, 1]], [1, 1]);
        let operation = match pool {
            Pool::Average => Operation::AveragePool {
                size,
                stride,
                padding,
            },
            Pool::Max => Operation::MaxPool {
                size,
                stride,
                padding,
                ceil: false,
            },
        };
        let name = format!("{}.pool", self.name);
        let input = self.input.clone();
        let pooled = self.graph.layer(&name, &[&input], operation);
        let end = self.convolution(&pooled, "branch_pool", 1, [0, 0])?;
        self.branches.push(end);
        Ok(())
    }

    /// A pooling that halves the size.
    fn halving_pool(&mut self) {
        let operation = Operation::MaxPool {
            size: [3, 3],
            stride: [2, 2],
            padding: [0, 0],
            ceil: false,
        };
        let name = format!("{}.pool", self.name);
        let input = self.input.clone();
        let end = self.graph.layer(&name, &[&input], operation);
        self.branches.push(end);
    }

    /// Two convolutions of one map, side by side.
    fn fork(&mut self, from: &str, [flat, tall]: [&str; 2]) -> Result<()> {
        for (part, padding) in [(flat, [0, 1]), (tall, [1, 0])] {
            let end = self.convolution(from, part, 1, padding)?;
            self.branches.push(end);
        }
        Ok(())
    }
}

/// Adds the module `name`, filled by `fill`, behind the last layer.
fn module(
    graph: &mut Graph,
    name: &'static str,
    fill: impl FnOnce(&mut Module) -> Result<()>,
) -> Result<()> {
    let input = graph.layers.last().map(|layer| layer.name.clone());
    let mut module = Module {
        input: input.unwrap_or_default(),
        graph,
        name,
        branches: Vec::new(),
    };
    fill(&mut module)?;
    let branches: Vec<&str> = module.branches.iter().map(String::as_str).collect();
    module.graph.layer(name, &branches, Operation::Concatenate);
    Ok(())
}

/// Adds the whole network.
pub fn inception(graph: &mut Graph) -> Result<Uses> {
    const NO: [i64; 2] = [0, 0];
    let first = convolution(graph, INPUT, "Conv2d_1a_3x3", 2, NO)?;
    let first = convolution(graph, &first, "Conv2d_2a_3x3", 1, NO)?;
    let first = convolution(graph, &first, "Conv2d_2b_3x3", 1, [1, 1])?;
    let pooled = graph.max_pool("pool1", 3, 2, false);
    let second = convolution(graph, &pooled, "Conv2d_3b_1x1", 1, NO)?;
    let second = convolution(graph, &second, "Conv2d_4a_3x3", 1, NO)?;
    graph.max_pool("pool2", 3, 2, false);

    for name in ["Mixed_5b", "Mixed_5c", "Mixed_5d"] {
        module(graph, name, |module| {
            module.branch(&[("branch1x1", NO)], 1)?;
            module.branch(&[("branch5x5_1", NO), ("branch5x5_2", [2, 2])], 1)?;
            let parts = [
                ("branch3x3dbl_1", NO),
                ("branch3x3dbl_2", [1, 1]),
                ("branch3x3dbl_3", [1, 1]),
            ];
            module.branch(&parts, 1)?;
            module.pool_branch(Pool::Average)
        })?;
    }
    module(graph, "Mixed_6a", |module| {
        module.branch(&[("branch3x3", NO)], 2)?;
        let parts = [
            ("branch3x3dbl_1", NO),
            ("branch3x3dbl_2", [1, 1]),
            ("branch3x3dbl_3", NO),
        ];
        module.branch(&parts, 2)?;
        module.halving_pool();
        Ok(())
    })?;
    for name in ["Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"] {
        module(graph, name, |module| {
            module.branch(&[("branch1x1", NO)], 1)?;
            let parts = [
                ("branch7x7_1", NO),
                ("branch7x7_2", [0, 3]),
                ("branch7x7_3", [3, 0]),
            ];
            module.branch(&parts, 1)?;
            let parts = [
                ("branch7x7dbl_1", NO),
                ("branch7x7dbl_2", [3, 0]),
                ("branch7x7dbl_3", [0, 3]),
                ("branch7x7dbl_4", [3, 0]),
                ("branch7x7dbl_5", [0, 3]),
            ];
            module.branch(&parts, 1)?;
            module.pool_branch(Pool::Average)
        })?;
    }
    module(graph, "Mixed_7a", |module| {
        module.branch(&[("branch3x3_1", NO), ("branch3x3_2", NO)], 2)?;
        let parts = [
            ("branch7x7x3_1", NO),
            ("branch7x7x3_2", [0, 3]),
            ("branch7x7x3_3", [3, 0]),
            ("branch7x7x3_4", NO),
        ];
        module.branch(&parts, 2)?;
        module.halving_pool();
        Ok(())
    })?;
    for (name, pool) in [("Mixed_7b", Pool::Average), ("Mixed_7c", Pool::Max)] {
        module(graph, name, |module| {
            module.branch(&[("branch1x1", NO)], 1)?;
            let wide = module.chain(&[("branch3x3_1", NO)], 1)?;
            module.fork(&wide, ["branch3x3_2a", "branch3x3_2b"])?;
            let wide = module.chain(&[("branch3x3dbl_1", NO), ("branch3x3dbl_2", [1, 1])], 1)?;
            module.fork(&wide, ["branch3x3dbl_3a", "branch3x3dbl_3b"])?;
            module.pool_branch(pool)
        })?;
    }
    let features = graph.layer("features", &[], Operation::GlobalAveragePool);
    // Inception scores are computed from the numbers without their bias.
    let logits = graph.linear("fc", "fc", false)?;
    Ok(Uses {
        name: "Inception-v3 (FID)".to_owned(),
        input: Input {
            order: ColourOrder::Rgb,
            range: [0.0, 255.0],
            mean: [128.0; 3],
            deviation: [128.0; 3],
            size: Some(InputSize {
                height: 299,
                width: 299,
                method: Resampling::Tensorflow1,
            }),
        },
        perceptual: vec![
            first,
            second,
            "Mixed_5d".into(),
            "Mixed_6e".into(),
            "Mixed_7c".into(),
        ],
        content: Some("Mixed_6e".to_owned()),
        features: Some(features),
        logits: Some(logits),
    })
}
