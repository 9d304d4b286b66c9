//! The control plane: one server of a deployment, which may have many on one database.
//!
//! A call enters through [`grpc`], where [`identity`] says who calls and [`audit`] notes it, is decided in [`control`], and changes a task through [`commit`] only; [`dispatch`]
//! brings tasks to workers, [`output`] stores what they print, [`objects`] keeps large files, [`events`] tells who waits, [`background`] recovers what
//! was lost, and [`store`] is the only folder that speaks SQL. [`Server`] joins them.

pub mod app;
pub mod audit;
pub mod background;
pub mod commit;
mod config;
pub mod control;
pub mod dispatch;
mod error_chain;
pub mod events;
pub mod grpc;
pub mod identity;
pub mod key_ring;
pub mod limits;
pub mod objects;
pub mod output;
mod probe;
#[cfg(test)]
mod recorded;
mod serve_error;
mod server;
pub mod store;

pub use config::{
    AuthSettings, CallLimits, ClientAuth, ConnectionLimits, DEFAULT_AUDIT_RETENTION,
    DEFAULT_CONNECTION_AGE, FileQuota, FileQuotas, ObjectLocation, Rate, ServerConfig,
    ServerLimits, TaskLimits, TlsSettings,
};
pub use probe::ServerProbe;
pub use serve_error::ServeError;
pub use server::{Server, migrate};
pub use store::migrate::MigrateReport;
pub use taskyard_core::task::TreeLimits;
