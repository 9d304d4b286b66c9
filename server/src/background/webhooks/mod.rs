//! Calling webhooks: [`caller`] takes what is due and sends it, [`letter`] is what is sent, [`post`] is the call.

mod caller;
pub(crate) mod letter;
mod post;

pub(super) use caller::run;
