//! `logs`: a task's output.

use std::time::Duration;

use clap::{Args, ValueEnum};
use taskyard_proto::v1::text_pattern::Pattern;
use taskyard_proto::v1::{
    OutputGrep, OutputPosition, OutputStream, OutputView, ReadOutputRequest, ReadOutputResponse,
    TextPattern,
};

use crate::arguments::GlobalArguments;
use crate::connection::{CALL_LIMIT, Connection};
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::output_follower::{FollowPlan, follow, position, read_task};
use crate::output_printer::OutputPrinter;
use crate::quantity::{counted, parse_size};
use crate::task_reference::TaskReference;

/// Print a task's output: its stdout to stdout, its stderr to stderr
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard logs t12 --session demo
  taskyard logs -f task_0193a5f0c0de7000800000000000abcd
  taskyard logs t12 --session demo --view errors --max-bytes 4KiB

Views show text within a budget, for readers with little room; what they leave out is told on stderr.
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
    /// Show text: tail, errors (what looks like them), grep, or since-last (see --cursor)
    #[arg(long, hide_possible_values = true, conflicts_with_all = ["follow", "offset", "tail"])]
    pub view: Option<ViewName>,
    /// Lines that fit this regular expression (means --view grep)
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["follow", "offset", "tail"])]
    pub grep: Option<String>,
    /// Lines around each of them
    #[arg(short = 'C', long, value_name = "N", requires = "grep", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=20), allow_negative_numbers = true)]
    pub context: i32,
    /// With --view since-last: show what came after, as told by the call before
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    pub cursor: Option<String>,
    /// Most bytes of a view's text [default: 8KiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_size, allow_hyphen_values = true)]
    pub max_bytes: Option<u64>,
}

/// How to show output as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ViewName {
    Tail,
    Errors,
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
    if let Some(request) = view_request(&arguments)? {
        return print_views(&connection, &reference, streams, request).await;
    }
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

/// What is asked for where output is shown as text; none where it is not.
fn view_request(arguments: &LogsArguments) -> Result<Option<ReadOutputRequest>, Failure> {
    if arguments.cursor.is_some() && arguments.view != Some(ViewName::SinceLast) {
        return Err(Failure::Usage(
            "--cursor is for --view since-last".to_owned(),
        ));
    }
    let view = match (arguments.view, &arguments.grep) {
        (None, None) if arguments.max_bytes.is_some() => {
            return Err(Failure::Usage(
                "--max-bytes is for --view and --grep".to_owned(),
            ));
        }
        (None, None) => return Ok(None),
        (Some(ViewName::Tail), None) => OutputView::Tail,
        (Some(ViewName::Errors), None) => OutputView::Errors,
        (None | Some(ViewName::Grep), Some(_)) => OutputView::Grep,
        (Some(ViewName::Grep), None) => {
            return Err(Failure::Usage("--view grep needs --grep REGEX".to_owned()));
        }
        (Some(ViewName::SinceLast), None) if arguments.stream.is_none() => {
            return Err(Failure::Usage(
                "--view since-last needs --stream: each stream has a cursor of its own".to_owned(),
            ));
        }
        (Some(ViewName::SinceLast), None) => OutputView::SinceLast,
        (Some(ViewName::Tail | ViewName::Errors | ViewName::SinceLast), Some(_)) => {
            return Err(Failure::Usage("--grep is for --view grep".to_owned()));
        }
    };
    let max_bytes = arguments.max_bytes.unwrap_or(0);
    Ok(Some(ReadOutputRequest {
        run: arguments.run.unwrap_or(0),
        max_bytes: i32::try_from(max_bytes).unwrap_or(i32::MAX),
        view: view.into(),
        cursor: arguments.cursor.clone().unwrap_or_default(),
        grep: arguments.grep.as_ref().map(|expression| OutputGrep {
            pattern: Some(TextPattern {
                pattern: Some(Pattern::Regex(expression.clone())),
                ignore_case: false,
            }),
            before: arguments.context,
            after: arguments.context,
            max_matches: 1_000,
        }),
        ..ReadOutputRequest::default()
    }))
}

async fn print_views(
    connection: &Connection,
    task: &TaskReference,
    streams: &[OutputStream],
    request: ReadOutputRequest,
) -> Result<ExitCode, Failure> {
    for &stream in streams {
        let request = ReadOutputRequest {
            namespace: connection.namespace(),
            session_id: task.session_id.clone(),
            task: task.task.clone(),
            stream: stream.into(),
            ..request.clone()
        };
        let answer = connection
            .call_within(CALL_LIMIT, connection.waiting_patience(), || {
                let mut tasks = connection.tasks();
                let request = request.clone();
                async move { tasks.read_output(request).await }
            })
            .await?;
        print_view(stream, &answer)?;
        if request.view() == OutputView::SinceLast {
            console::note(&format!("go on with --cursor {}", answer.cursor));
        }
    }
    Ok(ExitCode::Success)
}

/// Prints a view to the stream of the same name, and what is not in it to stderr.
fn print_view(stream: OutputStream, answer: &ReadOutputResponse) -> Result<(), Failure> {
    let mut text = answer.text.clone();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let name = match stream {
        OutputStream::Stderr => {
            console::print_error(&text)?;
            "stderr"
        }
        OutputStream::Stdout | OutputStream::Unspecified => {
            console::print(&text)?;
            "stdout"
        }
    };
    if answer.omitted_bytes > 0 {
        console::note(&format!(
            "{name}: left out {} with {}",
            counted(answer.omitted_lines, "line"),
            counted(answer.omitted_bytes, "byte")
        ));
    }
    if answer.unavailable_bytes > 0 {
        console::note(&format!(
            "{name}: not kept: {}",
            counted(answer.unavailable_bytes, "byte")
        ));
    }
    Ok(())
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
        patience: connection.waiting_patience(),
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
                ..ReadOutputRequest::default()
            };
            async move { tasks.read_output(request).await }
        })
        .await?;
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    Ok(answer.total_bytes.saturating_sub(bytes).max(0))
}
