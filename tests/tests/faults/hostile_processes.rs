//! Children that multiply, leave, stop, will not end, or turn against those above them.

use taskyard_proto::v1::{RetryPolicy, TaskDefinition, TaskState};
use taskyard_tests::client::{error_kind, exit_code, exit_signal, milliseconds, probe, shell};
use taskyard_tests::isolated::with_isolation;
use taskyard_tests::process::{descendants, family, is_alive};
use taskyard_tests::skip::skipped;
use taskyard_tests::wait::{SOON, eventually, until};

use crate::arena::Arena;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb_is_killed_to_the_last_process() {
    let mut arena = Arena::open().await;
    let id = arena.ready("fork-bomb 200 6").await;
    assert!(descendants(arena.worker()).len() > 200);
    arena.expect_lively(&id).await;
    arena.cancel(&id).await;
    arena.expect_nothing_left(&id).await;
    // One that goes off when it is told to end.
    let id = arena.ready("fork-bomb-on-term --setsid").await;
    arena.cancel(&id).await;
    arena.expect_nothing_left(&id).await;
    arena.expect_frugal();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_do_not_outlive_their_task() {
    let mut arena = Arena::open().await;
    for (options, capture) in [("", "leaked"), ("--close --ignore-term", "drained")] {
        let file = arena.path("daemon");
        let id = arena
            .start(&format!("daemon {} {options}", file.display()))
            .await;
        let task = arena.ended(&id).await;
        assert_eq!(
            (task.state(), exit_code(&task)),
            (TaskState::Succeeded, Some(0)),
            "{task:?}"
        );
        let result = arena.client.result(&id).await;
        assert_eq!(result["stdout"]["capture"], capture, "{result}");
        let pid = std::fs::read_to_string(&file).expect("it has begun");
        assert!(!is_alive(pid.parse().expect("a number")), "it is gone");
        arena.expect_nothing_left(&id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ignores_every_polite_signal_is_killed_after_the_grace() {
    let mut arena = Arena::open().await;
    let id = arena.ready("ignore-term").await;
    let task = arena.cancel(&id).await;
    assert_eq!(exit_signal(&task), Some(9), "{task:?}");
    arena.expect_nothing_left(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_quick_children_are_all_taken_away() {
    let mut arena = Arena::open().await;
    // Each leaves another one to whoever takes it.
    let id = arena.start("orphans 10000").await;
    let task = arena.ended(&id).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    arena.expect_nothing_left(&id).await;
    // Nobody but their parent can take away those that it does not wait for; they go with it.
    let id = arena.ready("zombies 2000").await;
    assert!(family(arena.worker()).len() > 2_000);
    arena.expect_lively(&id).await;
    arena.cancel(&id).await;
    arena.expect_nothing_left(&id).await;
    arena.expect_frugal();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_child_is_canceled_and_timed_out_like_any_other() {
    let mut arena = Arena::open().await;
    for whom in ["self", "group"] {
        let id = arena.ready(&format!("stop {whom}")).await;
        arena.expect_lively(&id).await;
        let task = arena.cancel(&id).await;
        assert_eq!(exit_signal(&task), Some(15), "woken to be told: {task:?}");
        arena.expect_nothing_left(&id).await;
    }
    let mut stopped = probe("stop group");
    stopped.timeout = Some(milliseconds(1_000));
    let id = arena.create(stopped).await;
    let task = arena.ended(&id).await;
    assert_eq!(error_kind(&task), "timeout", "{task:?}");
    arena.expect_nothing_left(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_freezes_or_kills_its_shim_ends_with_it() {
    let mut arena = Arena::open().await;
    // The shim does not answer any more, so the worker ends both by force.
    let id = arena.start("strike shim STOP").await;
    arena.frozen().await;
    arena.expect_lively(&id).await;
    arena.cancel_frozen(&id).await;
    arena.expect_nothing_left(&id).await;
    let id = arena.start("strike shim KILL").await;
    let task = arena.ended(&id).await;
    assert_eq!(
        (task.state(), error_kind(&task)),
        (TaskState::Failed, "worker_error"),
        "{task:?}"
    );
    assert!(task.exit.unwrap_or_default().exit_code.is_none());
    arena.expect_nothing_left(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_kills_its_worker_does_not_outlive_it() {
    let mut arena = Arena::open().await;
    let id = arena.start("strike worker KILL").await;
    until("the worker to be gone", SOON, async || {
        arena.worker_has_ended()
    })
    .await;
    let mark = format!("TASKYARD_TASK_ID={id}");
    until("every process of the task to be gone", SOON, async || {
        taskyard_tests::process::with_variable(&mark).is_empty()
    })
    .await;
    let task = arena.ended(&id).await;
    assert_eq!(error_kind(&task), "outcome_unknown", "{task:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_froze_its_shim_ends_with_its_worker() {
    let mut arena = Arena::open().await;
    let id = arena.start("strike shim STOP").await;
    let shim = arena.frozen().await;
    arena.kill_worker();
    let mark = format!("TASKYARD_TASK_ID={id}");
    until(
        "the shim to wake up and to end the rest",
        SOON,
        async || !is_alive(shim) && taskyard_tests::process::with_variable(&mark).is_empty(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_keeps_its_shim_frozen_does_not_outlive_its_workers_next_boot() {
    let mut arena = Arena::open().await;
    // The second half left the session and gave up the variables by which it would be known.
    let script = "setsid env -i sleep 1000 & while :; do kill -STOP $PPID; sleep 0.01; done";
    let retry = RetryPolicy {
        max_runs: 2,
        initial_backoff: Some(milliseconds(10)),
        ..RetryPolicy::default()
    };
    let task = TaskDefinition {
        retry: Some(retry),
        ..shell(script)
    };
    let id = arena.create(task).await;
    let shim = arena.frozen().await;
    let of_first_run = eventually("the child that hides", SOON, async || {
        let all = descendants(shim);
        (all.len() >= 2).then_some(all)
    })
    .await;
    arena.restart_worker().await;
    // The hello has told by now that the run is over.
    let left: Vec<u32> = of_first_run
        .into_iter()
        .chain([shim])
        .filter(|pid| is_alive(*pid))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    arena.client.reached(&id, |task| task.run == 2).await;
    arena.frozen().await;
    arena.cancel_frozen(&id).await;
    arena.expect_nothing_left(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restricted_child_reaches_neither_its_shim_nor_its_worker() {
    let mut arena = Arena::open().await;
    if !arena.can_restrict().await {
        skipped("this machine has no Landlock that restricted tasks need");
        return;
    }
    for target in ["shim", "worker"] {
        let id = arena
            .create(with_isolation(
                probe(&format!("strike {target} KILL")),
                |_| {},
            ))
            .await;
        let said = arena.first_line(&id).await;
        assert!(
            said.contains("not permitted") || said.contains("No such process"),
            "{said}"
        );
        arena.expect_lively(&id).await;
        arena.cancel(&id).await;
        arena.expect_nothing_left(&id).await;
    }
}
