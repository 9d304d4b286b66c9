//! Confined processes, seen from the worker: started or refused, by root and by an ordinary user.

mod process_support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use process_support::{PATIENCE, TESTBED, World};
use taskyard_worker::isolation::Confinement;
use taskyard_worker::process::{ExitStatus, StartError};

const NOBODY: &str = "65534";

/// The directory of the test to write, and its programs to read; nothing where this machine cannot.
fn confined(world: &mut World) -> bool {
    let real = |path: &Path| path.canonicalize().expect("it is there");
    let confinement = Confinement {
        without_network: true,
        writable: vec![real(world.directory.path())],
        readable: vec![real(Path::new(TESTBED))],
    };
    let can = confinement.prepare().is_ok();
    if !can {
        eprintln!("SKIPPED: this machine has no Landlock that restricted tasks need");
    }
    world.launch.confinement = Some(confinement);
    can
}

#[tokio::test]
async fn a_confined_process_is_watched_and_ended_like_any_other() {
    let mut world = World::probe(&["try", "write=own", "udp=127.0.0.1:9", "read=/root/.profile"]);
    if !confined(&mut world) {
        return;
    }
    let story = world.run().await;
    assert_eq!(story.end.exit, Some(ExitStatus::Code(0)));
    let text = world.stdout_text();
    assert!(text.contains("write=own ok\n"), "{text}");
    assert!(text.contains("udp=127.0.0.1:9 EACCES\n"), "{text}");
    assert!(text.contains("read=/root/.profile EACCES\n"), "{text}");
}

#[tokio::test]
async fn a_daemon_of_a_confined_process_is_swept() {
    let mut world = World::probe(&["daemon"]);
    let told = world.argument("told");
    world.push_arguments(&[&told, "--close"]);
    if !confined(&mut world) {
        return;
    }
    let story = world.run().await;
    assert_eq!(story.end.leftover_killed, 1);
    let pid = world.pid_in("told").await;
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn a_path_that_went_away_or_became_a_link_starts_nothing() {
    for replacement in [None, Some("/etc")] {
        let mut world = World::probe(&["exit", "0"]);
        if !confined(&mut world) {
            return;
        }
        let path = world.path("named");
        if let Some(target) = replacement {
            std::os::unix::fs::symlink(target, &path).expect("linked");
        }
        let confinement = world.launch.confinement.as_mut().expect("it is there");
        confinement.writable.push(path);
        let refused = world.try_spawn().await.expect_err("nothing is started");
        assert!(
            matches!(refused, StartError::Isolation { .. }),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_group_that_does_not_exist_starts_nothing() {
    let mut world = World::probe(&["exit", "0"]);
    world.launch.group = Some(world.path("no-group"));
    let refused = world.try_spawn().await.expect_err("nothing is started");
    assert!(
        matches!(refused, StartError::Isolation { .. }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_ordinary_user_can_confine_as_well() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: the other tests show it, since they do not run as root");
        return;
    }
    let mut world = World::probe(&[]);
    let directory = world.directory.path().to_owned();
    let is_closed = directory.ancestors().skip(1).any(|above| {
        let found = std::fs::metadata(above).expect("it is there");
        found.permissions().mode() & 0o001 == 0
    });
    if is_closed {
        eprintln!("SKIPPED: other users cannot enter the folder of temporary files");
        return;
    }
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("changed");
    };
    open(&directory, 0o777);
    // Where the programs are built an ordinary user may have no way.
    let program = directory.join("testbed");
    std::fs::copy(TESTBED, &program).expect("copied");
    open(&program, 0o755);
    let secret = directory.join("secret");
    std::fs::create_dir(&secret).expect("made");
    std::fs::write(secret.join("file"), "x").expect("written");
    let own = directory.join("own");
    std::fs::create_dir(&own).expect("made");
    open(&own, 0o777);
    if !confined(&mut world) {
        return;
    }
    let argument = |path: &Path| path.display().to_string();
    let done = own.join("done");
    let script = format!(
        "{program} try write={own}/written read={secret}/file udp=127.0.0.1:9 namespace > {own}/said; touch {done}",
        program = argument(&program),
        own = argument(&own),
        secret = argument(&secret),
        done = argument(&done)
    );
    world.launch.argv = ["sh", "-c", &script].map(str::to_owned).to_vec();
    world.launch.cwd = own.clone();
    let confinement = world.launch.confinement.as_mut().expect("it is there");
    confinement.writable = vec![own.canonicalize().expect("it is there")];
    confinement.readable = vec![program.canonicalize().expect("it is there")];
    let launch = directory.join("launch.json");
    let text = serde_json::to_vec(&world.launch).expect("it is JSON");
    std::fs::write(&launch, text).expect("written");
    open(&launch, 0o644);
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .arg(&program)
        .arg("worker")
        .arg(&launch);
    let Ok(mut worker) = command.spawn() else {
        eprintln!("SKIPPED: there is no setpriv");
        return;
    };
    let end = Instant::now() + PATIENCE;
    while worker.try_wait().expect("it can be asked").is_none() && Instant::now() < end {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let _ = worker.kill();
    let said = std::fs::read_to_string(own.join("said")).expect("it ran");
    assert!(done.exists());
    assert!(said.contains("/written ok\n"), "{said}");
    assert!(said.contains("/file EACCES\n"), "{said}");
    assert!(said.contains("udp=127.0.0.1:9 EACCES\n"), "{said}");
    assert!(said.contains("namespace EPERM\n"), "{said}");
}
