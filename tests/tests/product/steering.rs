//! Enriching tasks, and listing tasks, sessions and workers.

use taskyard_proto::v1::{
    Artifact, GetTaskRequest, Links, ListSessionsRequest, ListTasksRequest, ListTasksResponse,
    ListWorkersRequest, Progress, TaskDefinition, TaskState, UpdateTaskRequest, WorkerStatus,
};
use taskyard_tests::client::{Client, command, new_session, probe, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_refused;
use tonic::Code;

#[tokio::test]
async fn a_task_takes_what_its_owner_adds() {
    let mut client = Deployment::shared().await.client().await;
    let task = client.create(&new_session("enrich"), probe("hang")).await;
    let task = client
        .reached(&task.id, |task| task.state() == TaskState::Running)
        .await;
    let request = UpdateTaskRequest {
        update_mask: mask(&["summary", "state_detail", "artifacts", "links", "progress"]),
        summary: "half way".to_owned(),
        state_detail: "compiling".to_owned(),
        artifacts: vec![artifact("log", "/log.txt")],
        links: Some(Links {
            remote_task_id: "remote-1".to_owned(),
            resource_ids: vec!["vm-1".to_owned()],
            ..Links::default()
        }),
        progress: Some(Progress {
            current: Some(5.0),
            total: Some(10.0),
            ..Progress::default()
        }),
        ..update(&task.id)
    };
    let updated = client
        .tasks
        .update_task(request)
        .await
        .expect("updated")
        .into_inner();
    let updated = updated.task.unwrap_or_default();
    assert_eq!(
        (updated.summary.as_str(), updated.state_detail.as_str()),
        ("half way", "compiling")
    );
    assert_eq!(
        updated.progress.clone().unwrap_or_default().current,
        Some(5.0)
    );
    assert!(updated.generation > task.generation);
    let request = UpdateTaskRequest {
        append_artifacts: vec![artifact("log", "/new.txt"), artifact("chart", "/chart.png")],
        merge_links: Some(Links {
            child_session_id: "child".to_owned(),
            resource_ids: vec!["vm-1".to_owned(), "vm-2".to_owned()],
            ..Links::default()
        }),
        if_generation: updated.generation,
        ..update(&task.id)
    };
    let merged = client
        .tasks
        .update_task(request)
        .await
        .expect("merged")
        .into_inner();
    let merged = merged.task.unwrap_or_default();
    let paths: Vec<&str> = merged
        .artifacts
        .iter()
        .map(|artifact| artifact.path.as_str())
        .collect();
    assert_eq!(paths, ["/new.txt", "/chart.png"]);
    let links = merged.links.clone().unwrap_or_default();
    assert_eq!(links.resource_ids, ["vm-1", "vm-2"]);
    assert_eq!(
        (
            links.remote_task_id.as_str(),
            links.child_session_id.as_str()
        ),
        ("remote-1", "child")
    );
    let stale = UpdateTaskRequest {
        update_mask: mask(&["summary"]),
        if_generation: task.generation,
        ..update(&task.id)
    };
    let refused = client.tasks.update_task(stale).await;
    expect_refused(
        "an old generation",
        refused,
        Code::Aborted,
        "GENERATION_MISMATCH",
    );
}

#[tokio::test]
async fn a_task_that_has_ended_takes_enrichment_only() {
    let mut client = Deployment::shared().await.client().await;
    let ended = client.run(&new_session("enrich"), shell("exit 2")).await;
    let request = UpdateTaskRequest {
        update_mask: mask(&["summary"]),
        summary: "known to fail".to_owned(),
        append_artifacts: vec![artifact("report", "/r.txt")],
        ..update(&ended.id)
    };
    client.tasks.update_task(request).await.expect("enriched");
    let result = client.result(&ended.id).await;
    assert_eq!(result["summary"], "known to fail");
    assert_eq!(result["artifacts"][0]["name"], "report");
    assert_eq!(result["state"], "failed");
    let progress = UpdateTaskRequest {
        update_mask: mask(&["progress"]),
        progress: Some(Progress::default()),
        ..update(&ended.id)
    };
    let refused = client.tasks.update_task(progress).await;
    expect_refused(
        "progress after the end",
        refused,
        Code::FailedPrecondition,
        "TERMINAL",
    );
    let hold = UpdateTaskRequest {
        update_mask: mask(&["hold"]),
        hold: true,
        ..update(&ended.id)
    };
    let refused = client.tasks.update_task(hold).await;
    expect_refused(
        "a hold after the end",
        refused,
        Code::FailedPrecondition,
        "TERMINAL",
    );
}

#[tokio::test]
async fn a_listing_filters_and_pages_without_loss() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("list");
    let mut ids = Vec::new();
    for number in 0..7 {
        let task = TaskDefinition {
            kind: if number % 2 == 0 { "even" } else { "odd" }.to_owned(),
            tags: vec![format!("team.n{number}"), "all".to_owned()],
            hold: true,
            ..command(&["true"])
        };
        ids.insert(0, client.create(&session, task).await.id);
    }
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListTasksRequest {
            session_id: session.clone(),
            page_size: 3,
            page_token,
            ..ListTasksRequest::default()
        };
        let page = list(&mut client, request).await;
        assert!(page.tasks.len() <= 3);
        assert!(page.tasks.iter().all(|task| task.spec.is_none()));
        found.extend(page.tasks.into_iter().map(|task| task.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, ids, "newest first, each once");
    let cancel = taskyard_proto::v1::CancelTaskRequest {
        task: ids[0].clone(),
        ..Default::default()
    };
    client.tasks.cancel_task(cancel).await.expect("canceled");
    let of = |change: &dyn Fn(&mut ListTasksRequest)| {
        let mut request = ListTasksRequest {
            session_id: session.clone(),
            ..ListTasksRequest::default()
        };
        change(&mut request);
        request
    };
    let canceled = of(&|request| request.states = vec![TaskState::Canceled.into()]);
    let odd = of(&|request| request.kinds = vec!["odd".to_owned()]);
    let tagged = of(&|request| request.tags = vec!["team.n4".to_owned(), "all".to_owned()]);
    let below = of(&|request| request.tags = vec!["team.*".to_owned()]);
    let with_spec = of(&|request| request.include_spec = true);
    for (request, expected) in [
        (canceled, 1),
        (odd, 3),
        (tagged, 1),
        (below, 7),
        (with_spec, 7),
    ] {
        let has_spec = request.include_spec;
        let page = list(&mut client, request.clone()).await;
        assert_eq!(page.tasks.len(), expected, "{request:?}");
        assert!(
            page.tasks
                .iter()
                .all(|task| task.spec.is_some() == has_spec)
        );
    }
}

#[tokio::test]
async fn children_are_found_below_their_parent() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("family");
    let parent = client.create(&session, held()).await;
    let child = TaskDefinition {
        parent_task_id: parent.id.clone(),
        ..held()
    };
    let child = client.create(&session, child).await;
    assert_eq!(
        (&child.parent_task_id, &child.root_task_id),
        (&parent.id, &parent.id)
    );
    let request = ListTasksRequest {
        session_id: session,
        parent_task_id: parent.id,
        ..ListTasksRequest::default()
    };
    let found = list(&mut client, request).await;
    assert_eq!(found.tasks.len(), 1);
    assert_eq!(found.tasks[0].id, child.id);
}

