//! What runs inside a task says and asks. Each call names the lease of its attempt, which is compared in the transaction
//! that it writes in; nothing here is numbered, repeats are recognised by keys.

mod ask;
mod caller;
mod confine;
mod get_self;
mod post;
mod publish_artifact;
mod receive_messages;
mod report_progress;
mod run_report;

pub use ask::ask;
pub use caller::Caller;
pub use confine::{Confined, Scope};
pub use get_self::get_self;
pub use post::post;
pub use publish_artifact::publish_artifact;
pub use receive_messages::receive_messages;
pub use report_progress::report_progress;
pub(crate) use run_report::MAX_USAGE;
pub use run_report::{report_usage, set_result};
