//! Monitors: when they fire, and what came of it.

use std::time::Duration;

use taskyard_proto::v1::monitor_schedule::When;
use taskyard_proto::v1::{Monitor, MonitorSchedule};

use crate::quantity::{exact_duration, from_wire};
use crate::view::record::Record;
use crate::view::task_record::time;
use crate::view::{moment, words};

/// When it fires, in a few words: `every 5m`, `cron 0 7 * * * in Europe/Zurich`, `once at …`.
pub fn schedule_text(schedule: &MonitorSchedule) -> String {
    match &schedule.when {
        Some(When::Interval(interval)) => format!("every {}", span(from_wire(interval))),
        Some(When::Cron(cron)) if cron.time_zone.is_empty() => {
            format!("cron {} in UTC", cron.expression)
        }
        Some(When::Cron(cron)) => format!("cron {} in {}", cron.expression, cron.time_zone),
        Some(When::At(at)) => format!("once at {}", moment::exact(at)),
        None => String::new(),
    }
}

/// The schedule for programs, in the words of a task file.
pub fn schedule_record(schedule: &MonitorSchedule) -> Record {
    let record = match &schedule.when {
        Some(When::Interval(interval)) => {
            Record::new().with_text("every", &exact_duration(from_wire(interval)))
        }
        Some(When::Cron(cron)) => Record::new()
            .with_text("cron", &cron.expression)
            .with_text("time_zone", &cron.time_zone),
        Some(When::At(at)) => Record::new().with_text("at", &moment::exact(at)),
        None => Record::new(),
    };
    let jitter = schedule.jitter.as_ref().map(from_wire);
    record
        .with("jitter", jitter.map(exact_duration))
        .with("overlap", words::overlap(schedule.overlap()))
        .with("wake_on", words::wake_on(schedule.wake_on()))
        .with_text("match", &schedule.match_regex)
        .with("max_firings", some(schedule.max_firings))
        .with("keep_firings", some(i64::from(schedule.keep_firings)))
        .with_text("kind", &schedule.firing_kind)
}

/// How a monitor stands, without its task; one that is paused fires at no time.
pub fn standing_record(monitor: &Monitor, is_paused: bool) -> Record {
    let last_state = match monitor.last_task_id.as_str() {
        "" => "",
        _ => words::state(monitor.last_state()),
    };
    let next_at = monitor.next_at.filter(|_| !is_paused);
    Record::new()
        .with("schedule", monitor.schedule.as_ref().map(schedule_record))
        .with("next_at", time(&next_at))
        .with("firings", monitor.firings)
        .with("skipped", monitor.skipped)
        .with("open_firings", monitor.open_firings)
        .with_text("last_task_id", &monitor.last_task_id)
        .with_text("last_state", last_state)
        .with_text("last_summary", &monitor.last_summary)
}

/// When it fires next: `paused`, a time as `show` has it, or a dash where it never does.
pub fn next_text(
    monitor: &Monitor,
    is_paused: bool,
    show: impl Fn(&prost_types::Timestamp) -> String,
) -> String {
    match &monitor.next_at {
        _ if is_paused => "paused".to_owned(),
        None => "-".to_owned(),
        Some(at) => show(at),
    }
}

/// 0 stands for what was not said.
fn some(number: i64) -> Option<i64> {
    (number != 0).then_some(number)
}

/// `1h30m`: whole, as one would write it.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() != 0 || seconds == 0 {
        return exact_duration(duration);
    }
    [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, unit)| format!("{count}{unit}"))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::{parse_duration, to_wire};
    use taskyard_proto::v1::CronSchedule;

    #[test]
    fn a_schedule_is_told_as_one_would_write_it() {
        let schedule = |when| MonitorSchedule {
            when: Some(when),
            ..MonitorSchedule::default()
        };
        for text in ["10s", "5m", "1h30m", "2d1s", "0.25s"] {
            let interval = to_wire(parse_duration(text).expect("a duration"));
            let told = schedule_text(&schedule(When::Interval(interval)));
            assert_eq!(told, format!("every {text}"));
        }
        let cron = CronSchedule {
            expression: "0 7 * * *".to_owned(),
            time_zone: "Europe/Zurich".to_owned(),
        };
        assert_eq!(
            schedule_text(&schedule(When::Cron(cron))),
            "cron 0 7 * * * in Europe/Zurich"
        );
    }
}
