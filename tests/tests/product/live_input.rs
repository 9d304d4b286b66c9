//! Live standard input: brought by offsets, kept until the process has it, refused when there is none to take it.

use taskyard_proto::v1::{
    ReadOutputRequest, TaskDefinition, TaskState, WriteInputRequest, WriteInputResponse,
};
use taskyard_tests::client::{Client, new_session, probe, shell, with_command};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_bad_field, expect_refused, reason_of};
use taskyard_tests::wait::{SOON, until};
use tonic::{Code, Status};
use tonic_types::StatusExt;

fn live(task: TaskDefinition) -> TaskDefinition {
    with_command(task, |command| command.stdin_live = true)
}

fn input(task: &str, offset: i64, data: &[u8]) -> WriteInputRequest {
    WriteInputRequest {
        task: task.to_owned(),
        offset: Some(offset),
        data: data.to_vec().into(),
        ..WriteInputRequest::default()
    }
}

fn end(task: &str, offset: i64) -> WriteInputRequest {
    WriteInputRequest {
        eof: true,
        ..input(task, offset, b"")
    }
}

async fn write(
    client: &mut Client,
    request: WriteInputRequest,
) -> Result<WriteInputResponse, Status> {
    let answer = client.tasks.write_input(request).await?;
    Ok(answer.into_inner())
}

async fn stdout_of(client: &mut Client, task: &str) -> Vec<u8> {
    let request = ReadOutputRequest {
        task: task.to_owned(),
        stream: 1,
        max_bytes: 1024 * 1024,
        ..ReadOutputRequest::default()
    };
    let answer = client.tasks.read_output(request).await.expect("readable");
    answer.into_inner().data.to_vec()
}

#[tokio::test]
async fn what_is_written_is_read_once_and_in_order_whatever_is_repeated() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("live");
    let task = client.create(&session, live(probe("stdin-echo"))).await;
    // From its creation on, whether it runs yet or not.
    let first = write(&mut client, input(&task.id, 0, b"hello ")).await;
    assert_eq!(first.expect("accepted").accepted, 6);
    for (offset, data) in [(0, &b"hello "[..]), (3, b"lo big "), (10, b"world")] {
        write(&mut client, input(&task.id, offset, data))
            .await
            .expect("accepted");
    }
    let gap = write(&mut client, input(&task.id, 99, b"?")).await;
    let gap = expect_refused("a gap", gap, Code::OutOfRange, "INPUT_GAP");
    let facts = gap.get_details_error_info().map(|info| info.metadata);
    let facts = facts.unwrap_or_default();
    assert_eq!(facts.get("accepted").map(String::as_str), Some("15"));
    let appended = WriteInputRequest {
        offset: None,
        ..input(&task.id, 0, b"!")
    };
    let appended = write(&mut client, appended).await.expect("accepted");
    assert_eq!((appended.accepted, appended.eof), (16, false));
    let ended = write(&mut client, end(&task.id, 16)).await;
    assert!(ended.expect("accepted").eof);
    match write(&mut client, end(&task.id, 16)).await {
        Ok(repeated) => assert_eq!((repeated.accepted, repeated.eof), (16, true)),
        // The process is quick.
        Err(status) => assert_eq!(reason_of(&status), "TERMINAL"),
    }
    let beyond = write(&mut client, input(&task.id, 16, b"more")).await;
    // It may have ended by now, which is another refusal.
    assert_eq!(
        beyond.expect_err("refused").code(),
        Code::FailedPrecondition
    );
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded);
    assert_eq!(stdout_of(&mut client, &task.id).await, b"hello big world!");
    let late = write(&mut client, input(&task.id, 16, b"late")).await;
    expect_refused(
        "input for an ended task",
        late,
        Code::FailedPrecondition,
        "TERMINAL",
    );
}

#[tokio::test]
async fn other_bytes_where_some_were_accepted_are_refused_with_the_offset_to_go_on_from() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("foreign");
    let task = client.create(&session, live(probe("stdin-echo"))).await;
    let mine = write(&mut client, input(&task.id, 0, b"mine\n")).await;
    assert_eq!(mine.expect("accepted").accepted, 5);
    // What the process was given is known still.
    until("the process has it", SOON, async || {
        let asked = write(&mut client.clone(), input(&task.id, 5, b"")).await;
        asked.expect("answered").delivered == 5
    })
    .await;
    for (offset, data) in [
        (0, &b"your\n"[..]),
        (0, b"yours, and more"),
        (3, b"E\n"),
        (4, b"..."),
    ] {
        let foreign = write(&mut client, input(&task.id, offset, data)).await;
        let foreign = expect_refused(
            "foreign bytes",
            foreign,
            Code::AlreadyExists,
            "INPUT_CONFLICT",
        );
        let facts = foreign.get_details_error_info().map(|info| info.metadata);
        let facts = facts.unwrap_or_default();
        assert_eq!(facts.get("accepted").map(String::as_str), Some("5"));
    }
    let repeated = write(&mut client, input(&task.id, 0, b"mine\n")).await;
    assert_eq!(repeated.expect("it is the same").accepted, 5);
    let yours = write(&mut client, input(&task.id, 5, b"yours\n")).await;
    assert_eq!(yours.expect("accepted").accepted, 11);
    write(&mut client, end(&task.id, 11))
        .await
        .expect("accepted");
    client.ended(&task.id).await;
    assert_eq!(stdout_of(&mut client, &task.id).await, b"mine\nyours\n");
}

