//! The parts of the page, in order.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use munit::config::{Direction, Family};
use serde_json::Value;

use super::album::{Album, Subject};
use super::curves::{Along, COLOURS, Drawing, Scale, drawing};
use super::drawing::sheet_rows;
use super::mosaic::Mosaic;
use super::series::{Group, groups, smoothed};
use super::{PageFacts, RunState};
use crate::checkpoint::KeptFigure;
use crate::config::TrainConfig;
use crate::difference::differences;
use crate::info::thousands;
use crate::local_time::local_time;
use crate::machine::Machine;
use crate::markup::{escaped, jpeg_address};
use crate::report::history::{Event, Happening};
use crate::report::progress::{short_number, short_time};
use crate::report::scalars::LossTable;
use crate::watch::Finding;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Events that are listed one by one; a folder of broken pictures must not fill the page.
const MOST_EVENTS: usize = 200;

/// Adds a formatted text; writing to a string cannot fail.
macro_rules! add {
    ($html:expr, $($argument:tt)*) => {{
        let _ = write!($html, $($argument)*);
    }};
}

/// All that a page is made from.
pub struct Page<'p> {
    pub facts: &'p PageFacts<'p>,
    pub album: &'p Album,
    pub machine: &'p Machine,
    pub table: LossTable,
    pub evaluation: Option<Value>,
    /// The best checkpoint, if the run keeps one.
    pub best: Option<(PathBuf, KeptFigure)>,
    pub written: String,
    /// Share of the run's time that went into reports.
    pub share: f64,
    /// Share of the run's time that went into sample sheets.
    pub sheet_share: f64,
}

