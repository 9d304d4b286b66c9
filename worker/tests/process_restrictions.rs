//! Priority, limits and user of a process, and why it may not start with them.

mod process_support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use process_support::World;
use taskyard_worker::process::{
    ExitStatus, Identity, LimitedResource, Rlimit, StartError, TerminalSize, resolve_identity,
};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether everybody can pass through the folders above this one.
fn is_open_to_all(folder: &Path) -> bool {
    folder.ancestors().skip(1).all(|above| {
        std::fs::metadata(above).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
    })
}

fn limit(resource: LimitedResource, soft: u64, hard: u64) -> Rlimit {
    Rlimit {
        resource,
        soft,
        hard,
    }
}

#[tokio::test]
async fn limits_and_priority_are_as_launched() {
    let mut world = World::probe(&["limits"]);
    world.launch.rlimits = vec![
        limit(LimitedResource::Nofile, 64, 128),
        limit(LimitedResource::Core, 0, 0),
    ];
    world.launch.nice = Some(19);
    let story = world.run().await;
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
    let text = world.stdout_text();
    for line in ["nofile=64:128", "core=0:0", "nice=19"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[tokio::test]
async fn what_the_worker_may_not_give_is_a_failure_that_names_it() {
    let mut world = World::probe(&["limits"]);
    world.launch.rlimits = vec![
        limit(LimitedResource::Core, 0, 0),
        // Above what the system gives anybody.
        limit(LimitedResource::Nofile, 1 << 60, 1 << 60),
    ];
    let refused = world.try_spawn().await.expect_err("refused");
    assert!(
        matches!(&refused, StartError::Rlimit { name, .. } if name == "nofile"),
        "{refused:?}"
    );
    assert!(refused.fault_of_the_work().is_some());
    assert!(matches!(refused.errno(), Some(libc::EPERM | libc::EINVAL)));
}

#[tokio::test]
async fn a_limit_is_a_limit() {
    let mut world = World::command(&["sh", "-c", "ulimit -c; while :; do :; done"]);
    world.launch.rlimits = vec![limit(LimitedResource::Cpu, 1, 1)];
    let story = world.run().await;
    assert_eq!(story.exited, Some(ExitStatus::Signal(libc::SIGKILL)));
}

#[tokio::test]
async fn another_user_has_its_own_groups_and_pipes_or_is_refused() {
    // Pipes can be opened by name again only by who owns them.
    let script =
        "id -u; id -g; id -G; echo again >/dev/stdout; exec cat /proc/self/status >/dev/null";
    let mut world = World::command(&["sh", "-c", script]);
    let identity = match resolve_identity("54321", "54322") {
        Ok(identity) => identity.expect("it is somebody else"),
        Err(refused) => {
            assert!(!is_root(), "{refused:?}");
            world.launch.identity = Some(Identity {
                uid: 54_321,
                gid: 54_321,
                groups: vec![54_321],
                account: None,
            });
            let refused = world.try_spawn().await.expect_err("refused");
            assert!(
                matches!(
                    refused,
                    StartError::Identity { uid: 54_321, .. } | StartError::Prepare { .. }
                ),
                "{refused:?}"
            );
            return;
        }
    };
    if !is_open_to_all(world.directory.path()) {
        eprintln!("SKIPPED: other users cannot enter the folder of temporary files");
        return;
    }
    world.launch.identity = Some(identity);
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(world.directory.path(), closed).expect("it is closed to others");
    let refused = world.try_spawn().await.expect_err("it cannot enter");
    assert!(
        matches!(refused, StartError::WorkingDirectory { .. }),
        "{refused:?}"
    );
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(world.directory.path(), open).expect("it is open to all");
    let story = world.run().await;
    assert_eq!(world.stderr_text(), "");
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
    assert_eq!(world.stdout_text(), "54321\n54322\n54322\nagain\n");
}

#[tokio::test]
async fn another_user_owns_its_terminal() {
    // It can be opened by its name too.
    let script = "id -u; tty -s && echo again >\"$(tty)\"; echo more >/dev/tty";
    let mut world = World::command(&["sh", "-c", script]);
    let Ok(Some(identity)) = resolve_identity("54321", "54322") else {
        assert!(!is_root());
        return;
    };
    if !is_open_to_all(world.directory.path()) {
        eprintln!("SKIPPED: other users cannot enter the folder of temporary files");
        return;
    }
    world.launch.identity = Some(identity);
    world.launch.terminal = Some(TerminalSize {
        rows: 24,
        columns: 80,
    });
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(world.directory.path(), open).expect("it is open to all");
    let story = world.run().await;
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
    assert_eq!(world.stdout_text(), "54321\r\nagain\r\nmore\r\n");
}
