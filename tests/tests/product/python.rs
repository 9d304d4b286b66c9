//! The examples in Python: nothing but grpcio, and stubs generated from `proto/`.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use taskyard_proto::v1::TaskState;
use taskyard_tests::binaries::repository;
use taskyard_tests::client::{command, new_session, with_command};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::skip::skipped;
use taskyard_tests::wait::{SOON, within};
use tokio::process::Command;

/// For the packages to be fetched and installed; they are kept for the next time.
const INSTALL_LIMIT: Duration = Duration::from_secs(180);

#[tokio::test]
async fn the_example_submits_follows_and_reads_the_result() {
    let example = repository().join("examples/python");
    let Some(python) = environment(&example.join("requirements.txt")).await else {
        return;
    };
    let deployment = Deployment::shared().await;
    let stubs = generate_stubs(&python, deployment).await;
    for (script, code, word) in [
        (
            "echo one; echo two >&2; printf '{\"n\": 2}' >$TASKYARD_RESULT",
            0,
            "'n': 2",
        ),
        ("echo one; exit 5", 5, "one"),
    ] {
        let mut example_run = Command::new(&python);
        example_run
            .arg(example.join("run_task.py"))
            .args([
                "--endpoint",
                &deployment.endpoint(),
                "--session",
                &new_session("python"),
            ])
            .args(["--", "sh", "-c", script])
            .env("PYTHONPATH", &stubs)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let ran = run(example_run, SOON * 2).await;
        assert_eq!(ran.status.code(), Some(code), "{ran:?}");
        let stdout = String::from_utf8_lossy(&ran.stdout);
        assert!(stdout.starts_with("one\n"), "{stdout}");
        assert!(stdout.contains(word), "{stdout}");
    }
}

#[tokio::test]
async fn the_example_speaks_for_the_task_that_it_runs_in() {
    let example = repository().join("examples/python");
    let Some(python) = environment(&example.join("requirements.txt")).await else {
        return;
    };
    let deployment = Deployment::shared().await;
    let stubs = generate_stubs(&python, deployment).await;
    let (python, script) = (
        python.display().to_string(),
        example.join("inside_task.py").display().to_string(),
    );
    let task = with_command(command(&[&python, &script]), |command| {
        for (name, value) in [
            ("PYTHONPATH", stubs.display().to_string()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ] {
            command.env.insert(name.to_owned(), value);
        }
    });
    let session = new_session("python");
    let ended = deployment.client().await.run(&session, task).await;
    let logs = deployment.command_line().run(&["logs", &ended.id]).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{logs:?}");
    assert_eq!(
        logs.text(),
        format!("t1 of {session}\nthe child ended with 3\n")
    );
    let progress = ended.progress.expect("it reported progress");
    assert_eq!(progress.label, "waiting for a child");
}

/// The stubs of the protocol, in a folder of their own.
async fn generate_stubs(python: &Path, deployment: &Deployment) -> PathBuf {
    let stubs = deployment.folder().join(new_session("stubs"));
    fs::create_dir(&stubs).expect("a folder");
    let proto = repository().join("proto");
    let mut generate = Command::new(python);
    generate.args(["-m", "grpc_tools.protoc", "-I"]).arg(&proto);
    for option in ["--python_out", "--grpc_python_out"] {
        generate.arg(format!("{option}={}", stubs.display()));
    }
    let sources = fs::read_dir(proto.join("taskyard/v1")).expect("the protocol");
    generate.args(sources.flatten().map(|entry| entry.path()));
    let generated = run(generate, SOON).await;
    assert!(generated.status.success(), "{generated:?}");
    stubs
}

/// The interpreter of an environment with the packages of the example, made where there is none yet.
async fn environment(requirements: &Path) -> Option<PathBuf> {
    let mut hasher = DefaultHasher::new();
    fs::read(requirements)
        .expect("the requirements")
        .hash(&mut hasher);
    let folder =
        taskyard_postgres::default_cache_dir().join(format!("python-{:016x}", hasher.finish()));
    let python = folder.join("bin/python");
    let mut check = Command::new(&python);
    check.args(["-c", "import grpc, grpc_tools"]);
    if run(check, SOON).await.status.success() {
        return Some(python);
    }
    let _ = fs::create_dir_all(folder.parent()?);
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    let mut install = Command::new(&python);
    install
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary=:all:",
            "-r",
        ])
        .arg(requirements);
    for command in [make, install] {
        let done = run(command, INSTALL_LIMIT).await;
        if !done.status.success() {
            let why = String::from_utf8_lossy(&done.stderr);
            skipped(&format!(
                "python3 with venv and pip is needed: {}",
                why.trim()
            ));
            return None;
        }
    }
    Some(python)
}

/// A program that cannot be started is one that failed.
async fn run(mut command: Command, limit: Duration) -> Output {
    command.kill_on_drop(true);
    let what = format!("{command:?} to end");
    within(&what, limit, command.output())
        .await
        .unwrap_or_else(|error| Output {
            status: std::os::unix::process::ExitStatusExt::from_raw(127 << 8),
            stdout: Vec::new(),
            stderr: error.to_string().into_bytes(),
        })
}
