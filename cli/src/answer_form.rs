//! What a question expects, as far as a line of text can give it, and the dialogue that asks a person for it.

use std::io::{self, BufRead, Write};

use serde_json::{Map, Value};
use taskyard_proto::v1::answer_task_request::Answer;

use crate::console::clean;

/// What an answer should be, read from the question's schema. The server holds it against the whole schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// Any text.
    Text,
    /// One of these.
    Choice(Vec<Value>),
    YesNo,
    Integer,
    Number,
    /// An object of plain members.
    Form(Vec<Field>),
    /// Something that only JSON can say.
    Json,
}

/// A member of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    name: String,
    description: String,
    is_required: bool,
    expected: Expected,
}

/// An answer as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply(Value);

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        match reply.0 {
            Value::String(text) => Answer::Text(text),
            value => Answer::AnswerJson(value.to_string()),
        }
    }
}

impl Expected {
    /// What a schema asks for; an empty one takes any text.
    pub fn of(expected_json: &str) -> Expected {
        match serde_json::from_str(expected_json) {
            Ok(Value::Object(schema)) => Expected::of_object(&schema, true),
            Ok(_) | Err(_) => Expected::Text,
        }
    }

    fn of_object(schema: &Map<String, Value>, may_be_form: bool) -> Expected {
        if let Some(Value::Array(choices)) = schema.get("enum") {
            return Expected::Choice(choices.clone());
        }
        if let Some(only) = schema.get("const") {
            return Expected::Choice(vec![only.clone()]);
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => Expected::Text,
            Some("boolean") => Expected::YesNo,
            Some("integer") => Expected::Integer,
            Some("number") => Expected::Number,
            Some("object") if may_be_form => match fields(schema) {
                Some(fields) if !fields.is_empty() => Expected::Form(fields),
                Some(_) | None => Expected::Json,
            },
            None if schema.is_empty() => Expected::Text,
            Some(_) | None => Expected::Json,
        }
    }

    /// Makes of a line what is expected.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub fn read(&self, line: &str) -> Result<Reply, String> {
        self.value(line).map(Reply)
    }

    fn value(&self, line: &str) -> Result<Value, String> {
        let word = line.trim();
        let complaint = || format!("`{}` is not {}", clean(word), self.description());
        match self {
            Expected::Text => Ok(Value::from(line)),
            Expected::Choice(choices) => {
                let named = choices.iter().find(|choice| shown(choice) == word);
                let counted = || {
                    let idx = word.parse::<usize>().ok()?.checked_sub(1)?;
                    choices.get(idx)
                };
                named.or_else(counted).cloned().ok_or_else(complaint)
            }
            Expected::YesNo => match word.to_ascii_lowercase().as_str() {
                "yes" | "y" | "true" => Ok(Value::Bool(true)),
                "no" | "n" | "false" => Ok(Value::Bool(false)),
                _ => Err(complaint()),
            },
            Expected::Integer | Expected::Number => match serde_json::from_str(word) {
                Ok(Value::Number(number)) if number.is_f64() && !word.contains(['.', 'e', 'E']) => {
                    Err(format!(
                        "`{}` has more digits than are kept here; send it as it is with --json",
                        clean(word)
                    ))
                }
                Ok(Value::Number(number)) => {
                    let is_whole = number.as_f64().is_some_and(|number| number.fract() == 0.0);
                    if is_whole || *self == Expected::Number {
                        Ok(Value::Number(number))
                    } else {
                        Err(complaint())
                    }
                }
                Ok(_) | Err(_) => Err(complaint()),
            },
            Expected::Form(_) => match serde_json::from_str(word) {
                Ok(object @ Value::Object(_)) => Ok(object),
                Ok(_) | Err(_) => Err(complaint()),
            },
            // A text is JSON in its own way.
            Expected::Json => Ok(serde_json::from_str(word).unwrap_or_else(|_| Value::from(line))),
        }
    }

    /// What is expected, in a few words.
    pub fn description(&self) -> String {
        match self {
            Expected::Text => "a text".to_owned(),
            Expected::Choice(choices) => {
                let names: Vec<String> =
                    choices.iter().map(|choice| clean(&shown(choice))).collect();
                format!("one of {}", names.join(", "))
            }
            Expected::YesNo => "yes or no".to_owned(),
            Expected::Integer => "a whole number".to_owned(),
            Expected::Number => "a number".to_owned(),
            Expected::Form(fields) => {
                let names: Vec<String> = fields.iter().map(|field| clean(&field.name)).collect();
                format!("a JSON object with {}", names.join(", "))
            }
            Expected::Json => "JSON".to_owned(),
        }
    }
}

