//! One attempt at a task, from its offer to the acknowledged finish.
//!
//! [`run`] is the list of its steps; [`prepare`] makes the launch, of [`inheritance`] as far as it takes the
//! worker's variables, [`isolate`] says what it may reach, [`inputs`] fetches
//! the task's files, [`secrets`] its secrets, [`start_files`] those that the command is started with, [`watch`] and
//! [`supervise`] follow the process, [`live_input`] feeds it meanwhile, [`outcome`] turns its end into facts, [`deliver`]
//! brings the facts to the control plane, with what [`collect`] says of the working directory, in this boot or a later one;
//! [`again`] brings them once more, to a store that was put in the place of the one that had them.
//! [`spans`] tells of it all. [`resume`] goes on with a run that outlived the boot before.

mod again;
mod collect;
mod deliver;
mod env_file;
mod inheritance;
mod inputs;
mod isolate;
mod live_input;
mod orders;
mod outcome;
mod prepare;
mod resume;
mod run;
mod run_clock;
mod search_path;
mod secrets;
mod services;
mod spans;
mod start_files;
mod supervise;
mod surviving;
mod terminal_sizes;
mod watch;

pub use again::deliver_again;
pub use deliver::deliver_earlier;
pub use inheritance::InheritPolicy;
pub use orders::Orders;
pub use resume::{Survivor, next_lease_id};
pub use run::{Attempt, Source};
pub use secrets::SecretPolicy;
pub use services::{Services, StorageHealth};
pub use spans::AttemptSpans;
pub use supervise::ENDING_GRACE;
pub use surviving::SurvivingAttempts;
