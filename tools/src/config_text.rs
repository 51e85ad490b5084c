//! The text of a configuration: read as PyYAML reads it, and what is wrong with it in the words of a person
//! who writes one.

use std::borrow::Cow;

use anyhow::{Result, anyhow};
use serde::de::{DeserializeOwned, IgnoredAny};

/// From this likeness on, which is 1 for the same, a known key may have been meant by an unknown one.
const NEAR: f64 = 0.75;

/// What the YAML `text` describes, and the text in which numbers are written without underscores. PyYAML, with
/// which the published code reads its configurations, has YAML 1.1, in which 1_000_000 is a number.
///
/// # Errors
/// A sentence with the line.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<(T, Cow<'_, str>)> {
    let mut text = Cow::Borrowed(text);
    loop {
        match serde_yaml_ng::from_str(&text) {
            Ok(value) => return Ok((value, text)),
            Err(error) => match plain_number(&text, &error) {
                Some(plain) => text = Cow::Owned(plain),
                None => return Err(explain(&error, &text)),
            },
        }
    }
}

/// `text` without the underscores of a number that is why `error` says that a word stands in its place.
fn plain_number(text: &str, error: &serde_yaml_ng::Error) -> Option<String> {
    let message = error.to_string();
    let (_, after) = message.split_once("invalid type: string \"")?;
    let (found, after) = after.split_once("\", expected ")?;
    let wanted = after.split(' ').next()?;
    let is_number = found.contains('_')
        && found.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first))
        && ["u64", "usize", "i64", "f64"].contains(&wanted);
    let plain = found.replace('_', "");
    if !is_number || plain.parse::<f64>().is_err() {
        return None;
    }
    let place = error.location()?;
    let (line, column) = (place.line().checked_sub(1)?, place.column().checked_sub(1)?);
    let begin: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    // A quoted number is a word for PyYAML, too.
    let (column, _) = text.get(begin..)?.char_indices().nth(column)?;
    let (before, after) = text.split_at(begin + column);
    Some(format!("{before}{plain}{}", after.strip_prefix(found)?))
}

/// serde's message in the words of a person who writes a configuration.
fn explain(error: &serde_yaml_ng::Error, text: &str) -> anyhow::Error {
    let message = error.to_string();
    // A key that is not known comes first where the text is no YAML further down.
    if let Some(broken) = syntax_error(text) {
        return anyhow!("broken YAML: {broken}");
    }
    let explained = explain_repeated_key(&message, text)
        .or_else(|| explain_unknown_key(&message))
        .or_else(|| explain_value(&message));
    anyhow!(explained.unwrap_or(message))
}

/// Why `text` is not YAML at all.
fn syntax_error(text: &str) -> Option<String> {
    let parsed = serde_yaml_ng::from_str::<IgnoredAny>(text);
    parsed.err().map(|error| error.to_string())
}

/// A key that is given twice, with the lines, of which serde tells that of the first key beside it.
fn explain_repeated_key(message: &str, text: &str) -> Option<String> {
    let (before, after) = message.split_once("duplicate field `")?;
    let (key, _) = after.split_once('`')?;
    let group = before.strip_suffix(": ");
    let lines = lines_of(text, group, key);
    let name = match group {
        Some(group) => format!("{group}.{key}"),
        None => key.to_owned(),
    };
    let places = match &lines[..] {
        [some @ .., last] if !some.is_empty() => {
            let some: Vec<String> = some.iter().map(usize::to_string).collect();
            format!(", in the lines {} and {last}", some.join(", "))
        }
        _ => String::new(),
    };
    Some(format!(
        "{name} is given more than once{places}; leave one of them"
    ))
}

/// The lines, counted from 1, that begin with `key`: those of the group `group`, or those that are in none.
fn lines_of(text: &str, group: Option<&str>, key: &str) -> Vec<usize> {
    let mut inside: Option<String> = None;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let Some((name, _)) = line.split_once(':') else {
            continue;
        };
        let indented = name.starts_with([' ', '\t']);
        let name = name.trim().trim_matches(['"', '\'']);
        if !indented {
            inside = Some(name.to_owned());
        }
        let here = match group {
            Some(group) => indented && inside.as_deref() == Some(group),
            None => !indented,
        };
        if here && name == key {
            found.push(number);
        }
    }
    found
}

