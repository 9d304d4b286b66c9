//! Webhooks, from their owner's side: [`target`] says which URLs can be called, the rest is a file for each verb. They
//! are called by a duty of [`background`](crate::background).

mod create_webhook;
mod deliveries;
mod list_webhooks;
pub mod target;

pub use create_webhook::create_webhook;
pub use deliveries::{list_deliveries, redeliver};
pub use list_webhooks::{delete_webhook, list_webhooks};
