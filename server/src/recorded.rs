//! What servers of earlier releases gave to clients, told each other and stored as other than protobuf is understood by
//! this one. The records are `server.json` in `compat/`; `scripts/record-release` writes that of this version.

mod objects;
#[path = "../../compat/releases.rs"]
mod releases;
mod requests;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

use serde_json::{Value, json};
use taskyard_core::id::{SessionUid, TaskId, WorkerSessionId};
use taskyard_core::webhook::WebhookEvent;

use crate::background::webhooks::letter::Letter;
use crate::control::cursor::Cursor;
use crate::control::page_token;
use crate::control::task_secrets;
use crate::events::payload::Payload;
use crate::key_ring::{KeyId, KeyRing, Sealed};
use crate::store::listen::CHANNEL;
use crate::store::webhook_deliveries::DueDelivery;
use crate::store::webhook_secret::WebhookSecret;
use releases::{Release, own, releases};

const SERVER: &str = "server.json";
const STORE: &str = "recorded-1-2";
const SCOPE: [&str; 3] = ["list tasks", "7", "queued"];
const POSITION: &str = "42 task_recorded";
const SENT_AT: i64 = 1_763_740_800;
const VALUE: &[u8] = b"the value";
/// The same each time, so that the record is.
const NONCE: [u8; 24] = [5; 24];

#[test]
fn this_version_is_recorded() {
    let releases: Vec<Release> = recorded().into_iter().map(|(release, _)| release).collect();
    assert!(own(&releases).path(SERVER).is_file());
}

#[test]
fn recorded_cursors_name_their_place() {
    for (_, record) in recorded() {
        let text = text(&record["cursor"]);
        let cursor = Cursor::new(STORE, SessionUid(7), 42);
        assert_eq!(Cursor::decode(text).ok(), Some(cursor));
        assert_eq!(cursor.encode(), text, "older servers read it, too");
    }
}

#[test]
fn recorded_page_tokens_give_their_position() {
    for (_, record) in recorded() {
        let text = text(&record["page_token"]);
        let position = page_token::decode(&SCOPE, text).expect("it is of this listing");
        assert_eq!(position.as_deref(), Some(POSITION));
        assert_eq!(page_token::encode(&SCOPE, POSITION), text);
    }
}

#[test]
fn servers_of_recorded_releases_are_heard_and_hear() {
    for (_, record) in recorded() {
        assert_eq!(text(&record["notification_channel"]), CHANNEL);
        let said = record["notifications"].as_array().expect("a list");
        let mut heard = Payload::default();
        for said in said {
            let (server, payload) = Payload::decode(text(said));
            assert_eq!(server, "server");
            heard.merge(payload);
        }
        assert_eq!(heard, touched());
        let mut words: Vec<&str> = said.iter().flat_map(|said| words_of(text(said))).collect();
        let own = touched().encode("server");
        let mut own_words: Vec<&str> = own.iter().flat_map(|said| words_of(said)).collect();
        words.sort_unstable();
        own_words.sort_unstable();
        assert_eq!(words, own_words);
    }
}

#[test]
fn recorded_secrets_open() {
    for (_, record) in recorded() {
        let secret = &record["secret"];
        let sealed = Sealed {
            key: KeyId(array(&secret["key_id"])),
            nonce: array(&secret["nonce"]),
            bytes: bytes(&secret["sealed"]),
        };
        let opened = key_ring(&secret["key"]).open(&place(), &sealed);
        assert_eq!(opened.as_deref(), Ok(VALUE));
    }
}

#[test]
fn receivers_of_webhooks_get_what_they_got() {
    for (_, record) in recorded() {
        let webhook = &record["webhook"];
        let letter = Letter::write(&delivery(text(&webhook["stored"])), SENT_AT);
        let letter = letter.expect("what is stored can be read");
        let body: Value = serde_json::from_slice(&letter.body).expect("JSON");
        assert!(has_all_of(&body, &webhook["body"]), "{body}");
        for name in webhook["headers"].as_array().expect("a list") {
            assert!(letter.headers.contains_key(text(name)), "{name}");
        }
        // over the bytes that are sent: a body with more in it has another one
        if body == webhook["body"] {
            let signature = letter.headers["taskyard-signature"].to_str().ok();
            assert_eq!(signature, webhook["signature"].as_str());
        }
    }
}

