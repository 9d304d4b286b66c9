//! Wakes: written with what made them true, handed out under a lease, removed when they are acknowledged.

use super::{StoreError, records::decode, times};
use chrono::{DateTime, Utc};
use prost::Message as _;
use sqlx::{PgConnection, PgExecutor};
use std::time::Duration;
use taskyard_core::id::{QuestionId, SessionUid, TaskId};
use taskyard_proto::v1::Wake;
use uuid::Uuid;

/// A wake to be stored.
#[derive(Clone, Debug)]
pub struct NewWake {
    /// Number of the namespace.
    pub namespace_id: i32,
    /// Number of the session.
    pub session: SessionUid,
    /// The task.
    pub task: TaskId,
    /// What it says; without id, session and deliveries.
    pub wake: Wake,
    /// The question that it tells of; the wake goes when the question does.
    pub question: Option<QuestionId>,
    /// When it came to be.
    pub at: DateTime<Utc>,
}

/// Whose wakes to hand out.
#[derive(Clone, Debug)]
pub struct WakeQuery<'a> {
    /// Number of the namespace.
    pub namespace_id: i32,
    /// Only of these sessions; none: of all.
    pub sessions: Option<&'a [SessionUid]>,
    /// To whom.
    pub consumer: &'a str,
    /// Most of them.
    pub limit: i64,
    /// For how long.
    pub lease: Duration,
}

/// A group of a session, of which it is asked how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// The session.
    pub session: SessionUid,
    /// The group's name.
    pub group: String,
}

/// How a group stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStanding {
    /// Whether one of its tasks is live.
    pub has_live: bool,
    /// How many of its tasks have failed, at most 1,000.
    pub failed: i64,
    /// Whether one of its newest tasks wants its owner woken when none is left; told only where none is.
    pub is_end_awaited: bool,
}

/// How the tasks of a group have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupEnds {
    /// Well.
    pub succeeded: i64,
    /// Badly.
    pub failed: i64,
    /// By a cancel.
    pub canceled: i64,
}

/// How many tasks of a group are asked whether they await its end, newest first.
const ASKED_MEMBERS: i64 = 256;
/// How many ends of a group are counted, newest first.
const COUNTED_ENDS: i64 = 10_000;

