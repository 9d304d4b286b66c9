//! Questions of the work, their answers, and everything that is no answer.

use std::time::{Duration, Instant};

use taskyard_proto::v1::answer_task_request::Answer;
use taskyard_proto::v1::message_part::Part;
use taskyard_proto::v1::{
    AnswerTaskRequest, AnswerTaskResponse, AskRequest, CancelTaskRequest, MessageDirection,
    QuestionStatus, TaskState,
};
use taskyard_tests::client::{Client, command, error_kind, milliseconds, new_session};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::played::{Played, question, retried};
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use taskyard_tests::wait::{SOON, within};
use taskyard_tests::watcher::Watcher;
use tonic::{Code, Status};

/// Far less than the waits of the calls that must be answered within it, far more than a busy machine needs.
const PROMPTLY: Duration = Duration::from_secs(30);

fn to(task: &str, question_id: &str, text: &str) -> AnswerTaskRequest {
    AnswerTaskRequest {
        task: task.to_owned(),
        question_id: question_id.to_owned(),
        answer: Some(Answer::Text(text.to_owned())),
        ..AnswerTaskRequest::default()
    }
}

fn json(task: &str, question_id: &str, json: &str) -> AnswerTaskRequest {
    AnswerTaskRequest {
        answer: Some(Answer::AnswerJson(json.to_owned())),
        ..to(task, question_id, "")
    }
}

async fn answer(
    client: &mut Client,
    request: AnswerTaskRequest,
) -> Result<AnswerTaskResponse, Status> {
    Ok(client.tasks.answer_task(request).await?.into_inner())
}

async fn cancel(client: &mut Client, task: &str) {
    let request = CancelTaskRequest {
        task: task.to_owned(),
        ..CancelTaskRequest::default()
    };
    client.tasks.cancel_task(request).await.expect("canceled");
}

/// The time of a task's pending question passes.
async fn lapse(deployment: &Deployment, task: &str) {
    let mut database = deployment.database().connect().await;
    let id: uuid::Uuid = task["task_".len()..].parse().expect("an id");
    let lapse = "update task_live set question_expires_at = clock_timestamp() where id = $1";
    let lapsed = sqlx::query(lapse).bind(id).execute(&mut database).await;
    lapsed.expect("its time passes");
}

#[tokio::test]
async fn a_full_thread_keeps_no_question_from_its_answer() {
    let deployment = Deployment::by_hand().await;
    let mut client = deployment.client().await;
    let played = Played::start(&client, &new_session("full"), command(&["work"])).await;
    let asked = played.inside.put_question("which", "Which one?").await;
    let mut database = deployment.database().connect().await;
    let id: uuid::Uuid = played.id()["task_".len()..].parse().expect("an id");
    let fill = "update task_live set messages = 10000 where id = $1";
    let filled = sqlx::query(fill).bind(id).execute(&mut database).await;
    assert_eq!(filled.expect("its thread is full").rows_affected(), 1);
    let request = taskyard_proto::v1::PostMessageRequest {
        task: played.id().to_owned(),
        parts: vec![taskyard_tests::played::text("one more")],
        ..Default::default()
    };
    let refused = client.tasks.post_message(request).await;
    expect_refused("a post", refused, Code::ResourceExhausted, "LIMIT_REACHED");
    let answered = answer(&mut client, to(played.id(), &asked, "this one")).await;
    let message = answered.expect("answered").message.expect("the message");
    assert_eq!(message.number, 10_001);
}

