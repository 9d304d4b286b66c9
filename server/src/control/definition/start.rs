//! How a command is started: script or program, where its input and variables come from, its limits and its user.

use super::check_text;
use crate::control::{refusal::Refusal, resize_terminal::dimension, wire_time::duration_field};
use std::time::Duration;
use taskyard_core::vfs::SessionPath;
use taskyard_proto::v1::{CommandSpec, Pty, ResourceLimit};

const FIELD: &str = "task.spec.command";
/// What Linux takes as one argument, without its closing zero.
const MAX_SCRIPT_BYTES: usize = (128 << 10) - 1;
const MAX_INTERPRETER: usize = 16;
const MAX_INTERPRETER_BYTES: usize = 4_096;
const MAX_ENV_FILES: usize = 16;
const MAX_USER: usize = 64;
const MAX_TERM: usize = 64;
const MAX_START_JITTER: Duration = Duration::from_secs(60 * 60);
const NICE: std::ops::RangeInclusive<i32> = -20..=19;
/// Resources that can be limited.
const RLIMITS: [&str; 9] = [
    "as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "stack",
];

/// Checks what concerns the start.
pub(super) fn check(command: &CommandSpec) -> Result<(), Refusal> {
    check_what(command)?;
    check_sources(command)?;
    if command.nice.is_some_and(|nice| !NICE.contains(&nice)) {
        return Err(bad("nice", "must be from -20 to 19"));
    }
    for (name, limit) in &command.rlimits {
        check_rlimit(name, limit)?;
    }
    command.pty.as_ref().map_or(Ok(()), check_pty)?;
    check_text(&path("user"), &command.user, MAX_USER)?;
    check_text(&path("group"), &command.group, MAX_USER)?;
    start_jitter(command)?;
    Ok(())
}

/// The longest jitter of the start.
///
/// # Errors
/// [`Refusal::InvalidField`].
pub(super) fn start_jitter(command: &CommandSpec) -> Result<Option<Duration>, Refusal> {
    duration_field(
        &path("start_jitter"),
        command.start_jitter.as_ref(),
        Duration::ZERO,
        MAX_START_JITTER,
    )
}

/// Exactly one of a program and a script.
fn check_what(command: &CommandSpec) -> Result<(), Refusal> {
    if command.shell.is_empty() {
        if !command.interpreter.is_empty() {
            return Err(bad("interpreter", "is for `shell` only"));
        }
        if command.argv.first().is_none_or(String::is_empty) {
            return Err(bad(
                "argv",
                "must name at least the program; or give a script as `shell`",
            ));
        }
        return Ok(());
    }
    if !command.argv.is_empty() {
        return Err(bad("shell", "does not go with `argv`; give one of both"));
    }
    if command.shell.len() > MAX_SCRIPT_BYTES {
        return Err(bad(
            "shell",
            &format!(
                "has more than {MAX_SCRIPT_BYTES} bytes; keep a longer script in the session's files and name it in `files`"
            ),
        ));
    }
    if command.shell.contains('\0') {
        return Err(bad("shell", "must not hold NUL bytes"));
    }
    let bytes: usize = command.interpreter.iter().map(String::len).sum();
    if command.interpreter.len() > MAX_INTERPRETER
        || bytes > MAX_INTERPRETER_BYTES
        || command.interpreter.first().is_some_and(String::is_empty)
        || command.interpreter.iter().any(|word| word.contains('\0'))
    {
        return Err(bad(
            "interpreter",
            "must be a program and at most 15 arguments, 4,096 bytes in all without NUL",
        ));
    }
    Ok(())
}

fn check_sources(command: &CommandSpec) -> Result<(), Refusal> {
    let inputs = [
        ("stdin", command.stdin.is_some()),
        ("stdin_file", !command.stdin_file.is_empty()),
        ("stdin_live", command.stdin_live),
    ];
    let mut given = inputs.into_iter().filter(|(_, is_given)| *is_given);
    if let (Some((first, _)), Some((second, _))) = (given.next(), given.next()) {
        return Err(bad(
            second,
            &format!("does not go with `{first}`; give one of both"),
        ));
    }
    if command.stdin_live && command.survive_worker_restart {
        return Err(bad(
            "stdin_live",
            "does not go with `survive_worker_restart`: a part of the input would be lost with the worker",
        ));
    }
    if !command.stdin_file.is_empty() {
        check_file("stdin_file", &command.stdin_file)?;
    }
    if command.env_files.len() > MAX_ENV_FILES {
        return Err(bad(
            "env_files",
            &format!("at most {MAX_ENV_FILES} are allowed"),
        ));
    }
    for (index, file) in command.env_files.iter().enumerate() {
        check_file(&format!("env_files[{index}]"), file)?;
    }
    Ok(())
}

fn check_file(field: &str, file: &str) -> Result<(), Refusal> {
    let parsed: SessionPath = file
        .parse()
        .map_err(|problem| bad(field, &format!("{problem}")))?;
    if parsed.is_root() {
        return Err(bad(field, "must be a file of the session, not `/`"));
    }
    Ok(())
}

