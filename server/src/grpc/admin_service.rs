//! `AdminService`.

use super::inside;
use crate::{
    app::App,
    control::{
        list_audit_events, list_queues, list_sessions, list_workers, log_filter,
        monitors::list_monitors, retention,
    },
};
use std::sync::Arc;
use taskyard_proto::v1::{
    GetLogFilterRequest, GetLogFilterResponse, GetRetentionRequest, GetRetentionResponse,
    ListAuditEventsRequest, ListAuditEventsResponse, ListMonitorsRequest, ListMonitorsResponse,
    ListQueuesRequest, ListQueuesResponse, ListSessionsRequest, ListSessionsResponse,
    ListWorkersRequest, ListWorkersResponse, RunRetentionRequest, RunRetentionResponse,
    SetLogFilterRequest, SetLogFilterResponse, SetRetentionRequest, SetRetentionResponse,
    admin_service_server::AdminService,
};
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub struct OperatorService {
    app: Arc<App>,
}

impl OperatorService {
    /// The service of this server.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl AdminService for OperatorService {
    async fn list_workers(
        &self,
        request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        Ok(Response::new(
            list_workers::list_workers(&self.app, request.get_ref()).await?,
        ))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let (_, extensions, mut request) = request.into_parts();
        let identity = inside::ensure_reached(&self.app, &extensions, &mut request).await?;
        Ok(Response::new(
            list_sessions::list_sessions(&self.app, &identity, &request).await?,
        ))
    }

    async fn list_queues(
        &self,
        request: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesResponse>, Status> {
        Ok(Response::new(
            list_queues::list_queues(&self.app, request.get_ref()).await?,
        ))
    }

    async fn list_monitors(
        &self,
        request: Request<ListMonitorsRequest>,
    ) -> Result<Response<ListMonitorsResponse>, Status> {
        Ok(Response::new(
            list_monitors::list_monitors(&self.app, &inside::reached(&self.app, request).await?)
                .await?,
        ))
    }

    async fn set_retention(
        &self,
        request: Request<SetRetentionRequest>,
    ) -> Result<Response<SetRetentionResponse>, Status> {
        Ok(Response::new(
            retention::set_retention(&self.app, &inside::reached(&self.app, request).await?)
                .await?,
        ))
    }

    async fn get_retention(
        &self,
        request: Request<GetRetentionRequest>,
    ) -> Result<Response<GetRetentionResponse>, Status> {
        Ok(Response::new(
            retention::get_retention(&self.app, &inside::reached(&self.app, request).await?)
                .await?,
        ))
    }

    async fn get_log_filter(
        &self,
        _request: Request<GetLogFilterRequest>,
    ) -> Result<Response<GetLogFilterResponse>, Status> {
        Ok(Response::new(log_filter::get_log_filter()?))
    }

    async fn set_log_filter(
        &self,
        request: Request<SetLogFilterRequest>,
    ) -> Result<Response<SetLogFilterResponse>, Status> {
        Ok(Response::new(log_filter::set_log_filter(
            request.get_ref(),
        )?))
    }

    async fn run_retention(
        &self,
        request: Request<RunRetentionRequest>,
    ) -> Result<Response<RunRetentionResponse>, Status> {
        Ok(Response::new(
            retention::run_retention(&self.app, &inside::reached(&self.app, request).await?)
                .await?,
        ))
    }

    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let (_, extensions, mut request) = request.into_parts();
        let identity = inside::ensure_reached(&self.app, &extensions, &mut request).await?;
        Ok(Response::new(
            list_audit_events::list_audit_events(&self.app, &identity, &request).await?,
        ))
    }
}
