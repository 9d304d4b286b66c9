//! The audit log. Entries are added, read, and deleted when they are old; a trigger refuses all else.

use super::{StoreError, times};
use crate::audit::Entry;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use std::time::Duration;
use taskyard_proto::v1::{AuditDecision, AuditEvent};

/// Which entries are meant; what is empty or none means all.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter<'a> {
    /// Namespaces, each whole or, with `%` at its end, a beginning.
    pub reach: Option<&'a [String]>,
    /// This namespace.
    pub namespace: &'a str,
    /// This session.
    pub session_id: &'a str,
    /// This caller.
    pub who: &'a str,
    /// This method: its path, or the end of it.
    pub method: &'a str,
    /// This decision; 0: all.
    pub decision: i16,
    /// From this time on.
    pub since: Option<DateTime<Utc>>,
    /// Until before this time.
    pub until: Option<DateTime<Utc>>,
    /// Before this entry.
    pub before: Option<i64>,
}

/// Adds entries.
///
/// # Errors
/// Any [`StoreError`].
pub async fn insert(db: impl PgExecutor<'_>, entries: &[Entry]) -> Result<(), StoreError> {
    let texts = |of: fn(&Entry) -> &str| -> Vec<String> {
        entries.iter().map(|entry| of(entry).to_owned()).collect()
    };
    sqlx::query!(
        r#"insert into audit_event (who, role, credential, peer, method, namespace, session_id, task, request_id, code, worker, pool, decision, calls)
           select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
             $9::text[], $10::text[], $11::text[], $12::text[], $13::smallint[], $14::int[])"#,
        &texts(|entry| &entry.who),
        &texts(|entry| entry.role),
        &texts(|entry| entry.credential),
        &texts(|entry| &entry.peer),
        &texts(|entry| entry.method),
        &texts(|entry| &entry.namespace),
        &texts(|entry| &entry.session_id),
        &texts(|entry| &entry.task),
        &texts(|entry| &entry.request_id),
        &texts(|entry| &entry.code),
        &texts(|entry| &entry.worker),
        &texts(|entry| &entry.pool),
        &entries.iter().map(|entry| entry.decision as i16).collect::<Vec<_>>(),
        &entries.iter().map(|entry| entry.calls).collect::<Vec<_>>()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Lists entries, newest first, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &AuditFilter<'_>,
    limit: i64,
) -> Result<Vec<AuditEvent>, StoreError> {
    let rows = sqlx::query!(
        r#"select id, at, who, role, credential, peer, method, namespace, session_id, task, request_id, worker, pool, decision, code, calls
           from audit_event
           where ($1::bigint is null or id < $1) and ($2 = '' or namespace = $2) and ($3 = '' or session_id = $3)
             and ($4 = '' or who = $4) and ($5 = '' or method = $5 or right(method, length($5) + 1) = '/' || $5) and ($6 = 0::smallint or decision = $6)
             and ($7::timestamptz is null or at >= $7) and ($8::timestamptz is null or at < $8)
             and ($9::text[] is null or namespace like any($9))
           order by id desc limit $10"#,
        filter.before,
        filter.namespace,
        filter.session_id,
        filter.who,
        filter.method,
        filter.decision,
        filter.since,
        filter.until,
        filter.reach as _,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| AuditEvent {
            id: row.id,
            at: Some(times::to_proto(row.at)),
            who: row.who,
            role: row.role,
            credential: row.credential,
            peer: row.peer,
            method: row.method,
            namespace: row.namespace,
            session_id: row.session_id,
            task: row.task,
            request_id: row.request_id,
            decision: decision(row.decision).into(),
            code: row.code,
            worker: row.worker,
            pool: row.pool,
            calls: row.calls,
        })
        .collect())
}

/// Deletes at most `limit` entries that are older than `age`, of 7 days at least; says how many.
///
/// # Errors
/// Any [`StoreError`].
pub async fn delete_old(
    db: impl PgExecutor<'_>,
    age: Duration,
    limit: i64,
) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "delete from audit_event where id in
           (select id from audit_event where at < clock_timestamp() - make_interval(secs => $1) order by at limit $2)",
        age.as_secs_f64(),
        limit
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

fn decision(stored: i16) -> AuditDecision {
    AuditDecision::try_from(i32::from(stored)).unwrap_or_default()
}
