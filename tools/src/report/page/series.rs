//! Curves: what they are called, which belong together, how they are smoothed and thinned.

use crate::report::scalars::LossTable;

/// A line in a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is called.
    pub label: String,
    /// All readings.
    pub readings: Vec<Reading>,
}

/// A value at a place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Iterations done.
    pub iteration: f64,
    /// Seconds of training.
    pub seconds: f64,
    /// The value; finite.
    pub value: f64,
}

/// Series that are shown in one chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What stands above it.
    pub title: &'static str,
    /// What it means, and which way is good.
    pub meaning: &'static str,
    /// The lines.
    pub series: Vec<Series>,
}

/// Title, meaning, and names of columns without their domains or directions.
type Plan = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const LOSSES: [Plan; 5] = [
    (
        "The contest",
        "Discriminators tell translated pictures from real ones; generators try to pass. Neither should \
         win for good.",
        &[("dis", "discriminator"), ("gen_adv", "generator")],
    ),
    (
        "Pictures",
        "How far pictures come back from their own codes, and after a translation there and back, and how \
         far translations are from partners. Lower is better.",
        &[
            ("gen_recon_x", "reconstruction"),
            ("gen_cycrecon_x", "there and back"),
            ("gen_cyc_x", "there and back"),
            ("gen_vgg", "perceptual"),
            ("gen_vgg_style", "style, perceptual"),
            ("gen_paired", "partner"),
        ],
    ),
    (
        "Codes",
        "How far style and content codes come back from translations. A style loss that stays near 0.8 \
         means that styles are ignored.",
        &[
            ("gen_recon_s", "style"),
            ("gen_recon_c", "content"),
            ("gen_recon_kl", "divergence"),
        ],
    ),
    (
        "Totals",
        "Weighted sums: what is minimised.",
        &[("dis_total", "discriminators"), ("gen_total", "generators")],
    ),
    (
        "Loss scales",
        "What losses are multiplied by in float16: halved when a gradient overflows and its update is \
         passed over, doubled after 2000 without.",
        &[
            ("dis_loss_scale", "discriminators"),
            ("gen_loss_scale", "generators"),
        ],
    ),
];
const OTHERS: (&str, &str) = ("Other losses", "As they are named in losses.csv.");

const FIGURES: [Plan; 3] = [
    (
        "Diversity",
        "How much the same picture differs from style to style, in pixel values from -1 to 1. 0 means that \
         styles do nothing.",
        &[("diversity", "")],
    ),
    (
        "Distance from the input",
        "How much translations differ from their inputs, likewise. 0 means that nothing is translated.",
        &[("identity_distance", "")],
    ),
    (
        "Discriminators that are right",
        "Share of patches that they tell: 0.5 is guessing, 1 is never mistaken.",
        &[("dis_accuracy", "")],
    ),
];

/// The groups of losses of a table, and those of its figures. What belongs to no group that is known
/// makes one of its own.
pub fn groups(table: &LossTable) -> (Vec<Group>, Vec<Group>) {
    let mut taken = vec![false; table.names.len()];
    let figures = planned(table, &FIGURES, &mut taken);
    let mut losses = planned(table, &LOSSES, &mut taken);
    let left = (0..table.names.len()).filter(|column| !taken[*column]);
    let others: Vec<Series> = left
        .map(|column| series(table, column, table.names[column].clone()))
        .filter(|series| !series.readings.is_empty())
        .collect();
    if !others.is_empty() {
        losses.push(Group {
            title: OTHERS.0,
            meaning: OTHERS.1,
            series: others,
        });
    }
    (losses, figures)
}

fn planned(table: &LossTable, plans: &[Plan], taken: &mut [bool]) -> Vec<Group> {
    let mut groups = Vec::new();
    for (title, meaning, names) in plans {
        let mut lines = Vec::new();
        for (name, label) in *names {
            for (column, known) in table.names.iter().enumerate() {
                let Some(label) = label_of(known, name, label) else {
                    continue;
                };
                taken[column] = true;
                let series = series(table, column, label);
                if !series.readings.is_empty() {
                    lines.push(series);
                }
            }
        }
        if !lines.is_empty() {
            groups.push(Group {
                title,
                meaning,
                series: lines,
            });
        }
    }
    groups
}

/// The label of column `known` if it is `name` alone, of a domain or of a direction.
fn label_of(known: &str, name: &str, label: &str) -> Option<String> {
    let place = match known.strip_prefix(name)? {
        "" => return Some(label.to_owned()),
        "_a" => "a",
        "_b" => "b",
        "_a2b" => "a to b",
        "_b2a" => "b to a",
        _ => return None,
    };
    Some(match label {
        "" => place.to_owned(),
        label => format!("{label}, {place}"),
    })
}

fn series(table: &LossTable, column: usize, label: String) -> Series {
    let readings = table.rows.iter().filter_map(|row| {
        let value = (*row.values.get(column)?)?;
        value.is_finite().then_some(Reading {
            iteration: row.iteration as f64,
            seconds: row.seconds,
            value,
        })
    });
    Series {
        label,
        readings: readings.collect(),
    }
}

/// Points of a smoothed line, at most.
const SMOOTH_POINTS: usize = 200;
/// The smoothed line follows within this share of all readings.
const MEMORY: f64 = 0.02;

