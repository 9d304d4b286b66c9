//! Monitors: when they fire, what that wakes, and how they are paused and ended.

use std::time::{Duration, SystemTime};

use taskyard_proto::v1::{
    CancelTaskRequest, CloneTaskRequest, CreateTaskRequest, CronSchedule, MonitorOverlap,
    MonitorSchedule, MonitorWake, PostMessageRequest, RetryTaskRequest, TaskDefinition, TaskState,
    UpdateTaskRequest, monitor_schedule::When,
};
use taskyard_tests::client::{Client, milliseconds, moment, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::monitor::{QUICK, every, monitor};
use taskyard_tests::played::text;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use taskyard_tests::wait::{SOON, eventually, until};
use tokio::sync::OnceCell;
use tonic::Code;

/// Servers that allow short intervals.
async fn deployment() -> &'static Deployment {
    static QUICK_ONES: OnceCell<Deployment> = OnceCell::const_new();
    QUICK_ONES
        .get_or_init(|| Deployment::builder().server_flags(&[QUICK]).start())
        .await
}

async fn hold(client: &mut Client, id: &str, hold: bool) {
    let request = UpdateTaskRequest {
        task: id.to_owned(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["hold".to_owned()],
        }),
        hold,
        ..UpdateTaskRequest::default()
    };
    let answer = client.tasks.update_task(request).await;
    answer.unwrap_or_else(|status| panic!("hold {hold}: {status:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interval_fires_tasks_below_the_monitor_until_its_limit() {
    let mut client = deployment().await.client().await;
    let session = new_session("interval");
    let schedule = MonitorSchedule {
        max_firings: 3,
        ..every(200)
    };
    let task = TaskDefinition {
        name: "ticker".to_owned(),
        tags: vec!["tick".to_owned()],
        ..shell("echo tick")
    };
    let created = client.create(&session, monitor(task, schedule)).await;
    assert_eq!(created.kind, "monitor");
    assert_eq!(created.state(), TaskState::Queued);
    let ended = client.ended(&created.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    assert_eq!(ended.summary, "fired 3 times; the last firing succeeded");
    assert_eq!((ended.run, ended.worker_id.as_str()), (0, ""));
    let firings = client.firings(&created.id).await;
    let keys: Vec<&str> = firings.iter().map(|firing| firing.key.as_str()).collect();
    assert_eq!(keys, ["fire-1", "fire-2", "fire-3"]);
    for firing in &firings {
        assert_eq!(firing.state(), TaskState::Succeeded, "{firing:?}");
        assert_eq!(firing.kind, "command");
        assert_eq!(firing.tags, ["tick"]);
    }
    let texts: Vec<String> = client
        .drain_wakes(&session)
        .await
        .into_iter()
        .map(|wake| wake.text)
        .collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(
        texts[0].starts_with("Task \"ticker\" (t1): firing 1 ended: succeeded."),
        "{texts:?}"
    );
    assert!(client.monitors(&session).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_time_fires_once_and_the_monitor_succeeds_however_it_ended() {
    let mut client = deployment().await.client().await;
    let session = new_session("once");
    let at = SystemTime::now() + Duration::from_millis(500);
    let schedule = MonitorSchedule {
        when: Some(When::At(at.into())),
        ..MonitorSchedule::default()
    };
    let id = client
        .create(&session, monitor(shell("exit 3"), schedule))
        .await
        .id;
    let ended = client.ended(&id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    assert_eq!(ended.summary, "fired once; the last firing failed");
    let firings = client.firings(&id).await;
    assert_eq!(firings.len(), 1, "{firings:?}");
    assert!(moment(firings[0].created_at) >= at, "{firings:?}");
    // failures wake where nothing is said
    let wakes = client.drain_wakes(&session).await;
    assert_eq!(wakes.len(), 1, "{wakes:?}");
    assert!(wakes[0].text.contains("firing 1 failed."), "{wakes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_firing_that_takes_long_lets_the_next_ones_be_left_out_or_wait() {
    let mut client = deployment().await.client().await;
    for overlap in [MonitorOverlap::Skip, MonitorOverlap::QueueOne] {
        let session = new_session("overlap");
        let gate = deployment().await.folder().join(&session);
        let script = format!("until [ -e {} ]; do sleep 0.02; done", gate.display());
        let schedule = MonitorSchedule {
            overlap: overlap.into(),
            ..every(200)
        };
        let id = client
            .create(&session, monitor(shell(&script), schedule))
            .await
            .id;
        let stuck = client
            .monitor_reached(&session, |monitor| {
                if overlap == MonitorOverlap::Skip {
                    return monitor.skipped >= 3;
                }
                let passed = SystemTime::now() - Duration::from_secs(1);
                monitor.firings == 1 && moment(monitor.next_at) < passed
            })
            .await;
        assert_eq!((stuck.firings, stuck.open_firings), (1, 1), "{stuck:?}");
        std::fs::write(&gate, "").expect("written");
        client
            .monitor_reached(&session, |monitor| monitor.firings >= 3)
            .await;
        cancel(&mut client, &id).await;
    }
}

async fn cancel(client: &mut Client, id: &str) -> TaskState {
    let request = CancelTaskRequest {
        task: id.to_owned(),
        grace: Some(milliseconds(0)),
        ..CancelTaskRequest::default()
    };
    let answer = client.tasks.cancel_task(request).await;
    let answer = answer.unwrap_or_else(|status| panic!("cancel: {status:?}"));
    answer.into_inner().task.unwrap_or_default().state()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_monitor_does_not_fire_and_makes_up_for_what_it_missed_once() {
    let mut client = deployment().await.client().await;
    let session = new_session("pause");
    let id = client
        .create(&session, monitor(shell("true"), every(200)))
        .await
        .id;
    client
        .monitor_reached(&session, |monitor| monitor.firings >= 1)
        .await;
    hold(&mut client, &id, true).await;
    // what was on its way to the store came before the hold or not at all
    let held = client.monitor_reached(&session, |_| true).await;
    assert!(held.task.clone().unwrap_or_default().hold, "{held:?}");
    let later = client
        .monitor_reached(&session, |monitor| {
            moment(monitor.next_at) < SystemTime::now() - Duration::from_secs(1)
        })
        .await;
    assert_eq!(later.firings, held.firings, "{later:?}");
    hold(&mut client, &id, false).await;
    client
        .monitor_reached(&session, |monitor| monitor.firings > held.firings)
        .await;
    let firings = client.firings(&id).await;
    let caught_up = usize::try_from(held.firings).expect("few");
    let missed = &firings[caught_up];
    let next = client
        .monitor_reached(&session, |monitor| monitor.firings > held.firings + 1)
        .await;
    assert!(moment(next.next_at) > moment(missed.created_at));
    cancel(&mut client, &id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canceled_monitor_ends_at_once_and_takes_its_firing_along() {
    let mut client = deployment().await.client().await;
    let session = new_session("stop");
    let id = client
        .create(&session, monitor(shell("sleep 300"), every(200)))
        .await
        .id;
    client
        .monitor_reached(&session, |monitor| monitor.open_firings == 1)
        .await;
    let firing = client.firings(&id).await.remove(0);
    client
        .reached(&firing.id, |task| task.state() == TaskState::Running)
        .await;
    assert_eq!(cancel(&mut client, &id).await, TaskState::Canceled);
    let firing = client.ended(&firing.id).await;
    assert_eq!(firing.state(), TaskState::Canceled, "{firing:?}");
    assert!(client.monitors(&session).await.is_empty());
    assert_eq!(client.firings(&id).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_look_at_all_that_was_printed() {
    let mut client = deployment().await.client().await;
    let session = new_session("long-change");
    let watched = deployment().await.folder().join(&session);
    // What changes lies far before the end, and the length stays.
    let script = format!(
        "cat {}; head -c 300000 /dev/zero | tr '\\0' x",
        watched.display()
    );
    std::fs::write(&watched, "calm\n").expect("written");
    let schedule = MonitorSchedule {
        wake_on: MonitorWake::Changed.into(),
        ..every(200)
    };
    let id = client
        .create(&session, monitor(shell(&script), schedule))
        .await
        .id;
    client
        .monitor_reached(&session, |monitor| monitor.firings >= 4)
        .await;
    assert_eq!(client.drain_wakes(&session).await, []);
    let fresh = watched.with_extension("fresh");
    std::fs::write(&fresh, "wind\n").expect("written");
    std::fs::rename(&fresh, &watched).expect("replaced");
    until("the change to wake", SOON, async || {
        !client.drain_wakes(&session).await.is_empty()
    })
    .await;
    cancel(&mut client, &id).await;

    for (pattern, wakes) in [("w.nd", 1), ("st.rm", 0)] {
        let session = new_session("long-match");
        let schedule = MonitorSchedule {
            wake_on: MonitorWake::Match.into(),
            match_regex: pattern.to_owned(),
            max_firings: 1,
            ..every(200)
        };
        let id = client
            .create(&session, monitor(shell(&script), schedule))
            .await
            .id;
        client.ended(&id).await;
        assert_eq!(client.drain_wakes(&session).await.len(), wakes, "{pattern}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_wakes_once_and_a_match_each_time() {
    let mut client = deployment().await.client().await;
    let session = new_session("watch");
    let watched = deployment().await.folder().join(&session);
    std::fs::write(&watched, "calm").expect("written");
    let script = format!("cat {}", watched.display());
    let schedule = MonitorSchedule {
        wake_on: MonitorWake::Changed.into(),
        ..every(200)
    };
    let id = client
        .create(&session, monitor(shell(&script), schedule))
        .await
        .id;
    client
        .monitor_reached(&session, |monitor| monitor.firings >= 4)
        .await;
    assert_eq!(client.drain_wakes(&session).await, []);
    // replaced as a whole: a firing must not read half of it
    let fresh = watched.with_extension("fresh");
    std::fs::write(&fresh, "storm").expect("written");
    std::fs::rename(&fresh, &watched).expect("replaced");
    let mut wakes = Vec::new();
    until("the change to wake", SOON, async || {
        wakes.extend(client.drain_wakes(&session).await);
        !wakes.is_empty()
    })
    .await;
    let seen = client.monitor_reached(&session, |_| true).await.firings;
    client
        .monitor_reached(&session, |monitor| monitor.firings >= seen + 3)
        .await;
    wakes.extend(client.drain_wakes(&session).await);
    assert_eq!(wakes.len(), 1, "{wakes:?}");
    assert!(
        wakes[0]
            .text
            .contains("ended otherwise than the one before"),
        "{wakes:?}"
    );
    cancel(&mut client, &id).await;

    let matching = new_session("match");
    let schedule = MonitorSchedule {
        wake_on: MonitorWake::Match.into(),
        match_regex: "st.rm".to_owned(),
        max_firings: 2,
        ..every(200)
    };
    let id = client
        .create(&matching, monitor(shell(&script), schedule.clone()))
        .await
        .id;
    client.ended(&id).await;
    assert_eq!(client.drain_wakes(&matching).await.len(), 2);
    let other = MonitorSchedule {
        match_regex: "calm".to_owned(),
        ..schedule
    };
    let id = client
        .create(&matching, monitor(shell(&script), other))
        .await
        .id;
    client.ended(&id).await;
    assert_eq!(client.drain_wakes(&matching).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_newest_firings_are_kept() {
    let mut client = deployment().await.client().await;
    let session = new_session("keep");
    let schedule = MonitorSchedule {
        keep_firings: 2,
        ..every(100)
    };
    let id = client
        .create(&session, monitor(shell("true"), schedule))
        .await
        .id;
    client
        .monitor_reached(&session, |monitor| monitor.firings >= 6)
        .await;
    hold(&mut client, &id, true).await;
    let firings = client
        .monitor_reached(&session, |monitor| monitor.open_firings == 0)
        .await
        .firings;
    until("old firings to be deleted", SOON, async || {
        client.firings(&id).await.len() == 2
    })
    .await;
    let keys: Vec<String> = client
        .firings(&id)
        .await
        .into_iter()
        .map(|firing| firing.key)
        .collect();
    let newest = [firings - 1, firings].map(|number| format!("fire-{number}"));
    assert_eq!(keys, newest);
    cancel(&mut client, &id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused() {
    let mut client = deployment().await.client().await;
    let session = new_session("refused");
    let cron = |expression: &str, time_zone: &str| MonitorSchedule {
        when: Some(When::Cron(CronSchedule {
            expression: expression.to_owned(),
            time_zone: time_zone.to_owned(),
        })),
        ..MonitorSchedule::default()
    };
    for (schedule, field) in [
        (MonitorSchedule::default(), "task.schedule"),
        (every(99), "task.schedule.interval"),
        (cron("0 0 31 2 *", ""), "task.schedule.cron.expression"),
        (cron("@weekly", ""), "task.schedule.cron.expression"),
        (
            cron("1,2,3,,4 * * * *", ""),
            "task.schedule.cron.expression",
        ),
        (cron("0 0 L * *", ""), "task.schedule.cron.expression"),
        (cron("0 0 ? * *", ""), "task.schedule.cron.expression"),
        (
            MonitorSchedule {
                when: Some(When::At(SystemTime::now().into())),
                max_firings: 3,
                ..MonitorSchedule::default()
            },
            "task.schedule.max_firings",
        ),
        (cron("0 0 * * *", "Mars"), "task.schedule.cron.time_zone"),
        (
            MonitorSchedule {
                wake_on: MonitorWake::Match.into(),
                ..every(1_000)
            },
            "task.schedule.match_regex",
        ),
        (
            MonitorSchedule {
                keep_firings: 1_001,
                ..every(1_000)
            },
            "task.schedule.keep_firings",
        ),
    ] {
        let refused = client
            .try_create(&session, monitor(shell("true"), schedule))
            .await;
        expect_bad_field(refused, field);
    }
    let no_command = monitor(TaskDefinition::default(), every(1_000));
    expect_bad_field(client.try_create(&session, no_command).await, "task.spec");
    let no_schedule = TaskDefinition {
        kind: "monitor".to_owned(),
        ..shell("true")
    };
    expect_bad_field(
        client.try_create(&session, no_schedule).await,
        "task.schedule",
    );
    let late = TaskDefinition {
        not_before: Some(SystemTime::now().into()),
        ..monitor(shell("true"), every(1_000))
    };
    expect_bad_field(client.try_create(&session, late).await, "task.not_before");

    let id = client
        .create(&session, monitor(shell("true"), every(60_000)))
        .await
        .id;
    let below = TaskDefinition {
        parent_task_id: id.clone(),
        key: "fire-2".to_owned(),
        ..shell("true")
    };
    let request = CreateTaskRequest {
        session_id: session.clone(),
        task: Some(below),
        ..CreateTaskRequest::default()
    };
    expect_refused(
        "a child of a monitor",
        client.tasks.create_task(request).await,
        Code::FailedPrecondition,
        "PARENT_IS_MONITOR",
    );
    let post = PostMessageRequest {
        task: id.clone(),
        parts: vec![text("hello?")],
        ..PostMessageRequest::default()
    };
    let refused = client.tasks.post_message(post).await;
    let code = Code::FailedPrecondition;
    let refused = expect_refused("a message", refused, code, "MONITOR_NEVER_RUNS");
    assert!(refused.message().contains("task below it"), "{refused:?}");
    cancel(&mut client, &id).await;
    let retry = RetryTaskRequest {
        task: id,
        ..RetryTaskRequest::default()
    };
    expect_bad_field(client.tasks.retry_task(retry).await, "task");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_firing_is_retried_and_cloned_beside_its_monitor() {
    let mut client = deployment().await.client().await;
    let session = new_session("again");
    let schedule = MonitorSchedule {
        max_firings: 1,
        ..every(60_000)
    };
    for (schedule, is_over) in [(schedule, true), (every(60_000), false)] {
        let id = client
            .create(&session, monitor(shell("exit 3"), schedule))
            .await
            .id;
        let firing = eventually("a firing", SOON, async || client.firings(&id).await.pop()).await;
        client.ended(&firing.id).await;
        if is_over {
            client.ended(&id).await;
        }
        let retry = RetryTaskRequest {
            task: firing.id.clone(),
            ..RetryTaskRequest::default()
        };
        let retried = client.tasks.retry_task(retry).await.expect("it is retried");
        let clone = CloneTaskRequest {
            task: firing.id.clone(),
            ..CloneTaskRequest::default()
        };
        let cloned = client.tasks.clone_task(clone).await.expect("it is cloned");
        for copy in [retried.into_inner().task, cloned.into_inner().task] {
            let copy = copy.unwrap_or_default();
            assert_eq!(copy.parent_task_id, "", "{copy:?}");
            assert_eq!(copy.root_task_id, copy.id);
            assert_eq!(copy.links.unwrap_or_default().retry_of, firing.id);
            assert_eq!(client.ended(&copy.id).await.state(), TaskState::Failed);
        }
        assert_eq!(client.firings(&id).await.len(), 1, "no firing was added");
        // Who asks for the monitor as the parent is refused.
        let below = CloneTaskRequest {
            task: firing.id.clone(),
            changes: Some(TaskDefinition {
                parent_task_id: id.clone(),
                ..TaskDefinition::default()
            }),
            change_mask: Some(prost_types::FieldMask {
                paths: vec!["parent_task_id".to_owned()],
            }),
            ..CloneTaskRequest::default()
        };
        let refused = client.tasks.clone_task(below).await;
        let reason = if is_over {
            "PARENT_ENDED"
        } else {
            "PARENT_IS_MONITOR"
        };
        expect_refused("a clone below", refused, Code::FailedPrecondition, reason);
        if !is_over {
            cancel(&mut client, &id).await;
        }
    }
}