#[tokio::test]
async fn operators_see_sessions_and_workers() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("seen");
    let task = client.create(&session, held()).await;
    let sessions = client
        .admin
        .list_sessions(ListSessionsRequest::default())
        .await;
    let sessions = sessions.expect("listed").into_inner().sessions;
    let found = sessions
        .into_iter()
        .find(|found| found.session_id == session);
    let found = found.expect("newest first, so on the first page");
    assert_eq!(
        (found.open_tasks, found.total_tasks, found.last_seq),
        (1, 1, 1)
    );
    let workers = client
        .admin
        .list_workers(ListWorkersRequest::default())
        .await;
    let workers = workers.expect("listed").into_inner().workers;
    let shared = workers
        .iter()
        .find(|worker| worker.name == "shared")
        .expect("there");
    assert_eq!((shared.status(), shared.slots), (WorkerStatus::Active, 32));
    assert_eq!(shared.executors, ["command"]);
    assert!(!shared.version.is_empty() && shared.heartbeat_at.is_some());
    let request = GetTaskRequest {
        task: task.id,
        session_id: new_session("another"),
        ..GetTaskRequest::default()
    };
    let refused = client.tasks.get_task(request).await;
    expect_refused(
        "a foreign session",
        refused,
        Code::NotFound,
        "SESSION_NOT_FOUND",
    );
}

async fn list(client: &mut Client, request: ListTasksRequest) -> ListTasksResponse {
    client
        .tasks
        .list_tasks(request)
        .await
        .expect("listed")
        .into_inner()
}

fn update(task: &str) -> UpdateTaskRequest {
    UpdateTaskRequest {
        task: task.to_owned(),
        ..UpdateTaskRequest::default()
    }
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    })
}

fn artifact(name: &str, path: &str) -> Artifact {
    Artifact {
        name: name.to_owned(),
        r#type: "file".to_owned(),
        path: path.to_owned(),
        ..Artifact::default()
    }
}

fn held() -> TaskDefinition {
    TaskDefinition {
        hold: true,
        ..command(&["true"])
    }
}