#[test]
fn results_have_all_that_they_had() {
    for (release, record) in recorded() {
        let results = record["results"].as_object().expect("results by name");
        assert!(!results.is_empty());
        for (name, then) in results {
            let now = fs::read(golden().join(name)).expect("a recorded result stays golden");
            let now: Value = serde_json::from_slice(&now).expect("JSON");
            assert!(
                has_all_of(&now, then),
                "{:?}: {name}: {now}",
                release.folder
            );
        }
    }
}

fn recorded() -> Vec<(Release, Value)> {
    static RECORDED: Once = Once::new();
    let releases = releases(&RECORDED, |release| {
        let text = serde_json::to_string_pretty(&record(release)).expect("JSON");
        fs::write(release.path(SERVER), format!("{text}\n")).expect("written");
    });
    let read = |release: Release| {
        let record = serde_json::from_slice(&release.read(SERVER)).expect("JSON");
        (release, record)
    };
    releases.into_iter().map(read).collect()
}

fn record(release: &Release) -> Value {
    let key = json!("4b".repeat(32));
    let sealed = key_ring(&key)
        .seal_with(NONCE, &place(), VALUE)
        .expect("there is a key");
    let stored = r#"{"task":{"id":"task_recorded","generation":3,"state":"running"},"message":{"text":"hello"},"question":{"prompt":"go on?"}}"#;
    let letter = Letter::write(&delivery(stored), SENT_AT).expect("readable");
    let body: Value = serde_json::from_slice(&letter.body).expect("JSON");
    let mut headers: Vec<&str> = letter.headers.keys().map(|name| name.as_str()).collect();
    headers.sort_unstable();
    let results = fs::read_dir(golden())
        .expect("golden results")
        .flatten()
        .map(|entry| {
            let name = entry.file_name().to_str().expect("a name").to_owned();
            let content = fs::read(entry.path()).expect("a result");
            (name, serde_json::from_slice(&content).expect("JSON"))
        });
    json!({
        "cursor": Cursor::new(STORE, SessionUid(7), 42).encode(),
        "page_token": page_token::encode(&SCOPE, POSITION),
        "notification_channel": CHANNEL,
        "notifications": touched().encode("server"),
        "secret": {
            "key": key,
            "key_id": hex(&sealed.key.0),
            "nonce": hex(&sealed.nonce),
            "sealed": hex(&sealed.bytes),
        },
        "webhook": {
            "stored": stored,
            "body": body,
            "headers": headers,
            "signature": letter.headers["taskyard-signature"].to_str().expect("a text"),
        },
        "results": results.collect::<serde_json::Map<_, _>>(),
        "requests": requests::record(release),
        "objects": objects::record(),
    })
}

fn touched() -> Payload {
    let mut payload = Payload::default();
    payload.add_session(SessionUid(7));
    payload.add_progress(SessionUid(8));
    payload.add_worker(WorkerSessionId(9));
    payload.add_queue();
    payload.add_followed(TaskId(7));
    payload.add_output(TaskId(8));
    payload
}

fn words_of(said: &str) -> Vec<&str> {
    said.split_once('|')
        .expect("server and words")
        .1
        .split(' ')
        .collect()
}

fn delivery(stored: &str) -> DueDelivery {
    DueDelivery {
        id: 7,
        webhook: 1,
        attempt: 1,
        tries_left: 11,
        url: "http://a.example/".to_owned(),
        secret: Some(WebhookSecret::new("key".to_owned())),
        event: WebhookEvent::Message,
        body: stored.to_owned(),
        session_id: "demo".to_owned(),
        display_name: "the build".to_owned(),
        kind: "command".to_owned(),
    }
}

fn place() -> Vec<u8> {
    task_secrets::place(3, TaskId(7), "TOKEN")
}

fn key_ring(key: &Value) -> KeyRing {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys");
    fs::write(&path, text(key)).expect("written");
    KeyRing::read(&path).expect("a key")
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Whether a reader finds everything where it was; what is beside it, it passes over.
fn has_all_of(now: &Value, then: &Value) -> bool {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => then
            .iter()
            .all(|(key, then)| now.get(key).is_some_and(|now| has_all_of(now, then))),
        (Value::Array(now), Value::Array(then)) => {
            now.len() == then.len()
                && now
                    .iter()
                    .zip(then)
                    .all(|(now, then)| has_all_of(now, then))
        }
        (now, then) => now == then,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(digits: &Value) -> Vec<u8> {
    let digits = text(digits);
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}

fn array<const N: usize>(digits: &Value) -> [u8; N] {
    bytes(digits).try_into().expect("as many as there were")
}
