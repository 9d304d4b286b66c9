//! Results that a worker of an earlier release kept for the case of a restore are found by this one, each under the store
//! that acknowledged it, and what this one keeps by the earlier one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::checks::{bytes, file_name, recorded, section};
use super::samples::lease;
use crate::lease::{CollectedFile, Collection, Finish, StreamFacts, StructuredOutput};
use crate::ledger::{FinishedRecord, Ledger, LedgerEntry, StateDirectory};
use crate::recent::{RecentLimits, RecentResults, StoreKey};
use crate::shim::message::to_hex;
use crate::workspace::{Workspace, Workspaces};

const SECTION: &str = "recent";
const STORE: &str = "7000000000000000001-1";
const LIMITS: RecentLimits = RecentLimits {
    age: Duration::from_secs(900),
    entries: 10,
    file_bytes: 1 << 30,
};

#[tokio::test]
async fn recorded_results_are_told_again_to_another_store_only() {
    for release in recorded() {
        let recent = section(&release, SECTION);
        let folder = tempfile::tempdir().expect("a folder");
        for (path, content) in files(&recent) {
            write(&folder.path().join(path), &bytes(content));
        }
        let results = open(folder.path());
        let store = recent["store"].as_str().expect("a text");
        assert_eq!(
            results.learn_store(store),
            [],
            "{:?}: the store that acknowledged it is not known again: its key stays as it is; see compat/README.md",
            release.folder
        );
        assert_eq!(
            results.learn_store("another"),
            [lease()],
            "{:?}: what that release's worker kept is lost: look for it in the old place, too; see compat/README.md",
            release.folder
        );
        assert_eq!(results.record(&lease()).await, Some(finished()));
        let workspace = results.workspace(&lease()).expect("it is kept");
        for (path, content) in contents(&workspace) {
            let read = fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            assert_eq!(read, content, "{path:?}");
        }
    }
}

#[test]
fn what_is_kept_now_lies_where_a_recorded_release_looks_for_it() {
    let now = record();
    for release in recorded() {
        let then = section(&release, SECTION);
        for path in files(&then).keys() {
            assert!(
                now["files"].get(path).is_some(),
                "{:?}: its worker, put back, would not find {path}; write elsewhere a release later. Now: {now}",
                release.folder
            );
        }
    }
}

/// Keeps a result, and tells of all files that this makes.
pub(super) fn record() -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    std::thread::scope(|scope| {
        // its own, for the caller may be in a runtime
        let kept = scope.spawn(|| runtime.block_on(keep()));
        kept.join().expect("it is kept")
    })
}

async fn keep() -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let results = open(folder.path());
    let ledger = folder.path().join("ledger");
    fs::create_dir_all(&ledger).expect("made");
    let ledger = Ledger::new(ledger);
    let entry = LedgerEntry::Finished(Box::new(finished()));
    ledger.note(&lease(), entry).await.expect("noted");
    let workspace = Workspaces::new(folder.path().join("tasks")).of(&lease());
    for (path, content) in contents(&workspace) {
        write(&path, content);
    }
    let note = ledger.note_of(&lease());
    results.learn_store(STORE);
    let is_current = results
        .keep(StoreKey::of(STORE), &lease(), finished(), note, workspace)
        .await;
    assert!(is_current);
    let root = recent(folder.path());
    let mut files = Map::new();
    list(&root, &mut |path| {
        let name = path.strip_prefix(&root).expect("it is below");
        let name = format!("{}/{}", file_name(&root), name.display());
        let content = fs::read(path).expect("it can be read");
        files.insert(name, json!(to_hex(&content)));
    });
    json!({ "store": STORE, "files": files })
}

fn open(folder: &Path) -> RecentResults {
    RecentResults::open(recent(folder), LIMITS).expect("it opens")
}

/// Where a worker with that directory keeps them.
fn recent(folder: &Path) -> PathBuf {
    StateDirectory::open(folder).expect("it opens").recent()
}

/// The record's files, by their paths in the worker's directory.
fn files(recent: &Map<String, Value>) -> &Map<String, Value> {
    recent["files"].as_object().expect("files by path")
}

fn contents(workspace: &Workspace) -> Vec<(PathBuf, &'static [u8])> {
    let [stdout, stderr] = workspace.spools();
    vec![
        (stdout, b"made\n"),
        (stderr, b"oops"),
        (workspace.output(), b"{}"),
        (workspace.artifacts().join("sub/report.md"), b"report"),
        (workspace.work().join("build/out/log"), b"log"),
    ]
}

fn finished() -> FinishedRecord {
    let mut finish = Finish::without_process(None, None);
    finish.output = StructuredOutput::InFile;
    let printed = |total_bytes| StreamFacts {
        total_bytes,
        ..StreamFacts::default()
    };
    finish.stdout = printed(5);
    finish.stderr = printed(4);
    FinishedRecord {
        run: 1,
        home: None,
        finish,
        artifacts: vec!["sub/report.md".to_owned()],
        collection: Some(Collection {
            cwd: "build".to_owned(),
            files: vec![CollectedFile {
                from: "out/log".to_owned(),
                to: "/log".to_owned(),
            }],
            skipped: Vec::new(),
            skipped_count: 0,
        }),
        head_cap: 100,
        tail_cap: 10,
    }
}

fn list(folder: &Path, found: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).expect("it can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list(&path, found);
        } else {
            found(&path);
        }
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, content).expect("written");
}
