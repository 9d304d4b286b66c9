//! A process that prints as fast as it can.

use crate::figures::{Figure, Row};
use anyhow::{Context, ensure};
use std::{
    io::{Read, copy, sink},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use taskyard_tests::{
    client::{Client, new_session, shell},
    deployment::Deployment,
};

const MIB: u64 = 512;

/// A captured flood against a pipe that is read and forgotten.
pub async fn measure(deployment: &Deployment) -> anyhow::Result<Row> {
    let script = format!("exec head -c {MIB}M /dev/zero");
    let piped = tokio::task::spawn_blocking({
        let script = script.clone();
        move || pipe(&script)
    })
    .await??;
    let mut client = Client::connect(&deployment.endpoint()).await;
    let session = new_session("output");
    let created = client.create(&session, shell(&script)).await;
    let task = client.ended(&created.id).await;
    let (Some(from), Some(to)) = (task.started_at, task.finished_at) else {
        anyhow::bail!("the task never ran");
    };
    let nanos = (to.seconds - from.seconds) * 1_000_000_000 + i64::from(to.nanos - from.nanos);
    let captured = Duration::from_nanos(u64::try_from(nanos).context("time ran backwards")?);
    Ok(Row {
        what: "512 MiB of output captured, started to ended",
        ours: rate(captured),
        baseline_is: "the same, read from a pipe and forgotten",
        baseline: rate(piped),
    })
}

fn pipe(script: &str) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut child = Command::new("sh")
        .args(["-c", script])
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("there is a pipe")?;
    let read = copy(&mut stdout.take(u64::MAX), &mut sink())?;
    child.wait()?;
    ensure!(read == MIB << 20, "{read} bytes came");
    Ok(begun.elapsed())
}

fn rate(time: Duration) -> Figure {
    Figure::MibPerSecond(MIB as f64 / time.as_secs_f64())
}
