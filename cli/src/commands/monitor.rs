//! `monitor`: work that is repeated by a schedule.

use clap::{Args, Subcommand};
use taskyard_proto::v1::{ListMonitorsRequest, Monitor, SessionTask, UpdateTaskRequest};

use crate::arguments::GlobalArguments;
use crate::commands::command_options::CommandOptions;
use crate::commands::create::create_task;
use crate::commands::get::read_task;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, is_terminal};
use crate::quantity::parse_duration;
use crate::task_file::scalar::{Span, parse_moment};
use crate::task_file::schedule::{OverlapName, Schedule, WakeOnName, schedule};
use crate::view::moment;
use crate::view::monitor::{next_text, schedule_text, standing_record};
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::record::Record;
use crate::view::table::TextTable;
use crate::view::task_table::shortened;
use crate::view::words;

const PAGE_SIZE: i32 = 500;
/// What the keys of firings begin with.
const FIRING_KEY: &str = "fire-";
/// Monitors at most: a bound on what is held at once.
const LONGEST_LIST: usize = 100_000;

/// Repeat a command by a schedule, and be woken for what comes of it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard monitor create --every 5m --wake-on changed -- curl -s https://example.com/status
  taskyard monitor list
  taskyard monitor pause t3

A monitor is a task: `taskyard cancel t3` ends it, `taskyard list` and `get` show it.

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct MonitorArguments {
    #[command(subcommand)]
    pub verb: MonitorVerb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum MonitorVerb {
    Create(Box<CreateArguments>),
    List(ListArguments),
    Pause(PauseArguments),
    Resume(ResumeArguments),
}

/// Make a monitor of a command
#[derive(Debug, Args)]
// the help has its size
#[command(mut_arg("secrets", |argument| argument.hide(true)))]
#[command(after_help = "Examples:
  taskyard monitor create --every 5m --wake-on changed -- git ls-remote origin
  taskyard monitor create --cron '0 7 * * MON-FRI' --tz Europe/Zurich -- ./report.sh
  taskyard monitor create --at 2027-01-31T12:00:00Z --wake-on always -- ./renew.sh

Exit codes: 0 done, 1 refused, 2 usage, 125 server out of reach or failed")]
pub struct CreateArguments {
    /// Fire at once and then so often
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, group = "when", allow_hyphen_values = true)]
    pub every: Option<std::time::Duration>,
    /// Fire by five fields: minute, hour, day, month, weekday
    #[arg(long, value_name = "FIELDS", group = "when")]
    pub cron: Option<String>,
    /// Fire once, at a time or a duration from now
    #[arg(long, value_name = "TIME", group = "when")]
    pub at: Option<String>,
    /// Zone of --cron [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// Ends that wake the session: failed (default), changed, match, always
    #[arg(long, value_enum, hide_possible_values = true)]
    pub wake_on: Option<WakeOnName>,
    /// What --wake-on match looks for
    #[arg(long = "match", value_name = "REGEX")]
    pub pattern: Option<String>,
    /// While an earlier firing runs: skip (default), queue_one, allow
    #[arg(long, value_enum, hide_possible_values = true)]
    pub overlap: Option<OverlapName>,
    /// Succeed after so many firings
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..), allow_negative_numbers = true)]
    pub max_firings: Option<i64>,
    #[command(flatten)]
    pub command: CommandOptions,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub argv: Vec<String>,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Show live monitors: when they fire next, and how the last firing ended
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard monitor list
  taskyard monitor list --session demo
  taskyard monitor list -o json | jq '.[].next_at'

Exit codes: 0 done, 1 refused, 2 usage, 125 server out of reach or failed")]
pub struct ListArguments {
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Let a monitor fire no more until it is resumed
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard monitor pause t3
  taskyard monitor pause ticker
  taskyard monitor pause --session demo t3

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct PauseArguments {
    /// Id, t12 or name
    pub task: String,
}

/// Let a paused monitor fire again; what it missed is made up for by one firing
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard monitor resume t3
  taskyard monitor resume ticker
  taskyard monitor resume --session demo t3

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct ResumeArguments {
    /// Id, t12 or name
    pub task: String,
}

/// Does what is asked for.
pub async fn execute(
    arguments: MonitorArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    match arguments.verb {
        MonitorVerb::Create(arguments) => create(*arguments, global).await,
        MonitorVerb::List(arguments) => list(&arguments, global).await,
        MonitorVerb::Pause(arguments) => hold(&arguments.task, true, global).await,
        MonitorVerb::Resume(arguments) => hold(&arguments.task, false, global).await,
    }
}

async fn create(arguments: CreateArguments, global: &GlobalArguments) -> Result<ExitCode, Failure> {
    let wanted = Schedule {
        cron: arguments.cron,
        time_zone: arguments.tz.unwrap_or_default(),
        every: arguments.every.map(Span),
        at: arguments
            .at
            .map(|text| parse_moment(&text))
            .transpose()
            .map_err(|why| Failure::Usage(format!("--at: {why}")))?,
        overlap: arguments.overlap,
        wake_on: arguments.wake_on,
        pattern: arguments.pattern.unwrap_or_default(),
        max_firings: arguments.max_firings.unwrap_or_default(),
        ..Schedule::default()
    };
    check_when(&wanted)?;
    let mut definition = arguments.command.definition(arguments.argv)?;
    definition.schedule = Some(schedule(wanted));
    let connection = Connection::open(global).await?;
    let session = global.session_or_default();
    let (task, _) = create_task(&connection, &session, definition).await?;
    match arguments.output.output {
        OutputFormat::Json | OutputFormat::Yaml => {
            let record = Record::new()
                .with_text("id", &task.id)
                .with("ordinal", task.ordinal)
                .with_text("session_id", &task.session_id);
            print_record(arguments.output.output, &record)?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            console::print(&format!("{} t{}\n", task.id, task.ordinal))?;
        }
        OutputFormat::Name => console::print(&format!("{}\n", task.id))?,
    }
    Ok(ExitCode::Success)
}

fn check_when(wanted: &Schedule) -> Result<(), Failure> {
    if !wanted.time_zone.is_empty() && wanted.cron.is_none() {
        return Err(Failure::Usage(
            "--tz goes with --cron only: it says by which clock the fields are meant".to_owned(),
        ));
    }
    wanted
        .check()
        .map_err(|_| Failure::Usage("say when: one of --every, --cron and --at".to_owned()))
}

async fn list(arguments: &ListArguments, global: &GlobalArguments) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    let mut monitors: Vec<Monitor> = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = connection
            .call(|| {
                let mut admin = connection.admin();
                let request = ListMonitorsRequest {
                    namespace: connection.namespace(),
                    session_id: global.session().unwrap_or_default().to_owned(),
                    page_size: PAGE_SIZE,
                    page_token: page_token.clone(),
                };
                async move { admin.list_monitors(request).await }
            })
            .await?;
        let was_empty = page.monitors.is_empty();
        monitors.extend(page.monitors);
        page_token = page.next_page_token;
        if page_token.is_empty() || was_empty || monitors.len() >= LONGEST_LIST {
            break;
        }
    }
    print_monitors(&monitors, arguments.output.output)?;
    Ok(ExitCode::Success)
}

