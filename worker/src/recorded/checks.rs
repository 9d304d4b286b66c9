//! Records are read, and what is read of them is all that they say.

use std::fs;
use std::path::Path;
use std::sync::Once;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::recent;
use super::releases::{Release, own, releases};
use super::samples::{LAYOUT, SPOOLED, lease, samples, survival};
use crate::lease::Lease;
use crate::ledger::{LedgerEntry, StateDirectory};
use crate::output::spool::{ReadOutcome, SpoolReader, SpoolWriter};
use crate::process::{LastWords, Launch, Survival};
use crate::shim::message::{AttachRequest, Command, Inbox, Report, encode, from_hex, to_hex};

const WORKER: &str = "worker.json";
const STATE_ID: [u8; 16] = [7; 16];

#[test]
fn this_version_is_recorded() {
    assert!(own(&recorded()).path(WORKER).is_file());
}

#[test]
fn what_a_recorded_worker_and_its_shims_said_is_understood_whole() {
    for release in recorded() {
        for (name, said) in &section(&release, "messages") {
            let heard = reread(name, said);
            assert!(
                says_all_of(&heard, said),
                "{:?}: {name}: of {said} this is left: {heard}",
                release.folder
            );
        }
    }
}

#[test]
fn nothing_in_a_record_is_empty() {
    for release in recorded() {
        for (name, said) in &section(&release, "messages") {
            assert!(!is_hollow(said), "{:?}: {name}: {said}", release.folder);
        }
    }
}

#[test]
fn messages_come_in_recorded_frames() {
    for release in recorded() {
        let places = section(&release, "places");
        let mut inbox = Inbox::new(1 << 20);
        inbox.push(&bytes(&places["frame"]));
        let command = inbox.next::<Command>().expect("it is understood");
        assert_eq!(command, Some(Command::Kill));
    }
}

#[test]
fn recorded_files_are_found_and_read() {
    for release in recorded() {
        let places = section(&release, "places");
        let text = |name: &str| places[name].as_str().expect("a text").to_owned();
        assert_eq!(Lease::from_file_name(&text("ledger_file")), Ok(lease()));
        assert_eq!(lease().directory_name(), text("run_directory"));
        assert_eq!(file_name(&Survival::socket(Path::new("/"))), text("socket"));
        assert_eq!(file_name(&survival().last_words()), text("last_words"));
        assert_eq!(crate::shim::ARGUMENT, text("shim_argument"));

        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("state_id"), bytes(&places["state_id"])).expect("written");
        let directory = StateDirectory::open(folder.path()).expect("it opens");
        assert_eq!(directory.state_id(), STATE_ID);
        assert_eq!(to_hex(&directory.place_id()), text("place_id"));

        let spool = folder.path().join("spool");
        fs::write(&spool, bytes(&places["spool"])).expect("written");
        let reader = SpoolReader::open(&spool).expect("it opens");
        assert_eq!(reader.layout(), LAYOUT);
        let total = reader.committed().expect("its marks are read");
        assert_eq!(total, SPOOLED.len() as u64);
        for kept in reader.retained(total).expect("its marks are read") {
            let mut offset = kept.start;
            while offset < kept.end {
                // the ring's end comes between
                let read = reader.read(offset, 64, total).expect("it is read");
                let ReadOutcome::Bytes(bytes) = read else {
                    panic!("{offset}: {read:?}");
                };
                assert!(SPOOLED[offset as usize..].starts_with(&bytes), "{bytes:?}");
                offset += bytes.len() as u64;
            }
        }
    }
}

pub(super) fn recorded() -> Vec<Release> {
    static RECORDED: Once = Once::new();
    releases(&RECORDED, |release| {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = folder.path().join("spool");
        SpoolWriter::create(&spool, LAYOUT)
            .expect("created")
            .append(SPOOLED);
        fs::write(folder.path().join("state_id"), STATE_ID).expect("written");
        let directory = StateDirectory::open(folder.path()).expect("it opens");
        let record = json!({
            "messages": samples().into_iter().collect::<Map<_, _>>(),
            "recent": recent::record(),
            "places": {
                "ledger_file": lease().file_name(),
                "run_directory": lease().directory_name(),
                "socket": file_name(&Survival::socket(Path::new("/"))),
                "last_words": file_name(&survival().last_words()),
                "shim_argument": crate::shim::ARGUMENT,
                "state_id": to_hex(&STATE_ID),
                "place_id": to_hex(&directory.place_id()),
                "spool": to_hex(&fs::read(&spool).expect("read")),
                "frame": to_hex(&encode(&Command::Kill).expect("encoded")),
            },
        });
        let text = serde_json::to_string_pretty(&record).expect("JSON");
        fs::write(release.path(WORKER), format!("{text}\n")).expect("written");
    })
}

pub(super) fn section(release: &Release, name: &str) -> Map<String, Value> {
    let record: Value = serde_json::from_slice(&release.read(WORKER)).expect("JSON");
    record[name].as_object().expect("a section").clone()
}

/// What this version would say after it has heard `said`. The name's first word tells who says it to whom.
fn reread(name: &str, said: &Value) -> Value {
    match name.split('.').next() {
        Some("ledger") => again::<LedgerEntry>(name, said),
        Some("launch") => again::<Launch>(name, said),
        Some("command") => again::<Command>(name, said),
        Some("report") => again::<Report>(name, said),
        Some("attach_request") => again::<AttachRequest>(name, said),
        Some("last_words") => again::<LastWords>(name, said),
        Some(_) | None => panic!("{name}: nobody says that any more"),
    }
}

fn again<T: DeserializeOwned + Serialize>(name: &str, said: &Value) -> Value {
    let heard: T = serde_json::from_value(said.clone())
        .unwrap_or_else(|error| panic!("{name}: not understood: {error}: {said}"));
    serde_json::to_value(&heard).expect("JSON")
}

/// Whether a reader of the recorded release finds everything where it looks for it; what is beside it, it passes over.
fn says_all_of(now: &Value, then: &Value) -> bool {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => then
            .iter()
            .all(|(key, then)| now.get(key).is_some_and(|now| says_all_of(now, then))),
        (Value::Array(now), Value::Array(then)) => {
            now.len() == then.len()
                && now
                    .iter()
                    .zip(then)
                    .all(|(now, then)| says_all_of(now, then))
        }
        (now, then) => now == then,
    }
}

fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty() || list.iter().any(is_hollow),
        Value::Object(map) => map.is_empty() || map.values().any(is_hollow),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

pub(super) fn bytes(digits: &Value) -> Vec<u8> {
    digits
        .as_str()
        .and_then(from_hex)
        .expect("hexadecimal digits")
}

pub(super) fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .expect("a name")
}
