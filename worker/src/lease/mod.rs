//! The words that link, runtime and attempts share: what a worker may run, and what it says about it.

mod assignment;
mod finish;
mod held;
mod id;
mod secret;
mod signal_order;
mod terminal;

pub use assignment::{CollectRule, CommandWork, InputFile, Offer, ResultSource, Work};
pub use finish::{
    CaptureFacts, CollectedFile, Collection, ErrorFacts, ErrorKind, ExitFacts, Finish, SkippedFile,
    StartFault, StopCause, StreamFacts, StructuredOutput,
};
pub use held::HeldLeases;
pub use id::{Lease, LeaseId, MalformedLease};
pub use secret::{Secret, SecretSource};
pub use signal_order::SignalOrder;
pub use terminal::{TerminalRequest, TerminalSize};
