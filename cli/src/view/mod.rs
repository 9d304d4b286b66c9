//! What people and programs get to see: tables and lines for the one, JSON and YAML for the other.

pub mod event_line;
pub mod event_record;
pub mod message;
pub mod moment;
pub mod monitor;
pub mod output_format;
pub mod record;
pub mod table;
pub mod task_detail;
pub mod task_record;
pub mod task_table;
pub mod wake;
pub mod words;