/// Lines of one writer, with letters and a line end that no other one writes.
fn lines_of(writer: u8, count: u32) -> Vec<u8> {
    let letter = |digit: u8| digit - b'0' + b'A' + writer * 16;
    let line = |n: u32| {
        let digits: Vec<u8> = format!("{n:05}").bytes().map(letter).collect();
        [digits, vec![letter(b'0' + 10)]].concat()
    };
    (0..count).flat_map(line).collect()
}

fn written_by(writer: u8, output: &[u8]) -> Vec<u8> {
    let letters = b'A' + writer * 16..b'A' + (writer + 1) * 16;
    let mine = output.iter().filter(|byte| letters.contains(byte));
    mine.copied().collect()
}

#[tokio::test]
async fn of_three_who_write_at_once_every_byte_arrives() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("three-lines");
    let task = client.create(&session, live(probe("stdin-echo"))).await;
    let line = deployment.command_line();
    let inputs = [0, 1, 2].map(|writer| lines_of(writer, 20_000));
    let arguments = ["input", task.id.as_str()];
    let (first, second, third) = tokio::join!(
        line.run_with_input(&arguments, &inputs[0]),
        line.run_with_input(&arguments, &inputs[1]),
        line.run_with_input(&arguments, &inputs[2]),
    );
    for sent in [first, second, third] {
        sent.expect_code(0);
    }
    write(&mut client, end(&task.id, 360_000))
        .await
        .expect("all was accepted");
    client.ended(&task.id).await;
    let output = stdout_of(&mut client, &task.id).await;
    assert_eq!(output.len(), 360_000);
    for (writer, input) in (0..).zip(&inputs) {
        assert!(written_by(writer, &output) == *input, "writer {writer}");
    }
}

#[tokio::test]
async fn of_three_who_append_at_once_each_write_is_whole() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("three-writes");
    let task = client.create(&session, live(probe("stdin-echo"))).await;
    let (piece_bytes, pieces) = (600, 40);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..3 {
        let (mut client, id) = (client.clone(), task.id.clone());
        writers.spawn(async move {
            for piece in lines_of(writer, 4_000).chunks(piece_bytes) {
                let append = WriteInputRequest {
                    offset: None,
                    ..input(&id, 0, piece)
                };
                write(&mut client, append).await.expect("accepted");
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.expect("written");
    }
    write(&mut client, end(&task.id, 72_000))
        .await
        .expect("all was accepted");
    client.ended(&task.id).await;
    let output = stdout_of(&mut client, &task.id).await;
    let mut left = [0, 1, 2].map(|writer| lines_of(writer, 4_000).into_iter());
    assert_eq!(output.len(), 3 * pieces * piece_bytes);
    for piece in output.chunks(piece_bytes) {
        let writer = (0..3).find(|writer| !written_by(*writer, piece).is_empty());
        let writer = usize::from(writer.expect("somebody wrote it"));
        let expected: Vec<u8> = left[writer].by_ref().take(piece_bytes).collect();
        assert!(piece == expected, "a write of {writer} is in parts");
    }
}

#[tokio::test]
async fn a_process_answers_while_its_input_is_open() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("dialogue");
    let script = "while read -r line; do echo \"got $line\"; done; echo bye";
    let task = client.create(&session, live(shell(script))).await;
    let mut offset = 0;
    let mut expected = String::new();
    for word in ["one", "two", "three"] {
        let line = format!("{word}\n");
        let answer = write(&mut client, input(&task.id, offset, line.as_bytes())).await;
        offset = answer.expect("accepted").accepted;
        expected.push_str(&format!("got {word}\n"));
        until("the answer", SOON, async || {
            stdout_of(&mut client.clone(), &task.id).await == expected.as_bytes()
        })
        .await;
    }
    write(&mut client, end(&task.id, offset))
        .await
        .expect("accepted");
    client.ended(&task.id).await;
    expected.push_str("bye\n");
    assert_eq!(stdout_of(&mut client, &task.id).await, expected.as_bytes());
}

#[tokio::test]
async fn a_process_that_reads_nothing_holds_its_writers_back() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("full");
    let task = client.create(&session, live(probe("hang"))).await;
    let piece = vec![b'x'; 64 * 1024];
    let mut offset = 0;
    // The pipe and what is under way take some; then nothing more is accepted.
    let full = loop {
        match write(&mut client, input(&task.id, offset, &piece)).await {
            Ok(answer) => offset = answer.accepted,
            Err(status) => break status,
        }
        assert!(offset < 4 * 1024 * 1024, "there is no bound");
    };
    let full = expect_refused::<()>("too much", Err(full), Code::ResourceExhausted, "INPUT_FULL");
    assert!(full.get_details_retry_info().is_some(), "{full:?}");
    let repeated = write(&mut client, input(&task.id, offset - 10, &piece[..10])).await;
    assert_eq!(repeated.expect("it was accepted before").accepted, offset);
    let request = taskyard_proto::v1::CancelTaskRequest {
        task: task.id.clone(),
        ..Default::default()
    };
    client.tasks.cancel_task(request).await.expect("canceled");
    assert_eq!(client.ended(&task.id).await.state(), TaskState::Canceled);
}

