//! What is in the folders of a run, and what in them will spoil it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use munit::Domain;
use serde::Serialize;

use super::inspection::Findings;
use super::{NamedSet, Sets};
use crate::config::TrainConfig;
use crate::data::{PictureFacts, PictureSet, Unusable, none_usable};
use crate::run::framing;
use crate::trainer::Pair;

/// Below this number of pictures there is little to learn.
const FEW: usize = 50;
/// From this ratio of numbers of pictures on, the smaller domain is learnt by heart long before the
/// larger is known.
const IMBALANCE: usize = 10;
/// A picture is enlarged much if the network sees it this many times as large, or more.
const MUCH_ENLARGED: f64 = 1.5;
/// Share of a set from which on a property of single pictures is one of the set, and up to which it
/// is one of the others.
const NOTEWORTHY_SHARE: f64 = 0.05;
/// Pictures that are named one by one.
const LISTED: usize = 10;

/// What is known of a run's pictures.
#[derive(Clone, Debug, Serialize)]
pub struct DataReport {
    /// The training pictures of domains a and b, then the test pictures that there are.
    pub sets: Vec<SetReport>,
    /// Sentences on what will spoil the run, and what to do.
    pub notes: Vec<String>,
    /// Whether every picture has been looked at; headers alone do not tell which are blank, broken
    /// or alike.
    pub complete: bool,
}

/// What is known of one set of pictures.
#[derive(Clone, Debug, Serialize)]
pub struct SetReport {
    /// `domain a`, or `test pictures of domain a`.
    pub name: String,
    /// Where they are.
    pub folder: PathBuf,
    /// Number of usable ones.
    pub pictures: usize,
    /// What will be skipped, and why.
    pub left_out: Vec<LeftOut>,
    /// Number of usable files by format.
    pub formats: BTreeMap<&'static str, usize>,
    /// The shortest, the middle and the longest of the shorter sides, in pixels.
    pub shorter_sides: [u32; 3],
    /// Usable pictures without colours; `None` as long as not all have been looked at.
    pub grey: Option<usize>,
    /// Usable pictures that nearly repeat an earlier one; `None` likewise.
    pub near_duplicates: Option<usize>,
}

/// A file that is skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The file, or a folder that cannot be entered.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl DataReport {
    /// The report on `sets` for a run of `config`; without `findings` as far as headers tell.
    pub fn new(sets: &Sets, config: &TrainConfig, findings: Option<&Findings>) -> Self {
        let all = sets.all();
        let reports = all.iter().enumerate();
        let reports: Vec<SetReport> = reports
            .map(|(number, set)| SetReport::new(set, findings.map(|found| (found, number))))
            .collect();
        let mut notes = Vec::new();
        for domain in Domain::ALL {
            let set = &reports[domain as usize];
            notes.extend(note_on_number(set));
            let target = framing(config, domain).new_size;
            let facts = findings.map(|found| found.facts[domain as usize].as_slice());
            notes.extend(note_on_size(set, sets.training.get(domain), facts, target));
            if config.architecture().channels(domain) > 1 {
                notes.extend(note_on_grey(set));
            }
        }
        notes.extend(note_on_imbalance(&reports));
        let same = same_files(&sets.training);
        if same {
            notes.push(
                "domains a and b are the same pictures, so that the network will learn to copy; \
                 give --a and --b different folders"
                    .to_owned(),
            );
        }
        if let Some(findings) = findings {
            notes.extend(notes_on_repeats(
                &all,
                &reports,
                findings,
                config.is_paired(),
            ));
            if !same && !config.is_paired() {
                notes.extend(note_on_shared(&sets.training, &reports, findings));
            }
        }
        Self {
            sets: reports,
            notes,
            complete: findings.is_some(),
        }
    }
}

