//! Tasks from create to end, by many clients at once.

use crate::{
    baseline,
    figures::{Figure, Row},
};
use std::time::{Duration, Instant};
use taskyard_tests::{client::Client, client::new_session, deployment::Deployment};

const CLIENTS: usize = 64;
const THREADS: usize = 32;
const TIME: Duration = Duration::from_secs(10);

/// Whole tasks against bare processes.
pub async fn measure(deployment: &Deployment) -> anyhow::Result<Row> {
    let spawned = tokio::task::spawn_blocking(|| baseline::spawns(THREADS, TIME)).await??;
    let ends_at = Instant::now() + TIME;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = Client::connect(&deployment.endpoint()).await;
        let session = new_session(&format!("run-{number}"));
        clients.push(tokio::spawn(async move {
            let mut ended = 0;
            while Instant::now() < ends_at {
                super::latency::run_one(&mut client, &session).await?;
                ended += 1;
            }
            anyhow::Ok(ended)
        }));
    }
    let mut ended = 0;
    for client in clients {
        ended += client.await??;
    }
    Ok(Row {
        what: "`true` as a task, created to ended, 64 clients, 32 slots",
        ours: Figure::rate(ended, TIME),
        baseline_is: "`true` started and awaited by 32 threads",
        baseline: Figure::rate(spawned, TIME),
    })
}