impl Page<'_> {
    /// The whole file.
    pub fn html(&self) -> Result<String> {
        let mut html = String::with_capacity(1 << 20);
        let [a, b] = self.names();
        add!(
            html,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{a} ⇄ {b}: training report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        );
        self.head(&mut html);
        self.alerts(&mut html);
        self.over_time(&mut html);
        self.styles(&mut html);
        self.between(&mut html);
        let (losses, figures) = groups(&self.table);
        self.figures(&mut html, &figures);
        self.losses(&mut html, &losses);
        self.evaluation(&mut html);
        self.events(&mut html);
        self.data(&mut html);
        self.configuration(&mut html)?;
        self.computer(&mut html);
        add!(
            html,
            "<footer>Written by munit-train {} on {}. Reports have taken {} of this session's time, \
             sample sheets {}. The run's folder also holds losses.csv, TensorBoard events and full sample sheets.</footer>\n\
             <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION"),
            self.written,
            percent(self.share),
            percent(self.sheet_share)
        );
        Ok(html)
    }

    fn config(&self) -> &TrainConfig {
        self.facts.trainer.config()
    }

    fn names(&self) -> [String; 2] {
        let names = self.facts.samples.names();
        [escaped(&names.a), escaped(&names.b)]
    }

    /// For example `photographs to prints`.
    fn way(&self, direction: Direction) -> String {
        let names = self.facts.samples.names();
        let (source, target) = (direction.source(), direction.target());
        escaped(&format!("{} to {}", names.get(source), names.get(target)))
    }

    fn head(&self, html: &mut String) {
        let [a, b] = self.names();
        let PageFacts {
            state,
            trainer,
            progress,
            ..
        } = self.facts;
        let (word, class) = match state {
            RunState::Running => ("in training", "running"),
            RunState::Stopped => ("stopped, can go on", "stopped"),
            RunState::Finished => ("finished", "finished"),
            RunState::Failed => ("ended with an error", "failed"),
        };
        let (done, total) = (trainer.iteration, self.config().max_iter);
        let share = 100.0 * done as f64 / total as f64;
        let size = format!(
            "{}×{}",
            self.config().crop_image_width,
            self.config().crop_image_height
        );
        let family = match self.config().architecture().family {
            Family::Munit => "MUNIT",
            Family::Unit => "UNIT",
        };
        add!(
            html,
            "<header>\n<h1>{a}<span class=\"way\">⇄</span>{b}<span class=\"state {class}\">{word}</span></h1>\n\
             <p class=\"lead\">{family}, {size} pixels, dim {}. As of {}.</p>\n\
             <div class=\"bar\" role=\"progressbar\" aria-valuemin=\"0\" aria-valuemax=\"{total}\" \
             aria-valuenow=\"{done}\"><div style=\"width:{share:.2}%\"></div></div>\n<dl class=\"facts\">\n",
            self.config().generator.dim,
            self.written
        );
        let trained = self.table.rows.last().map_or(0.0, |row| row.seconds);
        let mut fact = |name: &str, value: String| {
            add!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>\n");
        };
        fact(
            "Iterations",
            format!("{} of {}", thousands(done), thousands(total)),
        );
        fact("Time spent training", short_time(trained));
        if let Some((path, figure)) = &self.best {
            let name = path
                .file_stem()
                .unwrap_or(path.as_os_str())
                .to_string_lossy();
            fact(
                &format!("Best by {}", escaped(&figure.name)),
                format!("{}, {}", escaped(&name), short_number(figure.value)),
            );
        }
        if let Some(seconds) = progress.seconds_per_iteration() {
            fact("An iteration", iteration_time(seconds));
        }
        if let (RunState::Running, Some(left)) = (state, progress.time_left()) {
            fact("Time left", short_time(left.as_secs_f64()));
            fact("Done at about", local_time(SystemTime::now() + left));
        }
        // After the last iteration there is none that a rate could be for.
        let last = self.config().max_iter.saturating_sub(1);
        let [rate, rate_dis] = self.config().learning_rates(done.min(last));
        fact(
            "Learning rate",
            match rate == rate_dis {
                true => rate_text(rate),
                false => format!(
                    "{}, discriminators {}",
                    rate_text(rate),
                    rate_text(rate_dis)
                ),
            },
        );
        let pictures: Vec<String> = self
            .facts
            .data
            .sets
            .iter()
            .take(2)
            .map(|set| thousands(set.pictures as u64))
            .collect();
        fact("Pictures", pictures.join(" and "));
        if let Some(model) = &self.config().from_model {
            let model = model.file_name().unwrap_or(model.as_os_str());
            fact("Begun from", escaped(&model.to_string_lossy()));
        }
        html.push_str("</dl>\n</header>\n");
    }

    /// The newest finding of each kind: with what helps, or with its end.
    fn alerts(&self, html: &mut String) {
        for (finding, end) in newest_findings(self.facts.events) {
            let class = match (end, finding.trouble.ruins_weights()) {
                (Some(_), _) => "alert past",
                (None, true) => "alert bad",
                (None, false) => "alert",
            };
            let (until, help) = match end {
                None => (String::new(), escaped(finding.trouble.help())),
                Some(End::Healed(iteration)) => (
                    format!(" to {}", thousands(iteration)),
                    "That is so no more.".to_owned(),
                ),
                Some(End::GoneBack(to)) => (
                    String::new(),
                    format!("The run went back to iteration {}.", thousands(to)),
                ),
            };
            add!(
                html,
                "<div class=\"{class}\" role=\"note\"><b>{}</b> <span class=\"quiet\">at iteration {}{until}\
                 </span><p>{}. {help}</p></div>\n",
                capitalised(finding.trouble.name()),
                thousands(finding.iteration),
                escaped(&capitalised(&finding.what)),
            );
        }
    }

    fn over_time(&self, html: &mut String) {
        html.push_str("<section>\n<h2>Samples</h2>\n");
        if self.album.sheets(Direction::A2b).is_empty() {
            html.push_str(
                "<p class=\"lead\">The first samples appear here after some iterations.</p>\n</section>\n",
            );
            return;
        }
        html.push_str(
            "<p class=\"lead\">The same pictures in the same styles, from the first iterations to the \
             newest.</p>\n",
        );
        html.push_str("<div class=\"two\">\n");
        let family = self.config().architecture().family;
        for direction in Direction::ALL {
            let sheets = self.album.sheets(direction);
            let Some(last) = sheets.len().checked_sub(1) else {
                continue;
            };
            let labels: Vec<String> = sheets
                .iter()
                .map(|(iteration, _)| format!("iteration {}", thousands(*iteration)))
                .collect();
            add!(
                html,
                "<div class=\"over-time\">\n<h3>{}</h3>\n",
                self.way(direction)
            );
            if last > 0 {
                add!(
                    html,
                    "<label class=\"slider\"><input type=\"range\" min=\"0\" max=\"{last}\" value=\"{last}\" \
                     step=\"1\" aria-label=\"iteration\" data-labels=\"{}\"><output>{}</output></label>\n",
                    labels.join("|"),
                    labels[last]
                );
            }
            for (number, ((_, mosaic), label)) in sheets.iter().zip(&labels).enumerate() {
                let hidden = if number == last { "" } else { " hidden" };
                add!(
                    html,
                    "<div class=\"sheet\" data-number=\"{number}\"{hidden}>"
                );
                let rows = sheet_rows(family);
                let what = format!("{}, {label}", self.way(direction));
                add_mosaic(html, mosaic, rows, &[], &what, None);
                html.push_str("</div>\n");
            }
            html.push_str("</div>\n");
        }
        html.push_str("</div>\n</section>\n");
    }

    fn styles(&self, html: &mut String) {
        let mosaics = self.of_subject(Subject::Styles);
        if mosaics.is_empty() {
            return;
        }
        html.push_str(
            "<section>\n<h2>Styles</h2>\n<p class=\"lead\">Each row keeps its content, each column its \
             style: first styles that were drawn at random, then those of the pictures above them.</p>\n\
             <div class=\"two\">\n",
        );
        for (direction, mosaic) in mosaics {
            let drawn = self.facts.samples.fixed_styles().len();
            let mut columns = vec!["input".to_owned()];
            columns.extend((1..=drawn).map(|number| format!("style {number}")));
            columns.resize(mosaic.columns as usize, "as here".to_owned());
            let way = self.way(direction);
            add!(html, "<div>\n<h3>{way}</h3>\n");
            // Above the styles that were drawn stands nothing.
            let blank = (1 + drawn as u32, 1);
            let what = format!("styles, {way}");
            add_mosaic(html, mosaic, &[], &columns, &what, Some(blank));
            html.push_str("</div>\n");
        }
        html.push_str("</div>\n</section>\n");
    }

    fn between(&self, html: &mut String) {
        let mosaics = self.of_subject(Subject::Between);
        if mosaics.is_empty() {
            return;
        }
        html.push_str(
            "<section class=\"strip\">\n<h2>From style to style</h2>\n<p class=\"lead\">From style 1 by way \
             of style 2 to style 3, as munitfilter glides.</p>\n",
        );
        for (direction, mosaic) in mosaics {
            let way = self.way(direction);
            add!(html, "<h3>{way}</h3>\n");
            let what = format!("from style to style, {way}");
            add_mosaic(html, mosaic, &[], &[], &what, None);
        }
        html.push_str("</section>\n");
    }

    fn of_subject(&self, subject: Subject) -> Vec<(Direction, &Mosaic)> {
        Direction::ALL
            .into_iter()
            .filter_map(|direction| Some((direction, self.album.get(subject, direction)?)))
            .collect()
    }

    fn figures(&self, html: &mut String, figures: &[Group]) {
        if figures.is_empty() {
            return;
        }
        html.push_str(
            "<section>\n<h2>Figures</h2>\n<p class=\"lead\">Measured on a handful of pictures while \
             training. They show where a run goes, not how good a model is.</p>\n\
             <div class=\"charts lin its two\">\n",
        );
        for group in figures {
            let scales = [Scale::Linear];
            add_chart(html, group, &scales);
        }
        html.push_str("</div>\n</section>\n");
    }

    fn losses(&self, html: &mut String, losses: &[Group]) {
        if losses.is_empty() {
            return;
        }
        html.push_str(
            "<section>\n<h2>Losses</h2>\n<div class=\"controls\">\n\
             <span><label><input type=\"radio\" name=\"scale\" value=\"log\" checked>logarithmic</label>&ensp;\
             <label><input type=\"radio\" name=\"scale\" value=\"lin\">linear</label></span>\n\
             <span><label><input type=\"radio\" name=\"along\" value=\"its\" checked>iterations</label>&ensp;\
             <label><input type=\"radio\" name=\"along\" value=\"tim\">time</label></span>\n\
             <label><input type=\"checkbox\" checked>every reading</label>\n</div>\n\
             <div class=\"charts log its two\">\n",
        );
        for group in losses {
            add_chart(html, group, &[Scale::Logarithmic, Scale::Linear]);
        }
        html.push_str("</div>\n</section>\n");
    }

    /// What `munit-evaluate --json` found, as far as it is understood.
    fn evaluation(&self, html: &mut String) {
        let Some(evaluation) = &self.evaluation else {
            return;
        };
        let all = |key: &str| evaluation[key].as_array().into_iter().flatten();
        if all("directions").chain(all("videos")).next().is_none() {
            return;
        }
        let of_model = match evaluation["iterations"].as_u64() {
            Some(then) if then < self.facts.trainer.iteration => format!(
                " It is of the model after {} iterations; since then the run has gone on.",
                thousands(then)
            ),
            Some(then) => format!(" It is of the model after {} iterations.", thousands(then)),
            None => String::new(),
        };
        add!(
            html,
            "<section>\n<h2>Evaluation</h2>\n<p class=\"lead\">By munit-evaluate, as it lies in \
             evaluate.json.{of_model}</p>\n<div class=\"two\">\n"
        );
        let text = |value: &Value| escaped(value.as_str().unwrap_or_default());
        for direction in all("directions") {
            let title = format!("{} to {}", text(&direction["from"]), text(&direction["to"]));
            add_found(html, &title, direction);
        }
        for video in all("videos") {
            add_found(html, &text(&video["clip"]), video);
        }
        html.push_str("</div>\n</section>\n");
    }

    fn events(&self, html: &mut String) {
        let events = self.facts.events;
        html.push_str(
            "<section>\n<h2>What happened</h2>\n<div class=\"wide events\"><table>\n\
             <tr><th>when</th><th>iteration</th><th>what</th></tr>\n",
        );
        let left_out = events.len().saturating_sub(MOST_EVENTS);
        if left_out > 0 {
            add!(
                html,
                "<tr><td></td><td></td><td>{left_out} earlier events are in history.jsonl</td></tr>\n"
            );
        }
        for event in &events[left_out..] {
            add!(
                html,
                "<tr><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td></tr>\n",
                local_time(UNIX_EPOCH + Duration::from_secs(event.time)),
                thousands(event.iteration),
                escaped(&sentence(event))
            );
        }
        html.push_str("</table></div>\n</section>\n");
    }

    fn data(&self, html: &mut String) {
        html.push_str("<section>\n<h2>Pictures</h2>\n<div class=\"wide\"><table>\n");
        for set in &self.facts.data.sets {
            let mut details = set.details();
            if !set.left_out.is_empty() {
                details += &format!("; {} left out", set.left_out.len());
            }
            add!(
                html,
                "<tr><td>{}</td><td class=\"number\">{}</td><td>{}</td></tr>\n",
                escaped(&set.name),
                thousands(set.pictures as u64),
                escaped(&details)
            );
        }
        html.push_str("</table></div>\n");
        for note in &self.facts.data.notes {
            add!(
                html,
                "<p class=\"quiet\">{}</p>\n",
                escaped(&capitalised(note))
            );
        }
        html.push_str("</section>\n");
    }

    /// What differs from the defaults first.
    fn configuration(&self, html: &mut String) -> Result<()> {
        let yaml = self.config().to_yaml()?;
        let rows = differences(self.config(), &TrainConfig::default())?;
        html.push_str("<section>\n<h2>Configuration</h2>\n");
        if !rows.is_empty() {
            html.push_str(
                "<p class=\"lead\">What differs from the defaults.</p>\n<div class=\"wide\"><table>\n\
                 <tr><th>key</th><th>value</th><th>default</th></tr>\n",
            );
            for row in rows {
                let [value, default] = row.shown("–");
                add!(
                    html,
                    "<tr><td>{}</td><td class=\"value\">{}</td><td class=\"value quiet\">{}</td></tr>\n",
                    escaped(&row.key),
                    escaped(&value),
                    escaped(&default)
                );
            }
            html.push_str("</table></div>\n");
        }
        add!(
            html,
            "<details><summary>All of config.yaml</summary><pre>{}</pre></details>\n</section>\n",
            escaped(&yaml)
        );
        Ok(())
    }

    fn computer(&self, html: &mut String) {
        let Machine {
            processor,
            processors,
            instruction_sets,
            memory_gb,
            gpus,
            versions,
        } = self.machine;
        let mut rows = vec![
            (
                "trains on".to_owned(),
                crate::checkpoint::device_name(self.facts.trainer),
            ),
            (
                "processor".to_owned(),
                format!(
                    "{processor}, {processors} processors, {}",
                    instruction_sets.join(", ")
                ),
            ),
            ("memory".to_owned(), format!("{memory_gb} GB")),
            (
                "GPU".to_owned(),
                match &gpus[..] {
                    [] => "none".to_owned(),
                    gpus => gpus.join("; "),
                },
            ),
        ];
        rows.extend(versions.clone());
        html.push_str("<section>\n<h2>Machine</h2>\n<div class=\"wide\"><table>\n");
        for (name, value) in rows {
            add!(
                html,
                "<tr><td>{}</td><td>{}</td></tr>\n",
                escaped(&name),
                escaped(&value)
            );
        }
        html.push_str("</table></div>\n</section>\n");
    }
}

