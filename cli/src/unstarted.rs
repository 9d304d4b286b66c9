//! Why a task does not start: said once where somebody waits for it.

use std::time::Duration;

use prost_types::Timestamp;
use taskyard_proto::v1::{IsolationLevel, SessionTask, TaskState};

use crate::connection::Connection;
use crate::console::clean;
use crate::output_follower::read_task;
use crate::task_reference::TaskReference;
use crate::view::moment;

/// A worker that is there and free takes a task much sooner.
const USUAL_WAIT: Duration = Duration::from_secs(3);
/// How long to try to read the task: a hint is not worth more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gives the hint for a task that was just created, once it is due; none where the task has begun by then, or cannot be
/// read.
pub async fn watch(connection: &Connection, task: &TaskReference) -> Option<String> {
    // A little more, as the clocks of the two machines may differ.
    tokio::time::sleep(USUAL_WAIT + Duration::from_millis(200)).await;
    let task = read_task(connection, task, PATIENCE).await.ok()?;
    waits(&task).then(|| sentence(&task, &moment::now()))
}

/// What a task waits for that has not begun for longer than usual.
pub fn hint(task: &SessionTask, now: &Timestamp) -> Option<String> {
    let is_late = task
        .created_at
        .as_ref()
        .is_some_and(|created_at| moment::between(created_at, now) > USUAL_WAIT);
    (waits(task) && is_late).then(|| sentence(task, now))
}

/// Between two runs a task waits for its own backoff, and a cancel ends the wait.
fn waits(task: &SessionTask) -> bool {
    task.state() == TaskState::Queued && task.run == 0 && task.cancel_requested_at.is_none()
}

fn sentence(task: &SessionTask, now: &Timestamp) -> String {
    let label = format!("t{} waits", task.ordinal);
    if task.hold {
        return format!("{label}: it is on hold");
    }
    if let Some(not_before) = &task.not_before
        && (not_before.seconds, not_before.nanos) > (now.seconds, now.nanos)
    {
        return format!(
            "{label}: it must not begin before {}",
            moment::with_age(not_before)
        );
    }
    format!(
        "{label}: no worker has taken it yet ({}); `taskyard workers` shows who serves what",
        wanted(task)
    )
}

/// What a worker must serve to be offered the task.
fn wanted(task: &SessionTask) -> String {
    let mut parts = vec![
        format!("queue {}", task.queue),
        format!("kind {}", task.kind),
    ];
    if task.executor != "command" {
        parts.push(format!("executor {}", task.executor));
    }
    let isolation = task.spec.as_ref().and_then(|spec| spec.isolation.as_ref());
    if let Some(isolation) = isolation {
        if isolation.level() == IsolationLevel::Restricted {
            parts.push("isolation restricted".to_owned());
        }
        if isolation.limits.is_some() {
            parts.push("limits".to_owned());
        }
    }
    let mut labels: Vec<String> = task
        .spec
        .iter()
        .flat_map(|spec| &spec.worker_labels)
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if !labels.is_empty() {
        labels.sort();
        parts.push(format!("labels {}", labels.join(" ")));
    }
    clean(&parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued() -> SessionTask {
        let mut task = SessionTask {
            ordinal: 3,
            queue: "nope".to_owned(),
            kind: "command".to_owned(),
            executor: "command".to_owned(),
            created_at: Some(at(100)),
            ..SessionTask::default()
        };
        task.set_state(TaskState::Queued);
        task
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 0 }
    }

    #[test]
    fn a_task_that_nobody_takes_says_what_it_asks_for() {
        let task = queued();
        assert_eq!(hint(&task, &at(102)), None, "that is usual");
        assert_eq!(
            hint(&task, &at(110)).as_deref(),
            Some(
                "t3 waits: no worker has taken it yet (queue nope, kind command); `taskyard workers` shows who serves \
                 what"
            )
        );
        let echo = SessionTask {
            executor: "echo".to_owned(),
            ..queued()
        };
        let text = hint(&echo, &at(110)).unwrap_or_default();
        assert!(text.contains("executor echo"), "{text}");
    }

    #[test]
    fn a_task_that_waits_for_something_else_is_not_blamed_on_workers() {
        let held = SessionTask {
            hold: true,
            ..queued()
        };
        let later = SessionTask {
            not_before: Some(at(200)),
            ..queued()
        };
        for task in [held, later] {
            let text = hint(&task, &at(110)).unwrap_or_default();
            assert!(!text.is_empty() && !text.contains("worker"), "{text}");
        }
        let again = SessionTask { run: 1, ..queued() };
        assert_eq!(hint(&again, &at(110)), None);
        let mut running = queued();
        running.set_state(TaskState::Running);
        assert_eq!(hint(&running, &at(110)), None);
    }
}
