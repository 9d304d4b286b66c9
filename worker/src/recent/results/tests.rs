use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::lease::{CollectedFile, Collection, Finish, StreamFacts, StructuredOutput};
use crate::ledger::{EarlierStatus, Ledger, LedgerEntry};
use crate::workspace::Workspaces;

const MINUTES: u64 = 60;

/// A worker's directory, as far as it matters here.
struct Place {
    directory: TempDir,
    ledger: Ledger,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("ledger")).expect("created");
        let ledger = Ledger::new(directory.path().join("ledger"));
        Place { directory, ledger }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn open(&self, limits: RecentLimits) -> RecentResults {
        RecentResults::open(self.path().join("recent"), limits).expect("it opens")
    }

    fn workspace(&self, lease: &Lease) -> Workspace {
        Workspaces::new(self.path().join("tasks")).of(lease)
    }

    /// A run that ended with `output` bytes of output, and its result, acknowledged by `store`.
    async fn keep(
        &self,
        recents: &RecentResults,
        store: &str,
        lease: &Lease,
        output: usize,
    ) -> bool {
        let record = record(output);
        let workspace = self.workspace(lease);
        fs::create_dir_all(workspace.artifacts().join("sub")).expect("created");
        fs::create_dir_all(workspace.work().join("build/out")).expect("created");
        write(&workspace.spools()[0], &vec![b'x'; output]);
        write(&workspace.output(), b"{}");
        write(&workspace.artifacts().join("sub/a"), b"a");
        fs::write(workspace.artifacts().join("other"), b"is no artifact").expect("written");
        write(&workspace.work().join("build/out/log"), b"log");
        let entry = LedgerEntry::Finished(Box::new(record.clone()));
        self.ledger.note(lease, entry).await.expect("noted");
        let note = self.ledger.note_of(lease);
        recents
            .keep(StoreKey::of(store), lease, record, note, workspace)
            .await
    }
}

/// On disk at once, so that it takes its place there: some file systems count it late.
fn write(path: &Path, content: &[u8]) {
    let mut file = fs::File::create(path).expect("created");
    std::io::Write::write_all(&mut file, content).expect("written");
    file.sync_all().expect("synced");
}

fn record(output: usize) -> FinishedRecord {
    let mut finish = Finish::without_process(None, None);
    finish.output = StructuredOutput::InFile;
    finish.stdout = StreamFacts {
        total_bytes: output as u64,
        ..StreamFacts::default()
    };
    FinishedRecord {
        run: 1,
        home: None,
        finish,
        artifacts: vec!["sub/a".to_owned()],
        collection: Some(Collection {
            cwd: "./build".to_owned(),
            files: vec![CollectedFile {
                from: "out/log".to_owned(),
                to: "/log".to_owned(),
            }],
            skipped: Vec::new(),
            skipped_count: 0,
        }),
        head_cap: 1_000_000,
        tail_cap: 1_000,
    }
}

fn lease(number: u8) -> Lease {
    Lease::new("task_1", i64::from(number), &[number; 16]).expect("a good lease")
}

const LIMITS: RecentLimits = RecentLimits {
    age: Duration::from_secs(15 * MINUTES),
    entries: 3,
    file_bytes: 1_000_000,
};

fn epochs(recents: &RecentResults) -> Vec<i64> {
    recents.leases().iter().map(|lease| lease.epoch).collect()
}

#[tokio::test]
async fn a_result_is_kept_with_all_that_a_delivery_reads_and_nothing_else() {
    let place = Place::new();
    let recents = place.open(LIMITS);
    recents.learn_store("first");
    assert!(place.keep(&recents, "first", &lease(1), 5).await);
    let kept = recents.workspace(&lease(1)).expect("it is kept");
    assert_eq!(fs::read(&kept.spools()[0]).expect("a spool"), b"xxxxx");
    assert_eq!(fs::read(kept.output()).expect("a result"), b"{}");
    assert_eq!(
        fs::read(kept.artifacts().join("sub/a")).expect("an artifact"),
        b"a"
    );
    assert_eq!(
        fs::read(kept.work().join("build/out/log")).expect("a file"),
        b"log"
    );
    assert!(!kept.artifacts().join("other").exists());
    assert_eq!(recents.record(&lease(1)).await, Some(record(5)));
    assert!(
        place.ledger.earlier().expect("readable").is_empty(),
        "the note was taken over"
    );
}

