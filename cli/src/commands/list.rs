//! `list`: tasks, newest or oldest first.

use clap::Args;
use prost_types::Timestamp;
use taskyard_proto::v1::{ListTasksRequest, ListTasksResponse, SessionTask, TaskOrder, TaskState};

use crate::arguments::{GlobalArguments, parse_filled, parse_pair};
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::view::moment::parse_past;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::record::Record;
use crate::view::task_record::task_record;
use crate::view::task_table::task_table;
use crate::view::words;

/// Tasks in one call.
const PAGE_SIZE: i32 = 500;

/// List tasks of one session or of all, newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard list
  taskyard list --session demo --state running --state queued
  taskyard list --tag 'team.*' --label env=prod --since 2h --all-pages -o json

Exit codes: 0 done, 1 refused, 2 usage, 125 server out of reach or failed")]
pub struct ListArguments {
    /// Only this state: queued, running, awaiting_input, succeeded, failed, canceled; repeatable
    #[arg(long, value_parser = parse_state)]
    pub state: Vec<TaskState>,
    /// Only this kind; repeatable
    #[arg(long)]
    pub kind: Vec<String>,
    /// Only with this tag; `team.*` takes all below `team`; repeatable
    #[arg(long)]
    pub tag: Vec<String>,
    /// Only with this label; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub label: Vec<(String, String)>,
    /// Only of this group
    #[arg(long, value_parser = parse_filled)]
    pub group: Option<String>,
    /// Only children of this task: a whole id, or with --session also t12 or a name
    #[arg(long, value_name = "ID")]
    pub parent: Option<String>,
    /// Only what is below this root: a whole id, or with --session also t12 or a name
    #[arg(long, value_name = "ID")]
    pub root: Option<String>,
    /// Only what this worker holds, or held at the end
    #[arg(long)]
    pub worker: Option<String>,
    /// Only with this key; needs --session
    #[arg(long, value_parser = parse_filled)]
    pub key: Option<String>,
    /// Only created at or after this time, or so long ago (`2h`)
    #[arg(long, value_name = "TIME", value_parser = parse_past, allow_hyphen_values = true)]
    pub since: Option<Timestamp>,
    /// Only created before this time, or so long ago
    #[arg(long, value_name = "TIME", value_parser = parse_past, allow_hyphen_values = true)]
    pub until: Option<Timestamp>,
    /// Show the oldest first
    #[arg(long)]
    pub oldest_first: bool,
    /// Most tasks to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub limit: u32,
    /// Show all of them
    #[arg(long, conflicts_with = "limit")]
    pub all_pages: bool,
    /// Go on where an earlier call with the same options stopped
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    pub page_token: Option<String>,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Lists what the filters let through.
pub async fn execute(
    arguments: ListArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    let limit = if arguments.all_pages {
        usize::MAX
    } else {
        usize::try_from(arguments.limit).unwrap_or(usize::MAX)
    };
    let has_spec = arguments.output.full
        || matches!(
            arguments.output.output,
            OutputFormat::Table | OutputFormat::Wide
        );
    let mut request = ListTasksRequest {
        namespace: connection.namespace(),
        session_id: global.session().unwrap_or_default().to_owned(),
        states: arguments.state.iter().map(|&state| state.into()).collect(),
        kinds: arguments.kind,
        tags: arguments.tag,
        parent_task_id: arguments.parent.unwrap_or_default(),
        created_after: arguments.since,
        created_before: arguments.until,
        include_spec: has_spec,
        group: arguments.group.unwrap_or_default(),
        labels: arguments.label.into_iter().collect(),
        root_task_id: arguments.root.unwrap_or_default(),
        worker: arguments.worker.unwrap_or_default(),
        key: arguments.key.unwrap_or_default(),
        page_token: arguments.page_token.unwrap_or_default(),
        order: if arguments.oldest_first {
            TaskOrder::OldestFirst
        } else {
            TaskOrder::NewestFirst
        }
        .into(),
        ..ListTasksRequest::default()
    };
    let mut tasks: Vec<SessionTask> = Vec::new();
    let mut has_more = false;
    while tasks.len() < limit {
        let missing = i32::try_from(limit - tasks.len()).unwrap_or(i32::MAX);
        request.page_size = missing.min(PAGE_SIZE);
        let page = list_page(&connection, &request).await?;
        tasks.extend(page.tasks);
        // A page may be empty where the server has looked far and found nothing yet.
        has_more = !page.next_page_token.is_empty();
        request.page_token = page.next_page_token;
        if !has_more {
            break;
        }
    }
    let has_sessions = global.session().is_none() && !global.is_inside();
    print_tasks(&tasks, &arguments.output, has_sessions)?;
    if has_more {
        console::note(&format!(
            "there are more than these {}; see --all-pages, or go on with --page-token {}",
            tasks.len(),
            request.page_token
        ));
    }
    Ok(ExitCode::Success)
}

/// Writes tasks in the format that was asked for.
pub fn print_tasks(
    tasks: &[SessionTask],
    output: &OutputArguments,
    has_sessions: bool,
) -> Result<(), Failure> {
    match output.output {
        OutputFormat::Table | OutputFormat::Wide if tasks.is_empty() => {
            console::note("no tasks");
            Ok(())
        }
        OutputFormat::Table | OutputFormat::Wide => {
            console::print(&task_table(tasks, output.output, has_sessions))
        }
        OutputFormat::Json | OutputFormat::Yaml => {
            let records: Vec<Record> = tasks
                .iter()
                .map(|task| task_record(task, output.full))
                .collect();
            print_record(output.output, &records)
        }
        OutputFormat::Name => {
            let ids: String = tasks.iter().map(|task| format!("{}\n", task.id)).collect();
            console::print(&ids)
        }
    }
}

async fn list_page(
    connection: &Connection,
    request: &ListTasksRequest,
) -> Result<ListTasksResponse, Failure> {
    connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = request.clone();
            async move { tasks.list_tasks(request).await }
        })
        .await
}

fn parse_state(text: &str) -> Result<TaskState, String> {
    let wanted = text.to_ascii_lowercase().replace('-', "_");
    words::STATES
        .into_iter()
        .find(|&state| words::state(state) == wanted)
        .ok_or_else(|| {
            let names: Vec<&str> = words::STATES.into_iter().map(words::state).collect();
            format!(
                "there is no state `{text}`; choose from {}",
                names.join(", ")
            )
        })
}
