//! Signed tokens of an issuer that serves its keys at a URL: with a certificate of a private authority, keys that change,
//! and tokens whose keys nobody knows.

use std::process::Command;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use taskyard_proto::v1::{WatchRequest, WatchedSession};
use taskyard_tests::binaries;
use taskyard_tests::client::Client;
use taskyard_tests::deployment::Deployment;
use taskyard_tests::issuer::{Issuer, RsaSigner};
use taskyard_tests::refusal::{expect_refused, reason_of};
use taskyard_tests::secured::{Authority, Signer, text, with_token};
use taskyard_tests::wait::{SOON, eventually, until};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::identity_support::create;

/// Beyond two of the times in which unknown keys are fetched once.
const TWO_FETCHES: Duration = Duration::from_secs(60);

fn grant() -> Value {
    json!({"role": "client"})
}

async fn served(env: &[(&str, &str)]) -> (Deployment, Client) {
    let deployment = Deployment::builder()
        .workers(Vec::new())
        .server_env(env)
        .start()
        .await;
    let client = deployment.client().await;
    (deployment, client)
}

#[tokio::test]
async fn keys_of_a_private_issuer_change_while_the_server_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "issuers");
    let (first, second) = (RsaSigner::new("k1"), Signer::new("k2"));
    let certificate = authority.issue("issuer", "issuer");
    let issuer = Issuer::start(first.jwks(), Some(&certificate)).await;
    let (url, ca) = (issuer.url(), authority.path());
    let (_deployment, mut client) = served(&[
        ("TASKYARD_AUTH_JWKS", url.as_str()),
        ("TASKYARD_AUTH_JWKS_CA", text(&ca)),
    ])
    .await;
    let old = first.token("ci", grant(), 600);
    until("the keys to be fetched", SOON, async || {
        create(&mut client, &old, "", "s").await.is_ok()
    })
    .await;
    // good for 15 s more, leeway included
    let short = first.token("ci", grant(), -15);
    let watched = WatchRequest {
        sessions: vec![WatchedSession {
            session_id: "s".to_owned(),
            ..WatchedSession::default()
        }],
        ..WatchRequest::default()
    };
    let watching = client
        .tasks
        .clone()
        .watch(with_token(&short, watched))
        .await;
    let mut events = watching.expect("a stream").into_inner();
    events.message().await.expect("an event").expect("an event");

    issuer.publish(second.jwks());
    let new = second.token("ci", grant(), |_| ());
    until(
        "the new key to be fetched",
        TWO_FETCHES,
        async || match create(&mut client, &new, "", "s").await {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(reason_of(&status), "KEY_NOT_FETCHED");
                false
            }
        },
    )
    .await;
    // the old key is gone: its tokens are refused, at last for good
    let refused = eventually("the old key to be refused", TWO_FETCHES, async || {
        let status = create(&mut client, &old, "", "s").await.err()?;
        (reason_of(&status) != "KEY_NOT_FETCHED").then_some(status)
    })
    .await;
    assert_eq!(
        (refused.code(), reason_of(&refused).as_str()),
        (Code::Unauthenticated, "BAD_TOKEN_SIGNATURE_OR_CLAIMS")
    );
    // a stream of the old key lasts as long as its token
    let end = eventually("the stream to end", SOON, async || {
        events.message().await.err()
    })
    .await;
    assert_eq!(reason_of(&end), "CREDENTIAL_ENDED");
}

