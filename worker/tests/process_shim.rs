//! Who looks after processes: nothing outlives the worker or its shim, whatever becomes of them.

mod process_support;

use process_support::{
    KILLED, LONG, PATIENCE, Story, TERMED, TESTBED, World, next_event, parent_of, until_gone,
    until_ready, wait_until,
};
use taskyard_worker::boot_time::BootTime;
use taskyard_worker::process::{
    CommandError, Leftovers, ProcessError, ProcessEvent, Signal, kill_leftovers,
};

#[tokio::test]
async fn dropping_the_handle_kills_the_tree() {
    let mut world = World::probe(&["daemon"]);
    world.push_arguments(&[&world.argument("pid"), "--stay", "--ignore-term"]);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let root = process.pid() as i32;
    let (shim, daemon) = (parent_of(root), world.pid_in("pid").await);
    drop(process);
    for pid in [root, daemon, shim] {
        until_gone(pid).await;
    }
}

#[tokio::test]
async fn no_process_outlives_its_worker() {
    let mut world = World::probe(&["daemon"]);
    world.push_arguments(&[&world.argument("pid"), "--stay", "--ignore-term"]);
    let launch_file = world.path("launch");
    std::fs::write(
        &launch_file,
        serde_json::to_vec(&world.launch).expect("JSON"),
    )
    .expect("the launch is written");
    let mut worker = std::process::Command::new(TESTBED)
        .arg("worker")
        .arg(&launch_file)
        .spawn()
        .expect("a worker");
    let daemon = world.pid_in("pid").await;
    let shim = parent_of(daemon);
    let tree = wait_until("the shim's children", || {
        let children: Vec<i32> = children_of(shim);
        (children.len() == 2).then_some(children)
    })
    .await;
    worker.kill().expect("the worker is killed");
    worker.wait().expect("the worker is reaped");
    for pid in tree.into_iter().chain([shim]) {
        until_gone(pid).await;
    }
}

#[tokio::test]
async fn a_lost_shim_is_told_and_nothing_of_it_survives() {
    let mut world = World::probe(&["daemon"]);
    world.push_arguments(&[&world.argument("pid"), "--stay", "--ignore-term"]);
    world
        .launch
        .env
        .push(("TASKYARD_TASK_ID".to_owned(), world.argument("task")));
    world
        .launch
        .env
        .push(("TASKYARD_LEASE_EPOCH".to_owned(), "3".to_owned()));
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let root = process.pid() as i32;
    let (shim, daemon) = (parent_of(root), world.pid_in("pid").await);
    let shim = rustix::process::Pid::from_raw(shim).expect("a process id");
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).expect("the shim is killed");
    let lost = loop {
        match next_event(&mut process).await {
            Ok(event) => assert!(
                !matches!(event, ProcessEvent::Ended(_)),
                "nobody is there to tell the end"
            ),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            lost,
            ProcessError::ShimLost {
                killed: 1..,
                survivors: 0
            }
        ),
        "{lost:?}"
    );
    until_gone(root).await;
    until_gone(daemon).await;
    assert!(matches!(
        process.next_event().await,
        Err(ProcessError::AlreadyEnded)
    ));
    assert!(matches!(process.kill(), Err(CommandError::Gone)));
}

/// A shim is woken when the thread that started it ends: in this runtime none does.
fn lasting_runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let lasting = builder.enable_all().thread_keep_alive(PATIENCE * 10);
    lasting.build().expect("a runtime")
}

#[test]
fn a_frozen_shim_is_ended_by_force() {
    lasting_runtime().block_on(async {
        let world = World::probe(&["ignore-term"]);
        let mut process = world.spawn().await;
        until_ready(&mut process).await;
        let root = process.pid() as i32;
        let shim = rustix::process::Pid::from_raw(parent_of(root)).expect("a process id");
        rustix::process::kill_process(shim, rustix::process::Signal::STOP)
            .expect("the shim is stopped");
        // It takes no commands any more, and at some point that is said.
        let refused = wait_until("a refusal", || {
            process.extend(BootTime::now().plus(LONG)).err()
        })
        .await;
        assert!(matches!(refused, CommandError::ShimFrozen));
        process.force_end();
        let lost = next_event(&mut process).await;
        assert!(
            matches!(lost, Err(ProcessError::ShimLost { survivors: 0, .. })),
            "{lost:?}"
        );
        until_gone(root).await;
    });
}

#[tokio::test]
async fn what_a_frozen_shim_keeps_is_found_by_its_lease_and_ended() {
    let script = "setsid env -i sleep 1000 & echo ready; exec sleep 1000";
    let mut world = World::command(&["sh", "-c", script]);
    let task = format!("task_{}", std::process::id());
    let marks = [
        ("TASKYARD_TASK_ID", task.as_str()),
        ("TASKYARD_LEASE_EPOCH", "7"),
    ];
    let marks = marks.map(|(name, value)| (name.to_owned(), value.to_owned()));
    world.launch.env.extend(marks);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let root = process.pid() as i32;
    let shim = parent_of(root);
    let tree = wait_until("the shim's children", || {
        let children: Vec<i32> = children_of(root);
        (!children.is_empty()).then_some(children)
    })
    .await;
    let pid = rustix::process::Pid::from_raw(shim).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("the shim is stopped");
    let search = |epoch: i64| {
        let lease = (task.clone(), epoch);
        tokio::task::spawn_blocking(move || kill_leftovers([lease]))
    };
    let of_another = search(6).await.expect("searched");
    assert_eq!(of_another, Leftovers::default(), "not its lease");
    let found = search(7).await.expect("searched");
    assert_eq!((found.killed, found.survivors), (3, 0));
    for pid in tree.into_iter().chain([root, shim]) {
        until_gone(pid).await;
    }
}

#[tokio::test]
async fn orphans_are_reaped_while_the_root_runs() {
    let script = "for n in 1 2 3 4 5 6 7 8; do (sleep 0.01 &) ; done; echo ready; exec sleep 100";
    let world = World::command(&["sh", "-c", script]);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let root = process.pid() as i32;
    let shim = parent_of(root);
    wait_until("the orphans", || {
        (children_of(shim) == [root]).then_some(())
    })
    .await;
    process.kill().expect("a command");
    assert_eq!(Story::of(&mut process).await.exited, KILLED);
}

#[tokio::test]
async fn the_shim_ignores_signals_that_a_terminal_sends() {
    let world = World::probe(&["hang"]);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let shim =
        rustix::process::Pid::from_raw(parent_of(process.pid() as i32)).expect("a process id");
    use rustix::process::Signal as Raw;
    for signal in [Raw::INT, Raw::HUP, Raw::TERM, Raw::QUIT, Raw::PIPE] {
        rustix::process::kill_process(shim, signal).expect("it is signalled");
    }
    process.terminate(Signal::Term, LONG).expect("a command");
    assert_eq!(Story::of(&mut process).await.exited, TERMED);
}

/// All children, zombies too.
fn children_of(parent: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| {
        entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
    });
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        fields.split_ascii_whitespace().nth(1) == Some(parent.to_string().as_str())
    };
    pids.filter(is_child).collect()
}
