//! A Postgres that is backed up, restored and replaced by a standby. All of them listen in one folder, one at a time, so
//! that their servers know but one address.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use taskyard_postgres::Binaries;
use tempfile::TempDir;

use crate::process::Process;
use crate::wait::{SOON, eventually, until};

/// Who runs Postgres where the tests run as root, which it refuses.
const NOBODY: u32 = 65_534;

/// Clusters in a folder; dropping it kills them.
#[derive(Debug)]
pub struct SparePostgres {
    folder: TempDir,
    programs: PathBuf,
    running: Option<Process>,
    starts: usize,
}

impl SparePostgres {
    /// A new cluster, which runs and keeps enough of its log for copies of it.
    pub async fn start() -> SparePostgres {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        let programs = Binaries::find(None)
            .unwrap_or_else(|error| panic!("no Postgres: {error}"))
            .best()
            .bin_dir
            .clone();
        let mut postgres = SparePostgres {
            folder,
            programs,
            running: None,
            starts: 0,
        };
        give_away(postgres.folder.path());
        postgres.make_cluster("first");
        postgres.run_cluster("first", "false").await;
        let mut connection = postgres.connect("postgres").await;
        execute(&mut connection, "create database taskyard").await;
        postgres
    }

    fn make_cluster(&self, name: &str) {
        let mut initdb = self.program("initdb");
        initdb.arg("--pgdata").arg(self.data(name)).args([
            "--username=taskyard",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]);
        run(initdb);
    }

    /// Address of the database, whichever cluster runs.
    pub fn url(&self) -> String {
        self.url_of("taskyard")
    }

    /// Copies the running cluster while it runs, as a base backup does.
    pub async fn back_up(&self, from: &str, to: &str) {
        let mut connection = self.connect("postgres").await;
        execute(&mut connection, "select pg_backup_start('copy', true)").await;
        let (from, to) = (self.data(from), self.data(to));
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(&from).arg(&to);
        run(copy);
        let stop = "select labelfile from pg_backup_stop(false)";
        let label: String = sqlx::query_scalar(stop)
            .fetch_one(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("the backup was not ended: {error}"));
        write(&to.join("backup_label"), &label);
        let _ = fs::remove_file(to.join("postmaster.pid"));
        // the log up to the end of the backup, without which it is not consistent
        let mut logs = Command::new("sh");
        logs.arg("-c")
            .arg("cp -a \"$0\"/pg_wal/0* \"$1\"/pg_wal/")
            .arg(&from)
            .arg(&to);
        run(logs);
    }

    /// The cluster dies, as a machine does.
    pub fn lose(&mut self) {
        self.running = None;
    }

    /// Brings a backup up as the database, on a timeline of its own.
    pub async fn restore(&mut self, name: &str) {
        write(&self.data(name).join("recovery.signal"), "");
        self.run_cluster(name, "false").await;
        self.begun_to_write().await;
    }

    /// Completes a copy by the log of the lost cluster, as a standby does that had followed it, and promotes it.
    pub async fn promote(&mut self, name: &str, lost: &str) {
        write(&self.data(name).join("standby.signal"), "");
        let from = self.data(lost).join("pg_wal");
        let fetch = format!("cp {}/%f %p", from.display());
        self.run_cluster(name, &fetch).await;
        let mut connection = self.connect("postgres").await;
        execute(&mut connection, "select pg_promote(true, 60)").await;
        self.begun_to_write().await;
    }

    /// Ends the running cluster in good order.
    pub async fn stop(&mut self) {
        if let Some(process) = self.running.take() {
            // fast: it waits for nobody
            process.signal(Signal::INT);
            eventually("the database to stop", SOON, async || process.ended()).await;
        }
    }

