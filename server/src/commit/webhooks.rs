//! What a batch has to tell webhooks. Nothing is noted, and nothing asked of the database, while there are none.

use super::event;
use crate::store::{
    Connection, StoreError,
    records::result_path,
    task_row::TaskRow,
    times,
    webhook_deliveries::{self, Happening},
};
use serde::Serialize;
use serde_json::{json, value::RawValue};
use taskyard_core::{
    Timestamp,
    task::{State, Task, WakePolicy, wake_reason},
    webhook::{MAX_TRIES, WebhookEvent},
};
use taskyard_proto::v1::{
    FilePart, InputRequest, MessageDirection, TaskMessage, TaskState, message_part::Part,
};

/// What a batch has to tell webhooks.
#[derive(Default)]
pub(super) struct Webhooks {
    is_heard: bool,
    happenings: Vec<Happening>,
}

impl Webhooks {
    /// `is_heard`: there is a webhook at all.
    pub(super) fn new(is_heard: bool) -> Self {
        Self {
            is_heard,
            happenings: Vec::new(),
        }
    }

    /// Notes a change that webhooks are called for.
    pub(super) fn note(
        &mut self,
        before: &Task,
        row: &TaskRow,
        message: Option<&TaskMessage>,
        now: Timestamp,
    ) {
        if !self.is_heard {
            return;
        }
        let outbound = message.filter(|message| message.direction() == MessageDirection::Outbound);
        let reason = wake_reason(
            WakePolicy::OnActivity,
            before,
            &row.task,
            outbound.is_some(),
        );
        let Some(event) = reason.map(WebhookEvent::from) else {
            return;
        };
        self.happenings.push(Happening {
            namespace_id: row.wake.namespace_id,
            session: row.session,
            task: row.task.id,
            event,
            body: body(row, event, outbound),
            at: times::to_database(now),
        });
    }

    /// Writes a delivery for each webhook that one of the changes matches; whether there were any.
    pub(super) async fn write(&self, db: &mut Connection) -> Result<bool, StoreError> {
        if self.happenings.is_empty() {
            return Ok(false);
        }
        let tries = i16::try_from(MAX_TRIES).unwrap_or(i16::MAX);
        Ok(webhook_deliveries::insert_matching(db, &self.happenings, tries).await? > 0)
    }
}

/// What receivers are told, but for what is filled in when it is sent.
fn body(row: &TaskRow, event: WebhookEvent, message: Option<&TaskMessage>) -> String {
    #[derive(Serialize)]
    struct Body {
        task: serde_json::Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        question: Option<Box<RawValue>>,
    }
    let is_terminal = matches!(row.task.state, State::Terminal(_));
    let (message, question) = match event {
        WebhookEvent::Terminal => (None, None),
        WebhookEvent::Question => (None, row.body.question.as_ref().and_then(show_question)),
        WebhookEvent::Message => (message.and_then(show_message), None),
    };
    let body = Body {
        task: json!({
            "id": row.task.id.to_string(),
            "ordinal": row.ordinal,
            "state": state_word(event::published_state(&row.task.state)),
            "summary": row.body.summary,
            "result_path": if is_terminal { result_path(row.task.id) } else { String::new() },
            "generation": row.task.generation,
        }),
        message,
        question,
    };
    serde_json::to_string(&body).unwrap_or_default()
}

fn show_message(message: &TaskMessage) -> Option<Box<RawValue>> {
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Said<'a> {
        Text(&'a str),
        Data(Option<&'a RawValue>),
        File(File<'a>),
    }
    #[derive(Serialize)]
    struct File<'a> {
        path: &'a str,
        name: &'a str,
        media_type: &'a str,
    }
    #[derive(Serialize)]
    struct Message<'a> {
        id: &'a str,
        number: i64,
        parts: Vec<Said<'a>>,
        in_reply_to: &'a str,
        run: i32,
        created_at: Option<String>,
    }
    let parts = message
        .parts
        .iter()
        .filter_map(|part| part.part.as_ref())
        .map(|part| match part {
            Part::Text(text) => Said::Text(text),
            Part::DataJson(data) => Said::Data(raw(data)),
            Part::File(FilePart {
                path,
                name,
                media_type,
            }) => Said::File(File {
                path,
                name,
                media_type,
            }),
        })
        .collect();
    let message = Message {
        id: &message.id,
        number: message.number,
        parts,
        in_reply_to: &message.in_reply_to,
        run: message.run,
        created_at: message.created_at.map(|at| at.to_string()),
    };
    serde_json::value::to_raw_value(&message).ok()
}

fn show_question(question: &InputRequest) -> Option<Box<RawValue>> {
    #[derive(Serialize)]
    struct Question<'a> {
        id: &'a str,
        key: &'a str,
        prompt: &'a str,
        expected: Option<&'a RawValue>,
        expires_at: Option<String>,
    }
    let question = Question {
        id: &question.id,
        key: &question.key,
        prompt: &question.prompt,
        expected: raw(&question.expected_json),
        expires_at: question.expires_at.map(|at| at.to_string()),
    };
    serde_json::value::to_raw_value(&question).ok()
}

/// JSON that a caller gave, as it came.
fn raw(json: &str) -> Option<&RawValue> {
    serde_json::from_str(json).ok()
}

fn state_word(state: TaskState) -> &'static str {
    match state {
        TaskState::Unspecified => "",
        TaskState::Queued => "queued",
        TaskState::Running => "running",
        TaskState::AwaitingInput => "awaiting_input",
        TaskState::Succeeded => "succeeded",
        TaskState::Failed => "failed",
        TaskState::Canceled => "canceled",
    }
}
