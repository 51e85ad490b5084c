//! What was found as a page: one HTML file that needs no other.

mod charts;

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use munit::atomic_file;

use super::Evaluation;
use super::figure::{DirectionReport, Figure, Histogram, LeftOut, number};
use super::pairs::PairsReport;
use super::video::{PairFigures, VideoReport};
use crate::markup::{escaped, jpeg_address};
use crate::program::counted;
use crate::result_file::make_folder;

const JPEG_QUALITY: u8 = 90;

const STYLE: &str = "\
body { font: 16px/1.5 system-ui, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif; color: #222;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0;
  border-bottom: 1px solid #ddd; }
td.value { white-space: nowrap; font-weight: 600; }
small, .facts, .left-out { color: #595959; }
.caution { border-left: .25rem solid #d55e00; padding-left: .8rem; }
img, svg { max-width: 100%; height: auto; display: block; margin: 1rem 0; }
";

/// A page that grows.
struct Page {
    title: String,
    body: String,
}

/// The page of an evaluation.
///
/// # Errors
/// A sheet that cannot be encoded.
pub fn evaluation_page(evaluation: &Evaluation) -> Result<String> {
    let name = evaluation.model.file_stem().unwrap_or_default();
    let mut page = Page::new(&format!("Evaluation of {}", name.to_string_lossy()));
    let iterations = evaluation
        .iterations
        .map(|iterations| format!("{iterations} iterations"));
    let model = evaluation.model.display().to_string();
    let facts = [model].into_iter().chain(iterations).chain([
        format!("{} pixels", evaluation.size),
        format!("translated in {}", evaluation.precision),
        format!("styles from seed {}", evaluation.seed),
        format!("{:.0} seconds", evaluation.seconds),
    ]);
    page.facts(&facts.collect::<Vec<_>>());
    for caution in evaluation.cautions() {
        page.line(&format!(
            "<p class=\"caution\">Caution: {}.</p>",
            escaped(caution)
        ));
    }
    for direction in &evaluation.directions {
        page.direction(direction)?;
    }
    for video in &evaluation.videos {
        page.video(video)?;
    }
    Ok(page.finish())
}

/// The page of the experiment with pairs.
pub fn pairs_page(report: &PairsReport) -> String {
    let [a, b] = report.folders.each_ref().map(|folder| folder.display());
    let mut page = Page::new(&format!("Content distances of {a} and {b}"));
    page.facts(&[
        format!("{} pairs", report.pairs),
        format!("{} pixels", report.size),
    ]);
    page.figures(&report.figures);
    page.histograms(&report.histograms);
    page.finish()
}

/// Writes a page, and makes its folder if it is missing.
///
/// # Errors
/// A sentence that names the file, if it cannot be written.
pub fn write_page(path: &Path, page: &str) -> Result<()> {
    make_folder(path)?;
    Ok(atomic_file::write(path, |file| {
        file.write_all(page.as_bytes())
    })?)
}

impl Page {
    fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            body: String::new(),
        }
    }

    fn line(&mut self, text: &str) {
        self.body += text;
        self.body.push('\n');
    }

    fn facts(&mut self, facts: &[String]) {
        self.line(&format!(
            "<p class=\"facts\">{}</p>",
            escaped(&facts.join(" · "))
        ));
    }

    fn direction(&mut self, report: &DirectionReport) -> Result<()> {
        self.line(&format!(
            "<h2>{} to {} ({})</h2>",
            escaped(&report.from),
            escaped(&report.to),
            report.direction.name()
        ));
        self.facts(&[
            format!(
                "{} of {} in {}",
                counted(report.inputs as u64, "input"),
                report.input_folder.display(),
                counted(report.styles as u64, "style")
            ),
            report.compared_with(),
        ]);
        self.figures(&report.figures);
        self.left_out(&report.left_out);
        self.picture(
            report.sheet.as_ref(),
            "Inputs, translations and what comes back of them; each input has styles drawn for it alone, \
             so that pictures beside each other are in different styles",
        )?;
        self.histograms(&report.histograms);
        Ok(())
    }

    fn video(&mut self, report: &VideoReport) -> Result<()> {
        let clip = report.clip.display().to_string();
        self.line(&format!(
            "<h2>{} ({})</h2>",
            escaped(&clip),
            report.direction.name()
        ));
        self.facts(&[
            counted(report.frames as u64, "frame"),
            format!("{}×{} pixels", report.width, report.height),
            counted(report.styles as u64, "style"),
        ]);
        self.figures(&report.figures);
        self.left_out(&report.left_out);
        self.picture(
            report.sheet.as_ref(),
            "Frames, translations, and in orange what is not compared with the frame after it",
        )?;
        let frames: Vec<usize> = report.pairs.iter().map(|pair| pair.frame).collect();
        let all = |value: fn(&PairFigures) -> f64| -> Vec<f64> {
            report.pairs.iter().map(value).collect()
        };
        self.line(&charts::course(
            "Warping error from frame to frame",
            &frames,
            &all(|pair| pair.warping_error),
            &all(|pair| pair.warping_error_of_clip),
        ));
        self.line(&charts::course(
            "Flicker from frame to frame, in steps of 8 bits",
            &frames,
            &all(|pair| pair.flicker),
            &all(|pair| pair.flicker_of_clip),
        ));
        Ok(())
    }

    fn figures(&mut self, figures: &[Figure]) {
        self.line("<table><tr><th>figure</th><th>value</th><th>beside</th><th>backbone</th></tr>");
        for figure in figures {
            let beside: Vec<String> = figure
                .compare
                .iter()
                .map(|other| format!("{}: {}", other.of, number(other.value)))
                .collect();
            let caution = figure
                .caution
                .iter()
                .map(|text| format!("<br><small>{}</small>", escaped(text)));
            self.line(&format!(
                "<tr><td>{}<br><small>{}</small></td><td class=\"value\">{}</td><td>{}{}</td><td>{}</td></tr>",
                escaped(figure.name),
                escaped(figure.meaning),
                escaped(&figure.shown()),
                escaped(&beside.join(", ")),
                caution.collect::<String>(),
                escaped(figure.backbone.as_deref().unwrap_or_default()),
            ));
        }
        self.line("</table>");
    }

    fn left_out(&mut self, left_out: &[LeftOut]) {
        for missing in left_out {
            self.line(&format!(
                "<p class=\"left-out\">Left out: {}: {}.</p>",
                escaped(missing.what),
                escaped(&missing.why)
            ));
        }
    }

    fn histograms(&mut self, histograms: &[Histogram]) {
        for histogram in histograms {
            self.line(&charts::distances(histogram));
        }
    }

    fn picture(&mut self, picture: Option<&RgbImage>, description: &str) -> Result<()> {
        let Some(picture) = picture else {
            return Ok(());
        };
        let mut jpeg = Cursor::new(Vec::new());
        picture
            .write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY))
            .context("cannot encode a sheet for the page")?;
        let address = jpeg_address(jpeg.get_ref());
        self.line(&format!(
            "<img width=\"{}\" height=\"{}\" alt=\"{}\" src=\"{address}\">",
            picture.width(),
            picture.height(),
            escaped(description)
        ));
        self.line(&format!("<p class=\"facts\">{}</p>", escaped(description)));
        Ok(())
    }

    fn finish(self) -> String {
        let title = escaped(&self.title);
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
             <style>\n{STYLE}</style>\n<h1>{title}</h1>\n{}</html>\n",
            self.body
        );
        page
    }
}
