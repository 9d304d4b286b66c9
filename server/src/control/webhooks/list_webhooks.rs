//! ListWebhooks and DeleteWebhook.

use super::create_webhook::MAX_WEBHOOKS;
use crate::{
    app::App,
    control::{
        namespace,
        refusal::{Refusal, Resource},
    },
    store::webhooks::{self, read_webhook_id},
};
use taskyard_proto::v1::{
    DeleteWebhookRequest, DeleteWebhookResponse, ListWebhooksRequest, ListWebhooksResponse,
};

/// Most webhooks in an answer; those of tasks that have ended go by themselves.
const MAX_LISTED: i64 = 10 * MAX_WEBHOOKS;

/// Lists the webhooks of a namespace, or of one session of it.
///
/// # Errors
/// [`Refusal::NotFound`] for the namespace or the session, [`Refusal::Store`].
pub async fn list_webhooks(
    app: &App,
    request: ListWebhooksRequest,
) -> Result<ListWebhooksResponse, Refusal> {
    let namespace_id = namespace::find_namespace(app, &request.namespace).await?;
    let session = match request.session_id.as_str() {
        "" => None,
        session => Some(namespace::find_session(app, &request.namespace, session).await?),
    };
    Ok(ListWebhooksResponse {
        webhooks: webhooks::list(app.store.pool(), namespace_id, session, MAX_LISTED).await?,
    })
}

/// Removes a webhook.
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Store`].
pub async fn delete_webhook(
    app: &App,
    request: DeleteWebhookRequest,
) -> Result<DeleteWebhookResponse, Refusal> {
    let (namespace_id, id) = find(app, &request.namespace, &request.webhook_id).await?;
    if webhooks::delete(app.store.pool(), namespace_id, id).await? {
        Ok(DeleteWebhookResponse {})
    } else {
        Err(no_webhook(&request.webhook_id))
    }
}

/// The numbers of the namespace and the webhook that are meant; the webhook need not exist.
pub(super) async fn find(
    app: &App,
    namespace: &str,
    webhook_id: &str,
) -> Result<(i32, u128), Refusal> {
    let id = read_webhook_id(webhook_id).ok_or_else(|| {
        Refusal::invalid("webhook_id", "is no webhook's id; ListWebhooks has them")
    })?;
    let namespace_id = namespace::find_namespace(app, namespace).await?;
    Ok((namespace_id, id))
}

pub(super) fn no_webhook(shown: &str) -> Refusal {
    Refusal::NotFound {
        resource: Resource::Webhook,
        name: shown.to_owned(),
    }
}