#[tokio::test]
async fn an_answer_that_is_sent_again_is_known_by_its_request_id() {
    let deployment = Deployment::by_hand().await;
    let mut client = deployment.client().await;
    let played = Played::start(&client, &new_session("again"), command(&["work"])).await;
    let asked = played.inside.put_question("which", "Which one?").await;
    let named = |words: &str| AnswerTaskRequest {
        request_id: "mine".to_owned(),
        ..to(played.id(), &asked, words)
    };
    let first = answer(&mut client, named("this one")).await;
    let again = answer(&mut client, named("this one")).await;
    assert_eq!(
        first.expect("answered").message,
        again.expect("the same answer").message
    );
    let other = answer(&mut client, named("that one")).await;
    expect_refused(
        "another answer",
        other,
        Code::AlreadyExists,
        "REQUEST_ID_CONFLICT",
    );
    let somebody = answer(&mut client, to(played.id(), &asked, "this one")).await;
    expect_refused(
        "without a name",
        somebody,
        Code::FailedPrecondition,
        "ALREADY_ANSWERED",
    );
}

#[tokio::test]
async fn a_question_waits_for_its_answer_and_the_work_goes_on() {
    let deployment = Deployment::by_hand().await;
    let mut client = deployment.client().await;
    let session = new_session("ask");
    let mut played = Played::start(&client, &session, command(&["work"])).await;
    let before = client.get(played.id()).await.generation;
    let inside = played.inside.clone();
    let asked_at = Instant::now();
    let asking = tokio::spawn(async move {
        let request = AskRequest {
            wait: Some(milliseconds(60_000)),
            ..question("which", "Which one?")
        };
        inside.ask(request).await
    });
    let task = client
        .reached(played.id(), |task| task.state() == TaskState::AwaitingInput)
        .await;
    assert_eq!(task.generation, before + 1);
    let pending = task.input_request.expect("the question is on the record");
    assert_eq!(
        (pending.key.as_str(), pending.prompt.as_str()),
        ("which", "Which one?")
    );
    assert!(pending.id.starts_with("ques_") && pending.created_at.is_some());
    let answered = answer(&mut client, to(played.id(), &pending.id, "the blue one")).await;
    let answered = answered.expect("answered");
    let task = answered.task.expect("the task");
    assert_eq!(
        (task.state(), task.generation),
        (TaskState::Running, before + 2)
    );
    assert_eq!(task.input_request, None);
    let message = answered.message.expect("the message");
    assert_eq!(message.direction(), MessageDirection::Inbound);
    assert_eq!(message.in_reply_to, pending.id);
    let asked = within("the answer", SOON, asking).await.expect("no panic");
    let asked = asked.expect("answered");
    assert!(asked_at.elapsed() < PROMPTLY, "{:?}", asked_at.elapsed());
    assert_eq!(asked.status(), QuestionStatus::Answered);
    assert_eq!(asked.question_id, pending.id);
    assert_eq!(asked.answer.as_ref(), Some(&message));

    let again = played.inside.ask(question("which", "Which one?")).await;
    assert_eq!(again.expect("found again").answer, Some(message));
    let other = played.inside.ask(question("which", "Which two?")).await;
    expect_refused("another prompt", other, Code::AlreadyExists, "KEY_CONFLICT");
    played.finish(0).await;
}

#[tokio::test]
async fn one_question_at_a_time() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("ask");
    let played = Played::start(&client, &session, command(&["work"])).await;
    let first = played.inside.put_question("a", "A?").await;
    let refused = played.inside.ask(question("b", "B?")).await;
    expect_refused("a second", refused, Code::FailedPrecondition, "WRONG_STATE");
    let pending = played.inside.ask(question("a", "A?")).await.expect("asked");
    assert_eq!(
        (pending.status(), pending.question_id.as_str()),
        (QuestionStatus::Pending, first.as_str())
    );
    let answered = answer(&mut client, to(played.id(), &first, "yes")).await;
    answered.expect("answered");
    played.inside.put_question("b", "B?").await;
}