/// A mosaic with lines of paper between its pictures, and labels. `blank`: columns and rows in the
/// corner that hold no pictures.
fn add_mosaic(
    html: &mut String,
    mosaic: &Mosaic,
    rows: &[&str],
    columns: &[String],
    what: &str,
    blank: Option<(u32, u32)>,
) {
    html.push_str("<div class=\"mosaic\">");
    if !columns.is_empty() {
        html.push_str("<div class=\"columns\">");
        for label in columns {
            add!(html, "<span>{}</span>", escaped(label));
        }
        html.push_str("</div>");
    }
    if !rows.is_empty() {
        html.push_str("<div class=\"rows\">");
        for label in rows {
            add!(html, "<span>{label}</span>");
        }
        html.push_str("</div>");
    }
    let lines = |direction: &str, count: u32| {
        let step = 100.0 / f64::from(count);
        format!(
            "repeating-linear-gradient({direction},transparent 0 calc({step:.5}% - 3px),var(--paper) \
             calc({step:.5}% - 3px) {step:.5}%)"
        )
    };
    let (width, height) = (mosaic.columns * mosaic.tile.0, mosaic.rows * mosaic.tile.1);
    add!(
        html,
        "<div class=\"picture\" style=\"--lines:{},{}\"><img alt=\"{}\" width=\"{width}\" height=\"{height}\" \
         src=\"{}\">",
        lines("90deg", mosaic.columns),
        lines("180deg", mosaic.rows),
        escaped(what),
        jpeg_address(&mosaic.jpeg)
    );
    if let Some((columns, rows)) = blank {
        let share = |part: u32, whole: u32| 100.0 * f64::from(part) / f64::from(whole);
        add!(
            html,
            "<span class=\"blank\" style=\"width:{:.3}%;height:{:.3}%\"></span>",
            share(columns, mosaic.columns),
            share(rows, mosaic.rows)
        );
    }
    html.push_str("</div></div>\n");
}

