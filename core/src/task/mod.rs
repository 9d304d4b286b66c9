//! The state machine of one session task.

pub mod ended_run;
pub mod event;
pub mod outcome;
pub mod retry;
pub mod spawn;
pub mod start_jitter;
pub mod state;
mod step;
pub mod summary;
pub mod transition;
pub mod wake;

pub use ended_run::ended_run;
pub use event::{Event, Fence, Loss};
pub use outcome::{ErrorKind, Failure, ReportedError, ResultCheck, RunFacts, StopCause, Verdict};
pub use retry::RetryPolicy;
pub use spawn::{NoSpawn, Place, TreeLimits, may_spawn};
pub use start_jitter::jittered;
pub use state::{Cancel, Gate, Lease, Policy, Question, SettledLease, State, Task, TerminalState};
pub use transition::{AttemptEnd, Effect, Order, Rejected, Transition, apply};
pub use wake::{
    GroupEnd, GroupReasons, GroupWake, WakePolicy, WakeReason, group_reasons, wake_reason,
};
