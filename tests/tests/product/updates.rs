//! Updates: what is named is changed or cleared, what is not named stays, and what is added by many at once is all there.

use taskyard_proto::v1::{
    Artifact, Links, Progress, ProgressStep, RetryPolicy, SessionTask, TaskDefinition, TaskState,
    UpdateTaskRequest,
};
use taskyard_tests::client::{Client, command, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_bad_field;
use taskyard_tests::watcher::Watcher;

#[tokio::test]
async fn named_and_unset_clears_and_not_named_stays() {
    let mut client = Deployment::shared().await.client().await;
    let task = client.create(&new_session("clear"), held()).await;
    let whole = UpdateTaskRequest {
        state_detail: "waits".to_owned(),
        summary: "so far".to_owned(),
        progress: Some(Progress {
            current: Some(1.0),
            ..Progress::default()
        }),
        links: Some(Links {
            remote_task_id: "r".to_owned(),
            resource_ids: vec!["a".to_owned()],
            ..Links::default()
        }),
        artifacts: vec![artifact("a")],
        ..of(&task)
    };
    let fields = ["state_detail", "summary", "progress", "links", "artifacts"];
    let set = update(&mut client, masked(whole, &fields)).await;
    for field in fields {
        // All other fields of the request are unset, and must not matter.
        update(&mut client, masked(of(&task), &[field])).await;
        let now = client.get(&task.id).await;
        let is_cleared = [
            now.state_detail.is_empty(),
            now.summary.is_empty(),
            now.progress.clone().unwrap_or_default() == Progress::default(),
            now.links.clone().unwrap_or_default() == Links::default(),
            now.artifacts.is_empty(),
        ];
        let position = fields.iter().position(|name| *name == field);
        let expected: Vec<bool> = (0..5).map(|index| Some(index) <= position).collect();
        assert_eq!(is_cleared.to_vec(), expected, "{field}: {now:?}");
    }
    assert_eq!(set.artifacts.len(), 1);
}

#[tokio::test]
async fn progress_is_a_number_that_is_not_negative() {
    let mut client = Deployment::shared().await.client().await;
    let task = client.create(&new_session("numbers"), held()).await;
    let with = |current, total| {
        let progress = Progress {
            current: Some(current),
            total: Some(total),
            ..Progress::default()
        };
        let request = UpdateTaskRequest {
            progress: Some(progress),
            ..of(&task)
        };
        masked(request, &["progress"])
    };
    for (current, total, field) in [
        (-0.5, 1.0, "progress.current"),
        (f64::NAN, 1.0, "progress.current"),
        (f64::INFINITY, 1.0, "progress.current"),
        (1.0, -1.0, "progress.total"),
        (1.0, f64::NEG_INFINITY, "progress.total"),
    ] {
        let refused = client.tasks.update_task(with(current, total)).await;
        expect_bad_field(refused, field);
    }
    // A total is an estimate.
    let beyond = update(&mut client, with(11.0, 10.0)).await;
    let progress = beyond.progress.unwrap_or_default();
    assert_eq!((progress.current, progress.total), (Some(11.0), Some(10.0)));
}

#[tokio::test]
async fn what_is_there_already_is_no_change() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("same");
    let task = client.create(&session, held()).await;
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    let links = Links {
        remote_task_id: "r".to_owned(),
        resource_ids: vec!["a".to_owned()],
        ..Links::default()
    };
    let fields = ["state_detail", "summary", "links", "artifacts"];
    let whole = UpdateTaskRequest {
        state_detail: "waits".to_owned(),
        summary: "so far".to_owned(),
        links: Some(links.clone()),
        artifacts: vec![artifact("a")],
        ..of(&task)
    };
    // Nothing is set yet, so clearing changes nothing either.
    let cleared = update(&mut client, masked(of(&task), &fields)).await;
    assert_eq!(cleared.generation, 1);
    let set = update(&mut client, masked(whole.clone(), &fields)).await;
    assert_eq!(set.generation, 2);
    let merged = UpdateTaskRequest {
        merge_links: Some(links),
        append_artifacts: vec![artifact("a")],
        ..of(&task)
    };
    for same in [masked(whole, &fields), merged] {
        let now = update(&mut client, same).await;
        assert_eq!((now.generation, now.updated_at), (2, set.updated_at));
    }
    let other = UpdateTaskRequest {
        summary: "further".to_owned(),
        ..of(&task)
    };
    let changed = update(&mut client, masked(other, &["summary"])).await;
    assert_eq!(changed.generation, 3);
    let generations = [
        watcher.next_event().await.generation,
        watcher.next_event().await.generation,
    ];
    assert_eq!(generations, [2, 3], "one event for each change");
}

