//! `TaskAgentService`.

use super::inside::require_caller;
use crate::{app::App, control::agent};
use futures::StreamExt;
use std::sync::Arc;
use taskyard_proto::v1::{
    AskRequest, AskResponse, GetSelfRequest, GetSelfResponse, PostRequest, PostResponse,
    PublishArtifactRequest, PublishArtifactResponse, ReceiveMessagesRequest,
    ReceiveMessagesResponse, ReportProgressRequest, ReportProgressResponse, ReportUsageRequest,
    ReportUsageResponse, SetResultRequest, SetResultResponse,
    task_agent_service_server::TaskAgentService,
};
use tonic::{Request, Response, Status, Streaming};

/// The service.
#[derive(Clone)]
pub struct AgentService {
    app: Arc<App>,
}

impl AgentService {
    /// The service of this server.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl TaskAgentService for AgentService {
    async fn get_self(
        &self,
        request: Request<GetSelfRequest>,
    ) -> Result<Response<GetSelfResponse>, Status> {
        let caller = require_caller(&self.app, &request).await?;
        Ok(Response::new(agent::get_self(&self.app, &caller).await?))
    }

    async fn report_progress(
        &self,
        request: Request<ReportProgressRequest>,
    ) -> Result<Response<ReportProgressResponse>, Status> {
        let caller = require_caller(&self.app, &request).await?;
        let answer = agent::report_progress(&self.app, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<AskResponse>, Status> {
        let caller = require_caller(&self.app, &request).await?;
        let answer = agent::ask(&self.app, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn post(&self, request: Request<PostRequest>) -> Result<Response<PostResponse>, Status> {
        let caller = require_caller(&self.app, &request).await?;
        let answer = agent::post(&self.app, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn receive_messages(
        &self,
        request: Request<ReceiveMessagesRequest>,
    ) -> Result<Response<ReceiveMessagesResponse>, Status> {
        let caller = require_caller(&self.app, &request).await?;
        let answer = agent::receive_messages(&self.app, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn publish_artifact(
        &self,
        request: Request<Streaming<PublishArtifactRequest>>,
    ) -> Result<Response<PublishArtifactResponse>, Status> {
        let caller = require_caller(&self.app, &request).await?;
        let parts = request.into_inner().boxed();
        let answer = agent::publish_artifact::<Status>(&self.app, &caller, parts).await?;
        Ok(Response::new(answer))
    }

    async fn set_result(
        &self,
        request: Request<SetResultRequest>,
    ) -> Result<Response<SetResultResponse>, Status> {
        let caller = require_caller(&self.app, &request).await?;
        let answer = agent::set_result(&self.app, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn report_usage(
        &self,
        request: Request<ReportUsageRequest>,
    ) -> Result<Response<ReportUsageResponse>, Status> {
        let caller = require_caller(&self.app, &request).await?;
        let answer = agent::report_usage(&self.app, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }
}
