//! What is said of many measurements of the same thing.

use std::fmt;

/// The middle of many times, and where most of them lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A tenth of the values is smaller.
    pub p10: f64,
    /// Half of the values are smaller.
    pub median: f64,
    /// A tenth of the values is larger.
    pub p90: f64,
    /// A hundredth of the values is larger.
    pub p99: f64,
}

impl Spread {
    /// `None` if there are no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            p10: quantile(&sorted, 0.1),
            median: quantile(&sorted, 0.5),
            p90: quantile(&sorted, 0.9),
            p99: quantile(&sorted, 0.99),
        })
    }
}

/// The text form of times in milliseconds.
impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(
            formatter,
            "median {:.2} ms (p10 {:.2}, p90 {:.2})",
            self.median, self.p10, self.p90
        )
    }
}

/// The value below which this share of `sorted` lies, interpolated between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        let expected = Spread {
            p10: 10.0,
            median: 50.0,
            p90: 90.0,
            p99: 99.0,
        };
        assert_eq!(Spread::of(&values), Some(expected));
        assert_eq!(Spread::of(&[4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(&[7.0]).unwrap().p90, 7.0);
        assert_eq!(Spread::of(&[]), None);
    }
}
