//! One file per verb. `create` and `steer` hold what several verbs do with a task, `command_options` what
//! they say of a command, `parts` of a message; [`inside`] has the verbs of `taskyard self`.
//! One file per verb. `create`, `submit_batch` and `steer` hold what verbs do with tasks.

pub mod answer;
pub mod audit;
pub mod cancel;
pub mod clone;
pub mod command_options;
pub mod completions;
pub mod create;
pub mod files;
pub mod files_grep;
pub mod get;
pub mod help;
pub mod hold;
pub mod input;
pub mod inside;
pub mod list;
pub mod logs;
pub mod message;
pub mod messages;
pub mod migrate;
pub mod monitor;
pub mod parts;
pub mod queues;
pub mod restart;
pub mod retention;
pub mod retry;
pub mod run;
pub mod server;
pub mod server_identity;
pub mod sessions;
pub mod signal;
pub mod start_options;
pub mod steer;
pub mod stream_options;
pub mod submit;
pub mod submit_batch;
pub mod task_options;
pub mod token;
pub mod update;
pub mod wait;
pub mod wakes;
pub mod watch;
pub mod webhooks;
pub mod worker;
pub mod workers;
