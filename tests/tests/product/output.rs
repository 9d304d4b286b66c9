//! Output: exactly the bytes that were written, from any offset, while it is written and after.

use taskyard_proto::v1::tail_output_response::Item;
use taskyard_proto::v1::{
    CancelTaskRequest, OutputLimits, OutputPosition, OutputStream, ReadOutputRequest,
    ReadOutputResponse, ReadRequest, RetryPolicy, TailEnd, TailOutputRequest, TaskDefinition,
    TaskState,
};
use taskyard_tests::client::{Client, milliseconds, new_session, probe, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::pattern;
use taskyard_tests::wait::{SOON, until, within};
use tonic::Status;

const STREAMS: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

#[tokio::test]
async fn a_tail_during_and_after_the_run_gives_the_same_exact_bytes() {
    const STDOUT: u64 = 3_000_000;
    const STDERR: u64 = 1_000_001;
    let mut client = Deployment::shared().await.client().await;
    let words = format!("spew --stdout {STDOUT} --stderr {STDERR} --chunk 10007 --seed 5");
    let task = client.create(&new_session("tail"), probe(&words)).await;
    let live = tail(&mut client, follow(&task.id, &[]))
        .await
        .expect("followed");
    assert_eq!(live.bytes[0].len() as u64, STDOUT);
    assert_eq!(live.bytes[1].len() as u64, STDERR);
    assert!(pattern::matches(5, 0, &live.bytes[0]) && pattern::matches(6, 0, &live.bytes[1]));
    let end = live.end.expect("an end");
    assert_eq!((end.state(), end.run), (TaskState::Succeeded, 1));
    assert_eq!(end.exit.and_then(|exit| exit.exit_code), Some(0));
    for offset in [1, 9_999, 65_536, STDOUT - 1, STDOUT] {
        let positions = [offset, STDERR.min(offset)];
        let part = tail(&mut client, follow(&task.id, &positions))
            .await
            .expect("read");
        assert_eq!(part.bytes[0].len() as u64, STDOUT - offset);
        assert!(pattern::matches(5, offset, &part.bytes[0]));
        assert!(pattern::matches(6, positions[1], &part.bytes[1]));
    }
}

#[tokio::test]
async fn bytes_of_every_kind_come_as_they_are() {
    let mut client = Deployment::shared().await.client().await;
    let task = client.run(&new_session("bytes"), probe("binary")).await;
    let all: Vec<u8> = (0..16).flat_map(|_| 0..=255).collect();
    let whole = tail(&mut client, follow(&task.id, &[]))
        .await
        .expect("read");
    assert_eq!(whole.bytes[0], all);
    let request = ReadRequest {
        session_id: task.session_id.clone(),
        path: format!("/.tasks/{}/stdout.log", task.id),
        offset: 100,
        limit: 300,
        ..ReadRequest::default()
    };
    assert_eq!(
        client.read_file(request).await.expect("read"),
        all[100..400]
    );
    let result = client.result(&task.id).await;
    assert_eq!(result["stdout"]["total_bytes"], 4096);
    assert!(
        result["stdout"]["tail"].is_string(),
        "text, whatever the bytes"
    );
}

#[tokio::test]
async fn the_two_streams_keep_their_order() {
    let mut client = Deployment::shared().await.client().await;
    // What one write follows only after the other was seen cannot be mixed up by anyone.
    let script = "for i in 1 2 3; do echo out $i; sleep 0.1; echo err $i >&2; sleep 0.1; done";
    let task = client.run(&new_session("order"), shell(script)).await;
    let whole = tail(&mut client, follow(&task.id, &[]))
        .await
        .expect("read");
    let expected: Vec<u8> = (1..=3)
        .flat_map(|i| format!("out {i}\nerr {i}\n").into_bytes())
        .collect();
    assert_eq!(
        String::from_utf8_lossy(&whole.mixed),
        String::from_utf8_lossy(&expected)
    );
}

#[tokio::test]
async fn the_first_line_arrives_while_the_work_goes_on() {
    let mut client = Deployment::shared().await.client().await;
    let task = client
        .create(&new_session("live"), shell("printf first; exec sleep 100"))
        .await;
    let mut stream = client
        .tasks
        .tail_output(follow(&task.id, &[]))
        .await
        .expect("open")
        .into_inner();
    within("the first bytes", SOON, async {
        loop {
            let item = stream.message().await.expect("no error").expect("no end");
            if let Some(Item::Chunk(chunk)) = item.item {
                assert_eq!(&chunk.data[..], b"first");
                break;
            }
        }
    })
    .await;
    assert_eq!(client.get(&task.id).await.state(), TaskState::Running);
    cancel(&mut client, &task.id).await;
    let end = within("the end", SOON, async {
        loop {
            let item = stream.message().await.expect("no error").expect("no end");
            if let Some(Item::End(end)) = item.item {
                break end;
            }
        }
    })
    .await;
    assert_eq!(end.state(), TaskState::Canceled);
    assert!(stream.message().await.expect("no error").is_none());
}

#[tokio::test]
async fn a_read_has_a_budget_and_says_where_to_go_on() {
    const TOTAL: u64 = 200_000;
    let mut client = Deployment::shared().await.client().await;
    let task = client
        .run(
            &new_session("read"),
            probe(&format!("spew --stdout {TOTAL}")),
        )
        .await;
    let mut offset = 0;
    loop {
        let part = read(&mut client, &task.id, offset, false, 30_000)
            .await
            .expect("read");
        assert!(part.data.len() <= 30_000 && !part.data.is_empty());
        assert_eq!(
            (part.offset, part.total_bytes, part.run),
            (offset, TOTAL as i64, 1)
        );
        assert!(pattern::matches(0, offset.cast_unsigned(), &part.data));
        assert_eq!(part.next_offset, offset + part.data.len() as i64);
        offset = part.next_offset;
        if part.end_of_stream {
            break;
        }
    }
    assert_eq!(offset, TOTAL as i64);
    let last = read(&mut client, &task.id, 0, true, 1000)
        .await
        .expect("read");
    assert_eq!(
        (last.offset, last.data.len(), last.end_of_stream),
        (199_000, 1000, true)
    );
    assert!(pattern::matches(0, 199_000, &last.data));
    let beyond = read(&mut client, &task.id, 200_001, false, 0).await;
    taskyard_tests::refusal::expect_refused(
        "beyond",
        beyond,
        tonic::Code::OutOfRange,
        "OUT_OF_RANGE",
    );
}

#[tokio::test]
async fn what_is_beyond_the_cap_is_a_gap_between_head_and_tail() {
    const TOTAL: u64 = 1_000_000;
    const CAP: i64 = 90_000;
    let mut client = Deployment::shared().await.client().await;
    let task = client.run(&new_session("cap"), capped(TOTAL, CAP)).await;
    let whole = tail(&mut client, follow(&task.id, &[]))
        .await
        .expect("read");
    assert_eq!(whole.gaps, [(60_000, TOTAL as i64 - 30_000)]);
    assert_eq!(whole.bytes[0].len(), 90_000);
    assert!(pattern::matches(0, 0, &whole.bytes[0][..60_000]));
    assert!(pattern::matches(
        0,
        TOTAL - 30_000,
        &whole.bytes[0][60_000..]
    ));
    let result = client.result(&task.id).await;
    let stdout = &result["stdout"];
    assert_eq!(stdout["total_bytes"], TOTAL);
    assert_eq!(stdout["stored_bytes"], CAP);
    assert_eq!(
        (&stdout["truncated"], &stdout["capture"]),
        (&true.into(), &"drained".into())
    );
    let across = read(&mut client, &task.id, 500_000, false, 100)
        .await
        .expect("read");
    assert_eq!(across.offset, TOTAL as i64 - 30_000);
    assert!(pattern::matches(
        0,
        across.offset.cast_unsigned(),
        &across.data
    ));
    let nothing = client.run(&new_session("cap"), capped(5_000, 0)).await;
    let result = client.result(&nothing.id).await;
    assert_eq!(
        (
            &result["stdout"]["total_bytes"],
            &result["stdout"]["stored_bytes"]
        ),
        (&5_000.into(), &0.into())
    );
}

#[tokio::test]
async fn each_run_has_its_own_output() {
    let mut client = Deployment::shared().await.client().await;
    let task = TaskDefinition {
        retry: Some(RetryPolicy {
            max_runs: 2,
            initial_backoff: Some(milliseconds(10)),
            ..RetryPolicy::default()
        }),
        ..shell("echo run $TASKYARD_ATTEMPT; exit 1")
    };
    let task = client.create(&new_session("runs"), task).await;
    let whole = tail(&mut client, follow(&task.id, &[]))
        .await
        .expect("followed");
    assert_eq!(whole.runs.last(), Some(&2));
    client.ended(&task.id).await;
    for run in [1, 2] {
        let request = TailOutputRequest {
            run,
            ..follow(&task.id, &[])
        };
        let one = tail(&mut client, request).await.expect("read");
        assert_eq!(one.bytes[0], format!("run {run}\n").into_bytes());
        let request = ReadRequest {
            session_id: task.session_id.clone(),
            path: format!("/.tasks/{}/runs/{run}/stdout.log", task.id),
            ..ReadRequest::default()
        };
        let file = client.read_file(request).await.expect("read");
        assert_eq!(file, format!("run {run}\n").into_bytes());
    }
}

#[tokio::test]
async fn output_that_a_daemon_holds_open_does_not_hold_up_the_end() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let file = deployment.folder().join(new_session("holder"));
    let task = probe(&format!("grandchild-holds-stdout {}", file.display()));
    let task = client.run(&new_session("held"), task).await;
    assert_eq!(task.state(), TaskState::Succeeded);
    let result = client.result(&task.id).await;
    assert_eq!(result["stdout"]["tail"], "ready\n");
    assert_eq!(result["stdout"]["capture"], "leaked");
    let pid: u32 = std::fs::read_to_string(&file)
        .ok()
        .and_then(|pid| pid.parse().ok())
        .expect("a pid");
    until("the grandchild to be gone", SOON, async || {
        !taskyard_tests::process::is_alive(pid)
    })
    .await;
}

