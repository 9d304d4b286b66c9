//! Starting processes: what they get, and why they may not start.

mod process_support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use process_support::{Story, TESTBED, World, next_event, until_ready};
use taskyard_worker::process::{
    Capture, ExitStatus, Process, ProcessEvent, StartError, Stdin, signal_name,
};

#[tokio::test]
async fn exit_codes_arrive_as_they_are() {
    for code in [0, 1, 3, 124, 127, 255] {
        let story = World::probe(&["exit", &code.to_string()]).run().await;
        assert_eq!(story.exited, Some(ExitStatus::Code(code)));
        assert_eq!(story.end.exit, Some(ExitStatus::Code(code)));
        assert_eq!(
            (
                story.end.leftover_killed,
                story.end.unkillable,
                story.end.deadline_exceeded
            ),
            (0, 0, false)
        );
    }
}

#[tokio::test]
async fn signals_arrive_with_number_and_name() {
    for signal in [
        libc::SIGABRT,
        libc::SIGSEGV,
        libc::SIGKILL,
        libc::SIGTERM,
        libc::SIGUSR1,
    ] {
        let story = World::probe(&["raise", &signal.to_string()]).run().await;
        let status = story.exited.expect("an exit");
        assert_eq!(status, ExitStatus::Signal(signal));
        assert_eq!(status.signal_name(), Some(signal_name(signal)));
        assert_eq!(status.exit_code(), None);
    }
}

#[tokio::test]
async fn started_comes_first_and_names_a_session_leader() {
    let world = World::probe(&["hang"]);
    let mut process = world.spawn().await;
    let pid = process.pid();
    assert_eq!(
        next_event(&mut process).await.expect("an event"),
        ProcessEvent::Started { pid }
    );
    let pid = rustix::process::Pid::from_raw(pid as i32);
    assert_eq!(rustix::process::getsid(pid).ok(), pid);
    assert_eq!(rustix::process::getpgid(pid).ok(), pid);
}

#[tokio::test]
async fn nothing_is_inherited_but_what_is_asked_for() {
    let mut world = World::probe(&["env"]);
    world.launch.env = vec![
        ("B".to_owned(), "two words".to_owned()),
        ("A".to_owned(), String::new()),
    ];
    world.run().await;
    assert_eq!(world.stdout_text(), "B=two words\nA=\n");
}

#[tokio::test]
async fn no_descriptor_leaks_into_the_child() {
    let stray = std::fs::File::open("/dev/null").expect("a file");
    // A careless library in the worker: a descriptor that stays open across exec.
    rustix::io::fcntl_setfd(&stray, rustix::io::FdFlags::empty()).expect("the flag is cleared");
    let world = World::probe(&["fds"]);
    world.run().await;
    assert_eq!(world.stdout_text(), "0\n1\n2\n");
}

