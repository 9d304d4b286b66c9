//! Creating tasks, what they are called, and making a repeated call safe.

use taskyard_proto::v1::{
    CreateTaskRequest, GetTaskRequest, SessionTask, TaskDefinition, TaskState,
};
use taskyard_tests::client::{
    Client, command, exit_code, is_terminal, milliseconds, new_session, shell,
};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_refused;
use tonic::Code;

#[tokio::test]
async fn a_task_goes_from_its_creation_to_its_end() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("first");
    let created = client.create(&session, shell("echo hello")).await;
    assert!(
        created.id.starts_with("task_") && created.id.len() == 37,
        "{}",
        created.id
    );
    assert_eq!(created.session_id, session);
    assert_eq!(created.namespace, "default");
    assert_eq!(created.ordinal, 1);
    assert_eq!(
        (created.kind.as_str(), created.executor.as_str()),
        ("command", "command")
    );
    assert_eq!(created.queue, "default");
    assert_eq!(created.root_task_id, created.id);
    assert!(created.created_at.is_some() && created.updated_at.is_some());
    let ended = client.ended(&created.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    assert_eq!((ended.attempt, ended.run), (1, 1));
    assert_eq!(ended.worker_id, "shared");
    assert_eq!(exit_code(&ended), Some(0));
    assert_eq!(
        ended.result_path,
        format!("/.tasks/{}/result.json", ended.id)
    );
    assert!(ended.started_at.is_some() && ended.finished_at.is_some());
    assert!(
        ended.error.is_none() && !ended.summary.is_empty(),
        "{ended:?}"
    );
    assert!(ended.heartbeat_at.is_none(), "nobody holds it any more");
    // created, running, succeeded
    assert_eq!(ended.generation, 3);
}

#[tokio::test]
async fn a_create_can_wait_for_the_end() {
    let mut client = Deployment::shared().await.client().await;
    let request = |script: &str, wait| CreateTaskRequest {
        session_id: new_session("wait"),
        task: Some(shell(script)),
        wait: Some(milliseconds(wait)),
        ..CreateTaskRequest::default()
    };
    let answer = client.tasks.create_task(request("exit 3", 30_000)).await;
    let answer = answer.expect("created").into_inner();
    assert!(is_terminal(&answer.task.unwrap_or_default()));
    assert!(
        answer.result_json.contains("\"exit_code\": 3"),
        "{}",
        answer.result_json
    );
    let answer = client.tasks.create_task(request("sleep 60", 50)).await;
    let answer = answer.expect("created").into_inner();
    assert!(!is_terminal(&answer.task.unwrap_or_default()));
    assert_eq!(answer.result_json, "");
}

#[tokio::test]
async fn a_task_is_found_by_id_and_ordinal_and_name_and_beginning() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("called");
    let first = client.create(&session, held("build")).await;
    let second = client.create(&session, held("")).await;
    assert_eq!((first.ordinal, second.ordinal), (1, 2));
    for called in [
        first.id.as_str(),
        "t1",
        "build",
        &first.id[..35],
        &first.id[5..36],
    ] {
        assert_eq!(
            get(&mut client, &session, called).await.id,
            first.id,
            "{called}"
        );
    }
    assert_eq!(get(&mut client, &session, "t2").await.id, second.id);
    // Both were made within the same few minutes, so their ids begin alike.
    let request = GetTaskRequest {
        session_id: session.clone(),
        task: first.id[..13].to_owned(),
        ..GetTaskRequest::default()
    };
    let answer = client.tasks.get_task(request).await;
    expect_refused(
        "a shared beginning",
        answer,
        Code::InvalidArgument,
        "AMBIGUOUS_TASK",
    );
}

