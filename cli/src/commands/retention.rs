//! `retention`: how much of what has ended is kept.

use std::time::Duration;

use clap::{Args, Subcommand};
use taskyard_proto::v1::{
    GetRetentionRequest, GetRetentionResponse, RetentionLimits, RunRetentionRequest,
    SetRetentionRequest,
};

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::{
    counted, exact_duration, from_wire, parse_duration, parse_size, short_size, to_wire,
};

/// See, set and apply how much of what has ended is kept
#[derive(Debug, Args)]
#[command(
    after_help = "Without --session it is the namespace's, for every session without limits of its own.

Examples:
  taskyard retention set --ttl 30d --max-tasks 10000
  taskyard retention set --session demo --max-bytes 1GiB
  taskyard retention run --dry-run

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed"
)]
pub struct RetentionArguments {
    #[command(subcommand)]
    pub verb: RetentionVerb,
}

/// What to do about it.
#[derive(Debug, Subcommand)]
pub enum RetentionVerb {
    /// Show what holds
    #[command(after_help = "Examples:
  taskyard retention get
  taskyard retention get --session demo
  taskyard retention get --namespace team

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
    Get,
    /// Set the limits; one that is not given is none
    #[command(after_help = "Examples:
  taskyard retention set --ttl 30d --max-tasks 10000
  taskyard retention set --session demo --max-bytes 1GiB
  taskyard retention set --session demo --max-tasks 0

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
    Set(SetArguments),
    /// Remove the limits
    #[command(after_help = "Examples:
  taskyard retention clear
  taskyard retention clear --session demo
  taskyard retention clear --namespace team

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
    Clear,
    /// Delete now what is beyond the limits, in one bounded pass
    #[command(after_help = "Examples:
  taskyard retention run --dry-run
  taskyard retention run --session demo
  taskyard retention run --limit 10000

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
    Run(RunArguments),
}

/// The limits.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct SetArguments {
    /// Keep ended tasks this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub ttl: Option<Duration>,
    /// Keep this many ended tasks of a session, the newest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub max_tasks: Option<i64>,
    /// Keep this much output of a session's ended tasks, of the newest
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_bytes: Option<u64>,
}

/// One pass.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Only say what would be deleted
    #[arg(long)]
    pub dry_run: bool,
    /// Most tasks of this pass
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub limit: i32,
}

/// Does it.
pub async fn execute(
    arguments: RetentionArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    let session_id = global.session().unwrap_or_default();
    match arguments.verb {
        RetentionVerb::Get => show(&get(&connection, session_id).await?)?,
        RetentionVerb::Set(limits) => set(&connection, session_id, Some(wire(&limits))).await?,
        RetentionVerb::Clear => set(&connection, session_id, None).await?,
        RetentionVerb::Run(arguments) => run(&connection, session_id, &arguments).await?,
    }
    Ok(ExitCode::Success)
}

fn wire(limits: &SetArguments) -> RetentionLimits {
    RetentionLimits {
        ended_task_ttl: limits.ttl.map(to_wire),
        max_ended_tasks: limits.max_tasks,
        max_ended_bytes: limits
            .max_bytes
            .map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
    }
}

async fn get(connection: &Connection, session_id: &str) -> Result<GetRetentionResponse, Failure> {
    connection
        .call(|| {
            let mut admin = connection.admin();
            let request = GetRetentionRequest {
                namespace: connection.namespace(),
                session_id: session_id.to_owned(),
            };
            async move { admin.get_retention(request).await }
        })
        .await
}

async fn set(
    connection: &Connection,
    session_id: &str,
    limits: Option<RetentionLimits>,
) -> Result<(), Failure> {
    connection
        .call(|| {
            let mut admin = connection.admin();
            let request = SetRetentionRequest {
                namespace: connection.namespace(),
                session_id: session_id.to_owned(),
                limits,
            };
            async move { admin.set_retention(request).await }
        })
        .await?;
    Ok(())
}

async fn run(
    connection: &Connection,
    session_id: &str,
    arguments: &RunArguments,
) -> Result<(), Failure> {
    let done = connection
        .call(|| {
            let mut admin = connection.admin();
            let request = RunRetentionRequest {
                namespace: connection.namespace(),
                session_id: session_id.to_owned(),
                dry_run: arguments.dry_run,
                max_tasks: arguments.limit,
            };
            async move { admin.run_retention(request).await }
        })
        .await?;
    for id in &done.task_ids {
        console::print(&format!("{id}\n"))?;
    }
    let verb = if arguments.dry_run {
        "would be deleted"
    } else {
        "deleted"
    };
    let bytes = short_size(done.bytes.unsigned_abs());
    let more = if done.has_more {
        "; there are more"
    } else {
        ""
    };
    let count = done.task_ids.len();
    let tasks = counted(i64::try_from(count).unwrap_or(i64::MAX), "task");
    console::note(&format!(
        "{tasks} with {bytes} of output and artifacts {verb}{more}"
    ));
    Ok(())
}

fn show(answer: &GetRetentionResponse) -> Result<(), Failure> {
    let Some(limits) = &answer.limits else {
        console::note("no limits: everything is kept");
        return Ok(());
    };
    let none = || "none".to_owned();
    let ttl = limits
        .ended_task_ttl
        .as_ref()
        .map_or_else(none, |ttl| exact_duration(from_wire(ttl)));
    let tasks = limits
        .max_ended_tasks
        .map_or_else(none, |tasks| tasks.to_string());
    let bytes = limits
        .max_ended_bytes
        .map_or_else(none, |bytes| short_size(bytes.unsigned_abs()));
    console::print(&format!(
        "ttl        {ttl}\nmax-tasks  {tasks}\nmax-bytes  {bytes}\n"
    ))?;
    if answer.is_own {
        console::note("these are the session's own");
    }
    Ok(())
}