#[tokio::test]
async fn signals_are_neither_blocked_nor_ignored_in_the_child() {
    // The runtime of the probe itself ignores SIGPIPE, so a plain program is asked.
    let world = World::command(&["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]);
    world.run().await;
    assert_eq!(
        world.stdout_text(),
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
    );
}

#[tokio::test]
async fn directory_mask_and_input_are_as_launched() {
    let mut world = World::probe(&["cwd"]);
    world.launch.cwd = PathBuf::from("/");
    world.run().await;
    assert_eq!(world.stdout_text(), "/\n");

    let mut world = World::probe(&["umask"]);
    world.launch.umask = Some(0o027);
    world.run().await;
    assert_eq!(world.stdout_text(), "027\n");

    let mut world = World::probe(&["stdin-echo"]);
    std::fs::write(world.path("input"), "from a file").expect("the input is written");
    world.launch.stdin = Stdin::File(world.path("input"));
    world.run().await;
    assert_eq!(world.stdout_text(), "from a file");

    let world = World::probe(&["stdin-echo"]);
    let story = world.run().await;
    assert_eq!(story.end.stdout.total, 0, "no input is end of file at once");
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
}

#[tokio::test]
async fn programs_are_found_by_the_path_of_the_task() {
    let mut world = World::command(&["tool"]);
    let directory = world.path("bin");
    std::fs::create_dir(&directory).expect("a directory");
    std::fs::write(directory.join("tool"), "#!/bin/sh\necho found\n").expect("a script");
    std::fs::set_permissions(directory.join("tool"), PermissionsExt::from_mode(0o755))
        .expect("a mode");
    assert!(
        matches!(world.try_spawn().await, Err(StartError::ProgramNotFound { program }) if program == "tool")
    );
    world.launch.env = vec![(
        "PATH".to_owned(),
        format!("/nowhere:{}:/bin", directory.display()),
    )];
    let story = world.run().await;
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
    assert_eq!(world.stdout_text(), "found\n");
}

#[tokio::test]
async fn each_reason_not_to_start_has_its_own_error() {
    let missing = World::command(&["/no/such/program"])
        .try_spawn()
        .await
        .expect_err("it is missing");
    assert!(
        matches!(missing, StartError::ProgramNotFound { .. }),
        "{missing:?}"
    );
    assert!(missing.fault_of_the_work().is_some());

    let mut world = World::command(&[]);
    for (name, mode, content) in [
        ("locked", 0o644, "#!/bin/sh\n"),
        ("no-shebang", 0o755, "echo hello\n"),
        ("lost-interpreter", 0o755, "#!/no/such/interpreter\n"),
    ] {
        std::fs::write(world.path(name), content).expect("a file");
        std::fs::set_permissions(world.path(name), PermissionsExt::from_mode(mode))
            .expect("a mode");
    }
    world.launch.argv = vec![world.argument("locked")];
    let locked = world.try_spawn().await.expect_err("it may not be executed");
    assert!(
        matches!(locked, StartError::ProgramNotExecutable { .. }),
        "{locked:?}"
    );
    world.launch.argv = vec![world.argument("no-shebang")];
    let formless = world.try_spawn().await.expect_err("it has no format");
    assert!(
        matches!(formless, StartError::NotAnExecutableFormat { .. }),
        "{formless:?}"
    );
    world.launch.argv = vec![world.argument("lost-interpreter")];
    let lost = world
        .try_spawn()
        .await
        .expect_err("its interpreter is missing");
    assert!(
        matches!(lost, StartError::InterpreterNotFound { .. }),
        "{lost:?}"
    );

    let mut world = World::probe(&["exit", "0"]);
    world.launch.cwd = world.path("missing");
    let homeless = world
        .try_spawn()
        .await
        .expect_err("the directory is missing");
    assert!(
        matches!(&homeless, StartError::WorkingDirectory { source, .. }
        if source.kind() == std::io::ErrorKind::NotFound),
        "{homeless:?}"
    );
    world.launch.cwd = PathBuf::from("/dev/null");
    let homeless = world.try_spawn().await.expect_err("it is no directory");
    assert!(
        matches!(&homeless, StartError::WorkingDirectory { source, .. }
        if source.kind() == std::io::ErrorKind::NotADirectory),
        "{homeless:?}"
    );

    let mut world = World::probe(&["exit", "0"]);
    world.launch.stdin = Stdin::File(world.path("missing"));
    let speechless = world.try_spawn().await.expect_err("the input is missing");
    assert!(
        matches!(speechless, StartError::StdinFile { .. }),
        "{speechless:?}"
    );
    world.launch.stdin = Stdin::File(PathBuf::from("/"));
    let speechless = world
        .try_spawn()
        .await
        .expect_err("the input is a directory");
    assert!(
        matches!(&speechless, StartError::StdinFile { source, .. }
        if source.kind() == std::io::ErrorKind::IsADirectory),
        "{speechless:?}"
    );

    let mut world = World::probe(&["exit", "0"]);
    world.push_arguments(&[&"x".repeat(200 * 1024)]);
    let wordy = world
        .try_spawn()
        .await
        .expect_err("one argument is too long");
    assert!(matches!(wordy, StartError::ArgumentsTooLong), "{wordy:?}");
    world.push_arguments(&[&"x".repeat(9 * 1024 * 1024)]);
    let wordier = world
        .try_spawn()
        .await
        .expect_err("the launch is too large");
    assert!(
        matches!(wordier, StartError::LaunchTooLarge { .. }),
        "{wordier:?}"
    );

    let mut world = World::probe(&["exit", "0"]);
    world.launch.stderr.path = PathBuf::from("/no/such/directory/spool");
    let spoolless = world
        .try_spawn()
        .await
        .expect_err("the spool cannot be made");
    assert!(
        matches!(&spoolless, StartError::Spool { path, .. } if *path == world.launch.stderr.path)
    );
    assert!(spoolless.fault_of_the_work().is_none());

    let shimless =
        Process::spawn(Path::new("/no/such/shim"), &World::probe(&["hang"]).launch).await;
    assert!(matches!(shimless, Err(StartError::Shim { .. })));
    let mute = Process::spawn(Path::new("/bin/true"), &World::probe(&["hang"]).launch).await;
    assert!(matches!(mute, Err(StartError::ShimGone)));
}

#[tokio::test]
async fn what_no_program_could_get_is_refused_before_anything_is_started() {
    let nul = "a\0b".to_owned();
    let refused = |world: World| async move { world.try_spawn().await.expect_err("it is refused") };

    assert!(matches!(
        refused(World::command(&[])).await,
        StartError::EmptyProgram
    ));
    assert!(matches!(
        refused(World::command(&[""])).await,
        StartError::EmptyProgram
    ));
    assert!(matches!(
        refused(World::command(&["x", "a\0b"])).await,
        StartError::NulByte { field: "argv" }
    ));
    let mut world = World::probe(&["env"]);
    world.launch.env.push(("A".to_owned(), nul.clone()));
    assert!(matches!(
        refused(world).await,
        StartError::NulByte { field: "env" }
    ));
    let mut world = World::probe(&["env"]);
    world.launch.env.push(("A=B".to_owned(), String::new()));
    assert!(matches!(
        refused(world).await,
        StartError::BadEnvName { .. }
    ));
    let mut world = World::probe(&["env"]);
    world.launch.cwd = PathBuf::from(&nul);
    assert!(matches!(
        refused(world).await,
        StartError::NulByte { field: "cwd" }
    ));
    let mut world = World::probe(&["env"]);
    world.launch.stdin = Stdin::File(PathBuf::from(&nul));
    assert!(matches!(
        refused(world).await,
        StartError::NulByte { field: "stdin" }
    ));
}

#[tokio::test]
async fn secrets_are_on_no_command_line_and_in_no_environment_of_the_shim() {
    let mut world = World::probe(&["hang"]);
    world
        .launch
        .env
        .push(("SECRET".to_owned(), "hush".to_owned()));
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let shim = process_support::parent_of(process.pid() as i32);
    let command_line = std::fs::read(format!("/proc/{shim}/cmdline")).expect("the shim runs");
    assert_eq!(command_line, format!("{TESTBED}\0__shim\0").as_bytes());
    let environment = std::fs::read(format!("/proc/{shim}/environ")).unwrap_or_default();
    assert!(
        environment.is_empty() || environment == b"MIMALLOC_ARENA_EAGER_COMMIT=0\0",
        "only a word to the allocator, where it can be read at all: {}",
        String::from_utf8_lossy(&environment)
    );
}

#[tokio::test]
async fn use_of_processor_and_memory_is_told() {
    let story = World::probe(&["burn", "150"]).run().await;
    assert!(story.end.cpu_ms >= 20, "{:?}", story.end);
    assert!(story.end.max_rss_bytes >= 500_000, "{:?}", story.end);
}

#[tokio::test]
async fn many_quick_processes_leave_no_zombie() {
    for n in 0..200 {
        let world = World::command(&["true"]);
        let mut process = world.spawn().await;
        let story = Story::of(&mut process).await;
        assert_eq!(story.exited, Some(ExitStatus::Code(0)), "process {n}");
        assert_eq!(story.end.stdout.capture, Capture::Drained);
    }
    let own = std::process::id() as i32;
    let zombies = || {
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok())
        });
        pids.filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            let mut fields = fields.split_ascii_whitespace();
            fields.next() == Some("Z") && fields.next() == Some(own.to_string().as_str())
        })
        .count()
    };
    // Shims of other tests in this program may be ending just now.
    process_support::wait_until("the last zombie", || (zombies() == 0).then_some(())).await;
}
