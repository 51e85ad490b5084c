//! Charts as SVG: everything is labelled where it is, and colours are those that colour-blind people
//! tell apart (Okabe and Ito's).

mod bars;
mod dots;
mod lines;
pub(crate) mod svg;

pub use bars::{BarPanel, bar_panels};
pub use dots::{DotRow, dot_rows};
pub use lines::{Series, cost_by_pixels};

/// For what is ours, and for the first series.
pub(crate) const BLUE: &str = "#0072b2";
pub(crate) const VERMILION: &str = "#d55e00";
pub(crate) const GREEN: &str = "#009e73";
pub(crate) const PURPLE: &str = "#aa4499";
/// For what ours is compared with.
pub(crate) const GREY: &str = "#9a9a9a";
pub(crate) const INK: &str = "#222222";
/// For axes and their labels.
pub(crate) const PALE_INK: &str = "#595959";
pub(crate) const GRID: &str = "#dddddd";

/// Colours of series, in order.
pub(crate) const SERIES: [&str; 4] = [BLUE, VERMILION, GREEN, PURPLE];

/// Three digits, fewer behind the point for larger numbers: 512, 42.1, 6.84, 0.103.
pub fn short(number: f64) -> String {
    match number.abs() {
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        1.0.. => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let expected = [
            (512.34, "512"),
            (42.06, "42.1"),
            (6.841, "6.84"),
            (0.1, "0.100"),
        ];
        for (number, text) in expected {
            assert_eq!(short(number), text);
        }
    }
}
