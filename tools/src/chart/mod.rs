//! Charts as SVG: everything is labelled where it is, and colours are those that colour-blind people
//! tell apart (Okabe and Ito's).

pub mod svg;

/// For what is ours, and for the first series.
pub const BLUE: &str = "#0072b2";
/// For the second.
pub const VERMILION: &str = "#d55e00";
/// For the third.
pub const GREEN: &str = "#009e73";
/// For the fourth.
pub const PURPLE: &str = "#aa4499";
/// For the fifth.
pub const OCHRE: &str = "#b37400";
/// For what ours is compared with.
pub const GREY: &str = "#9a9a9a";
/// For text.
pub const INK: &str = "#222222";
/// For axes and their labels.
pub const PALE_INK: &str = "#595959";
/// For lines in the background.
pub const GRID: &str = "#dddddd";

/// Colours of series, in order.
pub const SERIES: [&str; 5] = [BLUE, VERMILION, GREEN, PURPLE, OCHRE];

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
