//! The directories that a cluster is given: those it can use, and those it refuses and why.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use taskyard_postgres::ClusterError;

use crate::support::{abandon, execute, give_to_postgres, scratch_dir, start};

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
