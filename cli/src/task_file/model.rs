//! The form of a task file. Unknown fields are refused: a misspelt one must not be ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::secret_source::FileSecret;
use crate::task_file::rlimit::Rlimit;
use crate::task_file::scalar::{Moment, Size, Span, Umask};
use crate::task_file::schedule::Schedule;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskFile {
    /// Session that will own the task; the command line wins.
    pub session: Option<String>,
    pub name: String,
    pub key: String,
    pub kind: String,
    pub display_name: String,
    pub command: Option<Command>,
    /// JSON for an executor other than `command`.
    pub payload: Option<Value>,
    /// JSON that the work finds in the file $TASKYARD_INPUT.
    pub input: Option<Value>,
    pub result_source: Option<ResultSourceName>,
    pub output_limit: Option<Size>,
    /// JSON Schema of the structured result.
    pub result_schema: Option<Value>,
    /// JSON Schema of the JSON parts of the work's messages.
    pub message_schema: Option<Value>,
    #[serde(default)]
    pub approver_only: bool,
    /// By the variable under which the work finds it.
    pub secrets: BTreeMap<String, FileSecret>,
    pub worker_labels: BTreeMap<String, String>,
    pub isolation: Option<Isolation>,
    pub files: Vec<Input>,
    pub collect: Vec<Collect>,
    /// Task of the session below which this one belongs: an id, t12 or a name.
    pub parent: String,
    /// In a file of several tasks: position of the parent, an earlier one, from 0.
    pub parent_item: Option<i32>,
    pub group: String,
    pub labels: BTreeMap<String, String>,
    pub tags: Vec<String>,
    pub queue: String,
    pub executor: String,
    pub priority: i32,
    pub not_before: Option<Moment>,
    pub start_deadline: Option<Moment>,
    pub timeout: Option<Span>,
    pub retry: Option<Retry>,
    pub hold: bool,
    pub wake_policy: Option<WakePolicyName>,
    pub group_wake: Option<GroupWakeName>,
    /// Makes it a monitor.
    pub schedule: Option<Schedule>,
}

/// What the process may reach and use.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Isolation {
    pub level: Option<IsolationName>,
    pub network: Option<NetworkName>,
    pub writable: Vec<String>,
    pub readable: Vec<String>,
    pub limits: Option<Limits>,
}

/// What all processes of a run may use together.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub memory: Option<Size>,
    pub cpu_millis: Option<i32>,
    pub processes: Option<i32>,
}

/// A level of isolation.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IsolationName {
    None,
    Restricted,
}

/// Whether the process may use the network.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkName {
    Allowed,
    None,
}

/// A process to run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    #[serde(default)]
    pub argv: Vec<String>,
    /// A script, in place of `argv`.
    #[serde(default)]
    pub shell: String,
    /// What runs the script.
    #[serde(default)]
    pub interpreter: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub inherit_env: Vec<String>,
    #[serde(default)]
    pub cwd: String,
    pub stdin: Option<String>,
    /// File of the session.
    #[serde(default)]
    pub stdin_file: String,
    #[serde(default)]
    pub stdin_live: bool,
    pub pty: Option<Terminal>,
    /// Files of the session.
    #[serde(default)]
    pub env_files: Vec<String>,
    pub umask: Option<Umask>,
    pub nice: Option<i32>,
    #[serde(default)]
    pub rlimits: BTreeMap<String, Rlimit>,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub group: String,
    pub start_jitter: Option<Span>,
    #[serde(default)]
    pub success_exit_codes: Vec<i32>,
    pub grace: Option<Span>,
    #[serde(default)]
    pub survive_worker_restart: bool,
}

/// A terminal in place of pipes: `true`, or its size and name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    expecting = "must be true, false, or {rows: 24, columns: 80, term: xterm}"
)]
pub enum Terminal {
    Wanted(bool),
    Like(TerminalForm),
}

/// What is absent is as the server has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TerminalForm {
    pub rows: Option<u32>,
    pub columns: Option<u32>,
    pub term: String,
}

/// A file or folder of the session that the work finds in its working directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub path: String,
    #[serde(default)]
    pub to: String,
    pub mode: Option<Umask>,
}

/// What the work leaves that is stored in the session's files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collect {
    pub glob: String,
    pub to: String,
}

/// Whether and when another run follows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    pub max_runs: i32,
    pub initial_backoff: Option<Span>,
    pub max_backoff: Option<Span>,
    #[serde(default)]
    pub multiplier: f64,
}

/// Where the structured result comes from.
#[derive(Debug, Clone, Copy, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum ResultSourceName {
    File,
    Stdout,
}

/// When the owner wants to be woken.
#[derive(Debug, Clone, Copy, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum WakePolicyName {
    Silent,
    OnTerminal,
    OnActivity,
}

/// How the ends of a group's tasks wake the owner.
#[derive(Debug, Clone, Copy, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum GroupWakeName {
    Each,
    AllDone,
    FirstFailed,
}
