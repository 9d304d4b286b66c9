//! What an ended task takes: of Postgres' log, and on its disk for as long as the task is kept.

use crate::{
    figures::{Figure, Row},
    latency,
};
use anyhow::Context;
use sqlx::{Connection, PgConnection};
use taskyard_tests::{
    client::{Client, new_session},
    deployment::Deployment,
};

const CLIENTS: usize = 32;
const TASKS_OF_EACH: usize = 100;

/// Two rows: log and disk of whole tasks, each against rows of 600 bytes with a key.
pub async fn measure(deployment: &Deployment, url: &str) -> anyhow::Result<Vec<Row>> {
    let mut connection = PgConnection::connect(url).await?;
    let n = (CLIENTS * TASKS_OF_EACH) as f64;
    let before = Taken::now(&mut connection).await?;
    insert_rows(&mut connection, CLIENTS * TASKS_OF_EACH).await?;
    let after = Taken::now(&mut connection).await?;
    let plain = after.since(&before);
    sqlx::raw_sql("drop table bench_plain")
        .execute(&mut connection)
        .await?;

    let before = Taken::now(&mut connection).await?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = Client::connect(&deployment.endpoint()).await;
        let session = new_session(&format!("storage-{number}"));
        clients.push(tokio::spawn(async move {
            for _ in 0..TASKS_OF_EACH {
                latency::run_one(&mut client, &session).await?;
            }
            anyhow::Ok(())
        }));
    }
    for client in clients {
        client.await??;
    }
    let tasks = Taken::now(&mut connection).await?.since(&before);
    let row = |what, ours: f64, baseline: f64| Row {
        what,
        ours: Figure::Bytes(ours / n),
        baseline_is: "a row of 600 bytes with a uuid as its key",
        baseline: Figure::Bytes(baseline / n),
    };
    Ok(vec![
        row("log (WAL) of one ended `true`", tasks.log, plain.log),
        row("disk of one ended `true`, kept", tasks.disk, plain.disk),
    ])
}

/// How much was written and is taken, in bytes.
struct Taken {
    log: f64,
    disk: f64,
}

impl Taken {
    /// Behind a checkpoint, so that each measurement begins with the same whole pages to log, and what is free is found.
    async fn now(connection: &mut PgConnection) -> anyhow::Result<Taken> {
        // one by one: together they would be one transaction, in which there is no vacuum
        for statement in ["vacuum", "checkpoint"] {
            sqlx::raw_sql(statement).execute(&mut *connection).await?;
        }
        let (log, disk): (f64, f64) = sqlx::query_as(
            "select (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8, pg_database_size(current_database())::float8",
        )
        .fetch_one(connection)
        .await
        .context("Postgres does not say how much it holds")?;
        Ok(Taken { log, disk })
    }

    fn since(&self, before: &Taken) -> Taken {
        Taken {
            log: self.log - before.log,
            disk: self.disk - before.disk,
        }
    }
}

async fn insert_rows(connection: &mut PgConnection, rows: usize) -> anyhow::Result<()> {
    sqlx::raw_sql("create table bench_plain (id uuid primary key, body bytea not null)")
        .execute(&mut *connection)
        .await?;
    for _ in 0..rows {
        sqlx::query("insert into bench_plain values (gen_random_uuid(), $1)")
            .bind([7_u8; 600].as_slice())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
