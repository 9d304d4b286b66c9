//! The thread between a task and its owner, from the owner's side. What the work sees of it is in
//! [`agent`](super::agent).

mod answer_task;
mod list_messages;
mod parts;
mod post_message;

pub use answer_task::answer_task;
pub(crate) use answer_task::find_answer;
pub use list_messages::{MessageWait, list_messages, wait_for_messages};
pub(crate) use list_messages::{check_after, next_after, page_size};
pub use parts::{check_files, check_parts, check_request_id, find_schema_violation};
pub(crate) use post_message::post_refused;
pub use post_message::{check_reply, is_repeated, post_message};
