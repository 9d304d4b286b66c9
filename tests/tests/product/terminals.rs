//! Tasks with a terminal: what they see of it, its size as it changes, and what is refused.

use taskyard_proto::v1::{
    CancelTaskRequest, CloneTaskRequest, Pty, ReadOutputRequest, ResizeTerminalRequest,
    ResizeTerminalResponse, RetryPolicy, TaskDefinition, TaskState, UpdateTaskRequest,
    WriteInputRequest,
};
use taskyard_tests::client::{
    Client, exit_code, exit_signal, milliseconds, new_session, probe, shell, with_command,
};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::pattern;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use taskyard_tests::wait::{SOON, until};
use tonic::{Code, Status};

use crate::isolation_support::{can_restrict, with_isolation};

fn on_terminal(task: TaskDefinition, rows: u32, columns: u32) -> TaskDefinition {
    with_command(task, |command| {
        command.pty = Some(Pty {
            rows: Some(rows),
            columns: Some(columns),
            term: String::new(),
        });
    })
}

fn live(task: TaskDefinition) -> TaskDefinition {
    with_command(task, |command| command.stdin_live = true)
}

async fn resize(
    client: &mut Client,
    task: &str,
    rows: u32,
    columns: u32,
) -> Result<ResizeTerminalResponse, Status> {
    let request = ResizeTerminalRequest {
        task: task.to_owned(),
        rows,
        columns,
        ..ResizeTerminalRequest::default()
    };
    Ok(client.tasks.resize_terminal(request).await?.into_inner())
}

async fn type_keys(client: &mut Client, task: &str, keys: &[u8], is_end: bool) {
    let request = WriteInputRequest {
        task: task.to_owned(),
        data: keys.to_vec().into(),
        eof: is_end,
        ..WriteInputRequest::default()
    };
    client.tasks.write_input(request).await.expect("accepted");
}

/// All that a run has written to one of its streams.
async fn output(client: &mut Client, task: &str, run: i32, stream: i32) -> Vec<u8> {
    let mut output = Vec::new();
    loop {
        let request = ReadOutputRequest {
            task: task.to_owned(),
            run,
            stream,
            offset: output.len() as i64,
            max_bytes: 1024 * 1024,
            ..ReadOutputRequest::default()
        };
        match client.tasks.read_output(request).await {
            Ok(answer) => {
                let data = answer.into_inner().data;
                if data.is_empty() {
                    return output;
                }
                output.extend_from_slice(&data);
            }
            // The run has not begun.
            Err(_) => return output,
        }
    }
}

async fn until_shown(client: &Client, task: &str, run: i32, wanted: &str) {
    until(&format!("{wanted:?}"), SOON, async || {
        let shown = output(&mut client.clone(), task, run, 1).await;
        String::from_utf8_lossy(&shown).contains(wanted)
    })
    .await;
}

#[tokio::test]
async fn a_task_that_asks_for_a_terminal_has_one() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("pty");
    let asked = with_command(probe("terminal"), |command| {
        command.pty = Some(Pty::default());
    });
    let task = client.run(&session, asked).await;
    assert_eq!(task.state(), TaskState::Succeeded);
    let expected = "terminals=[true, true, true]\nin front=true\nopens=true\nsize=24x80\nTERM=xterm-256color\n";
    let shown = output(&mut client, &task.id, 0, 1).await;
    assert_eq!(
        String::from_utf8_lossy(&shown),
        expected.replace('\n', "\r\n")
    );
    assert!(output(&mut client, &task.id, 0, 2).await.is_empty());
    let request = CloneTaskRequest {
        task: task.id.clone(),
        ..CloneTaskRequest::default()
    };
    let cloned = client.tasks.clone_task(request).await.expect("cloned");
    let cloned = cloned.into_inner().task.expect("a task");
    client.ended(&cloned.id).await;
    assert_eq!(output(&mut client, &cloned.id, 0, 1).await, shown);
    let named = with_command(probe("terminal"), |command| {
        command.pty = Some(Pty {
            term: "vt100".to_owned(),
            ..Pty::default()
        });
        command.env.insert("TERM".to_owned(), "dumb".to_owned());
    });
    let named = client.run(&session, named).await;
    let shown = output(&mut client, &named.id, 0, 1).await;
    assert!(String::from_utf8_lossy(&shown).contains("TERM=dumb\r\n"));
}

