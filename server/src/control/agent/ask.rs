//! Ask: a question to the owner, found again by its key, and its answer.

use super::{Caller, caller::refused};
use crate::{
    app::App,
    commit::{CommitError, Content},
    control::{
        definition::check_text, get_task, refusal::Refusal, schema, thread::find_answer,
        wire_time::duration_field,
    },
    store::{
        creates,
        questions::{self, Asker, StoredQuestion, show_question_id},
        times,
    },
};
use std::time::Duration;
use taskyard_core::{
    id::QuestionId,
    task::{Event, Question, Rejected},
};
use taskyard_proto::v1::{AskRequest, AskResponse, InputRequest, QuestionStatus};
use tokio::time::Instant;
use uuid::Uuid;

const MAX_KEY: usize = 128;
const MAX_PROMPT: usize = 16 << 10;
const MIN_EXPIRY: Duration = Duration::from_secs(1);
const MAX_EXPIRY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MAX_WAIT: Duration = Duration::from_secs(10 * 60);
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
/// The question is looked at after this time even if nothing was heard of it.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Asks, unless the question with this key was asked before, and waits for its answer.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::KeyConflict`] where the key belongs to another question,
/// [`Refusal::WrongState`] while another question is pending, [`Refusal::LeaseLost`], [`Refusal::ShuttingDown`], or what
/// storing says.
pub async fn ask(app: &App, caller: &Caller, request: AskRequest) -> Result<AskResponse, Refusal> {
    let (wait, expires_in) = check(&request)?;
    let ends_at = Instant::now() + wait;
    // Heard before the first look, so that nothing falls between.
    let mut touches = app.events.subscribe_session(caller.session());
    let mut has_asked = false;
    loop {
        let looked_at = Instant::now();
        let asker = read_asker(app, caller).await?;
        let known = questions::find_by_key(app.store.pool(), caller.task(), &request.key).await?;
        match known.filter(|question| is_current(question, &asker)) {
            None if has_asked => {
                return Err(Refusal::WrongState {
                    state: "awaiting_input",
                    problem: "another question of it is pending, and there can be one at a time; ask when that one is \
                              answered, or from a task below this one",
                });
            }
            None => {
                has_asked = store_question(app, caller, &request, expires_in).await?;
                continue;
            }
            Some(question) => {
                refuse_other(&request, &question)?;
                if question.status != QuestionStatus::Pending || looked_at >= ends_at {
                    return respond(app, caller, question).await;
                }
            }
        }
        let next_look = ends_at.min(looked_at + POLL_INTERVAL);
        tokio::select! {
            _ = tokio::time::timeout_at(next_look, touches.touched()) => {}
            () = app.shutdown.cancelled() => return Err(Refusal::ShuttingDown),
        }
    }
}

fn check(request: &AskRequest) -> Result<(Duration, Option<Duration>), Refusal> {
    if request.key.is_empty() {
        return Err(Refusal::invalid(
            "key",
            "is required: by it a repeated call, or a later run, finds the question again",
        ));
    }
    check_text("key", &request.key, MAX_KEY)?;
    if request.prompt.is_empty() || request.prompt.len() > MAX_PROMPT {
        return Err(Refusal::invalid(
            "prompt",
            format!("must have 1 to {MAX_PROMPT} bytes"),
        ));
    }
    schema::check_schema("expected_json", &request.expected_json)?;
    let expires_in = duration_field(
        "expires_in",
        request.expires_in.as_ref(),
        MIN_EXPIRY,
        MAX_EXPIRY,
    )?;
    let wait = duration_field("wait", request.wait.as_ref(), Duration::ZERO, MAX_WAIT)?;
    Ok((wait.unwrap_or(DEFAULT_WAIT), expires_in))
}

async fn read_asker(app: &App, caller: &Caller) -> Result<Asker, Refusal> {
    let lease = caller.lease();
    questions::read_asker(app.store.pool(), lease.task, lease.epoch, lease.lease_id)
        .await?
        .ok_or(Refusal::LeaseLost)
}

/// Whether a stored question still counts for the run that asks: an answer for good, an expiry for the run that waited,
/// and one without an end only while the task waits for it.
fn is_current(question: &StoredQuestion, asker: &Asker) -> bool {
    match question.status {
        QuestionStatus::Answered => true,
        QuestionStatus::Expired => question.run == asker.run,
        QuestionStatus::Pending | QuestionStatus::Unspecified => asker.pending == Some(question.id),
    }
}

fn refuse_other(request: &AskRequest, question: &StoredQuestion) -> Result<(), Refusal> {
    let asked = &question.request;
    // one that asks for less than the task demands gets what the task demands
    if asked.prompt == request.prompt
        && asked.expected_json == request.expected_json
        && (asked.approver_only || !request.approver_only)
    {
        return Ok(());
    }
    Err(Refusal::KeyConflict {
        key: request.key.clone(),
    })
}

/// Stores the question; whether this is no use to try again. Another one that is pending may be ours, stored a moment ago.
async fn store_question(
    app: &App,
    caller: &Caller,
    request: &AskRequest,
    expires_in: Option<Duration>,
) -> Result<bool, Refusal> {
    let id = QuestionId(Uuid::now_v7().as_u128());
    let expires_at = match expires_in {
        Some(after) => Some(creates::now(app.store.pool()).await?.plus(after)),
        None => None,
    };
    let spec = get_task::read_task(app, caller.task()).await?.task.spec;
    let input_request = InputRequest {
        id: show_question_id(id),
        key: request.key.clone(),
        prompt: request.prompt.clone(),
        expected_json: request.expected_json.clone(),
        created_at: None,
        expires_at: expires_at.map(times::core_to_proto),
        approver_only: request.approver_only || spec.is_some_and(|spec| spec.approver_only),
    };
    let event = Event::Ask(caller.fence(), Question { id, expires_at });
    let content = Content::Question(Box::new(input_request));
    match caller.change(app, event, content).await {
        Ok(_)
        | Err(CommitError::Rejected {
            rejected: Rejected::WrongState,
            ..
        }) => Ok(true),
        Err(error) => Err(refused(error)),
    }
}

async fn respond(
    app: &App,
    caller: &Caller,
    question: StoredQuestion,
) -> Result<AskResponse, Refusal> {
    let answer = find_answer(app, caller.task(), &question).await?;
    Ok(AskResponse {
        question_id: show_question_id(question.id),
        status: question.status.into(),
        answer,
    })
}