#[tokio::test]
async fn updates_that_make_no_sense_are_refused_by_name() {
    let mut client = Deployment::shared().await.client().await;
    let task = client.create(&new_session("bad"), held()).await;
    let at = |path: &str| Artifact {
        path: path.to_owned(),
        ..artifact("a")
    };
    for path in ["../../x", "/a/../b", "relative", "/"] {
        let replaced = UpdateTaskRequest {
            artifacts: vec![at(path)],
            ..of(&task)
        };
        let request = masked(replaced, &["artifacts"]);
        expect_bad_field(client.tasks.update_task(request).await, "artifacts.path");
        let appended = UpdateTaskRequest {
            append_artifacts: vec![at(path)],
            ..of(&task)
        };
        let answer = client.tasks.update_task(appended).await;
        expect_bad_field(answer, "append_artifacts.path");
    }
    let step = ProgressStep {
        title: "one".to_owned(),
        status: 99,
    };
    let request = UpdateTaskRequest {
        progress: Some(Progress {
            steps: vec![step],
            ..Progress::default()
        }),
        ..of(&task)
    };
    let answer = client
        .tasks
        .update_task(masked(request, &["progress"]))
        .await;
    expect_bad_field(answer, "progress.steps.status");
    assert_eq!(client.get(&task.id).await.generation, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_add_at_once_is_all_there() {
    let mut client = Deployment::shared().await.client().await;
    let task = client.create(&new_session("append"), held()).await;
    let updates: Vec<_> = (0..24)
        .map(|number| {
            let mut client = client.clone();
            let name = format!("n{number:02}");
            let request = UpdateTaskRequest {
                append_artifacts: vec![artifact(&name)],
                merge_links: Some(Links {
                    resource_ids: vec![name],
                    ..Links::default()
                }),
                ..of(&task)
            };
            tokio::spawn(async move { update(&mut client, request).await })
        })
        .collect();
    for update in updates {
        update.await.expect("an update does not panic");
    }
    let now = client.get(&task.id).await;
    let mut names: Vec<String> = now.artifacts.into_iter().map(|found| found.name).collect();
    let mut resources = now.links.unwrap_or_default().resource_ids;
    names.sort();
    resources.sort();
    let expected: Vec<String> = (0..24).map(|number| format!("n{number:02}")).collect();
    assert_eq!((names, resources), (expected.clone(), expected));
    assert_eq!(now.generation, task.generation + 24);
}

#[tokio::test]
async fn a_hold_does_not_cut_a_backoff_short() {
    let mut client = Deployment::shared().await.client().await;
    let hour = prost_types::Duration {
        seconds: 3_600,
        nanos: 0,
    };
    let task = TaskDefinition {
        retry: Some(RetryPolicy {
            max_runs: 2,
            initial_backoff: Some(hour),
            max_backoff: Some(hour),
            ..RetryPolicy::default()
        }),
        ..shell("exit 1")
    };
    let task = client.create(&new_session("backoff"), task).await;
    let waiting = client
        .reached(&task.id, |task| {
            task.run == 1 && task.state() == TaskState::Queued
        })
        .await;
    assert!(waiting.not_before.is_some(), "{waiting:?}");
    for hold in [true, false] {
        let request = UpdateTaskRequest { hold, ..of(&task) };
        update(&mut client, masked(request, &["hold"])).await;
        let now = client.get(&task.id).await;
        assert_eq!(now.hold, hold);
        assert_eq!(now.not_before, waiting.not_before, "{now:?}");
        assert_eq!(now.state(), TaskState::Queued);
    }
}

async fn update(client: &mut Client, request: UpdateTaskRequest) -> SessionTask {
    let answer = client.tasks.update_task(request).await;
    answer
        .expect("updated")
        .into_inner()
        .task
        .unwrap_or_default()
}

fn of(task: &SessionTask) -> UpdateTaskRequest {
    UpdateTaskRequest {
        task: task.id.clone(),
        ..UpdateTaskRequest::default()
    }
}

fn masked(request: UpdateTaskRequest, fields: &[&str]) -> UpdateTaskRequest {
    UpdateTaskRequest {
        update_mask: Some(prost_types::FieldMask {
            paths: fields.iter().map(|field| (*field).to_owned()).collect(),
        }),
        ..request
    }
}

fn artifact(name: &str) -> Artifact {
    Artifact {
        name: name.to_owned(),
        path: format!("/{name}"),
        ..Artifact::default()
    }
}

fn held() -> TaskDefinition {
    TaskDefinition {
        hold: true,
        ..command(&["true"])
    }
}
