//! `worker`: runs what the control plane leases to it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use taskyard_worker::WorkerConfig;
use taskyard_worker::access::AccessSettings;
use taskyard_worker::isolation::{CgroupChoice, IsolationConfig, IsolationLevel};
use tokio_util::sync::CancellationToken;

use crate::admin_port::AdminArguments;
use crate::arguments::{GlobalArguments, parse_filled, parse_pair};
use crate::commands::command_options::IsolationName;
use crate::connection::parse_endpoint;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::machine::{default_slots, host_name, shim_program};
use crate::quantity::{parse_drain_grace, parse_keep_results};

/// A stop that takes longer is explained.
pub const SHORT_STOP: Duration = Duration::from_secs(1);
/// What a worker does whose stop takes longer, where running tasks have `drain` to end.
pub fn still_running(drain: Duration) -> String {
    format!(
        "what still runs has {} s to end, then it gets TERM, and after at most 5 s more KILL",
        drain.as_secs_f64()
    )
}

/// Run tasks that the control plane at --endpoint leases to this machine
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard worker --endpoint http://control.example:8275
  taskyard worker --name gpu-1 --slots 2 --queues slow --labels gpu=a100
  taskyard worker --kinds command,background_tool --data-dir /var/lib/taskyard/worker-1

Exit codes: 0 stopped by Ctrl-C or SIGTERM, 2 usage, 125 failed. A server out of reach is awaited.
Also --pool NAME, --keep-results D; TLS and tokens: docs/security.md; logs: TASKYARD_LOG")]
pub struct WorkerArguments {
    /// Name, 1 to 64 of A-Z a-z 0-9 . _ - [default: the host's]
    #[arg(long)]
    pub name: Option<String>,
    /// Tasks at once [default: four for each processor, at least 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000), allow_negative_numbers = true)]
    pub slots: Option<u32>,
    /// Queues to serve [default: default]
    #[arg(long, value_name = "QUEUE,...", value_delimiter = ',')]
    pub queues: Vec<String>,
    /// Kinds to take [default: all]
    #[arg(long, value_name = "KIND,...", value_delimiter = ',')]
    pub kinds: Vec<String>,
    /// Labels that tasks can ask for
    #[arg(long, value_name = "KEY=VALUE,...", value_delimiter = ',', value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
    /// How long running tasks may go on after SIGTERM [default: 10s]
    #[arg(long, value_name = "D", value_parser = parse_drain_grace)]
    pub drain_grace: Option<Duration>,
    #[command(flatten)]
    pub secrets: WorkerSecretArguments,
    /// Where it keeps its state [default: worker-NAME beside the data of `dev`]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Pool that it is of; tasks ask for it by the label taskyard.dev/pool
    #[arg(long, value_name = "NAME", env = "TASKYARD_WORKER_POOL", hide_env = true, hide = true, value_parser = parse_filled)]
    pub pool: Option<String>,
    /// How long acknowledged results are kept for the case that the database is restored from a copy [default: 15m]
    #[arg(long, value_name = "D", hide = true, value_parser = parse_keep_results)]
    pub keep_results: Option<Duration>,
    #[command(flatten)]
    pub isolation: IsolationArguments,
    #[command(flatten)]
    pub admin: AdminArguments,
}

/// What the worker's tasks may reach.
#[derive(Debug, Args)]
pub struct IsolationArguments {
    /// Raise tasks that ask for less isolation: none or restricted [default: none]
    #[arg(long, value_name = "LEVEL", hide_possible_values = true)]
    pub isolation_min: Option<IsolationName>,
    /// Give no more isolation than this [default: what the machine can]
    #[arg(long, value_name = "LEVEL", hide_possible_values = true)]
    pub isolation_max: Option<IsolationName>,
    /// Where the paths lie that restricted tasks may name [default: anywhere; with a minimum, nowhere]
    #[arg(long, value_name = "DIR,...", value_delimiter = ',')]
    pub isolation_paths: Option<Vec<PathBuf>>,
    /// Give each run a cgroup below DIR, or below the worker's own: auto [default: none]
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
}

impl IsolationArguments {
    fn config(self) -> IsolationConfig {
        let usual = IsolationConfig::default();
        IsolationConfig {
            min: self.isolation_min.map_or(usual.min, level),
            max: self.isolation_max.map_or(usual.max, level),
            nameable: self.isolation_paths,
            private: usual.private,
            cgroup: self.cgroup.map(|directory| {
                if directory.as_os_str() == "auto" {
                    CgroupChoice::Auto
                } else {
                    CgroupChoice::Below(directory)
                }
            }),
        }
    }
}