#[tokio::test]
async fn an_issuer_that_nobody_vouches_for_is_not_believed() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "issuers");
    let others = Authority::new(folder.path(), "others");
    let signer = RsaSigner::new("k1");
    let certificate = authority.issue("issuer", "issuer");
    let issuer = Issuer::start(signer.jwks(), Some(&certificate)).await;
    let (url, ca) = (issuer.url(), others.path());
    let (deployment, mut client) = served(&[
        ("TASKYARD_AUTH_JWKS", url.as_str()),
        ("TASKYARD_AUTH_JWKS_CA", text(&ca)),
    ])
    .await;
    until("the warning", SOON, async || {
        deployment.with_server(0, |server| server.log().contains("cannot be fetched"))
    })
    .await;
    let token = signer.token("ci", grant(), 600);
    let refused = create(&mut client, &token, "", "s").await;
    // it may be known once the issuer is
    let status = expect_refused("no keys", refused, Code::Unavailable, "KEY_NOT_FETCHED");
    assert!(status.get_details_retry_info().is_some());
    assert_eq!(issuer.fetches(), 0, "nothing was asked of a stranger");

    for (jwks, ca, code) in [
        ("http://localhost:1/keys", text(&ca), 2),
        ("https://localhost:1/keys", "/no/such/file.pem", 125),
    ] {
        let ended = Command::new(binaries::taskyard())
            .args(["server", "--listen", "127.0.0.1:0", "--database-url"])
            .arg(deployment.database().url())
            .args(["--auth-jwks", jwks, "--auth-jwks-ca", ca])
            .env("TASKYARD_ADMIN_LISTEN", "off")
            .output()
            .expect("started");
        let shown = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{shown}");
        assert!(shown.contains("--auth-jwks-ca"), "{shown}");
    }
}

#[tokio::test]
async fn calls_that_come_while_keys_are_fetched_wait_or_come_again() {
    let (first, second) = (Signer::new("k1"), Signer::new("k2"));
    let issuer = Issuer::start(first.jwks(), None).await;
    let url = issuer.url();
    let (_deployment, mut client) = served(&[("TASKYARD_AUTH_JWKS", url.as_str())]).await;
    let known = first.token("ci", grant(), |_| ());
    until("the keys to be fetched", SOON, async || {
        create(&mut client, &known, "", "s").await.is_ok()
    })
    .await;
    issuer.set_open(false);
    issuer.publish(second.jwks());
    let before = issuer.fetches();
    let new = second.token("ci", grant(), |_| ());
    let calls = (0..20).map(|_| {
        let (mut client, new) = (client.clone(), new.clone());
        async move {
            eventually(
                "the new key to be known",
                TWO_FETCHES,
                async || match create(&mut client, &new, "", "s").await {
                    Ok(task) => Some(task),
                    Err(status) => {
                        expect_later(&status);
                        None
                    }
                },
            )
            .await
        }
    });
    let opening = async {
        until("a fetch", TWO_FETCHES, async || issuer.fetches() > before).await;
        issuer.set_open(true);
    };
    let (tasks, ()) = tokio::join!(join_all(calls), opening);
    assert_eq!(tasks.len(), 20);
}

#[tokio::test]
async fn made_up_key_names_bring_few_fetches() {
    let (known, unknown) = (Signer::new("k1"), Signer::new("made-up"));
    let issuer = Issuer::start(known.jwks(), None).await;
    let url = issuer.url();
    let (_deployment, mut client) = served(&[("TASKYARD_AUTH_JWKS", url.as_str())]).await;
    let good = known.token("ci", grant(), |_| ());
    until("the keys to be fetched", SOON, async || {
        create(&mut client, &good, "", "s").await.is_ok()
    })
    .await;
    let before = issuer.fetches();
    let began = Instant::now();
    let mut refused_for_good = 0;
    for number in 0..300 {
        let header = json!({"alg": "EdDSA", "kid": format!("made-up-{number}")});
        let token = unknown.signed(&header, &json!({}));
        let status = create(&mut client, &token, "", "s").await.err();
        let status = status.expect("nobody is let in");
        if status.code() == Code::Unauthenticated {
            refused_for_good += 1;
        } else {
            expect_later(&status);
        }
    }
    // one in ten seconds, and one that may have been due by itself
    let most = usize::try_from(began.elapsed().as_secs() / 10).expect("few") + 2;
    assert!(issuer.fetches() - before <= most, "{}", issuer.fetches());
    assert!(refused_for_good <= most, "{refused_for_good}");
    let answer = create(&mut client, &good, "", "s").await;
    answer.expect("those who are known are not held up");
}

#[track_caller]
fn expect_later(status: &Status) {
    assert_eq!(
        (status.code(), reason_of(status).as_str()),
        (Code::Unavailable, "KEY_NOT_FETCHED"),
        "{status:?}"
    );
    let after = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay)
        .expect("a time to come again");
    assert!(after >= Duration::from_secs(1) && after <= Duration::from_secs(10));
}
