//! What a model file is, as a table or as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use munit::layout::multiply_adds_per_pixel;
use munit::model_file::{ModelFile, ModelMetadata};
use munit::{Direction, Domain, Family};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tch::Kind;

/// All that can be said about a model file, in the order of the table.
#[derive(Clone, Debug, Serialize)]
pub struct ModelInfo {
    /// The file, as it was named.
    pub file: String,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Number of weights.
    pub parameters: u64,
    /// Number of weights by the precision in which they are stored: fp32, fp16 or bf16.
    pub precision: BTreeMap<&'static str, u64>,
    /// Multiply-adds per picture pixel of content encoder and decoder, by direction.
    pub multiply_adds_per_pixel: BTreeMap<&'static str, f64>,
    /// What the file says about itself.
    #[serde(flatten)]
    pub metadata: ModelMetadata,
}

/// Size of the file in bytes, and their SHA-256 in hexadecimal digits.
pub(crate) fn file_hash(path: &Path) -> Result<(u64, String)> {
    let mut hash = Sha256::new();
    let read = File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hash));
    let bytes = read.with_context(|| format!("{}: cannot read", path.display()))?;
    Ok((bytes, format!("{:x}", hash.finalize())))
}

impl ModelInfo {
    /// Reads and checks the whole file.
    ///
    /// # Errors
    /// A sentence that names the file and says why it is not a model.
    pub fn of(path: &Path) -> Result<Self> {
        let model = ModelFile::open(path)?;
        let (bytes, sha256) = file_hash(path)?;
        let metadata = model.metadata().clone();
        Ok(Self {
            file: path.display().to_string(),
            bytes,
            sha256,
            parameters: model.parameters(),
            precision: model
                .precisions()
                .into_iter()
                .map(|(kind, count)| (precision_name(kind), count))
                .collect(),
            multiply_adds_per_pixel: metadata
                .directions
                .iter()
                .map(|&direction| {
                    let cost = multiply_adds_per_pixel(&metadata.architecture, direction);
                    (direction.name(), cost)
                })
                .collect(),
            metadata,
        })
    }
}

impl fmt::Display for ModelInfo {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let metadata = &self.metadata;
        let mut row = |name: &str, text: &str| {
            let text = if text.is_empty() { "not stated" } else { text };
            let mut lines = text.lines();
            writeln!(formatter, "{name:<16} {}", lines.next().unwrap_or_default())?;
            lines.try_for_each(|line| writeln!(formatter, "{:<16} {line}", ""))
        };
        row("model", &self.file)?;
        row("family", family_name(metadata.architecture.family))?;
        row("domains", &self.domains())?;
        row("directions", &self.directions())?;
        row("network", &self.network())?;
        row("parameters", &thousands(self.parameters))?;
        row("multiply-adds", &self.cost())?;
        row("precision", &self.precision())?;
        row("file size", &format!("{} bytes", thousands(self.bytes)))?;
        row("SHA-256", &self.sha256)?;
        let iterations = match metadata.iterations {
            0 => String::new(),
            iterations => thousands(iterations),
        };
        row("iterations", &iterations)?;
        row("trained on", metadata.data.trim())?;
        row("licence", metadata.licence.trim())?;
        let size = metadata.recommended_size;
        row(
            "training size",
            &size.map_or(String::new(), |size| format!("{size} pixels")),
        )?;
        row("mean styles", or_none(&self.mean_styles()))?;
        row("named styles", or_none(&self.styles()))
    }
}

impl ModelInfo {
    fn domains(&self) -> String {
        let domain = |domain: Domain| {
            let grey = match self.metadata.architecture.channels(domain) {
                1 => " (grey)",
                _ => "",
            };
            format!(
                "{} = {}{grey}",
                domain.name(),
                self.metadata.domain_name(domain)
            )
        };
        Domain::ALL.map(domain).join(", ")
    }

    fn directions(&self) -> String {
        let direction = |direction: &Direction| {
            format!(
                "{} ({} to {})",
                direction.name(),
                self.metadata.domain_name(direction.source()),
                self.metadata.domain_name(direction.target())
            )
        };
        let directions: Vec<_> = self.metadata.directions.iter().map(direction).collect();
        directions.join(", ")
    }

    fn network(&self) -> String {
        let generator = &self.metadata.architecture.generator;
        let style = match self.metadata.architecture.family {
            Family::Munit => format!(
                ", style_dim {}, mlp_dim {}",
                generator.style_dim, generator.mlp_dim
            ),
            Family::Unit => String::new(),
        };
        format!(
            "dim {}, n_downsample {}, n_res {}{style}, activ {}, pad_type {}",
            generator.dim,
            generator.n_downsample,
            generator.n_res,
            word(&generator.activation),
            word(&generator.padding)
        )
    }

    fn cost(&self) -> String {
        let mut costs: Vec<f64> = self.multiply_adds_per_pixel.values().copied().collect();
        costs.dedup();
        let text = |cost: &f64| {
            let frame = cost * 256.0 * 256.0 / 1e9;
            format!(
                "{} per pixel, {frame:.1} G for 256x256",
                thousands(cost.round() as u64)
            )
        };
        match &costs[..] {
            [cost] => text(cost),
            _ => {
                let lines = self.multiply_adds_per_pixel.iter();
                let lines: Vec<_> = lines
                    .map(|(name, cost)| format!("{name}: {}", text(cost)))
                    .collect();
                lines.join("\n")
            }
        }
    }

    fn precision(&self) -> String {
        let mut counts = self.precision.iter();
        match (counts.next(), counts.next()) {
            (Some((name, _)), None) => (*name).to_owned(),
            _ => {
                let counts = self.precision.iter();
                let counts: Vec<_> = counts
                    .map(|(name, count)| format!("{name}: {}", thousands(*count)))
                    .collect();
                counts.join(", ")
            }
        }
    }

    fn mean_styles(&self) -> String {
        let means = self.metadata.mean_styles.iter();
        let lines: Vec<_> = means
            .map(|(domain, code)| {
                format!("{}: {}", self.metadata.domain_name(*domain), numbers(code))
            })
            .collect();
        lines.join("\n")
    }

    fn styles(&self) -> String {
        let styles = self.metadata.styles.iter();
        let lines: Vec<_> = styles
            .map(|(name, style)| {
                let domain = self.metadata.domain_name(style.domain);
                format!("{name} ({domain}): {}", numbers(&style.code))
            })
            .collect();
        lines.join("\n")
    }
}

/// The family as its paper writes it.
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::Munit => "MUNIT",
        Family::Unit => "UNIT",
    }
}

fn precision_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Half => "fp16",
        Kind::BFloat16 => "bf16",
        _ => "fp32",
    }
}

/// An option as the configurations write it.
fn word(option: &impl Serialize) -> String {
    match serde_json::to_value(option) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn numbers(code: &[f32]) -> String {
    let numbers: Vec<_> = code.iter().map(|number| format!("{number:.2}")).collect();
    numbers.join(" ")
}

/// `1083776` as `1,083,776`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn long_numbers_are_cut_into_thousands() {
        let texts = [0, 12, 999, 1000, 1_083_776].map(thousands);
        assert_eq!(texts, ["0", "12", "999", "1,000", "1,083,776"]);
    }
}
