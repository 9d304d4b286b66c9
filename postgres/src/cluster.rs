//! A cluster from start to stop.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::binaries::{Binaries, Installation};
use crate::database;
use crate::directory::DataDirectory;
use crate::error::ClusterError;
use crate::initdb;
use crate::postmaster::{self, Earlier};
use crate::server::{Server, end_of_log};
use crate::socket;
use crate::tuning::Tuning;

/// From `start` to an answer. Milliseconds as a rule; crash recovery of `max_wal_size` on a slow disk takes a minute.
const START_LIMIT: Duration = Duration::from_secs(180);

/// How long children of a dead server get to notice that it is dead before they are killed.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(5);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What [`Cluster::start`] needs to know.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Holds this cluster and nothing else; made if it is missing.
    pub data_dir: PathBuf,
    /// From [`Binaries::find`].
    pub binaries: Binaries,
    pub tuning: Tuning,
}

/// A running private cluster. The data directory is locked for as long as this value lives. Dropping it without
/// [`Cluster::stop`] leaves the server running for the next start to find.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    directory: DataDirectory,
    socket_dir: PathBuf,
    major: u32,
}

impl Cluster {
    /// Starts the cluster in a data directory, makes it if the directory is new, or takes over a server that is still
    /// running there. Returns when the server answers; ends within about six minutes in any case, as a rule within a
    /// second. If the future is dropped, a server that is already running keeps running.
    pub async fn start(config: ClusterConfig) -> Result<Cluster, ClusterError> {
        let ClusterConfig {
            data_dir,
            binaries,
            tuning,
        } = config;
        let directory = DataDirectory::open(&data_dir)?;
        let installation = match directory.existing_major()? {
            Some(major) => matching_installation(&directory, &binaries, major)?,
            None => binaries.best(),
        };
        if let Some(closed) = directory
            .account
            .first_closed_directory(&installation.bin_dir)
        {
            return Err(ClusterError::Unreachable {
                path: installation.bin_dir.clone(),
                closed,
                user: directory.account.name.clone(),
            });
        }
        if directory.existing_major()?.is_none() {
            initdb::initialise(&directory, installation, tuning).await?;
        }
        let deadline = Instant::now() + START_LIMIT;
        let major = installation.major;
        if let Some((server, socket_dir)) = take_over(&directory, deadline).await? {
            return Ok(Cluster {
                server,
                directory,
                socket_dir,
                major,
            });
        }
        let socket_dir = socket::prepare_directory(&directory.path, &directory.account)?;
        let server = start_server(&directory, installation, tuning, &socket_dir, deadline).await?;
        Ok(Cluster {
            server,
            directory,
            socket_dir,
            major,
        })
    }

    /// The address of a database in this cluster, for sqlx and for anything built on libpq. It holds no secret: who
    /// may use the socket is decided by the mode of its directory.
    pub fn url(&self, database: &str) -> String {
        database::url(&self.socket_dir, database)
    }

    /// Creates a database unless it exists.
    pub async fn create_database(&self, database: &str) -> Result<(), ClusterError> {
        database::create(&self.socket_dir, database).await
    }

    /// True where the server was already running: an earlier owner ended without stopping it.
    pub fn attached(&self) -> bool {
        match self.server {
            Server::Started(_) => false,
            Server::Found(_) => true,
        }
    }

    /// The major version of the server, such as 18.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The data directory, absolute and with symbolic links resolved.
    pub fn data_dir(&self) -> &std::path::Path {
        &self.directory.path
    }

    /// Stops the server, an attached one too, and gives the data directory free. A fast shutdown first (open
    /// transactions are rolled back), harder after 30 s, by force after 40 s; ends within 50 s.
    pub async fn stop(self) -> Result<(), ClusterError> {
        let pgdata = self.directory.pgdata();
        self.server.stop(&pgdata).await?;
        socket::remove_outside_directory(&self.socket_dir, &self.directory.path);
        Ok(())
    }
}

