//! Secrets whose values are given: they reach the work, and nobody else.

use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::watch_response::Item;
use taskyard_proto::v1::{
    BatchCreateTasksRequest, CloneTaskRequest, CreateTaskRequest, GetLeaseSecretsRequest, Lease,
    ListTasksRequest, ReadRequest, RetryTaskRequest, SecretSource, StartReport, TaskDefinition,
    TaskState, UpdateTaskRequest, Verdict, task_secret::Source,
};
use taskyard_tests::client::{Client, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::hand_worker::{HandWorker, exited, hello, lease_of};
use taskyard_tests::inside::retried;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use taskyard_tests::secrets::{
    KEY, OTHER_KEY, TELL, dump, expect_hidden, keyed, new_value, secret, stored_values, told,
    value, with_secrets, write_keys,
};
use taskyard_tests::watcher::Watcher;
use tonic::Code;

#[tokio::test]
async fn a_value_reaches_the_work_and_no_read() {
    let deployment = keyed().await;
    let (mut client, session, token) = (
        deployment.client().await,
        new_session("secrets"),
        new_value(),
    );
    let held = TaskDefinition {
        hold: true,
        ..with_secrets(shell(TELL), vec![value("TOKEN", &token)])
    };
    let task = client.create(&session, held).await;
    let known = &task.secrets[0];
    assert_eq!(
        (known.name.as_str(), known.source()),
        ("TOKEN", SecretSource::Value)
    );
    expect_hidden("the answer", &format!("{task:?}"), &token);
    assert_eq!(stored_values(deployment.database(), &task.id).await, 1);
    let stored = dump(deployment.database()).await;
    assert!(stored.contains("TOKEN") || stored.contains(&hex("TOKEN")));
    expect_hidden("the database", &stored, &token);

    let release = UpdateTaskRequest {
        task: task.id.clone(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["hold".to_owned()],
        }),
        ..UpdateTaskRequest::default()
    };
    client.tasks.update_task(release).await.expect("released");
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    assert_eq!(
        read(&mut client, &task.id, "stdout.log").await,
        told(&token)
    );
    assert_eq!(ended.secrets, task.secrets, "names are known for ever");

    assert_eq!(stored_values(deployment.database(), &task.id).await, 0);
    expect_hidden("the database", &dump(deployment.database()).await, &token);
    expect_hidden("the record", &format!("{ended:?}"), &token);
    expect_hidden(
        "result.json",
        &client.result(&task.id).await.to_string(),
        &token,
    );
    let list = ListTasksRequest {
        session_id: session.clone(),
        include_spec: true,
        ..ListTasksRequest::default()
    };
    let listed = client
        .tasks
        .list_tasks(list)
        .await
        .expect("listed")
        .into_inner();
    assert_eq!(listed.tasks[0].secrets, task.secrets);
    expect_hidden("the listing", &format!("{listed:?}"), &token);
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    match watcher.next().await {
        Item::Snapshot(seen) => {
            assert_eq!(seen.secrets, task.secrets);
            expect_hidden("the snapshot", &format!("{seen:?}"), &token);
        }
        other => panic!("{other:?}"),
    }
    let logs = [
        deployment.with_server(0, |server| server.log()),
        deployment.with_worker(0, |worker| worker.log()),
    ];
    expect_hidden("a log", &logs.concat(), &token);
}

#[tokio::test]
async fn another_run_of_the_task_finds_them_again() {
    let deployment = keyed().await;
    let (mut client, token) = (deployment.client().await, new_value());
    let script = format!("{TELL}; [ $TASKYARD_RUN = 2 ]");
    let task = with_secrets(retried(shell(&script), 2), vec![value("TOKEN", &token)]);
    let ended = client.run(&new_session("secrets"), task).await;
    assert_eq!(
        (ended.state(), ended.run),
        (TaskState::Succeeded, 2),
        "{ended:?}"
    );
    assert_eq!(
        read(&mut client, &ended.id, "stdout.log").await,
        told(&token)
    );
    assert_eq!(stored_values(deployment.database(), &ended.id).await, 0);
}

#[tokio::test]
async fn a_cancel_in_the_queue_erases_them() {
    let deployment = keyed().await;
    let mut client = deployment.client().await;
    let held = TaskDefinition {
        hold: true,
        ..with_secrets(shell("true"), vec![value("TOKEN", &new_value())])
    };
    let task = client.create(&new_session("secrets"), held).await;
    assert_eq!(stored_values(deployment.database(), &task.id).await, 1);
    let cancel = taskyard_proto::v1::CancelTaskRequest {
        task: task.id.clone(),
        ..taskyard_proto::v1::CancelTaskRequest::default()
    };
    client.tasks.cancel_task(cancel).await.expect("canceled");
    assert_eq!(stored_values(deployment.database(), &task.id).await, 0);
}

