//! Runs a command with a PostgreSQL of its own that is gone when the command ends.
//!
//! `taskyard-scratch-postgres [--migrations DIR] [--] COMMAND [ARGUMENT…]`
//!
//! The command finds in its environment:
//! - `DATABASE_URL`: the database `taskyard`, with the migrations of DIR applied in order;
//! - `TASKYARD_TEST_POSTGRES`: the maintenance database of the same cluster, whose user may create databases.
//!
//! Exits with the command's code, 128 + n where signal n ended it, and 125 where the cluster failed. SIGINT, SIGTERM
//! and SIGHUP end the command first and the cluster after it.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};
use taskyard_postgres::{Binaries, Cluster, ClusterConfig, Tuning};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

const USAGE: &str =
    "usage: taskyard-scratch-postgres [--migrations DIR] [--] COMMAND [ARGUMENT...]";

const DIRECTORY_PREFIX: &str = "taskyard-scratch-";

/// The code for our own failures, apart from those of most commands.
const OWN_FAILURE: u8 = 125;

/// How long a command may take to end after a signal before it is killed.
const COMMAND_GRACE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(run()));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("taskyard-scratch-postgres: {error:#}");
            ExitCode::from(OWN_FAILURE)
        }
    }
}

async fn run() -> anyhow::Result<u8> {
    let request = Request::parse(env::args_os().skip(1))?;
    // Caught from here on, so that no directory stays behind whenever the signal comes.
    let mut stop_signals = StopSignals::new().context("cannot catch signals")?;
    remove_abandoned_directories().await;
    let binaries = Binaries::find(None)?;
    let directory = ScratchDirectory::create()?;
    let cluster = Cluster::start(ClusterConfig {
        data_dir: directory.path.clone(),
        binaries,
        tuning: Tuning::Scratch,
    })
    .await?;
    let code = run_in_cluster(&request, &cluster, &mut stop_signals).await;
    let stopped = cluster.stop().await;
    let code = code?;
    stopped?;
    Ok(code)
}

async fn run_in_cluster(
    request: &Request,
    cluster: &Cluster,
    stop_signals: &mut StopSignals,
) -> anyhow::Result<u8> {
    cluster.create_database("taskyard").await?;
    let database_url = cluster.url("taskyard");
    if let Some(migrations) = &request.migrations {
        migrate(&database_url, migrations).await?;
    }

    // With a terminal the command shares our group, so that it may read from it and Ctrl-C reaches all of it.
    // Without one it gets a group of its own, so that a signal to us can be passed on to all of it.
    let has_terminal = io::stdin().is_terminal();
    let mut command = tokio::process::Command::new(&request.program);
    command
        .args(&request.arguments)
        .env("DATABASE_URL", &database_url)
        .env("TASKYARD_TEST_POSTGRES", cluster.url("postgres"))
        .kill_on_drop(true);
    if !has_terminal {
        command.process_group(0);
    }
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {:?}", request.program))?;
    let status = tokio::select! {
        status = child.wait() => status,
        signal = stop_signals.next() => end_command(&mut child, signal, has_terminal).await,
    };
    Ok(exit_code(status.context("cannot wait for the command")?))
}

async fn migrate(database_url: &str, migrations: &Path) -> anyhow::Result<()> {
    let migrator = Migrator::new(migrations)
        .await
        .with_context(|| format!("cannot read the migrations in {migrations:?}"))?;
    let mut connection = PgConnection::connect(database_url)
        .await
        .context("cannot connect to the scratch database")?;
    migrator
        .run(&mut connection)
        .await
        .with_context(|| format!("cannot apply the migrations in {migrations:?}"))?;
    connection
        .close()
        .await
        .context("cannot close the connection")
}