/// An exponential moving average, unbiased from its first reading on, and thinned.
pub fn smoothed(readings: &[Reading]) -> Vec<Reading> {
    let keep = 1.0 - 1.0 / (MEMORY * readings.len() as f64).max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let averaged: Vec<Reading> = readings
        .iter()
        .map(|reading| {
            sum = keep * sum + reading.value;
            weight = keep * weight + 1.0;
            Reading {
                value: sum / weight,
                ..*reading
            }
        })
        .collect();
    if averaged.len() <= SMOOTH_POINTS {
        return averaged;
    }
    let last = averaged.len() - 1;
    (0..SMOOTH_POINTS)
        .map(|point| averaged[point * last / (SMOOTH_POINTS - 1)])
        .collect()
}

/// Least and greatest of so many stretches, so that no spike is lost.
const RAW_STRETCHES: usize = 150;

/// All readings, or the extremes of stretches of them.
pub fn thinned(readings: &[Reading]) -> Vec<Reading> {
    if readings.len() <= 2 * RAW_STRETCHES {
        return readings.to_vec();
    }
    let length = readings.len().div_ceil(RAW_STRETCHES);
    let mut points = Vec::with_capacity(2 * RAW_STRETCHES);
    for stretch in readings.chunks(length) {
        let by_value = |one: &&Reading, other: &&Reading| one.value.total_cmp(&other.value);
        let least = stretch.iter().min_by(by_value);
        let greatest = stretch.iter().max_by(by_value);
        let mut pair: Vec<Reading> = least.into_iter().chain(greatest).copied().collect();
        pair.sort_by(|one, other| one.iteration.total_cmp(&other.iteration));
        pair.dedup();
        points.extend(pair);
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scalars::LossRow;

    fn readings(values: impl IntoIterator<Item = f64>) -> Vec<Reading> {
        (0..)
            .zip(values)
            .map(|(number, value)| Reading {
                iteration: f64::from(number),
                seconds: 2.0 * f64::from(number),
                value,
            })
            .collect()
    }

    #[test]
    fn columns_come_into_groups_and_none_is_lost() {
        let names = [
            "dis_a",
            "dis_total",
            "gen_recon_s_b",
            "gen_recon_kl_cyc_aba",
            "diversity_b2a",
            "r1_a",
            "empty",
        ];
        let row = |iteration, values: [Option<f64>; 7]| LossRow {
            iteration,
            seconds: 0.5,
            values: values.to_vec(),
        };
        let table = LossTable {
            names: names.map(str::to_owned).to_vec(),
            rows: vec![
                row(
                    10,
                    [
                        Some(1.0),
                        Some(2.0),
                        Some(3.0),
                        Some(4.0),
                        None,
                        Some(6.0),
                        None,
                    ],
                ),
                row(
                    20,
                    [Some(f64::NAN), None, None, None, Some(5.0), None, None],
                ),
            ],
        };
        let (losses, figures) = groups(&table);
        let named = |groups: &[Group]| -> Vec<(&'static str, Vec<String>)> {
            let groups = groups.iter();
            groups
                .map(|group| {
                    let labels = group.series.iter();
                    (group.title, labels.map(|one| one.label.clone()).collect())
                })
                .collect()
        };
        let expected = [
            ("The contest", vec!["discriminator, a".to_owned()]),
            ("Codes", vec!["style, b".to_owned()]),
            ("Totals", vec!["discriminators".to_owned()]),
            (
                "Other losses",
                vec!["gen_recon_kl_cyc_aba".to_owned(), "r1_a".to_owned()],
            ),
        ];
        assert_eq!(named(&losses), expected);
        assert_eq!(named(&figures), [("Diversity", vec!["b to a".to_owned()])]);
        let reading = Reading {
            iteration: 10.0,
            seconds: 0.5,
            value: 1.0,
        };
        assert_eq!(losses[0].series[0].readings, [reading]);
    }

    #[test]
    fn smoothing_keeps_constants_and_follows() {
        let constant = smoothed(&readings([3.0; 1000]));
        assert_eq!(constant.len(), SMOOTH_POINTS);
        assert!(
            constant
                .iter()
                .all(|reading| (reading.value - 3.0).abs() < 1e-9)
        );
        assert_eq!(constant[SMOOTH_POINTS - 1].iteration, 999.0);
        let step = smoothed(&readings(
            (0..1000).map(|n| if n < 500 { 0.0 } else { 1.0 }),
        ));
        let at = |share: f64| step[(share * (SMOOTH_POINTS - 1) as f64) as usize].value;
        assert!(at(0.49) == 0.0 && (0.3..0.9).contains(&at(0.52)) && at(0.7) > 0.99);
        assert_eq!(smoothed(&readings([1.0, 5.0])), readings([1.0, 5.0]));
    }

    #[test]
    fn thinning_keeps_every_spike() {
        let noisy = (0..10_000).map(|n| if n == 7777 { 99.0 } else { f64::from(n % 7) });
        let points = thinned(&readings(noisy));
        assert!(points.len() <= 2 * RAW_STRETCHES, "{}", points.len());
        assert!(points.iter().any(|point| point.value == 99.0));
        assert!(points.is_sorted_by(|one, other| one.iteration < other.iteration));
        assert_eq!(thinned(&readings([1.0, 2.0])), readings([1.0, 2.0]));
    }
}
