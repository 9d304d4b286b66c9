//! `self ask`: a question to the owner, and its answer.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use taskyard_proto::v1::message_part::Part;
use taskyard_proto::v1::{AskRequest, AskResponse, QuestionStatus, TaskMessage};
use tonic::Status;

use crate::arguments::{GlobalArguments, parse_filled};
use crate::backoff::Backoff;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, is_transient};
use crate::local_json::read_json;
use crate::quantity::{parse_duration, to_wire};

/// What a call may take beyond the wait in it.
const CALL_MARGIN: Duration = Duration::from_secs(15);
/// Hexadecimal digits of a key that was made from the question.
const KEY_DIGITS: usize = 32;

/// Ask the owner a question, wait for the answer, print it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  NAME=$(taskyard self ask 'What shall it be called?')
  taskyard self ask --choice staging --choice production 'Deploy where?'
  taskyard self ask --key budget --schema '{\"type\": \"integer\"}' --expires 1h 'How many?'

A text is printed as it is, any other JSON as JSON. The same key finds the question and its answer
again, on a later run too. While it waits the task gives back its slot and its timeout stands still.

Exit codes: 0 answered, 1 refused, 2 usage, 3 it expired, 125 the lease is lost or the server failed")]
pub struct AskArguments {
    /// The question
    pub prompt: String,
    /// Name of the question, at most 128 bytes [default: made from question and schema]
    #[arg(long, value_parser = parse_filled)]
    pub key: Option<String>,
    /// JSON Schema that an answer must satisfy; @FILE reads it from a file
    #[arg(long, value_name = "JSON|@FILE")]
    pub schema: Option<String>,
    /// A possible answer; repeatable, and no other is taken
    #[arg(long = "choice", value_name = "TEXT", conflicts_with = "schema")]
    pub choices: Vec<String>,
    /// The question lapses after this time, 1s to 30d [default: never]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    pub expires: Option<Duration>,
    /// Print a text as JSON, too
    #[arg(long)]
    pub json: bool,
}

/// Asks, for as long as it takes.
pub async fn execute(
    arguments: AskArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let expected_json = match &arguments.schema {
        Some(schema) => read_json("--schema", schema).await?,
        None if arguments.choices.is_empty() => String::new(),
        None => json!({ "type": "string", "enum": arguments.choices }).to_string(),
    };
    let key = arguments
        .key
        .unwrap_or_else(|| key_of(&arguments.prompt, &expected_json));
    let connection = Connection::open(global).await?;
    let request = AskRequest {
        key,
        prompt: arguments.prompt,
        expected_json,
        expires_in: arguments.expires.map(to_wire),
        wait: Some(to_wire(connection.longest_wait())),
    };
    let answer = ask(&connection, &request).await?;
    match (answer.status(), answer.answer) {
        (QuestionStatus::Answered, Some(message)) => {
            console::print(&said(&message, arguments.json))?;
            Ok(ExitCode::Success)
        }
        (QuestionStatus::Expired, _) => {
            console::note("the question expired before an answer came");
            Ok(ExitCode::QuestionExpired)
        }
        (QuestionStatus::Answered | QuestionStatus::Pending | QuestionStatus::Unspecified, _) => {
            Err(Failure::Own(
                "the server answered without saying what became of the question".to_owned(),
            ))
        }
    }
}

/// Waits until the question is pending no more. It ends with the lease of the task, so it needs no other end.
async fn ask(connection: &Connection, request: &AskRequest) -> Result<AskResponse, Failure> {
    let mut backoff = Backoff::within(connection.waiting_patience());
    let limit = connection.longest_wait() + CALL_MARGIN;
    loop {
        let mut agent = connection.agent();
        let answer = tokio::time::timeout(limit, agent.ask(request.clone())).await;
        let status = match answer {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                if answer.status() != QuestionStatus::Pending {
                    return Ok(answer);
                }
                backoff.succeeded();
                continue;
            }
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded("no answer in time"),
        };
        if !is_transient(&status) || connection.is_over() || !backoff.pause().await {
            return Err(connection.explain(&status));
        }
    }
}

/// The same question has the same key, so that a script that runs again finds its answer.
fn key_of(prompt: &str, expected_json: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(prompt.len().to_be_bytes());
    hash.update(prompt);
    hash.update(expected_json);
    let digits: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("ask-{}", digits.get(..KEY_DIGITS).unwrap_or(&digits))
}

/// The parts of an answer, each with the end of its line.
fn said(message: &TaskMessage, all_as_json: bool) -> String {
    let parts = message.parts.iter().filter_map(|part| part.part.as_ref());
    parts
        .map(|part| {
            let text = match part {
                Part::Text(text) if all_as_json => Value::from(text.as_str()).to_string(),
                Part::Text(text) => text.clone(),
                Part::DataJson(json) => match serde_json::from_str(json) {
                    Ok(Value::String(text)) if !all_as_json => text,
                    Ok(_) | Err(_) => json.clone(),
                },
                Part::File(file) => file.path.clone(),
            };
            format!("{text}\n")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_proto::v1::MessagePart;

    fn message(part: Part) -> TaskMessage {
        TaskMessage {
            parts: vec![MessagePart { part: Some(part) }],
            ..TaskMessage::default()
        }
    }

    #[test]
    fn a_text_is_printed_as_it_is_and_anything_else_as_json() {
        let text = message(Part::Text("say \"hi\"".to_owned()));
        assert_eq!(said(&text, false), "say \"hi\"\n");
        assert_eq!(said(&text, true), "\"say \\\"hi\\\"\"\n");
        let json_text = message(Part::DataJson("\"yes\"".to_owned()));
        assert_eq!(said(&json_text, false), "yes\n");
        assert_eq!(said(&json_text, true), "\"yes\"\n");
        let number = message(Part::DataJson("1.0".to_owned()));
        assert_eq!(said(&number, false), "1.0\n", "as it came");
    }

    #[test]
    fn the_key_is_that_of_the_question() {
        assert_eq!(key_of("a", ""), key_of("a", ""));
        assert_ne!(key_of("a", "b"), key_of("ab", ""));
        assert!(key_of("a", "").len() <= 128);
    }
}
