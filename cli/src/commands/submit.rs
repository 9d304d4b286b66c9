//! `submit`: a task from a file.

use clap::Args;
use taskyard_proto::v1::SessionTask;

use crate::arguments::GlobalArguments;
use crate::commands::create::create_task;
use crate::commands::list::print_tasks;
use crate::commands::submit_batch::{Batch, create_batch};
use crate::commands::wait::{Wait, wait_for};
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::file_transfer::read_whole;
use crate::foreground::summary_line;
use crate::task_file::definition::definition;
use crate::task_file::parse::{Item, parse, parse_each};
use crate::task_reference::TaskReference;
use crate::unstarted;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::task_record::task_record;

/// Submit a task, or several, written as JSON or YAML
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard submit --session demo -f task.yaml
  echo '{\"command\": {\"argv\": [\"make\", \"test\"]}, \"timeout\": \"10m\"}' | taskyard submit -f -
  taskyard submit -f tasks.yaml --atomic --wait -o json

Fields, of which docs/task-files.md tells more: session name key kind display_name
command{argv shell interpreter env inherit_env env_files cwd stdin stdin_file stdin_live pty nice
rlimits user group start_jitter umask success_exit_codes grace survive_worker_restart}
executor payload input files{path to mode} collect{glob to} secrets result_source output_limit
result_schema message_schema isolation{level network writable readable limits} worker_labels
parent parent_item group group_wake labels tags queue priority not_before start_deadline timeout
retry{max_runs initial_backoff max_backoff multiplier} hold wake_policy approver_only
schedule{every cron time_zone at wake_on match overlap max_firings keep_firings jitter kind}

Of several tasks a bad one is told and left out; with --atomic none is created then.
Exit codes: 0 done, 1 one was refused, or with --wait did not succeed, 2 the file makes no sense,
125 server out of reach or failed")]
pub struct SubmitArguments {
    /// The task, or several as YAML documents or a JSON array; - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: String,
    /// Wait until it has ended
    #[arg(long)]
    pub wait: bool,
    /// Do not start it before `taskyard release`
    #[arg(long)]
    pub hold: bool,
    /// Of several tasks create all or none
    #[arg(long)]
    pub atomic: bool,
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
    let content = read_whole(&arguments.file).await?;
    let mut items = parse_each(source, &content)?;
    if arguments.atomic || items.len() == 1 {
        items = parse(source, &content)?.into_iter().map(Ok).collect();
    }
    for file in items.iter_mut().flatten() {
        file.hold |= arguments.hold;
    }
    let session_id = session_id(source, &items, global)?;
    let connection = Connection::open(global).await?;
    if items.len() > 1 {
        let batch = create_batch(&connection, &session_id, items, arguments.atomic).await?;
        return finish_batch(&connection, batch, &arguments).await;
    }
    let Some(Ok(file)) = items.pop() else {
        return Err(Failure::Usage(format!("{source}: holds no task")));
    };
    let (task, is_new) = create_task(&connection, &session_id, definition(file)?).await?;
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
        tasks: vec![task.id],
        ..Wait::default()
    };
    let (answer, exit_code) = {
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
    let tasks = answer.tasks;
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

/// The one session of all the tasks; the command line wins.
fn session_id(source: &str, items: &[Item], global: &GlobalArguments) -> Result<String, Failure> {
    if let Some(session) = global.session() {
        return Ok(session.to_owned());
    }
    let files = items.iter().flatten();
    let mut named = files.filter_map(|file| file.session.as_deref());
    let Some(first) = named.next() else {
        return Ok(global.session_or_default());
    };
    match named.find(|session| *session != first) {
        None => Ok(first.to_owned()),
        Some(other) => Err(Failure::Usage(format!(
            "{source}: names the sessions `{}` and `{}`; the tasks of a batch belong to one",
            console::clean(first),
            console::clean(other)
        ))),
    }
}

/// Shows the tasks of a batch, and waits for them where that was asked for.
async fn finish_batch(
    connection: &Connection,
    batch: Batch,
    arguments: &SubmitArguments,
) -> Result<ExitCode, Failure> {
    if !arguments.wait || batch.tasks.is_empty() {
        print_tasks(&batch.tasks, &arguments.output, false)?;
        return Ok(batch.exit_code);
    }
    let wait = Wait::for_end(batch.tasks.into_iter().map(|task| task.id).collect());
    let (answer, exit_code) = wait_for(connection, &wait).await?;
    print_tasks(&answer.tasks, &arguments.output, false)?;
    Ok(match batch.exit_code {
        ExitCode::Success => exit_code,
        refused => refused,
    })
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

#[cfg(test)]
mod tests {
    use clap::Args;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::task_file::model;

    /// The fields that a form has: an unknown one is refused with all that are known.
    fn fields<T: DeserializeOwned>() -> Vec<String> {
        let Err(error) = serde_json::from_str::<T>("{\"no such field\": 1}") else {
            return Vec::new();
        };
        let text = error.to_string();
        let known = text.split('`').skip(3).step_by(2);
        known.map(str::to_owned).collect()
    }

    #[test]
    fn the_help_names_each_field() {
        let command = SubmitArguments::augment_args(clap::Command::new("submit"));
        let help = command.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        let (_, help) = help.split_once("Fields").expect("it lists them");
        let named: Vec<&str> = help
            .split(|letter: char| !letter.is_ascii_lowercase() && letter != '_')
            .collect();
        for form in [
            fields::<model::TaskFile>(),
            fields::<model::Command>(),
            fields::<model::Isolation>(),
            fields::<model::Input>(),
            fields::<model::Collect>(),
            fields::<model::Retry>(),
        ] {
            assert!(form.len() > 1, "{form:?}");
            for field in form {
                assert!(named.contains(&field.as_str()), "{field} is missing");
            }
        }
    }
}
