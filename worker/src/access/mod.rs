//! The way to a server that asks who one is: TLS, and a token that goes with each call. The command line's own calls
//! take it, too.
//!
//! - [`settings`] is what is said about it, in the environment;
//! - [`bearer`] is the token, [`channel`] a connection that shows it, and makes calls again that no server took;
//! - [`dial`] makes TLS connections, each with what the files hold at that moment.

pub mod bearer;
pub mod channel;
pub mod dial;
mod lent_body;
pub mod settings;

pub use bearer::Bearer;
pub use channel::AuthorizedChannel;
pub use settings::{AccessError, AccessSettings, PRIVATE_VARIABLES};
