//! The audit log under load, and what it tells of workers and of streams.

use std::collections::BTreeMap;

use futures::StreamExt;
use taskyard_proto::v1::{
    AcquireLeasesRequest, AttachRequest, AuditDecision, AuditEvent, CreateTaskRequest,
    GetLeaseSpecRequest, GetTaskRequest, Hello, ListAuditEventsRequest, OutputChunk, OutputStream,
    PushOutputRequest, WatchRequest, WatchedSession, WriteHeader, WriteRequest,
    attach_request::Message as Up,
};
use taskyard_tests::client::{Client, milliseconds, shell};
use taskyard_tests::hand_worker::{hello, lease_of, random_id};
use taskyard_tests::refusal::expect_refused;
use taskyard_tests::secured::with_token;
use taskyard_tests::wait::{eventually, until};
use tonic::Code;

use super::identity_support::{create, guarded};

/// Enough for a thousand calls on a slow and busy machine.
const A_WHILE: std::time::Duration = std::time::Duration::from_secs(60);

/// All entries, newest first.
async fn all(client: &Client) -> Vec<AuditEvent> {
    let mut admin = client.admin.clone();
    let mut request = ListAuditEventsRequest {
        page_size: 500,
        ..ListAuditEventsRequest::default()
    };
    let mut events = Vec::new();
    loop {
        let page = admin
            .list_audit_events(with_token("ops", request.clone()))
            .await
            .expect("listed")
            .into_inner();
        events.extend(page.events);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return events;
        }
    }
}

/// All entries, once one of a call that is made now is among them: what came before it is written.
async fn settled(client: &mut Client) -> Vec<AuditEvent> {
    let last = format!("last-{}", uuid::Uuid::new_v4().simple());
    create(client, "ops", "", &last).await.expect("created");
    eventually("the last entry", A_WHILE, async || {
        let events = all(client).await;
        let is_there = events.iter().any(|event| event.session_id == last);
        is_there.then_some(events)
    })
    .await
}

fn of_method<'a>(events: &'a [AuditEvent], method: &str) -> Vec<&'a AuditEvent> {
    events
        .iter()
        .filter(|event| event.method.ends_with(&format!("/{method}")))
        .collect()
}

#[tokio::test]
async fn a_flood_loses_no_entry_and_counts_what_was_denied() {
    const CALLS: usize = 600;
    let (_deployment, mut client, _folder) = guarded(&[
        ("writer", "role: client, namespaces: [team-a]"),
        ("ops", "role: admin"),
    ])
    .await;
    let calls = (0..CALLS).map(|number| {
        let mut client = client.clone();
        async move {
            let session = format!("s-{}", number % 10);
            let done = create(&mut client, "writer", "team-a", &session).await;
            let request = GetTaskRequest {
                namespace: "team-b".to_owned(),
                session_id: "s".to_owned(),
                task: "t1".to_owned(),
                ..GetTaskRequest::default()
            };
            let denied = client.tasks.get_task(with_token("writer", request)).await;
            denied.expect_err("out of reach");
            usize::from(done.is_ok())
        }
    });
    let done: usize = futures::stream::iter(calls)
        .buffer_unordered(64)
        .fold(0, |sum, done| async move { sum + done })
        .await;
    let mut counted = BTreeMap::new();
    until("all entries", A_WHILE, async || {
        counted.clear();
        for event in settled(&mut client).await {
            *counted.entry((event.who, event.decision)).or_insert(0) += event.calls;
        }
        let denied: i32 = counted
            .iter()
            .filter(|((_, decision), _)| *decision == AuditDecision::Denied as i32)
            .map(|(_, calls)| calls)
            .sum();
        usize::try_from(denied).expect("a count") == CALLS
    })
    .await;
    let allowed = counted[&("writer".to_owned(), AuditDecision::Allowed as i32)];
    assert_eq!(usize::try_from(allowed).expect("a count"), done);
    // load may have refused some of them, and those are told as well
    let failed = ("writer".to_owned(), AuditDecision::Failed as i32);
    let failed = counted.get(&failed).copied().unwrap_or_default();
    assert!(usize::try_from(failed).expect("a count") <= CALLS - done);
}

