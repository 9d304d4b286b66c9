//! Processes that outlive the worker that started them.

mod process_support;

use std::time::Duration;

use process_support::{
    LONG, PATIENCE, Story, TERMED, World, is_running, parent_of, until_gone, until_ready,
    wait_until,
};
use taskyard_worker::boot_time::BootTime;
use taskyard_worker::process::{Adopted, AttachError, ExitStatus, Kept, Process, Survival};

fn surviving(words: &[&str]) -> (World, Survival) {
    let mut world = World::probe(words);
    let survival = Survival {
        directory: world.directory.path().to_owned(),
        token: "the right word".to_owned(),
    };
    world.launch.survival = Some(survival.clone());
    (world, survival)
}

fn kept(runs_out_at: Option<BootTime>) -> Kept {
    Kept {
        launched_at: BootTime::from_nanos(7),
        runs_out_at,
        left: None,
        grace: Duration::from_millis(50),
        stop: None,
    }
}

/// Starts it and lets go of it, as a worker does that is killed.
async fn leave(world: &World, kept: Kept) -> (i32, i32) {
    let mut process = world.spawn().await;
    let pid = process.pid() as i32;
    process.keep(kept).expect("the shim takes it");
    until_ready(&mut process).await;
    (pid, parent_of(pid))
}

async fn attach(survival: &Survival) -> Result<Adopted, AttachError> {
    let attached = tokio::time::timeout(PATIENCE, Process::attach(survival, &[], None));
    attached.await.expect("an answer in time")
}

#[tokio::test]
async fn the_next_boot_goes_on_where_the_one_before_was() {
    let (world, survival) = surviving(&["exit-on-term", "5"]);
    let (pid, shim) = leave(&world, kept(None)).await;
    let mut adopted = attach(&survival).await.expect("it is there");
    assert_eq!(adopted.process.pid() as i32, pid);
    assert_eq!(adopted.process.shim_pid(), Some(shim.unsigned_abs()));
    assert_eq!((&adopted.kept, adopted.exited_at), (&kept(None), None));
    until_ready(&mut adopted.process).await;
    adopted
        .process
        .terminate(taskyard_worker::process::Signal::Term, LONG)
        .expect("the shim takes it");
    let story = Story::of(&mut adopted.process).await;
    assert_eq!(story.exited, Some(ExitStatus::Code(5)));
    assert_eq!(world.stdout_text(), "ready\nbye\n");
    until_gone(shim).await;
}

#[tokio::test]
async fn there_is_one_holder_at_a_time() {
    let (world, survival) = surviving(&["hang"]);
    let mut first = world.spawn().await;
    first.keep(kept(None)).expect("the shim takes it");
    until_ready(&mut first).await;
    let next = tokio::spawn(async move { attach(&survival).await });
    // While the next one knocks, the first still is obeyed.
    first
        .extend(BootTime::now().plus(PATIENCE * 2))
        .expect("the shim takes it");
    drop(first);
    let mut adopted = next.await.expect("no panic").expect("it is there then");
    adopted.process.kill().expect("the shim takes it");
    let story = Story::of(&mut adopted.process).await;
    assert_eq!(
        story.exited.and_then(ExitStatus::signal),
        Some(libc::SIGKILL)
    );
}

#[tokio::test]
async fn the_last_words_wait_for_whoever_comes() {
    let (world, survival) = surviving(&["exit-on-term", "9"]);
    let (pid, shim) = leave(&world, kept(None)).await;
    let root = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(root, rustix::process::Signal::TERM).expect("it is signalled");
    until_gone(shim).await;
    for _ in 0..2 {
        let mut adopted = attach(&survival).await.expect("its end is known");
        let story = Story::of(&mut adopted.process).await;
        assert_eq!(story.exited, Some(ExitStatus::Code(9)));
        assert_eq!(story.end.stdout.total, "ready\nbye\n".len() as u64);
        assert!(adopted.exited_at.is_some());
    }
}

#[tokio::test]
async fn while_nobody_is_there_the_shim_keeps_the_time_of_the_run() {
    let (world, survival) = surviving(&["hang"]);
    let runs_out_at = BootTime::now().plus(Duration::from_millis(1_500));
    let (_, shim) = leave(&world, kept(Some(runs_out_at))).await;
    until_gone(shim).await;
    let mut adopted = attach(&survival).await.expect("its end is known");
    assert_eq!(
        adopted.kept.stop,
        Some(taskyard_worker::process::StopCause::TimedOut)
    );
    assert_eq!(Story::of(&mut adopted.process).await.exited, TERMED);
}

#[tokio::test]
async fn while_nobody_comes_the_deadline_stands() {
    let (world, survival) = surviving(&["hang"]);
    let mut process = world.spawn().await;
    let pid = process.pid() as i32;
    let shim = parent_of(pid);
    process.keep(kept(None)).expect("the shim takes it");
    until_ready(&mut process).await;
    process
        .extend(BootTime::now().plus(Duration::from_millis(500)))
        .expect("the shim takes it");
    drop(process);
    until_gone(shim).await;
    assert!(!is_running(pid));
    let mut adopted = attach(&survival).await.expect("its end is known");
    assert!(Story::of(&mut adopted.process).await.end.deadline_exceeded);
}

#[tokio::test]
async fn what_was_never_asked_to_be_kept_ends_with_its_worker() {
    let (world, survival) = surviving(&["hang"]);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let shim = parent_of(process.pid() as i32);
    drop(process);
    until_gone(shim).await;
    let refused = attach(&survival).await.expect_err("nothing is known of it");
    assert!(matches!(refused, AttachError::Gone { .. }), "{refused:?}");
}

/// A shim is woken when the thread that started it ends: in this runtime none does.
fn lasting_runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let lasting = builder.enable_all().thread_keep_alive(PATIENCE * 10);
    lasting.build().expect("a runtime")
}

#[test]
fn a_frozen_shim_is_given_up_soon_and_killed() {
    lasting_runtime().block_on(async {
        let (world, survival) = surviving(&["hang"]);
        let (pid, shim) = leave(&world, kept(None)).await;
        let frozen = rustix::process::Pid::from_raw(shim).expect("a process id");
        rustix::process::kill_process(frozen, rustix::process::Signal::STOP)
            .expect("the shim is stopped");
        let asked_at = std::time::Instant::now();
        let refused = attach(&survival).await.expect_err("it says nothing");
        let took = asked_at.elapsed();
        assert!(matches!(refused, AttachError::Silent { .. }), "{refused:?}");
        // A worker says no hello meanwhile, and has other leases.
        assert!(took < Duration::from_secs(15), "{took:?}");
        until_gone(shim).await;
        until_gone(pid).await;
    });
}

#[tokio::test]
async fn a_shim_leaves_the_session_of_its_worker() {
    let world = World::probe(&["hang"]);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let shim = rustix::process::Pid::from_raw(parent_of(process.pid() as i32));
    let session = wait_until("the shim's session", || rustix::process::getsid(shim).ok()).await;
    assert_eq!(Some(session), shim);
}
