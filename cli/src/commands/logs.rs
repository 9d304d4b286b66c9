//! `logs`: a task's output.

use std::time::Duration;

use clap::{Args, ValueEnum};
use taskyard_proto::v1::{OutputPosition, OutputStream, ReadOutputRequest};

use crate::arguments::GlobalArguments;
use crate::connection::{CALL_LIMIT, Connection};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::output_follower::{FollowPlan, follow, position, read_task};
use crate::output_printer::OutputPrinter;
use crate::quantity::parse_size;
use crate::task_reference::TaskReference;

/// How long to try while the server cannot be reached.
const PATIENCE: Duration = Duration::from_secs(60);

/// Print a task's output: its stdout to stdout, its stderr to stderr
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard logs t12 --session demo
  taskyard logs -f task_0193a5f0c0de7000800000000000abcd
  taskyard logs t12 --session demo --stream stderr --tail 4KiB

Exit codes: 0 all was printed (whatever the task did), 1 refused or not found, 2 usage,
125 server out of reach or failed")]
pub struct LogsArguments {
    /// Id, start of an id, t12 or name
    pub task: String,
    /// Follow until the task, or the run, has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Only this one: stdout, stderr
    #[arg(long, hide_possible_values = true)]
    pub stream: Option<StreamName>,
    /// Run to read, from 1 [default: the latest]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..), allow_negative_numbers = true)]
    pub run: Option<i32>,
    /// First byte to print, counted from 0
    #[arg(long, value_name = "BYTE", requires = "stream", conflicts_with = "tail", value_parser = clap::value_parser!(i64).range(0..), allow_negative_numbers = true)]
    pub offset: Option<i64>,
    /// Begin this many bytes before the end of each stream, such as 4KiB
    #[arg(long, value_name = "BYTES", value_parser = parse_size, allow_hyphen_values = true)]
    pub tail: Option<u64>,
}

/// One of a task's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StreamName {
    Stdout,
    Stderr,
}

impl From<StreamName> for OutputStream {
    fn from(name: StreamName) -> OutputStream {
        match name {
            StreamName::Stdout => OutputStream::Stdout,
            StreamName::Stderr => OutputStream::Stderr,
        }
    }
}

/// Prints what was asked for.
pub async fn execute(
    arguments: LogsArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let named = global.task(&arguments.task)?;
    let connection = Connection::open(global).await?;
    // A name can pass on to another task while its output is being read; an id cannot.
    let task = read_task(&connection, &named, Duration::from_secs(10)).await?;
    let reference = TaskReference::new(&task.id, None);
    let streams: &[OutputStream] = match arguments.stream {
        Some(StreamName::Stdout) => &[OutputStream::Stdout],
        Some(StreamName::Stderr) => &[OutputStream::Stderr],
        None => &[OutputStream::Stdout, OutputStream::Stderr],
    };
    let run = arguments.run.unwrap_or(0);
    let mut positions = Vec::new();
    for &stream in streams {
        let offset = match arguments.tail {
            Some(bytes) => start_of_tail(&connection, &reference, run, stream, bytes).await?,
            None => arguments.offset.unwrap_or(0),
        };
        positions.push(position(stream, offset));
    }
    print_output(&connection, reference, run, positions, arguments.follow).await
}

async fn print_output(
    connection: &Connection,
    task: TaskReference,
    run: i32,
    positions: Vec<OutputPosition>,
    is_following: bool,
) -> Result<ExitCode, Failure> {
    let plan = FollowPlan {
        task,
        run,
        positions,
        is_following,
        patience: PATIENCE,
    };
    follow(connection, plan, &mut OutputPrinter::new()).await?;
    Ok(ExitCode::Success)
}

async fn start_of_tail(
    connection: &Connection,
    task: &TaskReference,
    run: i32,
    stream: OutputStream,
    bytes: u64,
) -> Result<i64, Failure> {
    let answer = connection
        .call_within(CALL_LIMIT, Duration::from_secs(10), || {
            let mut tasks = connection.tasks();
            let request = ReadOutputRequest {
                namespace: connection.namespace(),
                session_id: task.session_id.clone(),
                task: task.task.clone(),
                run,
                stream: stream.into(),
                offset: 0,
                tail: true,
                max_bytes: 1,
            };
            async move { tasks.read_output(request).await }
        })
        .await?;
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    Ok(answer.total_bytes.saturating_sub(bytes).max(0))
}