/// Stores wakes.
///
/// # Errors
/// Any [`StoreError`].
pub async fn insert_wakes(db: &mut PgConnection, wakes: &[NewWake]) -> Result<(), StoreError> {
    sqlx::query!(
        r#"insert into wake (namespace_id, session_uid, task_id, body, created_at, question_id)
           select * from unnest($1::int[], $2::bigint[], $3::uuid[], $4::bytea[], $5::timestamptz[], $6::uuid[])"#,
        &wakes.iter().map(|wake| wake.namespace_id).collect::<Vec<_>>(),
        &wakes.iter().map(|wake| wake.session.0).collect::<Vec<_>>(),
        &wakes.iter().map(|wake| Uuid::from_u128(wake.task.0)).collect::<Vec<_>>(),
        &wakes.iter().map(|wake| wake.wake.encode_to_vec()).collect::<Vec<_>>(),
        &wakes.iter().map(|wake| wake.at).collect::<Vec<_>>(),
        &wakes.iter().map(|wake| wake.question.map(|id| Uuid::from_u128(id.0))).collect::<Vec<_>>() as _
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes the wakes for questions that are pending no more, whoever holds them.
///
/// # Errors
/// Any [`StoreError`].
pub async fn withdraw(
    db: &mut PgConnection,
    closed: &[(SessionUid, QuestionId)],
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"delete from wake w using unnest($1::bigint[], $2::uuid[]) c(session_uid, question_id)
           where w.session_uid = c.session_uid and w.question_id = c.question_id"#,
        &closed
            .iter()
            .map(|(session, _)| session.0)
            .collect::<Vec<_>>(),
        &closed
            .iter()
            .map(|(_, id)| Uuid::from_u128(id.0))
            .collect::<Vec<_>>()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Locks sessions in order, so that what is read of their groups next is what every commit before said. Whoever holds
/// these locks takes no others after them.
///
/// # Errors
/// Any [`StoreError`].
pub async fn lock_sessions(
    db: &mut PgConnection,
    sessions: &[SessionUid],
) -> Result<(), StoreError> {
    sqlx::query!(
        "select uid from session where uid = any($1) order by uid for no key update",
        &sessions.iter().map(|session| session.0).collect::<Vec<_>>()
    )
    .fetch_all(db)
    .await?;
    Ok(())
}

/// How groups stand, in the order of `keys`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_groups(
    db: &mut PgConnection,
    keys: &[GroupKey],
) -> Result<Vec<GroupStanding>, StoreError> {
    let rows = sqlx::query!(
        r#"select live.found as "has_live!",
             (select count(*) from (select 1 from task t join task_end e on e.id = t.id
               where t.session_uid = w.session_uid and t.group_name = w.group_name and e.state = 4 limit 1000) failed)
               as "failed!",
             exists (select 1 from (select t.wake_policy, t.group_wake from task t
               where t.session_uid = w.session_uid and t.group_name = w.group_name and not live.found
               order by t.ordinal desc limit $3) m where m.wake_policy <> 1 and m.group_wake <> 1) as "is_end_awaited!"
           from unnest($1::bigint[], $2::text[]) with ordinality w(session_uid, group_name, nr)
             cross join lateral (select exists (select 1 from task_live l
               where l.session_uid = w.session_uid and l.group_name = w.group_name) as found) live
           order by w.nr"#,
        &keys.iter().map(|key| key.session.0).collect::<Vec<_>>(),
        &keys.iter().map(|key| key.group.clone()).collect::<Vec<_>>(),
        ASKED_MEMBERS
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| GroupStanding {
            has_live: row.has_live,
            failed: row.failed,
            is_end_awaited: row.is_end_awaited,
        })
        .collect())
}

/// How the newest tasks of a group have ended.
///
/// # Errors
/// Any [`StoreError`].
pub async fn count_ends(db: &mut PgConnection, key: &GroupKey) -> Result<GroupEnds, StoreError> {
    let row = sqlx::query!(
        r#"select count(*) filter (where m.state = 3) as "succeeded!", count(*) filter (where m.state = 4) as "failed!",
             count(*) filter (where m.state = 5) as "canceled!"
           from (select e.state from task t join task_end e on e.id = t.id
             where t.session_uid = $1 and t.group_name = $2 order by t.ordinal desc limit $3) m"#,
        key.session.0,
        key.group,
        COUNTED_ENDS
    )
    .fetch_one(db)
    .await?;
    Ok(GroupEnds {
        succeeded: row.succeeded,
        failed: row.failed,
        canceled: row.canceled,
    })
}

/// Removes wakes that `consumer` has handled; says how many. One that was handed to somebody else meanwhile stays.
///
/// # Errors
/// Any [`StoreError`].
pub async fn acknowledge(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    consumer: &str,
    ids: &[i64],
    sessions: Option<&[SessionUid]>,
) -> Result<u64, StoreError> {
    let sessions = sessions.map(|uids| uids.iter().map(|uid| uid.0).collect::<Vec<_>>());
    let done = sqlx::query!(
        "delete from wake where namespace_id = $1 and id = any($2) and consumer = $3
           and ($4::bigint[] is null or session_uid = any($4))",
        namespace_id,
        ids,
        consumer,
        sessions.as_deref() as _
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// Forgets at most `limit` wakes whose task was deleted longer than `age` ago; says how many.
///
/// # Errors
/// Any [`StoreError`].
pub async fn forget_orphans(
    db: impl PgExecutor<'_>,
    age: Duration,
    limit: i64,
) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "delete from wake where id in (
           select id from wake where task_deleted_at < clock_timestamp() - $1::bigint * interval '1 ms'
           order by task_deleted_at limit $2)",
        i64::try_from(age.as_millis()).unwrap_or(i64::MAX),
        limit
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// Hands out the oldest wakes that nobody holds.
///
/// # Errors
/// Any [`StoreError`].
pub async fn take(db: impl PgExecutor<'_>, query: &WakeQuery<'_>) -> Result<Vec<Wake>, StoreError> {
    let sessions: Option<Vec<i64>> = query
        .sessions
        .map(|sessions| sessions.iter().map(|session| session.0).collect());
    let rows = sqlx::query!(
        r#"with free as materialized (
             select w.id from wake w
             where w.namespace_id = $1 and ($2::bigint[] is null or w.session_uid = any($2))
               and (w.leased_until is null or w.leased_until <= clock_timestamp())
             order by w.id limit $3 for update skip locked),
           taken as (
             update wake w set consumer = $4, leased_until = clock_timestamp() + $5::bigint * interval '1 ms',
               deliveries = w.deliveries + 1
             from free where w.id = free.id
             returning w.id, w.session_uid, w.body, w.created_at, w.deliveries)
           select t.id as "id!", s.id as "session_id!", t.body as "body!", t.created_at as "created_at!",
             t.deliveries as "deliveries!"
           from taken t join session s on s.uid = t.session_uid and s.deleted_at is null order by t.id"#,
        query.namespace_id,
        sessions as _,
        query.limit,
        query.consumer,
        i64::try_from(query.lease.as_millis()).unwrap_or(i64::MAX)
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let wake: Wake = decode("wake", Some(&row.body))?.unwrap_or_default();
            Ok(Wake {
                id: row.id,
                session_id: row.session_id,
                created_at: Some(times::to_proto(row.created_at)),
                deliveries: row.deliveries,
                ..wake
            })
        })
        .collect()
}
