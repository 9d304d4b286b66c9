//! More output than anybody wants to keep.

use std::time::Instant;

use taskyard_proto::v1::tail_output_response::Item;
use taskyard_proto::v1::{
    CancelTaskRequest, OutputPosition, OutputStream, ReadOutputRequest, TailOutputRequest,
    TaskState,
};
use taskyard_tests::client::{Client, new_session, probe};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::pattern;
use taskyard_tests::wait::{SOON, eventually};

const GIBIBYTE: u64 = 1 << 30;
const KEPT: u64 = 16 << 20;
const MEMORY_LIMIT: u64 = 200 << 20;
const CANCEL_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

async fn total(client: &mut Client, task: &str) -> u64 {
    let request = ReadOutputRequest {
        task: task.to_owned(),
        stream: OutputStream::Stdout.into(),
        tail: true,
        max_bytes: 1,
        ..ReadOutputRequest::default()
    };
    let answer = client.tasks.read_output(request).await;
    answer.map_or(0, |answer| answer.into_inner().total_bytes as u64)
}

fn expect_frugal(deployment: &Deployment) {
    let server = deployment.with_server(0, |server| server.peak_memory());
    let worker = deployment.with_worker(0, |worker| worker.peak_memory());
    eprintln!(
        "at most {} MiB in the server, {} MiB in the worker",
        server >> 20,
        worker >> 20
    );
    assert!(server < MEMORY_LIMIT && worker < MEMORY_LIMIT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_passes_through_little_memory_and_is_counted_to_the_byte() {
    let deployment = Deployment::builder().start().await;
    let mut client = deployment.client().await;
    let session = new_session("firehose");
    let bytes = GIBIBYTE + 12_345;
    let started_at = Instant::now();
    let task = probe(&format!("spew --stdout {bytes} --seed 5 --chunk 65521"));
    let id = client.create(&session, task).await.id;
    let task = eventually("the flood to end", SOON * 4, async || {
        let task = client.get(&id).await;
        (task.state() != TaskState::Queued && task.state() != TaskState::Running).then_some(task)
    })
    .await;
    eprintln!("1 GiB in {:?}", started_at.elapsed());
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    let result = client.result(&id).await;
    let stdout = &result["stdout"];
    assert_eq!(
        (
            stdout["total_bytes"].as_u64(),
            stdout["truncated"].as_bool()
        ),
        (Some(bytes), Some(true)),
        "{stdout}"
    );
    let stored = stdout["stored_bytes"].as_u64().unwrap_or_default();
    assert!(stored > 0 && stored <= KEPT + (KEPT / 4), "{stdout}");
    let (head, tail) = read_kept(&mut client, &id, 5).await;
    assert!(
        head.abs_diff(KEPT * 2 / 3) <= 1,
        "two thirds are kept from the head: {head}"
    );
    assert_eq!(
        head + (bytes - tail),
        KEPT,
        "one third is kept from the tail: {tail}"
    );
    expect_frugal(&deployment);
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_stopped_at_once() {
    let deployment = Deployment::builder().start().await;
    let mut client = deployment.client().await;
    let session = new_session("flood");
    let id = client
        .create(&session, probe("spew --stdout 1099511627776 --seed 1"))
        .await
        .id;
    eventually("the flood to rise", SOON, async || {
        (total(&mut client, &id).await > (64 << 20)).then_some(())
    })
    .await;
    let canceled_at = Instant::now();
    let request = CancelTaskRequest {
        task: id.clone(),
        ..CancelTaskRequest::default()
    };
    client
        .tasks
        .cancel_task(request)
        .await
        .expect("it can be canceled");
    let task = client.ended(&id).await;
    let took = canceled_at.elapsed();
    eprintln!("from the cancel to the end of a flooding task: {took:?}");
    assert_eq!(task.state(), TaskState::Canceled, "{task:?}");
    assert!(took < CANCEL_LIMIT, "{took:?}");
    read_kept(&mut client, &id, 1).await;
    expect_frugal(&deployment);
    deployment.remove().await;
}

/// Reads all that is kept and compares it; answers with the end of the head and the begin of the tail.
async fn read_kept(client: &mut Client, id: &str, seed: u64) -> (u64, u64) {
    let request = TailOutputRequest {
        task: id.to_owned(),
        positions: vec![OutputPosition {
            stream: OutputStream::Stdout.into(),
            offset: 0,
        }],
        ..TailOutputRequest::default()
    };
    let mut stream = client
        .tasks
        .tail_output(request)
        .await
        .expect("the output can be read")
        .into_inner();
    let (mut next, mut gap) = (0, None);
    while let Some(response) = stream.message().await.expect("the stream holds") {
        match response.item {
            Some(Item::Chunk(chunk)) => {
                assert_eq!(chunk.offset as u64, next, "what is missing is said");
                assert!(pattern::matches(seed, next, &chunk.data), "at {next}");
                next += chunk.data.len() as u64;
            }
            Some(Item::Gap(missing)) => {
                assert_eq!(
                    (missing.from_offset as u64, gap),
                    (next, None),
                    "there is one gap"
                );
                gap = Some((next, missing.to_offset as u64));
                next = missing.to_offset as u64;
            }
            Some(Item::End(_) | Item::RunStarted(_) | Item::Keepalive(_)) | None => {}
        }
    }
    let known = total(client, id).await;
    assert_eq!(next, known, "it reads to the end");
    gap.expect("a flood leaves a gap")
}