impl SetReport {
    fn new(named: &NamedSet, findings: Option<(&Findings, usize)>) -> Self {
        let set = named.set;
        let facts = findings.map(|(found, number)| &found.facts[number]);
        let mut left_out: Vec<LeftOut> = set
            .skipped
            .iter()
            .map(|skipped| LeftOut {
                path: skipped.path.clone(),
                reason: skipped.reason.to_string(),
            })
            .collect();
        let mut formats = BTreeMap::new();
        let mut shorter_sides = Vec::with_capacity(set.paths.len());
        for (index, (path, header)) in set.paths.iter().zip(&set.headers).enumerate() {
            if let Some(Err(reason)) = facts.map(|facts| &facts[index]) {
                left_out.push(LeftOut {
                    path: path.clone(),
                    reason: reason.to_string(),
                });
                continue;
            }
            *formats.entry(header.format).or_insert(0) += 1;
            shorter_sides.push(header.width.min(header.height));
        }
        left_out.sort_by(|one, other| one.path.cmp(&other.path));
        shorter_sides.sort_unstable();
        let side = |index: usize| shorter_sides.get(index).copied().unwrap_or_default();
        let last = shorter_sides.len().saturating_sub(1);
        Self {
            name: named.name(),
            folder: set.root.clone(),
            pictures: shorter_sides.len(),
            left_out,
            formats,
            shorter_sides: [side(0), side(last / 2), side(last)],
            grey: facts.map(|facts| {
                let usable = facts.iter().flatten();
                usable.filter(|facts| facts.grey).count()
            }),
            near_duplicates: findings
                .map(|(found, number)| found.near_duplicates.within(number).len()),
        }
    }

    /// # Errors
    /// None of the pictures can be used, in a sentence that names the folder and the first reason.
    pub fn require_usable(&self) -> Result<()> {
        match self.left_out.first() {
            Some(first) if self.pictures == 0 => {
                Err(none_usable(self.left_out.len(), &self.folder, first))
            }
            _ => Ok(()),
        }
    }

    /// `domain a: 5 pictures in photos`
    pub fn heading(&self) -> String {
        let plural = if self.pictures == 1 { "" } else { "s" };
        format!(
            "{}: {} picture{plural} in {}",
            self.name,
            self.pictures,
            self.folder.display()
        )
    }

