//! How a command is started beyond what most need: hidden in the help of `run`, which has its size; docs/task-files.md
//! tells of them.

use clap::Args;
use taskyard_proto::v1::{CommandSpec, ResourceLimit};

use crate::task_file::rlimit::parse_rlimit;

/// Limits and user.
#[derive(Debug, Args)]
pub struct StartOptions {
    /// Run as this user, NAME or NAME:GROUP, or numbers
    #[arg(long, hide = true, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Scheduling priority, -20 to 19
    #[arg(long, hide = true, value_parser = clap::value_parser!(i32).range(-20..=19), allow_negative_numbers = true)]
    pub nice: Option<i32>,
    /// Limit on a resource, such as nofile=256 or core=0:unlimited
    #[arg(long = "rlimit", hide = true, value_name = "NAME=SOFT[:HARD]", value_parser = parse_rlimit)]
    pub rlimits: Vec<(String, ResourceLimit)>,
    /// File of the session with variables, one KEY=VALUE in each line
    #[arg(long = "env-file", hide = true, value_name = "PATH")]
    pub env_files: Vec<String>,
}

impl StartOptions {
    /// Adds what was said to a command.
    pub fn apply(self, command: &mut CommandSpec) {
        if let Some(user) = self.user {
            let (user, group) = user.split_once(':').unwrap_or((&user, ""));
            user.clone_into(&mut command.user);
            group.clone_into(&mut command.group);
        }
        command.nice = self.nice;
        command.rlimits = self.rlimits.into_iter().collect();
        command.env_files = self.env_files;
    }
}
