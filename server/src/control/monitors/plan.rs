//! What is stored of a new monitor, and the definition of a firing.

use super::{schedule::Schedule, verdict::WakeOn};
use crate::{
    app::App,
    control::refusal::Refusal,
    store::{creates, monitors::NewMonitor, times},
};
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{MonitorOverlap, MonitorSchedule, TaskDefinition};

/// Kind of every monitor.
pub const MONITOR: &str = "monitor";
const DEFAULT_KEEP: i32 = 100;
const MAX_KEEP: i32 = 1_000;

/// A monitor's part of a definition.
#[derive(Clone, Debug)]
pub struct MonitorDefinition {
    schedule: Schedule,
    overlap: MonitorOverlap,
    keep_firings: i32,
    /// The definition of its firings, with the schedule.
    firings: TaskDefinition,
}

/// Takes a definition apart: the monitor's own, which says nothing of a schedule any more, and what it is to fire.
///
/// # Errors
/// [`Refusal::InvalidField`]; what is wrong with the firings is left to the parsing of [`firing_definition`].
pub fn read(
    definition: &TaskDefinition,
    schedule: &MonitorSchedule,
) -> Result<MonitorDefinition, Refusal> {
    if !definition.kind.is_empty() && definition.kind != MONITOR {
        return Err(Refusal::invalid(
            "task.kind",
            "a task with a schedule is of kind `monitor`; say the kind of its firings in `schedule.firing_kind`",
        ));
    }
    if schedule.firing_kind == MONITOR {
        return Err(Refusal::invalid(
            "task.schedule.firing_kind",
            "a firing cannot be a monitor",
        ));
    }
    for (field, is_set) in [
        ("task.not_before", definition.not_before.is_some()),
        ("task.start_deadline", definition.start_deadline.is_some()),
    ] {
        if is_set {
            return Err(Refusal::invalid(
                field,
                "does not go with a schedule; say when in `schedule`",
            ));
        }
    }
    let overlap = match MonitorOverlap::try_from(schedule.overlap) {
        Ok(MonitorOverlap::Unspecified) => MonitorOverlap::Skip,
        Ok(overlap) => overlap,
        Err(_) => {
            return Err(Refusal::invalid(
                "task.schedule.overlap",
                "is no known way to deal with overlap",
            ));
        }
    };
    let keep_firings = match schedule.keep_firings {
        0 => DEFAULT_KEEP,
        keep @ 1..=MAX_KEEP => keep,
        _ => {
            return Err(Refusal::invalid(
                "task.schedule.keep_firings",
                format!("must be from 1 to {MAX_KEEP}; 0: {DEFAULT_KEEP}"),
            ));
        }
    };
    WakeOn::parse(schedule)?;
    let parsed = Schedule::parse(schedule)?;
    Schedule::check_form(schedule)?;
    Ok(MonitorDefinition {
        schedule: parsed,
        overlap,
        keep_firings,
        firings: TaskDefinition {
            name: String::new(),
            key: String::new(),
            kind: schedule.firing_kind.clone(),
            parent_task_id: String::new(),
            group: String::new(),
            hold: false,
            wake_policy: 0,
            group_wake: 0,
            schedule: Some(schedule.clone()),
            ..definition.clone()
        },
    })
}

/// The definition of firing `number` of a monitor.
#[must_use]
pub fn firing_definition(stored: TaskDefinition, monitor: TaskId, number: i64) -> TaskDefinition {
    TaskDefinition {
        key: format!("fire-{number}"),
        parent_task_id: monitor.to_string(),
        schedule: None,
        ..stored
    }
}

impl MonitorDefinition {
    /// The definition of its firings.
    #[must_use]
    pub fn firings(&self) -> &TaskDefinition {
        &self.firings
    }

    /// What is stored of it, by the database's clock and this server's minimum interval.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`], [`Refusal::Store`].
    pub async fn plan(self, app: &App, id: TaskId) -> Result<NewMonitor, Refusal> {
        let now = times::to_database(creates::now(app.store.pool()).await?);
        self.schedule.check(now, app.min_monitor_interval)?;
        let next = self
            .schedule
            .first(id, now)
            .ok_or_else(|| Refusal::invalid("task.schedule", "never comes; choose another time"))?;
        Ok(NewMonitor {
            definition: self.firings,
            overlap: i16::try_from(i32::from(self.overlap)).unwrap_or(1),
            keep_firings: self.keep_firings,
            next,
        })
    }
}
