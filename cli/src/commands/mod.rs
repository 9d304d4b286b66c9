//! One file per verb. `create` and `steer` hold what several verbs do with a task.

pub mod cancel;
pub mod completions;
pub mod create;
pub mod files;
pub mod get;
pub mod help;
pub mod list;
pub mod logs;
pub mod migrate;
pub mod retry;
pub mod run;
pub mod server;
pub mod sessions;
pub mod steer;
pub mod submit;
pub mod wait;
pub mod watch;
pub mod webhooks;
pub mod worker;
pub mod workers;