#[tokio::test]
async fn an_answer_satisfies_the_questions_schema() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("ask");
    let played = Played::start(&client, &session, command(&["work"])).await;
    let request = AskRequest {
        expected_json: r#"{"enum": ["blue", 7]}"#.to_owned(),
        ..question("which", "Which one?")
    };
    let asked = played.inside.ask(request).await.expect("asked").question_id;
    let task = client.get(played.id()).await;
    let shown = task.input_request.unwrap_or_default().expected_json;
    assert_eq!(shown, r#"{"enum": ["blue", 7]}"#);
    for wrong in [
        to(played.id(), &asked, "red"),
        json(played.id(), &asked, "8"),
        json(played.id(), &asked, r#"{"a": 1}"#),
    ] {
        let refused = answer(&mut client, wrong).await;
        expect_refused("wrong", refused, Code::InvalidArgument, "SCHEMA_MISMATCH");
    }
    let refused = answer(&mut client, json(played.id(), &asked, "{")).await;
    expect_bad_field(refused, "answer_json");
    let none = AnswerTaskRequest {
        answer: None,
        ..to(played.id(), &asked, "")
    };
    expect_bad_field(answer(&mut client, none).await, "answer");
    let large = to(played.id(), &asked, &"x".repeat(64 << 10));
    let refused = answer(&mut client, large).await;
    expect_refused("large", refused, Code::ResourceExhausted, "TOO_LARGE");
    assert_eq!(
        client.get(played.id()).await.state(),
        TaskState::AwaitingInput
    );
    let answered = answer(&mut client, json(played.id(), &asked, "7")).await;
    let message = answered.expect("7 is one of them").message.expect("stored");
    assert_eq!(message.parts[0].part, Some(Part::DataJson("7".to_owned())));
}

#[tokio::test]
async fn a_question_is_checked_before_it_is_asked() {
    let client = Deployment::by_hand().await.client().await;
    let session = new_session("ask");
    let played = Played::start(&client, &session, command(&["work"])).await;
    let with = |change: &dyn Fn(&mut AskRequest)| {
        let mut request = question("k", "?");
        change(&mut request);
        request
    };
    for (field, request) in [
        ("key", with(&|request| request.key.clear())),
        ("key", with(&|request| request.key = "k".repeat(129))),
        ("prompt", with(&|request| request.prompt.clear())),
        (
            "prompt",
            with(&|request| request.prompt = "?".repeat((16 << 10) + 1)),
        ),
        (
            "expected_json",
            with(&|request| request.expected_json = "{".to_owned()),
        ),
        (
            "expires_in",
            with(&|request| request.expires_in = Some(milliseconds(10))),
        ),
        (
            "wait",
            with(&|request| request.wait = Some(milliseconds(700_000))),
        ),
    ] {
        expect_bad_field(played.inside.ask(request).await, field);
    }
    let state = client.clone().get(played.id()).await.state();
    assert_eq!(state, TaskState::Running);
}

#[tokio::test]
async fn a_second_late_or_wrong_answer_is_told_what_it_is() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("ask");
    let mut played = Played::start(&client, &session, command(&["work"])).await;
    let id = played.id().to_owned();
    let unknown = format!("ques_{:032x}", 5);
    let first = played.inside.put_question("a", "A?").await;
    let refused = answer(&mut client, to(&id, &unknown, "x")).await;
    expect_refused("unknown", refused, Code::NotFound, "QUESTION_NOT_FOUND");
    expect_bad_field(answer(&mut client, to(&id, "x", "x")).await, "question_id");
    let other = Played::start(&client, &session, command(&["work"])).await;
    let refused = answer(&mut client, to(other.id(), &first, "x")).await;
    expect_refused("another's", refused, Code::NotFound, "QUESTION_NOT_FOUND");

    answer(&mut client, to(&id, &first, "yes"))
        .await
        .expect("answered");
    let refused = answer(&mut client, to(&id, &first, "no")).await;
    expect_refused(
        "a second",
        refused,
        Code::FailedPrecondition,
        "ALREADY_ANSWERED",
    );

    let second = played.inside.put_question("b", "B?").await;
    cancel(&mut client, &id).await;
    let refused = answer(&mut client, to(&id, &second, "yes")).await;
    expect_refused(
        "after the cancel",
        refused,
        Code::FailedPrecondition,
        "CANCEL_REQUESTED",
    );
    let task = client.get(&id).await;
    assert_eq!(
        task.state(),
        TaskState::AwaitingInput,
        "the process is told, and ends by itself"
    );
    played.finish(0).await;
    let ended = client.get(&id).await;
    assert_eq!(ended.input_request, None);
    let refused = answer(&mut client, to(&id, &second, "yes")).await;
    expect_refused(
        "after the end",
        refused,
        Code::FailedPrecondition,
        "TERMINAL",
    );
    let refused = answer(&mut client, to(&id, &first, "no")).await;
    expect_refused(
        "a second, after the end",
        refused,
        Code::FailedPrecondition,
        "ALREADY_ANSWERED",
    );
}

