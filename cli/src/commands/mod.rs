//! One file per verb. `create`, `submit_batch` and `steer` hold what verbs do with tasks.

pub mod cancel;
pub mod clone;
pub mod completions;
pub mod create;
pub mod files;
pub mod get;
pub mod help;
pub mod hold;
pub mod list;
pub mod logs;
pub mod migrate;
pub mod restart;
pub mod retry;
pub mod run;
pub mod server;
pub mod sessions;
pub mod steer;
pub mod submit;
pub mod submit_batch;
pub mod wait;
pub mod watch;
pub mod worker;
pub mod workers;
