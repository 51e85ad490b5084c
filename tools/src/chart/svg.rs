//! The few shapes that the charts consist of.

use std::fmt::Write;

use super::{INK, PALE_INK};
use crate::markup::escaped;

/// A drawing; sizes in pixels, y downwards.
pub struct Svg {
    paper: &'static str,
    width: f64,
    height: f64,
    title: String,
    body: String,
}

/// Which end of a text its position is.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy)]
pub struct TextStyle {
    pub size: f64,
    pub colour: &'static str,
    pub bold: bool,
}

impl TextStyle {
    /// Names and values.
    pub const LABEL: Self = Self {
        size: 13.0,
        colour: INK,
        bold: false,
    };
    /// What stands above a panel.
    pub const HEADING: Self = Self {
        size: 14.0,
        bold: true,
        ..Self::LABEL
    };
    /// Axes.
    pub const AXIS: Self = Self {
        size: 12.0,
        colour: PALE_INK,
        bold: false,
    };

    /// The same in another colour and bold.
    pub fn strong(self, colour: &'static str) -> Self {
        Self {
            colour,
            bold: true,
            ..self
        }
    }

    /// How wide a line of text is at most, in pixels. Which font draws it is known to the reader's
    /// browser only, so this goes by DejaVu Sans, the widest of those that [`Svg::finish`] names.
    pub fn width(&self, text: &str) -> f64 {
        let bold = if self.bold { 1.12 } else { 1.0 };
        self.size * bold * text.chars().map(advance).sum::<f64>()
    }
}

/// What a character takes of a line, in parts of the font size: the most that its kind takes.
fn advance(character: char) -> f64 {
    match character {
        ' ' | 'i' | 'j' | 'l' | 'I' | '.' | ',' => 0.32,
        'f' | 'r' | 't' | '-' | '(' | ')' | '/' | ':' | '²' => 0.42,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 1.0,
        'A'..='Z' | '×' => 0.84,
        '\0'..='\u{24f}' => 0.65,
        _ => 1.0,
    }
}

impl Svg {
    /// A file of its own, on white. `title`: what is told to those who cannot see the drawing.
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        Self::on("white", width, height, title)
    }

    /// On paper of a colour that the page around it may decide, for example `var(--paper)`.
    pub fn on(paper: &'static str, width: f64, height: f64, title: &str) -> Self {
        Self {
            paper,
            width,
            height,
            title: title.to_owned(),
            body: String::new(),
        }
    }

    /// A text with a rim of the paper's colour, so that it can be read across lines; `y` is its base line.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, style: TextStyle, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if style.bold {
            " font-weight=\"600\""
        } else {
            ""
        };
        let paper = self.paper;
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{}\" \
             fill=\"{}\" stroke=\"{paper}\" stroke-width=\"3\" paint-order=\"stroke\"{weight}>{}</text>",
            style.size,
            style.colour,
            escaped(text)
        ));
    }

    /// A straight line of this width; `dashes` as SVG has them, empty for none.
    pub fn line(
        &mut self,
        (x1, y1): (f64, f64),
        (x2, y2): (f64, f64),
        colour: &str,
        width: f64,
        dashes: &str,
    ) {
        let dashes = match dashes {
            "" => String::new(),
            dashes => format!(" stroke-dasharray=\"{dashes}\""),
        };
        self.push(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
             stroke-width=\"{width}\"{dashes}/>"
        ));
    }

    /// A filled rectangle.
    pub fn rectangle(&mut self, (x, y): (f64, f64), width: f64, height: f64, colour: &str) {
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{colour}\"/>"
        ));
    }

    /// A filled dot, or a ring.
    pub fn dot(&mut self, (x, y): (f64, f64), radius: f64, colour: &str, filled: bool) {
        let fill = if filled { colour } else { self.paper };
        self.push(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{fill}\" \
             stroke=\"{colour}\" stroke-width=\"2\"/>"
        ));
    }

    /// Straight lines from point to point, two pixels wide.
    pub fn path(&mut self, points: &[(f64, f64)], colour: &str) {
        self.thin_path(points, colour, 2.0);
    }

    /// What follows belongs to a class of the page's style sheet, until [`Self::end_group`].
    pub fn begin_group(&mut self, class: &str) {
        self.push(format_args!("<g class=\"{class}\">"));
    }

    /// Ends what [`Self::begin_group`] began.
    pub fn end_group(&mut self) {
        self.push(format_args!("</g>"));
    }

    /// Straight lines of this width from point to point.
    pub fn thin_path(&mut self, points: &[(f64, f64)], colour: &str, width: f64) {
        let mut list = String::new();
        for (x, y) in points {
            // Writing to a string cannot fail.
            let _ = write!(list, "{x:.1},{y:.1} ");
        }
        self.push(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            list.trim_end()
        ));
    }

    fn push(&mut self, element: std::fmt::Arguments) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// The whole file.
    pub fn finish(self) -> String {
        let Self {
            paper,
            width,
            height,
            title,
            body,
        } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
             font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif\">\n\
             <title>{}</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"{paper}\"/>\n{body}</svg>\n",
            escaped(&title)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Widths that Chromium measured with DejaVu Sans, rounded up.
    #[test]
    fn texts_are_not_wider_than_estimated() {
        let bold = TextStyle::LABEL.strong(INK);
        for (style, text, measured) in [
            (
                TextStyle::LABEL,
                "photo2illustration, 256x256, 1 at once",
                249.8,
            ),
            (TextStyle::LABEL, "torch.compile bf16 (max-autotune)", 228.6),
            (TextStyle::LABEL, "MUNITFILTER WWW MMM", 164.7),
            (TextStyle::AXIS, "1080p", 38.2),
            (TextStyle::AXIS, "1.5×", 29.2),
            (
                TextStyle::HEADING,
                "One frame of 1920x1080 on NVIDIA H200 (fp16)",
                379.1,
            ),
            (bold, "munitfilter bf16", 115.9),
        ] {
            let width = style.width(text);
            // A wider estimate would leave room for nothing.
            let enough = measured..1.2 * measured;
            assert!(enough.contains(&width), "{text}: {width}");
        }
    }
}
