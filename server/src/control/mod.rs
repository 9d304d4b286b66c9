//! What the control plane can be asked to do, one file for each verb. Nothing here speaks gRPC or SQL: requests come
//! and answers go as the wire's messages, refusals as [`refusal::Refusal`].

pub mod acquire_leases;
pub mod attach;
pub mod cancel_task;
mod commit_refusal;
pub mod create_task;
pub mod cursor;
pub mod definition;
pub mod files;
pub mod get_task;
pub mod heartbeat;
pub mod lease_ref;
pub mod lease_spec;
pub mod list_sessions;
pub mod list_tasks;
pub mod list_workers;
pub mod namespace;
pub mod outage;
pub mod outbox;
pub mod output_course;
pub mod page_token;
pub mod push_output;
pub mod read_output;
pub mod refusal;
pub mod report;
pub mod resolve;
pub mod result_json;
pub mod retry_task;
pub mod tail_output;
pub mod task_search;
pub mod task_sessions;
pub mod update_task;
pub mod wait_tasks;
pub mod watch;
pub mod watch_session;
pub mod wire_time;
pub mod worker_files;
