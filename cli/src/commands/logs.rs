//! `logs`: a task's output.

use std::time::Duration;

use clap::{Args, ValueEnum};
use prost_types::Timestamp;
use taskyard_proto::v1::{OutputStream, ReadOutputRequest};

use crate::arguments::GlobalArguments;
use crate::connection::{CALL_LIMIT, Connection};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::output_follower::{FollowPlan, follow, position, read_task};
use crate::output_printer::OutputPrinter;
use crate::quantity::parse_size;
use crate::task_reference::TaskReference;
use crate::view::moment::parse_past;

use super::logs_view;

/// Print a task's output: its stdout to stdout, its stderr to stderr
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard logs -f --tail 10 t12
  taskyard logs t12 --since 5m --timestamps --stream stderr
  taskyard logs t12 --view errors --max-bytes 4KiB

Views show text within a budget; what they leave out is told on stderr.
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
    /// Last N lines; with a unit, such as 4KiB, last bytes of each stream
    #[arg(long, value_name = "N", value_parser = parse_tail, allow_hyphen_values = true)]
    pub tail: Option<TailLength>,
    /// Only what was captured since a time (RFC 3339), or within 5m
    #[arg(long, value_name = "TIME", value_parser = parse_past, conflicts_with = "cursor", allow_hyphen_values = true)]
    pub since: Option<Timestamp>,
    /// Begin each line with the time of its capture (UTC)
    #[arg(short, long, conflicts_with_all = ["view", "grep", "lines"])]
    pub timestamps: bool,
    /// Show text: tail, errors, tests (those that failed), grep, or since-last (see --cursor)
    #[arg(long, hide_possible_values = true, conflicts_with_all = ["follow", "offset", "tail"])]
    pub view: Option<ViewName>,
    /// Lines that fit this regular expression; -i: any case, -c: only count them
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["follow", "offset", "tail"])]
    pub grep: Option<String>,
    #[arg(short, long, hide = true, requires = "grep")]
    pub ignore_case: bool,
    #[arg(short, long, hide = true, requires = "grep", conflicts_with_all = ["context", "before", "after", "line_number", "max_bytes"])]
    pub count: bool,
    /// Lines around each of them; -B: before, -A: after
    #[arg(short = 'C', long, value_name = "N", requires = "grep", value_parser = clap::value_parser!(i32).range(0..=20), allow_negative_numbers = true)]
    pub context: Option<i32>,
    #[arg(short = 'B', long, hide = true, value_name = "N", requires = "grep", value_parser = clap::value_parser!(i32).range(0..=20), allow_negative_numbers = true)]
    pub before: Option<i32>,
    #[arg(short = 'A', long, hide = true, value_name = "N", requires = "grep", value_parser = clap::value_parser!(i32).range(0..=20), allow_negative_numbers = true)]
    pub after: Option<i32>,
    /// Lines by number: 100:200, 100:, 7
    #[arg(long, value_name = "FROM:TO", value_parser = parse_lines, conflicts_with_all = ["follow", "offset", "tail", "view", "grep"], allow_hyphen_values = true)]
    pub lines: Option<LineNumbers>,
    /// Begin each line of a view with its number, as rg does
    #[arg(short = 'n', long)]
    pub line_number: bool,
    /// With --view since-last: show what came after, as told by the call before
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    pub cursor: Option<String>,
    /// Most bytes of a view's text [default: 8KiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_size, allow_hyphen_values = true)]
    pub max_bytes: Option<u64>,
}

/// How much of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailLength {
    Lines(i32),
    /// Of each stream.
    Bytes(u64),
}

/// Lines by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineNumbers {
    pub first: i64,
    /// 0: to the end.
    pub last: i64,
}

