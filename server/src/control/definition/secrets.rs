//! What a definition may say of secrets.

use crate::control::refusal::Refusal;
use std::collections::HashSet;
use taskyard_proto::v1::{TaskSecret, TaskSpec, task_secret::Source};

const FIELD: &str = "task.secrets";
const MAX_SECRETS: usize = 32;
const MAX_NAME: usize = 128;
const MAX_FILE_NAME: usize = 64;
const MAX_PATH: usize = 4_096;
/// Longest value, in bytes.
const MAX_VALUE: usize = 32 << 10;
/// All values of a task together, in bytes.
const MAX_VALUES: usize = 64 << 10;
/// Variables that the worker sets for every command.
const SET_BY_WORKERS: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// Checks the secrets of a task with this spec.
pub(super) fn check(
    secrets: &[TaskSecret],
    spec: &TaskSpec,
    is_monitor: bool,
) -> Result<(), Refusal> {
    if secrets.len() > MAX_SECRETS {
        return Err(refused(format!(
            "at most {MAX_SECRETS} secrets are allowed"
        )));
    }
    let survives = spec
        .command
        .as_ref()
        .is_some_and(|command| command.survive_worker_restart);
    if survives && !secrets.is_empty() {
        return Err(refused(
            "do not go with `survive_worker_restart`: the next worker would not know what to mask"
                .to_owned(),
        ));
    }
    let mut names = HashSet::new();
    let mut files = HashSet::new();
    let mut bytes = 0;
    for secret in secrets {
        let name = &secret.name;
        check_name(name, spec)?;
        if !names.insert(name) {
            return Err(refused(format!("{name} is given twice")));
        }
        if !secret.to_file.is_empty() {
            check_file_name(name, &secret.to_file)?;
            if !files.insert(&secret.to_file) {
                let file = &secret.to_file;
                return Err(refused(format!("{name}: the file {file:?} is named twice")));
            }
        }
        match &secret.source {
            None => {
                return Err(refused(format!(
                    "{name}: say where it comes from: `value`, `worker_env` or `worker_file`"
                )));
            }
            Some(Source::Value(_)) if is_monitor => {
                return Err(refused(format!(
                    "{name}: a monitor outlives the tasks that it fires, whose ends erase their values; give a reference: `worker_env` or `worker_file`"
                )));
            }
            Some(Source::Value(value)) => {
                bytes += value.len();
                check_value(name, value, secret.to_file.is_empty())?;
            }
            Some(Source::WorkerEnv(variable)) => {
                if !is_variable(variable) {
                    return Err(refused(format!(
                        "{name}: {variable:?} is no name of a variable: 1 to {MAX_NAME} of A-Z a-z 0-9 _, no digit first"
                    )));
                }
            }
            Some(Source::WorkerFile(path)) => check_path(name, path)?,
        }
    }
    if bytes > MAX_VALUES {
        return Err(refused(format!(
            "the values have {bytes} bytes together, at most {MAX_VALUES} are allowed"
        )));
    }
    Ok(())
}

fn check_name(name: &str, spec: &TaskSpec) -> Result<(), Refusal> {
    if !is_variable(name) {
        return Err(refused(format!(
            "{name:?} is no name of a variable: 1 to {MAX_NAME} of A-Z a-z 0-9 _, no digit first"
        )));
    }
    if name.starts_with("TASKYARD_") || SET_BY_WORKERS.contains(&name) {
        return Err(refused(format!(
            "{name} is the system's; choose another name"
        )));
    }
    let is_set = spec.command.as_ref().is_some_and(|command| {
        command.env.contains_key(name) || command.inherit_env.iter().any(|other| other == name)
    });
    if is_set {
        return Err(refused(format!(
            "{name} is a variable of the command, too; leave it out of `env` and `inherit_env`"
        )));
    }
    Ok(())
}

fn check_value(name: &str, value: &[u8], is_variable: bool) -> Result<(), Refusal> {
    if value.is_empty() || value.len() > MAX_VALUE {
        let bytes = value.len();
        return Err(refused(format!(
            "{name}: the value has {bytes} bytes, it must have 1 to {MAX_VALUE}"
        )));
    }
    if is_variable && (value.contains(&0) || std::str::from_utf8(value).is_err()) {
        return Err(refused(format!(
            "{name}: the value is no text that a variable can hold; give it as a file with `to_file`"
        )));
    }
    Ok(())
}

