//! CreateWebhook.

use super::target::Target;
use crate::{
    app::App,
    control::{
        get_task, namespace,
        refusal::{Refusal, Resource},
        resolve,
    },
    store::{
        webhook_secret::WebhookSecret,
        webhooks::{self, NewWebhook},
    },
};
use taskyard_core::{
    id::{SessionUid, TaskId},
    webhook::WebhookEvent,
};
use taskyard_proto::v1::{self as wire, CreateWebhookRequest, CreateWebhookResponse};
use uuid::Uuid;

/// Most webhooks of a namespace that can still be called.
pub(super) const MAX_WEBHOOKS: i64 = 100;
const MIN_SECRET: usize = 8;
const MAX_SECRET: usize = 256;

/// Makes a webhook.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::LimitReached`], [`Refusal::TaskTerminal`], or what resolving and storing say.
pub async fn create_webhook(
    app: &App,
    request: CreateWebhookRequest,
) -> Result<CreateWebhookResponse, Refusal> {
    let target = Target::parse(&request.url).map_err(|problem| Refusal::invalid("url", problem))?;
    if !app.allow_private_webhooks && target.is_private() {
        return Err(Refusal::invalid(
            "url",
            "leads to a host that is not of the public internet; servers deliver to those only with \
             --allow-private-webhooks",
        ));
    }
    let secret = check_secret(request.secret)?;
    let events = read_events(&request.events)?;
    let (namespace_id, session, task) =
        scope(app, &request.namespace, &request.session_id, &request.task).await?;
    let webhook = NewWebhook {
        id: Uuid::now_v7().as_u128(),
        namespace_id,
        session,
        task,
        url: request.url,
        secret,
        events,
    };
    let stored = webhooks::create(&app.store, &webhook, MAX_WEBHOOKS).await?;
    let webhook = stored.ok_or(Refusal::LimitReached {
        what: "webhooks of a namespace",
        limit: MAX_WEBHOOKS.cast_unsigned(),
    })?;
    Ok(CreateWebhookResponse {
        webhook: Some(webhook),
    })
}

/// Whose changes are meant.
async fn scope(
    app: &App,
    namespace: &str,
    session_id: &str,
    task: &str,
) -> Result<(i32, Option<SessionUid>, Option<TaskId>), Refusal> {
    if !task.is_empty() {
        let found = resolve::resolve(app, namespace, session_id, task).await?;
        let namespace_id = namespace::find_namespace(app, namespace).await?;
        let record = get_task::read_task(app, found.id).await?;
        if record.task.namespace != namespace::valid_namespace(namespace)? {
            return Err(Refusal::NotFound {
                resource: Resource::Task,
                name: task.to_owned(),
            });
        }
        if record.run_end.is_some() {
            return Err(Refusal::TaskTerminal);
        }
        return Ok((namespace_id, Some(found.session), Some(found.id)));
    }
    if session_id.is_empty() {
        let namespace_id = namespace::ensure_namespace(app, namespace).await?;
        return Ok((namespace_id, None, None));
    }
    let (namespace_id, session) = namespace::ensure_session(app, namespace, session_id).await?;
    Ok((namespace_id, Some(session), None))
}

fn check_secret(secret: String) -> Result<Option<WebhookSecret>, Refusal> {
    match secret.len() {
        0 => Ok(None),
        // what Postgres cannot store as text
        MIN_SECRET..=MAX_SECRET if !secret.contains('\0') => Ok(Some(WebhookSecret::new(secret))),
        _ => Err(Refusal::invalid(
            "secret",
            format!("must have {MIN_SECRET} to {MAX_SECRET} bytes, none of them zero"),
        )),
    }
}

fn read_events(asked: &[i32]) -> Result<i16, Refusal> {
    if asked.is_empty() {
        return Ok(WebhookEvent::Terminal.bit());
    }
    let mut bits = 0;
    for event in asked {
        bits |= match wire::WebhookEvent::try_from(*event) {
            Ok(wire::WebhookEvent::Terminal) => WebhookEvent::Terminal.bit(),
            Ok(wire::WebhookEvent::Question) => WebhookEvent::Question.bit(),
            Ok(wire::WebhookEvent::Message) => WebhookEvent::Message.bit(),
            Ok(wire::WebhookEvent::Unspecified) | Err(_) => {
                return Err(Refusal::invalid(
                    "events",
                    "must be terminal, question or message",
                ));
            }
        };
    }
    Ok(bits)
}
