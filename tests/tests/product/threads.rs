//! The thread between a task and its owner, seen from both ends.

use std::time::{Duration, Instant};

use taskyard_proto::v1::{
    FilePart, GetSelfRequest, ListMessagesRequest, ListMessagesResponse, MessageDirection,
    MessagePart, PostMessageRequest, PostMessageResponse, PostRequest, PublishArtifactRequest,
    ReceiveMessagesRequest, ReceiveMessagesResponse, ReportProgressRequest, ReportUsageRequest,
    SessionEventType, SetResultRequest, TaskMessage, message_part::Part,
};
use taskyard_tests::client::{Client, command, milliseconds, new_session};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::played::{Inside, Played, data, question, retried, text};
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use taskyard_tests::session_files::SessionFiles;
use taskyard_tests::wait::{SOON, within};
use taskyard_tests::watcher::Watcher;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Far less than the waits of the calls that must be answered within it, far more than a busy machine needs.
const PROMPTLY: Duration = Duration::from_secs(30);

fn file(path: &str) -> MessagePart {
    let file = FilePart {
        path: path.to_owned(),
        name: "the report".to_owned(),
        media_type: "text/markdown".to_owned(),
    };
    MessagePart {
        part: Some(Part::File(file)),
    }
}

fn to(task: &str, parts: Vec<MessagePart>) -> PostMessageRequest {
    PostMessageRequest {
        task: task.to_owned(),
        parts,
        ..PostMessageRequest::default()
    }
}

fn from_inside(parts: Vec<MessagePart>) -> PostRequest {
    PostRequest {
        parts,
        ..PostRequest::default()
    }
}

fn thread_of(task: &str) -> ListMessagesRequest {
    ListMessagesRequest {
        task: task.to_owned(),
        ..ListMessagesRequest::default()
    }
}

async fn post(
    client: &mut Client,
    request: PostMessageRequest,
) -> Result<PostMessageResponse, Status> {
    Ok(client.tasks.post_message(request).await?.into_inner())
}

async fn posted(client: &mut Client, task: &str, words: &str) -> TaskMessage {
    let answer = post(client, to(task, vec![text(words)])).await;
    answer.expect("posted").message.expect("the message")
}

async fn said(inside: &Inside, words: &str) -> TaskMessage {
    let answer = inside.post(from_inside(vec![text(words)])).await;
    answer.expect("posted").message.expect("the message")
}

async fn list(client: &mut Client, request: ListMessagesRequest) -> ListMessagesResponse {
    let answer = client.tasks.list_messages(request).await;
    answer.expect("listed").into_inner()
}

fn numbers(messages: &[TaskMessage]) -> Vec<i64> {
    messages.iter().map(|message| message.number).collect()
}

