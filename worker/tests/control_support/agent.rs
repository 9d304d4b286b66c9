//! The service for what runs inside a task: a question waits until the test answers it.

use prost::Message;
use taskyard_proto::v1;
use taskyard_proto::v1::task_agent_service_server::TaskAgentService;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::plane::Shared;

pub struct Agent {
    shared: Shared,
}

impl Agent {
    pub fn new(shared: Shared) -> Agent {
        Agent { shared }
    }
}

#[tonic::async_trait]
impl TaskAgentService for Agent {
    async fn ask(
        &self,
        request: Request<v1::AskRequest>,
    ) -> Result<Response<v1::AskResponse>, Status> {
        let lease = lease_of(request.metadata())?;
        self.shared.lock().asked.push(lease.clone());
        self.shared.changed();
        self.shared
            .until(|state| state.answered.contains(&lease.task_id))
            .await;
        Ok(Response::new(v1::AskResponse {
            status: v1::QuestionStatus::Answered.into(),
            ..Default::default()
        }))
    }

    async fn get_self(
        &self,
        _: Request<v1::GetSelfRequest>,
    ) -> Result<Response<v1::GetSelfResponse>, Status> {
        Err(not_needed())
    }

    async fn report_progress(
        &self,
        _: Request<v1::ReportProgressRequest>,
    ) -> Result<Response<v1::ReportProgressResponse>, Status> {
        Err(not_needed())
    }

    async fn post(
        &self,
        _: Request<v1::PostRequest>,
    ) -> Result<Response<v1::PostResponse>, Status> {
        Err(not_needed())
    }

    async fn receive_messages(
        &self,
        _: Request<v1::ReceiveMessagesRequest>,
    ) -> Result<Response<v1::ReceiveMessagesResponse>, Status> {
        Err(not_needed())
    }

    async fn publish_artifact(
        &self,
        _: Request<Streaming<v1::PublishArtifactRequest>>,
    ) -> Result<Response<v1::PublishArtifactResponse>, Status> {
        Err(not_needed())
    }

    async fn set_result(
        &self,
        _: Request<v1::SetResultRequest>,
    ) -> Result<Response<v1::SetResultResponse>, Status> {
        Err(not_needed())
    }

    async fn report_usage(
        &self,
        _: Request<v1::ReportUsageRequest>,
    ) -> Result<Response<v1::ReportUsageResponse>, Status> {
        Err(not_needed())
    }
}

fn lease_of(metadata: &MetadataMap) -> Result<v1::Lease, Status> {
    let encoded = metadata
        .get_bin("taskyard-lease-bin")
        .and_then(|value| value.to_bytes().ok())
        .ok_or_else(|| Status::invalid_argument("no lease"))?;
    v1::Lease::decode(encoded).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn not_needed() -> Status {
    Status::unimplemented("no test needs it")
}