async fn hold(task: &str, hold: bool, global: &GlobalArguments) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    let monitor = read_task(&connection, &global.task(task)?).await?;
    check_monitor(&monitor)?;
    let request = UpdateTaskRequest {
        namespace: connection.namespace(),
        task: monitor.id,
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["hold".to_owned()],
        }),
        hold,
        ..UpdateTaskRequest::default()
    };
    let answer = connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = request.clone();
            async move { tasks.update_task(request).await }
        })
        .await?;
    let ordinal = answer.task.unwrap_or_default().ordinal;
    let said = if hold { "is paused" } else { "goes on" };
    console::print(&format!("t{ordinal} {said}\n"))?;
    Ok(ExitCode::Success)
}

/// Refuses what only looks like a monitor, in the words of this verb.
fn check_monitor(task: &SessionTask) -> Result<(), Failure> {
    let label = format!("t{}", task.ordinal);
    let is_firing = task.key.starts_with(FIRING_KEY) && !task.parent_task_id.is_empty();
    let why = match task.kind.as_str() {
        "monitor" if !is_terminal(task.state()) => return Ok(()),
        "monitor" => format!(
            "the monitor {label} has ended: {}; `taskyard monitor create` makes a new one",
            words::state(task.state())
        ),
        _ if is_firing => format!(
            "{label} is no monitor, but looks like a firing of one: {}; pause and resume that one",
            task.parent_task_id
        ),
        kind => format!(
            "{label} is no monitor but of kind {kind}; `taskyard hold` keeps a queued task from starting"
        ),
    };
    Err(Failure::Refused(console::clean(&why)))
}

fn print_monitors(monitors: &[Monitor], format: OutputFormat) -> Result<(), Failure> {
    match format {
        OutputFormat::Table | OutputFormat::Wide if monitors.is_empty() => {
            console::note("no monitors");
            Ok(())
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let mut table = TextTable::new(&[
                "monitor", "session", "name", "schedule", "next", "firings", "skipped", "last",
                "summary",
            ]);
            for monitor in monitors {
                let task = monitor.task.clone().unwrap_or_default();
                let next = next_text(monitor, task.hold, moment::exact);
                let schedule = monitor.schedule.as_ref().map(schedule_text);
                let last = match monitor.last_task_id.as_str() {
                    "" => "-".to_owned(),
                    _ => words::state(monitor.last_state()).to_owned(),
                };
                let cells = vec![
                    format!("t{}", task.ordinal),
                    task.session_id,
                    shortened(&task.name, format),
                    schedule.unwrap_or_default(),
                    next,
                    monitor.firings.to_string(),
                    monitor.skipped.to_string(),
                    last,
                    monitor.last_summary.clone(),
                ];
                table.add(cells, None);
            }
            console::print(&table.text())
        }
        OutputFormat::Json | OutputFormat::Yaml => {
            let records: Vec<Record> = monitors.iter().map(record).collect();
            print_record(format, &records)
        }
        OutputFormat::Name => {
            let names: String = monitors
                .iter()
                .filter_map(|monitor| monitor.task.as_ref())
                .map(|task| format!("{}\n", task.id))
                .collect();
            console::print(&names)
        }
    }
}

fn record(monitor: &Monitor) -> Record {
    let task = monitor.task.clone().unwrap_or_default();
    Record::new()
        .with_text("id", &task.id)
        .with("ordinal", task.ordinal)
        .with_text("session_id", &task.session_id)
        .with_text("name", &task.name)
        .with("hold", task.hold)
        .and(standing_record(monitor, task.hold))
}