#[tokio::test]
async fn only_the_holder_of_the_lease_is_told_and_only_after_the_start() {
    let deployment = keyed().await;
    let (mut client, token, queue) = (deployment.client().await, new_value(), new_session("q"));
    let mut worker = HandWorker::attach(
        &client,
        taskyard_proto::v1::Hello {
            queues: vec![queue.clone()],
            ..hello(&queue, 1)
        },
    )
    .await;
    let task = TaskDefinition {
        queue,
        ..with_secrets(shell("true"), vec![value("TOKEN", &token)])
    };
    client.create(&new_session("secrets"), task).await;
    let offer = worker.offer().await;
    assert!(offer.has_secrets);
    expect_hidden("the offer", &format!("{offer:?}"), &token);
    let lease = lease_of(&offer);
    let early = ask(&mut client, &lease).await;
    expect_refused(
        "before the start",
        early,
        Code::FailedPrecondition,
        "WRONG_STATE",
    );
    let started = worker
        .report(&lease, 1, Report::Start(StartReport {}))
        .await;
    assert_eq!(started, Verdict::Applied);

    let secrets = ask(&mut client, &lease).await.expect("it holds the lease");
    assert_eq!(secrets, [value("TOKEN", &token)]);
    let mut other_id = lease.clone();
    other_id.lease_id = vec![7; 16].into();
    let other_epoch = Lease {
        epoch: lease.epoch + 1,
        ..lease.clone()
    };
    for stranger in [other_id, other_epoch] {
        let refused = ask(&mut client, &stranger).await;
        expect_refused("a stranger", refused, Code::Aborted, "LEASE_LOST");
    }
    assert_eq!(
        worker.report(&lease, 2, exited(0, 0)).await,
        Verdict::Applied
    );
    let late = ask(&mut client, &lease).await;
    expect_refused("after the end", late, Code::Aborted, "LEASE_LOST");
}

#[tokio::test]
async fn values_need_a_key_and_references_do_not() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("secrets");
    let with_value = || with_secrets(shell("true"), vec![value("TOKEN", &new_value())]);
    let refused = client.try_create(&session, with_value()).await;
    let status = expect_refused(
        "no key",
        refused,
        Code::FailedPrecondition,
        "SECRET_KEY_MISSING",
    );
    assert!(status.message().contains("--secret-key-file"), "{status:?}");
    let batch = BatchCreateTasksRequest {
        session_id: session.clone(),
        tasks: vec![shell("true"), with_value()],
        atomic: true,
        ..BatchCreateTasksRequest::default()
    };
    let refused = client.tasks.batch_create_tasks(batch).await;
    expect_refused(
        "no key",
        refused,
        Code::FailedPrecondition,
        "SECRET_KEY_MISSING",
    );
    let reference = secret("TOKEN", Source::WorkerEnv("YARD_GIVEN_TOKEN".to_owned()));
    let held = TaskDefinition {
        hold: true,
        ..with_secrets(shell("true"), vec![reference])
    };
    let task = client.create(&session, held).await;
    assert_eq!(task.secrets[0].source(), SecretSource::WorkerEnv);
    assert_eq!(task.secrets[0].reference, "YARD_GIVEN_TOKEN");
}

#[tokio::test]
async fn bad_secrets_are_refused_without_being_shown() {
    let mut client = keyed().await.client().await;
    let token = new_value();
    for bad in [
        vec![value("PATH", &token)],
        vec![value("TASKYARD_X", &token)],
        vec![value("A", &token), value("A", &token)],
        vec![value("A", &format!("{token}\0"))],
        vec![value("A", &token.repeat(2_000))],
    ] {
        let task = with_secrets(shell("true"), bad);
        let refused = client.try_create(&new_session("secrets"), task).await;
        expect_hidden("the refusal", &format!("{refused:?}"), &token);
        expect_bad_field(refused, "task.secrets");
    }
}

#[tokio::test]
async fn a_repeated_create_finds_the_task_whatever_the_secret() {
    let deployment = keyed().await;
    let mut client = deployment.client().await;
    let session = new_session("secrets");
    let request = |token: &str| CreateTaskRequest {
        session_id: session.clone(),
        request_id: "once".to_owned(),
        task: Some(TaskDefinition {
            hold: true,
            key: "k".to_owned(),
            ..with_secrets(shell("true"), vec![value("TOKEN", token)])
        }),
        ..CreateTaskRequest::default()
    };
    let first = client.tasks.create_task(request(&new_value())).await;
    let again = client.tasks.create_task(request(&new_value())).await;
    let (first, again) = (
        first.expect("created").into_inner(),
        again.expect("found").into_inner(),
    );
    assert!(first.created && !again.created);
    let id = first.task.unwrap_or_default().id;
    assert_eq!(again.task.unwrap_or_default().id, id);
    assert_eq!(stored_values(deployment.database(), &id).await, 1);
}

