//! `wait`: until tasks are where they are wanted.

use std::time::Duration;

use clap::{Args, ValueEnum};
use taskyard_proto::v1::{
    SessionTask, TaskState, WaitMode, WaitTasksRequest, WaitUntil, WaitedTask,
};
use tokio::time::Instant;

use crate::arguments::GlobalArguments;
use crate::commands::list::print_tasks;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, is_terminal};
use crate::quantity::{parse_duration, to_wire};
use crate::task_reference::is_whole_id;
use crate::view::output_format::OutputArguments;

/// What a call may take beyond the wait in it.
const CALL_MARGIN: Duration = Duration::from_secs(15);

/// Wait until tasks have ended, or until one of them needs its owner
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard wait t12 --session demo && echo it went well
  taskyard wait t1 t2 t3 --session demo --any --timeout 10m
  taskyard wait t12 --session demo --until attention -o json

Exit codes: 0 all that was waited for succeeded, 1 a task failed or was canceled (or is not there),
3 a question is pending, 4 the wait expired (the work goes on), 2 usage,
125 server out of reach or failed, 130 interrupted")]
pub struct WaitArguments {
    /// Ids, starts of ids, t12 or names
    #[arg(required = true, value_name = "TASK")]
    pub tasks: Vec<String>,
    /// One of them is enough
    #[arg(long)]
    pub any: bool,
    /// Longest wait [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,
    /// What to wait for: terminal, or attention (a question, too)
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "terminal",
        hide_possible_values = true
    )]
    pub until: Until,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    Terminal,
    Attention,
}

/// One wait, whatever number of calls it takes.
#[derive(Debug)]
pub struct Wait {
    /// Needed unless every task is a whole id.
    pub session_id: String,
    pub tasks: Vec<String>,
    pub is_any: bool,
    pub until: Until,
    pub timeout: Option<Duration>,
}

/// Waits and shows the tasks as they then stand.
pub async fn execute(
    arguments: WaitArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    for task in &arguments.tasks {
        global.task(task)?;
    }
    let is_by_id = arguments.tasks.iter().all(|task| is_whole_id(task));
    let wait = Wait {
        session_id: if is_by_id {
            String::new()
        } else {
            global.session_or_default()
        },
        tasks: arguments.tasks,
        is_any: arguments.any,
        until: arguments.until,
        timeout: arguments.timeout,
    };
    let connection = Connection::open(global).await?;
    let (tasks, exit_code) = wait_for(&connection, &wait).await?;
    print_tasks(&tasks, &arguments.output, false)?;
    if exit_code == ExitCode::WaitExpired {
        console::note("the wait expired; the work goes on");
    }
    Ok(exit_code)
}

/// The tasks as they stand after the wait, and what that means.
pub async fn wait_for(
    connection: &Connection,
    wait: &Wait,
) -> Result<(Vec<SessionTask>, ExitCode), Failure> {
    let deadline = wait.timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let longest = connection.longest_wait();
        let left = deadline.map_or(longest, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let in_this_call = left.min(longest);
        let answer = connection
            .call_within(
                in_this_call + CALL_MARGIN,
                connection.waiting_patience(),
                || {
                    let mut tasks = connection.tasks();
                    let request = request(connection, wait, in_this_call);
                    async move { tasks.wait_tasks(request).await }
                },
            )
            .await?;
        if !answer.timed_out {
            let exit_code = verdict(&answer.tasks, wait);
            return Ok((answer.tasks, exit_code));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok((answer.tasks, ExitCode::WaitExpired));
        }
    }
}

fn request(connection: &Connection, wait: &Wait, timeout: Duration) -> WaitTasksRequest {
    let waited = wait.tasks.iter().map(|task| WaitedTask {
        task: task.clone(),
        seen_generation: 0,
    });
    WaitTasksRequest {
        namespace: connection.namespace(),
        session_id: wait.session_id.clone(),
        tasks: waited.collect(),
        mode: if wait.is_any {
            WaitMode::Any
        } else {
            WaitMode::All
        }
        .into(),
        until: match wait.until {
            Until::Terminal => WaitUntil::Terminal,
            Until::Attention => WaitUntil::Attention,
        }
        .into(),
        timeout: Some(to_wire(timeout)),
    }
}

/// A question comes before a failure: it is what can still be acted on.
fn verdict(tasks: &[SessionTask], wait: &Wait) -> ExitCode {
    let is_asking = |task: &SessionTask| task.state() == TaskState::AwaitingInput;
    if wait.until == Until::Attention && tasks.iter().any(is_asking) {
        return ExitCode::QuestionPending;
    }
    let has_failure = tasks
        .iter()
        .any(|task| is_terminal(task.state()) && task.state() != TaskState::Succeeded);
    if has_failure {
        ExitCode::Refused
    } else {
        ExitCode::Success
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_its_tasks_came_to() {
        let task = |state: TaskState| {
            let mut task = SessionTask::default();
            task.set_state(state);
            task
        };
        let wait = |until| Wait {
            session_id: String::new(),
            tasks: Vec::new(),
            is_any: true,
            until,
            timeout: None,
        };
        let good = [task(TaskState::Succeeded), task(TaskState::Running)];
        assert_eq!(verdict(&good, &wait(Until::Terminal)), ExitCode::Success);
        let bad = [task(TaskState::Succeeded), task(TaskState::Canceled)];
        assert_eq!(verdict(&bad, &wait(Until::Terminal)), ExitCode::Refused);
        let asking = [task(TaskState::AwaitingInput), task(TaskState::Failed)];
        assert_eq!(
            verdict(&asking, &wait(Until::Attention)),
            ExitCode::QuestionPending
        );
        assert_eq!(verdict(&asking, &wait(Until::Terminal)), ExitCode::Refused);
    }
}
