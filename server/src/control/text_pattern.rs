//! What callers look for in output: read once, then matched in linear time.

use super::refusal::Refusal;
use regex::bytes::{Regex, RegexBuilder};
use taskyard_proto::v1::{TextPattern, text_pattern::Pattern};

/// Longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1_024;
/// Memory that a compiled pattern, and then the matching itself, may take.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// Compiles a pattern; `field` is where it stands in the request.
///
/// # Errors
/// [`Refusal::InvalidField`].
pub fn compile(field: &str, pattern: Option<&TextPattern>) -> Result<Regex, Refusal> {
    let given = pattern.and_then(|text| Some((text.pattern.as_ref()?, text.ignore_case)));
    let Some((pattern, ignore_case)) = given else {
        let problem = "is required: a literal or a regex";
        return Err(Refusal::invalid(field, problem));
    };
    let (text, expression) = match pattern {
        Pattern::Literal(literal) => (literal, regex::escape(literal)),
        Pattern::Regex(expression) => (expression, expression.clone()),
    };
    if text.is_empty() || text.len() > MAX_PATTERN_BYTES {
        let problem = format!("must have 1 to {MAX_PATTERN_BYTES} bytes");
        return Err(Refusal::invalid(field, problem));
    }
    if matches!(pattern, Pattern::Literal(_)) && text.contains('\n') {
        let problem = "must not hold a line break: each line is looked at by itself";
        return Err(Refusal::invalid(field, problem));
    }
    RegexBuilder::new(&expression)
        .case_insensitive(ignore_case)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES)
        .build()
        .map_err(|error| {
            let problem = match error {
                regex::Error::CompiledTooBig(_) => {
                    "takes too much memory; repeat less, or use (?-u:…) for ASCII classes"
                        .to_owned()
                }
                other => format!("must be a regular expression: {other}"),
            };
            Refusal::invalid(field, problem)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> TextPattern {
        TextPattern {
            pattern: Some(Pattern::Literal(text.to_owned())),
            ignore_case: false,
        }
    }

    fn regex(text: &str) -> TextPattern {
        TextPattern {
            pattern: Some(Pattern::Regex(text.to_owned())),
            ignore_case: true,
        }
    }

    #[test]
    fn literals_mean_themselves_and_expressions_what_they_say() {
        let compiled = compile("p", Some(&literal("a.b*"))).ok();
        let fits = |text: &[u8]| compiled.as_ref().is_some_and(|regex| regex.is_match(text));
        assert!(fits(b"x a.b* y") && !fits(b"axbb"));
        let compiled = compile("p", Some(&regex("^ready [0-9]+$"))).ok();
        let fits = |text: &[u8]| compiled.as_ref().is_some_and(|regex| regex.is_match(text));
        assert!(fits(b"READY 8275") && !fits(b"not ready 1"));
    }

    #[test]
    fn what_cannot_be_looked_for_is_refused() {
        let long = "x".repeat(1_025);
        let empty = TextPattern::default();
        for pattern in [
            empty,
            literal(""),
            literal("a\nb"),
            literal(&long),
            regex(""),
            regex("("),
            regex(&long),
            regex(r"(\w{100}){100}"),
            regex(r"(?:a{1000}){1000}"),
            regex(r"(a)\1"),
        ] {
            assert!(compile("p", Some(&pattern)).is_err(), "{pattern:?}");
        }
        assert!(compile("p", None).is_err());
        let refused = compile("grep.pattern", Some(&regex("("))).map(drop);
        let text = refused.expect_err("it is unclosed").to_string();
        assert!(
            text.starts_with("grep.pattern: must be a regular expression: "),
            "{text}"
        );
    }
}