#[tokio::test]
async fn a_worker_that_polls_is_told_of_once_for_each_boot() {
    let (_deployment, mut client, _folder) = guarded(&[
        ("pool", "role: worker, pools: [gpu]"),
        ("ops", "role: admin"),
    ])
    .await;
    let worker = client.worker.clone();
    let poll = async |hello: &Hello| {
        let request = AcquireLeasesRequest {
            hello: Some(hello.clone()),
            ..AcquireLeasesRequest::default()
        };
        worker
            .clone()
            .acquire_leases(with_token("pool", request))
            .await
    };
    let mut gpu = hello("w-1", 1);
    gpu.labels
        .insert("taskyard.dev/pool".to_owned(), "gpu".to_owned());
    for _ in 0..5 {
        poll(&gpu).await.expect("attached");
    }
    gpu.instance_id = random_id();
    for _ in 0..3 {
        poll(&gpu).await.expect("attached");
    }
    let mut cpu = hello("w-2", 1);
    cpu.labels
        .insert("taskyard.dev/pool".to_owned(), "cpu".to_owned());
    expect_refused(
        "another pool",
        poll(&cpu).await,
        Code::PermissionDenied,
        "POOL_DENIED",
    );
    // a stream is told of when it opens
    let hello_of_stream = AttachRequest {
        message: Some(Up::Hello(Hello {
            instance_id: random_id(),
            ..gpu.clone()
        })),
    };
    let stream = tokio_stream::iter([hello_of_stream]);
    let attached = client.worker.attach(with_token("pool", stream)).await;
    drop(attached.expect("attached"));

    let events = settled(&mut client).await;
    let told: Vec<_> = of_method(&events, "AcquireLeases")
        .into_iter()
        .map(|event| {
            (
                event.worker.as_str(),
                event.pool.as_str(),
                event.decision(),
                event.code.as_str(),
                event.peer.starts_with("127.0.0.1:"),
            )
        })
        .collect();
    let denied = (
        "w-2",
        "cpu",
        AuditDecision::Denied,
        "PERMISSION_DENIED",
        true,
    );
    let allowed = ("w-1", "gpu", AuditDecision::Allowed, "", true);
    let count = |wanted: &_| told.iter().filter(|entry| *entry == wanted).count();
    assert_eq!(
        (told.len(), count(&allowed), count(&denied)),
        (3, 2, 1),
        "{told:?}"
    );
    let attach = of_method(&events, "Attach");
    assert_eq!((attach.len(), attach[0].worker.as_str()), (1, "w-1"));
}

