//! One task on a screen, with everything that matters about it now.

use std::fmt::Write;

use taskyard_proto::v1::{CommandSpec, Exit, Monitor, SessionTask, StepStatus};

use crate::console::clean;
use crate::quantity::{exact_duration, from_wire, short_duration, short_size};
use crate::task_file::rlimit::rlimit;
use crate::unstarted;
use crate::view::monitor::{next_text, schedule_text};
use crate::view::task_table::{invocation, progress, took};
use crate::view::{moment, words};

/// Lines of `Label  value`; what is empty has no line. Of a live monitor also when it fires.
pub fn task_detail(task: &SessionTask, monitor: Option<&Monitor>) -> String {
    let mut lines = Lines::default();
    lines.add("Task", &format!("t{}  {}", task.ordinal, task.id));
    lines.add("Session", &task.session_id);
    lines.add("Name", &task.name);
    lines.add("Title", &task.display_name);
    lines.add("Kind", &task.kind);
    lines.add("State", &state_line(task));
    let waiting = unstarted::hint(task, &moment::now()).unwrap_or_default();
    lines.add("Hint", &waiting);
    if let Some(monitor) = monitor {
        add_monitor(&mut lines, monitor, task.hold);
    }
    lines.add("Summary", &task.summary);
    add_error(&mut lines, task);
    add_question(&mut lines, task);
    lines.add("Progress", &progress(task));
    add_steps(&mut lines, task);
    lines.add(
        "Exit",
        &task.exit.as_ref().map(exit_line).unwrap_or_default(),
    );
    if task.run > 0 {
        lines.add(
            "Run",
            &format!(
                "{} (attempt {}), took {}",
                task.run,
                task.attempt,
                took(task)
            ),
        );
    }
    lines.add("Worker", &worker_line(task));
    add_command(&mut lines, task);
    let secrets = task.secrets.iter();
    let names: Vec<&str> = secrets.map(|secret| secret.name.as_str()).collect();
    lines.add("Secrets", &names.join(", "));
    lines.add("Timeout", &span(task.timeout.as_ref()));
    if let Some(retry) = task.retry.as_ref().filter(|retry| retry.max_runs > 1) {
        lines.add("Retry", &format!("up to {} runs", retry.max_runs));
    }
    lines.add(
        "Queue",
        if task.queue == "default" {
            ""
        } else {
            &task.queue
        },
    );
    lines.add(
        "Executor",
        if task.executor == "command" {
            ""
        } else {
            &task.executor
        },
    );
    if task.priority != 0 {
        lines.add("Priority", &task.priority.to_string());
    }
    lines.add("Parent", &task.parent_task_id);
    lines.add("Group", &task.group);
    lines.add("Key", &task.key);
    lines.add("Labels", &labels(task));
    lines.add("Tags", &task.tags.join(", "));
    for artifact in &task.artifacts {
        let place = if artifact.path.is_empty() {
            &artifact.url
        } else {
            &artifact.path
        };
        lines.add(
            "Artifact",
            &format!("{} ({}) {place}", artifact.name, artifact.r#type),
        );
    }
    if let Some(links) = &task.links {
        lines.add("Child session", &links.child_session_id);
        lines.add("Remote task", &links.remote_task_id);
        lines.add("Resources", &links.resource_ids.join(", "));
        lines.add("Repeats", &links.retry_of);
        lines.add("Repeated as", &links.retried_as);
    }
    if let Some(usage) = &task.usage {
        let memory = short_size(u64::try_from(usage.max_rss_bytes).unwrap_or(0));
        lines.add(
            "Used",
            &format!("{} ms of CPU, {memory} of memory", usage.cpu_ms),
        );
        lines.add("Reported", &usage.reported_json);
    }
    if task.isolation != "none" {
        lines.add("Isolation", &task.isolation);
    }
    lines.add("Result", &task.result_path);
    lines.add_time("Not before", task.not_before.as_ref());
    lines.add_time("Start until", task.start_deadline.as_ref());
    lines.add_time("Created", task.created_at.as_ref());
    lines.add_time("Started", task.started_at.as_ref());
    lines.add_time("Finished", task.finished_at.as_ref());
    lines.text
}

/// `exit code 3`, `killed by SIGKILL (9), out of time`.
pub fn exit_line(exit: &Exit) -> String {
    let mut text = match (exit.exit_code, exit.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by {} ({signal})", exit.signal_name),
        (None, None) => "no exit was seen".to_owned(),
    };
    if exit.timed_out {
        text.push_str(", out of time");
    }
    if exit.oom_killed {
        text.push_str(", out of memory");
    }
    text
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn add(&mut self, label: &str, value: &str) {
        if !value.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "{label:<14}{}", clean(value));
        }
    }

    fn add_time(&mut self, label: &str, at: Option<&prost_types::Timestamp>) {
        if let Some(at) = at {
            self.add(label, &moment::with_age(at));
        }
    }
}

