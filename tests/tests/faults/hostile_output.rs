//! Children that print too much, at the wrong time, or what nobody can read.

use taskyard_proto::v1::TaskState;
use taskyard_tests::client::{error_kind, exit_code, exit_signal, milliseconds, probe, shell};
use taskyard_tests::mischief::NASTY;
use taskyard_tests::wait::{SOON, until};

use crate::arena::Arena;

/// 100 MB, as one line.
const LONG_LINE: u64 = 100_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_100_megabytes_is_only_bytes() {
    let mut arena = Arena::open().await;
    let id = arena.start(&format!("long-line {LONG_LINE}")).await;
    let task = arena.ended(&id).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    let result = arena.client.result(&id).await;
    assert_eq!(result["stdout"]["total_bytes"], LONG_LINE, "{result}");
    assert_eq!(result["stdout"]["truncated"], true, "{result}");
    assert_eq!(result["stdout"]["capture"], "drained", "{result}");
    arena.expect_frugal();
    arena.expect_nothing_left(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_firehose_delays_neither_heartbeats_nor_neighbours_nor_its_cancel() {
    let mut arena = Arena::open().await;
    let id = arena
        .start("spew --stdout 1099511627776 --stderr 1099511627776")
        .await;
    until("the flood to rise", SOON, async || {
        !arena.stdout(&id, 1).await.is_empty()
    })
    .await;
    arena.expect_lively(&id).await;
    arena.cancel(&id).await;
    arena.expect_frugal();
    arena.expect_nothing_left(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_read_is_kept_as_it_came_and_escaped_in_json() {
    let mut arena = Arena::open().await;
    let id = arena.start("nasty").await;
    let task = arena.ended(&id).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    assert_eq!(arena.stdout(&id, 1_000).await, NASTY);
    // That it can be parsed is half of it.
    let result = arena.client.result(&id).await;
    assert_eq!(result["stdout"]["total_bytes"], NASTY.len(), "{result}");
    let summary = result["summary"].as_str().unwrap_or_default();
    assert!(!summary.chars().any(char::is_control), "{summary:?}");
    // The same in the structured result, which is no JSON then, and in the text of the error.
    let id = arena
        .create(shell(
            "printf '\"\\377\\033[31m\\000\"' > \"$TASKYARD_RESULT\"",
        ))
        .await;
    let task = arena.ended(&id).await;
    let error = task.error.unwrap_or_default();
    assert_eq!(
        (error.kind.as_str(), error.reason.as_str()),
        ("bad_output", "NOT_JSON")
    );
    assert!(!error.message.chars().any(char::is_control), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_is_too_large_or_half_is_named_and_not_repeated() {
    let mut arena = Arena::open().await;
    for (script, reason) in [
        (
            "head -c 17000000 /dev/zero | tr '\\0' 1 > \"$TASKYARD_RESULT\"",
            "TOO_LARGE",
        ),
        ("printf '{\"half\": ' > \"$TASKYARD_RESULT\"", "NOT_JSON"),
        ("mkdir \"$TASKYARD_RESULT\"", "NOT_A_FILE"),
        ("mkfifo \"$TASKYARD_RESULT\"", "NOT_A_FILE"),
    ] {
        let task = taskyard_tests::inside::retried(shell(script), 3);
        let id = arena.create(task).await;
        let task = arena.ended(&id).await;
        let error = task.error.clone().unwrap_or_default();
        assert_eq!(
            (error.kind.as_str(), error.reason.as_str(), task.run),
            ("bad_output", reason, 1),
            "{error:?}"
        );
        assert_eq!(exit_code(&task), Some(0), "the work itself went well");
    }
    arena.expect_frugal();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_after_the_exit_is_waited_for_and_no_longer() {
    let mut arena = Arena::open().await;
    let id = arena.start("spew --stdout 300000 --chunk 300000").await;
    arena.ended(&id).await;
    let result = arena.client.result(&id).await;
    assert_eq!(result["stdout"]["total_bytes"], 300_000, "{result}");
    assert_eq!(result["stdout"]["stored_bytes"], 300_000, "{result}");
    // A child that writes a little later.
    let id = arena.start("late-writer 300").await;
    let task = arena.ended(&id).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    assert_eq!(arena.stdout(&id, 100).await, b"first\nlate\n");
    let result = arena.client.result(&id).await;
    assert_eq!(result["stdout"]["capture"], "drained", "{result}");
    // And one that never stops.
    let id = arena.start("drip").await;
    let task = arena.ended(&id).await;
    assert_eq!(
        (task.state(), exit_code(&task)),
        (TaskState::Succeeded, Some(0)),
        "{task:?}"
    );
    let result = arena.client.result(&id).await;
    assert_eq!(result["stdout"]["capture"], "leaked", "{result}");
    arena.expect_nothing_left(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_pipe_ends_nothing_late_and_a_closed_one_nothing_early() {
    let mut arena = Arena::open().await;
    let file = arena.path("holder");
    let id = arena
        .start(&format!("grandchild-holds-stdout {}", file.display()))
        .await;
    let task = arena.ended(&id).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    let result = arena.client.result(&id).await;
    assert_eq!(result["stdout"]["capture"], "leaked", "{result}");
    arena.expect_nothing_left(&id).await;
    let mut task = probe("close-stdout-then-hang");
    task.timeout = Some(milliseconds(1_500));
    let id = arena.create(task).await;
    let task = arena.ended(&id).await;
    assert_eq!(error_kind(&task), "timeout", "{task:?}");
    assert_eq!(exit_signal(&task), Some(15), "{task:?}");
    let result = arena.client.result(&id).await;
    assert_eq!(result["stdout"]["capture"], "drained", "{result}");
    assert_eq!(result["stdout"]["tail"], "ready\n", "{result}");
    arena.expect_nothing_left(&id).await;
}
