//! `queues`: what waits, and how long already.

use clap::Args;
use taskyard_proto::v1::{ListQueuesRequest, Queue};

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
/// Queues at most: a bound on what is held at once.
const LONGEST_LIST: usize = 100_000;

/// List queues with what they hold
#[derive(Debug, Args)]
#[command(
    after_help = "A count with a + is of the first 10,000 tasks of a kind; there are more.

Examples:
  taskyard queues
  taskyard queues -o json | jq '.[] | select(.queued > 100) | .name'
  taskyard queues -o name

Exit codes: 0 done, 1 refused, 2 usage, 125 server out of reach or failed"
)]
pub struct QueuesArguments {
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Lists them.
pub async fn execute(
    arguments: QueuesArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    let mut queues: Vec<Queue> = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = connection
            .call(|| {
                let mut admin = connection.admin();
                let request = ListQueuesRequest {
                    page_size: PAGE_SIZE,
                    page_token: page_token.clone(),
                };
                async move { admin.list_queues(request).await }
            })
            .await?;
        let was_empty = page.queues.is_empty();
        queues.extend(page.queues);
        page_token = page.next_page_token;
        if page_token.is_empty() || was_empty || queues.len() >= LONGEST_LIST {
            break;
        }
    }
    print_queues(&queues, &arguments.output)?;
    Ok(ExitCode::Success)
}

fn print_queues(queues: &[Queue], output: &OutputArguments) -> Result<(), Failure> {
    match output.output {
        OutputFormat::Table | OutputFormat::Wide if queues.is_empty() => {
            console::note("no queues; the first task makes one");
            Ok(())
        }
        OutputFormat::Table | OutputFormat::Wide => console::print(&table(queues)),
        OutputFormat::Json | OutputFormat::Yaml => {
            let records: Vec<Record> = queues.iter().map(record).collect();
            print_record(output.output, &records)
        }
        OutputFormat::Name => {
            let names: String = queues
                .iter()
                .map(|queue| format!("{}\n", queue.name))
                .collect();
            console::print(&names)
        }
    }
}

fn table(queues: &[Queue]) -> String {
    let mut table = TextTable::new(&["queue", "queued", "running", "asking", "oldest"]);
    for queue in queues {
        let more = if queue.is_partial { "+" } else { "" };
        let oldest = match &queue.oldest_queued_at {
            Some(at) => moment::age(Some(at)),
            None => "-".to_owned(),
        };
        let cells = vec![
            queue.name.clone(),
            format!("{}{more}", queue.queued),
            format!("{}{more}", queue.running),
            format!("{}{more}", queue.awaiting_input),
            oldest,
        ];
        table.add(cells, None);
    }
    table.text()
}

fn record(queue: &Queue) -> Record {
    Record::new()
        .with_text("name", &queue.name)
        .with("queued", queue.queued)
        .with("running", queue.running)
        .with("awaiting_input", queue.awaiting_input)
        .with("oldest_queued_at", time(&queue.oldest_queued_at))
        .with("is_partial", queue.is_partial)
}
