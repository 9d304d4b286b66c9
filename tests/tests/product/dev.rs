//! `taskyard dev` and `taskyard run --dev`: everything on one machine, with a private Postgres.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use taskyard_proto::v1::TaskState;
use taskyard_tests::binaries;
use taskyard_tests::client::{Client, error_kind, new_session};
use taskyard_tests::command_line::{CommandLine, Finished, Running};
use taskyard_tests::process::{descendants, is_alive, send};
use taskyard_tests::wait::{SOON, eventually, until};
use tempfile::TempDir;

/// A new cluster takes its time on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn it_welcomes_stops_cleanly_and_goes_on_with_its_data() {
    let yard = Yard::new();
    let dev = yard.start(&[]);
    let endpoint = serving(&dev).await;
    let shown = dev.stdout();
    for word in [
        "A welcome task",
        "step two",
        "\"greeting\"",
        "Try, in another terminal",
    ] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let children = descendants(dev.pid().expect("it runs"));
    assert!(!children.is_empty());
    let cli = CommandLine::new(&endpoint);
    let ran = cli
        .run(&[
            "run",
            "--session",
            "demo",
            "--",
            "sh",
            "-c",
            "echo hi; exit 4",
        ])
        .await;
    assert_eq!(ran.expect_code(4).text(), "hi\n");
    let second = yard
        .start(&["--no-welcome"])
        .finish_within(START_LIMIT)
        .await
        .expect_code(125);
    assert!(
        second.stderr.contains("already runs") && second.stderr.contains(&endpoint),
        "{}",
        second.stderr
    );
    dev.signal(Signal::INT);
    let stopped = dev.finish_within(START_LIMIT).await.expect_code(0);
    assert!(stopped.stderr.contains("stopped"), "{}", stopped.stderr);
    for child in children {
        until("the children to be gone", SOON, async || !is_alive(child)).await;
    }
    assert!(!yard.postmaster_file().exists());
    let dev = yard.start(&["--no-welcome"]);
    let endpoint = serving(&dev).await;
    let cli = CommandLine::new(&endpoint);
    let listed = cli.run(&["list", "-o", "json"]).await.expect_code(0).json();
    let sessions: Vec<&str> = listed
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|task| task["session_id"].as_str())
        .collect();
    assert_eq!(sessions, ["demo", "welcome"]);
    dev.signal(Signal::TERM);
    dev.finish_within(START_LIMIT).await.expect_code(0);
    assert!(!yard.postmaster_file().exists());
}

#[tokio::test]
async fn a_stop_says_what_it_waits_for() {
    let yard = Yard::new();
    let dev = yard.start(&["--no-welcome"]);
    let endpoint = serving(&dev).await;
    let gate = yard.folder.path().join(new_session("gate"));
    let script = format!(
        "echo up; until [ -e {} ]; do sleep 0.02; done",
        gate.display()
    );
    let cli = CommandLine::new(&endpoint);
    let running = cli.start(&["run", "--", "sh", "-c", &script]);
    running.stdout_has("up\n").await;
    dev.signal(Signal::INT);
    dev.stderr_has("waiting for 1 task: what still runs has 10 s to end")
        .await;
    dev.stderr_has("Ctrl-C again leaves at once").await;
    std::fs::write(&gate, "").expect("written");
    dev.finish_within(START_LIMIT).await.expect_code(0);
    running.signal(Signal::KILL);
    running.finish().await;
    assert!(!yard.postmaster_file().exists());
}