#[tokio::test]
async fn more_than_fits_at_once_arrives_whole() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("bulk");
    let task = client.create(&session, live(probe("stdin-echo"))).await;
    let bytes: Vec<u8> = (0..600_000u32).map(|n| (n % 251) as u8).collect();
    let mut offset = 0;
    while offset < bytes.len() {
        let piece = &bytes[offset..(offset + 65_536).min(bytes.len())];
        let at = i64::try_from(offset).expect("small");
        let mut accepted = None;
        until("room", SOON, async || {
            match write(&mut client.clone(), input(&task.id, at, piece)).await {
                Ok(answer) => accepted = Some(answer.accepted),
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}"),
            }
            accepted.is_some()
        })
        .await;
        offset = usize::try_from(accepted.unwrap_or_default()).expect("small");
    }
    write(&mut client, end(&task.id, 600_000))
        .await
        .expect("accepted");
    client.ended(&task.id).await;
    assert!(stdout_of(&mut client, &task.id).await == bytes);
}

#[tokio::test]
async fn each_run_has_an_input_of_its_own() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("runs");
    let script = "read -r line; echo \"$line\"; [ \"$TASKYARD_RUN\" = 2 ]";
    let mut task = live(shell(script));
    task.retry = Some(taskyard_proto::v1::RetryPolicy {
        max_runs: 2,
        initial_backoff: Some(taskyard_tests::client::milliseconds(1)),
        ..Default::default()
    });
    let task = client.create(&session, task).await;
    let first = write(&mut client, input(&task.id, 0, b"first\n")).await;
    assert_eq!(first.expect("accepted").run, 1);
    client.reached(&task.id, |task| task.run == 2).await;
    let wrong = WriteInputRequest {
        run: 1,
        ..input(&task.id, 6, b"late\n")
    };
    let wrong = write(&mut client, wrong).await;
    expect_refused("an old run", wrong, Code::FailedPrecondition, "WRONG_RUN");
    let second = write(&mut client, input(&task.id, 0, b"second\n")).await;
    assert_eq!(second.expect("accepted").run, 2);
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded);
    assert_eq!(stdout_of(&mut client, &task.id).await, b"second\n");
}

#[tokio::test]
async fn a_task_without_live_input_takes_none() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("not-live");
    let task = client.create(&session, probe("hang")).await;
    let refused = write(&mut client, input(&task.id, 0, b"x")).await;
    expect_refused(
        "no live input",
        refused,
        Code::FailedPrecondition,
        "INPUT_NOT_LIVE",
    );
    let large = write(&mut client, input(&task.id, 0, &[0; 65_537])).await;
    expect_bad_field(large, "data");
    let negative = write(&mut client, input(&task.id, -1, b"")).await;
    expect_bad_field(negative, "offset");
}

#[tokio::test]
async fn the_command_line_sends_input() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("cli-input");
    let line = deployment.command_line();
    let task = client.create(&session, live(probe("stdin-echo"))).await;
    let sent = line.run_with_input(&["input", &task.id], b"from ").await;
    sent.expect_code(0);
    let sent = line
        .run_with_input(&["input", &task.id, "--eof"], b"the shell")
        .await;
    sent.expect_code(0);
    client.ended(&task.id).await;
    assert_eq!(stdout_of(&mut client, &task.id).await, b"from the shell");
    let late = line.run_with_input(&["input", &task.id], b"late").await;
    late.expect_code(1);
    let echoed = line
        .run_with_input(
            &["run", "-i", "--session", &session, "--", "cat"],
            b"typed\n",
        )
        .await;
    assert_eq!(echoed.expect_code(0).text(), "typed\n");
    let twice = ["run", "-i", "--secret", "TOKEN=-", "--", "cat"];
    let both = line.run_with_input(&twice, b"a value").await;
    let both = both.expect_code(2);
    assert!(both.stderr.contains("standard input"), "{}", both.stderr);
}
