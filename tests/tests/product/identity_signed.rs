//! Signed tokens: whose signature is believed, and what the claims must say.

use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_refused;
use taskyard_tests::secured::{Signer, replace, seconds_from_now, text};
use taskyard_tests::wait::{SOON, until};
use tonic::Code;

use super::identity_support::create;

#[tokio::test]
async fn signed_tokens_are_held_to_their_keys_and_claims() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("jwks.json");
    let (first, second) = (Signer::new("k1"), Signer::new("k2"));
    replace(&keys, first.jwks().as_bytes());
    let deployment = Deployment::builder()
        .workers(Vec::new())
        .server_env(&[
            ("TASKYARD_AUTH_JWKS", text(&keys)),
            ("TASKYARD_AUTH_ISSUER", "https://id.example"),
        ])
        .start()
        .await;
    let mut client = deployment.client().await;
    let grant = || serde_json::json!({"role": "client", "namespaces": ["team-*"]});
    let good = first.token("ci", grant(), |_| ());
    create(&mut client, &good, "team-a", "s")
        .await
        .expect("a good token");
    let elsewhere = create(&mut client, &good, "other", "s").await;
    assert_eq!(
        elsewhere.err().map(|status| status.code()),
        Some(Code::NotFound)
    );
    let bad = "BAD_TOKEN_SIGNATURE_OR_CLAIMS";
    let claims = serde_json::json!({"sub": "ci", "aud": "taskyard", "exp": seconds_from_now(60)});
    for (what, token, reason) in [
        (
            "expired",
            first.token("ci", grant(), |claims| {
                claims["exp"] = seconds_from_now(-60).into()
            }),
            "CREDENTIAL_EXPIRED",
        ),
        (
            "audience",
            first.token("ci", grant(), |claims| claims["aud"] = "else".into()),
            bad,
        ),
        (
            "issuer",
            first.token("ci", grant(), |claims| claims["iss"] = "else".into()),
            bad,
        ),
        ("key", second.token("ci", grant(), |_| ()), bad),
        (
            "none",
            first.signed(&serde_json::json!({"alg": "none"}), &claims),
            bad,
        ),
        (
            "HS256",
            first.signed(&serde_json::json!({"alg": "HS256", "kid": "k1"}), &claims),
            bad,
        ),
    ] {
        let answer = create(&mut client, &token, "team-a", "s").await;
        expect_refused(what, answer, Code::Unauthenticated, reason);
    }
    replace(&keys, second.jwks().as_bytes());
    let rotated = second.token("ci", grant(), |_| ());
    until("the new key to be known", SOON, async || {
        create(&mut client, &rotated, "team-a", "s").await.is_ok()
    })
    .await;
    let old = create(&mut client, &good, "team-a", "s").await;
    expect_refused("the old key", old, Code::Unauthenticated, bad);
}

#[tokio::test]
async fn keys_of_a_url_are_fetched_again_for_a_key_that_is_not_known() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (first, second) = (Signer::new("k1"), Signer::new("k2"));
    let (served, document) = tokio::sync::watch::channel(first.jwks());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let body = document.borrow().clone();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let url = format!("http://{address}/keys");
    let deployment = Deployment::builder()
        .workers(Vec::new())
        .server_env(&[("TASKYARD_AUTH_JWKS", url.as_str())])
        .start()
        .await;
    let mut client = deployment.client().await;
    let grant = || serde_json::json!({"role": "client"});
    let token = first.token("ci", grant(), |_| ());
    until("the keys to be fetched", SOON, async || {
        create(&mut client, &token, "", "s").await.is_ok()
    })
    .await;
    served.send_replace(second.jwks());
    let token = second.token("ci", grant(), |_| ());
    // the next fetch by itself would come after minutes
    until("the new key to be fetched", SOON, async || {
        create(&mut client, &token, "", "s").await.is_ok()
    })
    .await;
}
