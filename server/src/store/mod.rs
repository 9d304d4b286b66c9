//! The only folder that speaks SQL. One function a statement (or a few that belong to one question), lower-case SQL,
//! checked when it is compiled. It decides nothing: rules live in `taskyard_core`.

pub mod audit;
pub mod backlog;
pub mod batch;
pub mod claim;
mod conflict;
mod connect;
pub mod creates;
pub mod due;
mod error;
pub mod file_objects;
pub mod file_usage;
pub mod file_writes;
pub mod files;
pub mod identity;
pub mod listen;
pub mod log_read;
pub mod messages;
pub mod migrate;
pub mod monitors;
pub mod new_tasks;
pub mod output_append;
pub mod output_read;
pub mod purge;
pub mod questions;
pub mod queue_counts;
pub mod records;
pub mod resolve;
pub mod retention;
pub mod run_reports;
mod schema_fit;
pub mod secrets;
pub mod sessions;
pub mod standing_counts;
pub mod standings;
pub mod task_files;
pub mod task_input;
pub mod task_listing;
pub mod task_lock;
pub mod task_row;
pub mod task_signals;
pub mod task_terminal;
pub mod task_update;
pub mod times;
pub mod trees;
pub mod usage;
pub mod wakes;
pub mod webhook_deliveries;
pub mod webhook_secret;
pub mod webhooks;
pub mod workers;
pub mod workers_read;

pub use connect::Store;
pub use error::StoreError;
/// A connection of one's own; control and commit pass it on without knowing what it is.
pub use sqlx::PgConnection as Connection;
