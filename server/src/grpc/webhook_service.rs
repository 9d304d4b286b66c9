//! `WebhookService`.

use super::inside::from_outside;
use crate::{app::App, control::webhooks};
use std::sync::Arc;
use taskyard_proto::v1::{
    CreateWebhookRequest, CreateWebhookResponse, DeleteWebhookRequest, DeleteWebhookResponse,
    ListWebhookDeliveriesRequest, ListWebhookDeliveriesResponse, ListWebhooksRequest,
    ListWebhooksResponse, RedeliverWebhookRequest, RedeliverWebhookResponse,
    webhook_service_server::WebhookService,
};
use tonic::{Request, Response, Status};

/// Why nothing inside a task may call this.
const OWNERS: &str = "webhooks are the owner's";

/// The service.
#[derive(Clone)]
pub struct HookService {
    app: Arc<App>,
}

impl HookService {
    /// The service of this server.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl WebhookService for HookService {
    async fn create_webhook(
        &self,
        request: Request<CreateWebhookRequest>,
    ) -> Result<Response<CreateWebhookResponse>, Status> {
        let request = from_outside(&self.app, request, OWNERS).await?;
        let answer = webhooks::create_webhook(&self.app, request).await?;
        Ok(Response::new(answer))
    }

    async fn list_webhooks(
        &self,
        request: Request<ListWebhooksRequest>,
    ) -> Result<Response<ListWebhooksResponse>, Status> {
        let request = from_outside(&self.app, request, OWNERS).await?;
        let answer = webhooks::list_webhooks(&self.app, request).await?;
        Ok(Response::new(answer))
    }

    async fn delete_webhook(
        &self,
        request: Request<DeleteWebhookRequest>,
    ) -> Result<Response<DeleteWebhookResponse>, Status> {
        let request = from_outside(&self.app, request, OWNERS).await?;
        let answer = webhooks::delete_webhook(&self.app, request).await?;
        Ok(Response::new(answer))
    }

    async fn list_webhook_deliveries(
        &self,
        request: Request<ListWebhookDeliveriesRequest>,
    ) -> Result<Response<ListWebhookDeliveriesResponse>, Status> {
        let request = from_outside(&self.app, request, OWNERS).await?;
        let answer = webhooks::list_deliveries(&self.app, request).await?;
        Ok(Response::new(answer))
    }

    async fn redeliver_webhook(
        &self,
        request: Request<RedeliverWebhookRequest>,
    ) -> Result<Response<RedeliverWebhookResponse>, Status> {
        let request = from_outside(&self.app, request, OWNERS).await?;
        let answer = webhooks::redeliver(&self.app, request).await?;
        Ok(Response::new(answer))
    }
}
