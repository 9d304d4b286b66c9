//! What is to be run: the command, or another executor's payload.

use super::{COMMAND, check_labels, start};
use crate::control::{
    isolation, refusal::Refusal, schema::check_schema, wire_time::duration_field,
};
use std::time::Duration;
use taskyard_proto::v1::{CommandSpec, ResultSource, TaskSpec};

const MAX_ARGUMENTS: usize = 4_096;
const MAX_VARIABLES: usize = 1_024;
/// Arguments and environment together; what Linux takes by default is 2 MiB for both.
const MAX_COMMAND_BYTES: usize = 1 << 20;
const MAX_INLINE_BYTES: usize = 256 << 10;
const MAX_OUTPUT_BYTES: i64 = 256 << 20;
const MAX_PATH: usize = 4_096;
const MAX_EXIT_CODES: usize = 256;
const MAX_GRACE: Duration = Duration::from_secs(10 * 60);

/// Checks what is to be run, for the executor that will run it.
pub(super) fn check(spec: &TaskSpec, executor: &str) -> Result<(), Refusal> {
    match (&spec.command, executor) {
        (Some(command), COMMAND) => check_command(command)?,
        (None, COMMAND) => {
            return Err(Refusal::invalid(
                "task.spec.command",
                "is required for the executor `command`",
            ));
        }
        (Some(_), _) => {
            return Err(Refusal::invalid(
                "task.spec.command",
                "is for the executor `command` only; use payload_json",
            ));
        }
        (None, _) => {}
    }
    if executor == COMMAND && !spec.payload_json.is_empty() {
        return Err(Refusal::invalid(
            "task.spec.payload_json",
            "is for other executors than `command`; use input_json",
        ));
    }
    check_json("task.spec.payload_json", &spec.payload_json)?;
    check_json("task.spec.input_json", &spec.input_json)?;
    if ResultSource::try_from(spec.result_source).is_err() {
        return Err(Refusal::invalid(
            "task.spec.result_source",
            "is no known result source",
        ));
    }
    if let Some(limits) = spec.output_limits
        && !(0..=MAX_OUTPUT_BYTES).contains(&limits.max_bytes_per_stream)
    {
        return Err(Refusal::invalid(
            "task.spec.output_limits.max_bytes_per_stream",
            format!("must be from 0 to {MAX_OUTPUT_BYTES}"),
        ));
    }
    check_schema("task.spec.result_schema_json", &spec.result_schema_json)?;
    check_schema("task.spec.message_schema_json", &spec.message_schema_json)?;
    check_labels("task.spec.worker_labels", &spec.worker_labels)?;
    isolation::check(spec, executor)
}

fn check_command(command: &CommandSpec) -> Result<(), Refusal> {
    const FIELD: &str = "task.spec.command";
    start::check(command)?;
    if command.argv.len() > MAX_ARGUMENTS {
        return Err(Refusal::invalid(
            format!("{FIELD}.argv"),
            format!("has more than {MAX_ARGUMENTS} arguments"),
        ));
    }
    if command.argv.iter().any(|argument| argument.contains('\0')) {
        return Err(Refusal::invalid(
            format!("{FIELD}.argv"),
            "must not hold NUL bytes",
        ));
    }
    if command.env.len() + command.inherit_env.len() > MAX_VARIABLES {
        return Err(Refusal::invalid(
            format!("{FIELD}.env"),
            format!("has more than {MAX_VARIABLES} variables"),
        ));
    }
    for (name, value) in &command.env {
        check_variable(&format!("{FIELD}.env"), name)?;
        if value.contains('\0') {
            return Err(Refusal::invalid(
                format!("{FIELD}.env"),
                format!("the value of {name} must not hold NUL bytes"),
            ));
        }
    }
    for name in &command.inherit_env {
        check_variable(&format!("{FIELD}.inherit_env"), name)?;
    }
    let bytes: usize = command.argv.iter().map(String::len).sum::<usize>()
        + command.shell.len()
        + command
            .env
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>();
    if bytes > MAX_COMMAND_BYTES {
        return Err(Refusal::invalid(
            FIELD,
            format!(
                "arguments and environment have {bytes} bytes, at most {MAX_COMMAND_BYTES} are allowed"
            ),
        ));
    }
    if command.cwd.len() > MAX_PATH || command.cwd.contains('\0') {
        return Err(Refusal::invalid(
            format!("{FIELD}.cwd"),
            format!("must have at most {MAX_PATH} bytes and no NUL"),
        ));
    }
    if !command.cwd.starts_with('/') && command.cwd.split('/').any(|part| part == "..") {
        return Err(Refusal::invalid(
            format!("{FIELD}.cwd"),
            "a relative directory must not leave the task's own: no `..`",
        ));
    }
    if command
        .stdin
        .as_ref()
        .is_some_and(|stdin| stdin.len() > MAX_INLINE_BYTES)
    {
        return Err(Refusal::invalid(
            format!("{FIELD}.stdin"),
            format!("has more than {MAX_INLINE_BYTES} bytes"),
        ));
    }
    if command.umask.is_some_and(|umask| umask > 0o777) {
        return Err(Refusal::invalid(
            format!("{FIELD}.umask"),
            "must be at most 0o777",
        ));
    }
    if command.success_exit_codes.len() > MAX_EXIT_CODES
        || command
            .success_exit_codes
            .iter()
            .any(|code| !(0..=255).contains(code))
    {
        return Err(Refusal::invalid(
            format!("{FIELD}.success_exit_codes"),
            "must be at most 256 codes from 0 to 255",
        ));
    }
    duration_field(
        &format!("{FIELD}.grace"),
        command.grace.as_ref(),
        Duration::ZERO,
        MAX_GRACE,
    )?;
    Ok(())
}

fn check_variable(field: &str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(Refusal::invalid(
            field,
            format!("{name:?} is no name of a variable"),
        ));
    }
    if name.starts_with("TASKYARD_") {
        return Err(Refusal::invalid(
            field,
            format!(
                "{name} is the system's, as all names that begin with TASKYARD_; choose another name"
            ),
        ));
    }
    Ok(())
}

fn check_json(field: &str, json: &str) -> Result<(), Refusal> {
    if json.is_empty() {
        return Ok(());
    }
    if json.len() > MAX_INLINE_BYTES {
        return Err(Refusal::invalid(
            field,
            format!("has more than {MAX_INLINE_BYTES} bytes"),
        ));
    }
    serde_json::from_str::<serde::de::IgnoredAny>(json)
        .map_err(|error| Refusal::invalid(field, format!("is no valid JSON: {error}")))?;
    Ok(())
}
