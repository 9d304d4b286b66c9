//! When a monitor fires. Pure: time comes in, and is the database's.

use super::cron_form;
use crate::{
    control::{
        refusal::Refusal,
        wire_time::{duration_field, time_field},
    },
    store::monitors::NextFiring,
};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use sha2::{Digest, Sha256};
use std::time::Duration;
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{CronSchedule, MonitorSchedule, monitor_schedule::When as WireWhen};

/// Shortest interval whatever the server's minimum is, and the longest.
const INTERVAL_RANGE: [Duration; 2] = [
    Duration::from_millis(100),
    Duration::from_secs(366 * 24 * 60 * 60),
];
const MAX_JITTER: Duration = Duration::from_secs(60 * 60);
const MAX_EXPRESSION: usize = 256;
const CRON_FIELD: &str = "task.schedule.cron.expression";
const FIVE_FIELDS: &str = "write five fields: minute, hour, day of month, month, day of week, such as `*/15 8-18 * * MON-FRI`";
/// Times of a cron expression whose distances are held against the minimum interval.
const CRON_SAMPLE: usize = 64;

/// When a monitor fires.
#[derive(Clone, Debug)]
pub struct Schedule {
    when: When,
    jitter: Duration,
    max_firings: Option<i64>,
}

#[derive(Clone, Debug)]
enum When {
    Cron { cron: Box<Cron>, zone: Tz },
    Every(Duration),
    At(DateTime<Utc>),
}

impl Schedule {
    /// Parses a schedule.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`], naming the field from `task.schedule.` on.
    pub fn parse(schedule: &MonitorSchedule) -> Result<Self, Refusal> {
        let when = match &schedule.when {
            Some(WireWhen::Cron(cron)) => parse_cron(cron)?,
            Some(WireWhen::Interval(interval)) => {
                let [least, most] = INTERVAL_RANGE;
                let interval =
                    duration_field("task.schedule.interval", Some(interval), least, most)?;
                When::Every(interval.unwrap_or(least))
            }
            Some(WireWhen::At(at)) => match time_field("task.schedule.at", Some(at))? {
                Some(at) => When::At(at),
                None => return Err(no_when()),
            },
            None => return Err(no_when()),
        };
        let most = match &when {
            When::Every(interval) => MAX_JITTER.min(*interval / 2),
            When::Cron { .. } | When::At(_) => MAX_JITTER,
        };
        let jitter = duration_field(
            "task.schedule.jitter",
            schedule.jitter.as_ref(),
            Duration::ZERO,
            most,
        )?;
        if schedule.max_firings < 0 {
            return Err(Refusal::invalid(
                "task.schedule.max_firings",
                "must not be negative; 0: no limit",
            ));
        }
        let max_firings = match &when {
            When::At(_) => Some(1),
            When::Cron { .. } | When::Every(_) => Some(schedule.max_firings).filter(|max| *max > 0),
        };
        Ok(Self {
            when,
            jitter: jitter.unwrap_or_default(),
            max_firings,
        })
    }

    /// Checks what a new schedule says beyond what [`Self::parse`] needs, so that nothing in it goes unheeded.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`], naming the field from `task.schedule.` on.
    pub fn check_form(schedule: &MonitorSchedule) -> Result<(), Refusal> {
        match &schedule.when {
            Some(WireWhen::Cron(cron)) => cron_form::check(&cron.expression).map_err(|problem| {
                Refusal::invalid(CRON_FIELD, format!("{problem}; {FIVE_FIELDS}"))
            }),
            Some(WireWhen::At(_)) if schedule.max_firings > 1 => Err(Refusal::invalid(
                "task.schedule.max_firings",
                "does not go with `at`, which fires once",
            )),
            Some(WireWhen::At(_) | WireWhen::Interval(_)) | None => Ok(()),
        }
    }

