//! `sessions`: whose work there is.

use clap::Args;
use taskyard_proto::v1::{ListSessionsRequest, Session};

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::view::moment;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::record::Record;
use crate::view::table::TextTable;
use crate::view::task_record::time;

const PAGE_SIZE: i32 = 500;

/// List sessions, newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard sessions
  taskyard sessions --limit 1000 -o json
  taskyard sessions -o name | xargs -n1 taskyard list --session

Exit codes: 0 done, 1 refused, 2 usage, 125 server out of reach or failed")]
pub struct SessionsArguments {
    /// Most sessions to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub limit: u32,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Lists them.
pub async fn execute(
    arguments: SessionsArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let mut sessions: Vec<Session> = Vec::new();
    let mut page_token = String::new();
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
        page_token = page.next_page_token;
        if page_token.is_empty() || was_empty || sessions.len() >= limit {
            break;
        }
    }
    print_sessions(&sessions, &arguments.output)?;
    if !page_token.is_empty() {
        console::note(&format!(
            "there are more than these {}; see --limit",
            sessions.len()
        ));
    }
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
                    moment::age(session.created_at.as_ref()),
                    last_change,
                ];
                table.add(cells, None);
            }
            for column_idx in 1..=7 {
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
        .with("created_at", time(&session.created_at))
        .with("updated_at", time(&session.updated_at))
}
