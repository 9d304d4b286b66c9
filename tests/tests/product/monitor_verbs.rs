//! Monitors from the command line.

use taskyard_proto::v1::MonitorOverlap;
use taskyard_tests::client::new_session;
use taskyard_tests::deployment::Deployment;
use taskyard_tests::monitor::QUICK;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_makes_shows_pauses_and_resumes_monitors() {
    let deployment = Deployment::builder().server_flags(&[QUICK]).start().await;
    let mut client = deployment.client().await;
    let session = new_session("cli-monitor");
    let cli = deployment.command_line().env("TASKYARD_SESSION", &session);
    let words = [
        "monitor",
        "create",
        "--every",
        "200ms",
        "--wake-on",
        "changed",
        "--name",
        "ticker",
        "-o",
        "name",
        "--",
        "echo",
        "tick",
    ];
    let id = cli.run(&words).await.expect_code(0).text();
    let id = id.trim();
    client
        .monitor_reached(&session, |monitor| !monitor.last_task_id.is_empty())
        .await;
    let paused = cli.run(&["monitor", "pause", "ticker"]).await;
    assert_eq!(paused.expect_code(0).text(), "t1 is paused\n");
    let listed = cli.run(&["monitor", "list", "-o", "json"]).await;
    let listed = listed.expect_code(0).json();
    assert_eq!(listed[0]["id"], id, "{listed}");
    assert_eq!(listed[0]["hold"], true, "{listed}");
    assert_eq!(listed[0]["last_state"], "succeeded", "{listed}");
    let table = cli.run(&["monitor", "list"]).await.expect_code(0).text();
    assert!(
        table.contains("ticker") && table.contains("paused"),
        "{table}"
    );
    let before = client.monitor_reached(&session, |_| true).await.firings;
    cli.run(&["monitor", "resume", "ticker"])
        .await
        .expect_code(0);
    client
        .monitor_reached(&session, |monitor| monitor.firings > before)
        .await;
    cli.run(&["cancel", id]).await.expect_code(0);
    client.ended(id).await;

    let file = b"command: {argv: [echo, hi]}\nschedule: {cron: '0 7 * * MON-FRI', time_zone: Europe/Zurich, overlap: allow}\n";
    cli.run_with_input(&["submit", "-f", "-"], file)
        .await
        .expect_code(0);
    let from_file = client.monitor_reached(&session, |_| true).await;
    let schedule = from_file.schedule.unwrap_or_default();
    assert_eq!(schedule.overlap(), MonitorOverlap::Allow);
    assert_eq!(from_file.firings, 0);
    for bad in [
        &["monitor", "create", "--", "true"][..],
        &[
            "monitor", "create", "--every", "1s", "--at", "5m", "--", "true",
        ],
        &[
            "monitor", "create", "--every", "1s", "--tz", "UTC", "--", "true",
        ],
    ] {
        cli.run(bad).await.expect_code(2);
    }
    let refused = cli
        .run(&["monitor", "create", "--cron", "0 0 31 2 *", "--", "true"])
        .await
        .expect_code(1);
    assert!(refused.stderr.contains("never comes"), "{refused:?}");
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_is_shown_and_only_a_live_monitor_is_paused() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("shown");
    let cli = deployment.command_line().env("TASKYARD_SESSION", &session);
    let words = "monitor create --every 90m --max-firings 9 --name slow -- true";
    cli.run(&words.split(' ').collect::<Vec<_>>())
        .await
        .expect_code(0);
    let fired = client
        .monitor_reached(&session, |monitor| !monitor.last_task_id.is_empty())
        .await;
    let shown = cli.run(&["get", "slow"]).await.expect_code(0).text();
    for part in ["every 1h30m", "Next firing", "(in ", "succeeded: "] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let record = cli
        .run(&["get", "slow", "-o", "json"])
        .await
        .expect_code(0)
        .json();
    let schedule = &record["monitor"]["schedule"];
    assert_eq!(
        (&schedule["max_firings"], &schedule["wake_on"]),
        (&9.into(), &"failed".into())
    );
    assert!(record["monitor"]["next_at"].is_string(), "{record}");
    let listed = cli.run(&["monitor", "list"]).await.expect_code(0).text();
    assert!(listed.contains("every 1h30m"), "{listed}");

    cli.run(&["monitor", "pause", "slow"]).await.expect_code(0);
    let paused = cli.run(&["get", "slow"]).await.expect_code(0).text();
    assert!(
        paused.contains("paused") && !paused.contains("(in "),
        "{paused}"
    );
    let listed = cli
        .run(&["monitor", "list", "-o", "json"])
        .await
        .expect_code(0)
        .json();
    assert!(
        listed[0]["hold"] == true && listed[0]["next_at"].is_null(),
        "{listed}"
    );
    let firing = cli
        .run(&["monitor", "pause", &fired.last_task_id])
        .await
        .expect_code(1);
    assert!(firing.stderr.contains("looks like a firing"), "{firing:?}");
    let id = fired.task.unwrap_or_default().id;
    cli.run(&["cancel", "slow"]).await.expect_code(0);
    client.ended(&id).await;
    let ended = cli.run(&["monitor", "resume", &id]).await.expect_code(1);
    assert!(ended.stderr.contains("has ended: canceled"), "{ended:?}");
    let bare = cli.run(&["get", &id]).await.expect_code(0).text();
    assert!(!bare.contains("Next firing"), "{bare}");
}
