//! `sessions`: whose work there is.

use std::time::Duration;

use clap::{Args, Subcommand};
use taskyard_proto::v1::{DeleteSessionRequest, ListSessionsRequest, Session};

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::{parse_duration, short_size, to_wire};
use crate::view::moment;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::record::Record;
use crate::view::table::TextTable;
use crate::view::task_record::time;

const PAGE_SIZE: i32 = 500;

/// List sessions, newest first, or delete one
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  taskyard sessions
  taskyard sessions delete demo
  taskyard sessions --limit 1000 -o json
  taskyard sessions -o name | xargs -n1 taskyard list --session

Exit codes: 0 done, 1 refused, 2 usage, 125 server out of reach or failed")]
pub struct SessionsArguments {
    #[command(subcommand)]
    pub verb: Option<SessionsVerb>,
    /// Most sessions to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub limit: u32,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// What to do with them, other than to list them.
#[derive(Debug, Subcommand)]
pub enum SessionsVerb {
    /// Cancel a session's tasks and remove everything of it
    #[command(after_help = "Examples:
  taskyard sessions delete demo
  taskyard sessions delete demo --grace 30s
  taskyard sessions -o name | grep ^tmp- | xargs -n1 taskyard sessions delete

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
    Delete(DeleteArguments),
}

/// The session to delete.
#[derive(Debug, Args)]
pub struct DeleteArguments {
    /// Id of the session
    #[arg(value_name = "SESSION")]
    pub session_id: String,
    /// Time between TERM and KILL for what runs [default: each task's own]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub grace: Option<Duration>,
}

/// Lists them, or does what is asked for.
pub async fn execute(
    arguments: SessionsArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    if let Some(SessionsVerb::Delete(arguments)) = &arguments.verb {
        return delete(&connection, arguments).await;
    }
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let mut sessions: Vec<Session> = Vec::new();
    let mut page_token = String::new();
    let mut counts = None;
    loop {
        let missing = i32::try_from(limit - sessions.len()).unwrap_or(i32::MAX);
        let page = connection
            .call(|| {
                let mut admin = connection.admin();
                let request = ListSessionsRequest {
                    namespace: connection.namespace(),
                    page_size: missing.min(PAGE_SIZE),
                    page_token: page_token.clone(),
                };
                async move { admin.list_sessions(request).await }
            })
            .await?;
        let was_empty = page.sessions.is_empty();
        sessions.extend(page.sessions);
        counts = counts.or(page.counts);
        page_token = page.next_page_token;
        if page_token.is_empty() || was_empty || sessions.len() >= limit {
            break;
        }
    }
    print_sessions(&sessions, &arguments.output)?;
    if !page_token.is_empty() {
        let all = counts.unwrap_or_default();
        let more = if all.is_partial { "+" } else { "" };
        console::note(&format!(
            "there are more than these {}, see --limit; all {}{more} have {} open tasks, {} asking",
            sessions.len(),
            all.sessions,
            all.open_tasks,
            all.awaiting_input_tasks
        ));
    }
    Ok(ExitCode::Success)
}

/// Not repeated by itself: a second call could meet a session that took the id meanwhile.
async fn delete(connection: &Connection, arguments: &DeleteArguments) -> Result<ExitCode, Failure> {
    let request = DeleteSessionRequest {
        namespace: connection.namespace(),
        session_id: arguments.session_id.clone(),
        grace: arguments.grace.map(to_wire),
    };
    let answer = connection.tasks().delete_session(request).await;
    let answer = answer.map_err(|status| connection.explain(&status))?;
    let open = answer.into_inner().open_tasks;
    let told = match open {
        0 => String::new(),
        1 => "; a task is being canceled".to_owned(),
        _ => format!("; {open} tasks are being canceled"),
    };
    console::print(&format!("{} is deleted{told}\n", arguments.session_id))?;
    Ok(ExitCode::Success)
}

fn print_sessions(sessions: &[Session], output: &OutputArguments) -> Result<(), Failure> {
    match output.output {
        OutputFormat::Table | OutputFormat::Wide if sessions.is_empty() => {
            console::note("no sessions");
            Ok(())
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let mut table = TextTable::new(&[
                "session",
                "open",
                "asking",
                "succeeded",
                "failed",
                "canceled",
                "tasks",
                "events",
                "files",
                "size",
                "age",
                "last change",
            ]);
            for session in sessions {
                let last_change = match &session.updated_at {
                    Some(at) => format!("{} ago", moment::age(Some(at))),
                    None => "-".to_owned(),
                };
                let cells = vec![
                    session.session_id.clone(),
                    session.open_tasks.to_string(),
                    session.awaiting_input_tasks.to_string(),
                    session.succeeded_tasks.to_string(),
                    session.failed_tasks.to_string(),
                    session.canceled_tasks.to_string(),
                    session.total_tasks.to_string(),
                    session.last_seq.to_string(),
                    session.files.to_string(),
                    short_size(session.file_bytes.unsigned_abs()),
                    moment::age(session.created_at.as_ref()),
                    last_change,
                ];
                table.add(cells, None);
            }
            for column_idx in 1..=9 {
                table.align_right(column_idx);
            }
            console::print(&table.text())
        }
        OutputFormat::Json | OutputFormat::Yaml => {
            let records: Vec<Record> = sessions.iter().map(record).collect();
            print_record(output.output, &records)
        }
        OutputFormat::Name => {
            let names: String = sessions
                .iter()
                .map(|session| format!("{}\n", session.session_id))
                .collect();
            console::print(&names)
        }
    }
}

fn record(session: &Session) -> Record {
    Record::new()
        .with_text("namespace", &session.namespace)
        .with_text("session_id", &session.session_id)
        .with("open_tasks", session.open_tasks)
        .with("awaiting_input_tasks", session.awaiting_input_tasks)
        .with("succeeded_tasks", session.succeeded_tasks)
        .with("failed_tasks", session.failed_tasks)
        .with("canceled_tasks", session.canceled_tasks)
        .with("total_tasks", session.total_tasks)
        .with("last_seq", session.last_seq)
        .with("files", session.files)
        .with("file_bytes", session.file_bytes)
        .with("created_at", time(&session.created_at))
        .with("updated_at", time(&session.updated_at))
}
