//! Who calls, by a token: what each role may, what each reaches, and what ends with the token.

use std::time::Duration;

use futures::StreamExt;
use taskyard_proto::v1::{
    DeleteSessionRequest, GetTaskRequest, ListRequest, ListSessionsRequest, ListTasksRequest,
    ListWorkersRequest, ReadOutputRequest, SetRetentionRequest, TakeWakesRequest, WaitTasksRequest,
    WaitedTask, WatchRequest, WatchedSession,
};
use taskyard_tests::refusal::{expect_refused, reason_of};
use taskyard_tests::secured::{replace, with_token, write_tokens};
use taskyard_tests::wait::{SOON, eventually, until};
use tonic::Code;

use super::identity_support::{create, guarded, list_in};

#[tokio::test]
async fn without_a_good_token_nothing_is_answered_but_the_health() {
    let (deployment, mut client, _folder) = guarded(&[
        ("ops", "role: admin"),
        ("old", "role: admin, expires_at: 2020-01-01T00:00:00Z"),
    ])
    .await;
    let listing = || ListTasksRequest::default();
    let bare = client.tasks.list_tasks(listing()).await;
    expect_refused("nothing", bare, Code::Unauthenticated, "NO_CREDENTIAL");
    for (token, reason) in [
        ("tky_guessed", "UNKNOWN_CREDENTIAL"),
        ("a.b.c", "UNKNOWN_CREDENTIAL"),
        ("old", "CREDENTIAL_EXPIRED"),
    ] {
        let answer = client.tasks.list_tasks(with_token(token, listing())).await;
        expect_refused(token, answer, Code::Unauthenticated, reason);
    }
    let good = client.tasks.list_tasks(with_token("ops", listing())).await;
    good.expect("an admin reads");
    let mut health = tonic_health::pb::health_client::HealthClient::new(client.channel.clone());
    health
        .check(tonic_health::pb::HealthCheckRequest::default())
        .await
        .expect("the health is open");
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    let mut reflection = ServerReflectionClient::new(client.channel.clone());
    let asked = reflection
        .server_reflection_info(tokio_stream::empty())
        .await;
    assert_eq!(
        asked.err().map(|status| status.code()),
        Some(Code::Unauthenticated)
    );
    let shown = deployment
        .command_line()
        .run(&["list", "--session", "s"])
        .await;
    let shown = shown.expect_code(1);
    assert!(shown.stderr.contains("TASKYARD_TOKEN"), "{}", shown.stderr);
}

#[tokio::test]
async fn each_role_may_what_it_is_for_and_nothing_else() {
    let (_deployment, mut client, _folder) = guarded(&[
        ("viewer", "role: viewer"),
        ("client", "role: client"),
        ("worker", "role: worker"),
        ("admin", "role: admin"),
    ])
    .await;
    let task = create(&mut client, "client", "", "s")
        .await
        .expect("created");
    let (mut tasks, mut admin) = (client.tasks.clone(), client.admin.clone());
    for (token, reads, changes, administers) in [
        ("viewer", true, false, false),
        ("client", true, true, false),
        ("worker", false, false, false),
        ("admin", true, true, true),
    ] {
        let get = GetTaskRequest {
            task: task.clone(),
            ..GetTaskRequest::default()
        };
        let read = tasks.get_task(with_token(token, get)).await;
        let changed = create(&mut client, token, "", "s").await;
        let set = SetRetentionRequest {
            session_id: "s".to_owned(),
            ..SetRetentionRequest::default()
        };
        let administered = admin.set_retention(with_token(token, set)).await;
        for (what, answer, may) in [
            ("read", read.map(drop), reads),
            ("change", changed.map(drop), changes),
            ("administer", administered.map(drop), administers),
        ] {
            let what = format!("{token} {what}");
            match answer {
                Ok(()) => assert!(may, "{what}"),
                refused if !may => {
                    expect_refused(&what, refused, Code::PermissionDenied, "ROLE_NEEDED");
                }
                Err(status) => panic!("{what}: {status:?}"),
            }
        }
    }
    let attaching = tokio_stream::iter(Vec::new());
    let attach = client.worker.attach(with_token("client", attaching)).await;
    expect_refused("attach", attach, Code::PermissionDenied, "ROLE_NEEDED");
}

