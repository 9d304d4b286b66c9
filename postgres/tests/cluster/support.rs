//! A cluster to try things on, and ways to look at it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use taskyard_postgres::{Binaries, Cluster, ClusterConfig, ClusterError, Tuning};

const LIMIT: Duration = Duration::from_secs(60);

/// A directory that root's PostgreSQL, which runs as another user, can pass through.
pub fn scratch_dir() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("set the mode");
    directory
}

fn binaries() -> Binaries {
    Binaries::find(None).expect("PostgreSQL 15 to 18")
}

pub async fn start(data_dir: &Path) -> Result<Cluster, ClusterError> {
    Cluster::start(ClusterConfig {
        data_dir: data_dir.to_path_buf(),
        binaries: binaries(),
        tuning: Tuning::Scratch,
    })
    .await
}

pub async fn execute(cluster: &Cluster, sql: &str) {
    let mut connection = PgConnection::connect(&cluster.url("postgres"))
        .await
        .expect("connect");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await
        .expect("execute");
    connection.close().await.expect("close");
}

pub async fn count_rows(cluster: &Cluster) -> i64 {
    let mut connection = PgConnection::connect(&cluster.url("postgres"))
        .await
        .expect("connect");
    let n_rows = sqlx::query_scalar("select count(*) from kept")
        .fetch_one(&mut connection)
        .await
        .expect("count");
    connection.close().await.expect("close");
    n_rows
}

pub fn postmaster_pid(data_dir: &Path) -> Pid {
    let text = fs::read_to_string(data_dir.join("pgdata/postmaster.pid")).expect("a pid file");
    let number = text
        .lines()
        .next()
        .expect("a first line")
        .parse()
        .expect("a number");
    Pid::from_raw(number).expect("a process id")
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Drops the cluster as a crash would: the server stays, the lock goes.
pub fn abandon(cluster: Cluster) -> Pid {
    let pid = postmaster_pid(cluster.data_dir());
    drop(cluster);
    pid
}

/// What root writes into a cluster has to belong to the user that runs PostgreSQL.
pub fn give_to_postgres(path: &Path) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("users");
    let ids = ["postgres", "nobody"]
        .iter()
        .find_map(|name| {
            passwd
                .lines()
                .find(|line| line.starts_with(&format!("{name}:")))
        })
        .expect("an unprivileged user")
        .split(':')
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let uid = ids[2].parse().expect("a number");
    let gid = ids[3].parse().expect("a number");
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("give away");
}
