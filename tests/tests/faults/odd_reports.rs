//! Reports with values that cannot be: an item is refused and the run goes on, a finish is bent and the task ends.

use std::time::Duration;

use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::{
    Exit, FinishReport, Progress, ProgressReport, StreamReport, TaskState, Usage, Verdict,
};
use taskyard_tests::client::{command, error_kind, milliseconds, new_session};
use taskyard_tests::deployment::Deployment;

use crate::hand_worker::{HandWorker, hello};

fn progress(current: f64, total: f64) -> Report {
    Report::Progress(ProgressReport {
        progress: Some(Progress {
            current: Some(current),
            total: Some(total),
            ..Progress::default()
        }),
        state_detail: String::new(),
    })
}

fn finish() -> FinishReport {
    FinishReport {
        exit: Some(Exit {
            exit_code: Some(0),
            ..Exit::default()
        }),
        ..FinishReport::default()
    }
}

#[tokio::test]
async fn odd_values_hold_up_no_task() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(600))
        .workers(Vec::new())
        .start()
        .await;
    let mut client = deployment.client().await;
    let session = new_session("odd");
    let mut worker = HandWorker::attach(&client, hello("odd", 1)).await;

    let id = client.create(&session, command(&["work"])).await.id;
    let offer = worker.offer().await;
    let lease = worker.start(&offer).await;
    for (item, (current, total)) in (2..).zip([
        (-1.0, 10.0),
        (1.0, -0.5),
        (f64::NAN, 1.0),
        (1.0, f64::INFINITY),
    ]) {
        let verdict = worker.report(&lease, item, progress(current, total)).await;
        assert_eq!(verdict, Verdict::Rejected, "{current} of {total}");
    }
    let beyond = worker.report(&lease, 6, progress(12.0, 10.0)).await;
    assert_eq!(beyond, Verdict::Applied, "a total is an estimate");
    let shown = client.get(&id).await.progress.unwrap_or_default();
    assert_eq!((shown.current, shown.total), (Some(12.0), Some(10.0)));
    let odd = FinishReport {
        duration: Some(milliseconds(-5)),
        usage: Some(Usage {
            cpu_ms: -1,
            max_rss_bytes: i64::MIN,
            reported_json: "[1]".to_owned(),
        }),
        stdout: Some(StreamReport {
            total_bytes: -7,
            ..StreamReport::default()
        }),
        stderr: Some(StreamReport {
            capture: 99,
            ..StreamReport::default()
        }),
        ..finish()
    };
    let verdict = worker.report(&lease, 7, Report::Finish(odd)).await;
    assert_eq!(verdict, Verdict::Applied);
    let task = client.ended(&id).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    let usage = task.usage.clone().unwrap_or_default();
    assert_eq!(
        (usage.cpu_ms, usage.max_rss_bytes, usage.reported_json),
        (0, 0, String::new())
    );
    let result = client.result(&id).await;
    assert!(result["duration_ms"].is_null(), "{result}");
    for stream in ["stdout", "stderr"] {
        assert_eq!(result[stream]["capture"], "incomplete", "{result}");
        assert_eq!(result[stream]["total_bytes"], 0, "{result}");
    }

    worker.set_free(1).await;
    let id = client.create(&session, command(&["work"])).await.id;
    let offer = worker.offer().await;
    let lease = worker.start(&offer).await;
    let odd = FinishReport {
        stop_cause: 77,
        ..finish()
    };
    let verdict = worker.report(&lease, 2, Report::Finish(odd)).await;
    assert_eq!(verdict, Verdict::Applied);
    let task = client.ended(&id).await;
    assert_eq!(
        (task.state(), error_kind(&task)),
        (TaskState::Failed, "worker_error")
    );
    deployment.remove().await;
}

#[tokio::test]
async fn a_kill_for_memory_is_told_apart_from_other_kills() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(600))
        .workers(Vec::new())
        .start()
        .await;
    let mut client = deployment.client().await;
    let session = new_session("memory");
    let mut worker = HandWorker::attach(&client, hello("small", 1)).await;
    let id = client.create(&session, command(&["work"])).await.id;
    let offer = worker.offer().await;
    let lease = worker.start(&offer).await;
    let killed = FinishReport {
        exit: Some(Exit {
            signal: Some(9),
            signal_name: "SIGKILL".to_owned(),
            oom_killed: true,
            ..Exit::default()
        }),
        ..FinishReport::default()
    };
    let verdict = worker.report(&lease, 2, Report::Finish(killed)).await;
    assert_eq!(verdict, Verdict::Applied);
    let task = client.ended(&id).await;
    assert_eq!(error_kind(&task), "oom_killed", "{task:?}");
    assert!(task.exit.is_some_and(|exit| exit.oom_killed));
    let result = client.result(&id).await;
    assert_eq!(result["error"]["kind"], "oom_killed", "{result}");
    assert_eq!(result["exit"]["oom_killed"], true, "{result}");
}
