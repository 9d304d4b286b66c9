//! What callers learn of tasks and sessions that are deleted while they wait, sleep, repeat a call or send a file.

use std::time::Duration;

use sqlx::Row;
use taskyard_proto::v1::{
    BatchCreateTasksRequest, CancelTaskRequest, CloneTaskRequest, CreateTaskRequest,
    CreateTaskResponse, DeleteSessionRequest, GetTaskRequest, GroupWake, ListTasksRequest,
    OutputCondition, RetentionLimits, RunRetentionRequest, SetRetentionRequest, StatRequest,
    TakeWakesRequest, TaskDefinition, TaskState, TextPattern, WaitTasksRequest, WaitTasksResponse,
    WaitUntil, WaitedTask, Wake, WakePolicy, WakeReason, WriteHeader, WriteRequest,
    text_pattern::Pattern,
};
use taskyard_tests::client::{Client, command, milliseconds, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_refused, reason_of};
use taskyard_tests::wait::{SOON, eventually, until, within};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const MIB: usize = 1 << 20;
/// A call that must have begun before something is deleted may begin too late; then the test is done anew.
const TRIES: usize = 20;

#[tokio::test]
async fn a_wake_outlives_its_task_until_it_is_acknowledged() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("wakes");
    let alone = client.run(&session, waking("", GroupWake::Each)).await.id;
    let held = TaskDefinition {
        hold: true,
        ..waking("g", GroupWake::FirstFailed)
    };
    client.create(&session, held).await;
    let failed = TaskDefinition {
        spec: shell("exit 3").spec,
        ..waking("g", GroupWake::FirstFailed)
    };
    let of_group = client.run(&session, failed).await.id;
    delete_ended(&mut client, &session, &[&alone, &of_group]).await;

    let taken = take(&mut client, &session, Vec::new()).await;
    let told: Vec<(WakeReason, &str, TaskState)> = taken
        .iter()
        .map(|wake| (wake.reason(), wake.task_id.as_str(), wake.state()))
        .collect();
    let expected = [
        (WakeReason::Terminal, alone.as_str(), TaskState::Succeeded),
        (
            WakeReason::GroupFailed,
            of_group.as_str(),
            TaskState::Failed,
        ),
    ];
    assert_eq!(told, expected);
    let handled = taken.iter().map(|wake| wake.id).collect();
    assert_eq!(take(&mut client, &session, handled).await, []);
    let deleted = client.tasks.delete_session(deletion(&session)).await;
    deleted.expect("the session is deleted");
}

#[tokio::test]
async fn a_wake_whose_task_was_deleted_is_kept_for_a_week() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let mut database = deployment.database().connect().await;
    let session = new_session("week");
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(client.run(&session, waking("", GroupWake::Each)).await.id);
    }
    delete_ended(&mut client, &session, &[&ids[0], &ids[1]]).await;
    for (task, days) in ids.iter().zip(["6 days 23 hours", "7 days"]) {
        let uuid = task.trim_start_matches("task_");
        let sql = format!(
            "update wake set task_deleted_at = clock_timestamp() - interval '{days}' where task_id = '{uuid}'"
        );
        let changed = sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&mut database)
            .await;
        assert_eq!(changed.expect("the wake is there").rows_affected(), 1);
    }
    let sql = format!(
        "select count(*) from wake w join session s on s.uid = w.session_uid where s.id = '{session}'"
    );
    // looked for once a minute
    until("the older wake to be forgotten", SOON * 6, async || {
        let row = sqlx::query(sqlx::AssertSqlSafe(sql.clone()))
            .fetch_one(&mut database)
            .await;
        row.expect("counted").get::<i64, _>(0) == 1
    })
    .await;
    let taken = take(&mut client, &session, Vec::new()).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].task_id, ids[0]);
}

#[tokio::test]
async fn a_wait_for_named_tasks_tells_of_one_that_was_deleted_after_its_end() {
    let answer = wait_over_a_deletion(|quick, held, _| WaitTasksRequest {
        tasks: named(&[quick, held]),
        ..WaitTasksRequest::default()
    });
    assert!(!answer.await.timed_out);
}

