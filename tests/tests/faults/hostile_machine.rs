//! Children that use up what the machine has, and workers that have too little of it.

use std::process::Command;

use taskyard_proto::v1::{ResourceLimit, TaskDefinition, TaskState};
use taskyard_tests::client::{error_kind, exit_code, probe, shell, with_command};
use taskyard_tests::skip::skipped;
use taskyard_tests::wait::{SOON, until};

use crate::arena::Arena;

/// Gives the worker's directory a file system of its own, in a namespace that goes with the worker.
const SMALL_DISK: &str = "mkdir -p \"$0\" && mount -t tmpfs -o size=24m none \"$0\" && exec \"$@\"";

fn limited(task: TaskDefinition, name: &str, limit: u64) -> TaskDefinition {
    with_command(task, |command| {
        let limit = ResourceLimit {
            soft: Some(limit),
            hard: None,
        };
        command.rlimits.insert(name.to_owned(), limit);
    })
}

/// The arguments of `unshare` for a mount of one's own, where that is allowed.
fn own_mounts() -> Option<Vec<&'static str>> {
    let tries = [vec!["unshare", "-m"], vec!["unshare", "-U", "-r", "-m"]];
    tries.into_iter().find(|words| {
        let script = "mount -t tmpfs none /tmp";
        let tried = Command::new(words[0])
            .args(&words[1..])
            .args(["sh", "-c", script])
            .output();
        tried.is_ok_and(|tried| tried.status.success())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_on_the_disk_is_named_and_can_be_run_again() {
    let Some(mut wrapper) = own_mounts() else {
        skipped("no file system can be mounted here");
        return;
    };
    wrapper.extend(["sh", "-c", SMALL_DISK, "{data}"]);
    let mut arena = Arena::open_as(|plan| plan.through(&wrapper)).await;
    let let_go = arena.path("go");
    let filler = arena
        .start(&format!("fill-disk {} 131072", let_go.display()))
        .await;
    until("the disk to be nearly full", SOON, async || {
        let_go.with_extension("full").exists()
    })
    .await;
    // The lease can be noted, the input cannot be kept.
    let large = || {
        with_command(shell("wc -c"), |command| {
            command.stdin = Some(vec![b'x'; 250_000].into());
        })
    };
    let id = arena.create(large()).await;
    let task = arena.ended(&id).await;
    let error = task.error.unwrap_or_default();
    assert_eq!(
        (error.kind.as_str(), error.reason.as_str(), error.retryable),
        ("worker_error", "ENOSPC", true),
        "{error:?}"
    );
    std::fs::write(&let_go, "").expect("written");
    arena.ended(&filler).await;
    let id = arena.create(large()).await;
    let task = arena.ended(&id).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    arena.expect_nothing_left(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_worker_from_taking_work_until_there_is_room() {
    let Some(mut wrapper) = own_mounts() else {
        skipped("no file system can be mounted here");
        return;
    };
    wrapper.extend(["sh", "-c", SMALL_DISK, "{data}"]);
    let mut arena = Arena::open_as(|plan| plan.through(&wrapper)).await;
    let let_go = arena.path("go");
    let filler = arena
        .start(&format!("fill-disk {}", let_go.display()))
        .await;
    until("the disk to be full", SOON, async || {
        let_go.with_extension("full").exists()
    })
    .await;
    // What is offered now is given back before it has begun, and nothing more is taken.
    let waiting = arena.create(shell("echo there")).await;
    until("the worker to take no more work", SOON, async || {
        arena.log().contains("taking no more work until it can")
    })
    .await;
    let task = arena.client.get(&waiting).await;
    assert_eq!(
        (task.state(), task.run, task.attempt),
        (TaskState::Queued, 0, 0),
        "{task:?}"
    );
    arena.expect_heartbeats(&filler).await;
    std::fs::write(&let_go, "").expect("written");
    let task = arena.ended(&filler).await;
    assert_eq!(
        (task.state(), exit_code(&task)),
        (TaskState::Succeeded, Some(0)),
        "{task:?}"
    );
    let result = arena.client.result(&filler).await;
    assert_eq!(result["stdout"]["total_bytes"], 100_000, "{result}");
    assert_eq!(result["stdout"]["capture"], "incomplete", "{result}");
    assert!(
        result["stdout"]["stored_bytes"].as_u64() < Some(100_000),
        "{result}"
    );
    // Its directory went with it.
    let task = arena.ended(&waiting).await;
    assert_eq!(
        (task.state(), task.run),
        (TaskState::Succeeded, 1),
        "{task:?}"
    );
    arena.expect_nothing_left(&waiting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_without_descriptors_or_memory_harms_itself_only() {
    let mut arena = Arena::open().await;
    let id = arena
        .create(limited(probe("exhaust-descriptors"), "nofile", 64))
        .await;
    let task = arena.ended(&id).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    let open: u32 = arena
        .first_line(&id)
        .await
        .parse()
        .expect("a number of files");
    assert!((1..64).contains(&open), "{open}");
    let id = arena
        .create(limited(probe("eat-memory"), "as", 256 << 20))
        .await;
    let task = arena.ended(&id).await;
    assert_eq!(
        (error_kind(&task), exit_code(&task)),
        ("exit", Some(9)),
        "{task:?}"
    );
    assert!(!task.exit.unwrap_or_default().oom_killed);
    let used = task.usage.unwrap_or_default().max_rss_bytes;
    assert!(used > 100 << 20 && used <= 256 << 20, "{used}");
    // The worker's own was not touched.
    arena.expect_frugal();
    arena.expect_nothing_left(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_short_of_descriptors_runs_fewer_at_a_time_and_loses_none() {
    // Within its limit it takes no more than it can; what takes away more than that later makes it give back.
    let mut arena = Arena::open_as(|plan| {
        let queue = plan.name.clone();
        plan.flags(&["--slots=32", "--queues", &queue]).through(&[
            "sh",
            "-c",
            "ulimit -n 80; exec \"$@\"",
            "sh",
        ])
    })
    .await;
    assert!(
        arena.log().contains("limit of open descriptors is too low"),
        "it says so"
    );
    let mut ids = Vec::new();
    for _ in 0..24 {
        ids.push(arena.create(shell("echo there")).await);
    }
    for id in &ids {
        let task = arena.ended(id).await;
        assert_eq!(
            (task.state(), task.run, task.attempt),
            (TaskState::Succeeded, 1, 1),
            "{task:?}"
        );
    }
    let last = ids.last().expect("there are some").clone();
    arena.expect_nothing_left(&last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_for_want_of_descriptors_is_given_back_and_runs_later() {
    let mut arena = Arena::open().await;
    let go = arena.path("go");
    let first = arena
        .create(shell(&format!(
            "echo ready; until [ -e {} ]; do sleep 0.05; done",
            go.display()
        )))
        .await;
    arena.said(&first, "ready\n").await;
    // What is open stays open; there is no room for one more.
    let worker = arena.worker();
    let before = limit_descriptors(worker, 8);
    let second = arena.create(shell("echo there")).await;
    until("the worker to take no more work", SOON, async || {
        arena.log().contains("taking no more work until it can")
    })
    .await;
    let task = arena.client.get(&second).await;
    assert_eq!((task.state(), task.run), (TaskState::Queued, 0), "{task:?}");
    arena.expect_heartbeats(&first).await;
    limit_descriptors(worker, before);
    let task = arena.ended(&second).await;
    assert_eq!(
        (task.state(), task.run),
        (TaskState::Succeeded, 1),
        "{task:?}"
    );
    std::fs::write(&go, "").expect("written");
    let task = arena.ended(&first).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    arena.expect_nothing_left(&first).await;
}

/// Sets how many descriptors a process may open; answers with what it was.
fn limit_descriptors(pid: u32, limit: u64) -> u64 {
    let mut before = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the place is valid, and nothing is set.
    let asked = unsafe {
        libc::prlimit(
            pid.cast_signed(),
            libc::RLIMIT_NOFILE,
            std::ptr::null(),
            &mut before,
        )
    };
    assert_eq!(asked, 0, "the limits of a child can be read");
    let wanted = libc::rlimit {
        rlim_cur: limit,
        ..before
    };
    // SAFETY: the structure is read, and no old one is asked for.
    let set = unsafe {
        libc::prlimit(
            pid.cast_signed(),
            libc::RLIMIT_NOFILE,
            &wanted,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(set, 0, "the limits of a child can be set");
    before.rlim_cur
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_alone_in_its_process_namespace_runs_tasks() {
    let own = ["-p", "-m", "--fork", "--mount-proc", "--kill-child"];
    let tries = [&["unshare"][..], &["unshare", "-U", "-r"]];
    let wrapper = tries.into_iter().find_map(|first| {
        let words = [first, &own[..]].concat();
        let mut tried = Command::new(words[0]);
        let tried = tried.args(&words[1..]).arg("true").output();
        tried
            .is_ok_and(|tried| tried.status.success())
            .then_some(words)
    });
    let Some(wrapper) = wrapper else {
        skipped("there are no process namespaces here");
        return;
    };
    let mut arena = Arena::open_as(|plan| plan.through(&wrapper)).await;
    let id = arena.create(shell("exit 3")).await;
    assert_eq!(exit_code(&arena.ended(&id).await), Some(3));
}
