//! Commands that last are under way while the servers behind their address are restarted one after the other.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use taskyard_tests::balancer::Balancer;
use taskyard_tests::client::new_session;
use taskyard_tests::command_line::CommandLine;
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::wait::{SOON, until};

/// Lines that must have come between two restarts.
const LINES_BETWEEN: usize = 5;

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
        deployment.restart_server(server).await;
    }
    std::fs::write(&go, b"").expect("the task is let go");
    let ran = run.finish().await.expect_code(0).text();
    let last = ran.lines().count();
    let expected: String = (1..=last)
        .map(|number| format!("line {number}\n"))
        .collect();
    assert_eq!(ran, expected, "each line once, in order");
    assert_eq!(logs.finish().await.expect_code(0).text(), expected);
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
