//! KEDA's view of a pool of workers, called as KEDA calls it.

use std::collections::BTreeMap;

use rustix::process::Signal;
use taskyard_proto::externalscaler::external_scaler_client::ExternalScalerClient;
use taskyard_proto::externalscaler::{
    GetMetricsRequest, IsActiveResponse, MetricSpec, ScaledObjectRef,
};
use taskyard_proto::v1::{CancelTaskRequest, SessionTask, TaskDefinition, TaskState};
use taskyard_tests::client::{Client, new_session, pairs, probe};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::refusal::expect_bad_field;
use taskyard_tests::wait::{SOON, until, within};
use tonic::Streaming;
use tonic::transport::Channel;

fn pool(metadata: &[(&str, &str)]) -> ScaledObjectRef {
    let mut scaler_metadata: BTreeMap<String, String> = pairs(metadata);
    scaler_metadata.insert("scalerAddress".to_owned(), "taskyard:8275".to_owned());
    ScaledObjectRef {
        name: "workers".to_owned(),
        namespace: "production".to_owned(),
        scaler_metadata,
    }
}

fn gpu_pool() -> ScaledObjectRef {
    pool(&[
        ("queues", "heavy"),
        ("labels", "pool=gpu"),
        ("targetPerReplica", "2"),
    ])
}

async fn measured(scaler: &mut ExternalScalerClient<Channel>, pool: ScaledObjectRef) -> i64 {
    let request = GetMetricsRequest {
        scaled_object_ref: Some(pool),
        metric_name: "taskyard-tasks".to_owned(),
    };
    let answer = scaler.get_metrics(request).await.expect("measured");
    let values = answer.into_inner().metric_values;
    assert_eq!(values.len(), 1, "{values:?}");
    assert_eq!(values[0].metric_value_float, values[0].metric_value as f64);
    values[0].metric_value
}

async fn is_active(scaler: &mut ExternalScalerClient<Channel>, pool: ScaledObjectRef) -> bool {
    scaler
        .is_active(pool)
        .await
        .expect("asked")
        .into_inner()
        .result
}

async fn next(answers: &mut Streaming<IsActiveResponse>) -> bool {
    let answer = within("the scaler's next word", SOON, answers.message()).await;
    answer.expect("no error").expect("no end").result
}

/// A task that goes on until it is canceled.
async fn create(client: &mut Client, session: &str, labels: &[(&str, &str)]) -> SessionTask {
    let mut task = TaskDefinition {
        queue: "heavy".to_owned(),
        ..probe("hang")
    };
    task.spec.get_or_insert_default().worker_labels = pairs(labels);
    client.create(session, task).await
}

