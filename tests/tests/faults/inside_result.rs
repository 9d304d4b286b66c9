//! A result that is set, and a message that is posted, from inside the task, by a worker that passes the call on with the lease.

use std::time::Duration;

use prost::Message;
use taskyard_proto::v1::message_part::Part;
use taskyard_proto::v1::task_agent_service_client::TaskAgentServiceClient;
use taskyard_proto::v1::{
    Lease, MessagePart, PostRequest, SetResultRequest, TaskDefinition, TaskState,
};
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
    let refused = post(&client, &lease, "3").await;
    expect_refused(
        "a message that does not fit",
        refused,
        Code::InvalidArgument,
        "SCHEMA_MISMATCH",
    );
    let posted = post(&client, &lease, "\"well\"").await;
    posted.expect("a message that fits");
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
    let request = SetResultRequest {
        output_json: output_json.to_owned(),
    };
    let mut agent = TaskAgentServiceClient::new(client.channel.clone());
    agent.set_result(inside(request, lease)).await?;
    Ok(())
}

async fn post(client: &Client, lease: &Lease, data_json: &str) -> Result<(), Status> {
    let request = PostRequest {
        parts: vec![MessagePart {
            part: Some(Part::DataJson(data_json.to_owned())),
        }],
        ..PostRequest::default()
    };
    let mut agent = TaskAgentServiceClient::new(client.channel.clone());
    agent.post(inside(request, lease)).await?;
    Ok(())
}

/// A request as a worker passes it on from inside the task.
fn inside<T>(message: T, lease: &Lease) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::from_bytes(&lease.encode_to_vec());
    request
        .metadata_mut()
        .insert_bin("taskyard-lease-bin", value);
    request
}

fn with_schema() -> TaskDefinition {
    let mut task = command(&["true"]);
    let spec = task.spec.get_or_insert_default();
    spec.message_schema_json = r#"{"type": "string"}"#.to_owned();
    spec.result_schema_json =
        r#"{"type": "object", "properties": {"ok": {"type": "boolean"}}}"#.to_owned();
    task
}
