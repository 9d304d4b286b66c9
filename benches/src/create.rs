//! Tasks that are stored, by many clients at once, where no worker takes them.

use crate::{
    baseline,
    figures::{Figure, Row},
};
use std::time::{Duration, Instant};
use taskyard_proto::v1::TaskDefinition;
use taskyard_tests::{
    client::{Client, command, new_session},
    deployment::Deployment,
};

const CLIENTS: usize = 64;
const TIME: Duration = Duration::from_secs(8);

/// Creates against single inserts.
pub async fn measure(deployment: &Deployment, url: &str) -> anyhow::Result<Row> {
    let inserted = baseline::inserts(url, CLIENTS, TIME).await?;
    let ends_at = Instant::now() + TIME;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = Client::connect(&deployment.endpoint()).await;
        let session = new_session(&format!("create-{number}"));
        clients.push(tokio::spawn(async move {
            let mut created = 0;
            while Instant::now() < ends_at {
                let task = TaskDefinition {
                    queue: "nobody".to_owned(),
                    ..command(&["true"])
                };
                client.create(&session, task).await;
                created += 1;
            }
            created
        }));
    }
    let mut created = 0;
    for client in clients {
        created += client.await?;
    }
    Ok(Row {
        what: "tasks created by 64 clients",
        ours: Figure::rate(created, TIME),
        baseline_is: "64 clients inserting one row each into the same Postgres",
        baseline: Figure::rate(inserted, TIME),
    })
}
