//! AnswerTask: the answer is stored, the question closed and the task resumed in one transaction.

use super::{check_request_id, post_refused};
use crate::{
    app::App,
    commit::{Change, CommitError, Content, Post},
    control::{
        get_task,
        refusal::{Refusal, Resource},
        resolve, schema,
    },
    store::{
        messages::{self, show_message_id},
        questions::{self, StoredQuestion},
    },
};
use taskyard_core::{
    id::{QuestionId, TaskId},
    task::{Event, Rejected},
};
use taskyard_proto::v1::{
    AnswerTaskRequest, AnswerTaskResponse, MessageDirection, MessagePart, QuestionStatus,
    TaskMessage, answer_task_request::Answer, message_part::Part,
};
use uuid::Uuid;

const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Answers a question. `is_approver`: the caller may answer what is for approvers only.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::ApproverNeeded`], [`Refusal::SchemaMismatch`], [`Refusal::QuestionNotPending`],
/// [`Refusal::QuestionAnswered`], [`Refusal::QuestionExpired`], [`Refusal::CancelRequested`],
/// [`Refusal::TaskTerminal`], [`Refusal::RequestIdConflict`], or what resolving and storing say.
pub async fn answer_task(
    app: &App,
    request: AnswerTaskRequest,
    is_approver: bool,
) -> Result<AnswerTaskResponse, Refusal> {
    let (part, answer_json) = read_answer(request.answer)?;
    let parts = vec![MessagePart { part: Some(part) }];
    let request_id = check_request_id(request.request_id)?;
    let id = parse_question_id(&request.question_id)?;
    let found =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let question = questions::find_by_id(app.store.pool(), found.id, id)
        .await?
        .ok_or_else(|| Refusal::NotFound {
            resource: Resource::Question,
            name: request.question_id.clone(),
        })?;
    if question.request.approver_only && !is_approver {
        return Err(Refusal::ApproverNeeded);
    }
    let closed = refuse_closed(app, found.id, &question).await;
    if let (Err(_), Some(request_id)) = (&closed, &request_id)
        && let Some(earlier) = find_request(app, found.id, request_id).await?
    {
        if earlier.parts != parts || earlier.in_reply_to != request.question_id {
            return Err(Refusal::RequestIdConflict {
                request_id: request_id.clone(),
            });
        }
        return Ok(AnswerTaskResponse {
            task: Some(get_task::read_task(app, found.id).await?.task),
            message: Some(earlier),
        });
    }
    closed?;
    if let Some(problem) = schema::find_violation(&question.request.expected_json, &answer_json) {
        return Err(Refusal::SchemaMismatch {
            field: "answer",
            problem,
        });
    }
    let message_id = Uuid::now_v7().as_u128();
    let name = request_id.clone().unwrap_or_default();
    let post = Post {
        id: message_id,
        direction: MessageDirection::Inbound,
        parts,
        in_reply_to: request.question_id,
        request_id,
    };
    let change = Change::new(
        found.id,
        Event::Answer(id),
        Content::Message(Box::new(post)),
    );
    let message = match app.commits.change(found.session, change).await {
        Ok(changed) => changed.message,
        Err(CommitError::Rejected {
            rejected: Rejected::NotPending | Rejected::Terminal,
            ..
        }) => Some(own_answer(app, found.id, id, message_id).await?),
        Err(error) => return Err(post_refused(error, &name)),
    };
    Ok(AnswerTaskResponse {
        task: Some(get_task::read_task(app, found.id).await?.task),
        message,
    })
}

/// The message that an earlier call with the same `request_id` stored.
async fn find_request(
    app: &App,
    task: TaskId,
    request_id: &str,
) -> Result<Option<TaskMessage>, Refusal> {
    let (db, inbound) = (app.store.pool(), MessageDirection::Inbound);
    Ok(messages::find_by_request(db, task, inbound, request_id).await?)
}

/// The part that is stored, and the JSON that a schema is held against.
fn read_answer(answer: Option<Answer>) -> Result<(Part, String), Refusal> {
    let (part, json) = match answer {
        None => return Err(Refusal::invalid("answer", "is required")),
        Some(Answer::Text(text)) => {
            let json = serde_json::Value::from(text.as_str()).to_string();
            (Part::Text(text), json)
        }
        Some(Answer::AnswerJson(json)) => {
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&json) {
                return Err(Refusal::invalid(
                    "answer_json",
                    format!("is no valid JSON: {error}"),
                ));
            }
            (Part::DataJson(json.clone()), json)
        }
    };
    if json.len() > MAX_ANSWER_BYTES {
        return Err(Refusal::TooLarge {
            what: "the answer".to_owned(),
            limit: MAX_ANSWER_BYTES as u64,
        });
    }
    Ok((part, json))
}

fn parse_question_id(shown: &str) -> Result<QuestionId, Refusal> {
    questions::read_question_id(shown).ok_or_else(|| {
        Refusal::invalid(
            "question_id",
            "is no question's id; the pending one is in the task's `input_request`",
        )
    })
}

/// Says of a question that is not pending why not.
async fn refuse_closed(app: &App, task: TaskId, question: &StoredQuestion) -> Result<(), Refusal> {
    match question.status {
        QuestionStatus::Pending | QuestionStatus::Unspecified => Ok(()),
        QuestionStatus::Expired => Err(Refusal::QuestionExpired),
        QuestionStatus::Answered => Err(Refusal::QuestionAnswered {
            message_id: find_answer(app, task, question)
                .await?
                .map(|message| message.id)
                .unwrap_or_default(),
        }),
    }
}

/// The answer of a question that the state machine finds closed: ours, if an earlier try of this commit stored it without
/// our knowing, else why it is closed.
async fn own_answer(
    app: &App,
    task: TaskId,
    id: QuestionId,
    message_id: u128,
) -> Result<TaskMessage, Refusal> {
    let question = questions::find_by_id(app.store.pool(), task, id)
        .await?
        .ok_or(Refusal::QuestionNotPending)?;
    if let Some(answer) = find_answer(app, task, &question).await?
        && answer.id == show_message_id(message_id)
    {
        return Ok(answer);
    }
    refuse_closed(app, task, &question).await?;
    let is_terminal = get_task::read_task(app, task).await?.run_end.is_some();
    Err(if is_terminal {
        Refusal::TaskTerminal
    } else {
        Refusal::QuestionNotPending
    })
}

/// The message that answered a question.
pub(crate) async fn find_answer(
    app: &App,
    task: TaskId,
    question: &StoredQuestion,
) -> Result<Option<TaskMessage>, Refusal> {
    let Some(number) = question.answer_number else {
        return Ok(None);
    };
    let mut found = messages::list_messages(
        app.store.pool(),
        task,
        number - 1,
        MessageDirection::Unspecified,
        1,
    )
    .await?;
    Ok(found.pop())
}