#[tokio::test]
async fn an_attended_question_lapses_and_the_work_decides() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("ask");
    let mut played = Played::start(&client, &session, command(&["work"])).await;
    let request = AskRequest {
        expires_in: Some(milliseconds(1_000)),
        wait: Some(milliseconds(60_000)),
        ..question("soon", "Now?")
    };
    let asked_at = Instant::now();
    let asked = within("the question to lapse", SOON, played.inside.ask(request)).await;
    let asked = asked.expect("told");
    assert!(asked_at.elapsed() < PROMPTLY, "{:?}", asked_at.elapsed());
    assert_eq!(
        (asked.status(), asked.answer),
        (QuestionStatus::Expired, None)
    );
    let task = client.get(played.id()).await;
    assert_eq!(
        (task.state(), task.input_request),
        (TaskState::Running, None)
    );
    let late = to(played.id(), &asked.question_id, "yes");
    let refused = answer(&mut client, late).await;
    expect_refused(
        "late",
        refused,
        Code::FailedPrecondition,
        "QUESTION_EXPIRED",
    );
    played.finish(0).await;
    assert_eq!(client.get(played.id()).await.state(), TaskState::Succeeded);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_late_before_anybody_notices() {
    let deployment = Deployment::by_hand().await;
    let mut client = deployment.client().await;
    let session = new_session("ask");
    let played = Played::start(&client, &session, command(&["work"])).await;
    let request = AskRequest {
        expires_in: Some(milliseconds(3_600_000)),
        ..question("soon", "Now?")
    };
    let asked = played.inside.ask(request).await.expect("asked").question_id;
    // Whether the answer comes before the sweep or after it: both say the same.
    lapse(deployment, played.id()).await;
    let refused = answer(&mut client, to(played.id(), &asked, "yes")).await;
    expect_refused(
        "late",
        refused,
        Code::FailedPrecondition,
        "QUESTION_EXPIRED",
    );
    client
        .reached(played.id(), |task| task.state() == TaskState::Running)
        .await;
}

#[tokio::test]
async fn a_question_outlives_its_worker_and_its_answer_queues_the_next_run() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("ask");
    let definition = retried(command(&["work"]), 3);
    let mut played = Played::start(&client, &session, definition).await;
    let asked = played.inside.put_question("which", "Which one?").await;
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    let lost = played.lose_worker(&client).await;
    let task = client.get(played.id()).await;
    assert_eq!(
        task.state(),
        TaskState::AwaitingInput,
        "the question stays, unattended"
    );
    assert_eq!(task.input_request.unwrap_or_default().id, asked);
    let refused = lost.ask(question("which", "Which one?")).await;
    expect_refused("the lost run", refused, Code::Aborted, "LEASE_LOST");
    let answered = answer(&mut client, to(played.id(), &asked, "blue")).await;
    let answered = answered.expect("answered").task.unwrap_or_default();
    assert!(
        matches!(answered.state(), TaskState::Queued),
        "{answered:?}"
    );
    played.start_again(&client).await;
    let again = played.inside.ask(question("which", "Which one?")).await;
    let again = again.expect("found");
    assert_eq!(
        (again.status(), again.question_id.as_str()),
        (QuestionStatus::Answered, asked.as_str())
    );
    let words = again.answer.unwrap_or_default().parts;
    assert_eq!(words[0].part, Some(Part::Text("blue".to_owned())));
    played.finish(0).await;
    let events = watcher
        .events_until(|event| {
            let state = event.change.as_ref().map(|change| change.state());
            state == Some(TaskState::Succeeded)
        })
        .await;
    let states: Vec<TaskState> = events
        .iter()
        .filter_map(|event| Some(event.change.as_ref()?.state()))
        .collect();
    assert_eq!(
        states,
        [
            TaskState::AwaitingInput,
            TaskState::Queued,
            TaskState::Running,
            TaskState::Succeeded
        ]
    );
}