fn state_line(task: &SessionTask) -> String {
    let mut text = words::state(task.state()).to_owned();
    if task.hold {
        text.push_str(", on hold");
    }
    if !task.state_detail.is_empty() {
        text.push_str(": ");
        text.push_str(&task.state_detail);
    }
    if let Some(at) = &task.cancel_requested_at {
        text.push_str("; cancel requested at ");
        text.push_str(&moment::clock_time(at));
    }
    text
}

fn add_monitor(lines: &mut Lines, monitor: &Monitor, is_paused: bool) {
    let schedule = monitor.schedule.as_ref().map(schedule_text);
    lines.add("Schedule", &schedule.unwrap_or_default());
    lines.add(
        "Next firing",
        &next_text(monitor, is_paused, moment::with_age),
    );
    lines.add(
        "Firings",
        &format!(
            "{}, of which {} run; {} left out",
            monitor.firings, monitor.open_firings, monitor.skipped
        ),
    );
    if !monitor.last_task_id.is_empty() {
        let state = words::state(monitor.last_state());
        lines.add(
            "Last firing",
            &format!(
                "{state}: {}  {}",
                monitor.last_summary, monitor.last_task_id
            ),
        );
    }
}

fn add_error(lines: &mut Lines, task: &SessionTask) {
    if let Some(error) = &task.error {
        let retryable = if error.retryable {
            " (a retry may help)"
        } else {
            ""
        };
        lines.add(
            "Error",
            &format!("{}: {}{retryable}", words::error(error), error.message),
        );
        lines.add("Hint", &error.hint);
    }
}

fn add_question(lines: &mut Lines, task: &SessionTask) {
    if let Some(request) = &task.input_request {
        lines.add("Question", &request.prompt);
        lines.add("Expected", &request.expected_json);
        lines.add_time("Expires", request.expires_at.as_ref());
    }
}

fn add_steps(lines: &mut Lines, task: &SessionTask) {
    let steps = task.progress.iter().flat_map(|progress| &progress.steps);
    for step in steps {
        let mark = match step.status() {
            StepStatus::Done => "[x]",
            StepStatus::InProgress => "[>]",
            StepStatus::Skipped => "[-]",
            StepStatus::Unspecified | StepStatus::Pending => "[ ]",
        };
        lines.add("", &format!("{mark} {}", step.title));
    }
}

fn worker_line(task: &SessionTask) -> String {
    match &task.heartbeat_at {
        Some(at) => format!(
            "{}, heard {} ago",
            task.worker_id,
            short_duration(moment::between(at, &moment::now()))
        ),
        None => task.worker_id.clone(),
    }
}

fn add_command(lines: &mut Lines, task: &SessionTask) {
    let Some(spec) = &task.spec else {
        return;
    };
    if let Some(command) = &spec.command {
        lines.add("Command", &invocation(command));
        lines.add("Directory", &command.cwd);
        let variables: Vec<&str> = command.env.keys().map(String::as_str).collect();
        lines.add("Environment", &variables.join(", "));
        lines.add("Variables", &command.env_files.join(", "));
        lines.add("Input", &input_source(command));
        lines.add("Terminal", &terminal(command));
        lines.add("User", &user(command));
        lines.add(
            "Nice",
            &command
                .nice
                .map_or_else(String::new, |nice| nice.to_string()),
        );
        let limits: Vec<String> = (command.rlimits.iter())
            .map(|(name, limit)| format!("{name}={}", rlimit(limit)))
            .collect();
        lines.add("Limits", &limits.join(", "));
        lines.add("Grace", &span(command.grace.as_ref()));
    }
    lines.add("Payload", &spec.payload_json);
}

fn input_source(command: &CommandSpec) -> String {
    if command.stdin_live {
        "live; see `taskyard input`".to_owned()
    } else {
        command.stdin_file.clone()
    }
}

fn terminal(command: &CommandSpec) -> String {
    let Some(pty) = &command.pty else {
        return String::new();
    };
    let size = |value: Option<u32>, name| value.map(|value| format!("{value} {name}"));
    let parts = [
        size(pty.rows, "rows"),
        size(pty.columns, "columns"),
        Some(pty.term.clone()).filter(|term| !term.is_empty()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return "of its own".to_owned();
    }
    parts.join(", ")
}

fn user(command: &CommandSpec) -> String {
    match (command.user.as_str(), command.group.as_str()) {
        (user, "") => user.to_owned(),
        (user, group) => format!("{user}:{group}"),
    }
}

fn labels(task: &SessionTask) -> String {
    let labels: Vec<String> = task
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.join(", ")
}

fn span(duration: Option<&prost_types::Duration>) -> String {
    duration
        .map(|duration| exact_duration(from_wire(duration)))
        .unwrap_or_default()
}
