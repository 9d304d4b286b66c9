//! Clusters on a real PostgreSQL: what people do to them, and what crashes do.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};
use taskyard_postgres::{Binaries, Cluster, ClusterConfig, ClusterError, Tuning};

const LIMIT: Duration = Duration::from_secs(60);

/// A directory that root's PostgreSQL, which runs as another user, can pass through.
fn scratch_dir() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("set the mode");
    directory
}

fn binaries() -> Binaries {
    Binaries::find(None).expect("PostgreSQL 15 to 18")
}

async fn start(data_dir: &Path) -> Result<Cluster, ClusterError> {
    Cluster::start(ClusterConfig {
        data_dir: data_dir.to_path_buf(),
        binaries: binaries(),
        tuning: Tuning::Scratch,
    })
    .await
}

async fn execute(cluster: &Cluster, sql: &str) {
    let mut connection = PgConnection::connect(&cluster.url("postgres"))
        .await
        .expect("connect");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await
        .expect("execute");
    connection.close().await.expect("close");
}

async fn count_rows(cluster: &Cluster) -> i64 {
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

fn postmaster_pid(data_dir: &Path) -> Pid {
    let text = fs::read_to_string(data_dir.join("pgdata/postmaster.pid")).expect("a pid file");
    let number = text
        .lines()
        .next()
        .expect("a first line")
        .parse()
        .expect("a number");
    Pid::from_raw(number).expect("a process id")
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Drops the cluster as a crash would: the server stays, the lock goes.
fn abandon(cluster: Cluster) -> Pid {
    let pid = postmaster_pid(cluster.data_dir());
    drop(cluster);
    pid
}

#[tokio::test]
async fn data_outlives_a_stop_and_a_second_start() {
    let directory = scratch_dir();
    let cluster = start(directory.path()).await.expect("first start");
    assert!(!cluster.attached());
    execute(
        &cluster,
        "create table kept (n int); insert into kept values (1), (2)",
    )
    .await;
    let pid = postmaster_pid(directory.path());
    cluster.stop().await.expect("stop");
    assert!(test_kill_process(pid).is_err(), "the server is gone");

    let cluster = start(directory.path()).await.expect("second start");
    assert!(!cluster.attached());
    assert_eq!(count_rows(&cluster).await, 2);
    assert!(!directory.path().join("pgdata.init").exists());
    cluster.stop().await.expect("stop");
}

#[tokio::test]
async fn a_server_left_by_a_crash_is_reused_and_stopped() {
    let directory = scratch_dir();
    let cluster = start(directory.path()).await.expect("start");
    execute(
        &cluster,
        "create table kept (n int); insert into kept values (1)",
    )
    .await;
    let pid = abandon(cluster);

    let cluster = start(directory.path()).await.expect("start again");
    assert!(cluster.attached());
    assert_eq!(postmaster_pid(directory.path()), pid);
    assert_eq!(count_rows(&cluster).await, 1);
    cluster.stop().await.expect("stop");
    assert!(!directory.path().join("pgdata/postmaster.pid").exists());
}

#[tokio::test]
async fn a_killed_server_is_recovered_with_its_committed_rows() {
    let directory = scratch_dir();
    let cluster = start(directory.path()).await.expect("start");
    execute(
        &cluster,
        "create table kept (n int); insert into kept values (1), (2), (3)",
    )
    .await;
    // A scratch cluster does not write commits at once, so this makes them sure to be on disk.
    execute(&cluster, "checkpoint").await;
    kill_process(postmaster_pid(directory.path()), Signal::KILL).expect("kill the server");
    drop(cluster);

    let cluster = start(directory.path())
        .await
        .expect("start after the crash");
    assert!(!cluster.attached());
    assert_eq!(count_rows(&cluster).await, 3);
    cluster.stop().await.expect("stop");
}

#[tokio::test]
async fn a_pid_file_that_names_a_zombie_is_cleared() {
    let directory = scratch_dir();
    start(directory.path())
        .await
        .expect("start")
        .stop()
        .await
        .expect("stop");
    let mut zombie = Command::new("true").spawn().expect("spawn");
    let zombie_pid = zombie.id();
    wait_until("the child is a zombie", || {
        fs::read_to_string(format!("/proc/{zombie_pid}/stat"))
            .is_ok_and(|stat| stat.contains(") Z "))
    });
    write_pid_file(directory.path(), zombie_pid);

    let cluster = start(directory.path()).await.expect("start");
    assert!(!cluster.attached());
    cluster.stop().await.expect("stop");
    zombie.wait().expect("reap");
}

#[tokio::test]
async fn a_pid_file_that_names_a_stranger_is_cleared_and_the_stranger_is_left_alone() {
    let directory = scratch_dir();
    start(directory.path())
        .await
        .expect("start")
        .stop()
        .await
        .expect("stop");
    let mut stranger = Command::new("sleep").arg("600").spawn().expect("spawn");
    write_pid_file(directory.path(), stranger.id());

    let cluster = start(directory.path()).await.expect("start");
    assert!(!cluster.attached());
    cluster.stop().await.expect("stop");
    assert!(
        stranger.try_wait().expect("look").is_none(),
        "the stranger still runs"
    );
    stranger.kill().expect("kill");
    stranger.wait().expect("reap");
}

#[tokio::test]
async fn an_empty_pid_file_from_a_full_disk_is_cleared() {
    let directory = scratch_dir();
    start(directory.path())
        .await
        .expect("start")
        .stop()
        .await
        .expect("stop");
    fs::write(directory.path().join("pgdata/postmaster.pid"), "").expect("write");
    start(directory.path())
        .await
        .expect("start")
        .stop()
        .await
        .expect("stop");
}

#[tokio::test]
async fn a_taken_directory_is_refused_with_the_holders_number() {
    let directory = scratch_dir();
    let cluster = start(directory.path()).await.expect("start");
    let error = start(directory.path())
        .await
        .expect_err("the directory is taken");
    let ClusterError::InUse { holder, .. } = &error else {
        panic!("unexpected error: {error}");
    };
    assert_eq!(*holder, Some(std::process::id()));
    assert!(
        error
            .to_string()
            .contains(&format!("process {}", std::process::id()))
    );
    cluster.stop().await.expect("stop");
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_its_socket_elsewhere() {
    let directory = scratch_dir();
    let deep = directory.path().join("d".repeat(60)).join("e".repeat(60));
    let cluster = start(&deep).await.expect("start");
    let options = PgConnectOptions::from_str(&cluster.url("postgres")).expect("a url");
    let socket_dir = options.get_socket().expect("a socket").clone();
    assert!(!socket_dir.starts_with(cluster.data_dir()));
    let mode = fs::metadata(&socket_dir)
        .expect("the socket directory")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    execute(&cluster, "select 1").await;

    abandon(cluster);
    let cluster = start(&deep).await.expect("start again");
    assert!(cluster.attached(), "the same socket is found again");
    cluster.stop().await.expect("stop");
    assert!(
        !socket_dir.exists(),
        "nothing stays behind outside the data directory"
    );
}

#[tokio::test]
async fn a_socket_directory_that_is_a_link_is_refused() {
    let directory = scratch_dir();
    let elsewhere = scratch_dir();
    start(directory.path())
        .await
        .expect("start")
        .stop()
        .await
        .expect("stop");
    let socket_dir = directory.path().join("socket");
    fs::remove_dir_all(&socket_dir).expect("remove");
    symlink(elsewhere.path(), &socket_dir).expect("link");
    let error = start(directory.path())
        .await
        .expect_err("a link is no place for a socket");
    assert!(
        matches!(error, ClusterError::UntrustedSocketDirectory { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_is_begun_anew() {
    let directory = scratch_dir();
    fs::create_dir(directory.path().join("pgdata.init")).expect("create");
    fs::write(directory.path().join("pgdata.init/PG_VERSION"), "15\n").expect("write");
    let cluster = start(directory.path()).await.expect("start");
    assert!(!directory.path().join("pgdata.init").exists());
    cluster.stop().await.expect("stop");
}

#[tokio::test]
async fn data_of_another_version_is_refused_and_not_touched() {
    let directory = scratch_dir();
    let version_file = directory.path().join("pgdata/PG_VERSION");
    fs::create_dir(directory.path().join("pgdata")).expect("create");
    for (text, is_mismatch) in [("14\n", true), ("nonsense", false)] {
        fs::write(&version_file, text).expect("write");
        give_to_postgres(&directory.path().join("pgdata"));
        let error = start(directory.path()).await.expect_err("not our version");
        match error {
            ClusterError::VersionMismatch { needed: 14, .. } => assert!(is_mismatch),
            ClusterError::DamagedVersion { .. } => assert!(!is_mismatch),
            other => panic!("unexpected error: {other}"),
        }
        assert_eq!(fs::read_to_string(&version_file).expect("read"), text);
    }
}

#[tokio::test]
async fn a_file_in_place_of_the_directory_is_an_error_that_names_it() {
    let directory = scratch_dir();
    let file = directory.path().join("file");
    fs::write(&file, "").expect("write");
    let error = start(&file).await.expect_err("a file is no directory");
    assert!(error.to_string().contains("file"), "{error}");
}

#[tokio::test]
async fn a_directory_without_write_permission_is_refused() {
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root may write everywhere");
        return;
    }
    let directory = scratch_dir();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555)).expect("set the mode");
    let error = start(directory.path()).await.expect_err("no permission");
    assert!(
        matches!(error, ClusterError::NotPermitted { .. }),
        "{error}"
    );
    assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 0);
}

#[tokio::test]
async fn root_is_told_which_directory_its_postgres_cannot_enter() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root runs PostgreSQL as somebody else");
        return;
    }
    let closed = tempfile::tempdir().expect("a directory");
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).expect("set the mode");
    let error = start(&closed.path().join("data"))
        .await
        .expect_err("a closed directory");
    assert!(matches!(error, ClusterError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_full_disk_and_a_read_only_one_are_told_apart_and_nothing_is_half_written() {
    let directory = scratch_dir();
    let Some(small) = SmallDisk::mount(directory.path()) else {
        eprintln!("skipped: mounting is not permitted here");
        return;
    };
    let error = start(&small.path.join("data"))
        .await
        .expect_err("too small");
    assert!(matches!(error, ClusterError::DiskFull { .. }), "{error}");
    assert!(!small.path.join("data/pgdata").exists());
    assert!(!small.path.join("data/pgdata.init").exists());

    small.make_read_only();
    let error = start(&small.path.join("other"))
        .await
        .expect_err("read-only");
    assert!(matches!(error, ClusterError::ReadOnly { .. }), "{error}");
}

#[test]
fn the_scratch_command_passes_on_the_exit_code_and_removes_its_cluster() {
    let temp = scratch_dir();
    let migrations = scratch_dir();
    fs::write(
        migrations.path().join("0001_create_kept.sql"),
        "create table kept (n int);",
    )
    .expect("write");
    let output = scratch_command(temp.path())
        .arg("--migrations")
        .arg(migrations.path())
        .args([
            "--",
            "sh",
            "-c",
            "echo \"$DATABASE_URL $TASKYARD_TEST_POSTGRES\"; exit 7",
        ])
        .output()
        .expect("run");
    assert_eq!(
        output.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("/taskyard?host="), "{printed}");
    assert!(printed.contains("/postgres?host="), "{printed}");
    assert_eq!(fs::read_dir(temp.path()).expect("list").count(), 0);
}

#[test]
fn the_scratch_command_cleans_up_after_a_signal() {
    let temp = scratch_dir();
    let notes = scratch_dir();
    let mut child = spawn_sleeper(temp.path(), &notes.path().join("sleeper"));
    kill_process(pid_of(&child), Signal::TERM).expect("signal");
    let status = child.wait().expect("wait");
    assert_eq!(status.code(), Some(128 + 15));
    assert_eq!(fs::read_dir(temp.path()).expect("list").count(), 0);
}

#[test]
fn a_killed_scratch_command_is_cleaned_up_by_the_next() {
    let temp = scratch_dir();
    let notes = scratch_dir();
    let marker = notes.path().join("sleeper");
    let mut child = spawn_sleeper(temp.path(), &marker);
    let server = postmaster_pid(&only_entry(temp.path()));
    kill_process(pid_of(&child), Signal::KILL).expect("kill");
    child.wait().expect("wait");
    let sleeper = fs::read_to_string(&marker).expect("the sleeper's number");
    let sleeper = Pid::from_raw(sleeper.trim().parse().expect("a number")).expect("a process id");
    kill_process(sleeper, Signal::KILL).expect("end the sleeper");
    assert!(
        test_kill_process(server).is_ok(),
        "the server outlives its killed owner"
    );

    let status = scratch_command(temp.path())
        .args(["--", "true"])
        .status()
        .expect("run");
    assert!(status.success());
    assert_eq!(fs::read_dir(temp.path()).expect("list").count(), 0);
}

fn scratch_command(temp: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskyard-scratch-postgres"));
    command.env("TMPDIR", temp).stdin(Stdio::null());
    command
}

/// A scratch cluster whose command writes its number into `marker` and sleeps; returns when it does.
fn spawn_sleeper(temp: &Path, marker: &Path) -> std::process::Child {
    let child = scratch_command(temp)
        .args([
            "--",
            "sh",
            "-c",
            "echo $$ > \"$0.new\" && mv \"$0.new\" \"$0\" && exec sleep 60",
        ])
        .arg(marker)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("spawn");
    wait_until("the command runs", || marker.exists());
    child
}

fn only_entry(temp: &Path) -> PathBuf {
    fs::read_dir(temp)
        .expect("list")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.is_dir())
        .expect("a scratch directory")
}

fn pid_of(child: &std::process::Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).expect("a process id")
}

fn write_pid_file(data_dir: &Path, pid: u32) {
    let path = data_dir.join("pgdata/postmaster.pid");
    let pgdata = data_dir.join("pgdata");
    let text = format!(
        "{pid}\n{}\n1760000000\n5432\n{}/socket\n",
        pgdata.display(),
        data_dir.display()
    );
    fs::write(&path, text).expect("write a pid file");
    give_to_postgres(&path);
}

/// What root writes into a cluster has to belong to the user that runs PostgreSQL.
fn give_to_postgres(path: &Path) {
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

/// A file system of 8 MiB that goes with this value.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(parent: &Path) -> Option<SmallDisk> {
        let path = parent.join("small");
        fs::create_dir(&path).expect("create");
        let is_mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m,mode=0755", "tmpfs"])
            .arg(&path)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        is_mounted.then_some(SmallDisk { path })
    }

    fn make_read_only(&self) {
        let status = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(&self.path)
            .status()
            .expect("run mount");
        assert!(status.success(), "remount read-only");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
    }
}