#[derive(Debug, Default)]
struct Tail {
    bytes: [Vec<u8>; 2],
    mixed: Vec<u8>,
    gaps: Vec<(i64, i64)>,
    runs: Vec<i32>,
    end: Option<TailEnd>,
}

/// Reads a tail to its end and checks that its offsets hold together.
async fn tail(client: &mut Client, request: TailOutputRequest) -> Result<Tail, Status> {
    let mut next = STREAMS.map(|stream| {
        let asked = request
            .positions
            .iter()
            .find(|position| position.stream() == stream);
        asked.map_or(0, |position| position.offset)
    });
    let mut stream = client.tasks.tail_output(request).await?.into_inner();
    let mut tail = Tail::default();
    within("the end of a tail", SOON, async {
        while let Some(message) = stream.message().await? {
            match message.item.expect("an item") {
                Item::RunStarted(started) => {
                    if !tail.runs.is_empty() {
                        next = [0; 2];
                        tail.bytes = Default::default();
                    }
                    tail.runs.push(started.run);
                }
                Item::Chunk(chunk) => {
                    let at = usize::from(chunk.stream() == OutputStream::Stderr);
                    assert_eq!(chunk.offset, next[at], "stream {at}");
                    next[at] += chunk.data.len() as i64;
                    tail.bytes[at].extend_from_slice(&chunk.data);
                    tail.mixed.extend_from_slice(&chunk.data);
                }
                Item::Gap(gap) => {
                    let at = usize::from(gap.stream() == OutputStream::Stderr);
                    assert_eq!(gap.from_offset, next[at], "stream {at}");
                    next[at] = gap.to_offset;
                    tail.gaps.push((gap.from_offset, gap.to_offset));
                }
                Item::End(end) => {
                    for position in &end.positions {
                        let at = usize::from(position.stream() == OutputStream::Stderr);
                        assert_eq!(position.offset, next[at], "stream {at}");
                    }
                    tail.end = Some(end);
                }
                Item::Keepalive(_) => {}
            }
        }
        Ok(tail)
    })
    .await
}

