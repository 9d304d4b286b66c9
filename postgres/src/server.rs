//! Running `postgres` itself: its command line, its log, and its end.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::account::Account;
use crate::binaries::Installation;
use crate::directory::DataDirectory;
use crate::error::ClusterError;
use crate::postmaster;
use crate::tuning::Tuning;

/// The one user inside the cluster.
pub(crate) const SUPERUSER: &str = "taskyard";

/// A log that has grown beyond this is set aside at the next start, and the one before it goes.
const LOG_LIMIT_BYTES: u64 = 8 << 20;

/// How much of a log goes into an error.
const QUOTED_LINES: usize = 12;
const QUOTED_BYTES: usize = 4096;

/// The steps of stopping, in order, and how long each may take. A fast shutdown writes a checkpoint, so it is as slow
/// as the disk; an immediate one leaves the work to crash recovery.
const STOP_STEPS: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(30)),
    (Signal::QUIT, Duration::from_secs(10)),
    (Signal::KILL, Duration::from_secs(10)),
];

/// A running server: our own child, or one that we found.
#[derive(Debug)]
pub(crate) enum Server {
    Started(Child),
    Found(Pid),
}

impl Server {
    pub fn start(
        directory: &DataDirectory,
        installation: &Installation,
        tuning: Tuning,
        socket_dir: &Path,
    ) -> Result<Server, ClusterError> {
        let log = open_log(directory)?;
        let log_for_stdout = log
            .try_clone()
            .map_err(|source| directory.file_error("open", &directory.log(), source))?;
        let program = installation.bin_dir.join("postgres");
        let mut postgres = command(&program, &directory.account);
        postgres.arg("-D").arg(directory.pgdata());
        for setting in tuning.settings() {
            postgres.arg("-c").arg(setting);
        }
        let mut sockets = std::ffi::OsString::from("unix_socket_directories=");
        sockets.push(quoted_list_item(socket_dir));
        postgres.arg("-c").arg(sockets);
        postgres.stdout(log_for_stdout).stderr(log);
        postgres
            .spawn()
            .map(Server::Started)
            .map_err(|source| directory.file_error("run", &program, source))
    }

    /// Stops the server and waits until it is gone: fast first, then less and less politely.
    pub async fn stop(mut self, pgdata: &Path) -> Result<(), ClusterError> {
        let Some(pid) = self.pid() else {
            return Ok(());
        };
        for (signal, limit) in STOP_STEPS {
            // A found server is not our child, so its number could have passed to someone else by now.
            if matches!(self, Server::Started(_)) || postmaster::is_running(pid, pgdata) {
                // Gone already is what we want.
                let _ = kill_process(pid, signal);
            }
            if self.has_ended_within(limit, pgdata).await {
                return Ok(());
            }
            tracing::warn!(
                pid = pid.as_raw_nonzero().get(),
                ?signal,
                "postgres did not stop in time"
            );
        }
        Err(ClusterError::NotStopped {
            pid: pid.as_raw_nonzero().get().cast_unsigned(),
        })
    }

    async fn has_ended_within(&mut self, limit: Duration, pgdata: &Path) -> bool {
        match self {
            Server::Started(child) => timeout(limit, child.wait()).await.is_ok(),
            Server::Found(pid) => {
                let deadline = Instant::now() + limit;
                while postmaster::is_running(*pid, pgdata) {
                    if Instant::now() >= deadline {
                        return false;
                    }
                    sleep(Duration::from_millis(5)).await;
                }
                true
            }
        }
    }

    fn pid(&self) -> Option<Pid> {
        match self {
            Server::Started(child) => child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())),
            Server::Found(pid) => Some(*pid),
        }
    }
}

/// A PostgreSQL program with a clean environment, as the chosen user, out of reach of the terminal's signals.
pub(crate) fn command(program: &Path, account: &Account) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .process_group(0);
    // A PostgreSQL built by hand may need it to find its libraries.
    if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    if account.is_switched {
        // The standard library also drops root's supplementary groups here.
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// The end of the log, for an error message.
pub(crate) fn end_of_log(directory: &DataDirectory) -> String {
    let log = fs::read(directory.log()).unwrap_or_default();
    let end = &log[log.len().saturating_sub(QUOTED_BYTES)..];
    last_lines(&String::from_utf8_lossy(end))
}

/// The last lines of a program's output.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}

fn open_log(directory: &DataDirectory) -> Result<File, ClusterError> {
    let path = directory.log();
    if fs::metadata(&path).is_ok_and(|found| found.len() > LOG_LIMIT_BYTES) {
        fs::rename(&path, directory.path.join("postgres.log.1"))
            .map_err(|source| directory.file_error("rename", &path, source))?;
    }
    File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| directory.file_error("open", &path, source))
}

/// `unix_socket_directories` is a list, so a comma or a space in the path needs quotes.
fn quoted_list_item(path: &Path) -> std::ffi::OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut quoted = vec![b'"'];
    for &byte in path.as_os_str().as_bytes() {
        if byte == b'"' {
            quoted.push(b'"');
        }
        quoted.push(byte);
    }
    quoted.push(b'"');
    std::ffi::OsString::from_vec(quoted)
}

#[cfg(test)]
mod tests {
    use super::{QUOTED_LINES, last_lines, quoted_list_item};
    use std::path::Path;

    #[test]
    fn only_the_last_lines_are_quoted() {
        let text: String = (0..40).map(|number| format!("line {number}\n")).collect();
        let quoted = last_lines(&text);
        assert_eq!(quoted.lines().count(), QUOTED_LINES);
        assert!(quoted.ends_with("line 39"));
        assert_eq!(last_lines(""), "");
    }

    #[test]
    fn a_path_with_a_comma_or_a_quote_stays_one_item_of_the_list() {
        assert_eq!(
            quoted_list_item(Path::new("/a,b/\"c\"")),
            "\"/a,b/\"\"c\"\"\""
        );
    }
}
