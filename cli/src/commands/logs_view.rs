//! `logs` where output is shown as text within a budget.

use taskyard_proto::v1::text_pattern::Pattern;
use taskyard_proto::v1::{
    OutputGrep, OutputLines, OutputStream, OutputView, ReadOutputRequest, ReadOutputResponse,
    TextPattern,
};

use crate::connection::{CALL_LIMIT, Connection};
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::counted;
use crate::task_reference::TaskReference;

use super::logs::{LogsArguments, ViewName};

/// Text that is asked for at once where all of it is wanted.
const PAGE_BYTES: i32 = 1 << 20;
/// The least that a server takes for a budget, where no text is wanted.
const LEAST_BYTES: i32 = 64;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Only how many lines fit.
    pub is_count: bool,
    /// Page after page, until all was printed.
    pub is_whole: bool,
}

/// What is asked for where output is shown as text; none where it is not.
pub fn request(arguments: &LogsArguments) -> Result<Option<ReadOutputRequest>, Failure> {
    if arguments.cursor.is_some() && arguments.view != Some(ViewName::SinceLast) {
        return Err(Failure::Usage(
            "--cursor is for --view since-last".to_owned(),
        ));
    }
    let has_view =
        arguments.view.is_some() || arguments.grep.is_some() || arguments.lines.is_some();
    if arguments.line_number && !has_view {
        return Err(Failure::Usage(
            "--line-number is for --view, --grep and --lines".to_owned(),
        ));
    }
    let view = match (arguments.view, &arguments.grep) {
        (None, None) if arguments.lines.is_some() => OutputView::Lines,
        (None, None) if arguments.max_bytes.is_some() => {
            return Err(Failure::Usage(
                "--max-bytes is for --view, --grep and --lines".to_owned(),
            ));
        }
        (None, None) => return Ok(None),
        (Some(ViewName::Tail), None) => OutputView::Tail,
        (Some(ViewName::Errors), None) => OutputView::Errors,
        (Some(ViewName::Tests), None) => OutputView::Tests,
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
        (
            Some(ViewName::Tail | ViewName::Errors | ViewName::Tests | ViewName::SinceLast),
            Some(_),
        ) => {
            return Err(Failure::Usage("--grep is for --view grep".to_owned()));
        }
    };
    let max_bytes = match arguments.max_bytes {
        _ if arguments.count => LEAST_BYTES,
        Some(bytes) => i32::try_from(bytes).unwrap_or(i32::MAX),
        None if arguments.lines.is_some() => PAGE_BYTES,
        None => 0,
    };
    let context = arguments.context.unwrap_or(0);
    Ok(Some(ReadOutputRequest {
        run: arguments.run.unwrap_or(0),
        max_bytes,
        view: view.into(),
        cursor: arguments.cursor.clone().unwrap_or_default(),
        grep: arguments.grep.as_ref().map(|expression| OutputGrep {
            pattern: Some(TextPattern {
                pattern: Some(Pattern::Regex(expression.clone())),
                ignore_case: arguments.ignore_case,
            }),
            before: arguments.before.unwrap_or(context),
            after: arguments.after.unwrap_or(context),
            max_matches: 1_000,
        }),
        lines: arguments.lines.map(|lines| OutputLines {
            first: lines.first,
            last: lines.last,
        }),
        since: arguments.since,
        numbered: arguments.line_number,
        ..ReadOutputRequest::default()
    }))
}

/// Prints a view of each stream.
pub async fn print(
    connection: &Connection,
    task: &TaskReference,
    streams: &[OutputStream],
    request: &ReadOutputRequest,
    plan: Plan,
) -> Result<ExitCode, Failure> {
    for &stream in streams {
        let mut request = ReadOutputRequest {
            namespace: connection.namespace(),
            session_id: task.session_id.clone(),
            task: task.task.clone(),
            stream: stream.into(),
            ..request.clone()
        };
        loop {
            let answer = connection
                .call_within(CALL_LIMIT, connection.waiting_patience(), || {
                    let mut tasks = connection.tasks();
                    let request = request.clone();
                    async move { tasks.read_output(request).await }
                })
                .await?;
            // Pages belong to one run, also where another begins between them.
            request.run = answer.run;
            if plan.is_count {
                print_count(stream, streams.len(), answer.matched_lines)?;
                break;
            }
            print_view(stream, &answer, plan.is_whole)?;
            if request.view() == OutputView::SinceLast {
                console::note(&format!("go on with --cursor {}", answer.cursor));
            }
            if let Some(note) = request
                .lines
                .as_ref()
                .and_then(|lines| counted_note(lines, &answer))
            {
                console::note(&format!("{}: {note}", crate::view::words::stream(stream)));
            }
            let Some(lines) = request.lines.as_mut().filter(|_| answer.next_line > 0) else {
                break;
            };
            lines.first = answer.next_line;
            if !plan.is_whole {
                let last = if lines.last > 0 {
                    lines.last.to_string()
                } else {
                    String::new()
                };
                console::note(&format!("go on with --lines {}:{last}", lines.first));
                break;
            }
        }
    }
    Ok(ExitCode::Success)
}

/// What is to be said of the numbers of asked lines: that there are not so many, or that some are not exact.
fn counted_note(lines: &OutputLines, answer: &ReadOutputResponse) -> Option<String> {
    let kept = answer
        .kept_lines
        .filter(|kept| lines.first.max(lines.last) > *kept);
    let exact = answer
        .last_exact_line
        .filter(|exact| answer.next_line == 0 && (lines.last == 0 || lines.last > *exact));
    let kept = kept.map(|kept| format!("there are {}", counted(kept, "line")));
    let exact = exact.map(|exact| {
        format!("output is missing behind line {exact}; numbers go on with what is kept")
    });
    match (kept, exact) {
        (Some(kept), Some(exact)) => Some(format!("{kept}; {exact}")),
        (kept, exact) => kept.or(exact),
    }
}

/// How many lines fit; with the name of the stream where there are two.
fn print_count(stream: OutputStream, n_streams: usize, lines: i64) -> Result<(), Failure> {
    let name = crate::view::words::stream(stream);
    console::print(&match n_streams {
        1 => format!("{lines}\n"),
        _ => format!("{name}:{lines}\n"),
    })
}

/// Prints a view to the stream of the same name, and what is not in it to stderr.
fn print_view(
    stream: OutputStream,
    answer: &ReadOutputResponse,
    is_whole: bool,
) -> Result<(), Failure> {
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
    // Of lines that are named by their numbers nobody misses the others.
    if answer.omitted_bytes > 0 && !is_whole {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_there_or_not_exact_are_told_of() {
        let note = |first, last, kept_lines, last_exact_line| {
            let answer = ReadOutputResponse {
                kept_lines,
                last_exact_line,
                ..ReadOutputResponse::default()
            };
            counted_note(&OutputLines { first, last }, &answer)
        };
        let there_are = |lines: &str| Some(format!("there are {lines}"));
        assert_eq!(note(90, 0, Some(50), None), there_are("50 lines"));
        assert_eq!(note(40, 60, Some(50), None), there_are("50 lines"));
        assert_eq!(note(2, 2, Some(1), None), there_are("1 line"));
        assert_eq!(note(40, 0, Some(50), None), None);
        assert_eq!(note(1, 3, None, Some(3)), None);
        let missing = "output is missing behind line 3; numbers go on with what is kept";
        assert_eq!(note(1, 4, None, Some(3)).as_deref(), Some(missing));
        let both = format!("there are 50 lines; {missing}");
        assert_eq!(note(90, 0, Some(50), Some(3)), Some(both));
    }
}