#[tokio::test]
async fn the_newest_size_counts_before_the_start_during_a_run_and_in_the_next_one() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("pty-size");
    let watcher = on_terminal(probe("terminal --watch"), 10, 20);
    let held = TaskDefinition {
        hold: true,
        retry: Some(RetryPolicy {
            max_runs: 2,
            initial_backoff: Some(milliseconds(1)),
            ..RetryPolicy::default()
        }),
        ..watcher
    };
    let task = client.create(&session, held).await;
    let first = resize(&mut client, &task.id, 11, 21).await.expect("taken");
    assert_eq!((first.run, first.number), (1, 1));
    let second = resize(&mut client, &task.id, 12, 22).await.expect("taken");
    assert_eq!((second.run, second.number), (1, 2));
    let release = UpdateTaskRequest {
        task: task.id.clone(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["hold".to_owned()],
        }),
        ..UpdateTaskRequest::default()
    };
    client.tasks.update_task(release).await.expect("released");
    until_shown(&client, &task.id, 1, "ready").await;
    let shown = output(&mut client, &task.id, 1, 1).await;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(shown.contains("size=12x22\r\n"), "{shown}");
    assert_eq!(shown.matches("size=").count(), 1, "{shown}");
    let third = resize(&mut client, &task.id, 1000, 1).await.expect("taken");
    assert_eq!((third.run, third.number), (1, 3));
    until_shown(&client, &task.id, 1, "size=1000x1\r\n").await;
    let kill = taskyard_proto::v1::SignalTaskRequest {
        task: task.id.clone(),
        signal: "KILL".to_owned(),
        ..Default::default()
    };
    client.tasks.signal_task(kill).await.expect("sent");
    until_shown(&client, &task.id, 2, "size=1000x1\r\n").await;
    until_shown(&client, &task.id, 2, "ready").await;
    let end = taskyard_proto::v1::SignalTaskRequest {
        task: task.id.clone(),
        signal: "TERM".to_owned(),
        ..Default::default()
    };
    client.tasks.signal_task(end).await.expect("sent");
    assert_eq!(client.ended(&task.id).await.state(), TaskState::Succeeded);
}

#[tokio::test]
async fn what_has_no_such_terminal_is_refused() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("pty-refused");
    for (rows, columns, field) in [(0, 80, "rows"), (1001, 80, "rows"), (24, 0, "columns")] {
        let asked = on_terminal(probe("terminal"), rows, columns);
        let refused = client.try_create(&session, asked).await;
        expect_bad_field(refused, &format!("task.spec.command.pty.{field}"));
    }
    let misnamed = with_command(probe("terminal"), |command| {
        command.pty = Some(Pty {
            term: "a/b".to_owned(),
            ..Pty::default()
        });
    });
    let refused = client.try_create(&session, misnamed).await;
    expect_bad_field(refused, "task.spec.command.pty.term");

    let plain = client.create(&session, probe("hang")).await;
    let refused = resize(&mut client, &plain.id, 24, 80).await;
    expect_refused("pipes", refused, Code::FailedPrecondition, "NO_PTY");
    for (rows, columns, field) in [
        (0, 80, "rows"),
        (24, 1001, "columns"),
        (u32::MAX, 1, "rows"),
    ] {
        let refused = resize(&mut client, &plain.id, rows, columns).await;
        expect_bad_field(refused, field);
    }
    let ended = client
        .run(&session, on_terminal(probe("exit 0"), 24, 80))
        .await;
    let refused = resize(&mut client, &ended.id, 24, 80).await;
    expect_refused("an end", refused, Code::FailedPrecondition, "TERMINAL");
    let nobody = "task_00000000000000000000000000000000";
    let refused = resize(&mut client, nobody, 24, 80).await;
    assert_eq!(refused.expect_err("refused").code(), Code::NotFound);
}

#[tokio::test]
async fn input_is_typed_with_its_end_and_its_signals() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("pty-input");
    let task = live(on_terminal(shell("cat; echo over"), 24, 80));
    let task = client.create(&session, task).await;
    type_keys(&mut client, &task.id, b"hello\n", false).await;
    until_shown(&client, &task.id, 1, "hello\r\nhello\r\n").await;
    type_keys(&mut client, &task.id, b"half", true).await;
    let ended = client.ended(&task.id).await;
    assert_eq!(exit_code(&ended), Some(0));
    let shown = output(&mut client, &task.id, 0, 1).await;
    assert_eq!(
        String::from_utf8_lossy(&shown),
        "hello\r\nhello\r\nhalfhalfover\r\n"
    );
    let task = live(on_terminal(probe("hang"), 24, 80));
    let task = client.create(&session, task).await;
    until_shown(&client, &task.id, 1, "ready").await;
    type_keys(&mut client, &task.id, &[3], false).await;
    let ended = client.ended(&task.id).await;
    assert_eq!(exit_signal(&ended), Some(2));
    let task = with_command(on_terminal(shell("cat; echo over"), 24, 80), |command| {
        command.stdin = Some(b"all\n".to_vec().into());
    });
    let task = client.run(&session, task).await;
    let shown = output(&mut client, &task.id, 0, 1).await;
    assert_eq!(String::from_utf8_lossy(&shown), "all\r\nall\r\nover\r\n");
}

