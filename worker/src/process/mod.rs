//! The worker's side of one running task: what to launch, what happens to it, and how it is told to end.
//!
//! A [`Process`] is a control socket to one exec shim ([`crate::shim`]). Dropping it closes the socket, which the shim
//! answers by killing the whole tree. The one exception is a process that was launched to survive ([`Survival`]): its
//! shim goes on until the deadline, and the worker's next boot takes it over ([`Process::attach`]).

mod attach;
mod errno_name;
mod error;
mod event;
mod handle;
mod identity;
mod keeping;
mod launch;
mod leftovers;
mod lost;
mod rlimit;
mod shebang;
mod shim_handle;
mod signal;

pub use crate::lease::StopCause;
pub use crate::lease::TerminalSize;
pub use attach::{Adopted, AttachError};
pub use errno_name::errno_name;
pub use error::{CommandError, ProcessError, StartError};
pub use event::{Capture, ExitStatus, ProcessEnd, ProcessEvent, SpoolFailure, StreamEnd};
pub use handle::{INPUT_BYTES_MAX, Process};
pub use identity::{Account, Identity, IdentityError, resolve_identity};
pub use keeping::{Kept, LastWords, Survival};
pub use launch::{LAUNCH_BYTES_MAX, Launch, SpoolSpec, Stdin};
pub use leftovers::{Leftovers, kill_leftovers};
pub use rlimit::{LimitedResource, Rlimit};
pub use signal::{Signal, UnknownSignal, signal_name};