/// Shows the question and asks until there is an answer of the expected kind; none: the input ended before.
///
/// # Errors
/// Input or output failed.
pub fn fill_in(
    expected: &Expected,
    prompt: &str,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<Option<Reply>> {
    writeln!(output, "{prompt}")?;
    let Expected::Form(fields) = expected else {
        return Ok(ask_until_good("", expected, true, input, output)?.map(Reply));
    };
    let mut members = Map::new();
    for field in fields {
        let mut title = clean(&field.name);
        if !field.description.is_empty() {
            title = format!("{title}, {}", clean(&field.description));
        }
        if !field.is_required {
            title.push_str(" (may be left empty)");
        }
        match ask_until_good(&title, &field.expected, field.is_required, input, output)? {
            Some(Value::Null) if !field.is_required => {}
            Some(value) => drop(members.insert(field.name.clone(), value)),
            None => return Ok(None),
        }
    }
    Ok(Some(Reply(Value::Object(members))))
}

/// Null for an optional answer that was left empty.
fn ask_until_good(
    title: &str,
    expected: &Expected,
    is_required: bool,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<Option<Value>> {
    if let Expected::Choice(choices) = expected {
        for (idx, choice) in choices.iter().enumerate() {
            writeln!(output, "  {}) {}", idx + 1, clean(&shown(choice)))?;
        }
    }
    loop {
        if !title.is_empty() {
            write!(output, "{title} ")?;
        }
        write!(output, "[{}]: ", expected.description())?;
        output.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end_matches(['\n', '\r']);
        if line.is_empty() && !is_required {
            return Ok(Some(Value::Null));
        }
        match expected.value(line) {
            Ok(value) => return Ok(Some(value)),
            Err(complaint) => writeln!(output, "{complaint}")?,
        }
    }
}

/// The members of a flat object; none where one of them is not plain.
fn fields(schema: &Map<String, Value>) -> Option<Vec<Field>> {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let members = schema.get("properties")?.as_object()?;
    let mut fields = Vec::new();
    for (name, member) in members {
        let member = member.as_object()?;
        let expected = Expected::of_object(member, false);
        if expected == Expected::Json {
            return None;
        }
        let description = member.get("description").and_then(Value::as_str);
        fields.push(Field {
            name: name.clone(),
            description: description.unwrap_or_default().to_owned(),
            is_required: required.contains(&name.as_str()),
            expected,
        });
    }
    Some(fields)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dialogue(schema: &Value, typed: &str) -> (Option<Value>, String) {
        let expected = Expected::of(&schema.to_string());
        let mut shown = Vec::new();
        let reply = fill_in(&expected, "Well?", &mut typed.as_bytes(), &mut shown);
        let shown = String::from_utf8(shown).expect("text");
        (reply.expect("no trouble").map(|reply| reply.0), shown)
    }

    #[test]
    fn a_word_becomes_what_the_schema_asks_for() {
        let cases = [
            (json!({"type": "string"}), "3", Some(json!("3"))),
            (json!({"type": "integer"}), "3", Some(json!(3))),
            (json!({"type": "integer"}), "3.5", None),
            (json!({"type": "integer"}), "three", None),
            (json!({"type": "number"}), "3.5", Some(json!(3.5))),
            (json!({"type": "boolean"}), "Yes", Some(json!(true))),
            (json!({"type": "boolean"}), "maybe", None),
            (json!({"enum": ["a", "b"]}), "b", Some(json!("b"))),
            (json!({"enum": ["a", "b"]}), "1", Some(json!("a"))),
            (json!({"enum": [2, 1]}), "1", Some(json!(1))),
            (json!({"enum": ["a", "b"]}), "c", None),
            (json!({"type": "array"}), "[1]", Some(json!([1]))),
            (json!({"anyOf": []}), "word", Some(json!("word"))),
            (
                json!({"type": "object", "properties": {"n": {"type": "integer"}}}),
                "{\"n\": 1}",
                Some(json!({"n": 1})),
            ),
            (
                json!({"type": "object", "properties": {"n": {"type": "integer"}}}),
                "1",
                None,
            ),
        ];
        for (schema, text, expected) in cases {
            let reply = Expected::of(&schema.to_string()).read(text);
            assert_eq!(reply.ok().map(|reply| reply.0), expected, "{schema} {text}");
        }
        assert_eq!(Expected::of(""), Expected::Text);
    }

    #[test]
    fn a_person_is_asked_again_until_it_fits() {
        let (reply, shown) = dialogue(&json!({"enum": ["red", "blue"]}), "green\n2\n");
        assert_eq!(reply, Some(json!("blue")));
        assert!(shown.starts_with("Well?\n  1) red\n  2) blue\n"), "{shown}");
        assert!(shown.contains("`green` is not one of red, blue"), "{shown}");
        let (reply, _) = dialogue(&json!({"type": "boolean"}), "");
        assert_eq!(reply, None, "the input ended");
    }

    #[test]
    fn the_members_of_a_flat_object_are_asked_for_one_by_one() {
        let schema = json!({
            "type": "object",
            "properties": {
                "count": {"type": "integer"},
                "fast": {"type": "boolean"},
                "note": {"type": "string", "description": "for the log"},
            },
            "required": ["count", "fast"],
        });
        let (reply, shown) = dialogue(&schema, "many\n3\nyes\n\n");
        assert_eq!(reply, Some(json!({"count": 3, "fast": true})));
        assert!(
            shown.contains("note, for the log (may be left empty)"),
            "{shown}"
        );
        let nested = json!({"type": "object", "properties": {"a": {"type": "object"}}});
        assert_eq!(Expected::of(&nested.to_string()), Expected::Json);
    }
}
