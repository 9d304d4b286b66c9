//! A result that is set from inside the task, by a worker that passes the call on with the lease.

use std::time::Duration;

use prost::Message;
use taskyard_proto::v1::task_agent_service_client::TaskAgentServiceClient;
use taskyard_proto::v1::{Lease, SetResultRequest, TaskDefinition, TaskState};
use taskyard_tests::client::{Client, command, error_kind, new_session};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_refused;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use crate::hand_worker::{HandWorker, exited, hello};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_set_from_inside_is_held_against_the_schema() {
    let lease = Duration::from_secs(300);
    let deployment = Deployment::builder()
        .lease(lease)
        .workers(Vec::new())
        .start()
        .await;
    let mut client = deployment.client().await;
    let session = new_session("inside");
    let mut worker = HandWorker::attach(&client, hello("hand", 1)).await;

    let good = client.create(&session, with_schema()).await;
    let offer = worker.offer().await;
    let lease = worker.start(&offer).await;
    let refused = set_result(&client, &lease, r#"{"ok": 3}"#).await;
    expect_refused(
        "a result that does not fit",
        refused,
        Code::InvalidArgument,
        "SCHEMA_MISMATCH",
    );
    let refused = set_result(&client, &lease, "{").await;
    expect_refused("no JSON", refused, Code::InvalidArgument, "INVALID_FIELD");
    let set = set_result(&client, &lease, r#"{"ok": true}"#).await;
    set.expect("a result that fits");
    worker.report(&lease, 2, exited(0, 0)).await;
    let ended = client.ended(&good.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    let result = client.result(&good.id).await;
    assert_eq!(result["output"], serde_json::json!({"ok": true}));
    let late = set_result(&client, &lease, r#"{"ok": false}"#).await;
    expect_refused("a lease that has ended", late, Code::Aborted, "LEASE_LOST");

    worker.set_free(1).await;
    let silent = client.create(&session, with_schema()).await;
    let offer = worker.offer().await;
    let lease = worker.start(&offer).await;
    worker.report(&lease, 2, exited(0, 0)).await;
    let ended = client.ended(&silent.id).await;
    assert_eq!(error_kind(&ended), "no_result", "{ended:?}");
    deployment.remove().await;
}

async fn set_result(client: &Client, lease: &Lease, output_json: &str) -> Result<(), Status> {
    let mut request = Request::new(SetResultRequest {
        output_json: output_json.to_owned(),
    });
    let value = MetadataValue::from_bytes(&lease.encode_to_vec());
    request
        .metadata_mut()
        .insert_bin("taskyard-lease-bin", value);
    let mut inside = TaskAgentServiceClient::new(client.channel.clone());
    inside.set_result(request).await?;
    Ok(())
}

fn with_schema() -> TaskDefinition {
    let mut task = command(&["true"]);
    task.spec.get_or_insert_default().result_schema_json =
        r#"{"type": "object", "properties": {"ok": {"type": "boolean"}}}"#.to_owned();
    task
}