/// How to show output as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ViewName {
    Tail,
    Errors,
    /// Failed tests, their reports, the counts.
    Tests,
    Grep,
    SinceLast,
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
    if let Some(request) = logs_view::request(&arguments)? {
        let plan = logs_view::Plan {
            is_count: arguments.count,
            is_whole: arguments.lines.is_some() && arguments.max_bytes.is_none(),
        };
        return logs_view::print(&connection, &reference, streams, &request, plan).await;
    }
    let mut positions = Vec::new();
    for &stream in streams {
        let offset = match arguments.tail {
            Some(TailLength::Bytes(bytes)) => {
                start_of_tail(&connection, &reference, run, stream, bytes).await?
            }
            Some(TailLength::Lines(_)) | None => arguments.offset.unwrap_or(0),
        };
        positions.push(position(stream, offset));
    }
    let last_lines = match arguments.tail {
        // The end of what is stored is there already; what comes is still to be printed.
        Some(TailLength::Lines(0)) => {
            for position in &mut positions {
                let stream = position.stream();
                position.offset = start_of_tail(&connection, &reference, run, stream, 0).await?;
            }
            0
        }
        Some(TailLength::Lines(lines)) => lines,
        Some(TailLength::Bytes(_)) | None => 0,
    };
    let plan = FollowPlan {
        task: reference,
        run,
        positions,
        since: arguments.since,
        last_lines,
        is_following: arguments.follow,
        patience: connection.waiting_patience(),
    };
    let mut printer = OutputPrinter::new().stamped(arguments.timestamps);
    follow(&connection, plan, &mut printer).await?;
    Ok(ExitCode::Success)
}

/// Reads `10`, a number of lines, or `4KiB`, bytes.
fn parse_tail(text: &str) -> Result<TailLength, String> {
    const MOST_LINES: i32 = 100_000;
    let complaint =
        || format!("`{text}` is neither a number of lines such as 10 nor a size such as 4KiB");
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return parse_size(text)
            .map(TailLength::Bytes)
            .map_err(|_| complaint());
    }
    match text.parse() {
        Ok(lines) if lines <= MOST_LINES => Ok(TailLength::Lines(lines)),
        Ok(_) | Err(_) => Err(format!(
            "at most {MOST_LINES} lines; for more leave --tail out, or give a size such as 16MiB"
        )),
    }
}

/// Reads `100:200`, `100:`, `:200` or `7`.
fn parse_lines(text: &str) -> Result<LineNumbers, String> {
    let complaint =
        || format!("`{text}` names no lines; write them like 100:200, 100: or 7, counted from 1");
    let number = |text: &str, absent: i64| match text {
        "" => Ok(absent),
        text => text
            .parse::<i64>()
            .ok()
            .filter(|number| *number >= 1)
            .ok_or_else(complaint),
    };
    let lines = match text.split_once([':', ',', '-']) {
        Some((first, last)) if !(first.is_empty() && last.is_empty()) => LineNumbers {
            first: number(first, 1)?,
            last: number(last, 0)?,
        },
        Some(_) => return Err(complaint()),
        None => {
            let only = number(text, 0)?;
            LineNumbers {
                first: only,
                last: only,
            }
        }
    };
    if lines.first == 0 || (lines.last != 0 && lines.last < lines.first) {
        return Err(complaint());
    }
    Ok(lines)
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
                ..ReadOutputRequest::default()
            };
            async move { tasks.read_output(request).await }
        })
        .await?;
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    Ok(answer.total_bytes.saturating_sub(bytes).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_lines_or_bytes() {
        assert_eq!(parse_tail("10"), Ok(TailLength::Lines(10)));
        assert_eq!(parse_tail("0"), Ok(TailLength::Lines(0)));
        assert_eq!(parse_tail("4KiB"), Ok(TailLength::Bytes(4096)));
        assert_eq!(parse_tail("100b"), Ok(TailLength::Bytes(100)));
        for bad in ["", "-4", "x", "100001", "99999999999", "1.5"] {
            assert!(parse_tail(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_are_named_by_their_numbers() {
        let lines = |first, last| Ok(LineNumbers { first, last });
        assert_eq!(parse_lines("100:200"), lines(100, 200));
        assert_eq!(parse_lines("100,200"), lines(100, 200));
        assert_eq!(parse_lines("100:"), lines(100, 0));
        assert_eq!(parse_lines(":200"), lines(1, 200));
        assert_eq!(parse_lines("7"), lines(7, 7));
        for bad in ["", ":", "0", "0:3", "5:4", "-3:", "a:b", "1:2:3"] {
            assert!(parse_lines(bad).is_err(), "{bad}");
        }
    }
}
