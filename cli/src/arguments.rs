//! The command line: what holds for every verb, and the list of verbs.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    answer, audit, cancel, clone, completions, files, get, help, hold, input, inside, list,
    log_filter, logs, message, messages, migrate, monitor, queues, restart, retention, retry, run,
    server, sessions, signal, submit, token, update, usage, wait, wakes, watch, webhooks, worker,
    workers,
};
use crate::dev;
use crate::failure::Failure;
use crate::task_reference::{DEFAULT_SESSION, TaskReference};

/// Run the background work that agent sessions own: queue it, follow it, steer it, read its results
#[derive(Debug, Parser)]
#[command(
    name = "taskyard",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    max_term_width = 100,
    help_template = "{about}\n\n{usage-heading} {usage}\n\nCommands:\n{subcommands}{after-help}",
    after_help = "Options of every verb: --endpoint URL, --session ID, --namespace NAME, or the variables
TASKYARD_ENDPOINT, TASKYARD_SESSION, TASKYARD_NAMESPACE. More verbs: update usage input signal
messages hold release queues retention log-filter audit token completions help

Examples:
  taskyard dev                                    a whole Taskyard on this machine
  taskyard run --session demo -- make test        run a command and follow it
  taskyard watch demo                             see everything that happens in a session

Exit codes: 0 done, 1 refused, 2 usage, 125 failed, 130 interrupted; `help VERB` has the rest"
)]
pub struct CommandLine {
    #[command(flatten)]
    pub global: GlobalArguments,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Where the server is and whose tasks are meant.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArguments {
    /// Server
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "TASKYARD_ENDPOINT",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8275"
    )]
    pub endpoint: String,
    /// Session of the task; `default` where one is needed
    #[arg(
        long,
        global = true,
        value_name = "ID",
        env = "TASKYARD_SESSION",
        hide_env_values = true
    )]
    pub session: Option<String>,
    /// Tenant
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "TASKYARD_NAMESPACE",
        hide_env_values = true,
        default_value = "default"
    )]
    pub namespace: String,
    /// Socket of the task inside which this runs, for `taskyard self`; in place of all the others.
    #[arg(skip)]
    pub socket: Option<PathBuf>,
}

impl GlobalArguments {
    /// The same inside a task: its own namespace and session, which go without saying.
    #[must_use]
    pub fn inside(&self, socket: PathBuf) -> GlobalArguments {
        GlobalArguments {
            endpoint: format!("the task's socket {}", socket.display()),
            session: None,
            namespace: String::new(),
            socket: Some(socket),
        }
    }

    /// Whether this runs inside a task and speaks for it.
    pub fn is_inside(&self) -> bool {
        self.socket.is_some()
    }

    /// The session that was named, if one was; an empty variable names none.
    pub fn session(&self) -> Option<&str> {
        self.session
            .as_deref()
            .filter(|session| !session.is_empty())
    }

    /// The session that was named, else the one for those who name none.
    pub fn session_or_default(&self) -> String {
        if self.is_inside() {
            return String::new();
        }
        self.session().unwrap_or(DEFAULT_SESSION).to_owned()
    }

    /// A task as an argument names it.
    pub fn task(&self, argument: &str) -> Result<TaskReference, Failure> {
        if argument.is_empty() {
            return Err(Failure::Usage(
                "the name of the task is empty; give an id, t12 or a name".to_owned(),
            ));
        }
        if self.is_inside() {
            return Ok(TaskReference {
                session_id: String::new(),
                task: argument.to_owned(),
            });
        }
        Ok(TaskReference::new(argument, self.session()))
    }
}

/// What to do. Hidden are verbs that the help of another one, or of the whole tool, names: the list must fit a screen.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Dev(dev::DevArguments),
    Server(Box<server::ServerArguments>),
    Worker(worker::WorkerArguments),
    Migrate(migrate::MigrateArguments),
    Run(Box<run::RunArguments>),
    Submit(submit::SubmitArguments),
    List(list::ListArguments),
    Get(get::GetArguments),
    Watch(watch::WatchArguments),
    Logs(logs::LogsArguments),
    Wait(wait::WaitArguments),
    Cancel(cancel::CancelArguments),
    #[command(hide = true)]
    Input(input::InputArguments),
    #[command(hide = true)]
    Signal(signal::SignalArguments),
    Retry(retry::RetryArguments),
    Message(message::MessageArguments),
    #[command(hide = true)]
    Messages(messages::MessagesArguments),
    Answer(answer::AnswerArguments),
    Wakes(wakes::WakesArguments),
    Monitor(monitor::MonitorArguments),
    Restart(restart::RestartArguments),
    Clone(clone::CloneArguments),
    #[command(hide = true)]
    Update(Box<update::UpdateArguments>),
    #[command(hide = true)]
    Usage(usage::UsageArguments),
    #[command(hide = true)]
    Hold(hold::HoldArguments),
    #[command(hide = true)]
    Release(hold::ReleaseArguments),
    Files(files::FilesArguments),
    #[command(name = "self")]
    Inside(Box<inside::arguments::InsideArguments>),
    Sessions(sessions::SessionsArguments),
    #[command(hide = true)]
    Retention(retention::RetentionArguments),
    Workers(workers::WorkersArguments),
    #[command(hide = true)]
    Queues(queues::QueuesArguments),
    #[command(hide = true)]
    LogFilter(log_filter::LogFilterArguments),
    Webhooks(webhooks::WebhooksArguments),
    #[command(hide = true)]
    Audit(audit::AuditArguments),
    #[command(hide = true)]
    Token(token::TokenArguments),
    #[command(hide = true)]
    Completions(completions::CompletionsArguments),
    #[command(hide = true)]
    Help(help::HelpArguments),
}

/// `KEY=VALUE`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err(format!("`{text}` is not of the form KEY=VALUE")),
    }
}

/// A name that is one: what is empty would be taken for none at all, as of a variable that is not set.
pub fn parse_filled(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("it is empty; give a name, or leave the option out".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Every verb, as the words that lead to it.
    fn paths(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
        found.push(path.to_vec());
        for inner in command.get_subcommands() {
            let mut inner_path = path.to_vec();
            inner_path.push(inner.get_name().to_owned());
            paths(inner, &inner_path, found);
        }
    }

    #[test]
    fn every_help_fits_a_screen_and_has_examples_and_exit_codes() {
        let mut found = Vec::new();
        paths(&CommandLine::command(), &[], &mut found);
        assert!(found.len() >= 20);
        for path in found {
            let help = crate::commands::help::text_of(&path).expect("every verb has help");
            let lines = help.lines().count();
            assert!(lines <= 40, "{path:?}: {lines} lines\n{help}");
            let examples = help.split("Examples:").nth(1).unwrap_or_default();
            let examples = examples.split("Exit codes").next().unwrap_or_default();
            let n_examples = examples
                .lines()
                .filter(|line| line.contains("taskyard "))
                .count();
            assert!(n_examples >= 3, "{path:?}: {n_examples} examples\n{help}");
            assert!(help.contains("Exit codes"), "{path:?}\n{help}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_pair_needs_a_key() {
        assert_eq!(parse_pair("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(parse_pair("A="), Ok(("A".to_owned(), String::new())));
        assert!(parse_pair("=x").is_err() && parse_pair("A").is_err());
    }
}