/// A value of another kind than its key has.
fn explain_value(text: &str) -> Option<String> {
    let (text, place) = match text.rsplit_once(" at line ") {
        Some((text, place)) => (text, format!(" (line {place})")),
        None => (text, String::new()),
    };
    let plain = |quoted: &str| quoted.replace('`', "");
    if let Some((before, after)) = text.split_once("unknown variant ") {
        let (found, known) = after.split_once(", expected ")?;
        let known = known.strip_prefix("one of ").unwrap_or(known);
        let (found, known) = (plain(found), plain(known));
        return Some(format!(
            "{before}{found} is not known; known are {known}{place}"
        ));
    }
    let (before, after) = text.split_once("invalid type: ")?;
    let (found, wanted) = after.rsplit_once(", expected ")?;
    let found = match found {
        "unit value" => "nothing".to_owned(),
        "sequence" => "a list".to_owned(),
        "map" => "keys with values".to_owned(),
        _ => {
            let kinds = ["integer ", "floating point ", "boolean ", "string "];
            let value = kinds.iter().find_map(|kind| found.strip_prefix(kind));
            plain(value?).trim_end_matches(" as u128").to_owned()
        }
    };
    let wanted = match wanted {
        "u64" | "usize" => "a whole number, 0 or more",
        "i64" => "a whole number",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list in square brackets",
        "path string" => "a path",
        _ if wanted.starts_with("struct ") => "lines of the form key: value below it",
        other => other,
    };
    Some(format!("{before}expected {wanted}, found {found}{place}"))
}

/// A key that there is not; of all known ones, a person wants the one that was meant.
fn explain_unknown_key(text: &str) -> Option<String> {
    let (before, after) = text.split_once("unknown field `")?;
    let (unknown, known) = after.split_once('`')?;
    let likeness = |key: &str| strsim::jaro_winkler(unknown, key);
    let nearest = known
        .split('`')
        .skip(1)
        .step_by(2)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|key| likeness(key) >= NEAR)
        .map_or(String::new(), |key| {
            format!("; the nearest known key is {key}")
        });
    let place = after
        .rsplit_once(" at ")
        .map_or(String::new(), |(_, place)| format!(" ({place})"));
    Some(format!("{before}unknown key {unknown}{place}{nearest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TrainConfig;

    fn sentence(text: &str) -> String {
        read::<TrainConfig>(text).unwrap_err().to_string()
    }

    #[test]
    fn a_key_that_is_given_twice_is_named_with_its_lines() {
        let text = "# mine\n\nlr: 0.1\ngan_w: 1\nbeta1: 0.5\n\"gan_w\": 2\ngen:\n  dim: 4\n";
        assert_eq!(
            sentence(text),
            "gan_w is given more than once, in the lines 4 and 6; leave one of them"
        );
        let text =
            "dis:\n  dim: 4\ngen:\n  dim: 4\n  # gen.dim: 1\n  n_res: 1\n  dim: 8\n  dim: 9\n";
        assert_eq!(
            sentence(text),
            "gen.dim is given more than once, in the lines 4, 7 and 8; leave one of them"
        );
        let text = "lr: 0.1\ngen: {dim: 4, dim: 8}\n";
        assert_eq!(
            sentence(text),
            "gen.dim is given more than once; leave one of them"
        );
    }

    #[test]
    fn what_is_no_yaml_is_said_to_be_broken_whatever_comes_before() {
        for text in ["foo: [\n", "lr: 0.1\nfoo: 1\ngen: {dim: 4\n", "lr: \"0.1\n"] {
            let sentence = sentence(text);
            assert!(sentence.starts_with("broken YAML: "), "{sentence}");
            assert!(sentence.contains("line "), "{sentence}");
        }
    }

    #[test]
    fn numbers_may_have_underscores() {
        let text = "# 1_0\nmax_iter: 1_000_000  # 1_0\nlr: 0.000_1\ndomain_a: 1_0\ngen: {dim: 1_6, n_res: 2}\n\
                    data_root: 2024_01\nrollbacks: [{from: 2_0, to: 1_0}]\n";
        let (config, plain) = read::<TrainConfig>(text).unwrap();
        assert_eq!((config.max_iter, config.lr), (1_000_000, 0.0001));
        assert_eq!((config.generator.dim, config.rollbacks[0].from), (16, 20));
        assert_eq!(config.domain_a.as_deref(), Some("1_0"));
        assert_eq!(config.data_root, Some("2024_01".into()));
        assert_eq!(plain.matches("1_0").count(), 3);
        for (text, found) in [
            ("max_iter: \"1_000\"\n", "found \"1_000\" (line 1"),
            ("max_iter: 1_000x\n", "found \"1_000x\" (line 1"),
            ("max_iter: _1\n", "found \"_1\" (line 1"),
        ] {
            assert!(sentence(text).contains(found), "{}", sentence(text));
        }
    }
}