    /// Checks that it fires at all, and not more often than every `minimum`.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`].
    pub fn check(&self, now: DateTime<Utc>, minimum: Duration) -> Result<(), Refusal> {
        let too_often = |field: &str| {
            Refusal::invalid(
                field,
                format!("fires more often than every {minimum:?}, this server's minimum"),
            )
        };
        match &self.when {
            When::At(_) => Ok(()),
            When::Every(interval) if *interval < minimum => {
                Err(too_often("task.schedule.interval"))
            }
            When::Every(_) => Ok(()),
            When::Cron { cron, zone } => {
                let mut before = next_by_cron(cron, *zone, now).ok_or_else(|| {
                    Refusal::invalid(CRON_FIELD, "never comes: there is no such date in any year")
                })?;
                for _ in 0..CRON_SAMPLE {
                    let Some(next) = next_by_cron(cron, *zone, before) else {
                        break;
                    };
                    if (next - before).to_std().unwrap_or_default() < minimum {
                        return Err(too_often(CRON_FIELD));
                    }
                    before = next;
                }
                Ok(())
            }
        }
    }

    /// The first firing of a monitor that is created at `now`.
    #[must_use]
    pub fn first(&self, monitor: TaskId, now: DateTime<Utc>) -> Option<NextFiring> {
        let slot_at = match &self.when {
            When::At(at) => *at,
            When::Every(_) => now,
            When::Cron { cron, zone } => next_by_cron(cron, *zone, now)?,
        };
        Some(self.jittered(monitor, 1, slot_at))
    }

    /// Firing `number`, where the one before was due at `slot_at` and it is `now`: the first time that lies behind both,
    /// so that whatever was missed is missed. None: there is no such firing.
    #[must_use]
    pub fn next(
        &self,
        monitor: TaskId,
        number: i64,
        slot_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<NextFiring> {
        if self.max_firings.is_some_and(|max| number > max) {
            return None;
        }
        let slot_at = match &self.when {
            When::At(_) => return None,
            When::Every(interval) => next_by_interval(*interval, slot_at, now)?,
            When::Cron { cron, zone } => next_by_cron(cron, *zone, slot_at.max(now))?,
        };
        Some(self.jittered(monitor, number, slot_at))
    }

    /// Drawn from monitor and number, so that every server comes to the same.
    fn jittered(&self, monitor: TaskId, number: i64, slot_at: DateTime<Utc>) -> NextFiring {
        let jitter_us = u64::try_from(self.jitter.as_micros()).unwrap_or(u64::MAX);
        let drawn = Sha256::new()
            .chain_update(monitor.0.to_be_bytes())
            .chain_update(number.to_be_bytes())
            .finalize();
        let drawn = drawn
            .iter()
            .take(8)
            .fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
        let delay_us = i64::try_from(drawn.checked_rem(jitter_us).unwrap_or(0)).unwrap_or(0);
        NextFiring {
            slot_at,
            at: slot_at + TimeDelta::microseconds(delay_us),
        }
    }
}

fn parse_cron(cron: &CronSchedule) -> Result<When, Refusal> {
    if cron.expression.len() > MAX_EXPRESSION || cron.expression.split_whitespace().count() != 5 {
        return Err(Refusal::invalid(CRON_FIELD, FIVE_FIELDS));
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    let parsed = parser
        .parse(&cron.expression)
        .map_err(|error| Refusal::invalid(CRON_FIELD, format!("{error}; {FIVE_FIELDS}")))?;
    let zone = match cron.time_zone.as_str() {
        "" => Tz::UTC,
        name => name.parse().map_err(|_| {
            Refusal::invalid(
                "task.schedule.cron.time_zone",
                format!("{name:?} is no time zone; write an IANA name, such as `Europe/Zurich`"),
            )
        })?,
    };
    Ok(When::Cron {
        cron: Box::new(parsed),
        zone,
    })
}

fn no_when() -> Refusal {
    Refusal::invalid(
        "task.schedule",
        "say when: one of `cron`, `interval` and `at`",
    )
}

/// Strictly after `after`.
fn next_by_cron(cron: &Cron, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let found = cron.find_next_occurrence(&after.with_timezone(&zone), false);
    found
        .ok()
        .map(|at| at.with_timezone(&Utc))
        .filter(|at| *at > after)
}

/// Whole intervals from `slot_at` on, so that lateness does not add up.
fn next_by_interval(
    interval: Duration,
    slot_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let interval_us = i64::try_from(interval.as_micros())
        .ok()
        .filter(|us| *us > 0)?;
    let late_us = (now - slot_at).num_microseconds()?.max(0);
    let steps = late_us / interval_us + 1;
    slot_at.checked_add_signed(TimeDelta::microseconds(steps.checked_mul(interval_us)?))
}

#[cfg(test)]
mod tests;