fn check_file_name(name: &str, file: &str) -> Result<(), Refusal> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if file.len() > MAX_FILE_NAME || file.starts_with('.') || !file.bytes().all(is_allowed) {
        return Err(refused(format!(
            "{name}: `to_file` must be the name of a file: 1 to {MAX_FILE_NAME} of A-Z a-z 0-9 . _ -, no dot first"
        )));
    }
    Ok(())
}

fn check_path(name: &str, path: &str) -> Result<(), Refusal> {
    let is_clean = path.len() <= MAX_PATH
        && !path.contains('\0')
        && path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/')
                .all(|part| !part.is_empty() && part != "." && part != "..")
        });
    if !is_clean {
        return Err(refused(format!(
            "{name}: `worker_file` must be a clean absolute path, such as /run/secrets/token"
        )));
    }
    Ok(())
}

fn is_variable(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.len() <= MAX_NAME
        && name.bytes().all(is_allowed)
        && name
            .bytes()
            .next()
            .is_some_and(|byte| !byte.is_ascii_digit())
}

fn refused(problem: String) -> Refusal {
    Refusal::invalid(FIELD, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_proto::v1::CommandSpec;

    fn secret(name: &str, source: Source) -> TaskSecret {
        TaskSecret {
            name: name.to_owned(),
            source: Some(source),
            to_file: String::new(),
        }
    }

    fn value(bytes: &[u8]) -> Source {
        Source::Value(bytes.to_vec().into())
    }

    fn spec() -> TaskSpec {
        TaskSpec {
            command: Some(CommandSpec {
                env: [("MODE".to_owned(), "fast".to_owned())].into(),
                inherit_env: vec!["PROXY".to_owned()],
                ..CommandSpec::default()
            }),
            ..TaskSpec::default()
        }
    }

    #[test]
    fn good_secrets_pass() {
        let good = [
            secret("TOKEN", value(b"one")),
            secret("_a1", Source::WorkerEnv("API_TOKEN".to_owned())),
            secret("KEY", Source::WorkerFile("/run/secrets/key".to_owned())),
            TaskSecret {
                to_file: "id_ed25519".to_owned(),
                ..secret("SSH_KEY", value(b"\xff\0"))
            },
        ];
        assert!(check(&good, &spec(), false).is_ok());
        assert!(check(&good[1..3], &spec(), true).is_ok());
    }

    #[test]
    fn bad_secrets_are_refused_without_showing_them() {
        let file = |to_file: &str| TaskSecret {
            to_file: to_file.to_owned(),
            ..secret("A", value(b"hunter2"))
        };
        let bad = [
            vec![secret("", value(b"hunter2"))],
            vec![secret("1A", value(b"hunter2"))],
            vec![secret("A-B", value(b"hunter2"))],
            vec![secret("TASKYARD_X", value(b"hunter2"))],
            vec![secret("PATH", value(b"hunter2"))],
            vec![secret("MODE", value(b"hunter2"))],
            vec![secret("PROXY", value(b"hunter2"))],
            vec![secret("A", value(b"hunter2")), secret("A", value(b"b"))],
            vec![secret("A", value(b""))],
            vec![secret("A", value(b"hunter2\0"))],
            vec![secret("A", value(b"hunter2\xff"))],
            vec![secret("A", value(&[b'a'; MAX_VALUE + 1]))],
            vec![
                secret("A", value(&[b'a'; MAX_VALUE])),
                secret("B", value(&[b'a'; MAX_VALUE])),
                secret("C", value(b"a")),
            ],
            vec![file("../up")],
            vec![file(".hidden")],
            vec![file("a/b")],
            vec![secret("A", Source::WorkerEnv("a b".to_owned()))],
            vec![secret("A", Source::WorkerFile("run/secret".to_owned()))],
            vec![secret("A", Source::WorkerFile("/run/../etc".to_owned()))],
            vec![TaskSecret {
                source: None,
                ..secret("A", value(b""))
            }],
        ];
        for secrets in bad {
            let refusal = check(&secrets, &spec(), false).expect_err("it is bad");
            assert!(!refusal.to_string().contains("hunter2"), "{refusal}");
        }
        let many: Vec<TaskSecret> = (0..=MAX_SECRETS)
            .map(|number| secret(&format!("A{number}"), value(b"a")))
            .collect();
        assert!(check(&many, &spec(), false).is_err());
        let of_a_monitor = [secret("A", value(b"hunter2"))];
        assert!(check(&of_a_monitor, &spec(), true).is_err());
    }
}
