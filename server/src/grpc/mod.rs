//! The services. They translate between calls and `control`, and decide nothing.

mod admin_service;
mod attach_note;
mod authentication;
mod bad_message;
mod call_telemetry;
mod connection;
mod deadline;
mod ending_body;
pub mod endpoint;
mod external_scaler;
mod inside;
mod panic_guard;
mod prompt_body;
mod session_file_service;
mod session_task_service;
mod status;
mod task_agent_service;
mod webhook_service;
mod worker_link;
mod worker_service;
