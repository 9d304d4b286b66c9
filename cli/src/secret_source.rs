//! Secrets as the command line and task files name them. A value never stands on a command line, where every user of the
//! machine could read it.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use clap::Args;
use serde::Deserialize;
use taskyard_proto::v1::{TaskSecret, task_secret::Source};

use crate::failure::Failure;

/// Largest value, in bytes; the server takes no more.
const VALUE_BYTES_MAX: u64 = 32 * 1024;

/// What a command is given in secret.
#[derive(Debug, Clone, Default, Args)]
pub struct SecretOptions {
    /// Secret; FROM: file:PATH, -, worker-env:VAR, worker-file:PATH
    #[arg(long = "secret", value_name = "NAME[=FROM]")]
    secrets: Vec<String>,
}

impl SecretOptions {
    /// Nothing was said.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Whether one is read from standard input.
    pub fn takes_standard_input(&self) -> bool {
        self.secrets.iter().any(|text| text.ends_with("=-"))
    }

    /// The secrets, with the values of those that are here.
    pub fn read(&self) -> Result<Vec<TaskSecret>, Failure> {
        self.secrets.iter().map(|text| read_option(text)).collect()
    }
}

/// `NAME` or `NAME=FROM`. What follows the name is not repeated: it may be a value that somebody put there by mistake.
fn read_option(text: &str) -> Result<TaskSecret, Failure> {
    let (name, from) = match text.split_once('=') {
        Some((name, from)) => (name, Some(from)),
        None => (text, None),
    };
    let source = match from {
        None => Source::Value(variable(name, name)?.into()),
        Some("-") => Source::Value(standard_input(name)?.into()),
        Some(from) => match from.split_once(':') {
            Some(("file", path)) => Source::Value(file(name, path, true)?.into()),
            Some(("worker-env", variable)) => Source::WorkerEnv(variable.to_owned()),
            Some(("worker-file", path)) => Source::WorkerFile(path.to_owned()),
            Some(_) | None => {
                return Err(complaint(
                    name,
                    "after = say where it comes from: file:PATH, -, worker-env:VAR or worker-file:PATH; a value there could be read by everybody on this machine",
                ));
            }
        },
    };
    Ok(TaskSecret {
        name: name.to_owned(),
        source: Some(source),
        to_file: String::new(),
    })
}

/// A secret in a task file; just one of the sources.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileSecret {
    value: Option<String>,
    from_env: Option<String>,
    from_file: Option<String>,
    worker_env: Option<String>,
    worker_file: Option<String>,
    to_file: String,
}

/// A value is not shown.
impl std::fmt::Debug for FileSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FileSecret").finish_non_exhaustive()
    }
}

/// The secrets of a task file, with the values of those that are here.
pub fn read_all(secrets: BTreeMap<String, FileSecret>) -> Result<Vec<TaskSecret>, Failure> {
    secrets
        .into_iter()
        .map(|(name, secret)| {
            let is_variable = secret.to_file.is_empty();
            let source = match secret {
                FileSecret {
                    value: Some(value),
                    from_env: None,
                    from_file: None,
                    worker_env: None,
                    worker_file: None,
                    ..
                } => Source::Value(value.into_bytes().into()),
                FileSecret {
                    value: None,
                    from_env: Some(from),
                    from_file: None,
                    worker_env: None,
                    worker_file: None,
                    ..
                } => Source::Value(variable(&name, &from)?.into()),
                FileSecret {
                    value: None,
                    from_env: None,
                    from_file: Some(path),
                    worker_env: None,
                    worker_file: None,
                    ..
                } => Source::Value(file(&name, &path, is_variable)?.into()),
                FileSecret {
                    value: None,
                    from_env: None,
                    from_file: None,
                    worker_env: Some(variable),
                    worker_file: None,
                    ..
                } => Source::WorkerEnv(variable),
                FileSecret {
                    value: None,
                    from_env: None,
                    from_file: None,
                    worker_env: None,
                    worker_file: Some(path),
                    ..
                } => Source::WorkerFile(path),
                FileSecret { .. } => {
                    return Err(complaint(
                        &name,
                        "give just one of `from_env`, `from_file`, `worker_env`, `worker_file` and `value`",
                    ));
                }
            };
            Ok(TaskSecret {
                name,
                source: Some(source),
                to_file: secret.to_file,
            })
        })
        .collect()
}

