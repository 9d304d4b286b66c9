//! Finding the socket, and the verb.

use std::path::PathBuf;

use super::arguments::{InsideArguments, InsideVerb};
use super::{artifact, ask, inbox, post, progress, report, spawn};
use crate::arguments::GlobalArguments;
use crate::commands::{answer, cancel, get, list, logs, message, messages, wait};
use crate::exit_code::ExitCode;
use crate::failure::Failure;

/// Where a worker says to a task what its socket is.
const SOCKET_VARIABLE: &str = "TASKYARD_SOCKET";

/// Does it through the socket of the task inside which this runs.
pub async fn execute(
    arguments: InsideArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let inside = global.inside(socket()?);
    match arguments.verb {
        InsideVerb::Progress(arguments) => progress::execute(arguments, &inside).await,
        InsideVerb::Status(arguments) => progress::execute_status(arguments, &inside).await,
        InsideVerb::Ask(arguments) => ask::execute(arguments, &inside).await,
        InsideVerb::Post(arguments) => post::execute(arguments, &inside).await,
        InsideVerb::Inbox(arguments) => inbox::execute(arguments, &inside).await,
        InsideVerb::Artifact(arguments) => artifact::execute(arguments, &inside).await,
        InsideVerb::Result(arguments) => report::execute_result(arguments, &inside).await,
        InsideVerb::Usage(arguments) => report::execute_usage(arguments, &inside).await,
        InsideVerb::Info(arguments) => report::execute_info(arguments, &inside).await,
        InsideVerb::Spawn(arguments) => spawn::execute(*arguments, &inside).await,
        InsideVerb::Wait(arguments) => wait::execute(arguments, &inside).await,
        InsideVerb::Get(arguments) => get::execute(arguments, &inside).await,
        InsideVerb::Message(arguments) => message::execute(arguments, &inside).await,
        InsideVerb::Messages(arguments) => messages::execute(arguments, &inside).await,
        InsideVerb::Tail(arguments) => logs::execute(arguments, &inside).await,
        InsideVerb::Cancel(arguments) => cancel::execute(arguments, &inside).await,
        InsideVerb::Answer(arguments) => answer::execute(arguments, &inside).await,
        InsideVerb::List(arguments) => list::execute(arguments, &inside).await,
    }
}

fn socket() -> Result<PathBuf, Failure> {
    std::env::var_os(SOCKET_VARIABLE)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .ok_or_else(|| {
            Failure::Usage(format!(
                "this is not inside a task: ${SOCKET_VARIABLE} is not set; run the script with `taskyard run -- SCRIPT`, \
                 and from outside use `taskyard get`, `message`, `answer` and `run`"
            ))
        })
}
