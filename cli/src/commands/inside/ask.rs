//! `self ask`: a question to the owner, and its answer.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
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
/// Where a worker says to a task where to put its result.
const RESULT_VARIABLE: &str = "TASKYARD_RESULT";
/// Beside the result file.
const COUNTS_FOLDER: &str = "asked";
/// Questions of the same text and schema that are told apart in one run.
const COUNT_MAX: u32 = 10_000;
/// Hexadecimal digits of a key that was made from the question.
const KEY_DIGITS: usize = 32;

/// Ask the owner a question, wait for the answer, print it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  NAME=$(taskyard self ask 'What shall it be called?')
  taskyard self ask --choice staging --choice production 'Deploy where?'
  taskyard self ask --key budget --schema '{\"type\": \"integer\"}' --expires 1h 'How many?'

A text is printed as it is, any other JSON as JSON. The same --key finds the question and its answer
again. Without one each call asks anew; the n-th call with this question finds, on a later run, the
n-th answer. While it waits the task gives back its slot and its timeout stands still.

Exit codes: 0 answered, 1 refused, 2 usage, 3 it expired, 125 the lease is lost or the server failed")]
pub struct AskArguments {
    /// The question
    pub prompt: String,
    /// Name of the question, at most 128 bytes [default: made from question, schema and count]
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
    /// Only an approver may answer; nothing inside a task is one
    #[arg(long)]
    pub approver_only: bool,
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
        .unwrap_or_else(|| next_key(&arguments.prompt, &expected_json));
    let connection = Connection::open(global).await?;
    let request = AskRequest {
        key,
        prompt: arguments.prompt,
        expected_json,
        expires_in: arguments.expires.map(to_wire),
        wait: Some(to_wire(connection.longest_wait())),
        approver_only: arguments.approver_only,
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
        if !is_transient(&status) || connection.is_over() || !backoff.pause_after(&status).await {
            return Err(connection.explain(&status));
        }
    }
}

/// The key of a question that was given none: a script that runs again asks the same questions in the same order and so
/// finds their answers, while a question that it repeats is one of its own.
///
/// How often this run has asked is counted by files beside its result file, which every run has for itself. Where none can
/// be made each call counts as the first.
fn next_key(prompt: &str, expected_json: &str) -> String {
    let folder = std::env::var_os(RESULT_VARIABLE)
        .and_then(|path| Some(Path::new(&path).parent()?.join(COUNTS_FOLDER)));
    let count = folder.map_or(1, |folder| {
        count_in(&folder, &key_of(prompt, expected_json, 1))
    });
    key_of(prompt, expected_json, count)
}

/// Which time this is, from 1, that `key` is counted in `folder`. Calls at the same time get numbers of their own.
fn count_in(folder: &Path, key: &str) -> u32 {
    if std::fs::create_dir_all(folder).is_err() {
        return 1;
    }
    let taken = |count: &u32| {
        let file = folder.join(format!("{key}.{count}"));
        let made = OpenOptions::new().write(true).create_new(true).open(file);
        !made.is_err_and(|error| error.kind() == ErrorKind::AlreadyExists)
    };
    (1..=COUNT_MAX).find(taken).unwrap_or(COUNT_MAX)
}

fn key_of(prompt: &str, expected_json: &str, count: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(prompt.len().to_be_bytes());
    hash.update(prompt);
    hash.update(expected_json);
    if count > 1 {
        hash.update(count.to_be_bytes());
    }
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
        assert_eq!(key_of("a", "", 1), key_of("a", "", 1));
        assert_ne!(key_of("a", "b", 1), key_of("ab", "", 1));
        assert_ne!(key_of("a", "", 1), key_of("a", "", 2));
        assert!(key_of("a", "", 1).len() <= 128);
    }

    #[test]
    fn each_call_counts() {
        let counts = std::env::temp_dir().join(format!("asked-{}", uuid::Uuid::new_v4()));
        assert_eq!(count_in(&counts, "a"), 1);
        assert_eq!(count_in(&counts, "a"), 2);
        assert_eq!(count_in(&counts, "b"), 1);
        assert_eq!(count_in(&counts.join("a.1/below"), "a"), 1, "no folder");
        std::fs::remove_dir_all(&counts).expect("it is removed");
    }
}
