//! Retention: how much of what has ended is kept, and deleting what is beyond that.

use super::{namespace, refusal::Refusal, wire_time::duration_field};
use crate::{
    app::App,
    store::{
        purge,
        records::duration_from_ms,
        retention::{self, Limits, Surplus},
    },
};
use std::{collections::BTreeMap, time::Duration};
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::v1::{
    GetRetentionRequest, GetRetentionResponse, RetentionLimits, RunRetentionRequest,
    RunRetentionResponse, SetRetentionRequest, SetRetentionResponse,
};

const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
const DEFAULT_PASS: i32 = 1_000;
const MAX_PASS: i32 = 10_000;
/// Sessions that are looked at together.
const SESSION_PAGE: i64 = 100;
/// Tasks that one transaction deletes.
const DELETE_PAGE: usize = 100;

/// Sets, or removes, the limits of a namespace or a session.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::NotFound`], [`Refusal::Store`].
pub async fn set_retention(
    app: &App,
    request: &SetRetentionRequest,
) -> Result<SetRetentionResponse, Refusal> {
    let limits = request.limits.as_ref().map(read_limits).transpose()?;
    let (namespace_id, session) = find_scope(app, &request.namespace, &request.session_id).await?;
    let pool = app.store.pool();
    match limits {
        Some(limits) => retention::set(pool, namespace_id, session, limits).await?,
        None => retention::remove(pool, namespace_id, session).await?,
    }
    Ok(SetRetentionResponse {})
}

/// Reads what holds for a namespace or a session.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::NotFound`], [`Refusal::Store`].
pub async fn get_retention(
    app: &App,
    request: &GetRetentionRequest,
) -> Result<GetRetentionResponse, Refusal> {
    let (namespace_id, session) = find_scope(app, &request.namespace, &request.session_id).await?;
    let pool = app.store.pool();
    if let Some(own) = retention::get(pool, namespace_id, session).await? {
        return Ok(GetRetentionResponse {
            limits: Some(show_limits(own)),
            is_own: session.is_some(),
        });
    }
    let of_namespace = match session {
        Some(_) => retention::get(pool, namespace_id, None).await?,
        None => None,
    };
    Ok(GetRetentionResponse {
        limits: of_namespace.map(show_limits),
        is_own: false,
    })
}

/// Runs one bounded pass, or says what it would delete.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::NotFound`], [`Refusal::Store`].
pub async fn run_retention(
    app: &App,
    request: &RunRetentionRequest,
) -> Result<RunRetentionResponse, Refusal> {
    let most = match request.max_tasks {
        0 => DEFAULT_PASS,
        1..=MAX_PASS => request.max_tasks,
        _ => {
            return Err(Refusal::invalid(
                "max_tasks",
                format!("must be 1 to {MAX_PASS}"),
            ));
        }
    };
    let (namespace_id, session) = find_scope(app, &request.namespace, &request.session_id).await?;
    let most = usize::try_from(most).unwrap_or(0);
    let mut surplus = find_surplus(app, namespace_id, session, most + 1).await?;
    let has_more = surplus.len() > most;
    surplus.truncate(most);
    if !request.dry_run {
        surplus = delete(app, surplus).await?;
    }
    Ok(RunRetentionResponse {
        bytes: surplus.iter().map(|surplus| surplus.bytes).sum(),
        task_ids: surplus
            .iter()
            .map(|surplus| surplus.task.to_string())
            .collect(),
        has_more,
    })
}

/// Runs one bounded pass in a namespace; how many tasks it deleted.
///
/// # Errors
/// [`Refusal::ShuttingDown`], [`Refusal::Store`].
pub async fn run_pass(app: &App, namespace_id: i32) -> Result<usize, Refusal> {
    let most = usize::try_from(DEFAULT_PASS).unwrap_or(0);
    let surplus = find_surplus(app, namespace_id, None, most).await?;
    Ok(delete(app, surplus).await?.len())
}

async fn find_scope(
    app: &App,
    namespace: &str,
    session_id: &str,
) -> Result<(i32, Option<SessionUid>), Refusal> {
    let namespace_id = namespace::find_namespace(app, namespace).await?;
    if session_id.is_empty() {
        return Ok((namespace_id, None));
    }
    let session = namespace::find_session(app, namespace, session_id).await?;
    Ok((namespace_id, Some(session)))
}

/// At most `most` tasks that are beyond their limits: those too old first, then session by session.
async fn find_surplus(
    app: &App,
    namespace_id: i32,
    session: Option<SessionUid>,
    most: usize,
) -> Result<Vec<Surplus>, Refusal> {
    let pool = app.store.pool();
    let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    let mut found: BTreeMap<TaskId, Surplus> = BTreeMap::new();
    for surplus in retention::find_aged(pool, namespace_id, session, count(most)).await? {
        found.insert(surplus.task, surplus);
    }
    let mut after = SessionUid(0);
    while found.len() < most {
        let sessions =
            retention::list_limited_sessions(pool, namespace_id, session, after, SESSION_PAGE)
                .await?;
        let Some((last, _)) = sessions.last() else {
            break;
        };
        after = *last;
        for (session, limits) in sessions {
            if app.shutdown.is_cancelled() {
                return Err(Refusal::ShuttingDown);
            }
            let beyond = retention::find_surplus(pool, session, limits, count(most)).await?;
            for surplus in beyond {
                found.entry(surplus.task).or_insert(surplus);
            }
        }
    }
    Ok(found.into_values().take(most).collect())
}

/// Deletes, session by session; answers with what is gone by its doing.
async fn delete(app: &App, surplus: Vec<Surplus>) -> Result<Vec<Surplus>, Refusal> {
    let mut by_session: BTreeMap<SessionUid, Vec<Surplus>> = BTreeMap::new();
    for one in surplus {
        by_session.entry(one.session).or_default().push(one);
    }
    let mut deleted = Vec::new();
    let mut connection = None;
    for (session, surplus) in by_session {
        for page in surplus.chunks(DELETE_PAGE) {
            if app.shutdown.is_cancelled() {
                return Err(Refusal::ShuttingDown);
            }
            let tasks: Vec<TaskId> = page.iter().map(|one| one.task).collect();
            let gone = app
                .store
                .run(&mut connection, async |db| {
                    purge::delete_ended(db, session, &tasks).await
                })
                .await?;
            deleted.extend(page.iter().filter(|one| gone.contains(&one.task)));
            app.events.session_touched(session);
        }
    }
    Ok(deleted)
}

fn read_limits(limits: &RetentionLimits) -> Result<Limits, Refusal> {
    let not_negative = |field: &str, limit: Option<i64>| match limit {
        Some(limit) if limit < 0 => Err(Refusal::invalid(field, "must not be negative")),
        limit => Ok(limit),
    };
    Ok(Limits {
        ended_task_ttl: duration_field(
            "limits.ended_task_ttl",
            limits.ended_task_ttl.as_ref(),
            MIN_TTL,
            MAX_TTL,
        )?,
        max_ended_tasks: not_negative("limits.max_ended_tasks", limits.max_ended_tasks)?,
        max_ended_bytes: not_negative("limits.max_ended_bytes", limits.max_ended_bytes)?,
    })
}

fn show_limits(limits: Limits) -> RetentionLimits {
    RetentionLimits {
        ended_task_ttl: limits
            .ended_task_ttl
            .map(|ttl| duration_from_ms(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))),
        max_ended_tasks: limits.max_ended_tasks,
        max_ended_bytes: limits.max_ended_bytes,
    }
}