#[tokio::test]
async fn a_wait_for_a_group_tells_of_a_member_that_was_deleted_after_its_end() {
    let answer = wait_over_a_deletion(|_, _, session| WaitTasksRequest {
        session_id: session.to_owned(),
        group: "g".to_owned(),
        ..WaitTasksRequest::default()
    });
    assert!(!answer.await.timed_out);
}

#[tokio::test]
async fn an_expired_wait_tells_of_a_task_that_was_deleted() {
    let answer = wait_over_a_deletion(|quick, held, _| WaitTasksRequest {
        tasks: named(&[quick, held]),
        timeout: Some(milliseconds(4_000)),
        // nothing that happens in the test is seen as a change
        until: WaitUntil::Changed.into(),
        ..WaitTasksRequest::default()
    });
    assert!(!answer.await.tasks.is_empty());
}

#[tokio::test]
async fn a_wait_for_a_line_is_done_with_a_task_that_was_deleted() {
    let line = TextPattern {
        pattern: Some(Pattern::Literal("never printed".to_owned())),
        ignore_case: false,
    };
    let answer = wait_over_a_deletion(|quick, held, _| WaitTasksRequest {
        tasks: named(&[quick, held]),
        until: WaitUntil::OutputMatch.into(),
        output: Some(OutputCondition {
            pattern: Some(line.clone()),
            streams: Vec::new(),
        }),
        ..WaitTasksRequest::default()
    });
    let answer = answer.await;
    assert!(!answer.timed_out);
    assert_eq!(answer.matches, []);
}

/// The answer of a wait during which the first of two tasks, which has ended, is deleted, and the second one ends.
async fn wait_over_a_deletion(
    request: impl Fn(&str, &str, &str) -> WaitTasksRequest,
) -> WaitTasksResponse {
    let mut client = Deployment::shared().await.client().await;
    for _ in 0..TRIES {
        let session = new_session("waited");
        let quick = TaskDefinition {
            group: "g".to_owned(),
            ..command(&["true"])
        };
        let held = TaskDefinition {
            hold: true,
            ..quick.clone()
        };
        let quick = client.run(&session, quick).await.id;
        let held = client.create(&session, held).await.id;
        let asked = WaitTasksRequest {
            timeout: Some(milliseconds(50_000)),
            ..WaitTasksRequest::default()
        };
        let request = request(&quick, &held, &session);
        let request = WaitTasksRequest {
            timeout: request.timeout.or(asked.timeout),
            ..request
        };
        let mut tasks = client.tasks.clone();
        let waiting = tokio::spawn(async move { tasks.wait_tasks(request).await });
        delete_ended(&mut client, &session, &[&quick]).await;
        let cancel = CancelTaskRequest {
            task: held.clone(),
            ..CancelTaskRequest::default()
        };
        client.tasks.cancel_task(cancel).await.expect("canceled");
        let answer = within("the wait", SOON * 2, waiting).await;
        let answer = match answer.expect("a wait does not panic") {
            Ok(answer) => answer.into_inner(),
            // it began when the task was gone
            Err(status) if reason_of(&status) == "TASK_NOT_FOUND" => continue,
            Err(status) => panic!("the wait was refused: {status:?}"),
        };
        let gone = answer.deleted.iter().find(|task| task.task_id == quick);
        match gone.map(|gone| gone.state()) {
            Some(TaskState::Succeeded) => {
                let ids = answer.tasks.iter().map(|task| &task.id);
                assert!(
                    ids.chain(answer.deleted.iter().map(|task| &task.task_id))
                        .any(|id| *id == held),
                    "the other one is told of, too: {answer:?}"
                );
                return answer;
            }
            // it did not see the task, or not its end
            Some(TaskState::Unspecified) | None => {}
            Some(state) => panic!("it was seen as {state:?}"),
        }
    }
    panic!("no wait began in time, or none told of the task");
}

