//! The audit log.

use taskyard_proto::v1::{AuditDecision, ListAuditEventsRequest};
use taskyard_tests::secured::with_token;
use taskyard_tests::wait::{SOON, eventually};

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
