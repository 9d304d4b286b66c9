//! What the figures were measured with.

use anyhow::Context;
use sqlx::{Connection, PgConnection};
use std::fs;

/// The version of the Postgres behind `url`.
pub async fn postgres_version(url: &str) -> anyhow::Result<String> {
    let mut connection = PgConnection::connect(url).await?;
    let version = sqlx::query_scalar("show server_version").fetch_one(&mut connection);
    version.await.context("Postgres does not say its version")
}

/// Program, Postgres and machine in one sentence.
pub fn words(postgres_version: &str) -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let postgres = postgres_version
        .split_whitespace()
        .next()
        .unwrap_or_default();
    format!(
        "Taskyard {}, Postgres {postgres}, and clients together on one machine: {processors} × {}, {:.0} GiB of memory, Linux {}.",
        env!("CARGO_PKG_VERSION"),
        processor_model().unwrap_or_else(|| "unknown processor".to_owned()),
        memory_gibibytes().unwrap_or(0.0),
        kernel().unwrap_or_else(|| "unknown".to_owned()),
    )
}

fn processor_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_gibibytes() -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: f64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes / 1_048_576.0)
}

fn kernel() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(text.trim().to_owned())
}
