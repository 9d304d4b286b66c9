//! Requests that make no sense: each is refused with its own code and reason, and changes nothing.

use taskyard_proto::v1::{
    CancelTaskRequest, CreateTaskRequest, GetTaskRequest, ListRequest, ListSessionsRequest,
    ListTasksRequest, ReadOutputRequest, ReportRequest, RetryTaskRequest, TailOutputRequest,
    UpdateTaskRequest, WaitTasksRequest, WaitedTask, WatchRequest, WatchedSession,
};
use taskyard_tests::client::{command, milliseconds, new_session, with_command};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use tonic::{Code, Status};
use tonic_types::StatusExt;

const UNKNOWN: &str = "task_0190aaaabbbb7ccc8dddeeeeffff0001";

#[tokio::test]
async fn bad_session_ids_and_namespaces_are_refused() {
    let mut client = Deployment::shared().await.client().await;
    let long = "x".repeat(257);
    for session in ["", "a\0b", "a\nb", "a\u{85}b", &long] {
        let answer = client.try_create(session, command(&["true"])).await;
        expect_bad_field(answer, "session_id");
    }
    for session in [
        " ",
        "ü",
        "a/b;drop table task",
        "\u{1f600}",
        &"x".repeat(256),
    ] {
        let task = client.try_create(session, command(&["true"])).await;
        assert_eq!(task.expect("free text is fine").session_id, session);
    }
    let request = |namespace: &str| CreateTaskRequest {
        namespace: namespace.to_owned(),
        session_id: new_session("tenant"),
        task: Some(command(&["true"])),
        ..CreateTaskRequest::default()
    };
    let answer = client.tasks.create_task(request("No Such")).await;
    expect_bad_field(answer, "namespace");
    let request = GetTaskRequest {
        namespace: "nobody".to_owned(),
        task: UNKNOWN.to_owned(),
        ..GetTaskRequest::default()
    };
    let answer = client.tasks.get_task(request).await;
    expect_refused("a namespace", answer, Code::NotFound, "NAMESPACE_NOT_FOUND");
}

#[tokio::test]
async fn unknown_tasks_are_not_found_by_any_call() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("known");
    client.create(&session, command(&["true"])).await;
    for called in [
        UNKNOWN,
        "t99",
        "nobody",
        "task_0190aaaabbbb7ccc",
        "t0",
        "t99999999999999999999",
    ] {
        let get = GetTaskRequest {
            session_id: session.clone(),
            task: called.to_owned(),
            ..GetTaskRequest::default()
        };
        let status = expect_unknown(client.tasks.get_task(get).await, called);
        let resource = status.get_details_resource_info();
        assert_eq!(
            resource.map(|resource| resource.resource_name),
            Some(called.to_owned())
        );
        let cancel = CancelTaskRequest {
            session_id: session.clone(),
            task: called.to_owned(),
            ..CancelTaskRequest::default()
        };
        expect_unknown(client.tasks.cancel_task(cancel).await, called);
        let retry = RetryTaskRequest {
            session_id: session.clone(),
            task: called.to_owned(),
            ..RetryTaskRequest::default()
        };
        expect_unknown(client.tasks.retry_task(retry).await, called);
        let update = UpdateTaskRequest {
            session_id: session.clone(),
            task: called.to_owned(),
            update_mask: mask("summary"),
            ..UpdateTaskRequest::default()
        };
        expect_unknown(client.tasks.update_task(update).await, called);
        let wait = WaitTasksRequest {
            session_id: session.clone(),
            tasks: vec![waited(called)],
            ..WaitTasksRequest::default()
        };
        expect_unknown(client.tasks.wait_tasks(wait).await, called);
        let read = ReadOutputRequest {
            session_id: session.clone(),
            task: called.to_owned(),
            ..ReadOutputRequest::default()
        };
        expect_unknown(client.tasks.read_output(read).await, called);
        let tail = TailOutputRequest {
            session_id: session.clone(),
            task: called.to_owned(),
            ..TailOutputRequest::default()
        };
        expect_unknown(client.tasks.tail_output(tail).await, called);
    }
    for called in ["", "a\0b", "a\nb", &"x".repeat(200)] {
        let get = GetTaskRequest {
            session_id: session.clone(),
            task: called.to_owned(),
            ..GetTaskRequest::default()
        };
        expect_bad_field(client.tasks.get_task(get).await, "task");
    }
    let without_session = GetTaskRequest {
        task: "t1".to_owned(),
        ..GetTaskRequest::default()
    };
    expect_bad_field(client.tasks.get_task(without_session).await, "session_id");
}

