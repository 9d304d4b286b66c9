//! `AdminService`.

use crate::{
    app::App,
    control::{list_sessions, list_workers},
};
use std::sync::Arc;
use taskyard_proto::v1::{
    ListSessionsRequest, ListSessionsResponse, ListWorkersRequest, ListWorkersResponse,
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
        Ok(Response::new(
            list_sessions::list_sessions(&self.app, request.get_ref()).await?,
        ))
    }
}
