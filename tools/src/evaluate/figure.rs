//! Figures, as they are told in text, as JSON and on a page.

use std::fmt;
use std::path::PathBuf;

use munit::Direction;
use serde::Serialize;

use crate::program::counted;

/// One number about a model, and what it is to be compared with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// By which programs know it.
    pub key: &'static str,
    /// What it is called.
    pub name: &'static str,
    /// The network that it was computed with, after which it is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone: Option<String>,
    /// The number.
    pub value: f64,
    /// Its standard error over the inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
    /// Its unit, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'static str>,
    /// Which way is better, in words.
    pub meaning: &'static str,
    /// The same number for something else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<Comparison>,
    /// What to keep in mind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caution: Option<String>,
}

/// A number beside a figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What it is of.
    pub of: &'static str,
    /// The number.
    pub value: f64,
}

impl Figure {
    /// A figure that stands alone.
    pub fn new(key: &'static str, name: &'static str, value: f64, meaning: &'static str) -> Self {
        Self {
            key,
            name,
            backbone: None,
            value,
            standard_error: None,
            unit: None,
            meaning,
            compare: Vec::new(),
            caution: None,
        }
    }

    /// The mean of `values` with its standard error; `None` without values.
    pub fn mean(
        key: &'static str,
        name: &'static str,
        values: &[f64],
        meaning: &'static str,
    ) -> Option<Self> {
        let (value, error) = super::scores::mean_with_error(values)?;
        Some(Self {
            standard_error: Some(error),
            ..Self::new(key, name, value, meaning)
        })
    }

    /// Named after a network.
    #[must_use]
    pub fn with_backbone(self, backbone: &str) -> Self {
        Self {
            backbone: Some(backbone.to_owned()),
            ..self
        }
    }

    /// In a unit.
    #[must_use]
    pub fn in_unit(self, unit: &'static str) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }

    /// Beside the same number for something else, if there is one.
    #[must_use]
    pub fn beside(mut self, of: &'static str, value: Option<f64>) -> Self {
        self.compare
            .extend(value.map(|value| Comparison { of, value }));
        self
    }

    /// With something to keep in mind, if there is something.
    #[must_use]
    pub fn with_caution(self, caution: Option<String>) -> Self {
        Self { caution, ..self }
    }

    /// The number as it is shown, with its error and its unit.
    pub fn shown(&self) -> String {
        let mut text = number(self.value);
        if let Some(error) = self.standard_error.filter(|error| *error > 0.0) {
            text += &format!(" ± {}", number(error));
        }
        if let Some(unit) = self.unit {
            text += " ";
            text += unit;
        }
        text
    }
}

/// Four digits that count.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    let decimals = match magnitude {
        _ if !value.is_finite() => 0,
        0.0 => 0,
        _ => (3 - magnitude.log10().floor() as i32).clamp(0, 6),
    };
    format!("{value:.0$}", decimals as usize)
}

/// A figure that could not be had.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// Which.
    pub what: &'static str,
    /// Why, and what would help.
    pub why: String,
}

/// Content distances of two kinds of pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Histogram {
    /// The network that they were computed with.
    pub backbone: String,
    /// Whether the maps were instance-normalised.
    pub normalised: bool,
    /// Of each input and its translation.
    pub same_scene: Vec<f64>,
    /// Of each input and another input.
    pub other_scene: Vec<f64>,
}

/// What was found about one direction of a model.
#[derive(Clone, Debug, Serialize)]
pub struct DirectionReport {
    /// Which direction.
    pub direction: Direction,
    /// What the pictures of the source domain show.
    pub from: String,
    /// What those of the target domain show.
    pub to: String,
    /// Pictures that were translated.
    pub inputs: usize,
    /// Where they lie.
    pub input_folder: PathBuf,
    /// Translations of each.
    pub styles: usize,
    /// Real pictures of the target domain.
    pub real: usize,
    /// Where they lie.
    pub real_folder: PathBuf,
    /// What to keep in mind about these pictures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cautions: Vec<String>,
    /// The figures.
    pub figures: Vec<Figure>,
    /// What could not be had.
    pub left_out: Vec<LeftOut>,
    /// How well the content distances tell scenes apart.
    pub histograms: Vec<Histogram>,
    /// How long it took.
    pub seconds: f64,
    /// Some inputs and what became of them.
    #[serde(skip)]
    pub sheet: Option<image::RgbImage>,
}

impl DirectionReport {
    /// How many real pictures there are to compare with, and where.
    pub(super) fn compared_with(&self) -> String {
        match self.real {
            0 => "no real pictures to compare with, which needs a --backbone".to_owned(),
            real => format!(
                "{} of {} to compare with",
                counted(real as u64, "real picture"),
                self.real_folder.display()
            ),
        }
    }
}

impl fmt::Display for DirectionReport {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            formatter,
            "{} to {} ({}): {} of {} in {}, {}",
            self.from,
            self.to,
            self.direction.name(),
            counted(self.inputs as u64, "input"),
            self.input_folder.display(),
            counted(self.styles as u64, "style"),
            self.compared_with()
        )?;
        figures(formatter, &self.figures)?;
        left_out(formatter, &self.left_out)
    }
}

/// One figure a line.
pub(super) fn figures(formatter: &mut fmt::Formatter, figures: &[Figure]) -> fmt::Result {
    for figure in figures {
        write!(formatter, "  {:<28} {:<20}", figure.name, figure.shown())?;
        if let Some(backbone) = &figure.backbone {
            write!(formatter, "  {backbone}")?;
        }
        let others: Vec<_> = figure
            .compare
            .iter()
            .map(|other| format!("{}: {}", other.of, number(other.value)))
            .collect();
        if !others.is_empty() {
            write!(formatter, "  ({})", others.join(", "))?;
        }
        if let Some(caution) = &figure.caution {
            write!(formatter, "  {caution}")?;
        }
        writeln!(formatter)?;
    }
    Ok(())
}

/// What is missing, one a line.
pub(super) fn left_out(formatter: &mut fmt::Formatter, left_out: &[LeftOut]) -> fmt::Result {
    for missing in left_out {
        writeln!(formatter, "  left out: {}: {}", missing.what, missing.why)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (12345.6, "12346"),
            (123.456, "123.5"),
            (1.0, "1.000"),
            (-0.012_345, "-0.01235"),
            (0.000_001_234, "0.000001"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_figure_is_told_with_its_error_and_unit() {
        let figure = Figure::mean("x", "x", &[20.0, 22.0, 24.0], "higher is better").unwrap();
        assert_eq!(figure.in_unit("dB").shown(), "22.00 ± 1.155 dB");
        assert!(Figure::mean("x", "x", &[], "").is_none());
    }
}
