//! The command that lends a cluster to another command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::support::{postmaster_pid, scratch_dir, wait_until};

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
