//! A command as a task: what `run` and `self spawn` say of it.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use taskyard_proto::v1::{
    CommandSpec, Isolation, IsolationLevel, NetworkAccess, RetryPolicy, TaskCollect,
    TaskDefinition, TaskInput, TaskSpec,
};

use crate::arguments::parse_filled;
use crate::failure::Failure;
use crate::quantity::{parse_duration, to_wire};
use crate::secret_source::SecretOptions;

/// How a command is to be run.
#[derive(Debug, Args)]
pub struct CommandOptions {
    /// Set a variable; KEY alone copies it from here
    #[arg(long = "env", value_name = "KEY=VALUE")]
    pub environment: Vec<String>,
    #[command(flatten)]
    pub secrets: SecretOptions,
    /// Directory on the worker; a relative one is below the task's own
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Longest time for one run
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,
    /// Name, unique among the session's live tasks
    #[arg(long, value_parser = parse_filled)]
    pub name: Option<String>,
    /// Run again after a failure or a loss, this many runs in all
    #[arg(long, value_name = "MAX_RUNS", value_parser = clap::value_parser!(i32).range(1..=100), allow_negative_numbers = true)]
    pub retry: Option<i32>,
    /// File or folder of the session to find in the working directory
    #[arg(long = "file", value_name = "PATH[:TO]")]
    pub files: Vec<String>,
    /// Store these in the session's folder TO afterwards: 'out/**:/results'
    #[arg(long = "collect", value_name = "GLOB:TO")]
    pub collect: Vec<String>,
    /// none, or restricted: its own files, no privileges
    #[arg(long, value_name = "LEVEL", hide_possible_values = true)]
    pub isolation: Option<IsolationName>,
    /// Restricted, and without TCP, UDP or any other network
    #[arg(long)]
    pub no_network: bool,
}

/// The levels of isolation, as the command line names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IsolationName {
    None,
    Restricted,
}

impl CommandOptions {
    /// The worker may be on another machine, where a directory of this one means nothing: a relative directory is below
    /// the task's own there. Where the worker surely is here, it can be what it is for any command.
    pub fn make_local(&mut self) -> Result<(), Failure> {
        if let Some(directory) = &self.cwd {
            let local = std::path::absolute(directory).map_err(|error| {
                Failure::Usage(format!("--cwd {}: {error}", directory.display()))
            })?;
            self.cwd = Some(local);
        }
        Ok(())
    }

    /// Nothing was said.
    pub fn is_empty(&self) -> bool {
        self.environment.is_empty()
            && self.secrets.is_empty()
            && self.cwd.is_none()
            && self.timeout.is_none()
            && self.name.is_none()
            && self.retry.is_none()
            && self.files.is_empty()
            && self.collect.is_empty()
            && self.isolation.is_none()
            && !self.no_network
    }

    /// The task that runs `argv`.
    pub fn definition(self, argv: Vec<String>) -> Result<TaskDefinition, Failure> {
        let mut variables = Vec::new();
        for text in &self.environment {
            variables.push(variable(text)?);
        }
        let isolation = isolation(self.isolation, self.no_network)?;
        let command = CommandSpec {
            argv,
            env: variables.into_iter().flatten().collect(),
            cwd: working_directory(self.cwd)?,
            ..CommandSpec::default()
        };
        Ok(TaskDefinition {
            name: self.name.unwrap_or_default(),
            spec: Some(TaskSpec {
                command: Some(command),
                files: self.files.iter().map(|text| input(text)).collect(),
                collect: self
                    .collect
                    .iter()
                    .map(|text| collect(text))
                    .collect::<Result<_, _>>()?,
                isolation,
                ..TaskSpec::default()
            }),
            timeout: self.timeout.map(to_wire),
            retry: self.retry.map(|max_runs| RetryPolicy {
                max_runs,
                ..RetryPolicy::default()
            }),
            secrets: self.secrets.read()?,
            ..TaskDefinition::default()
        })
    }
}

/// What nobody speaks of is left to the server: from inside a task its children are as restricted as itself.
fn isolation(level: Option<IsolationName>, no_network: bool) -> Result<Option<Isolation>, Failure> {
    let level = match (level, no_network) {
        (None, false) => return Ok(None),
        (Some(IsolationName::None), true) => {
            return Err(Failure::Usage(
                "--no-network needs --isolation restricted, which it stands for by itself"
                    .to_owned(),
            ));
        }
        (Some(IsolationName::None), false) => IsolationLevel::None,
        (Some(IsolationName::Restricted), _) | (None, true) => IsolationLevel::Restricted,
    };
    let network = if no_network {
        NetworkAccess::None
    } else {
        NetworkAccess::Unspecified
    };
    Ok(Some(Isolation {
        level: level.into(),
        network: network.into(),
        ..Isolation::default()
    }))
}

/// `PATH`, or `PATH:TO`.
fn input(text: &str) -> TaskInput {
    let (path, to) = text.rsplit_once(':').unwrap_or((text, ""));
    TaskInput {
        path: path.to_owned(),
        to: to.to_owned(),
        mode: None,
    }
}

/// `GLOB:TO`.
fn collect(text: &str) -> Result<TaskCollect, Failure> {
    let (glob, to) = text.rsplit_once(':').ok_or_else(|| {
        Failure::Usage(format!(
            "--collect {text}: name the session's folder too, such as '{text}:/results'"
        ))
    })?;
    Ok(TaskCollect {
        glob: glob.to_owned(),
        to: to.to_owned(),
    })
}

fn working_directory(directory: Option<PathBuf>) -> Result<String, Failure> {
    directory
        .unwrap_or_default()
        .into_os_string()
        .into_string()
        .map_err(|_| Failure::Usage("--cwd must be valid UTF-8".to_owned()))
}

/// `KEY=VALUE`, or `KEY` for the value that it has here; one that is not set here is left out.
pub fn variable(text: &str) -> Result<Option<(String, String)>, Failure> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => match env::var(text) {
            Ok(value) => (text, Some(value)),
            Err(env::VarError::NotPresent) => (text, None),
            Err(env::VarError::NotUnicode(_)) => {
                return Err(Failure::Usage(format!(
                    "--env {text}: its value here is not valid UTF-8"
                )));
            }
        },
    };
    if key.is_empty() {
        return Err(Failure::Usage(format!(
            "--env {text}: the variable has no name"
        )));
    }
    Ok(value.map(|value| (key.to_owned(), value)))
}