#[tokio::test]
async fn ten_megabytes_come_through_whole() {
    const TOTAL: u64 = 10 * 1024 * 1024;
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("pty-bulk");
    let spew = format!("spew --raw --stdout {TOTAL} --seed 5");
    let task = client
        .run(&session, on_terminal(probe(&spew), 24, 80))
        .await;
    assert_eq!(task.state(), TaskState::Succeeded);
    let shown = output(&mut client, &task.id, 0, 1).await;
    assert_eq!(shown.len() as u64, TOTAL);
    assert!(pattern::matches(5, 0, &shown));
}

#[tokio::test]
async fn restricted_tasks_have_a_terminal_too() {
    let mut client = Deployment::shared().await.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let session = new_session("pty-restricted");
    let watcher = with_command(
        live(on_terminal(probe("terminal --watch"), 30, 90)),
        |command| {
            command.nice = Some(1);
        },
    );
    let task = client
        .create(&session, with_isolation(watcher, |_| {}))
        .await;
    until_shown(&client, &task.id, 1, "ready").await;
    let shown = output(&mut client, &task.id, 1, 1).await;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    for line in [
        "terminals=[true, true, true]",
        "in front=true",
        "opens=true",
        "size=30x90",
    ] {
        assert!(shown.contains(&format!("{line}\r\n")), "{shown}");
    }
    resize(&mut client, &task.id, 31, 91).await.expect("taken");
    until_shown(&client, &task.id, 1, "size=31x91").await;
    type_keys(&mut client, &task.id, &[3], false).await;
    assert_eq!(exit_signal(&client.ended(&task.id).await), Some(2));
    let keys = live(on_terminal(probe("keys"), 24, 80));
    let task = client.create(&session, with_isolation(keys, |_| {})).await;
    until_shown(&client, &task.id, 1, "ready").await;
    type_keys(&mut client, &task.id, b"\x1bq", false).await;
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded);
    let shown = output(&mut client, &task.id, 0, 1).await;
    assert_eq!(String::from_utf8_lossy(&shown), "ready\n<27>");
}

#[tokio::test]
async fn task_files_ask_for_terminals_and_get_shows_them() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let line = deployment.command_line();
    let session = new_session("pty-file");
    let probe = taskyard_tests::binaries::probe();
    let folder = tempfile::tempdir().expect("a temporary directory");
    for (field, size) in [
        ("true", "size=24x80"),
        ("{rows: 33, columns: 99, term: vt100}", "size=33x99"),
    ] {
        let file = folder.path().join("task.yaml");
        let text = format!("command: {{argv: [{probe}, terminal], pty: {field}}}\n");
        std::fs::write(&file, text).expect("written");
        let file = file.display().to_string();
        let submit = ["submit", "-f", &file, "--session", &session, "-o", "name"];
        let id = line.run(&submit).await.expect_code(0).text();
        let id = id.trim();
        client.ended(id).await;
        let shown = output(&mut client, id, 0, 1).await;
        assert!(String::from_utf8_lossy(&shown).contains(size), "{field}");
        let shown = line
            .run(&["get", id, "-o", "json", "--full"])
            .await
            .expect_code(0);
        let pty = shown.json()["spec"]["command"]["pty"].clone();
        assert!(pty.is_object(), "{pty}");
        if field != "true" {
            assert_eq!(pty["columns"], 99);
            let shown = line.run(&["get", id]).await.expect_code(0).text();
            assert!(shown.contains("33 rows, 99 columns, vt100"), "{shown}");
        }
    }
    let file = folder.path().join("bad.yaml");
    let text = format!("command: {{argv: [{probe}], pty: {{lines: 3}}}}\n");
    std::fs::write(&file, text).expect("written");
    let file = file.display().to_string();
    let refused = line.run(&["submit", "-f", &file]).await.expect_code(2);
    assert!(refused.stderr.contains("rows"), "{}", refused.stderr);
}

#[tokio::test]
async fn restricted_tasks_do_not_reach_each_others_terminals() {
    let mut client = Deployment::shared().await.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let session = new_session("pty-apart");
    let script = "readlink /proc/self/fd/0; exec sleep 600";
    let open = with_isolation(live(on_terminal(shell(script), 24, 80)), |_| {});
    let other = client.create(&session, open).await;
    until_shown(&client, &other.id, 1, "\n").await;
    let path = output(&mut client, &other.id, 1, 1).await;
    let path = String::from_utf8_lossy(&path).trim().to_owned();
    assert!(path.starts_with("/dev/pts/"), "{path}");
    let curious = with_isolation(probe(&format!("try read={path} write={path}")), |_| {});
    let ended = client.run(&session, curious).await;
    let tried = output(&mut client, &ended.id, 1, 1).await;
    let tried = String::from_utf8_lossy(&tried).into_owned();
    assert_eq!(tried, format!("read={path} EACCES\nwrite={path} EACCES\n"));
    let cancel = CancelTaskRequest {
        task: other.id.clone(),
        ..CancelTaskRequest::default()
    };
    client.tasks.cancel_task(cancel).await.expect("canceled");
}