#[tokio::test]
async fn what_is_another_tenants_is_not_there() {
    let (_deployment, mut client, _folder) = guarded(&[
        ("a", "role: client, namespaces: [team-a]"),
        (
            "one",
            "role: client, namespaces: [team-a], sessions: ['one-*']",
        ),
        ("all", "role: admin"),
    ])
    .await;
    let foreign = create(&mut client, "all", "team-b", "s")
        .await
        .expect("created");
    let other = create(&mut client, "a", "team-a", "two")
        .await
        .expect("created");
    let own = create(&mut client, "one", "team-a", "one-1")
        .await
        .expect("created");
    let unborn = "task_00000000000070008000000000000000";
    let get = |namespace: &str, session: &str, task: &str| GetTaskRequest {
        namespace: namespace.to_owned(),
        session_id: session.to_owned(),
        task: task.to_owned(),
        ..GetTaskRequest::default()
    };
    let mut tasks = client.tasks.clone();
    // the same words as for what was never there
    for (token, namespace, session, task, reason) in [
        ("a", "team-b", "", foreign.as_str(), "NAMESPACE_NOT_FOUND"),
        ("a", "never", "", unborn, "NAMESPACE_NOT_FOUND"),
        ("a", "team-a", "", foreign.as_str(), "TASK_NOT_FOUND"),
        ("a", "team-a", "", unborn, "TASK_NOT_FOUND"),
        ("a", "", "", foreign.as_str(), "NAMESPACE_NOT_FOUND"),
        ("one", "team-a", "", other.as_str(), "TASK_NOT_FOUND"),
        ("one", "team-a", "", unborn, "TASK_NOT_FOUND"),
        ("one", "team-a", "two", other.as_str(), "SESSION_NOT_FOUND"),
        ("one", "team-a", "never", unborn, "SESSION_NOT_FOUND"),
    ] {
        let answer = tasks
            .get_task(with_token(token, get(namespace, session, task)))
            .await;
        let status = expect_refused(task, answer, Code::NotFound, reason);
        assert!(
            !status.message().contains("credential"),
            "{}",
            status.message()
        );
    }
    let answer = tasks
        .get_task(with_token("one", get("team-a", "", &own)))
        .await;
    answer.expect("its own by id alone");

    let (a, one) = ("a", "one");
    let in_b = || "team-b".to_owned();
    let refusals = [
        create(&mut client, a, "team-b", "new").await.err(),
        tasks
            .list_tasks(with_token(
                a,
                ListTasksRequest {
                    namespace: in_b(),
                    ..Default::default()
                },
            ))
            .await
            .err(),
        tasks
            .wait_tasks(with_token(
                one,
                WaitTasksRequest {
                    namespace: "team-a".to_owned(),
                    tasks: vec![WaitedTask {
                        task: other.clone(),
                        ..Default::default()
                    }],
                    ..Default::default()
                },
            ))
            .await
            .err(),
        tasks
            .watch(with_token(
                one,
                WatchRequest {
                    namespace: "team-a".to_owned(),
                    sessions: vec![WatchedSession {
                        session_id: "two".to_owned(),
                        ..Default::default()
                    }],
                    ..Default::default()
                },
            ))
            .await
            .err(),
        tasks
            .take_wakes(with_token(
                one,
                TakeWakesRequest {
                    namespace: "team-a".to_owned(),
                    session_ids: vec!["one-1".to_owned(), "two".to_owned()],
                    consumer: "c".to_owned(),
                    ..Default::default()
                },
            ))
            .await
            .err(),
        tasks
            .read_output(with_token(
                one,
                ReadOutputRequest {
                    namespace: "team-a".to_owned(),
                    task: other.clone(),
                    ..Default::default()
                },
            ))
            .await
            .err(),
        tasks
            .delete_session(with_token(
                one,
                DeleteSessionRequest {
                    namespace: "team-a".to_owned(),
                    session_id: "two".to_owned(),
                    ..Default::default()
                },
            ))
            .await
            .err(),
        client
            .files
            .list(with_token(
                one,
                ListRequest {
                    namespace: "team-a".to_owned(),
                    session_id: "two".to_owned(),
                    path: "/".to_owned(),
                    ..Default::default()
                },
            ))
            .await
            .err(),
        client
            .admin
            .list_sessions(with_token(
                a,
                ListSessionsRequest {
                    namespace: in_b(),
                    ..Default::default()
                },
            ))
            .await
            .err(),
    ];
    for (index, refused) in refusals.into_iter().enumerate() {
        let status = refused.unwrap_or_else(|| panic!("call {index} was let through"));
        assert_eq!(status.code(), Code::NotFound, "call {index}: {status:?}");
    }
    let whole = ListTasksRequest {
        namespace: "team-a".to_owned(),
        ..Default::default()
    };
    let answer = tasks.list_tasks(with_token("one", whole)).await;
    expect_refused(
        "all sessions",
        answer,
        Code::PermissionDenied,
        "SESSION_NEEDED",
    );
    let sessions = ListSessionsRequest {
        namespace: "team-a".to_owned(),
        ..Default::default()
    };
    let listed = client
        .admin
        .list_sessions(with_token("one", sessions))
        .await;
    let listed = listed.expect("listed").into_inner();
    let names: Vec<_> = listed
        .sessions
        .iter()
        .map(|session| session.session_id.as_str())
        .collect();
    assert_eq!((names, listed.counts.is_none()), (vec!["one-1"], true));
    let workers = ListWorkersRequest::default();
    let answer = client.admin.list_workers(with_token("a", workers)).await;
    expect_refused(
        "workers",
        answer,
        Code::PermissionDenied,
        "WHOLE_REACH_NEEDED",
    );
}

