//! How fast Taskyard is, each figure beside a baseline of the same run on the same machine.
//!
//! `make bench` builds with optimisation and runs all, in some minutes; `make bench ARGS="run latency"` runs some, and
//! `ARGS=--markdown` prints the table of docs/operations.md. The Postgres is a durable one: every commit is on disk before
//! it is acknowledged, for the baseline too. All of it is on one machine: servers, worker, Postgres and clients share it.

mod baseline;
mod create;
mod figures;
mod latency;
mod machine;
mod memory;
mod output;
mod run;
mod start;
mod storage;

use anyhow::{Context, bail};
use figures::Row;
use taskyard_postgres::{Binaries, Cluster, ClusterConfig, Tuning};
use taskyard_tests::{
    database::Database,
    deployment::{Deployment, WorkerPlan},
};

const NAMES: [&str; 7] = [
    "create", "run", "latency", "start", "output", "storage", "memory",
];
const MARKDOWN: &str = "--markdown";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    let all = wanted.len();
    wanted.retain(|word| word != MARKDOWN);
    let is_markdown = wanted.len() < all;
    if let Some(unknown) = wanted.iter().find(|name| !NAMES.contains(&name.as_str())) {
        bail!(
            "there is no benchmark {unknown}; there are {}, and {MARKDOWN} for a table",
            NAMES.join(", ")
        );
    }
    if wanted.is_empty() {
        wanted = NAMES.map(str::to_owned).to_vec();
    }
    let folder = tempfile::Builder::new()
        .permissions(open_to_postgres())
        .tempdir()
        .context("no folder for Postgres")?;
    let cluster = Cluster::start(ClusterConfig {
        data_dir: folder.path().join("postgres"),
        binaries: Binaries::find(None)?,
        tuning: Tuning::Durable,
    })
    .await?;
    cluster.create_database("taskyard").await?;
    let url = cluster.url("taskyard");
    let measured = measure(&wanted, &url).await;
    let postgres = machine::postgres_version(&url).await;
    cluster.stop().await?;
    let measured = measured?;
    if is_markdown {
        figures::print_markdown(&measured, &machine::words(&postgres?));
    } else {
        figures::print(&measured);
    }
    Ok(())
}

async fn measure(wanted: &[String], url: &str) -> anyhow::Result<Vec<Row>> {
    let worker = WorkerPlan::new("bench").flags(&["--slots=32", "--queues=default"]);
    let deployment = Deployment::builder()
        .database(Database::foreign(url))
        // all that is measured comes from one address
        .server_flags(&["--call-rate=off"])
        .workers(vec![worker])
        .start()
        .await;
    let mut rows = Vec::new();
    for name in wanted {
        eprintln!("measuring {name}");
        match name.as_str() {
            "create" => rows.push(create::measure(&deployment, url).await?),
            "run" => rows.push(run::measure(&deployment).await?),
            "latency" => rows.push(latency::measure(&deployment).await?),
            "start" => rows.push(start::measure(&deployment, url).await?),
            "storage" => rows.extend(storage::measure(&deployment, url).await?),
            "memory" => rows.extend(memory::measure(url).await?),
            _ => rows.push(output::measure(&deployment).await?),
        }
    }
    deployment.remove().await;
    Ok(rows)
}

/// Root's Postgres runs as another user, who must be able to pass through.
fn open_to_postgres() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o711)
}
