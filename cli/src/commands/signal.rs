//! `signal`: a signal to the process of a running task.

use clap::Args;
use taskyard_proto::v1::{SignalTarget, SignalTaskRequest};

use crate::arguments::GlobalArguments;
use crate::connection::{CALL_LIMIT, Connection};
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;

/// Send a signal to a running task; this is no cancel
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard signal t12 HUP --session demo              have it read its configuration again
  taskyard signal t12 STOP --session demo             and later CONT
  taskyard signal t12 USR1 --session demo --root-only

Signals: HUP, INT, QUIT, KILL, USR1, USR2, TERM, CONT, STOP, TSTP, WINCH, or their numbers.
Exit codes: 0 the worker has sent it, 1 refused, not found or not running, 2 usage,
125 server out of reach or failed, or the worker did not confirm it")]
pub struct SignalArguments {
    /// Id, start of an id, t12 or name
    pub task: String,
    /// Name, with or without SIG, or number
    pub signal: String,
    /// To the first process alone, not to its group
    #[arg(long)]
    pub root_only: bool,
}

/// Sends it once: repeated, a signal is a second one.
pub async fn execute(
    arguments: SignalArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let reference = global.task(&arguments.task)?;
    let connection = Connection::open(global).await?;
    let target = if arguments.root_only {
        SignalTarget::Root
    } else {
        SignalTarget::Group
    };
    let request = SignalTaskRequest {
        namespace: connection.namespace(),
        session_id: reference.session_id.clone(),
        task: reference.task.clone(),
        signal: arguments.signal,
        target: target.into(),
    };
    let mut tasks = connection.tasks();
    let answer = connection
        .call_once(CALL_LIMIT, tasks.signal_task(request))
        .await?;
    console::print(&format!(
        "{} was sent to run {} of {}\n",
        answer.signal_name,
        answer.run,
        console::clean(&arguments.task)
    ))?;
    Ok(ExitCode::Success)
}
