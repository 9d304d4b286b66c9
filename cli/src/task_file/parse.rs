//! Reading a task file, and saying what is wrong with one.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::task_file::model::TaskFile;

/// Most tasks of one file; the server takes no more in one batch.
const MAX_TASKS: usize = 200;

/// A task of a file, or what is wrong with it, without the name of the file.
pub type Item = Result<TaskFile, String>;

/// Reads the tasks of a file as [`parse_each`] does; one that makes no sense spoils all of them, and each such one is
/// named.
pub fn parse(source: &str, content: &[u8]) -> Result<Vec<TaskFile>, Failure> {
    let items = parse_each(source, content)?;
    let count = items.len();
    let mut files = Vec::new();
    let mut complaints = Vec::new();
    for (number, item) in (1..).zip(items) {
        match item {
            Ok(file) => files.push(file),
            Err(why) => complaints.push(numbered(count, number, why)),
        }
    }
    if complaints.is_empty() {
        return Ok(files);
    }
    let complaints = complaints.join("; ");
    Err(Failure::Usage(format!("{source}: {complaints}")))
}

/// Reads the tasks of a file, at least one: JSON (what begins with a brace, or with a bracket for several) or YAML
/// documents. Errors name the line and the field. Where a task ends cannot be told if the file as a whole is neither JSON
/// nor YAML; that is an error of all of it, which names `source`.
pub fn parse_each(source: &str, content: &[u8]) -> Result<Vec<Item>, Failure> {
    let complaint = |why: String| Failure::Usage(format!("{source}: {why}"));
    let text = std::str::from_utf8(content).map_err(|error| {
        complaint(format!(
            "is not valid UTF-8 from byte {} on",
            error.valid_up_to()
        ))
    })?;
    if text.trim().is_empty() {
        return Err(complaint(
            "is empty; write a task as JSON or YAML".to_owned(),
        ));
    }
    let files = match text.trim_start().chars().next() {
        Some('{') => vec![parse_json(text)],
        Some('[') => parse_array(text).map_err(complaint)?,
        Some(_) | None => parse_documents(text).map_err(complaint)?,
    };
    if files.is_empty() || files.len() > MAX_TASKS {
        let count = files.len();
        return Err(complaint(format!(
            "holds {count} tasks; 1 to {MAX_TASKS} are possible"
        )));
    }
    let checked = files.into_iter().map(|file| {
        let file = file?;
        check(&file)?;
        Ok(file)
    });
    Ok(checked.collect())
}

/// YAML documents; empty ones, as after a last `---`, are none.
fn parse_documents(text: &str) -> Result<Vec<Item>, String> {
    // What is no YAML at all says nothing of where the next document begins.
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        IgnoredAny::deserialize(document).map_err(|error| yaml_complaint(&error))?;
    }
    let mut files = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let file = Option::<TaskFile>::deserialize(document);
        files.extend(file.map_err(|error| yaml_complaint(&error)).transpose());
        if files.len() > MAX_TASKS {
            break;
        }
    }
    Ok(files)
}

/// The elements of a JSON array.
fn parse_array(text: &str) -> Result<Vec<Item>, String> {
    let elements: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| json_complaint(&error))?;
    let items = elements.into_iter().map(|element| {
        let element = element.get();
        parse_json(element).or_else(|_| {
            // Again where it stands in the file, so that the complaint has its line and column.
            let start = (element.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
            let before = text.get(..start).unwrap_or_default();
            let (above, beside) = before.rsplit_once('\n').unwrap_or(("", before));
            let is_first_line = !before.contains('\n');
            let n_lines = above.matches('\n').count() + usize::from(!is_first_line);
            let blank = "\n".repeat(n_lines) + &" ".repeat(beside.chars().count());
            parse_json(&format!("{blank}{element}"))
        })
    });
    Ok(items.collect())
}

/// Says which of several tasks is meant.
fn numbered(count: usize, number: usize, why: String) -> String {
    if count > 1 {
        format!("task {number}: {why}")
    } else {
        why
    }
}

fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let error = match serde_json::from_str(text) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    if error.is_data() {
        // JSON is YAML too, and the reader of YAML knows the path to the field that is wrong.
        if let Err(error) = serde_yaml_ng::from_str::<T>(text) {
            return Err(yaml_complaint(&error));
        }
    }
    Err(json_complaint(&error))
}

fn json_complaint(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    format!(
        "line {}, column {}: {message}",
        error.line(),
        error.column()
    )
}

fn yaml_complaint(error: &serde_yaml_ng::Error) -> String {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    match error.location() {
        Some(location) => format!(
            "line {}, column {}: {message}",
            location.line(),
            location.column()
        ),
        None => message.to_owned(),
    }
}

