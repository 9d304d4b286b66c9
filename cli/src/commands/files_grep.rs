//! `files grep`: lines of a session's files that match.

use clap::Args;
use taskyard_proto::v1::{GrepMatch, GrepRequest, GrepResponse, GrepStop};

use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::{counted, parse_size, short_size};
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::record::Record;
use crate::view::words;

/// Search files for lines that match; binary files are left out
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard files grep demo 'error|panic' /.tasks/task_0193a5f0c0de7000800000000000abcd
  taskyard files grep demo -F 'a.b(c)' /src -C 3
  taskyard files grep demo todo -i -o json

Exit codes: 0 found, 1 found nothing or refused, 2 usage, 125 server out of reach or failed.")]
pub struct GrepArguments {
    /// Session
    #[arg(value_name = "SESSION")]
    pub session_id: String,
    /// Regular expression, matched line by line
    #[arg(allow_hyphen_values = true)]
    pub pattern: String,
    /// File, or folder to search at any depth; / leaves /.tasks out
    #[arg(default_value = "/")]
    pub path: String,
    /// The pattern is plain text
    #[arg(short = 'F', long)]
    pub literal: bool,
    /// No difference between upper and lower case
    #[arg(short, long)]
    pub ignore_case: bool,
    /// Lines to show before and after each match, up to 20
    #[arg(short = 'C', long, value_name = "LINES", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=20))]
    pub context: i32,
    /// Most matches, up to 1000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub limit: i32,
    /// Most bytes to look through, up to 64MiB
    #[arg(long, value_name = "SIZE", default_value = "5MiB", value_parser = parse_size)]
    pub scan: u64,
    /// Go on where an earlier search stopped
    #[arg(
        long,
        value_name = "TOKEN",
        allow_hyphen_values = true,
        default_value = "",
        hide_default_value = true
    )]
    pub page_token: String,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Searches.
pub async fn grep(connection: &Connection, arguments: GrepArguments) -> Result<ExitCode, Failure> {
    let request = GrepRequest {
        namespace: connection.namespace(),
        session_id: arguments.session_id,
        path: arguments.path,
        pattern: arguments.pattern,
        literal: arguments.literal,
        ignore_case: arguments.ignore_case,
        context_lines: arguments.context,
        max_matches: arguments.limit,
        max_files: 0,
        max_scan_bytes: i64::try_from(arguments.scan).unwrap_or(i64::MAX),
        page_token: arguments.page_token,
    };
    let answer = connection
        .call(|| {
            let mut files = connection.files();
            let request = request.clone();
            async move { files.grep(request).await }
        })
        .await?;
    match arguments.output.output {
        OutputFormat::Table | OutputFormat::Wide => {
            console::print(&text(&answer.matches, arguments.context > 0))?;
            tell(&answer);
        }
        OutputFormat::Json | OutputFormat::Yaml => {
            let record = record(&answer);
            let record = if arguments.output.full {
                record
            } else {
                record.brief(&[])
            };
            print_record(arguments.output.output, &record)?;
        }
        OutputFormat::Name => {
            let mut paths: Vec<&str> = answer.matches.iter().map(|one| one.path.as_str()).collect();
            paths.dedup();
            let lines: String = paths.iter().map(|path| format!("{path}\n")).collect();
            console::print(&lines)?;
        }
    }
    Ok(if answer.matches.is_empty() {
        ExitCode::Refused
    } else {
        ExitCode::Success
    })
}

/// As grep shows it: `path:line:text`, and `path-line-text` around it.
fn text(matches: &[GrepMatch], has_context: bool) -> String {
    let mut text = String::new();
    for (index, found) in matches.iter().enumerate() {
        if has_context && index > 0 {
            text.push_str("--\n");
        }
        let path = console::clean(&found.path);
        let mut line = |number: i64, mark: char, line: &str| {
            text.push_str(&format!("{path}{mark}{number}{mark}{}\n", shown(line)));
        };
        let first = found.line_number - found.before.len() as i64;
        for (number, before) in (first..).zip(&found.before) {
            line(number, '-', before);
        }
        line(found.line_number, ':', &found.line);
        for (number, after) in (found.line_number + 1..).zip(&found.after) {
            line(number, '-', after);
        }
    }
    text
}

/// Safe for a terminal, tabs as they are.
fn shown(line: &str) -> String {
    let parts: Vec<String> = line.split('\t').map(console::clean).collect();
    parts.join("\t")
}

/// What was left out, for a person.
fn tell(answer: &GrepResponse) {
    if answer.binary_files > 0 {
        let files = counted(answer.binary_files, "binary file");
        console::note(&format!("left out {files}"));
    }
    if answer.changed_files > 0 {
        console::note(&format!(
            "changed while they were searched: {}",
            counted(answer.changed_files, "file")
        ));
    }
    if answer.long_lines > 0 {
        console::note(&format!(
            "longer than 64 KiB and searched at their start only: {}",
            counted(answer.long_lines, "line")
        ));
    }
    let why = match answer.stopped_by() {
        GrepStop::Unspecified => return,
        GrepStop::Matches => "the limit of matches".to_owned(),
        GrepStop::Files => counted(answer.files_scanned, "file"),
        GrepStop::Bytes => short_size(answer.bytes_scanned.unsigned_abs()),
        GrepStop::Answer => "64 KiB of text".to_owned(),
        GrepStop::Time => "10 s".to_owned(),
    };
    console::note(&format!(
        "stopped after {why}, at byte {} of {}; go on with --page-token {}",
        answer.stopped_offset,
        console::clean(&answer.stopped_path),
        answer.next_page_token
    ));
}

fn record(answer: &GrepResponse) -> Record {
    let matches: Vec<Record> = answer
        .matches
        .iter()
        .map(|found| {
            Record::new()
                .with_text("path", &found.path)
                .with("line_number", found.line_number)
                .with("offset", found.offset)
                .with("line", found.line.as_str())
                .with("is_cut", found.is_cut)
                .with("before", found.before.clone())
                .with("after", found.after.clone())
        })
        .collect();
    Record::new()
        .with("matches", matches)
        .with("stopped_by", words::grep_stop(answer.stopped_by()))
        .with_text("stopped_path", &answer.stopped_path)
        .with("stopped_offset", answer.stopped_offset)
        .with_text("next_page_token", &answer.next_page_token)
        .with("files_scanned", answer.files_scanned)
        .with("bytes_scanned", answer.bytes_scanned)
        .with("binary_files", answer.binary_files)
        .with("changed_files", answer.changed_files)
        .with("long_lines", answer.long_lines)
}
