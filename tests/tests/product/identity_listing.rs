//! What a credential for some sessions gets to see in lists, and how.

use taskyard_proto::v1::{ListSessionsRequest, ListSessionsResponse};
use taskyard_tests::client::Client;
use taskyard_tests::secured::with_token;

use super::identity_support::{create, guarded};

async fn page(client: &mut Client, token: &str, size: i32, at: &str) -> ListSessionsResponse {
    let request = ListSessionsRequest {
        namespace: "team-a".to_owned(),
        page_size: size,
        page_token: at.to_owned(),
    };
    let listed = client.admin.list_sessions(with_token(token, request)).await;
    listed.expect("listed").into_inner()
}

/// The names on each page, from the first to the last.
async fn pages(client: &mut Client, token: &str, size: i32) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut at = String::new();
    loop {
        let found = page(client, token, size, &at).await;
        assert_eq!(found.counts.is_some(), token == "all" && at.is_empty());
        let names = found.sessions.into_iter().map(|found| found.session_id);
        pages.push(names.collect());
        at = found.next_page_token;
        if at.is_empty() {
            return pages;
        }
    }
}

#[tokio::test]
async fn a_narrow_credential_gets_full_pages_of_its_own_sessions() {
    let (_deployment, mut client, _folder) = guarded(&[
        ("all", "role: admin"),
        (
            "some",
            "role: viewer, namespaces: [team-a], sessions: ['own-*', 'own-1*', single, 'x_%*', absent]",
        ),
        ("none", "role: viewer, namespaces: [team-a], sessions: ['nobody-*']"),
        ("last", "role: viewer, namespaces: [team-a], sessions: [\"\u{10FFFF}*\"]"),
    ])
    .await;
    let mut expected = Vec::new();
    let mut newest = Vec::new();
    for number in 0..12 {
        // others' are in between, some of them with names that are nearly own ones
        for other in [
            format!("other-{number}"),
            format!("own.{number}"),
            format!("xy%{number}"),
        ] {
            create(&mut client, "all", "team-a", &other)
                .await
                .expect("created");
            newest.push(other);
        }
        let own = match number {
            3 => "single".to_owned(),
            5 => "x_%y".to_owned(),
            _ => format!("own-{number}"),
        };
        create(&mut client, "all", "team-a", &own)
            .await
            .expect("created");
        // the same name of another tenant is another session
        create(&mut client, "all", "team-b", &own)
            .await
            .expect("created");
        expected.push(own.clone());
        newest.push(own);
    }
    create(&mut client, "all", "team-a", "\u{10FFFF}z")
        .await
        .expect("created");
    newest.push("\u{10FFFF}z".to_owned());
    expected.reverse();
    newest.reverse();
    let found = pages(&mut client, "some", 5).await;
    let sizes: Vec<usize> = found.iter().map(Vec::len).collect();
    assert_eq!((sizes, found.concat()), (vec![5, 5, 2], expected));
    assert_eq!(pages(&mut client, "none", 5).await, [Vec::<String>::new()]);
    assert_eq!(pages(&mut client, "last", 5).await, [["\u{10FFFF}z"]]);
    assert_eq!(pages(&mut client, "all", 20).await.concat(), newest);
}
