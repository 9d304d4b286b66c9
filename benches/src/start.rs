//! How long a task waits where nothing is in its way, by the clock of the database.

use crate::{
    baseline,
    figures::{Figure, Row},
};
use anyhow::Context;
use taskyard_tests::{
    client::{Client, command, moment, new_session},
    deployment::Deployment,
};

const TASKS: usize = 200;

/// From the create to the applied start, against one commit.
pub async fn measure(deployment: &Deployment, url: &str) -> anyhow::Result<Row> {
    let commits = baseline::insert_times(url, TASKS).await?;
    let mut client = Client::connect(&deployment.endpoint()).await;
    let session = new_session("start");
    let mut waits = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        let task = client.run(&session, command(&["true"])).await;
        let wait = moment(task.started_at).duration_since(moment(task.created_at));
        waits.push(wait.context("a task started before it was created")?);
    }
    Ok(Row {
        what: "created to started, one at a time",
        ours: Figure::took(waits),
        baseline_is: "one row inserted and committed",
        baseline: Figure::took(commits),
    })
}