fn matching_installation<'a>(
    directory: &DataDirectory,
    binaries: &'a Binaries,
    major: u32,
) -> Result<&'a Installation, ClusterError> {
    binaries
        .for_major(major)
        .ok_or_else(|| ClusterError::VersionMismatch {
            data_dir: directory.path.clone(),
            needed: major,
            available: binaries
                .all()
                .map(|found| format!("{}.{}", found.major, found.minor))
                .collect::<Vec<_>>()
                .join(", "),
        })
}

/// Looks for a server that is already running and waits until it answers or ends. On the way a stale pid file is
/// cleared, so that a server can be started.
async fn take_over(
    directory: &DataDirectory,
    deadline: Instant,
) -> Result<Option<(Server, PathBuf)>, ClusterError> {
    let pgdata = directory.pgdata();
    loop {
        let earlier = postmaster::inspect(&pgdata)
            .map_err(|source| directory.file_error("read the pid file in", &pgdata, source))?;
        match earlier {
            Earlier::None => {
                wait_for_leftovers(directory).await;
                return Ok(None);
            }
            Earlier::Stale => {
                wait_for_leftovers(directory).await;
                postmaster::remove_pid_file(&pgdata).map_err(|source| {
                    directory.file_error("remove the pid file in", &pgdata, source)
                })?;
                tracing::info!(pgdata = %pgdata.display(), "removed the pid file of a server that is gone");
                return Ok(None);
            }
            Earlier::Running { pid, socket_dir } => {
                // It may still be starting, recovering, or on its way out; the loop sees which.
                if socket_dir.is_absolute() && database::answers(&socket_dir).await.is_ok() {
                    tracing::info!(
                        pid = pid.as_raw_nonzero().get(),
                        "re-using the postgres that was left running"
                    );
                    return Ok(Some((Server::Found(pid), socket_dir)));
                }
                if Instant::now() >= deadline {
                    return Err(ClusterError::NotAnswering {
                        data_dir: directory.path.clone(),
                        pid: pid.as_raw_nonzero().get().cast_unsigned(),
                    });
                }
                sleep(POLL_INTERVAL * 10).await;
            }
        }
    }
}

/// The processes of a killed server end on their own within moments; the data is safe to open only after that.
async fn wait_for_leftovers(directory: &DataDirectory) {
    let pgdata = directory.pgdata();
    let patience_ends = Instant::now() + LEFTOVER_LIMIT;
    let given_up = patience_ends + LEFTOVER_LIMIT;
    loop {
        let leftovers = postmaster::leftover_processes(&pgdata);
        let now = Instant::now();
        if leftovers.is_empty() || now >= given_up {
            // Past that point they hang in the kernel, and PostgreSQL's own check of its shared memory decides.
            return;
        }
        if now >= patience_ends {
            postmaster::kill_leftovers(&leftovers);
        }
        sleep(POLL_INTERVAL).await;
    }
}

async fn start_server(
    directory: &DataDirectory,
    installation: &Installation,
    tuning: Tuning,
    socket_dir: &std::path::Path,
    deadline: Instant,
) -> Result<Server, ClusterError> {
    let mut server = Server::start(directory, installation, tuning, socket_dir)?;
    loop {
        if let Server::Started(child) = &mut server
            && let Some(status) = child.try_wait().map_err(|source| {
                directory.file_error("wait for postgres in", &directory.path, source)
            })?
        {
            directory.check_space_after_failure()?;
            return Err(ClusterError::Ended {
                status,
                log_path: directory.log(),
                log: end_of_log(directory),
            });
        }
        if database::answers(socket_dir).await.is_ok() {
            return Ok(server);
        }
        if Instant::now() >= deadline {
            let log = end_of_log(directory);
            server.stop(&directory.pgdata()).await?;
            return Err(ClusterError::TooSlow {
                action: "starting Postgres",
                limit_secs: START_LIMIT.as_secs(),
                log,
            });
        }
        sleep(POLL_INTERVAL).await;
    }
}