#[tokio::test]
async fn a_pool_is_measured_by_what_it_could_run_and_what_it_runs() {
    let deployment = Deployment::builder().start().await;
    let mut client = deployment.client().await;
    let mut scaler = ExternalScalerClient::new(client.channel.clone());
    let session = new_session("scaled");
    let spec = scaler.get_metric_spec(gpu_pool()).await.expect("asked");
    assert_eq!(
        spec.into_inner().metric_specs,
        [MetricSpec {
            metric_name: "taskyard-tasks".to_owned(),
            target_size: 2,
            target_size_float: 2.0,
        }]
    );
    let mut answers = scaler
        .stream_is_active(gpu_pool())
        .await
        .expect("asked")
        .into_inner();
    assert!(!next(&mut answers).await);
    assert_eq!(measured(&mut scaler, gpu_pool()).await, 0);

    let mut tasks = Vec::new();
    for labels in [&[("pool", "gpu")][..], &[], &[]] {
        tasks.push(create(&mut client, &session, labels).await);
    }
    let other = create(&mut client, &session, &[("pool", "cpu")]).await;
    assert!(next(&mut answers).await);
    assert_eq!(measured(&mut scaler, gpu_pool()).await, 3);
    assert!(is_active(&mut scaler, gpu_pool()).await);
    let elsewhere = pool(&[("queues", "light"), ("labels", "pool=gpu")]);
    assert!(!is_active(&mut scaler, elsewhere).await);
    let no_such_kind = pool(&[("queues", "heavy"), ("kinds", "subagent")]);
    assert!(!is_active(&mut scaler, no_such_kind).await);

    // what runs counts as before, for the pool whose workers run it
    let plan =
        WorkerPlan::new("gpu-1").flags(&["--slots=4", "--queues=heavy", "--labels=pool=gpu"]);
    deployment.add_worker(0, plan).await;
    for task in &tasks {
        client
            .reached(&task.id, |task| task.state() == TaskState::Running)
            .await;
    }
    assert_eq!(measured(&mut scaler, gpu_pool()).await, 3);
    let cpu_pool = pool(&[("queues", "heavy"), ("labels", "pool=cpu")]);
    assert_eq!(measured(&mut scaler, cpu_pool).await, 1);
    assert!(is_active(&mut scaler, gpu_pool()).await);
    for task in &tasks {
        let request = CancelTaskRequest {
            task: task.id.clone(),
            ..CancelTaskRequest::default()
        };
        client.tasks.cancel_task(request).await.expect("canceled");
        client.ended(&task.id).await;
    }
    assert!(!next(&mut answers).await);
    assert_eq!(measured(&mut scaler, gpu_pool()).await, 0);
    let still = client.get(&other.id).await;
    assert_eq!(still.state(), TaskState::Queued);
}

#[tokio::test]
async fn what_a_draining_worker_runs_asks_for_no_other_one_and_keeps_the_pool_awake() {
    let deployment = Deployment::builder().start().await;
    let mut client = deployment.client().await;
    let mut scaler = ExternalScalerClient::new(client.channel.clone());
    let session = new_session("drained");
    let plan = WorkerPlan::new("gpu-1").flags(&[
        "--slots=4",
        "--queues=heavy",
        "--labels=pool=gpu",
        "--drain-grace=600s",
    ]);
    let worker = deployment.add_worker(0, plan).await;
    let running = create(&mut client, &session, &[("pool", "gpu")]).await;
    client
        .reached(&running.id, |task| task.state() == TaskState::Running)
        .await;
    assert_eq!(measured(&mut scaler, gpu_pool()).await, 1);

    deployment.with_worker(worker, |process| process.signal(Signal::TERM));
    until("its task to count no more", SOON, async || {
        measured(&mut scaler, gpu_pool()).await == 0
    })
    .await;
    assert!(is_active(&mut scaler, gpu_pool()).await);
    let waiting = create(&mut client, &session, &[("pool", "gpu")]).await;
    assert_eq!(measured(&mut scaler, gpu_pool()).await, 1);
    let still = client.get(&running.id).await;
    assert_eq!(still.state(), TaskState::Running);

    for task in [&running, &waiting] {
        let request = CancelTaskRequest {
            task: task.id.clone(),
            ..CancelTaskRequest::default()
        };
        client.tasks.cancel_task(request).await.expect("canceled");
        client.ended(&task.id).await;
    }
    assert!(!is_active(&mut scaler, gpu_pool()).await);
}

#[tokio::test]
async fn a_trigger_that_names_no_pool_is_refused() {
    let deployment = Deployment::shared().await;
    let client = deployment.client().await;
    let mut scaler = ExternalScalerClient::new(client.channel.clone());
    let refused = scaler.is_active(pool(&[("labels", "gpu")])).await;
    expect_bad_field(refused, "scalerMetadata.labels");
    let refused = scaler
        .get_metric_spec(pool(&[("targetPerReplica", "0")]))
        .await;
    expect_bad_field(refused, "scalerMetadata.targetPerReplica");
    let refused = scaler.stream_is_active(pool(&[("labels", "=gpu")])).await;
    expect_bad_field(refused, "scalerMetadata.labels");
}
