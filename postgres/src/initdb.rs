//! The first start: a new cluster, whole or not at all.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::timeout;

use crate::binaries::Installation;
use crate::directory::DataDirectory;
use crate::error::ClusterError;
use crate::server::{SUPERUSER, command, last_lines};
use crate::tuning::Tuning;

/// Under a second on an idle machine; a slow disk that syncs 40 MB needs longer.
const LIMIT: Duration = Duration::from_secs(180);

/// Makes the cluster beside its final place and renames it, so that a start cut short leaves nothing that looks whole.
pub(crate) async fn initialise(
    directory: &DataDirectory,
    installation: &Installation,
    tuning: Tuning,
) -> Result<(), ClusterError> {
    let unfinished = directory.unfinished_pgdata();
    remove_tree(directory, &unfinished)?;
    directory.check_space_for_new_cluster()?;
    let made = run_initdb(directory, installation, tuning, &unfinished).await;
    if let Err(error) = made {
        let _ = fs::remove_dir_all(&unfinished);
        return Err(error);
    }
    fs::rename(&unfinished, directory.pgdata())
        .and_then(|()| fs::File::open(&directory.path)?.sync_all())
        .map_err(|source| directory.file_error("rename", &unfinished, source))
}

async fn run_initdb(
    directory: &DataDirectory,
    installation: &Installation,
    tuning: Tuning,
    unfinished: &Path,
) -> Result<(), ClusterError> {
    // Made by us, because the user that runs initdb need not be able to write in the data directory itself.
    DirBuilder::new()
        .mode(0o700)
        .create(unfinished)
        .map_err(|source| directory.file_error("create", unfinished, source))?;
    let account = &directory.account;
    if account.is_switched {
        std::os::unix::fs::chown(unfinished, Some(account.uid), Some(account.gid))
            .map_err(|source| directory.file_error("give away", unfinished, source))?;
    }

    let mut initdb = command(&installation.bin_dir.join("initdb"), account);
    initdb
        .arg("--pgdata")
        .arg(unfinished)
        .args(["--username", SUPERUSER])
        // Safe because only the owner of the socket's directory can connect at all.
        .args(["--auth", "trust"])
        .args(["--encoding", "UTF8", "--no-locale", "--no-instructions"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if !tuning.syncs_new_cluster() {
        initdb.arg("--no-sync");
    }
    let program = installation.bin_dir.join("initdb");
    let child = initdb
        .spawn()
        .map_err(|source| directory.file_error("run", &program, source))?;
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    // Dropping the child on the way out kills initdb itself; its helpers need the signal too.
    let output = match timeout(LIMIT, child.wait_with_output()).await {
        Ok(output) => output.map_err(|source| directory.file_error("run", &program, source))?,
        Err(_) => {
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            return Err(ClusterError::TooSlow {
                action: "initdb",
                limit_secs: LIMIT.as_secs(),
                log: String::new(),
            });
        }
    };
    if output.status.success() {
        return Ok(());
    }
    directory.check_space_for_new_cluster()?;
    Err(ClusterError::Initialise {
        data_dir: directory.path.clone(),
        status: output.status,
        log: last_lines(&String::from_utf8_lossy(&output.stderr)),
    })
}

fn remove_tree(directory: &DataDirectory, path: &Path) -> Result<(), ClusterError> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(directory.file_error("remove", path, source)),
    }
}
