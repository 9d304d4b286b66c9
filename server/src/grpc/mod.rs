//! The services. They translate between calls and `control`, and decide nothing.

mod admin_service;
mod attach_note;
mod authentication;
mod bad_message;
mod call_limits;
mod call_telemetry;
mod connection;
mod connection_age;
mod deadline;
mod ending_body;
pub mod endpoint;
mod external_scaler;
mod inside;
mod panic_guard;
mod parting_body;
mod prompt_body;
mod serving;
mod session_file_service;
mod session_task_service;
mod status;
mod task_agent_service;
mod webhook_service;
mod worker_link;
mod worker_service;
