//! `self spawn`: a task below this one.

use clap::Args;
use taskyard_proto::v1::{SessionTask, TaskDefinition};

use crate::arguments::GlobalArguments;
use crate::commands::command_options::CommandOptions;
use crate::commands::create::create_task;
use crate::commands::task_options::TaskOptions;
use crate::commands::wait::{Until, Wait, wait_for};
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::file_transfer::read_whole;
use crate::foreground::summary_line;
use crate::task_file::definition::definition;
use crate::task_file::parse::parse;

/// Start a task below this one; prints its id
#[derive(Debug, Args)]
// as in the help of `run`
#[command(
    mut_arg("group_wake", |argument| argument.hide(true)),
    mut_arg("tags", |argument| argument.hide(true))
)]
#[command(after_help = "Examples:
  ID=$(taskyard self spawn --name index -- ./index.sh docs)
  taskyard self spawn --key step-1 --wait -- make test
  taskyard self spawn -f child.yaml

The same key finds the child again, on a later run too. Rarer options are those of `taskyard run`.
Exit codes: 0 started, 1 refused, 2 usage, 125 the lease is lost or the server failed; with --wait
the child's own: 128+n killed by signal n, 124 timeout, 125 lost, 130 canceled")]
pub struct SpawnArguments {
    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        required_unless_present = "task_file",
        conflicts_with = "task_file",
        value_name = "CMD"
    )]
    pub command: Vec<String>,
    /// A task file in place of a command; - for standard input
    #[arg(short = 'f', value_name = "FILE")]
    pub task_file: Option<String>,
    #[command(flatten)]
    pub task: TaskOptions,
    /// Wait until it has ended, and end as it did
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub options: CommandOptions,
}

/// Creates the child, and waits for it where that was asked for.
pub async fn execute(
    arguments: SpawnArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let is_waiting = arguments.wait;
    let child = child(arguments).await?;
    let connection = Connection::open(global).await?;
    let (task, is_new) = create_task(&connection, "", child).await?;
    if !is_new {
        console::note(&format!("t{} was there before, by its key", task.ordinal));
    }
    console::print(&format!("{}\n", task.id))?;
    if !is_waiting {
        return Ok(ExitCode::Success);
    }
    let mut wait = Wait {
        until: Until::Attention,
        ..Wait::for_end(vec![task.id])
    };
    let mut ended = wait_for_child(&connection, &wait).await?;
    if let Some(question) = &ended.input_request {
        console::note(&format!(
            "t{} asks: {}; it waits for `taskyard answer` of the owner, or `taskyard self answer {}`",
            ended.ordinal,
            console::clean(&question.prompt),
            ended.id
        ));
        wait.until = Until::Terminal;
        ended = wait_for_child(&connection, &wait).await?;
    }
    console::note(&summary_line(&ended, true));
    Ok(ExitCode::of_task(&ended))
}

async fn wait_for_child(connection: &Connection, wait: &Wait) -> Result<SessionTask, Failure> {
    let (answer, _) = wait_for(connection, wait).await?;
    let child = answer.tasks.into_iter().next();
    child.ok_or_else(|| Failure::Own("the child was deleted, so how it ended is gone".to_owned()))
}

async fn child(arguments: SpawnArguments) -> Result<TaskDefinition, Failure> {
    let mut child = match &arguments.task_file {
        None => arguments.options.definition(arguments.command)?,
        Some(file) => {
            if !arguments.options.is_empty() {
                return Err(Failure::Usage(
                    "with -f the file says all of the command; leave --env, --secret, --cwd, --timeout, --name, --retry, --file and --collect out"
                        .to_owned(),
                ));
            }
            let source = if file == "-" { "standard input" } else { file };
            let mut files = parse(source, &read_whole(file).await?)?;
            let (Some(file), true) = (files.pop(), files.is_empty()) else {
                return Err(Failure::Usage(format!(
                    "{source}: must hold one task; spawn them one by one"
                )));
            };
            if file.session.is_some() || !file.parent.is_empty() {
                return Err(Failure::Usage(format!(
                    "{source}: what is spawned belongs to this task and its session; leave `session` and `parent` out"
                )));
            }
            definition(file)?
        }
    };
    arguments.task.apply(&mut child).await?;
    Ok(child)
}