#[tokio::test]
async fn a_thread_goes_both_ways_and_is_read_from_any_number_on() {
    let deployment = Deployment::by_hand().await;
    let mut client = deployment.client().await;
    let session = new_session("thread");
    let played = Played::start(&client, &session, command(&["work"])).await;
    let running = client.get(played.id()).await;
    let mut watcher = Watcher::start(&mut client, &session, "").await;

    let mut files = SessionFiles::new(&client, &session);
    files
        .write("/notes/plan.md", b"# Plan")
        .await
        .expect("written");
    let parts = vec![text("go"), data(r#"{"depth": 2}"#), file("/notes/plan.md")];
    let first = post(&mut client, to(played.id(), parts.clone())).await;
    let first = first.expect("posted").message.expect("the message");
    assert_eq!(first.parts, parts);
    assert_eq!(
        (first.number, first.direction(), first.run),
        (1, MessageDirection::Inbound, 0)
    );
    assert_eq!(first.task_id, played.id());
    assert!(first.id.starts_with("tmsg_") && first.created_at.is_some());

    let reply = PostRequest {
        in_reply_to: first.id.clone(),
        ..from_inside(vec![text("going")])
    };
    let reply = played.inside.post(reply).await.expect("posted");
    let reply = reply.message.expect("the message");
    assert_eq!(
        (reply.number, reply.direction(), reply.run),
        (2, MessageDirection::Outbound, 1)
    );
    assert_eq!(reply.in_reply_to, first.id);
    for number in 3..=5 {
        assert_eq!(said(&played.inside, "more").await.number, number);
    }

    let events = watcher.events_until(|event| {
        event
            .message
            .as_ref()
            .is_some_and(|message| message.number == 5)
    });
    let events = events.await;
    assert_eq!(events[0].message.as_ref(), Some(&first));
    assert_eq!(events.len(), 5, "{events:?}");
    for event in &events {
        assert_eq!(event.r#type(), SessionEventType::TaskMessage);
        assert_eq!(event.generation, running.generation);
    }
    assert_eq!(
        client.get(played.id()).await.generation,
        running.generation,
        "messages are no change of the record"
    );

    let all = list(&mut client, thread_of(played.id())).await;
    assert_eq!(numbers(&all.messages), [1, 2, 3, 4, 5]);
    assert_eq!(
        (&all.messages[0], &all.messages[1]),
        (&first, &reply),
        "read as it was told"
    );
    assert_eq!((all.next_after, all.newest, all.delivered), (5, 5, 0));
    let latest = ListMessagesRequest {
        page_size: 2,
        ..thread_of(played.id())
    };
    assert_eq!(
        numbers(&list(&mut client, latest).await.messages),
        [4, 5],
        "without a cursor the latest"
    );
    let from = |after, direction: MessageDirection| ListMessagesRequest {
        after: Some(after),
        direction: direction.into(),
        page_size: 2,
        ..thread_of(played.id())
    };
    for (after, direction, expected, next) in [
        (0, MessageDirection::Unspecified, vec![1, 2], 2),
        (2, MessageDirection::Unspecified, vec![3, 4], 4),
        (0, MessageDirection::Outbound, vec![2, 3], 3),
        (1, MessageDirection::Inbound, vec![], 1),
        (5, MessageDirection::Unspecified, vec![], 5),
    ] {
        let page = list(&mut client, from(after, direction)).await;
        assert_eq!(numbers(&page.messages), expected, "after {after}");
        assert_eq!((page.next_after, page.newest), (next, 5), "after {after}");
    }
    for beyond in [6, -1] {
        let refused = client
            .tasks
            .list_messages(from(beyond, MessageDirection::Unspecified))
            .await;
        expect_refused("beyond", refused, Code::OutOfRange, "OUT_OF_RANGE");
        let request = ReceiveMessagesRequest {
            after: Some(beyond),
            ..ReceiveMessagesRequest::default()
        };
        let refused = played.inside.receive(request).await;
        expect_refused("beyond", refused, Code::OutOfRange, "OUT_OF_RANGE");
    }
}

#[tokio::test]
async fn a_reply_names_a_message_of_the_same_thread() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("thread");
    let played = Played::start(&client, &session, command(&["work"])).await;
    let other = Played::start(&client, &session, command(&["work"])).await;
    let foreign = posted(&mut client, other.id(), "hello").await.id;
    let unknown = format!("tmsg_{:032x}", 7);
    for in_reply_to in [foreign.as_str(), &unknown, "1", "tmsg_", "ques_x"] {
        let request = PostMessageRequest {
            in_reply_to: in_reply_to.to_owned(),
            ..to(played.id(), vec![text("yes")])
        };
        expect_bad_field(post(&mut client, request).await, "in_reply_to");
        let request = PostRequest {
            in_reply_to: in_reply_to.to_owned(),
            ..from_inside(vec![text("yes")])
        };
        expect_bad_field(played.inside.post(request).await, "in_reply_to");
    }
    assert_eq!(list(&mut client, thread_of(played.id())).await.newest, 0);
}

#[tokio::test]
async fn a_repeated_post_answers_with_the_stored_message() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("thread");
    let mut played = Played::start(&client, &session, command(&["work"])).await;
    let request = |words: &str| PostMessageRequest {
        request_id: "once".to_owned(),
        ..to(played.id(), vec![text(words)])
    };
    let (again, later) = (request("go"), request("go"));
    let first = post(&mut client, request("go")).await.expect("posted");
    assert!(first.created);
    let repeated = post(&mut client, again).await.expect("repeated");
    assert_eq!(
        (repeated.created, &repeated.message),
        (false, &first.message)
    );

    let outbound = PostRequest {
        request_id: "once".to_owned(),
        ..from_inside(vec![text("gone")])
    };
    let gone = played.inside.post(outbound.clone()).await.expect("posted");
    assert!(gone.created, "each side has request ids of its own");
    let repeated = played.inside.post(outbound).await.expect("repeated");
    assert_eq!(
        (repeated.created, &repeated.message),
        (false, &gone.message)
    );
    assert_eq!(list(&mut client, thread_of(played.id())).await.newest, 2);

    played.finish(0).await;
    let repeated = post(&mut client, later).await.expect("repeated");
    assert_eq!(
        (repeated.created, repeated.message),
        (false, first.message),
        "it was stored before the end"
    );
}

#[tokio::test]
async fn a_request_id_is_for_one_message_only() {
    let deployment = Deployment::by_hand().await;
    let mut client = deployment.client().await;
    let played = Played::start(&client, &new_session("repeat"), command(&["work"])).await;
    let named = |words: &str| PostMessageRequest {
        request_id: "one".to_owned(),
        ..to(played.id(), vec![text(words)])
    };
    post(&mut client, named("go on")).await.expect("posted");
    let refused = post(&mut client, named("stop")).await;
    expect_refused(
        "the owner's",
        refused,
        Code::AlreadyExists,
        "REQUEST_ID_CONFLICT",
    );
    let from_work = |words: &str| PostRequest {
        request_id: "one".to_owned(),
        ..from_inside(vec![text(words)])
    };
    let said = played.inside.post(from_work("half way")).await;
    assert!(said.expect("posted").created, "the directions are apart");
    let refused = played.inside.post(from_work("done")).await;
    expect_refused(
        "the work's",
        refused,
        Code::AlreadyExists,
        "REQUEST_ID_CONFLICT",
    );
    assert_eq!(list(&mut client, thread_of(played.id())).await.newest, 2);
}

#[tokio::test]
async fn nobody_waits_for_a_message_of_an_ended_task() {
    let deployment = Deployment::by_hand().await;
    let client = deployment.client().await;
    let mut played = Played::start(&client, &new_session("ended"), command(&["work"])).await;
    let waiting = ListMessagesRequest {
        after: Some(0),
        wait: Some(milliseconds(60_000)),
        ..thread_of(played.id())
    };
    let asked_at = Instant::now();
    let mut waiter = client.clone();
    let waiting = tokio::spawn(async move { list(&mut waiter, waiting).await });
    played.finish(0).await;
    let answer = within("the answer", SOON, waiting).await.expect("no panic");
    assert!(answer.messages.is_empty(), "{answer:?}");
    assert!(asked_at.elapsed() < PROMPTLY, "{:?}", asked_at.elapsed());
}

#[tokio::test]
async fn a_file_part_names_a_file_that_is_there() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("thread");
    let mut played = Played::start(&client, &session, command(&["work"])).await;
    let mut files = SessionFiles::new(&client, &session);
    files.write("/d/there.md", b"x").await.expect("written");
    let own = |name: &str| format!("/.tasks/{}/{name}", played.id());
    for (path, code, reason) in [
        ("/d/gone.md", Code::NotFound, "FILE_NOT_FOUND"),
        ("/d", Code::FailedPrecondition, "WRONG_FILE_TYPE"),
        ("/d/../there.md", Code::InvalidArgument, "INVALID_PATH"),
        (&own("result.json"), Code::NotFound, "FILE_NOT_FOUND"),
    ] {
        let parts = vec![text("see"), file("/d/there.md"), file(path)];
        let posts = [
            post(&mut client, to(played.id(), parts.clone()))
                .await
                .map(drop),
            played.inside.post(from_inside(parts)).await.map(drop),
        ];
        for refused in posts {
            let status = expect_refused(path, refused, code, reason);
            let details = status.get_details_bad_request();
            let violations = details.map(|details| details.field_violations);
            let fields: Vec<String> = violations
                .into_iter()
                .flatten()
                .map(|violation| violation.field)
                .collect();
            assert_eq!(fields, ["parts[2].file.path"], "{path}");
        }
    }
    assert_eq!(list(&mut client, thread_of(played.id())).await.newest, 0);

    // What was posted stays posted, whatever becomes of the file.
    let request = PostMessageRequest {
        request_id: "once".to_owned(),
        ..to(played.id(), vec![file("/d/there.md")])
    };
    let first = post(&mut client, request.clone()).await.expect("posted");
    let said = PostRequest {
        request_id: "once".to_owned(),
        ..from_inside(vec![file("/d/there.md")])
    };
    played.inside.post(said.clone()).await.expect("posted");
    files.delete("/d/there.md").await.expect("deleted");
    let again = post(&mut client, request).await.expect("repeated");
    assert_eq!((again.created, again.message), (false, first.message));
    let again = played.inside.post(said).await.expect("repeated");
    assert!(!again.created);
    let late = post(&mut client, to(played.id(), vec![file("/d/there.md")])).await;
    expect_refused("a new post", late, Code::NotFound, "FILE_NOT_FOUND");
    played.finish(0).await;
}

