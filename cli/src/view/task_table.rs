//! Tasks as a table.

use taskyard_proto::v1::{CommandSpec, SessionTask, TaskState};

use crate::view::output_format::OutputFormat;
use crate::view::table::TextTable;
use crate::view::{moment, words};

/// Characters of a name in a table that is not wide.
const LONGEST_NAME: usize = 40;

/// A line for each task; wide has ids, runs and workers, too.
pub fn task_table(tasks: &[SessionTask], format: OutputFormat, has_sessions: bool) -> String {
    let is_wide = format == OutputFormat::Wide;
    let mut headers = vec!["task"];
    if has_sessions || is_wide {
        headers.insert(0, "session");
    }
    headers.extend(["name", "kind", "state", "age", "took"]);
    if is_wide {
        headers.extend(["run", "worker", "id"]);
    }
    headers.push("summary");
    let state_idx = headers.iter().position(|header| *header == "state");
    let mut table = TextTable::new(&headers);
    for task in tasks {
        let mut cells = vec![format!("t{}", task.ordinal)];
        if has_sessions || is_wide {
            cells.insert(0, task.session_id.clone());
        }
        cells.push(dash(&shortened(&title(task), format)));
        cells.push(task.kind.clone());
        cells.push(words::state(task.state()).to_owned());
        cells.push(moment::age(task.created_at.as_ref()));
        cells.push(took(task));
        if is_wide {
            cells.push(task.run.to_string());
            cells.push(dash(&task.worker_id));
            cells.push(task.id.clone());
        }
        cells.push(dash(&outline(task)));
        table.add(cells, state_idx);
    }
    table.text()
}

/// A name of any length as a table shows it: its start, or with `wide` all of it.
pub fn shortened(name: &str, format: OutputFormat) -> String {
    if format == OutputFormat::Wide || name.chars().count() <= LONGEST_NAME {
        return name.to_owned();
    }
    let start: String = name.chars().take(LONGEST_NAME - 1).collect();
    format!("{}…", start.trim_end())
}

/// What to call a task in front of a person; empty: it has only its ordinal.
pub fn title(task: &SessionTask) -> String {
    if !task.display_name.is_empty() {
        return task.display_name.clone();
    }
    if !task.name.is_empty() {
        return task.name.clone();
    }
    match task.spec.as_ref().and_then(|spec| spec.command.as_ref()) {
        Some(command) => invocation(command),
        None => String::new(),
    }
}

/// What a command runs, as one would type it.
pub fn invocation(command: &CommandSpec) -> String {
    if command.shell.is_empty() {
        return command_line(&command.argv);
    }
    let default = ["/bin/sh".to_owned(), "-c".to_owned()];
    let interpreter: &[String] = if command.interpreter.is_empty() {
        &default
    } else {
        &command.interpreter
    };
    command_line(&[interpreter, std::slice::from_ref(&command.shell)].concat())
}

/// The arguments as one would type them.
pub fn command_line(argv: &[String]) -> String {
    let quoted: Vec<String> = argv
        .iter()
        .map(|argument| {
            let is_plain = !argument.is_empty()
                && argument.chars().all(|character| {
                    character.is_alphanumeric() || "-_./:=@%+,".contains(character)
                });
            if is_plain {
                argument.clone()
            } else {
                format!("'{}'", argument.replace('\'', "'\\''"))
            }
        })
        .collect();
    quoted.join(" ")
}

/// How long the task has run, or ran; `-` before its start.
pub fn took(task: &SessionTask) -> String {
    let Some(started_at) = &task.started_at else {
        return "-".to_owned();
    };
    let until = task.finished_at.unwrap_or_else(moment::now);
    crate::quantity::short_duration(moment::between(started_at, &until))
}

/// The one thing to know about a task now.
pub fn outline(task: &SessionTask) -> String {
    if let Some(request) = &task.input_request {
        return format!("asks: {}", request.prompt);
    }
    match task.state() {
        TaskState::Succeeded | TaskState::Failed | TaskState::Canceled => match &task.error {
            Some(error) if task.summary.is_empty() => error.message.clone(),
            Some(_) | None => task.summary.clone(),
        },
        TaskState::Unspecified
        | TaskState::Queued
        | TaskState::Running
        | TaskState::AwaitingInput => {
            let mut parts = Vec::new();
            if task.cancel_requested_at.is_some() {
                parts.push("cancel requested".to_owned());
            }
            if task.hold {
                parts.push("on hold".to_owned());
            }
            parts.extend([
                task.state_detail.clone(),
                progress(task),
                task.summary.clone(),
            ]);
            parts.retain(|part| !part.is_empty());
            parts.join("; ")
        }
    }
}

/// `3/10 files: fetching`, as far as it is known.
pub fn progress(task: &SessionTask) -> String {
    let Some(progress) = &task.progress else {
        return String::new();
    };
    let amount = match (progress.current, progress.total) {
        (Some(current), Some(total)) => format!("{current}/{total}"),
        (Some(current), None) => current.to_string(),
        (None, _) => String::new(),
    };
    let counted = format!("{amount} {}", progress.unit).trim().to_owned();
    match (amount.is_empty(), progress.label.is_empty()) {
        (true, _) => progress.label.clone(),
        (false, true) => counted,
        (false, false) => format!("{counted}: {}", progress.label),
    }
}

fn dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let long = "sh -c 'a script that goes on for quite a while'";
        let short = shortened(long, OutputFormat::Table);
        assert_eq!(short, "sh -c 'a script that goes on for quite…");
        assert_eq!(shortened(long, OutputFormat::Wide), long);
        assert_eq!(shortened("short", OutputFormat::Table), "short");
        let argv = ["sh", "-c", "echo it's", ""].map(str::to_owned);
        assert_eq!(command_line(&argv), r"sh -c 'echo it'\''s' ''");
    }
}