    /// Copies a cluster that is stopped.
    pub fn copy_files(&self, from: &str, to: &str) {
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.data(from)).arg(self.data(to));
        run(copy);
    }

    /// Brings up a cluster as it lies there.
    pub async fn start_cluster(&mut self, name: &str) {
        self.run_cluster(name, "false").await;
    }

    /// Whether dumps can be made and restored here.
    pub fn has_dump_programs(&self) -> bool {
        ["pg_dump", "pg_restore"]
            .iter()
            .all(|name| self.programs.join(name).is_file())
    }

    /// Dumps the database while it is in use.
    pub fn dump(&self, to: &str) {
        let mut dump = self.program("pg_dump");
        dump.args(["--format=custom", "--file"])
            .arg(self.data(to))
            .arg(self.url());
        run(dump);
    }

    /// Restores a dump into a new cluster, and brings that up as the database once it is complete.
    pub async fn load(&mut self, name: &str, dump: &str) {
        self.make_cluster(name);
        let aside = tempfile::tempdir_in(self.folder.path())
            .unwrap_or_else(|error| panic!("no folder: {error}"));
        give_away(aside.path());
        self.run_cluster_in(aside.path(), name, "false").await;
        let mut connection = connect(&url_in(aside.path(), "postgres")).await;
        execute(&mut connection, "create database taskyard").await;
        drop(connection);
        self.fill(&url_in(aside.path(), "taskyard"), dump);
        self.stop().await;
        self.start_cluster(name).await;
    }

    /// Restores a dump into a new database of the cluster that runs, which then takes the place of the old one.
    pub async fn load_beside(&self, dump: &str) {
        let mut connection = self.connect("postgres").await;
        execute(&mut connection, "create database restored").await;
        self.fill(&url_in(self.folder.path(), "restored"), dump);
        for statement in [
            "drop database taskyard with (force)",
            "alter database restored rename to taskyard",
        ] {
            execute(&mut connection, statement).await;
        }
    }

    fn fill(&self, database: &str, dump: &str) {
        let mut restore = self.program("pg_restore");
        restore
            .args(["--exit-on-error", "--dbname", database])
            .arg(self.data(dump));
        run(restore);
    }

    /// Ends the segment of the log that is being written, so that a standby can take it.
    pub async fn ship_log(&self) {
        let mut connection = self.connect("postgres").await;
        execute(&mut connection, "select pg_switch_wal()").await;
    }

    async fn begun_to_write(&self) {
        until("the database to take writes", SOON, async || {
            let mut connection = self.connect("postgres").await;
            let is_standby: Result<bool, _> = sqlx::query_scalar("select pg_is_in_recovery()")
                .fetch_one(&mut connection)
                .await;
            matches!(is_standby, Ok(false))
        })
        .await;
    }

    async fn run_cluster(&mut self, name: &str, restore_command: &str) {
        let folder = self.folder.path().to_owned();
        self.run_cluster_in(&folder, name, restore_command).await;
    }

    /// Runs it, with its socket in `folder`.
    async fn run_cluster_in(&mut self, folder: &Path, name: &str, restore_command: &str) {
        self.starts += 1;
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data(name));
        let socket_folder = format!("unix_socket_directories={}", folder.display());
        let restore = format!("restore_command={restore_command}");
        for setting in [
            socket_folder.as_str(),
            &restore,
            "listen_addresses=",
            "wal_level=replica",
            "wal_retrieve_retry_interval=100ms",
            "hot_standby=on",
            "fsync=off",
            "shared_buffers=64MB",
        ] {
            command.arg("-c").arg(setting);
        }
        let log = self
            .folder
            .path()
            .join(format!("{name}-{}.log", self.starts));
        self.running = Some(Process::start(name, command, &log));
        until("the database to answer", SOON, async || {
            let process = self.running.as_ref();
            let ended = process.and_then(Process::ended);
            let log = process.map(Process::log).unwrap_or_default();
            assert!(ended.is_none(), "the database ended ({ended:?}):\n{log}");
            PgConnection::connect(&url_in(folder, "postgres"))
                .await
                .is_ok()
        })
        .await;
    }

    async fn connect(&self, database: &str) -> PgConnection {
        connect(&self.url_of(database)).await
    }

    fn url_of(&self, database: &str) -> String {
        url_in(self.folder.path(), database)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.folder.path());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for SparePostgres {
    fn drop(&mut self) {
        if let Some(process) = &self.running {
            // ends its backends, too
            process.signal(Signal::QUIT);
            let _ = process.ended();
        }
    }
}

/// The address of a cluster with its socket there.
fn url_in(folder: &Path, database: &str) -> String {
    let host = folder.display();
    format!("postgres://taskyard@localhost/{database}?host={host}&sslmode=disable")
}

async fn connect(url: &str) -> PgConnection {
    eventually("a connection to the database", SOON, async || {
        PgConnection::connect(url).await.ok()
    })
    .await
}

fn run(mut command: Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    give_away(path);
}

/// Makes a file belong to who runs Postgres.
fn give_away(path: &Path) {
    let is_ours = fs::metadata(path).is_ok_and(|metadata| metadata.uid() == 0);
    if is_ours && rustix::process::geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

async fn execute(connection: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
}
