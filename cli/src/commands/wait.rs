//! `wait`: until tasks are where they are wanted.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use taskyard_proto::v1::text_pattern::Pattern;
use taskyard_proto::v1::{
    DeletedTask, OutputCondition, OutputMatch, OutputStream, SessionTask, TaskState, TextPattern,
    WaitMode, WaitTasksRequest, WaitTasksResponse, WaitUntil, WaitedTask,
};
use tokio::time::Instant;

use crate::arguments::{GlobalArguments, parse_pair};
use crate::commands::list::print_tasks;
use crate::commands::logs::StreamName;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, is_terminal};
use crate::quantity::{parse_duration, to_wire};
use crate::task_reference::is_whole_id;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::record::Record;
use crate::view::words;

/// What a call may take beyond the wait in it.
const CALL_MARGIN: Duration = Duration::from_secs(15);

/// Wait until tasks have ended, or until one of them needs its owner
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard wait t12 --session demo && echo it went well
  taskyard wait t1 t2 t3 --session demo --any --timeout 10m
  taskyard wait --group build --session demo --until attention -o json
  taskyard wait t12 --session demo --match 'listening on [0-9]+' --timeout 1m

With --match the lines that fit are printed. A group or label takes in tasks that are created later.
Exit codes: 0 all that was waited for succeeded (or printed its line), 1 a task failed or was canceled
(or ended without such a line, or is not there; or the wait was refused, as standard error then says),
3 a question is pending, 4 the wait expired (the work goes on), 2 usage,
125 server out of reach or failed, 130 interrupted")]
pub struct WaitArguments {
    /// Ids, starts of ids, t12 or names
    #[arg(required_unless_present_any = ["group", "label"], conflicts_with_all = ["group", "label"], value_name = "TASK")]
    pub tasks: Vec<String>,
    /// The session's tasks of this group
    #[arg(long)]
    pub group: Option<String>,
    /// The session's tasks with this label; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub label: Vec<(String, String)>,
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
    /// Wait for a line of output that fits this regular expression instead
    #[arg(long = "match", value_name = "REGEX", conflicts_with = "until")]
    pub line: Option<String>,
    /// Look in this stream only: stdout, stderr
    #[arg(long, requires = "line", hide_possible_values = true)]
    pub stream: Option<StreamName>,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Until {
    #[default]
    Terminal,
    Attention,
}

/// One wait, whatever number of calls it takes.
#[derive(Debug, Default)]
pub struct Wait {
    /// Needed unless every task is a whole id.
    pub session_id: String,
    /// Empty where group or labels choose the tasks.
    pub tasks: Vec<String>,
    pub group: String,
    pub labels: BTreeMap<String, String>,
    pub is_any: bool,
    pub until: Until,
    /// What to look for in the output, instead of `until`.
    pub output: Option<OutputCondition>,
    pub timeout: Option<Duration>,
}

impl Wait {
    /// For the end of tasks, given by whole ids, for as long as that takes.
    pub fn for_end(tasks: Vec<String>) -> Wait {
        Wait {
            session_id: String::new(),
            tasks,
            group: String::new(),
            labels: BTreeMap::new(),
            is_any: false,
            until: Until::Terminal,
            output: None,
            timeout: None,
        }
    }
}

/// Waits and shows the tasks as they then stand.
pub async fn execute(
    arguments: WaitArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    for task in &arguments.tasks {
        global.task(task)?;
    }
    let is_by_id =
        !arguments.tasks.is_empty() && arguments.tasks.iter().all(|task| is_whole_id(task));
    let output = arguments.line.map(|line| OutputCondition {
        pattern: Some(TextPattern {
            pattern: Some(Pattern::Regex(line)),
            ignore_case: false,
        }),
        streams: arguments
            .stream
            .map(|stream| OutputStream::from(stream).into())
            .into_iter()
            .collect(),
    });
    let wait = Wait {
        session_id: if is_by_id {
            String::new()
        } else {
            global.session_or_default()
        },
        tasks: arguments.tasks,
        group: arguments.group.unwrap_or_default(),
        labels: arguments.label.into_iter().collect(),
        is_any: arguments.any,
        until: arguments.until,
        output,
        timeout: arguments.timeout,
    };
    let connection = Connection::open(global).await?;
    let (answer, exit_code) = wait_for(&connection, &wait).await?;
    if wait.output.is_some() {
        print_matches(&answer, &arguments.output)?;
    } else {
        print_tasks(&answer.tasks, &arguments.output, false)?;
    }
    if exit_code == ExitCode::WaitExpired {
        console::note("the wait expired; the work goes on");
    }
    Ok(exit_code)
}

/// How it stands after the wait, and what that means.
pub async fn wait_for(
    connection: &Connection,
    wait: &Wait,
) -> Result<(WaitTasksResponse, ExitCode), Failure> {
    let deadline = wait.timeout.map(|timeout| Instant::now() + timeout);
    // a later call names those that are still there, and what it cannot tell any more is kept
    let mut names = wait.tasks.clone();
    let mut deleted = Vec::new();
    loop {
        let longest = connection.longest_wait();
        let left = deadline.map_or(longest, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let in_this_call = left.min(longest);
        let mut answer = connection
            .call_within(
                in_this_call + CALL_MARGIN,
                connection.waiting_patience(),
                || {
                    let mut tasks = connection.tasks();
                    let request = request(connection, wait, &names, in_this_call);
                    async move { tasks.wait_tasks(request).await }
                },
            )
            .await?;
        note_deleted(&answer.deleted);
        deleted.append(&mut answer.deleted);
        if !names.is_empty() {
            names = answer.tasks.iter().map(|task| task.id.clone()).collect();
        }
        let is_over = !answer.timed_out || (names.is_empty() && !wait.tasks.is_empty());
        if is_over {
            answer.deleted = deleted;
            let exit_code = match wait.output {
                Some(_) => match_verdict(&answer, wait),
                None => verdict(&answer, wait),
            };
            return Ok((answer, exit_code));
        }
        answer.deleted.clone_from(&deleted);
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok((answer, ExitCode::WaitExpired));
        }
    }
}

fn request(
    connection: &Connection,
    wait: &Wait,
    names: &[String],
    timeout: Duration,
) -> WaitTasksRequest {
    let waited = names.iter().map(|task| WaitedTask {
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
        until: match (&wait.output, wait.until) {
            (Some(_), _) => WaitUntil::OutputMatch,
            (None, Until::Terminal) => WaitUntil::Terminal,
            (None, Until::Attention) => WaitUntil::Attention,
        }
        .into(),
        timeout: Some(to_wire(timeout)),
        group: wait.group.clone(),
        labels: wait.labels.clone(),
        output: wait.output.clone(),
    }
}

/// Whether as many tasks as are wanted printed their line.
fn match_verdict(answer: &WaitTasksResponse, wait: &Wait) -> ExitCode {
    let wanted = if wait.is_any {
        1
    } else {
        answer.tasks.len() + answer.deleted.len()
    };
    if answer.matches.len() < wanted {
        ExitCode::Refused
    } else {
        ExitCode::Success
    }
}

/// The lines that fit; for people and pipes nothing but them.
fn print_matches(answer: &WaitTasksResponse, format: &OutputArguments) -> Result<(), Failure> {
    match format.output {
        OutputFormat::Table | OutputFormat::Wide => {
            let lines: String = answer
                .matches
                .iter()
                .map(|found| format!("{}\n", console::clean(&found.line)))
                .collect();
            console::print(&lines)
        }
        OutputFormat::Json | OutputFormat::Yaml => {
            let records: Vec<Record> = answer.matches.iter().map(match_record).collect();
            print_record(format.output, &records)
        }
        OutputFormat::Name => {
            let ids: String = answer
                .matches
                .iter()
                .map(|found| format!("{}\n", found.task_id))
                .collect();
            console::print(&ids)
        }
    }
}

fn match_record(found: &OutputMatch) -> Record {
    let stream = match found.stream() {
        OutputStream::Stderr => "stderr",
        OutputStream::Stdout | OutputStream::Unspecified => "stdout",
    };
    Record::new()
        .with_text("task_id", &found.task_id)
        .with("run", found.run)
        .with_text("stream", stream)
        .with("offset", found.offset)
        .with_text("line", &found.line)
}

/// Tells of tasks that are gone, which the table cannot show.
fn note_deleted(deleted: &[DeletedTask]) {
    for task in deleted {
        let state = match task.state() {
            TaskState::Unspecified => "nobody knows how it ended".to_owned(),
            state => format!("it was {} when it was seen last", words::state(state)),
        };
        console::note(&format!("{} was deleted meanwhile; {state}", task.task_id));
    }
}

/// A question comes before a failure: it is what can still be acted on. Of a deleted task counts how it was seen last; only
/// what ended well is known to have succeeded.
fn verdict(answer: &WaitTasksResponse, wait: &Wait) -> ExitCode {
    let tasks = &answer.tasks;
    let is_asking = |task: &SessionTask| task.state() == TaskState::AwaitingInput;
    if wait.until == Until::Attention && tasks.iter().any(is_asking) {
        return ExitCode::QuestionPending;
    }
    let has_failure = tasks
        .iter()
        .any(|task| is_terminal(task.state()) && task.state() != TaskState::Succeeded);
    let is_lost = |task: &DeletedTask| task.state() != TaskState::Succeeded;
    if has_failure || answer.deleted.iter().any(is_lost) {
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
            is_any: true,
            until,
            ..Wait::default()
        };
        let answer = |tasks: &[SessionTask]| WaitTasksResponse {
            tasks: tasks.to_vec(),
            ..WaitTasksResponse::default()
        };
        let good = answer(&[task(TaskState::Succeeded), task(TaskState::Running)]);
        assert_eq!(verdict(&good, &wait(Until::Terminal)), ExitCode::Success);
        let bad = answer(&[task(TaskState::Succeeded), task(TaskState::Canceled)]);
        assert_eq!(verdict(&bad, &wait(Until::Terminal)), ExitCode::Refused);
        for (state, expected) in [
            (TaskState::Succeeded, ExitCode::Success),
            (TaskState::Failed, ExitCode::Refused),
            (TaskState::Running, ExitCode::Refused),
            (TaskState::Unspecified, ExitCode::Refused),
        ] {
            let mut deleted = DeletedTask::default();
            deleted.set_state(state);
            let gone = WaitTasksResponse {
                deleted: vec![deleted],
                ..good.clone()
            };
            assert_eq!(verdict(&gone, &wait(Until::Terminal)), expected);
        }
        let asking = answer(&[task(TaskState::AwaitingInput), task(TaskState::Failed)]);
        assert_eq!(
            verdict(&asking, &wait(Until::Attention)),
            ExitCode::QuestionPending
        );
        assert_eq!(verdict(&asking, &wait(Until::Terminal)), ExitCode::Refused);
    }
}
