//! JSON Schemas: what answers, messages and results must satisfy.

use super::refusal::Refusal;
use jsonschema::{PatternOptions, Validator, error::ValidationErrorKind};
use serde_json::Value;
use taskyard_core::task::summary::clip;

/// Longest schema, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// Longest sentence about what is wrong.
const MAX_PROBLEM_BYTES: usize = 512;
/// Violations that are told.
const MAX_VIOLATIONS: usize = 3;

/// Checks that a text is a schema; an empty one is none, and fine.
///
/// # Errors
/// [`Refusal::InvalidField`].
pub fn check_schema(field: &str, schema_json: &str) -> Result<(), Refusal> {
    if schema_json.is_empty() {
        return Ok(());
    }
    if schema_json.len() > MAX_SCHEMA_BYTES {
        return Err(Refusal::invalid(
            field,
            format!("has more than {MAX_SCHEMA_BYTES} bytes"),
        ));
    }
    compile(schema_json)
        .map(drop)
        .map_err(|problem| Refusal::invalid(field, problem))
}

/// Why a JSON text does not satisfy a schema that was checked when it was stored; none: it does, or the schema is empty.
#[must_use]
pub fn find_violation(schema_json: &str, value_json: &str) -> Option<String> {
    if schema_json.is_empty() {
        return None;
    }
    let value: Value = match serde_json::from_str(value_json) {
        Ok(value) => value,
        Err(error) => return Some(format!("it is no valid JSON: {error}")),
    };
    let validator = match compile(schema_json) {
        Ok(validator) => validator,
        Err(problem) => return Some(problem),
    };
    let violations: Vec<String> = validator
        .iter_errors(&value)
        .take(MAX_VIOLATIONS)
        .map(|error| {
            let place = error.instance_path.to_string();
            if place.is_empty() {
                error.to_string()
            } else {
                format!("at {place}: {error}")
            }
        })
        .collect();
    (!violations.is_empty()).then(|| clip(&violations.join("; "), MAX_PROBLEM_BYTES))
}

/// Patterns run in linear time, and references lead nowhere outside the schema.
fn compile(schema_json: &str) -> Result<Validator, String> {
    let schema: Value =
        serde_json::from_str(schema_json).map_err(|error| format!("is no valid JSON: {error}"))?;
    if !schema.is_object() && !schema.is_boolean() {
        return Err("is no JSON Schema: it must be an object".to_owned());
    }
    jsonschema::options()
        .with_pattern_options(PatternOptions::regex().size_limit(1 << 20))
        .build(&schema)
        .map_err(|error| match error.kind {
            ValidationErrorKind::Referencing(_) => {
                "refers to something that is not in it: a `$ref` leads within the schema, such as to \
                 `#/$defs/NAME`; nothing is fetched"
                    .to_owned()
            }
            _ => clip(&format!("is no JSON Schema: {error}"), MAX_PROBLEM_BYTES),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_satisfies_or_the_first_problems_are_told() {
        let schema =
            r#"{"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}"#;
        assert!(check_schema("schema", schema).is_ok());
        assert_eq!(find_violation(schema, r#"{"ok": true}"#), None);
        let problem = find_violation(schema, r#"{"ok": 3}"#).expect("3 is no boolean");
        assert!(
            problem.contains("/ok") && problem.contains("boolean"),
            "{problem}"
        );
        assert!(find_violation(schema, "{").is_some());
        assert_eq!(find_violation("", "{"), None, "no schema asks for nothing");
    }

    #[test]
    fn what_is_no_schema_is_refused_where_it_is_given() {
        for bad in [
            "{",
            "[]",
            r#"{"type": "thing"}"#,
            r#"{"pattern": "("}"#,
            r#"{"$ref": "http://schemas.example/x"}"#,
            r#"{"$ref": "file:///etc/passwd"}"#,
        ] {
            assert!(check_schema("schema", bad).is_err(), "{bad}");
        }
        for reference in ["http://schemas.example/x", "#/$defs/nothing", "other.json"] {
            let schema = format!(r#"{{"$ref": "{reference}"}}"#);
            let refused = check_schema("schema", &schema).expect_err(reference);
            let text = refused.to_string();
            assert!(
                text.starts_with("schema: refers to something that is not in it"),
                "{text}"
            );
        }
        let long = format!(r#"{{"title": "{}"}}"#, "x".repeat(MAX_SCHEMA_BYTES));
        assert!(check_schema("schema", &long).is_err());
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let schema = r#"{"pattern": "^(a+)+$"}"#;
        let value = format!("\"{}!\"", "a".repeat(20_000));
        assert!(find_violation(schema, &value).is_some());
    }
}
