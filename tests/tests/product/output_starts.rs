//! Where a reader of output begins: at a time, at the last lines; and both streams together, with their times.

use std::time::Duration;

use prost_types::Timestamp;
use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::tail_output_response::Item;
use taskyard_proto::v1::{
    Exit, FinishReport, OutputChunk, OutputPosition, OutputStream, OutputView, ReadOutputRequest,
    ReadOutputResponse, StreamReport, TailOutputRequest, TailOutputResponse, TaskState, Verdict,
    output_record::Record,
};
use taskyard_tests::client::{Client, command, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::hand_worker::push_chunks;
use taskyard_tests::played::Played;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use taskyard_tests::wait::{SOON, within};
use tonic::{Code, Status, Streaming};

const STDOUT: OutputStream = OutputStream::Stdout;
const STDERR: OutputStream = OutputStream::Stderr;
/// The two streams as they were captured: stream, text, second.
const CAPTURED: [(OutputStream, &str, i64); 5] = [
    (STDOUT, "o1\no2\n", 10),
    (STDERR, "e1\n", 20),
    (STDOUT, "o3\no", 30),
    (STDERR, "e2\ne3\n", 40),
    (STDOUT, "4\n", 50),
];

/// A time after an hour that all of this took place in.
fn second(second: i64) -> Timestamp {
    Timestamp {
        seconds: 1_700_000_000 + second,
        nanos: 0,
    }
}

/// A running task whose output the test captures.
async fn captured(client: &mut Client, session: &str) -> Played {
    let played = Played::start(client, session, command(&["work"])).await;
    let mut ends = [0; 2];
    let mut chunks = Vec::new();
    for (order, (stream, text, at)) in (1..).zip(CAPTURED) {
        let end = &mut ends[usize::from(stream == STDERR)];
        chunks.push(chunk(stream, *end, text, at, order));
        *end += text.len() as i64;
    }
    let pushed = push_chunks(client, &played.inside.lease, 1, chunks).await;
    assert_eq!(pushed.verdict(), Verdict::Applied, "{pushed:?}");
    played
}

fn chunk(stream: OutputStream, offset: i64, text: &str, at: i64, order: i64) -> OutputChunk {
    OutputChunk {
        stream: stream.into(),
        offset,
        data: text.as_bytes().to_vec().into(),
        at: Some(second(at)),
        order,
    }
}

/// A good end after so many bytes, whether or not they are stored.
fn finished(stdout: i64, stderr: i64) -> Report {
    let stream = |total_bytes| {
        Some(StreamReport {
            total_bytes,
            ..StreamReport::default()
        })
    };
    Report::Finish(FinishReport {
        exit: Some(Exit {
            exit_code: Some(0),
            ..Exit::default()
        }),
        stdout: stream(stdout),
        stderr: stream(stderr),
        accept_incomplete: true,
        ..FinishReport::default()
    })
}

/// What a tail gave: where the run began, and text and gaps of both streams in their order.
#[derive(Debug, Default, PartialEq)]
struct Tail {
    begun: Vec<(i32, i64)>,
    items: Vec<String>,
    has_ended: bool,
}

impl Tail {
    async fn read(stream: &mut Streaming<TailOutputResponse>, until: usize) -> Tail {
        let mut tail = Tail::default();
        within("the items of a tail", SOON, async {
            while tail.items.len() < until {
                let Some(message) = stream.message().await.expect("no error") else {
                    break;
                };
                match message.item.expect("an item") {
                    Item::RunStarted(started) => {
                        let places = started.positions.into_iter();
                        tail.begun = places.map(|at| (at.stream, at.offset)).collect();
                    }
                    Item::Chunk(chunk) => {
                        let text = String::from_utf8_lossy(&chunk.data).into_owned();
                        tail.items.push(text);
                    }
                    Item::Gap(gap) => {
                        let text = format!("[{} to {}]", gap.from_offset, gap.to_offset);
                        tail.items.push(text);
                    }
                    Item::End(_) => tail.has_ended = true,
                    Item::Keepalive(_) => {}
                }
            }
        })
        .await;
        tail
    }
}

async fn tail(client: &mut Client, request: TailOutputRequest) -> Tail {
    let mut stream = client
        .tasks
        .tail_output(request)
        .await
        .expect("it opens")
        .into_inner();
    Tail::read(&mut stream, usize::MAX).await
}

fn of(task: &str, since: Option<i64>, last_lines: i32) -> TailOutputRequest {
    TailOutputRequest {
        task: task.to_owned(),
        since: since.map(second),
        last_lines,
        ..TailOutputRequest::default()
    }
}

/// Since, last lines; where both streams begin, and what is read.
type Start = (Option<i64>, i32, [i64; 2], Vec<&'static str>);

async fn check(client: &mut Client, task: &str, expected: &[Start]) {
    for (since, last_lines, [out, err], items) in expected {
        let read = tail(client, of(task, *since, *last_lines)).await;
        let what = format!("since {since:?}, {last_lines} lines");
        assert_eq!(read.items, *items, "{what}");
        assert_eq!(read.begun, [(1, *out), (2, *err)], "{what}");
        assert!(read.has_ended, "{what}");
    }
    // One stream by itself, and a place that is further on.
    let stderr = OutputPosition {
        stream: STDERR.into(),
        offset: 6,
    };
    let request = TailOutputRequest {
        positions: vec![stderr],
        ..of(task, Some(20), 2)
    };
    assert_eq!(tail(client, request).await.items, ["e3\n"]);
}

#[tokio::test]
async fn a_tail_begins_at_a_time_or_at_the_last_lines_on_any_server() {
    let deployment = Deployment::builder()
        .servers(2)
        .lease(Duration::from_secs(600))
        .workers(Vec::new())
        .start()
        .await;
    let mut near = deployment.client().await;
    let mut far = Client::connect(&deployment.endpoint_of(1)).await;
    let mut played = captured(&mut near, &new_session("starts")).await;
    let id = played.id().to_owned();
    let expected: [Start; 8] = [
        (Some(30), 0, [6, 3], vec!["o3\no", "e2\ne3\n", "4\n"]),
        (Some(31), 0, [10, 3], vec!["e2\ne3\n", "4\n"]),
        (Some(51), 0, [12, 9], vec![]),
        (None, 3, [9, 3], vec!["o", "e2\ne3\n", "4\n"]),
        (None, 4, [6, 3], vec!["o3\no", "e2\ne3\n", "4\n"]),
        (
            None,
            6,
            [3, 0],
            vec!["o2\n", "e1\n", "o3\no", "e2\ne3\n", "4\n"],
        ),
        (Some(35), 1, [10, 9], vec!["4\n"]),
        (
            Some(0),
            100_000,
            [0, 0],
            CAPTURED.map(|(_, text, _)| text).to_vec(),
        ),
    ];
    for client in [&mut near, &mut far] {
        check(client, &id, &expected).await;
    }
    // Who follows gets all that is stored from then on, whatever its time, and nothing from before.
    let follow = TailOutputRequest {
        follow: true,
        ..of(&id, Some(51), 0)
    };
    let stream = far.tasks.tail_output(follow).await;
    let mut stream = stream.expect("it opens").into_inner();
    // The start is settled once the run has been announced.
    let begun = within("the start", SOON, stream.message()).await;
    let begun = begun.expect("no error").and_then(|message| message.item);
    assert!(matches!(begun, Some(Item::RunStarted(_))), "{begun:?}");
    let more = vec![chunk(STDOUT, 12, "o5\n", 49, 6)];
    let pushed = push_chunks(&mut near, &played.inside.lease, 1, more).await;
    assert_eq!(pushed.verdict(), Verdict::Applied);
    assert_eq!(Tail::read(&mut stream, 1).await.items, ["o5\n"]);
    played.finish_as(finished(15, 9)).await;
    let end = Tail::read(&mut stream, usize::MAX).await;
    assert!(end.has_ended && end.items.is_empty(), "{end:?}");
    assert_eq!(near.ended(&id).await.state(), TaskState::Succeeded);

    let mut played = captured(&mut near, &new_session("starts")).await;
    let ended = played.id().to_owned();
    played.finish_as(finished(12, 9)).await;
    near.ended(&ended).await;
    for client in [&mut near, &mut far] {
        check(client, &ended, &expected).await;
    }
    for (field, request) in [
        ("last_lines", of(&id, None, -1)),
        ("last_lines", of(&id, None, 100_001)),
        ("since", of(&id, Some(i64::MAX - 1_700_000_000), 0)),
    ] {
        expect_bad_field(near.tasks.tail_output(request).await, field);
    }
    deployment.remove().await;
}

#[tokio::test]
async fn the_last_lines_of_much_output_are_found_from_its_end() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("much");
    let task = client.run(&session, shell("seq 1 300000")).await.id;
    let read = tail(&mut client, of(&task, None, 3)).await;
    assert_eq!(read.items.concat(), "299998\n299999\n300000\n");
    // More lines than are kept, with a gap between the first and the last of them.
    let mut capped = shell("seq 1 300000");
    capped.spec.get_or_insert_default().output_limits = Some(taskyard_proto::v1::OutputLimits {
        max_bytes_per_stream: 30_000,
    });
    let task = client.run(&session, capped).await.id;
    let read = tail(&mut client, of(&task, None, 100_000)).await;
    assert!(
        read.items.iter().any(|item| item.starts_with('[')),
        "the gap is told"
    );
    assert!(read.items.concat().starts_with("1\n2\n"));
    let read = tail(&mut client, of(&task, None, 2)).await;
    assert_eq!(read.items.concat(), "299999\n300000\n");
}

/// Stream, offset, text, second of each record.
fn records(answer: &ReadOutputResponse) -> Vec<(OutputStream, i64, String, i64)> {
    let records = answer.records.iter();
    records
        .map(
            |record| match record.record.as_ref().expect("it is something") {
                Record::Chunk(chunk) => {
                    let at = chunk.at.map_or(0, |at| at.seconds - second(0).seconds);
                    let text = String::from_utf8_lossy(&chunk.data).into_owned();
                    (chunk.stream(), chunk.offset, text, at)
                }
                Record::Gap(gap) => (
                    gap.stream(),
                    gap.from_offset,
                    format!("to {}", gap.to_offset),
                    0,
                ),
            },
        )
        .collect()
}

async fn read(
    client: &mut Client,
    request: ReadOutputRequest,
) -> Result<ReadOutputResponse, Status> {
    Ok(client.tasks.read_output(request).await?.into_inner())
}

fn records_of(task: &str) -> ReadOutputRequest {
    ReadOutputRequest {
        task: task.to_owned(),
        view: OutputView::Records.into(),
        ..ReadOutputRequest::default()
    }
}

#[tokio::test]
async fn records_show_both_streams_in_the_order_of_capture_page_after_page() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("records");
    let mut played = captured(&mut client, &session).await;
    let id = played.id().to_owned();
    let whole = read(&mut client, records_of(&id)).await.expect("read");
    let mut offsets = [0; 2];
    let expected = CAPTURED.map(|(stream, text, at)| {
        let offset = &mut offsets[usize::from(stream == STDERR)];
        let begins = *offset;
        *offset += text.len() as i64;
        (stream, begins, text.to_owned(), at)
    });
    assert_eq!(records(&whole), expected);
    assert_eq!(
        (whole.run, whole.total_bytes, whole.end_of_stream),
        (1, 21, false)
    );

    // What comes later is found by the cursor, and where bytes were lost that is told.
    let more = vec![chunk(STDERR, 9, "e4\n", 60, 6)];
    push_chunks(&mut client, &played.inside.lease, 1, more).await;
    played.finish_as(finished(20, 12)).await;
    client.ended(&id).await;
    let next = ReadOutputRequest {
        cursor: whole.cursor.clone(),
        ..records_of(&id)
    };
    let rest = read(&mut client, next).await.expect("read");
    let expected_rest = [
        (STDERR, 9, "e4\n".to_owned(), 60),
        (STDOUT, 12, "to 20".to_owned(), 0),
    ];
    assert_eq!(records(&rest), expected_rest);
    assert!(rest.end_of_stream && rest.total_bytes == 32);

    let mut paged = Vec::new();
    let mut request = ReadOutputRequest {
        max_bytes: 64,
        ..records_of(&id)
    };
    loop {
        let page = read(&mut client, request.clone()).await.expect("read");
        let size: usize = records(&page)
            .iter()
            .map(|(_, _, text, at)| 48 + if *at > 0 { text.len() } else { 0 })
            .sum();
        assert!((1..=64).contains(&size), "{size}");
        paged.extend(records(&page));
        request.cursor = page.cursor;
        if page.end_of_stream {
            break;
        }
    }
    assert_eq!(paged, [&expected[..], &expected_rest[..]].concat());

    let late = ReadOutputRequest {
        since: Some(second(35)),
        last_lines: 2,
        ..records_of(&id)
    };
    let late = records(&read(&mut client, late).await.expect("read"));
    let expected_late = (STDOUT, 10, "4\n".to_owned(), 50);
    assert_eq!(late[0], expected_late, "{late:?}");
    let one = ReadOutputRequest {
        stream: STDOUT.into(),
        ..records_of(&id)
    };
    let one = read(&mut client, one).await.expect("read");
    assert!(records(&one).iter().all(|(stream, ..)| *stream == STDOUT));
    for request in [
        ReadOutputRequest {
            cursor: one.cursor.clone(),
            ..records_of(&id)
        },
        ReadOutputRequest {
            cursor: "nonsense".to_owned(),
            ..records_of(&id)
        },
        ReadOutputRequest {
            cursor: whole.cursor.clone(),
            run: 2,
            ..records_of(&id)
        },
    ] {
        let answer = read(&mut client, request).await;
        expect_refused("a bad cursor", answer, Code::InvalidArgument, "BAD_TOKEN");
    }
    for (field, request) in [
        (
            "max_bytes",
            ReadOutputRequest {
                max_bytes: 63,
                ..records_of(&id)
            },
        ),
        (
            "cursor",
            ReadOutputRequest {
                cursor: whole.cursor,
                last_lines: 1,
                ..records_of(&id)
            },
        ),
        (
            "numbered",
            ReadOutputRequest {
                numbered: true,
                ..records_of(&id)
            },
        ),
        (
            "since",
            ReadOutputRequest {
                view: 0,
                since: Some(second(0)),
                ..records_of(&id)
            },
        ),
    ] {
        expect_bad_field(read(&mut client, request).await, field);
    }
}

#[tokio::test]
async fn views_of_text_look_only_at_what_came_since_a_time() {
    let mut client = Deployment::by_hand().await.client().await;
    let mut played = captured(&mut client, &new_session("since")).await;
    let id = played.id().to_owned();
    played.finish_as(finished(12, 9)).await;
    client.ended(&id).await;
    let request = ReadOutputRequest {
        task: id.clone(),
        view: OutputView::Tail.into(),
        since: Some(second(30)),
        ..ReadOutputRequest::default()
    };
    let shown = read(&mut client, request.clone()).await.expect("shown");
    assert_eq!((shown.text.as_str(), shown.offset), ("o3\no4\n", 6));
    let numbered = ReadOutputRequest {
        view: OutputView::Lines.into(),
        lines: Some(taskyard_proto::v1::OutputLines { first: 2, last: 0 }),
        numbered: true,
        ..request
    };
    let shown = read(&mut client, numbered).await.expect("shown");
    assert_eq!(shown.text, "2:o4\n", "counted from where the view begins");
}
