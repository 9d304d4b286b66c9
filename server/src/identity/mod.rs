//! Who calls, and what they may do. Read [`role`] and [`reach`] for the words, [`rules`] for the one table that says
//! what each method needs, [`decide`] for the decision, and [`authenticator`] for how a credential becomes an
//! [`Identity`]. The layer in `grpc::authentication` asks both; `control::reach` holds requests against the reach.

pub mod auth_file;
pub mod authenticator;
pub mod certificate;
pub mod decide;
pub mod fetch;
pub mod jwks;
pub mod jwt;
pub mod key_misses;
pub mod principal;
pub mod reach;
pub mod role;
pub mod rules;
pub mod settings;
pub mod tls;
pub mod watched_files;

pub use authenticator::Authenticator;
pub use principal::{CredentialKind, Identity};
pub use reach::Reach;
pub use role::{Right, Role};
pub use settings::{AuthSettings, ClientAuth, TlsSettings};