#[tokio::test]
async fn a_name_is_free_again_when_its_task_has_ended() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("name");
    let first = client.create(&session, held("nightly")).await;
    let taken = client.try_create(&session, held("nightly")).await;
    expect_refused("a name in use", taken, Code::AlreadyExists, "NAME_TAKEN");
    let elsewhere = client.create(&new_session("name"), held("nightly")).await;
    assert_ne!(elsewhere.id, first.id);
    let request = taskyard_proto::v1::CancelTaskRequest {
        task: first.id.clone(),
        ..Default::default()
    };
    client.tasks.cancel_task(request).await.expect("canceled");
    let second = client.create(&session, held("nightly")).await;
    assert_eq!(get(&mut client, &session, "nightly").await.id, second.id);
    assert_eq!(second.ordinal, 2, "a refused create takes no ordinal");
}

#[tokio::test]
async fn the_same_key_means_the_same_task_for_ever() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("key");
    let keyed = |script: &str| TaskDefinition {
        key: "import-2026".to_owned(),
        ..shell(script)
    };
    let first = client.create(&session, keyed("true")).await;
    client.ended(&first.id).await;
    let again = create(&mut client, &session, keyed("true"), "")
        .await
        .expect("there");
    assert!(!again.1);
    assert_eq!(again.0.id, first.id);
    assert!(is_terminal(&again.0));
    let other = client.try_create(&session, keyed("false")).await;
    expect_refused(
        "another definition",
        other,
        Code::AlreadyExists,
        "KEY_CONFLICT",
    );
    let elsewhere = client.create(&new_session("key"), keyed("false")).await;
    assert_ne!(elsewhere.id, first.id);
}

#[tokio::test]
async fn the_same_request_id_means_the_same_call() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("request");
    let request_id = new_session("id");
    let first = create(&mut client, &session, shell("true"), &request_id)
        .await
        .expect("created");
    assert!(first.1);
    let again = create(&mut client, &session, shell("true"), &request_id)
        .await
        .expect("there");
    assert!(!again.1);
    assert_eq!(again.0.id, first.0.id);
    let other = create(&mut client, &session, shell("false"), &request_id).await;
    expect_refused(
        "another request",
        other,
        Code::AlreadyExists,
        "REQUEST_ID_CONFLICT",
    );
}

#[tokio::test]
async fn calls_that_race_with_one_key_create_one_task() {
    let deployment = Deployment::shared().await;
    let client = deployment.client().await;
    let session = new_session("race");
    let calls = (0..20).map(|_| {
        let mut client = client.clone();
        let session = session.clone();
        async move {
            let task = TaskDefinition {
                key: "once".to_owned(),
                ..command(&["true"])
            };
            create(&mut client, &session, task, "")
                .await
                .expect("created or there")
        }
    });
    let answers = futures::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|(_, created)| *created).count(), 1);
    assert!(
        answers
            .iter()
            .all(|(task, _)| task.id == answers[0].0.id && task.ordinal == 1)
    );
}

async fn create(
    client: &mut Client,
    session: &str,
    task: TaskDefinition,
    request_id: &str,
) -> Result<(SessionTask, bool), tonic::Status> {
    let request = CreateTaskRequest {
        session_id: session.to_owned(),
        task: Some(task),
        request_id: request_id.to_owned(),
        ..CreateTaskRequest::default()
    };
    let answer = client.tasks.create_task(request).await?.into_inner();
    Ok((answer.task.unwrap_or_default(), answer.created))
}

async fn get(client: &mut Client, session: &str, called: &str) -> SessionTask {
    let request = GetTaskRequest {
        session_id: session.to_owned(),
        task: called.to_owned(),
        ..GetTaskRequest::default()
    };
    let answer = client.tasks.get_task(request).await;
    let answer = answer.unwrap_or_else(|status| panic!("no task {called}: {status:?}"));
    answer.into_inner().task.unwrap_or_default()
}

fn held(name: &str) -> TaskDefinition {
    TaskDefinition {
        name: name.to_owned(),
        hold: true,
        ..command(&["true"])
    }
}
