//! Scripts that run as tasks and speak for themselves.

use taskyard_proto::v1::{RetryPolicy, TaskDefinition};

use crate::binaries;
use crate::client::{command, milliseconds, with_command};

/// A bash script that ends with the first call that fails unexpectedly. In it `self` is `taskyard self`, and a failed call
/// says on standard error why.
pub fn agent(script: &str) -> TaskDefinition {
    let script = format!("set -eu\nself() {{ \"$YARD\" self \"$@\"; }}\n{script}");
    with_command(command(&["bash", "-c", &script]), |command| {
        let program = binaries::taskyard().display().to_string();
        command.env.insert("YARD".to_owned(), program);
    })
}

/// Has a task run again after a failure, at once.
pub fn retried(mut task: TaskDefinition, max_runs: i32) -> TaskDefinition {
    task.retry = Some(RetryPolicy {
        max_runs,
        initial_backoff: Some(milliseconds(10)),
        ..RetryPolicy::default()
    });
    task
}
