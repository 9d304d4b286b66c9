//! What the control plane can be asked to do, one file for each verb. Nothing here speaks gRPC or SQL: requests come
//! and answers go as the wire's messages, refusals as [`refusal::Refusal`].

pub mod files;
pub mod lease_ref;
pub mod namespace;
pub mod page_token;
pub mod refusal;
pub mod result_json;
pub mod worker_files;
pub mod list_workers;
pub mod list_sessions;
pub mod cursor;
pub mod get_task;
pub mod list_tasks;
pub mod outage;
pub mod outbox;
pub mod output_course;
pub mod read_output;
pub mod resolve;
pub mod tail_output;
pub mod wait_tasks;
pub mod watch;
pub mod watch_session;
pub mod wire_time;
pub mod attach;
pub mod cancel_task;
pub mod create_task;
mod commit_refusal;
pub mod definition;
pub mod heartbeat;
pub mod push_output;
pub mod report;
pub mod retry_task;
pub mod task_sessions;
pub mod update_task;
pub mod lease_spec;