#[tokio::test]
async fn tokens_and_sizes_of_pages_are_checked() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("pages");
    for _ in 0..3 {
        client.create(&session, command(&["true"])).await;
    }
    let list = |page_token: &str, page_size| ListTasksRequest {
        session_id: session.clone(),
        page_size,
        page_token: page_token.to_owned(),
        ..ListTasksRequest::default()
    };
    let page = client
        .tasks
        .list_tasks(list("", 1))
        .await
        .expect("listed")
        .into_inner();
    let good = page.next_page_token;
    let long = "A".repeat(10_000);
    for token in ["x", "AAAAAAAAAAAA", "%%%", "\0", &long] {
        let answer = client.tasks.list_tasks(list(token, 1)).await;
        expect_refused(token, answer, Code::InvalidArgument, "BAD_TOKEN");
    }
    let elsewhere = ListTasksRequest {
        kinds: vec!["other".to_owned()],
        ..list(&good, 1)
    };
    let answer = client.tasks.list_tasks(elsewhere).await;
    expect_refused(
        "another listing",
        answer,
        Code::InvalidArgument,
        "BAD_TOKEN",
    );
    for size in [-1, 501, i32::MAX] {
        expect_bad_field(client.tasks.list_tasks(list("", size)).await, "page_size");
    }
    let sessions = ListSessionsRequest {
        page_token: good.clone(),
        ..ListSessionsRequest::default()
    };
    let answer = client.admin.list_sessions(sessions).await;
    expect_refused("another verb", answer, Code::InvalidArgument, "BAD_TOKEN");
    let files = ListRequest {
        session_id: session,
        page_token: good,
        ..ListRequest::default()
    };
    let answer = client.files.list(files).await;
    expect_refused("another verb", answer, Code::InvalidArgument, "BAD_TOKEN");
}

#[tokio::test]
async fn requests_out_of_their_bounds_are_refused() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("bounds");
    let task = client.run(&session, command(&["true"])).await;
    let id = task.id.as_str();
    let read = |change: &dyn Fn(&mut ReadOutputRequest)| {
        let mut request = ReadOutputRequest {
            task: id.to_owned(),
            ..ReadOutputRequest::default()
        };
        change(&mut request);
        request
    };
    expect_bad_field(
        client
            .tasks
            .read_output(read(&|read| read.offset = -1))
            .await,
        "offset",
    );
    expect_bad_field(
        client
            .tasks
            .read_output(read(&|read| read.max_bytes = 2 << 20))
            .await,
        "max_bytes",
    );
    expect_bad_field(
        client
            .tasks
            .read_output(read(&|read| read.stream = 9))
            .await,
        "stream",
    );
    let no_run = client.tasks.read_output(read(&|read| read.run = 2)).await;
    expect_refused("a later run", no_run, Code::NotFound, "RUN_NOT_FOUND");
    let wait = |tasks: Vec<WaitedTask>, timeout| WaitTasksRequest {
        tasks,
        timeout: Some(milliseconds(timeout)),
        ..WaitTasksRequest::default()
    };
    expect_bad_field(
        client.tasks.wait_tasks(wait(Vec::new(), 1000)).await,
        "tasks",
    );
    expect_bad_field(
        client
            .tasks
            .wait_tasks(wait(vec![waited(id); 1001], 1000))
            .await,
        "tasks",
    );
    expect_bad_field(
        client
            .tasks
            .wait_tasks(wait(vec![waited(id)], 601_000))
            .await,
        "timeout",
    );
    let long_wait = CreateTaskRequest {
        session_id: session.clone(),
        task: Some(command(&["true"])),
        wait: Some(milliseconds(31_000)),
        ..CreateTaskRequest::default()
    };
    expect_bad_field(client.tasks.create_task(long_wait).await, "wait");
    expect_bad_field(
        client.tasks.watch(WatchRequest::default()).await,
        "sessions",
    );
    let twice = WatchRequest {
        sessions: vec![watched(&session), watched(&session)],
        ..WatchRequest::default()
    };
    expect_bad_field(client.tasks.watch(twice).await, "sessions");
    let hasty = WatchRequest {
        sessions: vec![watched(&session)],
        keepalive: Some(milliseconds(10)),
        ..WatchRequest::default()
    };
    expect_bad_field(client.tasks.watch(hasty).await, "keepalive");
    let update = |path: &str| UpdateTaskRequest {
        task: id.to_owned(),
        update_mask: mask(path),
        summary: "x".repeat(300),
        ..UpdateTaskRequest::default()
    };
    expect_bad_field(
        client.tasks.update_task(update("state")).await,
        "update_mask",
    );
    expect_bad_field(client.tasks.update_task(update("summary")).await, "summary");
    let nothing = UpdateTaskRequest {
        task: id.to_owned(),
        ..UpdateTaskRequest::default()
    };
    expect_bad_field(client.tasks.update_task(nothing).await, "update_mask");
    let late = CancelTaskRequest {
        task: id.to_owned(),
        grace: Some(milliseconds(-1)),
        ..CancelTaskRequest::default()
    };
    expect_bad_field(client.tasks.cancel_task(late).await, "grace");
    expect_bad_field(
        client.worker.report(ReportRequest::default()).await,
        "items",
    );
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("oversize");
    let task = with_command(command(&["true"]), |command| {
        command.stdin = Some(vec![0; 5 << 20].into());
    });
    let answer = client.try_create(&session, task).await;
    expect_refused(
        "5 MiB",
        answer,
        Code::ResourceExhausted,
        "MESSAGE_TOO_LARGE",
    );
    client.create(&session, command(&["true"])).await;
}

fn mask(path: &str) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask {
        paths: vec![path.to_owned()],
    })
}

fn waited(task: &str) -> WaitedTask {
    WaitedTask {
        task: task.to_owned(),
        seen_generation: 0,
    }
}

fn watched(session: &str) -> WatchedSession {
    WatchedSession {
        session_id: session.to_owned(),
        cursor: String::new(),
    }
}

#[track_caller]
fn expect_unknown<T>(answer: Result<T, Status>, called: &str) -> Status {
    expect_refused(called, answer, Code::NotFound, "TASK_NOT_FOUND")
}
