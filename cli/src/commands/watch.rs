//! `watch`: everything that happens in sessions, without a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::{SessionEventType, WatchRequest, WatchResponse, WatchedSession};
use tonic::{Status, Streaming};

use crate::arguments::GlobalArguments;
use crate::commands::get::read_task;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, is_transient, time_to_come_back};
use crate::interrupt::Interrupts;
use crate::quantity::to_wire;
use crate::reconnection::{Reconnection, is_planned_end};
use crate::task_reference::{TaskReference, is_whole_id};
use crate::view::event_line::event_line;
use crate::view::event_record::event_record;
use crate::view::output_format::{OutputArguments, OutputFormat, print_line};

const KEEPALIVE: Duration = Duration::from_secs(15);
const LONGEST_SILENCE: Duration = Duration::from_secs(45);
/// How long to try while the server cannot be reached.
const PATIENCE: Duration = Duration::from_secs(600);

/// Watch sessions live: a snapshot, then every change, without a gap
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard watch demo
  taskyard watch demo other -o json | jq -c 'select(.change.state == \"failed\")'
  taskyard watch demo --cursor \"$CURSOR\" --kind subagent --type created

Each JSON line and each wide line has the cursor from which to resume after it.
Exit codes: 1 refused, 2 usage, 125 server out of reach for 10 minutes, 130 ended with Ctrl-C")]
pub struct WatchArguments {
    /// Sessions [default: --session]
    #[arg(value_name = "SESSION")]
    pub sessions: Vec<String>,
    /// Resume after this cursor; one for each session, in their order
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Vec<String>,
    /// Only this task: an id, the start of one, t12 or a name; repeatable
    #[arg(long, value_name = "TASK")]
    pub task: Vec<String>,
    /// Only tasks of this kind; repeatable
    #[arg(long)]
    pub kind: Vec<String>,
    /// Only tasks of this group; repeatable
    #[arg(long)]
    pub group: Vec<String>,
    /// Only this type of events, such as created or updated; repeatable
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    pub event_type: Vec<SessionEventType>,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Watches until it is interrupted.
pub async fn execute(
    arguments: WatchArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let mut sessions = arguments.sessions.clone();
    if sessions.is_empty() {
        sessions.push(global.session_or_default());
    }
    if arguments.cursor.len() > sessions.len() {
        return Err(Failure::Usage(
            "there are more cursors than sessions".to_owned(),
        ));
    }
    let cursors = arguments
        .cursor
        .iter()
        .cloned()
        .chain(std::iter::repeat(String::new()));
    let connection = Connection::open(global).await?;
    let filters = WatchRequest {
        namespace: connection.namespace(),
        keepalive: Some(to_wire(KEEPALIVE)),
        task_ids: task_ids(&connection, &arguments.task, &sessions).await?,
        kinds: arguments.kind,
        event_types: arguments
            .event_type
            .iter()
            .map(|&event_type| event_type.into())
            .collect(),
        groups: arguments.group,
        ..WatchRequest::default()
    };
    let mut watch = Watch {
        connection,
        filters,
        cursors: sessions.iter().cloned().zip(cursors).collect(),
        moved: BTreeSet::new(),
        output: arguments.output,
    };
    let mut interrupts = Interrupts::listen(false)?;
    let ended = tokio::select! {
        failure = watch.run() => failure,
        () = interrupts.next() => Failure::Interrupted("stopped watching".to_owned()),
    };
    if !matches!(ended, Failure::BrokenPipe) {
        watch.tell_cursors();
    }
    Err(ended)
}

/// The whole ids of tasks, of which those that are no whole ids are looked up in the one session that is watched.
async fn task_ids(
    connection: &Connection,
    tasks: &[String],
    sessions: &[String],
) -> Result<Vec<String>, Failure> {
    let mut ids = Vec::with_capacity(tasks.len());
    for task in tasks {
        if is_whole_id(task) {
            ids.push(task.clone());
            continue;
        }
        let [session] = sessions else {
            return Err(Failure::Usage(format!(
                "--task {}: with more than one session only a whole id tells which task is meant",
                console::clean(task)
            )));
        };
        let reference = TaskReference::new(task, Some(session));
        ids.push(read_task(connection, &reference).await?.id);
    }
    Ok(ids)
}

struct Watch {
    connection: Connection,
    /// The request but for its sessions.
    filters: WatchRequest,
    /// Of each session the cursor of the last item that was printed, or the one that was given; empty: neither.
    cursors: BTreeMap<String, String>,
    /// The sessions whose cursor the server gave.
    moved: BTreeSet<String>,
    output: OutputArguments,
}

impl Watch {
    /// Goes on until something ends it.
    async fn run(&mut self) -> Failure {
        let mut reconnection = Reconnection::within(PATIENCE);
        let mut was_heard = false;
        loop {
            let status = match self.read_stream(&mut reconnection, &mut was_heard).await {
                Ok(status) => status,
                Err(failure) => return failure,
            };
            // A wrong address should be told at once.
            let is_to_come_back = time_to_come_back(&status).is_some() || is_planned_end(&status);
            if !is_transient(&status) || !(was_heard || is_to_come_back) {
                return self.connection.explain(&status);
            }
            if let Some(note) = reconnection.broken(&status) {
                console::note(&note);
            }
            if !reconnection.pause(&status).await {
                return self.connection.explain(&status);
            }
        }
    }