    /// For example `1910 JPEG, 5 PNG; shorter side 200 to 4000 pixels, half of them up to 400`.
    pub fn details(&self) -> String {
        let formats: Vec<String> = self
            .formats
            .iter()
            .map(|(format, count)| format!("{count} {format}"))
            .collect();
        let [shortest, middle, longest] = self.shorter_sides;
        let sides = if shortest == longest {
            format!("shorter side {shortest} pixels")
        } else {
            format!("shorter side {shortest} to {longest} pixels, half of them up to {middle}")
        };
        format!("{}; {sides}", formats.join(", "))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// One line for each of `left_out`, or for the first ones and the number of the others.
pub fn listed(left_out: &[LeftOut]) -> impl Iterator<Item = String> {
    let lines = left_out.iter().take(LISTED);
    let more = left_out.len().saturating_sub(LISTED);
    let rest = (more > 0).then(|| format!("and {more} more; munit-train --check lists them all"));
    lines
        .map(|left_out| format!("left out: {left_out}"))
        .chain(rest)
}

fn note_on_number(set: &SetReport) -> Option<String> {
    let (name, folder) = (&set.name, set.folder.display());
    match set.pictures {
        0 => None,
        1 => Some(format!(
            "{name} has a single picture, in {folder}, which the network will learn by heart; give \
             a folder of many pictures"
        )),
        2..FEW => Some(format!(
            "{name} has only {} pictures, in {folder}; some hundred are a beginning, some thousand \
             are better",
            set.pictures
        )),
        _ => None,
    }
}

fn note_on_imbalance(reports: &[SetReport]) -> Option<String> {
    let [a, b] = reports.first_chunk()?;
    let (more, fewer) = if a.pictures > b.pictures {
        (a, b)
    } else {
        (b, a)
    };
    (fewer.pictures > 0 && more.pictures >= IMBALANCE * fewer.pictures).then(|| {
        format!(
            "{} has {} times as many pictures as {}, which will be learnt by heart while the other \
             is not known yet; give more pictures of {}",
            more.name,
            more.pictures / fewer.pictures,
            fewer.name,
            fewer.name
        )
    })
}

/// Of the pictures that `facts`, where they are known, say are usable.
fn note_on_size(
    report: &SetReport,
    set: &PictureSet,
    facts: Option<&[Result<PictureFacts, Unusable>]>,
    target: usize,
) -> Option<String> {
    let is_usable = |index: usize| facts.is_none_or(|facts| facts[index].is_ok());
    let small = set
        .headers
        .iter()
        .enumerate()
        .filter(|(index, header)| {
            let side = f64::from(header.width.min(header.height));
            is_usable(*index) && side * MUCH_ENLARGED <= target as f64
        })
        .count();
    let share = small as f64 / report.pictures as f64;
    (share > NOTEWORTHY_SHARE).then(|| {
        format!(
            "{small} of {} pictures of {} are much smaller than the {target} pixels that they are \
             resized to, and will be blurred; choose a smaller --size or larger pictures",
            report.pictures, report.name
        )
    })
}

fn note_on_grey(set: &SetReport) -> Option<String> {
    let grey = set.grey?;
    let share = grey as f64 / set.pictures as f64;
    (share > NOTEWORTHY_SHARE && share < 1.0 - NOTEWORTHY_SHARE).then(|| {
        format!(
            "{grey} of {} pictures of {} are mostly without colour, and the others coloured; some of \
             the styles will be without colour",
            set.pictures, set.name
        )
    })
}

fn notes_on_repeats(
    all: &[NamedSet],
    reports: &[SetReport],
    findings: &Findings,
    paired: bool,
) -> Vec<String> {
    let found = &findings.near_duplicates;
    let count = |set: usize| reports[set].pictures;
    let path = |set: usize, index: usize| all[set].set.paths[index].display();
    let consequence = match paired {
        false => "such pictures are learnt by heart",
        // A picture with several partners has as many names.
        true => {
            "where their partners nearly repeat one another, too, such pairs are learnt by heart"
        }
    };
    let mut notes = Vec::new();
    for (set, named) in all.iter().enumerate().filter(|(_, named)| !named.is_test) {
        let repeats = found.within(set);
        if let Some(&(earlier, later)) = repeats.first() {
            notes.push(format!(
                "{} of {} pictures of {} nearly repeat others, for example {} and {}; {consequence}",
                repeats.len(),
                count(set),
                named.name(),
                path(set, earlier),
                path(set, later)
            ));
        }
    }
    for (set, named) in all.iter().enumerate().filter(|(_, named)| named.is_test) {
        // Of the other domain, too: what a test picture is to become may have been shown.
        for domain in Domain::ALL {
            let training = domain as usize;
            let leaks = found.between(training, set);
            if let Some(&(trained, tested)) = leaks.first() {
                let what = match domain == named.domain {
                    true => "pictures that are trained on".to_owned(),
                    false => format!("pictures of domain {} that are trained on", domain.name()),
                };
                notes.push(format!(
                    "{} of {} {} nearly repeat {what}, for example {} and {}; \
                     what is learnt by heart will look good on them",
                    leaks.len(),
                    count(set),
                    named.name(),
                    path(set, tested),
                    path(training, trained)
                ));
            }
        }
    }
    notes
}

/// For pictures without partners, which alone may look alike in both domains.
fn note_on_shared(
    training: &Pair<PictureSet>,
    reports: &[SetReport],
    findings: &Findings,
) -> Option<String> {
    let [a, b] = Domain::ALL.map(|domain| domain as usize);
    let shared = findings.near_duplicates.between(a, b);
    let &(of_a, of_b) = shared.first()?;
    Some(format!(
        "{} of {} pictures of domain b nearly repeat pictures of domain a, for example {} and \
         {}, so that the network will learn to copy them; take them out of one of the two",
        shared.len(),
        reports[b].pictures,
        training.b.paths[of_b].display(),
        training.a.paths[of_a].display()
    ))
}

/// Whether both domains are the same files, be it by way of links.
fn same_files(training: &Pair<PictureSet>) -> bool {
    let files = |set: &PictureSet| -> BTreeSet<PathBuf> {
        let files = set.paths.iter().map(fs::canonicalize);
        files.filter_map(Result::ok).collect()
    };
    training.a.paths.len() == training.b.paths.len() && files(&training.a) == files(&training.b)
}