#[tokio::test]
async fn what_is_run_again_needs_its_values_again() {
    let mut client = keyed().await.client().await;
    let (session, token) = (new_session("secrets"), new_value());
    let reference = secret("GIVEN", Source::WorkerEnv("YARD_GIVEN_TOKEN".to_owned()));
    let secrets = vec![value("TOKEN", &token), reference];
    let old = client
        .run(&session, with_secrets(shell(TELL), secrets))
        .await;
    assert_eq!(old.state(), TaskState::Succeeded, "{old:?}");

    let retry = |secrets| RetryTaskRequest {
        task: old.id.clone(),
        secrets,
        ..RetryTaskRequest::default()
    };
    let refused = client.tasks.retry_task(retry(Vec::new())).await;
    let reason = "SECRET_VALUES_NEEDED";
    let status = expect_refused("a retry", refused, Code::FailedPrecondition, reason);
    assert!(status.message().contains("TOKEN"), "{status:?}");
    assert!(!status.message().contains("GIVEN"), "{status:?}");
    let token = new_value();
    let retried = client
        .tasks
        .retry_task(retry(vec![value("TOKEN", &token)]))
        .await;
    let retried = retried
        .expect("all is there")
        .into_inner()
        .task
        .unwrap_or_default();
    let names: Vec<&str> = retried
        .secrets
        .iter()
        .map(|secret| secret.name.as_str())
        .collect();
    assert_eq!(names, ["GIVEN", "TOKEN"]);
    let ended = client.ended(&retried.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    assert_eq!(
        read(&mut client, &ended.id, "stdout.log").await,
        told(&token)
    );

    let clone = |secrets, paths: &[&str]| CloneTaskRequest {
        task: old.id.clone(),
        changes: Some(TaskDefinition {
            secrets,
            hold: true,
            ..TaskDefinition::default()
        }),
        change_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..CloneTaskRequest::default()
    };
    let refused = client.tasks.clone_task(clone(Vec::new(), &["hold"])).await;
    expect_refused("a clone", refused, Code::FailedPrecondition, reason);
    let given = clone(vec![value("TOKEN", &token)], &["hold", "secrets"]);
    let cloned = client.tasks.clone_task(given).await.expect("all is there");
    let cloned = cloned.into_inner().task.unwrap_or_default();
    assert_eq!(cloned.secrets.len(), 1, "{cloned:?}");
    // nor does a task that lives give its values away
    let live = CloneTaskRequest {
        task: cloned.id,
        ..clone(Vec::new(), &["hold"])
    };
    let refused = client.tasks.clone_task(live).await;
    expect_refused("a clone", refused, Code::FailedPrecondition, reason);
}

#[tokio::test]
async fn keys_are_replaced_by_adding_one_in_front() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = write_keys(folder.path(), &[KEY]);
    let deployment = Deployment::builder()
        .server_flags(&[&format!("--secret-key-file={}", keys.display())])
        .workers(Vec::new())
        .start()
        .await;
    let (mut client, token) = (deployment.client().await, new_value());
    let mut worker = HandWorker::attach(&client, hello("by-hand", 1)).await;
    let task = with_secrets(shell("true"), vec![value("TOKEN", &token)]);
    client.create(&new_session("secrets"), task).await;
    let lease = lease_of(&worker.offer().await);
    let started = worker
        .report(&lease, 1, Report::Start(StartReport {}))
        .await;
    assert_eq!(started, Verdict::Applied);

    write_keys(folder.path(), &[OTHER_KEY]);
    let other = deployment.add_server().await;
    let mut other = Client::connect(&deployment.endpoint_of(other)).await;
    let refused = ask(&mut other, &lease).await;
    let code = Code::FailedPrecondition;
    expect_refused("another key", refused, code, "SECRET_KEY_UNKNOWN");
    write_keys(folder.path(), &[OTHER_KEY, KEY]);
    let rotated = deployment.add_server().await;
    let mut rotated = Client::connect(&deployment.endpoint_of(rotated)).await;
    let secrets = ask(&mut rotated, &lease)
        .await
        .expect("the old key still decrypts");
    assert_eq!(secrets, [value("TOKEN", &token)]);
    deployment.remove().await;
}

async fn ask(
    client: &mut Client,
    lease: &Lease,
) -> Result<Vec<taskyard_proto::v1::TaskSecret>, tonic::Status> {
    let request = GetLeaseSecretsRequest {
        lease: Some(lease.clone()),
    };
    let answer = client.worker.get_lease_secrets(request).await?;
    Ok(answer.into_inner().secrets)
}

async fn read(client: &mut Client, task: &str, name: &str) -> String {
    let task = client.get(task).await;
    let request = ReadRequest {
        session_id: task.session_id,
        path: format!("/.tasks/{}/{name}", task.id),
        ..ReadRequest::default()
    };
    let bytes = client.read_file(request).await.expect("it is there");
    String::from_utf8(bytes).expect("it is text")
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
