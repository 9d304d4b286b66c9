//! `run`: a command as a task, followed as if it ran here.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::{CommandSpec, RetryPolicy, SessionTask, TaskDefinition, TaskSpec};

use crate::arguments::GlobalArguments;
use crate::commands::create::create_task;
use crate::connection::Connection;
use crate::console;
use crate::dev::embedded::{Embedded, EmbeddedPlan};
use crate::dev::service::ServiceArguments;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::foreground::{Foreground, run_in_foreground};
use crate::interrupt::Interrupts;
use crate::quantity::{parse_duration, to_wire};
use crate::task_reference::TaskReference;
use crate::view::output_format::{OutputFormat, print_record};
use crate::view::task_record::task_record;

/// Run a command as a task, follow its output, and end with its exit code
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard run --session demo -- sh -c 'echo working; sleep 2; exit 3'
  taskyard run --timeout 30s --retry 3 --env MODE=fast -- ./crawl.sh
  ID=$(taskyard run --detach -o name -- make release); taskyard logs -f $ID
Exit codes: the command's own; 128+n killed by signal n, 124 timeout, 125 lost or server out of
reach, 130 canceled or interrupted, 1 refused, 2 usage. Ctrl-C cancels, again kills, again leaves.")]
pub struct RunArguments {
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
    /// Set a variable; KEY alone copies it from here
    #[arg(long = "env", value_name = "KEY=VALUE")]
    pub environment: Vec<String>,
    /// Directory on the worker; a relative one is below the task's own
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Longest time for one run
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,
    /// Name, unique among the session's live tasks
    #[arg(long)]
    pub name: Option<String>,
    /// Run again after a failure or a loss, this many runs in all
    #[arg(long, value_name = "MAX_RUNS", value_parser = clap::value_parser!(i32).range(1..=100), allow_negative_numbers = true)]
    pub retry: Option<i32>,
    /// Do not follow; print the task (see -o)
    #[arg(long)]
    pub detach: bool,
    /// With --detach: table, wide, json, yaml, name
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        requires = "detach",
        hide_possible_values = true
    )]
    pub output: Option<OutputFormat>,
    /// Needs no server: start one for this command only
    #[arg(long, conflicts_with = "detach")]
    pub dev: bool,
    #[command(flatten, next_help_heading = "Server of one's own")]
    pub service: ServiceArguments,
}

/// See the help text for the exit codes.
pub async fn execute(
    arguments: RunArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let definition = definition(&arguments)?;
    let session_id = global.session_or_default();
    if arguments.dev {
        return run_with_own_server(arguments.service, global, session_id, definition).await;
    }
    if arguments.service.listen.is_some() || arguments.service.lease.is_some() {
        return Err(Failure::Usage("--listen and --lease need --dev".to_owned()));
    }
    let connection = Connection::open(global).await?;
    if arguments.detach {
        let (task, _) = create_task(&connection, &session_id, definition).await?;
        print_detached(&task, arguments.output.unwrap_or(OutputFormat::Table))?;
        return Ok(ExitCode::Success);
    }
    let mut interrupts = Interrupts::listen(false)?;
    let foreground = Foreground {
        connection: &connection,
        session_id: &session_id,
        definition,
        goes_on_without_us: true,
    };
    run_in_foreground(foreground, &mut interrupts).await
}

/// A server, a worker and a database that live exactly as long as this command.
async fn run_with_own_server(
    arguments: ServiceArguments,
    global: &GlobalArguments,
    session_id: String,
    definition: TaskDefinition,
) -> Result<ExitCode, Failure> {
    let mut interrupts = Interrupts::listen(true)?;
    let plan = EmbeddedPlan::new(arguments, "127.0.0.1:0")?;
    let mut embedded = Embedded::start(plan, &mut interrupts).await?;
    let ended = match Connection::to(embedded.endpoint(), &global.namespace).await {
        Ok(connection) => {
            let foreground = Foreground {
                connection: &connection,
                session_id: &session_id,
                definition,
                goes_on_without_us: false,
            };
            tokio::select! {
                ended = run_in_foreground(foreground, &mut interrupts) => ended,
                failure = embedded.failed() => Err(failure),
            }
        }
        Err(failure) => Err(failure),
    };
    let stopped = embedded.stop().await;
    let exit_code = ended?;
    stopped.map(|()| exit_code)
}

fn definition(arguments: &RunArguments) -> Result<TaskDefinition, Failure> {
    let mut variables = Vec::new();
    for text in &arguments.environment {
        variables.push(variable(text)?);
    }
    let command = CommandSpec {
        argv: arguments.command.clone(),
        env: variables.into_iter().flatten().collect(),
        cwd: working_directory(arguments)?,
        ..CommandSpec::default()
    };
    Ok(TaskDefinition {
        name: arguments.name.clone().unwrap_or_default(),
        spec: Some(TaskSpec {
            command: Some(command),
            ..TaskSpec::default()
        }),
        timeout: arguments.timeout.map(to_wire),
        retry: arguments.retry.map(|max_runs| RetryPolicy {
            max_runs,
            ..RetryPolicy::default()
        }),
        ..TaskDefinition::default()
    })
}

/// The worker may be on another machine, where a directory of this one means nothing: a relative directory is below the
/// task's own there. With --dev the worker surely is here, and a relative directory is what it is for any command.
fn working_directory(arguments: &RunArguments) -> Result<String, Failure> {
    let Some(directory) = &arguments.cwd else {
        return Ok(String::new());
    };
    let directory = if arguments.dev {
        std::path::absolute(directory)
            .map_err(|error| Failure::Usage(format!("--cwd {}: {error}", directory.display())))?
    } else {
        directory.clone()
    };
    directory
        .into_os_string()
        .into_string()
        .map_err(|_| Failure::Usage("--cwd must be valid UTF-8".to_owned()))
}

/// `KEY=VALUE`, or `KEY` for the value that it has here; one that is not set here is left out.
fn variable(text: &str) -> Result<Option<(String, String)>, Failure> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => match env::var(text) {
            Ok(value) => (text, Some(value)),
            Err(env::VarError::NotPresent) => (text, None),
            Err(env::VarError::NotUnicode(_)) => {
                return Err(Failure::Usage(format!(
                    "--env {text}: its value here is not valid UTF-8"
                )));
            }
        },
    };
    if key.is_empty() {
        return Err(Failure::Usage(format!(
            "--env {text}: the variable has no name"
        )));
    }
    Ok(value.map(|value| (key.to_owned(), value)))
}

fn print_detached(task: &SessionTask, format: OutputFormat) -> Result<(), Failure> {
    match format {
        OutputFormat::Name => console::print(&format!("{}\n", task.id)),
        OutputFormat::Json | OutputFormat::Yaml => print_record(format, &task_record(task, false)),
        OutputFormat::Table | OutputFormat::Wide => console::print(&format!(
            "t{} {} in session {}\n",
            task.ordinal,
            task.id,
            console::clean(&task.session_id)
        )),
    }?;
    if console::output_width().is_some() && format == OutputFormat::Table {
        let reference = TaskReference::new(&task.id, None);
        console::note(&format!(
            "follow it with `taskyard logs -f {}`",
            reference.task
        ));
    }
    Ok(())
}