/// A chart in all its variants, of which the style sheet shows one.
fn add_chart(html: &mut String, group: &Group, scales: &[Scale]) {
    add!(
        html,
        "<div class=\"chart\">\n<h3>{}</h3>\n<p>{} <output></output></p>\n<ul class=\"legend\">",
        group.title,
        group.meaning
    );
    for (series, colour) in group.series.iter().zip(COLOURS.iter().cycle()) {
        let newest = smoothed(&series.readings)
            .last()
            .map(|reading| reading.value);
        let newest = newest.map_or_else(String::new, short_number);
        add!(
            html,
            "<li><i style=\"background:{colour}\"></i>{}<b data-newest=\"{newest}\">{newest}</b></li>",
            escaped(&series.label)
        );
    }
    html.push_str("</ul>\n");
    for along in [Along::Iterations, Along::Time] {
        for scale in scales {
            let (along_class, along_name) = match along {
                Along::Iterations => ("by-iteration", "iterations"),
                Along::Time => ("by-time", "time"),
            };
            let class = match (scale, scales) {
                (_, [_]) => "",
                (Scale::Linear, _) => " linear",
                (Scale::Logarithmic, _) => " logarithmic",
            };
            let Drawing {
                svg,
                sides: [left, top, right, bottom],
                last,
                range: [low, high],
                scale,
            } = drawing(group.title, &group.series, along, *scale);
            let scale = match scale {
                Scale::Linear => "linear",
                Scale::Logarithmic => "logarithmic",
            };
            add!(
                html,
                "<div class=\"drawing {along_class}{class}\" data-along=\"{along_name}\" data-scale=\"{scale}\" \
                 data-plot=\"{left} {top} {right} {bottom} {last} {low} {high}\">{svg}</div>\n"
            );
        }
    }
    html.push_str("</div>\n");
}