/// What every server would refuse, told before one is asked.
fn check(file: &TaskFile) -> Result<(), String> {
    if let Some(schedule) = &file.schedule {
        schedule.check().map_err(|why| format!("schedule: {why}"))?;
    }
    let is_command = file.executor.is_empty() || file.executor == "command";
    match &file.command {
        None if is_command => Err(
            "command: is missing; give at least `command: {argv: [PROGRAM, ARGUMENT]}`".to_owned(),
        ),
        Some(_) if !is_command => Err(format!(
            "command: does not go with executor `{}`; give `payload` instead",
            file.executor
        )),
        Some(command)
            if command.shell.is_empty() && command.argv.first().is_none_or(String::is_empty) =>
        {
            Err("command.argv: needs at least a program; or give a script as `shell`".to_owned())
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task_file::definition::definition;
    use std::time::Duration;

    const WHOLE: &str = r#"
session: demo
name: nightly
key: nightly-1
kind: command
display_name: The nightly build
command:
  argv: [sh, -c, "make -j2"]
  env: {MODE: fast}
  inherit_env: [HTTP_PROXY]
  cwd: src
  stdin: "y\n"
  env_files: [/env/base]
  umask: "022"
  nice: 5
  rlimits: {nofile: 256, core: {soft: 0, hard: unlimited}, as: 2GiB}
  user: nobody
  start_jitter: 30s
  success_exit_codes: [0, 3]
  grace: 1.5s
input: {count: 3}
result_source: stdout
output_limit: 16MiB
worker_labels: {os: linux}
files: [{path: /in/plan.md, to: plan.md}, {path: /tools, mode: "755"}]
collect: [{glob: "out/**/*.txt", to: /results}]
group: builds
labels: {team: core}
tags: [team.build]
queue: slow
priority: -5
not_before: 5m
start_deadline: 2099-01-31T12:00:00Z
timeout: 30
secrets: {TOKEN: {worker_env: API_TOKEN}}
retry: {max_runs: 3, initial_backoff: 500ms, max_backoff: 1m, multiplier: 1.5}
hold: true
wake_policy: on_terminal
"#;

    #[test]
    fn a_whole_file_becomes_a_whole_task() {
        let file = only(parse("task.yaml", WHOLE.as_bytes()));
        assert_eq!(file.session.as_deref(), Some("demo"));
        let task = definition(file).expect("its secrets can be read");
        let spec = task.spec.as_ref().expect("there is a spec");
        let command = spec.command.as_ref().expect("there is a command");
        assert_eq!(command.argv, ["sh", "-c", "make -j2"]);
        assert_eq!(command.umask, Some(0o022));
        assert_eq!(command.stdin.as_deref(), Some("y\n".as_bytes()));
        assert_eq!(command.nice, Some(5));
        let limits = |name: &str| {
            command
                .rlimits
                .get(name)
                .map(|limit| (limit.soft, limit.hard))
        };
        assert_eq!(limits("nofile"), Some((Some(256), Some(256))));
        assert_eq!(limits("core"), Some((Some(0), Some(u64::MAX))));
        assert_eq!(limits("as"), Some((Some(2 << 30), Some(2 << 30))));
        assert_eq!(command.start_jitter, Some(to_wire(Duration::from_secs(30))));
        assert_eq!(command.grace, Some(to_wire(Duration::from_millis(1_500))));
        assert_eq!(spec.input_json, r#"{"count":3}"#);
        assert_eq!(
            spec.result_source(),
            taskyard_proto::v1::ResultSource::Stdout
        );
        assert_eq!(
            spec.output_limits.map(|limits| limits.max_bytes_per_stream),
            Some(16 << 20)
        );
        assert_eq!(task.secrets[0].name, "TOKEN");
        assert_eq!(spec.files[0].to, "plan.md");
        assert_eq!(spec.files[1].mode, Some(0o755));
        assert_eq!(spec.collect[0].to, "/results");
        assert_eq!(task.timeout, Some(to_wire(Duration::from_secs(30))));
        assert_eq!(task.retry.as_ref().map(|retry| retry.max_runs), Some(3));
        assert!(task.hold && task.not_before.is_some() && task.start_deadline.is_some());
    }

    #[test]
    fn json_is_read_too() {
        let text = r#"{"command": {"argv": ["true"]}, "timeout": "30s", "input": "caf\u00e9 \ud83d\ude00"}"#;
        let task =
            definition(only(parse("task.json", text.as_bytes()))).expect("it has no secrets");
        assert_eq!(
            task.spec.map(|spec| spec.input_json),
            Some("\"café 😀\"".to_owned())
        );
    }

    #[test]
    fn a_bad_one_of_several_does_not_spoil_the_others() {
        let yaml = "command: {argv: [a]}\n---\nnmae: b\n---\nname: c\ncommand: {argv: [c]}\n";
        let json = "[{\"command\": {\"argv\": [\"a\"]}},\n {\"nmae\": \"b\"},\n \
                     {\"name\": \"c\", \"command\": {\"argv\": [\"c\"]}}]";
        for (text, line) in [(yaml, "line 3"), (json, "line 2")] {
            let items = parse_each("tasks", text.as_bytes()).expect("three tasks");
            assert_eq!(items.len(), 3, "{text}");
            let why = items[1].as_ref().expect_err("misspelt");
            assert!(why.starts_with(line) && why.contains("`nmae`"), "{why}");
            let last = items[2].as_ref().expect("sound");
            assert_eq!(last.name, "c");
        }
        let all = format!("{yaml}---\nname: d\n");
        let failure = parse("tasks", all.as_bytes())
            .expect_err("two are bad")
            .to_string();
        assert!(
            failure.starts_with("tasks: task 2: ")
                && failure.contains("; task 4: command: is missing"),
            "{failure}"
        );
        let torn = parse_each("tasks", b"name: a\n---\nname: [b\n").expect_err("no YAML");
        assert!(torn.to_string().starts_with("tasks: line "), "{torn}");
    }

    fn only(files: Result<Vec<TaskFile>, Failure>) -> TaskFile {
        let mut files = files.expect("it is sound");
        assert_eq!(files.len(), 1);
        files.remove(0)
    }

    #[test]
    fn several_documents_or_an_array_are_several_tasks() {
        let names = |text: &str| -> Vec<String> {
            let files = parse("tasks", text.as_bytes()).expect("it is sound");
            files.into_iter().map(|file| file.name).collect()
        };
        let document = |name: &str| format!("name: {name}\ncommand: {{argv: [a]}}\n");
        let documents = format!("---\n{}---\n{}---\n", document("a"), document("b"));
        assert_eq!(names(&documents), ["a", "b"]);
        let json = r#"[{"name": "a", "command": {"argv": ["a"]}}, {"command": {"argv": ["b"]}}]"#;
        assert_eq!(names(json), ["a", ""]);
        for (text, expected) in [
            (format!("{}---\nnmae: b\n", document("a")), "task 2"),
            (
                format!("{}---\nname: b\n", document("a")),
                "task 2: command",
            ),
            ("[]".to_owned(), "holds 0 tasks"),
            ("---\n".to_owned(), "holds 0 tasks"),
            (
                format!(
                    "[{}]",
                    vec![r#"{"command": {"argv": ["a"]}}"#; 201].join(",")
                ),
                "holds 201",
            ),
        ] {
            let failure = parse("tasks", text.as_bytes()).expect_err(&text);
            assert!(failure.to_string().contains(expected), "{failure}");
        }
    }

    #[test]
    fn an_error_names_file_line_and_field() {
        let cases: [(&str, &[&str]); 11] = [
            ("command: {argv: [a]}\nnmae: x\n", &["line 2", "`nmae`"]),
            (
                "command:\n  argv: [a]\n  grace: soon\n",
                &["line 3", "command.grace", "`soon` is not a duration"],
            ),
            ("command: {argv: 3}\n", &["line 1", "command.argv"]),
            ("timeout: 30s\n", &["command: is missing"]),
            (
                "command: {argv: []}\n",
                &["command.argv: needs at least a program"],
            ),
            (
                "executor: llm\ncommand: {argv: [a]}\n",
                &["command: does not go with executor `llm`"],
            ),
            (
                "command: {argv: [a]}\nwake_policy: loud\n",
                &["line 2", "wake_policy", "`loud`"],
            ),
            ("command: {argv: [a\n", &["line"]),
            (
                "{\"command\": {\"argv\": [\"a\"],\n \"umask\": \"999\"}}",
                &["line 2", "command.umask", "999"],
            ),
            ("{\"command\": {\"argv\": [\"a\"]},\n}", &["line 2"]),
            ("  \n", &["is empty"]),
        ];
        for (text, expected) in cases {
            let failure = parse("task.yaml", text.as_bytes()).expect_err(text);
            let message = failure.to_string();
            assert!(message.starts_with("task.yaml: "), "{message}");
            for part in expected {
                assert!(message.contains(part), "{text:?}: {message} lacks {part}");
            }
        }
        let failure = parse("x", b"name: \xff").expect_err("not UTF-8");
        assert_eq!(failure.to_string(), "x: is not valid UTF-8 from byte 6 on");
    }

    use crate::quantity::to_wire;
}
