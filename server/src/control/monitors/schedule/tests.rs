use super::*;

const MONITOR: TaskId = TaskId(7);

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

fn cron(expression: &str, time_zone: &str) -> MonitorSchedule {
    MonitorSchedule {
        when: Some(WireWhen::Cron(CronSchedule {
            expression: expression.to_owned(),
            time_zone: time_zone.to_owned(),
        })),
        ..MonitorSchedule::default()
    }
}

fn every(seconds: i64) -> MonitorSchedule {
    MonitorSchedule {
        when: Some(WireWhen::Interval(prost_types::Duration {
            seconds,
            nanos: 0,
        })),
        ..MonitorSchedule::default()
    }
}

/// The next times of a cron expression.
fn times(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(&cron(expression, zone)).expect("valid");
    let mut now = at(from);
    let mut times = Vec::new();
    for number in 2..count as i64 + 2 {
        let next = schedule.next(MONITOR, number, now, now).expect("one more");
        now = next.at;
        times.push(now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    }
    times
}

fn refused(schedule: &MonitorSchedule) -> String {
    let checked = Schedule::parse(schedule)
        .and_then(|schedule| schedule.check(at("2026-01-01T00:00:00Z"), Duration::from_secs(10)));
    match checked {
        Err(Refusal::InvalidField { field, problem }) => format!("{field}: {problem}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_time_in_the_gap_is_made_up_for_and_the_next_day_is_as_always() {
    // 02:00 to 03:00 does not exist in Zurich on 2026-03-29
    assert_eq!(
        times("30 2 * * *", "Europe/Zurich", "2026-03-28T00:00:00Z", 3),
        [
            "2026-03-28T01:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z"
        ]
    );
    // every half hour goes on without a hole
    assert_eq!(
        times("*/30 * * * *", "Europe/Zurich", "2026-03-29T00:29:00Z", 3),
        [
            "2026-03-29T00:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-29T01:30:00Z"
        ]
    );
}

#[test]
fn a_time_that_comes_twice_fires_once_unless_it_is_by_wildcard() {
    // 02:00 to 03:00 comes twice in Zurich on 2026-10-25
    assert_eq!(
        times("30 2 * * *", "Europe/Zurich", "2026-10-24T22:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    assert_eq!(
        times("0 * * * *", "Europe/Zurich", "2026-10-24T23:30:00Z", 3),
        [
            "2026-10-25T00:00:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T02:00:00Z"
        ]
    );
}

#[test]
fn months_without_the_day_are_passed_over() {
    assert_eq!(
        times("0 12 31 * *", "", "2026-01-31T12:00:00Z", 3),
        [
            "2026-03-31T12:00:00Z",
            "2026-05-31T12:00:00Z",
            "2026-07-31T12:00:00Z"
        ]
    );
    assert_eq!(
        times("0 0 29 2 *", "", "2026-01-01T00:00:00Z", 1),
        ["2028-02-29T00:00:00Z"]
    );
    assert_eq!(
        times("0 0 L * *", "", "2026-02-01T00:00:00Z", 2),
        ["2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"]
    );
}

#[test]
fn what_can_never_come_or_makes_no_sense_is_refused_with_what_to_write() {
    for (schedule, parts) in [
        (cron("0 0 31 2 *", ""), ["cron.expression", "never comes"]),
        (cron("0 0 * *", ""), ["cron.expression", "five fields"]),
        (cron("0 0 * * * *", ""), ["cron.expression", "five fields"]),
        (cron("61 * * * *", ""), ["cron.expression", "five fields"]),
        (cron("0 0 * * NEVER", ""), ["cron.expression", "MON-FRI"]),
        (cron("0 0 * * *", "Zurich"), ["time_zone", "IANA name"]),
        (
            every(9),
            ["task.schedule.interval", "more often than every 10s"],
        ),
        (every(0), ["task.schedule.interval", "must be"]),
        (
            MonitorSchedule::default(),
            ["task.schedule:", "`cron`, `interval` and `at`"],
        ),
        (
            MonitorSchedule {
                jitter: Some(prost_types::Duration {
                    seconds: 6,
                    nanos: 0,
                }),
                ..every(10)
            },
            ["task.schedule.jitter", "0 s to 5 s"],
        ),
        (
            MonitorSchedule {
                max_firings: -1,
                ..every(10)
            },
            ["task.schedule.max_firings", "no limit"],
        ),
    ] {
        let said = refused(&schedule);
        for part in parts {
            assert!(said.contains(part), "{schedule:?}: {said} lacks {part}");
        }
    }
    assert_eq!(refused(&cron("* * * * *", "")), "Ok(())");
}

#[test]
fn an_interval_keeps_its_beat_and_makes_up_for_nothing() {
    let schedule = Schedule::parse(&every(60)).expect("valid");
    let begin = at("2026-01-01T00:00:00Z");
    assert_eq!(
        schedule.first(MONITOR, begin).map(|next| next.at),
        Some(begin)
    );
    let next = |now: &str| {
        schedule
            .next(MONITOR, 2, begin, at(now))
            .map(|next| next.at)
    };
    assert_eq!(
        next("2026-01-01T00:00:00Z"),
        Some(at("2026-01-01T00:01:00Z"))
    );
    assert_eq!(
        next("2026-01-01T00:00:59Z"),
        Some(at("2026-01-01T00:01:00Z"))
    );
    assert_eq!(
        next("2026-01-01T00:01:00Z"),
        Some(at("2026-01-01T00:02:00Z"))
    );
    assert_eq!(
        next("2026-01-01T05:00:30Z"),
        Some(at("2026-01-01T05:01:00Z"))
    );
}

#[test]
fn one_time_is_one_firing_and_a_limit_is_kept() {
    let when = at("2026-05-01T00:00:00Z");
    let once = Schedule::parse(&MonitorSchedule {
        when: Some(WireWhen::At(crate::store::times::to_proto(when))),
        ..MonitorSchedule::default()
    })
    .expect("valid");
    assert_eq!(
        once.first(MONITOR, at("2026-06-01T00:00:00Z"))
            .map(|next| next.at),
        Some(when)
    );
    assert_eq!(once.next(MONITOR, 2, when, when), None);
    let twice = Schedule::parse(&MonitorSchedule {
        max_firings: 2,
        ..every(60)
    })
    .expect("valid");
    assert!(twice.next(MONITOR, 2, when, when).is_some());
    assert_eq!(twice.next(MONITOR, 3, when, when), None);
}

#[test]
fn jitter_delays_by_a_part_of_itself_and_does_not_move_the_beat() {
    let schedule = Schedule::parse(&MonitorSchedule {
        jitter: Some(prost_types::Duration {
            seconds: 30,
            nanos: 0,
        }),
        ..every(60)
    })
    .expect("valid");
    let begin = at("2026-01-01T00:00:00Z");
    let mut delays = std::collections::BTreeSet::new();
    for number in 2..40 {
        let next = schedule
            .next(MONITOR, number, begin, begin)
            .expect("one more");
        let delay = next.at - next.slot_at;
        assert_eq!(next.slot_at, at("2026-01-01T00:01:00Z"));
        assert!((0..30).contains(&delay.num_seconds()), "{delay}");
        delays.insert(delay);
    }
    assert!(delays.len() > 30);
}