/// The figures of a direction or a clip, with a title that is escaped already.
fn add_found(html: &mut String, title: &str, found: &Value) {
    let text = |value: &Value| escaped(value.as_str().unwrap_or_default());
    add!(html, "<div>\n<h3>{title}</h3>\n");
    for caution in found["cautions"].as_array().into_iter().flatten() {
        add!(html, "<p class=\"quiet\">Caution: {}.</p>\n", text(caution));
    }
    html.push_str("<div class=\"wide\"><table>\n");
    for figure in found["figures"].as_array().into_iter().flatten() {
        let mut value = figure["value"]
            .as_f64()
            .map_or_else(String::new, short_number);
        if let Some(error) = figure["standard_error"]
            .as_f64()
            .filter(|error| *error > 0.0)
        {
            value += &format!(" ± {}", short_number(error));
        }
        if let Some(unit) = figure["unit"].as_str() {
            value += &format!(" {}", escaped(unit));
        }
        let mut name = text(&figure["name"]);
        if let Some(backbone) = figure["backbone"].as_str() {
            name += &format!(" ({})", escaped(backbone));
        }
        add!(
            html,
            "<tr><td>{name}</td><td class=\"number\">{value}</td><td class=\"quiet\">{}</td></tr>\n",
            text(&figure["meaning"])
        );
    }
    html.push_str("</table></div>\n</div>\n");
}

