//! The verbs of `taskyard self`.

use clap::{Args, Subcommand};

use super::{artifact, ask, inbox, post, progress, report, spawn};
use crate::commands::{answer, cancel, get, list, logs, message, messages, wait};

/// Speak for the task inside which this runs: report, ask, publish, spawn, wait
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard self progress --current 3 --total 10 --unit files
  ANSWER=$(taskyard self ask --choice yes --choice no 'Deploy now?')
  ID=$(taskyard self spawn -- make test) && taskyard self wait $ID

It speaks through $TASKYARD_SOCKET, which every task has. The global options do not matter here.

Exit codes: 0 done, 1 refused, 2 usage or not inside a task, 125 lease lost or server failed")]
pub struct InsideArguments {
    #[command(subcommand)]
    pub verb: InsideVerb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum InsideVerb {
    Progress(progress::ProgressArguments),
    Status(progress::StatusArguments),
    Ask(ask::AskArguments),
    Post(post::PostArguments),
    Inbox(inbox::InboxArguments),
    Artifact(artifact::ArtifactArguments),
    Result(report::ResultArguments),
    Usage(report::UsageArguments),
    Info(report::InfoArguments),
    Spawn(Box<spawn::SpawnArguments>),
    /// Wait until tasks below this one have ended; the slot is given back meanwhile
    // those are the owner's
    #[command(
        mut_arg("group", |argument| argument.hide(true)),
        mut_arg("label", |argument| argument.hide(true)),
        after_help = "Examples:
  taskyard self wait $ID && echo it went well
  taskyard self wait --any $ONE $OTHER -o json
  taskyard self wait --until attention --timeout 10m t7

Exit codes: 0 all that was waited for succeeded, 1 a task failed or was canceled (or is not there),
3 a question is pending, 4 the wait expired (the work goes on), 2 usage, 125 lease lost or server failed"
    )]
    Wait(wait::WaitArguments),
    /// Show a task below this one, or what it resulted in
    #[command(after_help = "Examples:
  taskyard self get $ID
  taskyard self get $ID --result | jq .output
  taskyard self get $ID -o json --full

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 lease lost or server failed")]
    Get(get::GetArguments),
    /// Send a task below this one a message; prints its id
    #[command(after_help = "Examples:
  taskyard self message $ID 'leave out the tests'
  taskyard self message $ID --data '{\"limit\": 3}'
  taskyard self message $ID --reply-to $MESSAGE 'yes'

Exit codes: 0 sent, 1 refused (such as: it has ended) or not found, 2 usage,
125 lease lost or server failed")]
    Message(message::MessageArguments),
    /// Print the messages of a task below this one, oldest first
    #[command(after_help = "Examples:
  taskyard self messages $ID
  taskyard self messages $ID --after 7 -o json
  taskyard self messages --follow $ID

Without --after these are the latest 200. With -o json there is a line of JSON for each message.
While --follow waits the slot is given back.

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 lease lost or server failed")]
    Messages(messages::MessagesArguments),
    /// Print the output of a task below this one; while -f waits the slot is given back
    #[command(after_help = "Examples:
  taskyard self tail $ID
  taskyard self tail -f $ID
  taskyard self tail --stream stderr --tail 20 $ID

Exit codes: 0 all was printed (whatever the task did), 1 refused or not found, 2 usage,
125 lease lost or server failed")]
    Tail(logs::LogsArguments),
    /// Ask tasks below this one to stop: TERM, then KILL after the grace
    #[command(after_help = "Examples:
  taskyard self cancel $ID
  taskyard self cancel --tree $ID
  taskyard self cancel --now t7 t8

Exit codes: 0 asked (also where a task had ended before), 1 refused or not found, 2 usage,
125 lease lost or server failed")]
    Cancel(cancel::CancelArguments),
    /// Answer the question of a task below this one
    #[command(after_help = "Examples:
  taskyard self answer $ID production
  taskyard self answer $ID --question $QUESTION 3
  taskyard self answer $ID --json '{\"count\": 3}'

Exit codes: 0 answered, 1 refused (such as: answered before) or not found, 2 usage,
125 lease lost or server failed")]
    Answer(answer::AnswerArguments),
    /// List the children of this task, or with --parent those of one below it, newest first
    #[command(after_help = "Examples:
  taskyard self list
  taskyard self list --state running -o name
  taskyard self list --all-pages -o json

Exit codes: 0 done, 1 refused, 2 usage, 125 lease lost or server failed")]
    List(list::ListArguments),
}
