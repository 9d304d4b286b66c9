//! What a cluster comes back from: a stop, a crash, and what crashes leave behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, kill_process, test_kill_process};

use crate::support::{
    abandon, count_rows, execute, give_to_postgres, postmaster_pid, scratch_dir, start, wait_until,
};

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
async fn a_first_start_that_was_cut_short_is_begun_anew() {
    let directory = scratch_dir();
    fs::create_dir(directory.path().join("pgdata.init")).expect("create");
    fs::write(directory.path().join("pgdata.init/PG_VERSION"), "15\n").expect("write");
    let cluster = start(directory.path()).await.expect("start");
    assert!(!directory.path().join("pgdata.init").exists());
    cluster.stop().await.expect("stop");
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