#[tokio::test]
async fn a_repeated_create_whose_task_was_deleted_is_refused_for_what_it_is() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("again");
    let request = |session: &str| CreateTaskRequest {
        session_id: session.to_owned(),
        task: Some(command(&["true"])),
        request_id: session.to_owned(),
        ..CreateTaskRequest::default()
    };
    let first = create(&mut client, request(&session)).await;
    let first = first.expect("created").task.unwrap_or_default().id;
    client.ended(&first).await;
    delete_ended(&mut client, &session, &[&first]).await;
    let refused = create(&mut client, request(&session)).await;
    expect_task_deleted(refused, &first);
    let anew = CreateTaskRequest {
        request_id: new_session("another"),
        ..request(&session)
    };
    assert!(create(&mut client, anew).await.expect("created").created);

    let source = TaskDefinition {
        hold: true,
        ..command(&["true"])
    };
    let source = client.create(&session, source).await.id;
    let clone = CloneTaskRequest {
        task: source,
        request_id: new_session("clone"),
        ..CloneTaskRequest::default()
    };
    let cloned = client.tasks.clone_task(clone.clone()).await;
    let cloned = cloned.expect("cloned").into_inner().task;
    let cloned = cloned.unwrap_or_default().id;
    client.ended(&cloned).await;
    delete_ended(&mut client, &session, &[&cloned]).await;
    expect_task_deleted(client.tasks.clone_task(clone).await, &cloned);

    let other = new_session("deleted");
    let first = create(&mut client, request(&other)).await;
    let first = first.expect("created").task.unwrap_or_default().id;
    let deleted = client.tasks.delete_session(deletion(&other)).await;
    deleted.expect("the session is deleted");
    let refused = create(&mut client, request(&other)).await;
    expect_task_deleted(refused, &first);
}

#[tokio::test]
async fn a_repeated_batch_answers_with_what_is_left_of_it() {
    let mut client = Deployment::shared().await.client().await;
    for atomic in [true, false] {
        let session = new_session("batch");
        let held = TaskDefinition {
            hold: true,
            ..command(&["true"])
        };
        let request = BatchCreateTasksRequest {
            session_id: session.clone(),
            tasks: vec![command(&["true"]), held],
            atomic,
            request_id: session.clone(),
            ..BatchCreateTasksRequest::default()
        };
        let first = client.tasks.batch_create_tasks(request.clone()).await;
        let ids: Vec<String> = first
            .expect("a sound batch")
            .into_inner()
            .results
            .into_iter()
            .map(|result| result.task.unwrap_or_default().id)
            .collect();
        client.ended(&ids[0]).await;
        delete_ended(&mut client, &session, &[&ids[0]]).await;
        let again = client.tasks.batch_create_tasks(request).await;
        let again = again.expect("the same batch").into_inner().results;
        assert_eq!(again.len(), 2);
        let error = again[0].error.clone().unwrap_or_default();
        assert_eq!(error.code, Code::FailedPrecondition as i32, "{error:?}");
        assert!(error.message.contains(&ids[0]), "{error:?}");
        assert!(again[1].error.is_none(), "{:?}", again[1]);
        assert!(!again[1].created);
        assert_eq!(again[1].task.clone().unwrap_or_default().id, ids[1]);
        assert_eq!(count(&mut client, &session).await, 1);
    }
}

#[tokio::test]
async fn a_key_is_free_again_once_its_task_was_deleted() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("key");
    let keyed = TaskDefinition {
        key: "nightly".to_owned(),
        ..command(&["true"])
    };
    let first = client.run(&session, keyed.clone()).await.id;
    assert_eq!(client.create(&session, keyed.clone()).await.id, first);
    delete_ended(&mut client, &session, &[&first]).await;
    let second = client.create(&session, keyed).await;
    assert_eq!((second.ordinal, second.id != first), (2, true));
}

#[tokio::test]
async fn a_file_on_its_way_into_a_deleted_session_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("--object-store=file://{}", folder.path().display());
    let deployment = Deployment::builder()
        .workers(Vec::new())
        .server_flags(&[&url])
        .start()
        .await;
    let mut client = deployment.client().await;
    let mut database = deployment.database().connect().await;
    let session = new_session("upload");
    client.create(&session, command(&["true"])).await;
    let (parts, stream) = mpsc::channel(64);
    let writing = tokio::spawn({
        let mut client = client.clone();
        async move { client.files.write(ReceiverStream::new(stream)).await }
    });
    let header = WriteHeader {
        session_id: session.clone(),
        path: "/large".to_owned(),
        ..WriteHeader::default()
    };
    send(&parts, Some(header.clone()), Vec::new()).await;
    for _ in 0..3 {
        send(&parts, None, vec![7; MIB]).await;
    }
    until("the upload to have begun", SOON, async || {
        let begun = sqlx::query_scalar::<_, i64>("select count(*) from file_object")
            .fetch_one(&mut database)
            .await;
        begun.expect("counted") == 1
    })
    .await;
    let deleted = client.tasks.delete_session(deletion(&session)).await;
    deleted.expect("the session is deleted");
    drop(parts);
    let written = within("the write", SOON * 2, writing).await;
    let written = written.expect("no panic");
    expect_refused("late", written, Code::NotFound, "SESSION_DELETED");
    let stat = StatRequest {
        session_id: session.clone(),
        path: "/large".to_owned(),
        ..StatRequest::default()
    };
    let refused = client.files.stat(stat).await;
    expect_refused(
        "no such session",
        refused,
        Code::NotFound,
        "SESSION_NOT_FOUND",
    );
    let again = client.write_file(header, b"for the new session").await;
    again.expect("the id stands for a new session");
    deployment.remove().await;
}