#[tokio::test]
async fn what_no_message_may_be_is_refused_on_both_sides() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("thread");
    let played = Played::start(&client, &session, command(&["work"])).await;
    let empty = MessagePart { part: None };
    let large = "x".repeat((64 << 10) + 1);
    let bad = [
        (vec![], Code::InvalidArgument, "INVALID_FIELD"),
        (vec![text("x"); 17], Code::InvalidArgument, "INVALID_FIELD"),
        (vec![empty], Code::InvalidArgument, "INVALID_FIELD"),
        (vec![data("{")], Code::InvalidArgument, "INVALID_FIELD"),
        (vec![data("")], Code::InvalidArgument, "INVALID_FIELD"),
        (vec![file("a/../b")], Code::InvalidArgument, "INVALID_PATH"),
        (vec![text(&large)], Code::ResourceExhausted, "TOO_LARGE"),
        (
            vec![text(&large[..60_000]), text(&large[..6_000])],
            Code::ResourceExhausted,
            "TOO_LARGE",
        ),
    ];
    for (parts, code, reason) in bad {
        let refused = post(&mut client, to(played.id(), parts.clone())).await;
        expect_refused(reason, refused, code, reason);
        let refused = played.inside.post(from_inside(parts)).await;
        expect_refused(reason, refused, code, reason);
    }
    let request = PostMessageRequest {
        request_id: "r".repeat(129),
        ..to(played.id(), vec![text("x")])
    };
    expect_bad_field(post(&mut client, request).await, "request_id");
    for page_size in [-1, 201] {
        let request = ListMessagesRequest {
            page_size,
            ..thread_of(played.id())
        };
        expect_bad_field(client.tasks.list_messages(request).await, "page_size");
    }
    let largest = to(played.id(), vec![text(&large[1..])]);
    post(&mut client, largest).await.expect("64 KiB are fine");
    assert_eq!(list(&mut client, thread_of(played.id())).await.newest, 1);
}