/// Passes a signal on and waits for the command, by force in the end.
async fn end_command(
    child: &mut Child,
    signal: Signal,
    has_terminal: bool,
) -> io::Result<ExitStatus> {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let send = |signal| match pid {
        Some(pid) if has_terminal => kill_process(pid, signal),
        Some(pid) => kill_process_group(pid, signal),
        None => Ok(()),
    };
    // An error means that it has just ended.
    let _ = send(signal);
    match timeout(COMMAND_GRACE, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            let _ = send(Signal::KILL);
            child.wait().await
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => i32::from(OWN_FAILURE),
    };
    u8::try_from(code).unwrap_or(OWN_FAILURE)
}

struct Request {
    migrations: Option<PathBuf>,
    program: OsString,
    arguments: Vec<OsString>,
}

impl Request {
    fn parse(mut given: impl Iterator<Item = OsString>) -> anyhow::Result<Request> {
        let mut migrations = None;
        let program = loop {
            let Some(argument) = given.next() else {
                bail!("no command given\n{USAGE}");
            };
            match argument.to_str() {
                Some("--migrations") => {
                    let directory = given
                        .next()
                        .with_context(|| format!("--migrations needs a directory\n{USAGE}"))?;
                    migrations = Some(PathBuf::from(directory));
                }
                Some("--") => match given.next() {
                    Some(program) => break program,
                    None => bail!("no command given\n{USAGE}"),
                },
                Some(option) if option.starts_with('-') => {
                    bail!("unknown option {option}\n{USAGE}")
                }
                _ => break argument,
            }
        };
        Ok(Request {
            migrations,
            program,
            arguments: given.collect(),
        })
    }
}

struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn new() -> io::Result<StopSignals> {
        Ok(StopSignals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }
}

/// A directory that goes with this value.
struct ScratchDirectory {
    path: PathBuf,
}

impl ScratchDirectory {
    /// Open to be passed through, since root's PostgreSQL runs as another user; what is inside is private.
    fn create() -> anyhow::Result<ScratchDirectory> {
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        let name = format!("{DIRECTORY_PREFIX}{}-{nanos:x}", std::process::id());
        let path = env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o711)
            .create(&path)
            .with_context(|| format!("cannot create {path:?}"))?;
        Ok(ScratchDirectory { path })
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!(
                "taskyard-scratch-postgres: cannot remove {:?}: {error}",
                self.path
            );
        }
    }
}

/// A run that was killed leaves its cluster behind. Those of ours whose owner is gone are stopped and removed; whatever
/// goes wrong here is no reason not to run the command.
async fn remove_abandoned_directories() {
    let Ok(entries) = fs::read_dir(env::temp_dir()) else {
        return;
    };
    let ours = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let Some(name) = file_name
            .to_str()
            .filter(|name| name.starts_with(DIRECTORY_PREFIX))
        else {
            continue;
        };
        let path = entry.path();
        let is_ours =
            fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir() && found.uid() == ours);
        if is_ours && is_abandoned(name, &path) && stop_abandoned(&path).await.is_ok() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// The process in its name is gone and so is its lock. Asking for the lock alone would disturb a run that is about to
/// take it.
fn is_abandoned(name: &str, directory: &Path) -> bool {
    let owner = name
        .strip_prefix(DIRECTORY_PREFIX)
        .and_then(|rest| rest.split('-').next())
        .and_then(|pid| pid.parse().ok())
        .and_then(Pid::from_raw);
    let is_owner_gone = owner.is_some_and(|owner| test_kill_process(owner) == Err(Errno::SRCH));
    is_owner_gone && File::open(directory.join("lock")).is_ok_and(|file| file.try_lock().is_ok())
}

async fn stop_abandoned(directory: &Path) -> anyhow::Result<()> {
    if directory.join("pgdata/postmaster.pid").exists() {
        let cluster = Cluster::start(ClusterConfig {
            data_dir: directory.to_path_buf(),
            binaries: Binaries::find(None)?,
            tuning: Tuning::Scratch,
        })
        .await?;
        cluster.stop().await?;
    }
    Ok(())
}
