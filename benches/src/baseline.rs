//! What the machine does without Taskyard.

use anyhow::Context;
use sqlx::{Connection, PgConnection};
use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Rows that clients store, each in a transaction of its own, as a queue without group commit does.
pub async fn inserts(url: &str, clients: usize, time: Duration) -> anyhow::Result<usize> {
    let mut owner = PgConnection::connect(url).await?;
    sqlx::raw_sql(
        "create table if not exists bench_row (id uuid primary key, body bytea not null)",
    )
    .execute(&mut owner)
    .await?;
    let ends_at = Instant::now() + time;
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let mut connection = PgConnection::connect(url).await?;
        tasks.push(tokio::spawn(async move {
            let mut stored = 0;
            while Instant::now() < ends_at {
                sqlx::query("insert into bench_row values (gen_random_uuid(), $1)")
                    .bind([7_u8; 600].as_slice())
                    .execute(&mut connection)
                    .await?;
                stored += 1;
            }
            Ok::<usize, sqlx::Error>(stored)
        }));
    }
    let mut stored = 0;
    for task in tasks {
        stored += task.await??;
    }
    sqlx::raw_sql("drop table bench_row")
        .execute(&mut owner)
        .await?;
    Ok(stored)
}

/// How long each of some inserts of one row takes, one after the other.
pub async fn insert_times(url: &str, rows: usize) -> anyhow::Result<Vec<Duration>> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql("create table bench_time (id uuid primary key, body bytea not null)")
        .execute(&mut connection)
        .await?;
    let mut times = Vec::with_capacity(rows);
    for _ in 0..rows {
        let begun = Instant::now();
        sqlx::query("insert into bench_time values (gen_random_uuid(), $1)")
            .bind([7_u8; 600].as_slice())
            .execute(&mut connection)
            .await?;
        times.push(begun.elapsed());
    }
    sqlx::raw_sql("drop table bench_time")
        .execute(&mut connection)
        .await?;
    Ok(times)
}

/// Processes that threads start and wait for.
pub fn spawns(threads: usize, time: Duration) -> anyhow::Result<usize> {
    let ends_at = Instant::now() + time;
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        let one = || -> anyhow::Result<()> {
            while Instant::now() < ends_at {
                spawn_true()?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        for thread in running {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(done.into_inner())
}

/// Starts `true` and waits for its end.
pub fn spawn_true() -> anyhow::Result<()> {
    let status = Command::new("true").stdin(Stdio::null()).status();
    status.context("`true` cannot be started")?;
    Ok(())
}