#[tokio::test]
async fn what_one_store_acknowledged_is_offered_to_another_once_also_by_a_later_boot() {
    let place = Place::new();
    let recents = place.open(LIMITS);
    assert!(recents.learn_store("first").is_empty());
    assert!(place.keep(&recents, "first", &lease(1), 5).await);
    assert!(recents.learn_store("first").is_empty(), "it knows of it");
    assert_eq!(recents.learn_store("second"), [lease(1)]);
    assert!(
        recents.learn_store("second").is_empty(),
        "it is being offered"
    );
    drop(recents);

    let recents = place.open(LIMITS);
    assert_eq!(recents.leases(), [lease(1)]);
    assert_eq!(recents.learn_store("second"), [lease(1)]);
    let second = recents.store().expect("it is known");
    assert!(recents.settle(&lease(1), second.clone()).await);
    assert!(recents.learn_store("second").is_empty());
    let kept = recents.workspace(&lease(1)).expect("it is kept on");
    assert!(kept.spools()[0].exists());
    // yet another, in the middle of it
    assert_eq!(recents.learn_store("third"), [lease(1)]);
    assert!(!recents.settle(&lease(1), second).await, "it is told on");
    recents.forget(&lease(1)).await;
    assert!(recents.leases().is_empty());
    drop(recents);
    assert!(place.open(LIMITS).leases().is_empty());
}

#[tokio::test]
async fn a_result_that_was_acknowledged_by_a_store_that_is_gone_is_to_be_told_again() {
    let place = Place::new();
    let recents = place.open(LIMITS);
    recents.learn_store("second");
    assert!(!place.keep(&recents, "first", &lease(1), 5).await);
    assert!(
        recents.learn_store("second").is_empty(),
        "whoever keeps it tells it"
    );
}

#[tokio::test]
async fn beyond_the_bounds_the_oldest_go_and_first_their_files() {
    let place = Place::new();
    let recents = place.open(LIMITS);
    recents.learn_store("first");
    for number in 1..=5 {
        place.keep(&recents, "first", &lease(number), 5).await;
    }
    assert_eq!(epochs(&recents), [3, 4, 5]);
    let small = RecentLimits {
        file_bytes: 80_000,
        ..LIMITS
    };
    drop(recents);
    let recents = place.open(small);
    assert_eq!(
        epochs(&recents),
        [3, 4, 5],
        "those that went are gone from the disk"
    );
    recents.learn_store("first");
    place.keep(&recents, "first", &lease(6), 60_000).await;
    let files = |number: u8| {
        let kept = recents.workspace(&lease(number)).expect("it is kept");
        kept.root().exists()
    };
    assert_eq!(epochs(&recents), [4, 5, 6]);
    assert!(
        files(4) && files(5) && !files(6),
        "one result must not have them all"
    );
    place.keep(&recents, "first", &lease(7), 5).await;
    let tight = RecentLimits {
        file_bytes: 40_000,
        ..LIMITS
    };
    drop(recents);
    let recents = place.open(tight);
    let kept: Vec<bool> = [5, 6, 7]
        .iter()
        .map(|number| {
            recents
                .workspace(&lease(*number))
                .is_some_and(|kept| kept.root().exists())
        })
        .collect();
    assert_eq!(kept, [true, false, true]);
    assert!(
        recents.record(&lease(6)).await.is_some(),
        "the result itself is there"
    );
}