fn check_rlimit(name: &str, limit: &ResourceLimit) -> Result<(), Refusal> {
    let field = format!("rlimits.{name}");
    if !RLIMITS.contains(&name) {
        return Err(bad(
            "rlimits",
            &format!("{name:?} is none of {}", RLIMITS.join(", ")),
        ));
    }
    match (limit.soft, limit.hard) {
        (None, None) => Err(bad(&field, "needs `soft` or `hard`")),
        (Some(soft), Some(hard)) if soft > hard => {
            Err(bad(&field, "`soft` must not be more than `hard`"))
        }
        (Some(_), _) | (None, Some(_)) => Ok(()),
    }
}

fn check_pty(pty: &Pty) -> Result<(), Refusal> {
    for (name, value) in [("rows", pty.rows), ("columns", pty.columns)] {
        if let Some(value) = value {
            dimension(&path(&format!("pty.{name}")), value)?;
        }
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    if pty.term.len() > MAX_TERM || !pty.term.bytes().all(is_name) {
        return Err(bad(
            "pty.term",
            &format!("must be at most {MAX_TERM} letters, digits and `+-._`, such as xterm"),
        ));
    }
    Ok(())
}

fn path(field: &str) -> String {
    format!("{FIELD}.{field}")
}

fn bad(field: &str, problem: &str) -> Refusal {
    Refusal::invalid(path(field), problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut CommandSpec)) -> String {
        let mut command = CommandSpec {
            argv: vec!["true".to_owned()],
            ..CommandSpec::default()
        };
        change(&mut command);
        match check(&command) {
            Err(Refusal::InvalidField { field, .. }) => field.trim_start_matches(FIELD).to_owned(),
            other => format!("{other:?}"),
        }
    }

    fn limit(soft: Option<u64>, hard: Option<u64>) -> ResourceLimit {
        ResourceLimit { soft, hard }
    }

    #[test]
    fn what_holds_together_passes() {
        let command = CommandSpec {
            shell: "exec make".to_owned(),
            interpreter: ["bash", "-euc"].map(str::to_owned).to_vec(),
            env_files: vec!["/env/base".to_owned()],
            nice: Some(-20),
            rlimits: [("nofile".to_owned(), limit(None, Some(64)))].into(),
            user: "nobody".to_owned(),
            stdin_file: "/in/data".to_owned(),
            ..CommandSpec::default()
        };
        assert!(check(&command).is_ok());
    }

    #[test]
    fn a_terminal_has_a_size_within_bounds() {
        let refused = |rows, columns, term: &str| {
            refused(|command| {
                command.pty = Some(Pty {
                    rows,
                    columns,
                    term: term.to_owned(),
                });
            })
        };
        assert_eq!(refused(None, Some(1_000), "xterm-256color"), "Ok(())");
        assert_eq!(refused(Some(0), None, ""), ".pty.rows");
        assert_eq!(refused(Some(1_001), None, ""), ".pty.rows");
        assert_eq!(refused(Some(1), Some(u32::MAX), ""), ".pty.columns");
        for term in ["../x", "a b", &"x".repeat(65)] {
            assert_eq!(refused(Some(1), Some(1), term), ".pty.term", "{term}");
        }
    }

    #[test]
    fn each_bad_field_is_named() {
        assert_eq!(refused(|command| command.argv.clear()), ".argv");
        assert_eq!(refused(|command| command.shell = "ls".into()), ".shell");
        let script = |script: String| {
            refused(|command| {
                command.argv.clear();
                command.shell = script;
            })
        };
        assert_eq!(script("x".repeat(MAX_SCRIPT_BYTES + 1)), ".shell");
        assert_eq!(script("a\0b".to_owned()), ".shell");
        assert_eq!(
            refused(|command| command.interpreter = vec!["sh".into()]),
            ".interpreter"
        );
        assert_eq!(
            refused(|command| {
                command.argv.clear();
                command.shell = "ls".into();
                command.interpreter = vec![String::new()];
            }),
            ".interpreter"
        );
        assert_eq!(refused(|command| command.nice = Some(20)), ".nice");
        assert_eq!(
            refused(|command| {
                command.rlimits = [("nofiles".to_owned(), limit(Some(1), None))].into();
            }),
            ".rlimits"
        );
        assert_eq!(
            refused(|command| {
                command.rlimits = [("nofile".to_owned(), limit(Some(2), Some(1)))].into();
            }),
            ".rlimits.nofile"
        );
        assert_eq!(
            refused(|command| {
                command.rlimits = [("cpu".to_owned(), limit(None, None))].into();
            }),
            ".rlimits.cpu"
        );
        assert_eq!(refused(|command| command.user = "a\nb".into()), ".user");
        assert_eq!(refused(|command| command.group = "g".repeat(65)), ".group");
        assert_eq!(
            refused(|command| command.stdin_file = "relative".into()),
            ".stdin_file"
        );
        assert_eq!(
            refused(|command| command.env_files = vec!["/".into()]),
            ".env_files[0]"
        );
        assert_eq!(
            refused(|command| {
                command.stdin = Some(Vec::new().into());
                command.stdin_live = true;
            }),
            ".stdin_live"
        );
        assert_eq!(
            refused(|command| {
                command.stdin_live = true;
                command.survive_worker_restart = true;
            }),
            ".stdin_live"
        );
        assert_eq!(
            refused(|command| {
                command.start_jitter = Some(prost_types::Duration {
                    seconds: 3_601,
                    nanos: 0,
                });
            }),
            ".start_jitter"
        );
    }
}
