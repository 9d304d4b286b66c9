//! The audit log.

use taskyard_proto::v1::{AuditDecision, AuditEvent, GetTaskRequest, ListAuditEventsRequest};
use taskyard_tests::client::Client;
use taskyard_tests::refusal::expect_refused;
use taskyard_tests::secured::with_token;
use taskyard_tests::wait::{SOON, eventually};
use tonic::Code;

use super::identity_support::{create, guarded};

#[tokio::test]
async fn what_was_done_and_what_was_denied_is_written_down_for_good() {
    let (deployment, mut client, _folder) = guarded(&[
        ("writer", "role: client, namespaces: [team-a]"),
        ("reader", "role: viewer"),
        ("ops", "role: admin"),
    ])
    .await;
    create(&mut client, "writer", "team-a", "s")
        .await
        .expect("created");
    create(&mut client, "writer", "team-b", "s")
        .await
        .expect_err("out of reach");
    create(&mut client, "reader", "team-a", "s")
        .await
        .expect_err("a viewer");
    create(&mut client, "nobody", "team-a", "s")
        .await
        .expect_err("unknown");
    let mut admin = client.admin.clone();
    let events = eventually("the entries", SOON, async || {
        let listing = with_token("ops", ListAuditEventsRequest::default());
        let events = admin
            .list_audit_events(listing)
            .await
            .expect("listed")
            .into_inner()
            .events;
        (events.len() >= 4).then_some(events)
    })
    .await;
    let told: Vec<_> = events
        .iter()
        .rev()
        .map(|event| {
            (
                event.who.as_str(),
                event.decision(),
                event.code.as_str(),
                event.namespace.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("writer", AuditDecision::Allowed, "", "team-a"),
            ("writer", AuditDecision::Denied, "NOT_FOUND", "team-b"),
            ("reader", AuditDecision::Denied, "PERMISSION_DENIED", ""),
            ("", AuditDecision::Denied, "UNAUTHENTICATED", ""),
        ]
    );
    assert!(
        events
            .iter()
            .all(|event| event.peer.starts_with("127.0.0.1:") && event.at.is_some())
    );
    let mut request = ListAuditEventsRequest {
        page_size: 3,
        ..Default::default()
    };
    let page = admin
        .list_audit_events(with_token("ops", request.clone()))
        .await;
    let page = page.expect("a page").into_inner();
    assert_eq!(page.events.len(), 3);
    request.page_token = page.next_page_token;
    let page = admin.list_audit_events(with_token("ops", request)).await;
    assert_eq!(page.expect("a page").into_inner().events.len(), 1);
    let shown = deployment
        .command_line()
        .env("TASKYARD_TOKEN", "ops")
        .run(&["audit", "--denied", "--who", "reader", "-o", "json"])
        .await
        .expect_code(0);
    let shown: serde_json::Value = serde_json::from_str(&shown.text()).expect("JSON");
    assert_eq!(shown[0]["code"], "PERMISSION_DENIED");
    assert_eq!(shown.as_array().map(Vec::len), Some(1));

    let mut database = deployment.database().connect().await;
    for statement in [
        "update audit_event set who = 'x'",
        "delete from audit_event",
        "truncate audit_event",
    ] {
        let refused = sqlx::query(statement).execute(&mut database).await;
        let refused = refused.expect_err(statement).to_string();
        assert!(refused.contains("append-only"), "{statement}: {refused}");
    }
}

/// The entries that are there once there are so many, oldest first.
async fn entries(client: &Client, count: usize) -> Vec<AuditEvent> {
    let mut admin = client.admin.clone();
    let mut events = eventually("the entries", SOON, async || {
        let listing = with_token("ops", ListAuditEventsRequest::default());
        let listed = admin.list_audit_events(listing).await.expect("listed");
        let events = listed.into_inner().events;
        (events.len() >= count).then_some(events)
    })
    .await;
    events.reverse();
    events
}

fn get(task: &str) -> GetTaskRequest {
    GetTaskRequest {
        namespace: "team-b".to_owned(),
        session_id: "s".to_owned(),
        task: task.to_owned(),
        ..GetTaskRequest::default()
    }
}

#[tokio::test]
async fn a_name_with_a_zero_byte_keeps_nothing_out_of_the_log() {
    let (_deployment, mut client, _folder) = guarded(&[
        ("writer", "role: client, namespaces: [team-a]"),
        ("ops", "role: admin"),
    ])
    .await;
    let asked = client.tasks.get_task(with_token("writer", get("t1\0")));
    asked.await.expect_err("out of reach");
    create(&mut client, "writer", "team-a", "s")
        .await
        .expect("created");
    let told = entries(&client, 2).await;
    assert_eq!(told[0].task, "t1\u{FFFD}");
    assert_eq!(told[1].decision(), AuditDecision::Allowed);

    let request = ListAuditEventsRequest {
        who: "wri\0ter".to_owned(),
        ..Default::default()
    };
    let listed = client.admin.list_audit_events(with_token("ops", request));
    expect_refused(
        "a zero byte",
        listed.await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
}

#[tokio::test]
async fn an_entry_that_the_database_refuses_costs_no_other_one() {
    let (deployment, mut client, _folder) = guarded(&[
        ("writer", "role: client, namespaces: [team-a]"),
        ("ops", "role: admin"),
    ])
    .await;
    let mut database = deployment.database().connect().await;
    sqlx::query("alter table audit_event add constraint no_poison check (task <> 'poison')")
        .execute(&mut database)
        .await
        .expect("a constraint");
    let tasks = ["one", "poison", "two", "poison", "three"];
    let asked = tasks.map(|task| {
        let mut tasks = client.tasks.clone();
        async move { tasks.get_task(with_token("writer", get(task))).await }
    });
    for answer in futures::future::join_all(asked).await {
        answer.expect_err("out of reach");
    }
    create(&mut client, "writer", "team-a", "s")
        .await
        .expect("created");
    let mut told: Vec<_> = entries(&client, 4).await;
    told.sort_by(|one, other| one.task.cmp(&other.task));
    let told: Vec<_> = told.iter().map(|event| event.task.as_str()).collect();
    assert_eq!(told, ["", "one", "three", "two"]);
}
