//! `submit`: a task from a file.

use clap::Args;
use taskyard_proto::v1::SessionTask;

use crate::arguments::GlobalArguments;
use crate::commands::create::create_task;
use crate::commands::list::print_tasks;
use crate::commands::wait::{Until, Wait, wait_for};
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::file_transfer::read_local;
use crate::foreground::summary_line;
use crate::task_file::definition::definition;
use crate::task_file::parse::parse;
use crate::task_reference::TaskReference;
use crate::unstarted;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::task_record::task_record;

/// Submit a task that is written as JSON or YAML
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard submit --session demo -f task.yaml
  echo '{\"command\": {\"argv\": [\"make\", \"test\"]}, \"timeout\": \"10m\"}' | taskyard submit -f -
  taskyard submit -f task.yaml --wait -o json

Fields: session name key kind display_name command{argv env inherit_env cwd stdin umask
success_exit_codes grace} payload input result_source output_limit worker_labels parent group labels
tags queue executor priority not_before start_deadline timeout retry{max_runs initial_backoff
max_backoff multiplier} hold wake_policy schedule{every cron time_zone at wake_on match overlap ...}

Exit codes: 0 done, 1 refused, or with --wait the task did not succeed, 2 the file makes no sense,
125 server out of reach or failed")]
pub struct SubmitArguments {
    /// The task; - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: String,
    /// Wait until it has ended
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Creates the task, and waits for it where that was asked for.
pub async fn execute(
    arguments: SubmitArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let source = if arguments.file == "-" {
        "standard input"
    } else {
        &arguments.file
    };
    let file = parse(source, &read_local(&arguments.file).await?)?;
    let session_id = match (global.session(), &file.session) {
        (Some(session), _) => session.to_owned(),
        (None, Some(session)) => session.clone(),
        (None, None) => global.session_or_default(),
    };
    let connection = Connection::open(global).await?;
    let (task, is_new) = create_task(&connection, &session_id, definition(file)).await?;
    if !is_new {
        console::note(&format!("t{} was there before, by its key", task.ordinal));
    }
    if !arguments.wait {
        print_task(&task, &arguments.output)?;
        return Ok(ExitCode::Success);
    }
    console::note(&format!(
        "t{} {} in session {}",
        task.ordinal,
        task.id,
        console::clean(&session_id)
    ));
    let reference = TaskReference::new(&task.id, None);
    let wait = Wait {
        session_id: String::new(),
        tasks: vec![task.id],
        is_any: false,
        until: Until::Terminal,
        timeout: None,
    };
    let (tasks, exit_code) = {
        let waiting = wait_for(&connection, &wait);
        tokio::pin!(waiting);
        tokio::select! {
            ended = &mut waiting => ended,
            hint = unstarted::watch(&connection, &reference) => {
                if let Some(hint) = hint {
                    console::note(&hint);
                }
                waiting.await
            }
        }?
    };
    match (arguments.output.output, tasks.first()) {
        (OutputFormat::Json | OutputFormat::Yaml | OutputFormat::Name, Some(task)) => {
            print_task(task, &arguments.output)?;
        }
        (OutputFormat::Table | OutputFormat::Wide, Some(task)) => {
            print_tasks(&tasks, &arguments.output, false)?;
            console::note(&summary_line(task, false));
        }
        (_, None) => {
            return Err(Failure::Own(
                "the server answered without a task".to_owned(),
            ));
        }
    }
    Ok(exit_code)
}

fn print_task(task: &SessionTask, output: &OutputArguments) -> Result<(), Failure> {
    match output.output {
        OutputFormat::Table | OutputFormat::Wide => console::print(&format!(
            "t{} {} {} in session {}\n",
            task.ordinal,
            task.id,
            crate::view::words::state(task.state()),
            console::clean(&task.session_id)
        )),
        OutputFormat::Json | OutputFormat::Yaml => {
            print_record(output.output, &task_record(task, output.full))
        }
        OutputFormat::Name => console::print(&format!("{}\n", task.id)),
    }
}
