//! ListWebhookDeliveries and RedeliverWebhook.

use super::list_webhooks::{find, no_webhook};
use crate::{
    app::App,
    control::{
        page_token,
        refusal::{Refusal, Resource},
    },
    store::{webhook_deliveries, webhooks},
};
use taskyard_core::webhook::MAX_TRIES;
use taskyard_proto::v1::{
    ListWebhookDeliveriesRequest, ListWebhookDeliveriesResponse, RedeliverWebhookRequest,
    RedeliverWebhookResponse, WebhookDeliveryState,
};

const DEFAULT_PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 200;

/// Lists the deliveries of a webhook, newest first.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::BadToken`], [`Refusal::NotFound`], [`Refusal::Store`].
pub async fn list_deliveries(
    app: &App,
    request: ListWebhookDeliveriesRequest,
) -> Result<ListWebhookDeliveriesResponse, Refusal> {
    let limit = page_token::page_size(request.page_size, DEFAULT_PAGE, LARGEST_PAGE)? as usize;
    let state = WebhookDeliveryState::try_from(request.state)
        .map_err(|_| Refusal::invalid("state", "is no known state"))?;
    let id = must_find(app, &request.namespace, &request.webhook_id).await?;
    let scope = ["deliveries", &request.webhook_id, state.as_str_name()];
    let before = page_token::decode(&scope, &request.page_token)?
        .map(|position| position.parse::<i64>())
        .transpose()
        .map_err(|_| Refusal::BadToken {
            field: "page_token",
            problem: "no server made this token",
        })?;
    // one more than asked for tells whether there is another page
    let mut deliveries = webhook_deliveries::list(
        app.store.pool(),
        id,
        state,
        before.unwrap_or(i64::MAX),
        limit as i64 + 1,
    )
    .await?;
    let has_more = deliveries.len() > limit;
    deliveries.truncate(limit);
    let next_page_token = match deliveries.last() {
        Some(last) if has_more => page_token::encode(&scope, &last.id.to_string()),
        Some(_) | None => String::new(),
    };
    Ok(ListWebhookDeliveriesResponse {
        deliveries,
        next_page_token,
    })
}

/// Makes a delivery pending again.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::NotFound`], [`Refusal::Store`].
pub async fn redeliver(
    app: &App,
    request: RedeliverWebhookRequest,
) -> Result<RedeliverWebhookResponse, Refusal> {
    let id = must_find(app, &request.namespace, &request.webhook_id).await?;
    let tries = i16::try_from(MAX_TRIES).unwrap_or(i16::MAX);
    let found =
        webhook_deliveries::redeliver(app.store.pool(), id, request.delivery_id, tries).await?;
    let delivery = found.ok_or_else(|| Refusal::NotFound {
        resource: Resource::WebhookDelivery,
        name: request.delivery_id.to_string(),
    })?;
    app.events.webhooks_touched();
    Ok(RedeliverWebhookResponse {
        delivery: Some(delivery),
    })
}

async fn must_find(app: &App, namespace: &str, webhook_id: &str) -> Result<u128, Refusal> {
    let (namespace_id, id) = find(app, namespace, webhook_id).await?;
    webhooks::find(app.store.pool(), namespace_id, id)
        .await?
        .ok_or_else(|| no_webhook(webhook_id))?;
    Ok(id)
}
