//! The charts of the page of benchmarks.

mod bars;
mod dots;
mod lines;

pub use bars::{BarPanel, bar_panels};
pub use dots::{DotRow, dot_rows};
pub use lines::{Series, cost_by_pixels};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::statistics::Spread;
    use crate::chart::svg::TextStyle;

    /// The value of an attribute of an SVG element.
    fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
        let (_, value) = element.split_once(&format!(" {name}=\""))?;
        Some(value.split_once('"')?.0)
    }

    /// Fails if a text of a chart begins left of it or ends right of it.
    #[track_caller]
    fn assert_texts_are_inside(svg: &str) {
        let number = |element: &str, name| -> f64 {
            let value = attribute(element, name).unwrap();
            value.parse().unwrap()
        };
        let chart = number(svg, "width");
        let mut count = 0;
        for element in svg.split("<text").skip(1) {
            let (_, text) = element.split_once('>').unwrap();
            let (text, _) = text.split_once('<').unwrap();
            let style = TextStyle {
                size: number(element, "font-size"),
                bold: attribute(element, "font-weight").is_some(),
                ..TextStyle::LABEL
            };
            let (x, width) = (number(element, "x"), style.width(text));
            let left = match attribute(element, "text-anchor").unwrap() {
                "start" => x,
                "middle" => x - width / 2.0,
                "end" => x - width,
                other => panic!("{other}"),
            };
            assert!(left >= 0.0, "{text} begins at {left}");
            let right = left + width;
            assert!(right <= chart, "{text} ends at {right} of {chart}");
            count += 1;
        }
        assert!(count > 4, "{svg}");
    }

    #[test]
    fn names_of_any_length_stand_inside_of_a_chart() {
        let title = "Frames per second in a pipeline on the CPU (bf16, 2 threads)";
        for name in [
            "dim 8",
            "photo2illustration, 256x256, 1 at once",
            "OpenVINO bf16, phase-decomposed, with a name that is longer than all others",
        ] {
            let row = DotRow {
                name: name.to_owned(),
                value: 158.2,
                limit: 160.4,
            };
            let marks = [(30.0, "30 fps")];
            let dots = dot_rows(
                title,
                "dot: the pipeline",
                "frames per second",
                &[row],
                &marks,
            );
            assert_texts_are_inside(&dots);

            let panel = BarPanel {
                heading: "dim 64".to_owned(),
                values: vec![Spread::of(&[41.5, 42.0, 42.5]), None],
            };
            let names = [name, "ONNX Runtime fp32"].map(str::to_owned);
            assert_texts_are_inside(&bar_panels(title, "ms", &names, &[panel]));
        }
    }
}