fn follow(task: &str, positions: &[u64]) -> TailOutputRequest {
    let positions = STREAMS
        .iter()
        .zip(positions)
        .map(|(stream, offset)| OutputPosition {
            stream: (*stream).into(),
            offset: offset.cast_signed(),
        });
    TailOutputRequest {
        task: task.to_owned(),
        positions: positions.collect(),
        follow: true,
        ..TailOutputRequest::default()
    }
}

async fn read(
    client: &mut Client,
    task: &str,
    offset: i64,
    tail: bool,
    max_bytes: i32,
) -> Result<ReadOutputResponse, Status> {
    let request = ReadOutputRequest {
        task: task.to_owned(),
        offset,
        tail,
        max_bytes,
        ..ReadOutputRequest::default()
    };
    Ok(client.tasks.read_output(request).await?.into_inner())
}

fn capped(total: u64, cap: i64) -> TaskDefinition {
    let mut task = probe(&format!("spew --stdout {total}"));
    task.spec.get_or_insert_default().output_limits = Some(OutputLimits {
        max_bytes_per_stream: cap,
    });
    task
}

async fn cancel(client: &mut Client, task: &str) {
    let request = CancelTaskRequest {
        task: task.to_owned(),
        ..CancelTaskRequest::default()
    };
    client.tasks.cancel_task(request).await.expect("canceled");
}