#[tokio::test]
async fn an_ended_tasks_thread_is_read_and_not_written() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("thread");
    let mut played = Played::start(&client, &session, command(&["work"])).await;
    posted(&mut client, played.id(), "go").await;
    said(&played.inside, "gone").await;
    played.finish(0).await;
    let refused = post(&mut client, to(played.id(), vec![text("late")])).await;
    expect_refused("a late post", refused, Code::FailedPrecondition, "TERMINAL");
    let refused = played.inside.post(from_inside(vec![text("late")])).await;
    expect_refused("a late post", refused, Code::Aborted, "LEASE_LOST");
    let thread = list(&mut client, thread_of(played.id())).await;
    assert_eq!(numbers(&thread.messages), [1, 2]);
    let queued = client.create(&session, command(&["never"])).await;
    posted(&mut client, &queued.id, "before you start").await;
}

#[tokio::test]
async fn data_satisfies_the_tasks_message_schema() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("thread");
    let mut definition = command(&["work"]);
    definition.spec.get_or_insert_default().message_schema_json =
        r#"{"type": "object", "required": ["found"]}"#.to_owned();
    let played = Played::start(&client, &session, definition.clone()).await;
    let post = |part| played.inside.post(from_inside(vec![text("see"), part]));
    post(data(r#"{"found": 3}"#)).await.expect("it satisfies");
    post(text("no data")).await.expect("text has no schema");
    let refused = post(data(r#"{"lost": 3}"#)).await;
    let status = expect_refused(
        "other data",
        refused,
        Code::InvalidArgument,
        "SCHEMA_MISMATCH",
    );
    assert!(status.message().contains("found"), "{}", status.message());
    definition.spec.get_or_insert_default().message_schema_json = "[]".to_owned();
    let refused = client.try_create(&session, definition).await;
    expect_bad_field(refused, "task.spec.message_schema_json");
}

#[tokio::test]
async fn the_owners_messages_reach_every_run_that_has_not_handled_them() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("thread");
    let definition = retried(command(&["work"]), 2);
    let mut played = Played::start(&client, &session, definition).await;
    for words in ["one", "two", "three"] {
        posted(&mut client, played.id(), words).await;
    }
    said(&played.inside, "not for the work").await;
    let got = take(&played.inside, None, 2).await;
    assert_eq!((numbers(&got.messages), got.next_after), (vec![1, 2], 2));
    let again = take(&played.inside, None, 0).await;
    assert_eq!(
        numbers(&again.messages),
        [1, 2, 3],
        "nothing was said to be handled"
    );
    assert_eq!(list(&mut client, thread_of(played.id())).await.delivered, 0);
    let rest = take(&played.inside, Some(2), 0).await;
    assert_eq!(numbers(&rest.messages), [3]);
    assert_eq!(list(&mut client, thread_of(played.id())).await.delivered, 2);
    assert_eq!(
        numbers(&take(&played.inside, None, 0).await.messages),
        [3],
        "the mark stays where it is"
    );

    let lost = played.lose_worker(&client).await;
    played.start_again(&client).await;
    let anew = take(&played.inside, None, 0).await;
    assert_eq!(numbers(&anew.messages), [1, 2, 3], "to the new run as well");
    let handled = take(&played.inside, Some(3), 0).await;
    assert!(handled.messages.is_empty());
    assert_eq!(list(&mut client, thread_of(played.id())).await.delivered, 3);
    expect_lost(&lost).await;
}

async fn take(inside: &Inside, after: Option<i64>, max_messages: i32) -> ReceiveMessagesResponse {
    let request = ReceiveMessagesRequest {
        after,
        max_messages,
        wait: None,
    };
    inside.receive(request).await.expect("received")
}

/// Nothing that runs inside a task can be done under a lease that is lost.
async fn expect_lost(lost: &Inside) {
    let mut agent = lost.agent.clone();
    let artifact = tokio_stream::iter([PublishArtifactRequest::default()]);
    let refused = |what: &str, outcome: Result<(), Status>| {
        expect_refused(what, outcome, Code::Aborted, "LEASE_LOST");
    };
    let answer = agent.get_self(lost.request(GetSelfRequest {})).await;
    refused("GetSelf", answer.map(drop));
    let request = lost.request(ReportProgressRequest::default());
    refused(
        "ReportProgress",
        agent.report_progress(request).await.map(drop),
    );
    refused("Ask", lost.ask(question("k", "?")).await.map(drop));
    let answer = lost.post(from_inside(vec![text("late")])).await;
    refused("Post", answer.map(drop));
    let answer = lost.receive(ReceiveMessagesRequest::default()).await;
    refused("ReceiveMessages", answer.map(drop));
    let request = lost.request(artifact);
    refused(
        "PublishArtifact",
        agent.publish_artifact(request).await.map(drop),
    );
    let request = lost.request(SetResultRequest {
        output_json: "1".to_owned(),
    });
    refused("SetResult", agent.set_result(request).await.map(drop));
    let request = lost.request(ReportUsageRequest {
        usage_json: "{}".to_owned(),
    });
    refused("ReportUsage", agent.report_usage(request).await.map(drop));
}

#[tokio::test]
async fn whoever_waits_for_a_message_has_it_at_once() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("thread");
    let played = Played::start(&client, &session, command(&["work"])).await;
    for round in 1..=3 {
        let asked_at = Instant::now();
        let inside = played.inside.clone();
        let receiving = tokio::spawn(async move {
            let request = ReceiveMessagesRequest {
                after: Some(2 * (round - 1)),
                wait: Some(milliseconds(60_000)),
                ..ReceiveMessagesRequest::default()
            };
            inside.receive(request).await
        });
        posted(&mut client, played.id(), "go").await;
        let received = within("the message", SOON, receiving).await;
        let received = received.expect("no panic").expect("received").messages;
        assert_eq!(numbers(&received), [2 * round - 1]);

        let mut reader = client.clone();
        let request = ListMessagesRequest {
            after: Some(2 * round - 1),
            wait: Some(milliseconds(60_000)),
            ..thread_of(played.id())
        };
        let reading = tokio::spawn(async move { list(&mut reader, request).await });
        said(&played.inside, "gone").await;
        let read = within("the answer", SOON, reading).await.expect("no panic");
        assert_eq!(
            (numbers(&read.messages), read.newest),
            (vec![2 * round], 2 * round)
        );
        assert!(asked_at.elapsed() < PROMPTLY, "{:?}", asked_at.elapsed());
    }
    let request = ListMessagesRequest {
        after: Some(6),
        wait: Some(milliseconds(100)),
        ..thread_of(played.id())
    };
    let none = list(&mut client, request).await;
    assert!(none.messages.is_empty(), "the wait ends without one");
}
