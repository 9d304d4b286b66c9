//! `run`: a command as a task, followed as if it ran here.

use clap::Args;
use taskyard_proto::v1::{SessionTask, TaskDefinition};

use crate::arguments::GlobalArguments;
use crate::commands::command_options::CommandOptions;
use crate::commands::create::create_task;
use crate::commands::start_options::StartOptions;
use crate::commands::task_options::TaskOptions;
use crate::connection::Connection;
use crate::console;
use crate::dev::embedded::{Embedded, EmbeddedPlan};
use crate::dev::service::ServiceArguments;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::foreground::{Foreground, run_in_foreground};
use crate::interrupt::Interrupts;
use crate::task_reference::TaskReference;
use crate::terminal::size::pty_like_here;
use crate::view::output_format::{OutputFormat, print_record};
use crate::view::task_record::task_record;

/// Run a command as a task, follow its output, and end with its exit code
#[derive(Debug, Args)]
// they serve here as well, and the help has its size
#[command(
    mut_arg("group_wake", |argument| argument.hide(true)),
    mut_arg("tags", |argument| argument.hide(true)),
    mut_arg("labels", |argument| argument.hide(true)),
    mut_arg("listen", |argument| argument.hide(true)),
    mut_arg("data_dir", |argument| argument.hide(true)),
    mut_arg("database_url", |argument| argument.hide(true)),
    mut_arg("lease", |argument| argument.hide(true)),
    mut_arg("insecure_listen", |argument| argument.hide(true)),
    mut_arg("allow_private_webhooks", |argument| argument.hide(true)),
    mut_arg("object_store", |argument| argument.hide(true)),
    mut_arg("secret_key_file", |argument| argument.hide(true))
)]
#[command(after_help = "Examples:
  taskyard run --session demo -- sh -c 'echo working; sleep 2; exit 3'
  taskyard run --timeout 30s --retry 3 --env MODE=fast -- ./crawl.sh
  ID=$(taskyard run --detach -o name -- make release); taskyard logs -f $ID
Also: --label --tag --group-wake --display-name --kind --queue --priority --not-before --hold
--start-deadline --parent --input --stdin --env-file --inherit-env --user --nice --rlimit --grace
--result-source --message-schema --output-limit --worker-label --success-exit-code
Exit codes: the command's own; 128+n killed by signal n, 124 timeout, 125 lost or server out of
reach, 130 canceled or interrupted, 1 refused, 2 usage. Ctrl-C cancels, again kills, again leaves;
with -it that is the command's, and Enter ~ . leaves. -t, --tty alone: a terminal, no keys.")]
pub struct RunArguments {
    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        required = true,
        value_name = "CMD",
        hide = true
    )]
    pub command: Vec<String>,
    #[command(flatten)]
    pub options: CommandOptions,
    /// Standard input here is the command's; -it: on a terminal of its own
    #[arg(short, long, conflicts_with = "detach")]
    pub interactive: bool,
    /// Give it a terminal, of the size of the one here
    #[arg(short, long, hide = true)]
    pub tty: bool,
    #[command(flatten)]
    pub start: StartOptions,
    #[command(flatten)]
    pub task: TaskOptions,
    /// Task of the session below which it belongs
    #[arg(long, value_name = "TASK", hide = true)]
    pub parent: Option<String>,
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
    /// Needs no server: starts one for this command, with options of `dev`
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
    let mut options = arguments.options;
    if arguments.interactive && options.secrets.takes_standard_input() {
        return Err(Failure::Usage(
            "-i and `--secret NAME=-` both want the standard input; give the secret as file:PATH or from a variable"
                .to_owned(),
        ));
    }
    if arguments.dev {
        options.make_local()?;
    }
    let mut definition = options.definition(arguments.command)?;
    arguments.task.apply(&mut definition).await?;
    definition.parent_task_id = arguments.parent.unwrap_or_default();
    if let Some(command) = definition
        .spec
        .as_mut()
        .and_then(|spec| spec.command.as_mut())
    {
        arguments.start.apply(command);
        command.stdin_live = arguments.interactive;
        command.pty = arguments.tty.then(pty_like_here);
    }
    let session_id = global.session_or_default();
    if arguments.dev {
        return run_with_own_server(arguments.service, global, session_id, definition).await;
    }
    if arguments.service.listen.is_some() || arguments.service.lease.is_some() {
        return Err(Failure::Usage("--listen and --lease need --dev".to_owned()));
    }
    let connection = Connection::open(global).await?;
    if arguments.detach {
        let (task, is_new) = create_task(&connection, &session_id, definition).await?;
        if !is_new {
            console::note(&format!("t{} was there before, by its key", task.ordinal));
        }
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
