//! Bringing tasks to free slots: who is attached to this server, which tasks they may take, and the loop that claims
//! and offers.

mod dispatcher;
mod registry;
mod routes;

pub use dispatcher::run;
pub use registry::{AttachedWorker, DOWNLINK_CAPACITY, Downlink, Needs, Registry};
pub use routes::{RouteName, Routes};
