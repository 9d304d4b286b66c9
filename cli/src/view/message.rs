//! Messages of a thread, for people and for programs.

use serde_json::{Value, json};
use taskyard_proto::v1::TaskMessage;
use taskyard_proto::v1::message_part::Part;

use crate::console;
use crate::failure::Failure;
use crate::view::output_format::{OutputFormat, print_line, print_record};
use crate::view::record::Record;
use crate::view::task_record::time;
use crate::view::{moment, words};

/// What a message says, in one line.
pub fn message_text(message: &TaskMessage) -> String {
    let parts = message.parts.iter().filter_map(|part| part.part.as_ref());
    let said: Vec<&str> = parts
        .map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::DataJson(json) => json.as_str(),
            Part::File(file) => file.path.as_str(),
        })
        .collect();
    said.join(" ")
}

/// Writes a message: what it says, its record (JSON on a line of its own), or its id.
pub fn print_message(message: &TaskMessage, format: OutputFormat) -> Result<(), Failure> {
    match format {
        OutputFormat::Table => console::print(&format!("{}\n", message_text(message))),
        OutputFormat::Wide => console::print(&format!(
            "{} {} {} {}\n",
            message.number,
            words::message_direction(message.direction()),
            message.id,
            message_text(message)
        )),
        OutputFormat::Json => print_line(&message_record(message).brief(&[])),
        OutputFormat::Yaml => print_record(format, &[message_record(message).brief(&[])]),
        OutputFormat::Name => console::print(&format!("{}\n", message.id)),
    }
}

/// Writes a message as a line for a person.
pub fn print_message_line(message: &TaskMessage) -> Result<(), Failure> {
    console::print(&format!(
        "{} {} {}: {}\n",
        message.number,
        words::message_direction(message.direction()),
        moment::age(message.created_at.as_ref()),
        console::clean(&message_text(message))
    ))
}

/// A message as JSON.
pub fn message_record(message: &TaskMessage) -> Record {
    let parts = message.parts.iter().filter_map(|part| part.part.as_ref());
    let parts: Vec<Value> = parts
        .map(|part| match part {
            Part::Text(text) => json!({ "text": text }),
            Part::DataJson(data) => {
                let data = serde_json::from_str(data).unwrap_or_else(|_| json!(data));
                json!({ "data": data })
            }
            Part::File(file) => json!({ "file": {
                "path": file.path, "name": file.name, "media_type": file.media_type,
            } }),
        })
        .collect();
    Record::new()
        .with_text("id", &message.id)
        .with("number", message.number)
        .with("direction", words::message_direction(message.direction()))
        .with("parts", Value::from(parts))
        .with_text("in_reply_to", &message.in_reply_to)
        .with("run", message.run)
        .with("created_at", time(&message.created_at))
}