fn variable(name: &str, variable: &str) -> Result<Vec<u8>, Failure> {
    match env::var(variable) {
        Ok(value) if !value.is_empty() => Ok(value.into_bytes()),
        Ok(_) | Err(env::VarError::NotPresent) => Err(complaint(
            name,
            &format!("there is no variable {variable} here"),
        )),
        Err(env::VarError::NotUnicode(_)) => Err(complaint(
            name,
            &format!("the variable {variable} is not valid UTF-8"),
        )),
    }
}

fn file(name: &str, path: &str, is_variable: bool) -> Result<Vec<u8>, Failure> {
    let read = File::open(Path::new(path)).and_then(read_bounded);
    let value = read.map_err(|error| complaint(name, &format!("{path}: {error}")))?;
    checked(name, value, is_variable)
}

fn standard_input(name: &str) -> Result<Vec<u8>, Failure> {
    let input = io::stdin();
    if input.is_terminal() {
        return Err(complaint(
            name,
            "standard input is a terminal, which would show it; pipe it in",
        ));
    }
    let read = read_bounded(input.lock());
    let value = read.map_err(|error| complaint(name, &format!("standard input: {error}")))?;
    checked(name, value, true)
}

fn read_bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    source.take(VALUE_BYTES_MAX + 1).read_to_end(&mut value)?;
    Ok(value)
}

/// In a variable, one line break at the end of a file is nobody's intention.
fn checked(name: &str, mut value: Vec<u8>, is_variable: bool) -> Result<Vec<u8>, Failure> {
    if value.len() as u64 > VALUE_BYTES_MAX {
        return Err(complaint(name, "it has more than 32 KiB"));
    }
    if is_variable && value.ends_with(b"\n") {
        value.pop();
        if value.ends_with(b"\r") {
            value.pop();
        }
    }
    Ok(value)
}

fn complaint(name: &str, why: &str) -> Failure {
    Failure::Usage(format!("secret {name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_the_command_line_is_refused_and_not_repeated() {
        for text in ["TOKEN=hunter2", "TOKEN=", "TOKEN=hunter2:x"] {
            let failure = read_option(text).expect_err("it is refused").to_string();
            assert!(failure.contains("TOKEN"), "{failure}");
            assert!(!failure.contains("hunter2"), "{failure}");
        }
    }

    #[test]
    fn sources_are_read_or_passed_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "hunter2\n").expect("written");
        let source = |text: &str| read_option(text).expect("good").source;
        let from_file = source(&format!("TOKEN=file:{}", path.display()));
        assert_eq!(from_file, Some(Source::Value(b"hunter2"[..].into())));
        let from_here = source("PATH");
        assert!(matches!(from_here, Some(Source::Value(value)) if !value.is_empty()));
        assert_eq!(
            source("TOKEN=worker-env:API_TOKEN"),
            Some(Source::WorkerEnv("API_TOKEN".to_owned()))
        );
        assert_eq!(
            source("TOKEN=worker-file:/run/secrets/a:b"),
            Some(Source::WorkerFile("/run/secrets/a:b".to_owned()))
        );
        assert!(read_option("TASKYARD_NO_SUCH_VARIABLE").is_err());
        assert!(read_option("TOKEN=file:/no/such/file").is_err());
    }

    #[test]
    fn a_task_file_names_one_source_for_each_secret() {
        let parse = |text: &str| -> Result<Vec<TaskSecret>, Failure> {
            read_all(serde_yaml_ng::from_str(text).expect("good YAML"))
        };
        let text = "A: {value: hunter2}\nB: {worker_env: TOKEN, to_file: token}\n";
        let secrets = parse(text).expect("good");
        assert_eq!(
            secrets[0].source,
            Some(Source::Value(b"hunter2"[..].into()))
        );
        assert_eq!(secrets[1].to_file, "token");
        assert!(parse("A: {}").is_err());
        assert!(parse("A: {value: a, worker_env: B}").is_err());
        let shown = format!(
            "{:?}",
            FileSecret {
                value: Some("hunter2".to_owned()),
                ..FileSecret::default()
            }
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
