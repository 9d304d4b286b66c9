//! What was touched, told to those who wait for it: within this server at once, between servers by notifications.
//!
//! Everything here is a hint, beside the pages of the session logs, which are read from the store, in order and
//! without a gap. Nobody who tells waits; nobody who listens slows another.
//!
//! Reading order: [`hub`] (who can tell and hear what), [`peers`] (other servers), [`log_reader`] (one reader of the
//! logs for all watchers), [`feed`] (one watcher's place in one log).

pub mod feed;
pub mod hub;
mod log_reader;
pub(crate) mod payload;
mod peers;
mod sessions;
mod taps;

pub use feed::{FeedItem, SessionFeed};
pub use hub::{Events, Touched, Touches, WorkerTouches};
pub use sessions::SessionTouches;
pub use taps::{Appended, OutputTap};