    /// Prints one stream until it breaks; the status says how.
    async fn read_stream(
        &mut self,
        reconnection: &mut Reconnection,
        was_heard: &mut bool,
    ) -> Result<Status, Failure> {
        let request = WatchRequest {
            sessions: self
                .cursors
                .iter()
                .map(|(session_id, cursor)| WatchedSession {
                    session_id: session_id.clone(),
                    cursor: cursor.clone(),
                })
                .collect(),
            ..self.filters.clone()
        };
        let mut tasks = self.connection.tasks();
        let mut stream = match tokio::time::timeout(LONGEST_SILENCE, tasks.watch(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Ok(status),
            Err(_) => return Ok(Status::unavailable("no answer within 45 s")),
        };
        reconnection.opened();
        loop {
            let response = match next_item(&mut stream).await {
                Ok(response) => response,
                Err(status) => return Ok(status),
            };
            *was_heard = true;
            if let Some(note) = reconnection.succeeded() {
                console::note(note);
            }
            self.print(&response)?;
            if let Some(cursor) = self.cursors.get_mut(&response.session_id)
                && !response.cursor.is_empty()
            {
                cursor.clone_from(&response.cursor);
                self.moved.insert(response.session_id);
            }
        }
    }

    fn print(&self, response: &WatchResponse) -> Result<(), Failure> {
        let is_wide = self.output.output == OutputFormat::Wide;
        match self.output.output {
            OutputFormat::Table | OutputFormat::Wide => {
                match event_line(response, self.cursors.len() > 1, is_wide) {
                    Some(line) => console::print(&format!("{line}\n")),
                    None => Ok(()),
                }
            }
            OutputFormat::Json => match event_record(response, self.output.full) {
                Some(record) => print_line(&record),
                None => Ok(()),
            },
            OutputFormat::Yaml => match event_record(response, self.output.full) {
                Some(record) => {
                    let text =
                        serde_yaml_ng::to_string(&record).map_err(|error| Failure::own(&error))?;
                    console::print(&format!("---\n{text}"))
                }
                None => Ok(()),
            },
            OutputFormat::Name => match response.item.as_ref().and_then(task_id) {
                Some(id) => console::print(&format!("{id}\n")),
                None => Ok(()),
            },
        }
    }

    fn tell_cursors(&self) {
        for (session_id, cursor) in &self.cursors {
            // Whoever gave a cursor has it, and it may be the very thing that was refused.
            if self.moved.contains(session_id) {
                let session_id = console::clean(session_id);
                console::note(&format!(
                    "resume with `taskyard watch {session_id} --cursor {cursor}`"
                ));
            }
        }
    }
}

fn task_id(item: &taskyard_proto::v1::watch_response::Item) -> Option<&str> {
    use taskyard_proto::v1::watch_response::Item;
    match item {
        Item::Snapshot(task) => Some(&task.id),
        Item::Event(event) => Some(&event.task_id),
        Item::Progress(progress) => Some(&progress.task_id),
        Item::SnapshotComplete(_) | Item::Resync(_) | Item::Keepalive(_) => None,
    }
}

/// `created`, `task.created` and the like, whatever types there are.
fn parse_type(text: &str) -> Result<SessionEventType, String> {
    let word = text.to_ascii_uppercase().replace(['.', '-'], "_");
    ["SESSION_EVENT_TYPE_", "SESSION_EVENT_TYPE_TASK_"]
        .into_iter()
        .find_map(|start| SessionEventType::from_str_name(&format!("{start}{word}")))
        .filter(|&found| found != SessionEventType::Unspecified)
        .ok_or_else(|| format!("there is no type `{text}`; try created or updated"))
}

async fn next_item(stream: &mut Streaming<WatchResponse>) -> Result<WatchResponse, Status> {
    match tokio::time::timeout(LONGEST_SILENCE, stream.message()).await {
        Ok(Ok(Some(response))) => Ok(response),
        Ok(Ok(None)) => Err(Status::unavailable("the server ended the stream")),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(Status::unavailable("the server was silent for 45 s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_in_short_or_in_full() {
        for text in ["created", "task.created", "TASK_CREATED"] {
            assert_eq!(parse_type(text), Ok(SessionEventType::TaskCreated));
        }
        assert!(parse_type("unspecified").is_err() && parse_type("").is_err());
    }
}