#[tokio::test]
async fn what_streams_are_denied_and_anothers_leases_are_written_down() {
    let (deployment, mut client, _folder) = guarded(&[
        ("owner", "role: client"),
        ("mine", "role: worker"),
        ("other", "role: worker"),
        ("narrow", "role: client, namespaces: [team-a]"),
        ("ops", "role: admin"),
    ])
    .await;
    let task = CreateTaskRequest {
        session_id: "s".to_owned(),
        task: Some(shell("true")),
        ..CreateTaskRequest::default()
    };
    let created = client.tasks.create_task(with_token("owner", task)).await;
    created.expect("created");
    let polling = AcquireLeasesRequest {
        hello: Some(hello("w", 1)),
        max_offers: 1,
        wait: Some(milliseconds(30_000)),
        ..AcquireLeasesRequest::default()
    };
    let acquired = client
        .worker
        .acquire_leases(with_token("mine", polling))
        .await;
    let lease = lease_of(&acquired.expect("attached").into_inner().offers[0]);

    let spec = GetLeaseSpecRequest {
        lease: Some(lease.clone()),
    };
    let answer = client
        .worker
        .get_lease_spec(with_token("other", spec))
        .await;
    expect_refused("the spec", answer, Code::Aborted, "LEASE_LOST");
    let push = PushOutputRequest {
        lease: Some(lease.clone()),
        run: 1,
        chunks: vec![OutputChunk {
            stream: OutputStream::Stdout.into(),
            data: b"forged"[..].into(),
            at: Some(std::time::SystemTime::now().into()),
            ..OutputChunk::default()
        }],
        ..PushOutputRequest::default()
    };
    let pushing = with_token("other", tokio_stream::iter([push]));
    let mut answers = client
        .worker
        .push_output(pushing)
        .await
        .expect("a stream")
        .into_inner();
    expect_refused(
        "a push",
        answers.message().await,
        Code::Aborted,
        "LEASE_LOST",
    );
    let watched = WatchRequest {
        namespace: "team-b".to_owned(),
        sessions: vec![WatchedSession {
            session_id: "s".to_owned(),
            ..WatchedSession::default()
        }],
        ..WatchRequest::default()
    };
    let watching = client.tasks.watch(with_token("narrow", watched)).await;
    watching.expect_err("out of reach");
    let file = WriteRequest {
        header: Some(WriteHeader {
            namespace: "team-b".to_owned(),
            session_id: "s".to_owned(),
            path: "/a".to_owned(),
            ..WriteHeader::default()
        }),
        data: b"x"[..].into(),
    };
    let writing = with_token("narrow", tokio_stream::iter([file]));
    client.files.write(writing).await.expect_err("out of reach");
    let attaching = with_token("narrow", tokio_stream::iter(Vec::new()));
    client.worker.attach(attaching).await.expect_err("a client");

    let events = settled(&mut client).await;
    for (method, who, code) in [
        ("GetLeaseSpec", "other", "ABORTED"),
        ("PushOutput", "other", "ABORTED"),
        ("Watch", "narrow", "NOT_FOUND"),
        ("Write", "narrow", "NOT_FOUND"),
        ("Attach", "narrow", "PERMISSION_DENIED"),
    ] {
        let told = of_method(&events, method);
        assert_eq!(told.len(), 1, "{method}: {told:?}");
        assert_eq!(
            (
                told[0].who.as_str(),
                told[0].decision(),
                told[0].code.as_str()
            ),
            (who, AuditDecision::Denied, code),
            "{method}"
        );
        if code == "ABORTED" {
            assert_eq!(told[0].task, lease.task_id, "{method}");
        }
    }

    // the same, as an operator asks for it
    let audit = async |words: &[&str]| -> Vec<String> {
        let words: Vec<&str> = [&["audit", "-o", "json"], words].concat();
        let shown = deployment
            .command_line()
            .env("TASKYARD_TOKEN", "ops")
            .run(&words)
            .await
            .expect_code(0);
        let shown: serde_json::Value = serde_json::from_str(&shown.text()).expect("JSON");
        let events = shown.as_array().cloned().unwrap_or_default();
        let method = |event: &serde_json::Value| event["method"].as_str().map(str::to_owned);
        events.iter().filter_map(method).collect()
    };
    let watch = "/taskyard.v1.SessionTaskService/Watch";
    assert_eq!(audit(&["--method", "Watch"]).await, [watch]);
    assert_eq!(audit(&["--method", watch]).await, [watch]);
    assert!(audit(&["--method", "atch"]).await.is_empty());
    assert_eq!(
        audit(&["--decision", "denied", "--who", "other"])
            .await
            .len(),
        2
    );
    assert!(audit(&["--decision", "failed"]).await.is_empty());
    assert!(audit(&["--until", "1h"]).await.is_empty());
    assert_eq!(
        audit(&["--since", "1h", "--denied", "--who", "narrow"])
            .await
            .len(),
        3
    );
}