fn level(name: IsolationName) -> IsolationLevel {
    match name {
        IsolationName::None => IsolationLevel::None,
        IsolationName::Restricted => IsolationLevel::Restricted,
    }
}

/// What a worker gives to tasks of its own.
#[derive(Debug, Clone, Default, Args)]
pub struct WorkerSecretArguments {
    /// Own variables that tasks may have as secrets, such as 'CI_*' [default: none]
    #[arg(long, value_name = "GLOB,...", value_delimiter = ',')]
    pub secret_env: Vec<String>,
    /// Folders whose files tasks may have as secrets [default: none]
    #[arg(long = "secret-dir", value_name = "DIR,...", value_delimiter = ',')]
    pub secret_dirs: Vec<PathBuf>,
    /// Own variables that tasks may copy by name [default: all that do not look secret]
    #[arg(long, value_name = "GLOB,...", value_delimiter = ',')]
    pub inherit_env: Option<Vec<String>>,
}

/// Works until it is told to stop.
pub async fn execute(
    arguments: WorkerArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    parse_endpoint(&global.endpoint).map_err(Failure::Usage)?;
    let name = arguments.name.unwrap_or_else(|| host_name(""));
    check_name(&name)?;
    let data_dir = arguments
        .data_dir
        .unwrap_or_else(|| taskyard_postgres::default_data_dir().join(format!("worker-{name}")));
    let drain = arguments
        .drain_grace
        .unwrap_or(taskyard_worker::DEFAULT_DRAIN);
    let access =
        AccessSettings::from_environment().map_err(|error| Failure::Usage(error.to_string()))?;
    let mut isolation = arguments.isolation.config();
    isolation.private.extend(access.private_files());
    let config = WorkerConfig {
        endpoint: global.endpoint.trim_end_matches('/').to_owned(),
        access,
        pool: arguments.pool,
        name: name.clone(),
        slots: arguments.slots.unwrap_or_else(default_slots),
        queues: arguments.queues,
        kinds: arguments.kinds,
        labels: arguments.labels.into_iter().collect(),
        secret_env: arguments.secrets.secret_env,
        secret_dirs: arguments.secrets.secret_dirs,
        inherit_env: arguments.secrets.inherit_env,
        data_dir,
        shim_program: shim_program(),
        drain,
        keep_results: arguments
            .keep_results
            .unwrap_or(taskyard_worker::DEFAULT_KEEP_RESULTS),
        isolation,
    };
    let mut interrupts = Interrupts::listen(true)?;
    let endpoint = config.endpoint.clone();
    let admin = arguments.admin.open(None).await?;
    let worker = taskyard_worker::prepare(config)
        .await
        .map_err(|error| Failure::of_worker(&error))?;
    admin.started(worker.probe());
    console::note(&format!("worker {name} works for {endpoint}"));
    let shutdown = CancellationToken::new();
    let working = worker.run(shutdown.clone());
    tokio::pin!(working);
    let long_stop = stopping_notice(&shutdown);
    tokio::pin!(long_stop);
    let mut is_told = false;
    loop {
        tokio::select! {
            ended = &mut working => {
                ended.map_err(|error| Failure::of_worker(&error))?;
                return Ok(ExitCode::Success);
            }
            () = &mut long_stop, if !is_told => {
                is_told = true;
                let still_running = still_running(drain);
                console::note(&format!("{still_running}; Ctrl-C again stops at once"));
            }
            () = interrupts.next() => {
                if shutdown.is_cancelled() {
                    return Err(Failure::Interrupted("stopped at once".to_owned()));
                }
                console::note("stopping; Ctrl-C again stops at once");
                shutdown.cancel();
            }
        }
    }
}

/// Returns when a stop takes longer than one without running tasks does.
async fn stopping_notice(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(SHORT_STOP).await;
}

fn check_name(name: &str) -> Result<(), Failure> {
    let is_good = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if is_good {
        Ok(())
    } else {
        Err(Failure::Usage(format!(
            "--name `{name}` must be 1 to 64 of letters, digits, dot, underscore and hyphen"
        )))
    }
}
