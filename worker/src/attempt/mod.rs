//! One attempt at a task, from its offer to the acknowledged finish.
//!
//! [`run`] is the list of its steps; [`prepare`] makes the launch, [`inputs`] fetches the task's files, [`start_files`]
//! those that the command is started with, [`supervise`] watches the process, [`live_input`] feeds it meanwhile,
//! [`outcome`] turns its end into facts, [`deliver`] brings the facts to the control plane, with what
//! [`collect`] says of the working directory, in this boot or a later one.

mod collect;
mod deliver;
mod env_file;
mod inputs;
mod live_input;
mod orders;
mod outcome;
mod prepare;
mod run;
mod run_clock;
mod services;
mod start_files;
mod supervise;

pub use deliver::deliver_earlier;
pub use orders::Orders;
pub use run::Attempt;
pub use services::{Services, StorageHealth};
pub use supervise::ENDING_GRACE;