#[tokio::test]
async fn it_recovers_from_being_killed() {
    let yard = Yard::new();
    let dev = yard.start(&["--no-welcome", "--lease", "2s"]);
    let endpoint = serving(&dev).await;
    let mut client = Client::connect(&endpoint).await;
    let pid_file = yard.folder.path().join(new_session("pid"));
    let words = format!("daemon {} --stay", pid_file.display());
    let task = client
        .create("killed", taskyard_tests::client::probe(&words))
        .await;
    let child: u32 = eventually("the work to run", SOON, async || {
        std::fs::read_to_string(&pid_file).ok()?.parse().ok()
    })
    .await;
    dev.signal(Signal::KILL);
    assert_eq!(dev.finish().await.code(), None);
    until("the work to be gone", SOON, async || !is_alive(child)).await;
    let dev = yard.start(&["--no-welcome", "--lease", "2s"]);
    let endpoint = serving(&dev).await;
    let mut client = Client::connect(&endpoint).await;
    let ended = client.ended(&task.id).await;
    assert_eq!(
        (ended.state(), error_kind(&ended)),
        (TaskState::Failed, "outcome_unknown")
    );
    let cli = CommandLine::new(&endpoint);
    cli.run(&["run", "--", "true"]).await.expect_code(0);
    dev.signal(Signal::INT);
    dev.finish_within(START_LIMIT).await.expect_code(0);
    assert!(!yard.postmaster_file().exists());
}

#[tokio::test]
async fn run_needs_no_server_with_dev() {
    let yard = Yard::new();
    let run = |script: &str| {
        let data_dir = yard.data_dir();
        let cli = CommandLine::bare().folder(yard.folder.path());
        let arguments = [
            "run",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            &data_dir,
            "--",
            "sh",
            "-c",
            script,
        ];
        cli.start(&arguments)
    };
    let first: Finished = run("echo out; echo err >&2; pwd; exit 7")
        .finish_within(START_LIMIT)
        .await;
    let first = first.expect_code(7);
    assert!(first.text().starts_with("out\n"), "{}", first.text());
    assert!(first.stderr.contains("err\n"));
    assert!(!yard.postmaster_file().exists());
    let running = run(&format!("exec {} exit-on-term 0", binaries::probe()));
    running.stdout_has("ready\n").await;
    let children = descendants(running.pid().expect("it runs"));
    running.signal(Signal::INT);
    let ended = running.finish_within(START_LIMIT).await;
    assert_eq!(ended.text(), "ready\nbye\n");
    ended.expect_code(130);
    for child in children {
        until("the children to be gone", SOON, async || !is_alive(child)).await;
    }
    assert!(!yard.postmaster_file().exists());
}

/// Where it says that it serves.
async fn serving(dev: &Running) -> String {
    let found = eventually("it to serve", START_LIMIT, async || {
        let shown = dev.stdout();
        let (_, rest) = shown.split_once("Taskyard serves on ")?;
        let (endpoint, _) = rest.split_once(',')?;
        shown.contains("help agent").then(|| endpoint.to_owned())
    });
    match tokio::time::timeout(START_LIMIT * 2, found).await {
        Ok(endpoint) => endpoint,
        Err(_) => panic!("{}{}", dev.stdout(), dev.stderr()),
    }
}

/// A data directory. When it goes, so does a Postgres that was left behind in it.
struct Yard {
    folder: TempDir,
}

impl Yard {
    /// As root Postgres runs as another user, who must be able to pass through.
    fn new() -> Yard {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o711);
        let folder = tempfile::Builder::new()
            .permissions(mode)
            .tempdir()
            .expect("a folder");
        Yard { folder }
    }

    fn start(&self, flags: &[&str]) -> Running {
        let data_dir = self.data_dir();
        let fixed = ["dev", "--listen", "127.0.0.1:0", "--data-dir", &data_dir];
        CommandLine::bare().start(&[&fixed[..], flags].concat())
    }

    fn data_dir(&self) -> String {
        self.path("data").display().to_string()
    }

    fn postmaster_file(&self) -> PathBuf {
        self.path("data/postgres/pgdata/postmaster.pid")
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        let text = std::fs::read_to_string(self.postmaster_file()).unwrap_or_default();
        if let Some(pid) = text.lines().next().and_then(|line| line.parse().ok()) {
            send(pid, Signal::QUIT);
        }
    }
}
