//! What is stored of a new monitor.

use super::columns::uuid;
use super::firings::Firing;
use crate::store::StoreError;
use chrono::{DateTime, Utc};
use prost::Message as _;
use sqlx::PgConnection;
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::v1::TaskDefinition;

/// What makes a new task part of a monitor.
#[derive(Clone, Debug)]
pub enum MonitorPart {
    /// It is a monitor.
    Monitor(Box<NewMonitor>),
    /// It is a firing of its parent.
    Firing(Firing),
}

/// What a new monitor has beside its task.
#[derive(Clone, Debug)]
pub struct NewMonitor {
    /// The definition of its firings, with the schedule.
    pub definition: TaskDefinition,
    /// What happens while an earlier firing runs, as on the wire.
    pub overlap: i16,
    /// Ended firings that are kept.
    pub keep_firings: i32,
    /// The first firing.
    pub next: NextFiring,
}

/// When a monitor fires next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextFiring {
    /// What the schedule says.
    pub slot_at: DateTime<Utc>,
    /// When it is made, which may be a little later.
    pub at: DateTime<Utc>,
}

/// Stores new monitors, whose tasks are stored in the same transaction.
///
/// # Errors
/// Any [`StoreError`].
pub async fn insert_monitors(
    db: &mut PgConnection,
    monitors: &[(TaskId, i32, SessionUid, &NewMonitor)],
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"insert into monitor (task_id, namespace_id, session_uid, definition, overlap, keep_firings, slot_at, next_at)
           select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::bytea[], $5::smallint[], $6::int[],
             $7::timestamptz[], $8::timestamptz[])"#,
        &monitors.iter().map(|(task, ..)| uuid(*task)).collect::<Vec<_>>(),
        &monitors.iter().map(|(_, namespace_id, ..)| *namespace_id).collect::<Vec<_>>(),
        &monitors.iter().map(|(_, _, session, _)| session.0).collect::<Vec<_>>(),
        &monitors.iter().map(|(.., new)| new.definition.encode_to_vec()).collect::<Vec<_>>(),
        &monitors.iter().map(|(.., new)| new.overlap).collect::<Vec<_>>(),
        &monitors.iter().map(|(.., new)| new.keep_firings).collect::<Vec<_>>(),
        &monitors.iter().map(|(.., new)| new.next.slot_at).collect::<Vec<_>>(),
        &monitors.iter().map(|(.., new)| new.next.at).collect::<Vec<_>>()
    )
    .execute(db)
    .await?;
    Ok(())
}
