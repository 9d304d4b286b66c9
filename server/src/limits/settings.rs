//! The numbers.

use super::token_bucket::Rate;
use std::num::NonZeroU32;

/// What one caller may take of one server; none: as much as there is.
///
/// A caller is a credential, by its name; where nobody has to say who they are, an address; and all that runs inside the
/// tasks of one session is another one, apart from the worker that passes its calls on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// How often it may call.
    pub rate: Option<Rate>,
    /// Calls with one answer that may be under way at once, those included whose answer was not read yet.
    pub calls: Option<usize>,
    /// Streams and waits that may be open at once.
    pub streams: Option<usize>,
    /// How many of these may watch, follow or wait for something.
    pub watchers: Option<usize>,
}

/// How many connections there may be; none: any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// To one server.
    pub server: Option<usize>,
    /// To one server from one address.
    pub address: Option<usize>,
}

/// How many tasks there may be that have not ended, and how many sessions; none: any number. Servers of one database
/// should agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLimits {
    /// Live tasks of one session.
    pub session: Option<u64>,
    /// Live tasks of all sessions of one namespace.
    pub namespace: Option<u64>,
    /// Sessions of one namespace.
    pub sessions: Option<u64>,
}

impl CallLimits {
    /// Where nobody says otherwise: room for a thousand agents with one token, each with ten calls a second, a watch, a
    /// followed output and two waits. A server answers some 70,000 plain calls a second on two cores. The calls under
    /// way are half of what one committer's queue holds, so nobody fills it alone.
    pub const DEFAULT: Self = Self {
        rate: Some(Rate {
            per_second: NonZeroU32::new(10_000).expect("not zero"),
            burst: NonZeroU32::new(20_000).expect("not zero"),
        }),
        calls: Some(4_096),
        streams: Some(8_192),
        watchers: Some(4_096),
    };
}

impl ConnectionLimits {
    /// Where nobody says otherwise. One address has less than half, so it leaves room for others.
    pub const DEFAULT: Self = Self {
        server: Some(10_000),
        address: Some(4_096),
    };
}

impl TaskLimits {
    /// Where nobody says otherwise: as many of a session as is tried that they slow nobody, and no limit of a namespace.
    pub const DEFAULT: Self = Self {
        session: Some(100_000),
        namespace: None,
        sessions: None,
    };
}