#[tokio::test]
async fn an_unattended_question_that_lapses_ends_its_task() {
    let deployment = Deployment::by_hand().await;
    let mut client = deployment.client().await;
    let session = new_session("ask");
    let definition = retried(command(&["work"]), 3);
    let mut played = Played::start(&client, &session, definition).await;
    let request = AskRequest {
        expires_in: Some(milliseconds(3_600_000)),
        ..question("which", "Which one?")
    };
    let asked = played.inside.ask(request).await.expect("asked").question_id;
    played.lose_worker(&client).await;
    lapse(deployment, played.id()).await;
    let ended = client.ended(played.id()).await;
    assert_eq!(
        (ended.state(), error_kind(&ended)),
        (TaskState::Failed, "question_expired")
    );
    let refused = answer(&mut client, to(played.id(), &asked, "yes")).await;
    expect_refused(
        "late",
        refused,
        Code::FailedPrecondition,
        "QUESTION_EXPIRED",
    );
}

#[tokio::test]
async fn work_that_cannot_run_again_takes_its_question_with_it() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("ask");
    for (max_runs, kind) in [(1, "outcome_unknown"), (2, "orphaned")] {
        let definition = retried(command(&["work"]), max_runs);
        let mut played = Played::start(&client, &session, definition).await;
        for _ in 1..max_runs {
            played.lose_worker(&client).await;
            played.start_again(&client).await;
        }
        let asked = played.inside.put_question("which", "Which one?").await;
        played.lose_worker(&client).await;
        let ended = client.ended(played.id()).await;
        assert_eq!(error_kind(&ended), kind);
        let refused = answer(&mut client, to(played.id(), &asked, "yes")).await;
        expect_refused(kind, refused, Code::FailedPrecondition, "TERMINAL");
    }
}

#[tokio::test]
async fn a_cancel_ends_an_unattended_question_at_once() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("ask");
    let definition = retried(command(&["work"]), 3);
    let mut played = Played::start(&client, &session, definition).await;
    let asked = played.inside.put_question("which", "Which one?").await;
    played.lose_worker(&client).await;
    cancel(&mut client, played.id()).await;
    let ended = client.get(played.id()).await;
    assert_eq!(
        (ended.state(), ended.input_request),
        (TaskState::Canceled, None)
    );
    let refused = answer(&mut client, to(played.id(), &asked, "yes")).await;
    expect_refused("late", refused, Code::FailedPrecondition, "TERMINAL");
}

#[tokio::test]
async fn a_later_run_asks_anew_what_was_not_answered() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("ask");
    let definition = retried(command(&["work"]), 3);
    let mut played = Played::start(&client, &session, definition).await;
    let first = played.inside.put_question("which", "Which one?").await;
    // It gives up while it asks; that run's question is not the next one's.
    played.finish(1).await;
    played.start_again(&client).await;
    let task = client.get(played.id()).await;
    assert_eq!(
        (task.state(), task.input_request),
        (TaskState::Running, None)
    );
    let refused = answer(&mut client, to(played.id(), &first, "yes")).await;
    expect_refused(
        "an abandoned question",
        refused,
        Code::FailedPrecondition,
        "NOT_PENDING",
    );
    let second = played.inside.put_question("which", "Which one?").await;
    assert_ne!(first, second);
    let answered = answer(&mut client, to(played.id(), &second, "blue")).await;
    answered.expect("answered");
}
