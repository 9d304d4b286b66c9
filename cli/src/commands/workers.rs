//! `workers`: who does the work.

use clap::Args;
use taskyard_proto::v1::{ListWorkersRequest, Worker};

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::view::moment;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::record::Record;
use crate::view::table::TextTable;
use crate::view::task_record::{pairs, time};
use crate::view::words;

const PAGE_SIZE: i32 = 500;
/// How the labels begin by which a worker says what it can give.
const ABILITIES: &str = "taskyard.dev/";
/// Pages at most: a bound on what is held at once.
const LONGEST_LIST: usize = 100_000;

/// List workers that are attached, or were lost within the last hour
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard workers
  taskyard workers -o wide
  taskyard workers -o json | jq '.[] | select(.status == \"lost\") | .name'

Exit codes: 0 done, 1 refused, 2 usage, 125 server out of reach or failed")]
pub struct WorkersArguments {
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Lists them.
pub async fn execute(
    arguments: WorkersArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    let mut workers: Vec<Worker> = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = connection
            .call(|| {
                let mut admin = connection.admin();
                let request = ListWorkersRequest {
                    page_size: PAGE_SIZE,
                    page_token: page_token.clone(),
                };
                async move { admin.list_workers(request).await }
            })
            .await?;
        let was_empty = page.workers.is_empty();
        workers.extend(page.workers);
        page_token = page.next_page_token;
        if page_token.is_empty() || was_empty || workers.len() >= LONGEST_LIST {
            break;
        }
    }
    print_workers(&workers, &arguments.output)?;
    Ok(ExitCode::Success)
}

fn print_workers(workers: &[Worker], output: &OutputArguments) -> Result<(), Failure> {
    match output.output {
        OutputFormat::Table | OutputFormat::Wide if workers.is_empty() => {
            console::note("no workers; start one with `taskyard worker`");
            Ok(())
        }
        OutputFormat::Table | OutputFormat::Wide => {
            console::print(&table(workers, output.output == OutputFormat::Wide))
        }
        OutputFormat::Json | OutputFormat::Yaml => {
            let records: Vec<Record> = workers.iter().map(record).collect();
            print_record(output.output, &records)
        }
        OutputFormat::Name => {
            let names: String = workers
                .iter()
                .map(|worker| format!("{}\n", worker.name))
                .collect();
            console::print(&names)
        }
    }
}

fn table(workers: &[Worker], is_wide: bool) -> String {
    let mut headers = vec![
        "worker", "status", "busy", "queues", "kinds", "heard", "attached",
    ];
    if is_wide {
        headers.extend(["executors", "isolation", "labels", "version", "boot"]);
    }
    let mut table = TextTable::new(&headers);
    for worker in workers {
        let mut cells = vec![
            worker.name.clone(),
            words::worker_status(worker.status()).to_owned(),
            format!("{}/{}", worker.held, worker.slots),
            or_else(&worker.queues, "default"),
            or_else(&worker.kinds, "all"),
            format!("{} ago", moment::age(worker.heartbeat_at.as_ref())),
            format!("{} ago", moment::age(worker.attached_at.as_ref())),
        ];
        if is_wide {
            let labels: Vec<String> = worker
                .labels
                .iter()
                .filter(|(key, _)| !key.starts_with(ABILITIES))
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            cells.extend([
                or_else(&worker.executors, "command"),
                isolation(worker),
                or_else(&labels, "-"),
                worker.version.clone(),
                worker.worker_session_id.clone(),
            ]);
        }
        table.add(cells, Some(1));
    }
    table.text()
}

/// What of isolation and limits it can give: `restricted, landlock-abi=7, limit-cpu`.
fn isolation(worker: &Worker) -> String {
    let mut parts = Vec::new();
    for (key, value) in &worker.labels {
        match key.strip_prefix(ABILITIES) {
            Some("isolation") => parts.insert(0, value.clone()),
            Some(limit) if value == "cgroup" => parts.push(limit.to_owned()),
            Some(other) => parts.push(format!("{other}={value}")),
            None => {}
        }
    }
    if !worker.labels.contains_key(&format!("{ABILITIES}isolation")) {
        parts.insert(0, "none".to_owned());
    }
    parts.join(",")
}

fn or_else(words: &[String], otherwise: &str) -> String {
    if words.is_empty() {
        otherwise.to_owned()
    } else {
        words.join(",")
    }
}

fn record(worker: &Worker) -> Record {
    Record::new()
        .with_text("name", &worker.name)
        .with_text("worker_session_id", &worker.worker_session_id)
        .with("status", words::worker_status(worker.status()))
        .with("slots", worker.slots)
        .with("held", worker.held)
        .with("queues", worker.queues.clone())
        .with("kinds", worker.kinds.clone())
        .with("executors", worker.executors.clone())
        .with("labels", pairs(&worker.labels))
        .with_text("version", &worker.version)
        .with("attached_at", time(&worker.attached_at))
        .with("heartbeat_at", time(&worker.heartbeat_at))
}
