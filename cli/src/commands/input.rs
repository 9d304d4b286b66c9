//! `input`: standard input here becomes standard input of a running task.

use clap::Args;

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::input_sender::send_input;

/// Send standard input to a task that was created with live input
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo yes | taskyard input t12 --session demo
  taskyard input t12 --session demo --eof <answers.txt
  taskyard input task_0193a5f0c0de7000800000000000abcd --eof </dev/null

The task needs `stdin_live: true` (task files) or `run -i`. Bytes go behind what was sent before.
Exit codes: 0 all was accepted, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct InputArguments {
    /// Id, start of an id, t12 or name
    pub task: String,
    /// Close the task's standard input afterwards
    #[arg(long)]
    pub eof: bool,
}

/// Sends it all.
pub async fn execute(
    arguments: InputArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let reference = global.task(&arguments.task)?;
    let connection = Connection::open(global).await?;
    let answer = send_input(&connection, &reference, tokio::io::stdin(), arguments.eof).await?;
    let waiting = answer.accepted.saturating_sub(answer.delivered);
    let end = if answer.eof { ", then its end" } else { "" };
    console::note(&format!(
        "run {}: {} bytes accepted{end}; {waiting} of them are on their way",
        answer.run, answer.accepted
    ));
    Ok(ExitCode::Success)
}
