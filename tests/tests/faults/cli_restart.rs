//! Commands that last are under way, and others begin, while the servers behind their address are restarted one after the
//! other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use taskyard_tests::balancer::Balancer;
use taskyard_tests::client::new_session;
use taskyard_tests::command_line::CommandLine;
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::wait::{SOON, until, within};
use tokio::task::JoinHandle;

/// Lines that must have come between two restarts.
const LINES_BETWEEN: usize = 5;
/// Commands that must have begun and ended between two restarts.
const COMMANDS_BETWEEN: usize = 3;
/// Longer than an announced end is kept quiet while nobody is back, and shorter than the pause between two keepalives.
const SILENCE_BETWEEN: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_last_outlast_a_rolling_restart() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(60))
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let service = Balancer::start(&[deployment.endpoint_of(0), deployment.endpoint_of(1)]).await;
    deployment
        .add_worker_at(&service.endpoint(), WorkerPlan::new("w1"))
        .await;
    let line = CommandLine::new(&service.endpoint());
    let session = new_session("lasting");
    let go = deployment.folder().join("go");
    let script = format!(
        "i=0; until [ -e {} ]; do i=$((i+1)); echo line $i; sleep 0.1; done",
        go.display()
    );
    let run = line.start(&["run", "--session", &session, "--", "sh", "-c", &script]);
    run.stdout_has("line 1\n").await;
    let logs = line.start(&["logs", "-f", "--session", &session, "t1"]);
    let watch = line.start(&["watch", &session, "-o", "json"]);
    let wait = line.start(&["wait", "--session", &session, "t1"]);
    logs.stdout_has("line 1\n").await;
    watch.stdout_has("snapshot_complete").await;
    let visitors = Visitors::start(&line, &session);
    for server in [0, 1] {
        deployment.with_server(server, |process| process.signal(Signal::TERM));
        until("the server to end", SOON, async || {
            deployment.with_server(server, |process| process.ended().is_some())
        })
        .await;
        for follower in [&run, &logs] {
            let wanted = follower.stdout().lines().count() + LINES_BETWEEN;
            until("more lines", SOON, async || {
                follower.stdout().lines().count() >= wanted
            })
            .await;
        }
        visitors.go_on().await;
        deployment.restart_server(server).await;
        visitors.go_on().await;
    }
    visitors.end().await;
    std::fs::write(&go, b"").expect("the task is let go");
    let run = run.finish().await.expect_code(0);
    let ran = run.text();
    let last = ran.lines().count();
    let expected: String = (1..=last)
        .map(|number| format!("line {number}\n"))
        .collect();
    assert_eq!(ran, expected, "each line once, in order");
    let logs = logs.finish().await.expect_code(0);
    assert_eq!(logs.text(), expected);
    // the ends were announced, so most often nothing is said at all
    for told in [&run.stderr, &logs.stderr] {
        let broken = told.matches("reconnecting").count();
        assert_eq!(broken, told.matches("connected again").count(), "{told}");
    }
    wait.finish().await.expect_code(0);
    watch.stdout_has("succeeded").await;
    let numbers: Vec<i64> = watch
        .stdout()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["seq"].as_i64())
        .collect();
    assert!(!numbers.is_empty(), "{}", watch.stdout());
    let contiguous = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
    assert!(contiguous, "{numbers:?}");
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_an_idle_session_says_nothing_of_restarts() {
    let deployment = Deployment::builder()
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let service = Balancer::start(&[deployment.endpoint_of(0), deployment.endpoint_of(1)]).await;
    let line = CommandLine::new(&service.endpoint());
    let session = new_session("idle");
    let submit = ["submit", "--session", &session, "-f", "-"];
    let task = br#"{"command": {"argv": ["true"]}}"#;
    line.run_with_input(&submit, task).await.expect_code(0);
    let watch = line.start(&["watch", &session, "-o", "json"]);
    watch.stdout_has("snapshot_complete").await;
    // whichever server it begins with, two of them end under it
    for server in [0, 1, 0] {
        deployment.with_server(server, |process| process.signal(Signal::TERM));
        until("the server to end", SOON, async || {
            deployment.with_server(server, |process| process.ended().is_some())
        })
        .await;
        deployment.restart_server(server).await;
        tokio::time::sleep(SILENCE_BETWEEN).await;
    }
    let before = watch.stdout();
    assert!(!before.contains("\"created\":"), "{before}");
    line.run_with_input(&submit, task).await.expect_code(0);
    watch.stdout_has("\"created\":").await;
    assert_eq!(watch.stderr(), "");
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_whose_first_connections_break_off_takes_the_next() {
    let deployment = Deployment::builder().workers(Vec::new()).start().await;
    let service = Balancer::start(&[deployment.endpoint()]).await;
    let line = CommandLine::new(&service.endpoint());
    let session = new_session("breaking-off");
    for verb in [
        &["submit", "--session", &session, "-f", "-"][..],
        &["list", "--session", &session],
        // made once, whatever happens
        &["sessions", "delete", &session],
    ] {
        service.close_next(3);
        let task = br#"{"command": {"argv": ["true"]}}"#;
        line.run_with_input(verb, task).await.expect_code(0);
        assert_eq!(service.left_to_close(), 0, "{verb:?}");
    }
    deployment.remove().await;
}

/// Fresh commands, one after the other, each of which must succeed.
struct Visitors {
    is_over: Arc<AtomicBool>,
    ended: Arc<AtomicUsize>,
    calling: JoinHandle<()>,
}

impl Visitors {
    fn start(line: &CommandLine, session: &str) -> Visitors {
        let is_over = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicUsize::new(0));
        let calling = {
            let (line, session) = (line.clone(), session.to_owned());
            let (is_over, ended) = (is_over.clone(), ended.clone());
            async move {
                while !is_over.load(Ordering::Relaxed) {
                    for verb in [&["get", "t1"][..], &["list"]] {
                        let command = [verb, &["--session", &session]].concat();
                        line.run(&command).await.expect_code(0);
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        };
        Visitors {
            is_over,
            ended,
            calling: tokio::spawn(calling),
        }
    }

    /// Waits until more of them have ended.
    async fn go_on(&self) {
        let wanted = self.ended.load(Ordering::Relaxed) + COMMANDS_BETWEEN;
        until("more commands to end", SOON * 2, async || {
            self.calling.is_finished() || self.ended.load(Ordering::Relaxed) >= wanted
        })
        .await;
        assert!(!self.calling.is_finished(), "a command failed, see above");
    }

    async fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = within("the last command to end", SOON * 2, self.calling).await;
        ended.expect("each of them succeeded");
    }
}
