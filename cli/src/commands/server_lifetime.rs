//! The flags of `server` that say how long a connection lasts, and how the server leaves.

use std::time::Duration;

use clap::Args;
use taskyard_server::DEFAULT_CONNECTION_AGE;

use crate::quantity::{parse_connection_age, parse_shutdown_delay};

/// How connections and the server itself come to their end. They have no room in the help, which names them.
#[derive(Debug, Clone, Args)]
pub struct LifetimeArguments {
    /// How old a connection becomes on average, 1s to 24h, or off; then its client opens another one [default: 30m]
    #[arg(
        long,
        value_name = "DURATION|off",
        env = "TASKYARD_MAX_CONNECTION_AGE",
        value_parser = parse_connection_age,
        hide = true
    )]
    pub max_connection_age: Option<ConnectionAge>,
    /// How long to serve on after SIGTERM, as not ready, until balancers have noticed, at most 10m [default: 0s]
    #[arg(
        long,
        value_name = "DURATION",
        env = "TASKYARD_SHUTDOWN_DELAY",
        value_parser = parse_shutdown_delay,
        hide = true
    )]
    pub shutdown_delay: Option<Duration>,
}

/// How old a connection becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionAge {
    /// As old as its client pleases.
    Any,
    /// So old, on average.
    About(Duration),
}

impl LifetimeArguments {
    /// How old connections become, if there is an end to it.
    pub fn connection_age(&self) -> Option<Duration> {
        match self.max_connection_age {
            None => Some(DEFAULT_CONNECTION_AGE),
            Some(ConnectionAge::Any) => None,
            Some(ConnectionAge::About(age)) => Some(age),
        }
    }
}
