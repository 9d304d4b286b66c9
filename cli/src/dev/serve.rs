//! `dev`: everything, until Ctrl-C.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::ListWorkersRequest;

use crate::admin_port::{self, AdminArguments};
use crate::commands::worker::{SHORT_STOP, WorkerSecretArguments, still_running};
use crate::connection::Connection;
use crate::console;
use crate::dev::embedded::{Embedded, EmbeddedPlan};
use crate::dev::service::ServiceArguments;
use crate::dev::welcome;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::machine::program_name;
use crate::quantity::parse_monitor_interval;

const DEFAULT_LISTEN: &str = "127.0.0.1:8275";
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:8275";

/// Start a whole Taskyard on this machine: database, server and worker, until Ctrl-C
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard dev
  taskyard dev --data-dir ./yard --listen 127.0.0.1:9000 --no-welcome
  taskyard dev --database-url postgres://me@localhost/taskyard

Exit codes: 0 stopped by Ctrl-C or SIGTERM, 2 usage, 125 failed. Data stays for the next start.
Listens on 127.0.0.1:8275; logs go to standard error at the level of TASKYARD_LOG.")]
pub struct DevArguments {
    /// Do not run the small welcome task
    #[arg(long)]
    pub no_welcome: bool,
    #[command(flatten)]
    pub service: ServiceArguments,
    #[command(flatten)]
    pub secrets: WorkerSecretArguments,
    #[command(flatten)]
    pub admin: AdminArguments,
    /// No monitor may fire more often [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_monitor_interval, allow_hyphen_values = true, hide = true)]
    pub min_monitor_interval: Option<Duration>,
}

/// Serves until it is told to stop.
pub async fn execute(arguments: DevArguments) -> Result<ExitCode, Failure> {
    let plan = EmbeddedPlan::new(arguments.service, DEFAULT_LISTEN)?
        .with_monitor_interval(arguments.min_monitor_interval)
        .with_secrets_of_worker(arguments.secrets);
    let mut interrupts = Interrupts::listen(true)?;
    console::note(&format!(
        "starting, with data in {}",
        plan.data_dir().display()
    ));
    let admin = arguments.admin.open(Some(admin_port::DEFAULT)).await?;
    let mut embedded = Embedded::start(plan, &mut interrupts).await?;
    admin.started(embedded.probe());
    let ended = serve(&mut embedded, arguments.no_welcome, &mut interrupts).await;
    match &ended {
        Ok(()) | Err(Failure::Interrupted(_)) => {
            console::note("stopping the worker, the server and the database")
        }
        Err(failure) => console::note(&format!("{failure}; stopping")),
    }
    stop(embedded, &mut interrupts).await?;
    console::note("stopped");
    match ended {
        Ok(()) | Err(Failure::Interrupted(_)) => Ok(ExitCode::Success),
        // It was told already.
        Err(failure) => Ok(failure.exit_code()),
    }
}

/// Stops everything, says what is waited for, and leaves at once where a person who was told so wants to.
async fn stop(embedded: Embedded, interrupts: &mut Interrupts) -> Result<(), Failure> {
    let endpoint = embedded.endpoint().to_owned();
    let stopping = embedded.stop();
    tokio::pin!(stopping);
    let notice = stopping_notice(&endpoint);
    tokio::pin!(notice);
    let mut is_told = false;
    loop {
        tokio::select! {
            stopped = &mut stopping => return stopped,
            text = &mut notice, if !is_told => {
                is_told = true;
                console::note(&text);
            }
            () = interrupts.next() => {
                if is_told {
                    let text = "left; the next start recovers what is left behind";
                    return Err(Failure::Interrupted(text.to_owned()));
                }
                is_told = true;
                console::note("still stopping; Ctrl-C again leaves at once");
            }
        }
    }
}

/// After a second: what a stop that takes longer waits for.
async fn stopping_notice(endpoint: &str) -> String {
    tokio::time::sleep(SHORT_STOP).await;
    let still_running = still_running(taskyard_worker::DEFAULT_DRAIN);
    let what = match tokio::time::timeout(SHORT_STOP, n_held(endpoint)).await {
        Ok(Some(1)) => format!("waiting for 1 task: {still_running}"),
        Ok(Some(n)) if n > 1 => format!("waiting for {n} tasks: {still_running}"),
        // The server may be stopping already.
        Ok(Some(_) | None) | Err(_) => "still stopping".to_owned(),
    };
    format!("{what}; Ctrl-C again leaves at once")
}

/// Tasks that the workers of this server hold; none if it does not answer.
async fn n_held(endpoint: &str) -> Option<i32> {
    let connection = Connection::to(endpoint, "").await.ok()?;
    let mut admin = connection.admin();
    let answer = admin.list_workers(ListWorkersRequest::default()).await;
    let workers = answer.ok()?.into_inner().workers;
    Some(workers.iter().map(|worker| worker.held).sum())
}

async fn serve(
    embedded: &mut Embedded,
    no_welcome: bool,
    interrupts: &mut Interrupts,
) -> Result<(), Failure> {
    let endpoint = embedded.endpoint().to_owned();
    if !no_welcome {
        let connection = Connection::to(&endpoint, "").await?;
        tokio::select! {
            welcomed = welcome::run(&connection) => match welcomed {
                Ok(()) => {}
                Err(Failure::BrokenPipe) => {}
                // A broken welcome is worth telling; the rest may serve to find out why.
                Err(failure) => console::note(&format!("the welcome task failed: {failure}")),
            },
            () = interrupts.next() => return Ok(()),
            failure = embedded.failed() => return Err(failure),
        }
    }
    match console::print(&next_commands(&endpoint, &embedded.database())) {
        Ok(()) | Err(Failure::BrokenPipe) => {}
        Err(failure) => return Err(failure),
    }
    tokio::select! {
        () = interrupts.next() => Ok(()),
        failure = embedded.failed() => Err(failure),
    }
}

fn next_commands(endpoint: &str, database: &str) -> String {
    let taskyard = program_name();
    let flag = if endpoint == DEFAULT_ENDPOINT {
        String::new()
    } else {
        format!("--endpoint {endpoint} ")
    };
    let ending = if std::io::stdout().is_terminal() {
        "\nCtrl-C stops it.\n"
    } else {
        ""
    };
    format!(
        "Taskyard serves on {endpoint}, with {database}.\n\nTry, in another terminal:\n  \
         {taskyard} {flag}run --session demo -- sh -c 'echo hello; sleep 1; echo done'\n  \
         {taskyard} {flag}watch demo\n  \
         {taskyard} {flag}list\n  \
         {taskyard} {flag}files ls demo /.tasks\n  \
         {taskyard} help agent\n{ending}"
    )
}
