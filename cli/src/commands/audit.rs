//! `audit`: who did what, and who was denied what.

use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use taskyard_proto::v1::{AuditDecision, AuditEvent, ListAuditEventsRequest};

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::parse_duration;
use crate::view::moment;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::record::Record;
use crate::view::table::TextTable;
use crate::view::task_record::time;

const PAGE_SIZE: i32 = 500;

/// Show who did what, and who was denied what, newest first
#[derive(Debug, Args)]
#[command(
    after_help = "Calls that change something, and all that were denied; of all namespaces, unless --namespace names one
other than `default`. Needs the role admin where the server asks who one is.

Examples:
  taskyard audit --since 1h
  taskyard audit --denied --who ci
  taskyard audit --method DeleteSession --since 2d --until 1d
  taskyard audit --limit 1000 -o json | jq '.[] | select(.calls > 1)'

Exit codes: 0 done, 1 refused, 2 usage, 125 server out of reach or failed"
)]
pub struct AuditArguments {
    /// Only what happened within this time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub since: Option<Duration>,
    /// Only what happened longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub until: Option<Duration>,
    /// Only what this caller did
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// Only what was denied; the same as --decision denied
    #[arg(long, conflicts_with = "decision")]
    pub denied: bool,
    /// Only what was decided so
    #[arg(long, value_name = "WORD")]
    pub decision: Option<DecisionName>,
    /// Only this method: its path, or its name such as DeleteSession
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Entries at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// How a call was decided.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DecisionName {
    Allowed,
    Denied,
    Failed,
}

/// Lists them.
pub async fn execute(
    arguments: AuditArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let now = SystemTime::now();
    let [since, until] = [arguments.since, arguments.until].map(|ago| {
        let at = ago.and_then(|ago| now.checked_sub(ago));
        at.map(prost_types::Timestamp::from)
    });
    let decision = match arguments.decision {
        None if arguments.denied => AuditDecision::Denied,
        None => AuditDecision::Unspecified,
        Some(DecisionName::Allowed) => AuditDecision::Allowed,
        Some(DecisionName::Denied) => AuditDecision::Denied,
        Some(DecisionName::Failed) => AuditDecision::Failed,
    };
    let limit = arguments.limit as usize;
    let connection = Connection::open(global).await?;
    let namespace = Some(connection.namespace()).filter(|name| name != "default");
    let mut request = ListAuditEventsRequest {
        namespace: namespace.unwrap_or_default(),
        session_id: global.session().unwrap_or_default().to_owned(),
        who: arguments.who.unwrap_or_default(),
        decision: decision.into(),
        since,
        until,
        method: arguments.method.unwrap_or_default(),
        page_size: PAGE_SIZE.min(i32::try_from(limit).unwrap_or(PAGE_SIZE)),
        page_token: String::new(),
    };
    let mut events: Vec<AuditEvent> = Vec::new();
    loop {
        let page = connection
            .call(|| {
                let mut admin = connection.admin();
                let request = request.clone();
                async move { admin.list_audit_events(request).await }
            })
            .await?;
        events.extend(page.events);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || events.len() >= limit {
            break;
        }
    }
    events.truncate(limit);
    print_events(&events, &arguments.output)?;
    Ok(ExitCode::Success)
}

fn print_events(events: &[AuditEvent], output: &OutputArguments) -> Result<(), Failure> {
    match output.output {
        OutputFormat::Table | OutputFormat::Wide if events.is_empty() => {
            console::note("nothing of that kind");
            Ok(())
        }
        OutputFormat::Table | OutputFormat::Wide => console::print(&table(events)),
        OutputFormat::Json | OutputFormat::Yaml => {
            let records: Vec<Record> = events.iter().map(record).collect();
            print_record(output.output, &records)
        }
        OutputFormat::Name => {
            let ids: String = events
                .iter()
                .map(|event| format!("{}\n", event.id))
                .collect();
            console::print(&ids)
        }
    }
}

fn table(events: &[AuditEvent]) -> String {
    let mut table = TextTable::new(&["age", "who", "role", "decision", "method", "about", "from"]);
    for event in events {
        let decided = match event.code.as_str() {
            "" => word(event).to_owned(),
            code => format!("{} {code}", word(event)),
        };
        let decided = match event.calls {
            1 => decided,
            calls => format!("{decided} x{calls}"),
        };
        let method = event.method.rsplit('/').next().unwrap_or_default();
        let about: Vec<&str> = [&event.namespace, &event.session_id, &event.task]
            .into_iter()
            .chain([&event.pool, &event.worker])
            .map(String::as_str)
            .filter(|name| !name.is_empty())
            .collect();
        let cells = vec![
            moment::age(event.at.as_ref()),
            event.who.clone(),
            event.role.clone(),
            decided,
            method.to_owned(),
            about.join("/"),
            event.peer.clone(),
        ];
        table.add(cells, None);
    }
    table.text()
}

fn word(event: &AuditEvent) -> &'static str {
    match event.decision() {
        AuditDecision::Unspecified => "unknown",
        AuditDecision::Allowed => "allowed",
        AuditDecision::Denied => "denied",
        AuditDecision::Failed => "failed",
    }
}

fn record(event: &AuditEvent) -> Record {
    Record::new()
        .with("id", event.id)
        .with("at", time(&event.at))
        .with_text("who", &event.who)
        .with_text("role", &event.role)
        .with_text("credential", &event.credential)
        .with_text("peer", &event.peer)
        .with_text("method", &event.method)
        .with_text("namespace", &event.namespace)
        .with_text("session_id", &event.session_id)
        .with_text("task", &event.task)
        .with_text("request_id", &event.request_id)
        .with_text("worker", &event.worker)
        .with_text("pool", &event.pool)
        .with_text("decision", word(event))
        .with_text("code", &event.code)
        .with("calls", event.calls)
}
