//! What two configurations have otherwise than one another.

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

/// A key whose values differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The key, in groups as `gen.dim`.
    pub key: String,
    /// The value of the one.
    pub ours: Value,
    /// That of the other; null where it has none.
    pub theirs: Value,
}

impl Difference {
    /// Both values as they are shown; `nothing` stands for none.
    pub fn shown(&self, nothing: &str) -> [String; 2] {
        [&self.ours, &self.theirs].map(|value| match value {
            Value::String(text) => text.clone(),
            Value::Null => nothing.to_owned(),
            other => other.to_string(),
        })
    }
}

/// The keys of `ours` whose values differ from those of `theirs`, in their order.
///
/// # Errors
/// What cannot be told as JSON.
pub fn differences<T: Serialize>(ours: &T, theirs: &T) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    let (ours, theirs) = (serde_json::to_value(ours)?, serde_json::to_value(theirs)?);
    collect("", &ours, &theirs, &mut found);
    Ok(found)
}

fn collect(prefix: &str, ours: &Value, theirs: &Value, found: &mut Vec<Difference>) {
    let Value::Object(entries) = ours else { return };
    for (key, ours) in entries {
        let theirs = &theirs[key];
        let key = format!("{prefix}{key}");
        if ours.is_object() {
            collect(&format!("{key}."), ours, theirs, found);
        } else if ours != theirs {
            found.push(Difference {
                key,
                ours: ours.clone(),
                theirs: theirs.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_compared_by_their_place_and_not_by_their_line() {
        let ours = json!({"list": ["a", "b"], "gen": {"dim": 16, "norm": "none"}, "task": null});
        let theirs = json!({"list": [], "gen": {"dim": 64, "norm": "none"}, "task": "keep"});
        let found = differences(&ours, &theirs).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.key.as_str(), one.shown("-")))
            .collect();
        let pair = |ours: &str, theirs: &str| [ours.to_owned(), theirs.to_owned()];
        assert_eq!(
            found,
            [
                ("list", pair(r#"["a","b"]"#, "[]")),
                ("gen.dim", pair("16", "64")),
                ("task", pair("-", "keep")),
            ]
        );
    }
}