/// How a finding has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By itself, after so many iterations.
    Healed(u64),
    /// By a return to so many iterations.
    GoneBack(u64),
}

/// The newest finding of each kind and place, newest first, and its end if it has one.
fn newest_findings(events: &[Event]) -> Vec<(&Finding, Option<End>)> {
    let mut newest: Vec<(&Finding, Option<End>)> = Vec::new();
    let mut ended: Vec<&Finding> = Vec::new();
    let mut gone_back = None;
    for event in events.iter().rev() {
        match &event.what {
            Happening::Ended { finding } => ended.push(finding),
            Happening::RolledBack { to, .. } => gone_back = Some(End::GoneBack(*to)),
            Happening::Found { finding } => {
                let place = |finding: &Finding| {
                    let what = finding.what.split(':').next().map(str::to_owned);
                    (finding.trouble, what)
                };
                if newest
                    .iter()
                    .any(|(known, _)| place(known) == place(finding))
                {
                    continue;
                }
                let healed = ended.iter().find(|end| end.is_end_of(finding));
                let end = match finding.trouble.ruins_weights() {
                    true => gone_back,
                    false => healed.map(|end| End::Healed(end.iteration)),
                };
                newest.push((finding, end));
            }
            _ => {}
        }
    }
    newest
}

/// A learning rate with four digits at most.
fn rate_text(rate: f64) -> String {
    let rounded = format!("{rate:.3e}").parse().unwrap_or(rate);
    format!("{rounded:e}")
}

/// What happened, in words.
fn sentence(event: &Event) -> String {
    match &event.what {
        Happening::Started => "Training began.".to_owned(),
        Happening::Resumed => "The run went on from here.".to_owned(),
        Happening::Stopped => "The run was asked to stop.".to_owned(),
        Happening::Finished => "All iterations are done.".to_owned(),
        Happening::Found { finding } => format!(
            "{} ({}).",
            capitalised(&finding.what),
            finding.trouble.name()
        ),
        Happening::Ended { finding } => {
            format!("No more: {} ({}).", finding.what, finding.trouble.name())
        }
        Happening::RolledBack { to, rate } => format!(
            "Went back to iteration {}, with the learning rate {rate:e}.",
            thousands(*to)
        ),
        Happening::LeftOut { what } => format!("Left out: {what}."),
        Happening::Note { what } => capitalised(what),
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn iteration_time(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.0} ms", 1000.0 * seconds),
        _ => format!("{} s", short_number(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Trouble;

    #[test]
    fn what_has_ended_is_no_alert_any_more() {
        let finding = |iteration, trouble, what: &str| Finding {
            iteration,
            trouble,
            what: what.to_owned(),
        };
        let collapse = finding(
            500,
            Trouble::ModeCollapse,
            "no effect in direction a2b: 0.1 levels",
        );
        let other = finding(
            500,
            Trouble::ModeCollapse,
            "no effect in direction b2a: 0.2 levels",
        );
        let healed = finding(900, Trouble::ModeCollapse, "no effect in direction a2b");
        let lost = finding(950, Trouble::Explosion, "the loss gen_total has grown");
        let again = finding(990, Trouble::NotFinite, "the loss dis_total is NaN");
        let found = |finding: &Finding| Happening::Found {
            finding: finding.clone(),
        };
        let happenings = [
            found(&collapse),
            found(&other),
            Happening::Ended { finding: healed },
            found(&lost),
            Happening::RolledBack {
                to: 800,
                rate: 1e-4,
            },
            found(&again),
        ];
        let events = happenings.map(|what| Event {
            iteration: 0,
            time: 0,
            what,
        });
        assert_eq!(
            newest_findings(&events),
            [
                (&again, None),
                (&lost, Some(End::GoneBack(800))),
                (&other, None),
                (&collapse, Some(End::Healed(900))),
            ]
        );
        // Found again.
        let events = [&events[..], &events[..1]].concat();
        assert_eq!(newest_findings(&events)[0], (&collapse, None));
    }
}
