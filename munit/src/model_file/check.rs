//! What makes a model consistent, whether it is about to be written or was just read. Failures
//! are sentences without the file's name, which the caller knows.

use std::collections::BTreeMap;

use tch::Kind;

use super::ModelMetadata;
use crate::config::{Architecture, Direction};
use crate::layout;

type Check = Result<(), String>;

/// Longest name of a domain or style, in characters.
const LONGEST_NAME: usize = 100;
/// Longest description, in bytes.
const LONGEST_TEXT: usize = 1 << 16;
/// Most named styles; far more than anyone can tell apart.
const MOST_STYLES: usize = 10_000;
/// Sides of training pictures that anyone may have meant.
const SIZES: std::ops::RangeInclusive<u32> = 16..=16_384;

/// Whether the architecture can be built and all else fits to it.
pub(super) fn metadata(metadata: &ModelMetadata) -> Check {
    metadata
        .architecture
        .check()
        .map_err(|error| error.to_string())?;
    directions(&metadata.directions)?;
    name("name of domain a", &metadata.domain_a)?;
    name("name of domain b", &metadata.domain_b)?;
    text("description of the data", &metadata.data)?;
    text("licence", &metadata.licence)?;
    if let Some(size) = metadata
        .recommended_size
        .filter(|size| !SIZES.contains(size))
    {
        return Err(format!(
            "the recommended size is {size} pixels; expected {} to {}",
            SIZES.start(),
            SIZES.end()
        ));
    }
    if metadata.styles.len() > MOST_STYLES {
        return Err(format!(
            "it has {} named styles; at most {MOST_STYLES} are allowed",
            metadata.styles.len()
        ));
    }
    for (style_name, style) in &metadata.styles {
        name("name of a style", style_name)?;
        code(
            &format!("style {style_name:?}"),
            &style.code,
            &metadata.architecture,
        )?;
    }
    for (domain, mean) in &metadata.mean_styles {
        let what = format!("the mean style of domain {}", domain.name());
        code(&what, mean, &metadata.architecture)?;
    }
    Ok(())
}

fn directions(directions: &[Direction]) -> Check {
    match directions {
        [] => Err("it has no direction; expected a2b, b2a or both".to_owned()),
        [_] => Ok(()),
        [first, second] if first != second => Ok(()),
        [first, ..] => Err(format!(
            "direction {} is listed more than once",
            first.name()
        )),
    }
}

/// Whether `name` can stand in a list of names; `what` says whose it is.
pub(super) fn name(what: &str, name: &str) -> Check {
    if name.trim().is_empty() || name.trim() != name {
        return Err(format!(
            "the {what} is {name:?}; expected a word or two without spaces around them"
        ));
    }
    if name.chars().count() > LONGEST_NAME {
        return Err(format!(
            "the {what} is longer than {LONGEST_NAME} characters"
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("the {what}, {name:?}, has control characters"));
    }
    Ok(())
}

pub(super) fn text(what: &str, text: &str) -> Check {
    if text.len() > LONGEST_TEXT {
        return Err(format!("the {what} is longer than {LONGEST_TEXT} bytes"));
    }
    // They end up on terminals, where an escape sequence could do harm.
    if text
        .chars()
        .any(|one| one.is_control() && one != '\n' && one != '\t')
    {
        return Err(format!("the {what} has control characters"));
    }
    Ok(())
}

fn code(what: &str, code: &[f32], architecture: &Architecture) -> Check {
    let expected = architecture.style_dim();
    if code.len() as i64 != expected {
        return Err(format!(
            "{what} has {} numbers; expected {expected}",
            code.len()
        ));
    }
    match code.iter().find(|number| !number.is_finite()) {
        Some(number) => Err(format!("{what} contains {number}; expected finite numbers")),
        None => Ok(()),
    }
}

/// Whether `found`, names and shapes, is just what the architecture asks for.
pub(super) fn tensors(metadata: &ModelMetadata, found: &BTreeMap<&str, Vec<i64>>) -> Check {
    let expected = layout::expected_weights(&metadata.architecture, &metadata.directions);
    for (name, expected_shape) in &expected {
        match found.get(name.as_str()) {
            None => {
                let missing = expected
                    .keys()
                    .filter(|name| !found.contains_key(name.as_str()));
                return Err(format!(
                    "tensor {name}, of shape {expected_shape:?}, is missing{}",
                    and_others(missing.count() - 1)
                ));
            }
            Some(shape) if shape != expected_shape => {
                return Err(format!(
                    "tensor {name} has shape {shape:?}; expected {expected_shape:?}"
                ));
            }
            Some(_) => (),
        }
    }
    let mut extra = found.keys().filter(|name| !expected.contains_key(**name));
    match extra.next() {
        None => Ok(()),
        Some(name) => Err(format!(
            "tensor {name:?} does not belong to this architecture{}",
            and_others(extra.count())
        )),
    }
}

fn and_others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " (and another one)".to_owned(),
        count => format!(" (and {count} others)"),
    }
}

/// Position of the first element of `bytes`, little-endian numbers of `kind`, that is infinite
/// or not a number.
pub(super) fn first_not_finite(bytes: &[u8], kind: Kind) -> Option<usize> {
    // In all three formats these are the numbers whose exponent bits are all ones.
    let half = |exponent: u16| {
        let (numbers, _) = bytes.as_chunks::<2>();
        numbers
            .iter()
            .position(|number| u16::from_le_bytes(*number) & exponent == exponent)
    };
    match kind {
        Kind::Half => half(0x7c00),
        Kind::BFloat16 => half(0x7f80),
        _ => {
            let (numbers, _) = bytes.as_chunks::<4>();
            numbers
                .iter()
                .position(|number| u32::from_le_bytes(*number) & 0x7f80_0000 == 0x7f80_0000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_and_nans_are_found_in_every_precision() {
        let numbers = [0.0f32, -1.5, 6e4, f32::NAN, f32::INFINITY];
        for first_bad in 3..=4 {
            let mut numbers = numbers.to_vec();
            numbers.swap(3, first_bad);
            let bytes = |kind| -> Vec<u8> {
                numbers
                    .iter()
                    .flat_map(|number| match kind {
                        Kind::Half => half::f16::from_f32(*number).to_le_bytes().to_vec(),
                        Kind::BFloat16 => half::bf16::from_f32(*number).to_le_bytes().to_vec(),
                        _ => number.to_le_bytes().to_vec(),
                    })
                    .collect()
            };
            for kind in [Kind::Float, Kind::Half, Kind::BFloat16] {
                let bytes = bytes(kind);
                let width = bytes.len() / numbers.len();
                assert_eq!(first_not_finite(&bytes, kind), Some(3), "{kind:?}");
                assert_eq!(
                    first_not_finite(&bytes[..3 * width], kind),
                    None,
                    "{kind:?}"
                );
            }
        }
    }
}
