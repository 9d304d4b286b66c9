//! What to run, checked before anything is started.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::StartError;
use super::identity::Identity;
use super::keeping::Survival;
use super::rlimit::Rlimit;
use crate::boot_time::BootTime;
use crate::isolation::Confinement;
use crate::lease::TerminalSize;

/// The largest encoded launch, in bytes.
pub const LAUNCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Everything that the shim needs to run one process. It travels over the control socket, never on a command line.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The program and its arguments. A program without `/` is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(String, String)>,
    /// The working directory; it must exist.
    pub cwd: PathBuf,
    /// The file mode creation mask; absent means that of the worker.
    pub umask: Option<u32>,
    /// Scheduling priority; absent means that of the worker.
    pub nice: Option<i32>,
    pub rlimits: Vec<Rlimit>,
    /// Whom it runs as; absent means the worker's own user.
    pub identity: Option<Identity>,
    pub stdin: Stdin,
    /// A terminal of this size for all three standard descriptors, and all output is standard output; absent: pipes.
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
    /// What is masked in both streams before it is kept anywhere.
    pub secrets: Vec<Vec<u8>>,
    pub stdout: SpoolSpec,
    pub stderr: SpoolSpec,
    /// How long, after the exit of the root, output may still come from descendants that hold the pipes.
    pub drain: Duration,
    /// When the tree is killed unless [`super::Process::extend`] comes first.
    pub deadline: BootTime,
    /// Whether it may outlive its worker; absent: it ends with it.
    pub survival: Option<Survival>,
    /// What it can reach; absent: whatever this user may.
    #[serde(default)]
    pub confinement: Option<Confinement>,
    /// The cgroup that it starts in; absent: the worker's.
    #[serde(default)]
    pub group: Option<PathBuf>,
}

/// Where standard input comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// Nothing: end of file at once.
    Null,
    /// The content of an existing file.
    File(PathBuf),
    /// What [`super::Process::write_input`] brings.
    Live,
}

/// Where one output stream is kept, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolSpec {
    /// The spool file; created, or emptied when it exists.
    pub path: PathBuf,
    /// How many bytes from the start are kept.
    pub head_cap: u64,
    /// How many bytes from the end, beyond the head, are kept.
    pub tail_cap: u64,
}

impl Launch {
    /// Refuses what no program could be started with. The shim's own checks follow when it tries.
    pub fn check(&self) -> Result<(), StartError> {
        let program = self.argv.first().filter(|program| !program.is_empty());
        if program.is_none() {
            return Err(StartError::EmptyProgram);
        }
        if self.argv.iter().any(|argument| argument.contains('\0')) {
            return Err(StartError::NulByte { field: "argv" });
        }
        if self
            .env
            .iter()
            .any(|(name, value)| name.contains('\0') || value.contains('\0'))
        {
            return Err(StartError::NulByte { field: "env" });
        }
        let misnamed = self
            .env
            .iter()
            .find(|(name, _)| name.is_empty() || name.contains('='));
        if let Some((name, _)) = misnamed {
            return Err(StartError::BadEnvName { name: name.clone() });
        }
        let stdin_path = match &self.stdin {
            Stdin::Null | Stdin::Live => None,
            Stdin::File(path) => Some(("stdin", path)),
        };
        let paths = [
            ("cwd", &self.cwd),
            ("stdout spool", &self.stdout.path),
            ("stderr spool", &self.stderr.path),
        ];
        for (field, path) in paths.into_iter().chain(stdin_path) {
            let Some(text) = path.to_str() else {
                return Err(StartError::PathNotUtf8 { field });
            };
            if text.contains('\0') {
                return Err(StartError::NulByte { field });
            }
        }
        for (field, spool) in [
            ("stdout spool", &self.stdout),
            ("stderr spool", &self.stderr),
        ] {
            if spool
                .head_cap
                .checked_add(spool.tail_cap)
                .is_none_or(|sum| sum > i64::MAX as u64 / 2)
            {
                return Err(StartError::SpoolTooLarge { field });
            }
        }
        Ok(())
    }
}

/// Values of the environment may be secrets and are left out.
impl std::fmt::Debug for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let env_names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Launch")
            .field("argv", &self.argv)
            .field("env_names", &env_names)
            .field("cwd", &self.cwd)
            .field("umask", &self.umask)
            .field("nice", &self.nice)
            .field("rlimits", &self.rlimits)
            .field("identity", &self.identity)
            .field("stdin", &self.stdin)
            .field("terminal", &self.terminal)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .field("drain", &self.drain)
            .field("deadline", &self.deadline)
            .field("survival", &self.survival)
            .field("confinement", &self.confinement)
            .field("group", &self.group)
            .finish()
    }
}
