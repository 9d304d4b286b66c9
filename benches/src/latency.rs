//! One task after the other on an idle machine.

use crate::{
    baseline,
    figures::{Figure, Row},
};
use anyhow::ensure;
use std::time::Instant;
use taskyard_proto::v1::CreateTaskRequest;
use taskyard_tests::{
    client::{Client, command, milliseconds, new_session},
    deployment::Deployment,
};

const TASKS: usize = 300;

/// The time of one task from create to end, against that of a bare process.
pub async fn measure(deployment: &Deployment) -> anyhow::Result<Row> {
    let mut bare = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        let begun = Instant::now();
        baseline::spawn_true()?;
        bare.push(begun.elapsed());
    }
    let mut client = Client::connect(&deployment.endpoint()).await;
    let session = new_session("latency");
    let mut whole = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        let begun = Instant::now();
        run_one(&mut client, &session).await?;
        whole.push(begun.elapsed());
    }
    Ok(Row {
        what: "`true` as a task, created to ended, one at a time",
        ours: Figure::took(whole),
        baseline_is: "`true` started and awaited",
        baseline: Figure::took(bare),
    })
}

/// Runs `true` as a task to its end, with one call.
///
/// # Errors
/// When the call fails or the task does not end within 30 seconds.
pub async fn run_one(client: &mut Client, session: &str) -> anyhow::Result<()> {
    let request = CreateTaskRequest {
        session_id: session.to_owned(),
        task: Some(command(&["true"])),
        wait: Some(milliseconds(30_000)),
        ..CreateTaskRequest::default()
    };
    let task = client.tasks.create_task(request).await?.into_inner().task;
    let is_ended = task.is_some_and(|task| task.finished_at.is_some());
    ensure!(is_ended, "a task did not end within 30 s");
    Ok(())
}
