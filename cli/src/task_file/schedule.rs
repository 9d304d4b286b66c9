//! What makes a task of a file a monitor.

use serde::Deserialize;
use taskyard_proto::v1::{
    CronSchedule, MonitorOverlap, MonitorSchedule, MonitorWake, monitor_schedule::When,
};

use crate::quantity::to_wire;
use crate::task_file::scalar::{Moment, Span};
use crate::view::moment::from_utc;

/// When a monitor fires, and whom that wakes. Of `cron`, `every` and `at` exactly one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Five fields: minute, hour, day of month, month, day of week.
    pub cron: Option<String>,
    /// Zone of the cron expression.
    pub time_zone: String,
    /// Interval.
    pub every: Option<Span>,
    /// Once.
    pub at: Option<Moment>,
    pub jitter: Option<Span>,
    pub overlap: Option<OverlapName>,
    pub wake_on: Option<WakeOnName>,
    /// Regular expression, with `wake_on: match`.
    #[serde(rename = "match")]
    pub pattern: String,
    pub max_firings: i64,
    pub keep_firings: i32,
    /// Kind of the firings.
    pub kind: String,
}

/// What happens while an earlier firing runs.
#[derive(Debug, Clone, Copy, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum OverlapName {
    Skip,
    QueueOne,
    Allow,
}

/// Which ends of firings wake the owner.
#[derive(Debug, Clone, Copy, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum WakeOnName {
    Failed,
    Changed,
    Match,
    Always,
}

impl Schedule {
    /// What is wrong with it, told before a server is asked.
    pub fn check(&self) -> Result<(), String> {
        let given = [self.cron.is_some(), self.every.is_some(), self.at.is_some()];
        if given.into_iter().filter(|is_given| *is_given).count() != 1 {
            return Err("give exactly one of cron, every and at".to_owned());
        }
        if !self.time_zone.is_empty() && self.cron.is_none() {
            return Err("a time zone goes with cron only".to_owned());
        }
        Ok(())
    }
}

/// The schedule for the server.
pub fn schedule(schedule: Schedule) -> MonitorSchedule {
    let cron = schedule.cron.map(|expression| {
        When::Cron(CronSchedule {
            expression,
            time_zone: schedule.time_zone,
        })
    });
    let every = schedule.every.map(|span| When::Interval(to_wire(span.0)));
    let at = schedule.at.map(|moment| When::At(from_utc(moment.0)));
    MonitorSchedule {
        when: cron.or(every).or(at),
        jitter: schedule.jitter.map(|span| to_wire(span.0)),
        overlap: match schedule.overlap {
            None => MonitorOverlap::Unspecified,
            Some(OverlapName::Skip) => MonitorOverlap::Skip,
            Some(OverlapName::QueueOne) => MonitorOverlap::QueueOne,
            Some(OverlapName::Allow) => MonitorOverlap::Allow,
        }
        .into(),
        wake_on: match schedule.wake_on {
            None => MonitorWake::Unspecified,
            Some(WakeOnName::Failed) => MonitorWake::Failed,
            Some(WakeOnName::Changed) => MonitorWake::Changed,
            Some(WakeOnName::Match) => MonitorWake::Match,
            Some(WakeOnName::Always) => MonitorWake::Always,
        }
        .into(),
        match_regex: schedule.pattern,
        max_firings: schedule.max_firings,
        keep_firings: schedule.keep_firings,
        firing_kind: schedule.kind,
    }
}