#[tokio::test]
async fn results_age_while_the_store_is_heard_and_never_while_they_are_offered() {
    let place = Place::new();
    let recents = place.open(LIMITS);
    recents.learn_store("first");
    place.keep(&recents, "first", &lease(1), 0).await;
    recents.pass(Duration::from_secs(10 * MINUTES)).await;
    place.keep(&recents, "first", &lease(2), 0).await;
    recents.pass(Duration::from_secs(5 * MINUTES)).await;
    assert_eq!(epochs(&recents), [2]);
    assert_eq!(recents.learn_store("second"), [lease(2)]);
    recents.pass(Duration::from_secs(60 * MINUTES)).await;
    assert_eq!(epochs(&recents), [2]);
}

#[tokio::test]
async fn files_go_when_the_disk_is_in_trouble_and_results_stay() {
    let place = Place::new();
    let recents = place.open(LIMITS);
    recents.learn_store("first");
    place.keep(&recents, "first", &lease(1), 5).await;
    let kept = recents.workspace(&lease(1)).expect("it is kept");
    assert!(kept.root().exists());
    recents.make_room().await;
    assert!(!kept.root().exists());
    assert!(recents.record(&lease(1)).await.is_some());
}

#[tokio::test]
async fn an_outage_counts_no_more_than_one_look() {
    let place = Place::new();
    let recents = place.open(LIMITS);
    recents.learn_store("first");
    place.keep(&recents, "first", &lease(1), 0).await;
    let mut before = Some(BootTime::from_nanos(1));
    for _ in 0..1_000 {
        recents
            .look(&mut before, Some(BootTime::from_nanos(1)))
            .await;
    }
    assert_eq!(recents.lock().heard, Duration::ZERO);
    let day_later = BootTime::from_nanos(1).plus(Duration::from_secs(24 * 60 * MINUTES));
    recents.look(&mut before, Some(day_later)).await;
    assert_eq!(recents.lock().heard, LOOK_INTERVAL);
    assert_eq!(epochs(&recents), [1]);
}

#[tokio::test]
async fn nothing_is_kept_where_nobody_wants_it_or_no_store_is_known() {
    let place = Place::new();
    let recents = place.open(LIMITS);
    recents.learn_store("first");
    assert!(place.keep(&recents, "", &lease(1), 5).await);
    assert!(recents.leases().is_empty());
    place.keep(&recents, "first", &lease(2), 5).await;
    drop(recents);
    let none = RecentLimits {
        age: Duration::ZERO,
        ..LIMITS
    };
    let recents = place.open(none);
    assert!(recents.leases().is_empty(), "what was there is gone");
    recents.learn_store("first");
    assert!(place.keep(&recents, "first", &lease(3), 5).await);
    assert!(recents.leases().is_empty());
    let noted = place.ledger.earlier().expect("readable");
    assert!(
        noted
            .iter()
            .all(|left| matches!(left.status, EarlierStatus::Finished(_))),
        "whoever noted it forgets it: {noted:?}"
    );
}

#[tokio::test]
async fn links_that_the_work_left_lead_nowhere() {
    let place = Place::new();
    let recents = place.open(LIMITS);
    recents.learn_store("first");
    let outside = place.path().join("outside");
    fs::create_dir(&outside).expect("created");
    fs::write(outside.join("log"), b"not the work's").expect("written");
    let workspace = place.workspace(&lease(1));
    fs::create_dir_all(workspace.work().join("build")).expect("created");
    std::os::unix::fs::symlink(&outside, workspace.work().join("build/out")).expect("linked");
    let note = place.ledger.note_of(&lease(1));
    let entry = LedgerEntry::Finished(Box::new(record(0)));
    place.ledger.note(&lease(1), entry).await.expect("noted");
    let store = StoreKey::of("first");
    assert!(
        recents
            .keep(store, &lease(1), record(0), note, workspace)
            .await
    );
    assert!(outside.join("log").exists());
    assert!(recents.record(&lease(1)).await.is_some());
}
