//! Why a server does not start, or stops serving, in words for whoever started it.

use crate::{
    config::{LEASE_RANGE, OBJECT_GRACE_RANGE},
    grpc::endpoint::EndpointError,
    identity::{authenticator::AuthError, tls::TlsError},
    key_ring::KeyFileError,
    objects::ObjectError,
    store::StoreError,
};
use std::{io, net::SocketAddr, time::Duration};

/// Why a server does not start, or stops serving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] StoreError),
    /// Another program listens there.
    #[error(
        "{address} is in use by another program; stop that one, or choose another address with --listen"
    )]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The machine does not have the address.
    #[error("no interface of this machine has the address {}; choose another one with --listen", .address.ip())]
    NoSuchAddress {
        /// The address.
        address: SocketAddr,
    },
    /// We may not listen there.
    #[error("listening on {address} is not permitted; choose a port above 1023 with --listen")]
    AddressNotPermitted {
        /// The address.
        address: SocketAddr,
    },
    /// Listening failed for another reason.
    #[error("listening on {address} failed")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The lease is out of range.
    #[error("a lease of {lease:?} makes no sense; it must be {:?} to {:?}", LEASE_RANGE.start(), LEASE_RANGE.end())]
    LeaseOutOfRange {
        /// The lease.
        lease: Duration,
    },
    /// The object store cannot be used.
    #[error("the object store cannot be used; check --object-store and the AWS_ variables")]
    ObjectStore(#[from] ObjectError),
    /// The keys for secrets cannot be used.
    #[error("the keys for secrets cannot be used; check --secret-key-file")]
    SecretKeys(#[from] KeyFileError),
    /// TLS cannot be spoken.
    #[error("TLS cannot be spoken; check --tls-cert, --tls-key and --tls-client-ca")]
    Tls(#[from] TlsError),
    /// Nobody could be known.
    #[error("authentication cannot be set up; check --auth-file and --auth-jwks")]
    Auth(#[from] AuthError),
    /// The age of the audit log is out of range.
    #[error("an audit log of {age:?} makes no sense; it must be 7 days to 10 years")]
    AuditRetentionOutOfRange {
        /// The age.
        age: Duration,
    },
    /// The age of connections is out of range.
    #[error("an age of {age:?} for connections makes no sense; it must be 1 s to 24 h, or none")]
    ConnectionAgeOutOfRange {
        /// The age.
        age: Duration,
    },
    /// The grace for unused objects is out of range.
    #[error(
        "a grace of {grace:?} for unused objects makes no sense; it must be {:?} to {:?}",
        OBJECT_GRACE_RANGE.start(), OBJECT_GRACE_RANGE.end()
    )]
    ObjectGraceOutOfRange {
        /// The grace.
        grace: Duration,
    },
    /// The port could not be served.
    #[error("the port could not be served")]
    Endpoint(#[from] EndpointError),
    /// One of the server's own loops ended before the shutdown.
    #[error(
        "a loop of the server ended by itself, which is a fault in taskyard; the log before this says more"
    )]
    LoopEnded,
}

impl ServeError {
    /// Why listening on an address failed.
    pub(crate) fn listen(address: SocketAddr, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::AddrInUse {
            Self::AddressInUse { address }
        } else if source.kind() == io::ErrorKind::AddrNotAvailable {
            Self::NoSuchAddress { address }
        } else if source.kind() == io::ErrorKind::PermissionDenied {
            Self::AddressNotPermitted { address }
        } else {
            Self::Listen { address, source }
        }
    }
}