fn waking(group: &str, group_wake: GroupWake) -> TaskDefinition {
    TaskDefinition {
        group: group.to_owned(),
        group_wake: group_wake.into(),
        wake_policy: WakePolicy::OnTerminal.into(),
        ..command(&["true"])
    }
}

fn deletion(session: &str) -> DeleteSessionRequest {
    DeleteSessionRequest {
        session_id: session.to_owned(),
        grace: Some(milliseconds(0)),
        ..DeleteSessionRequest::default()
    }
}

fn named(tasks: &[&str]) -> Vec<WaitedTask> {
    let waited = tasks.iter().map(|task| WaitedTask {
        task: (*task).to_owned(),
        seen_generation: 100,
    });
    waited.collect()
}

async fn take(client: &mut Client, session: &str, ack_ids: Vec<i64>) -> Vec<Wake> {
    let request = TakeWakesRequest {
        session_ids: vec![session.to_owned()],
        consumer: "runtime".to_owned(),
        ack_ids,
        ..TakeWakesRequest::default()
    };
    let taken = client.tasks.take_wakes(request).await;
    taken.expect("wakes can be taken").into_inner().wakes
}

async fn create(
    client: &mut Client,
    request: CreateTaskRequest,
) -> Result<CreateTaskResponse, Status> {
    let answer = client.tasks.create_task(request).await?;
    Ok(answer.into_inner())
}

#[track_caller]
fn expect_task_deleted<T>(answer: Result<T, Status>, task: &str) {
    let reason = "REQUEST_TASK_DELETED";
    let status = expect_refused("a repeated call", answer, Code::FailedPrecondition, reason);
    let info = status.get_details_error_info();
    let named = info.and_then(|info| info.metadata.get("task_id").cloned());
    assert_eq!(named.as_deref(), Some(task));
}

async fn count(client: &mut Client, session: &str) -> usize {
    let request = ListTasksRequest {
        session_id: session.to_owned(),
        ..ListTasksRequest::default()
    };
    let answer = client.tasks.list_tasks(request).await;
    answer.expect("a listing").into_inner().tasks.len()
}

/// Has retention delete all ended tasks of a session, `gone` among them, and then keep all again.
async fn delete_ended(client: &mut Client, session: &str, gone: &[&str]) {
    let none = RetentionLimits {
        max_ended_tasks: Some(0),
        ..RetentionLimits::default()
    };
    let mut limits = SetRetentionRequest {
        session_id: session.to_owned(),
        limits: Some(none),
        ..SetRetentionRequest::default()
    };
    let set = client.admin.set_retention(limits.clone()).await;
    set.expect("it is set");
    let request = RunRetentionRequest {
        session_id: session.to_owned(),
        ..RunRetentionRequest::default()
    };
    let ran = client.admin.run_retention(request).await;
    ran.expect("a pass runs");
    // where the background came first, it may not be done yet
    for task in gone {
        eventually("the task to go", Duration::from_secs(60), async || {
            let request = GetTaskRequest {
                task: (*task).to_owned(),
                ..GetTaskRequest::default()
            };
            client.tasks.get_task(request).await.err()
        })
        .await;
    }
    limits.limits = None;
    let set = client.admin.set_retention(limits).await;
    set.expect("it is removed");
}

async fn send(parts: &mpsc::Sender<WriteRequest>, header: Option<WriteHeader>, data: Vec<u8>) {
    let request = WriteRequest {
        header,
        data: data.into(),
    };
    parts.send(request).await.expect("somebody listens");
}