#[tokio::test]
async fn a_list_that_changes_holds_at_once_and_ends_streams() {
    let (deployment, mut client, folder) = guarded(&[("first", "role: client")]).await;
    create(&mut client, "first", "", "s")
        .await
        .expect("created");
    let watched = WatchRequest {
        sessions: vec![WatchedSession {
            session_id: "s".to_owned(),
            ..WatchedSession::default()
        }],
        ..WatchRequest::default()
    };
    let watching = client.tasks.watch(with_token("first", watched)).await;
    let mut events = watching.expect("a stream").into_inner();
    events.message().await.expect("an event").expect("an event");
    let list = list_in(&folder);
    // a broken file changes nothing
    replace(&list, b"tokens: 7");
    until("the warning", SOON, async || {
        deployment.with_server(0, |server| server.log().contains("cannot be used"))
    })
    .await;
    create(&mut client, "first", "", "s")
        .await
        .expect("still known");
    write_tokens(&list, &[("second", "role: client")]);
    until("the new token to be known", SOON, async || {
        create(&mut client, "second", "", "s").await.is_ok()
    })
    .await;
    let old = create(&mut client, "first", "", "s").await;
    expect_refused("revoked", old, Code::Unauthenticated, "UNKNOWN_CREDENTIAL");
    let end = eventually("the stream to end", SOON, async || {
        events.message().await.err()
    })
    .await;
    assert_eq!(
        (end.code(), reason_of(&end).as_str()),
        (Code::Unauthenticated, "CREDENTIAL_ENDED")
    );
}

#[tokio::test]
async fn a_made_token_is_known_by_its_entry_and_ends_at_its_hour() {
    let (deployment, mut client, folder) = guarded(&[("ops", "role: admin")]).await;
    let made = deployment
        .command_line()
        .run(&[
            "token",
            "new",
            "--name",
            "ci",
            "--role",
            "client",
            "--namespaces",
            "team-a",
            "--expires",
            "4s",
        ])
        .await
        .expect_code(0);
    let token = made
        .stderr
        .lines()
        .find(|line| line.starts_with("tky_"))
        .expect("a token")
        .to_owned();
    assert!(!made.text().contains(&token), "the entry holds a hash only");
    replace(
        &list_in(&folder),
        format!("tokens:\n{}", made.text()).as_bytes(),
    );
    let end = eventually(
        "the token to be known, and then to expire",
        Duration::from_secs(60),
        async || {
            let status = create(&mut client, &token, "team-a", "s").await.err()?;
            (reason_of(&status) == "CREDENTIAL_EXPIRED").then_some(status)
        },
    )
    .await;
    assert_eq!(end.code(), Code::Unauthenticated);
}

/// Calls that are refused before their message is read are closed by the server itself; the transport counts that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_refusals_leave_a_connection_and_what_is_open_upon_it() {
    let (_deployment, mut client, _folder) = guarded(&[("ops", "role: admin")]).await;
    create(&mut client, "ops", "", "s").await.expect("created");
    let watched = WatchRequest {
        sessions: vec![WatchedSession {
            session_id: "s".to_owned(),
            ..WatchedSession::default()
        }],
        ..WatchRequest::default()
    };
    let watching = client.tasks.watch(with_token("ops", watched)).await;
    let mut events = watching.expect("a stream").into_inner();
    let refusals = futures::stream::iter(0..4_000).map(|_| {
        let mut client = client.clone();
        async move { create(&mut client, "guessed", "", "s").await }
    });
    let refusals: Vec<_> = refusals.buffer_unordered(64).collect().await;
    for refused in refusals {
        let what = "a guessed token";
        expect_refused(what, refused, Code::Unauthenticated, "UNKNOWN_CREDENTIAL");
    }
    let task = create(&mut client, "ops", "", "s").await.expect("created");
    eventually("the event on the same stream", SOON, async || {
        let event = events.message().await.expect("the stream holds")?;
        format!("{event:?}").contains(&task).then_some(())
    })
    .await;
}
